//! Getting in: asking the seeds, forming a cluster, and finding lost parts of it later.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::record::{Record, Stage};
use super::returning::Returning;
use super::{
    ContactFailure, Effect, Event, JoinAnswer, JoinError, Membership, Message, Outbox, Phase, SeedFailure, Task,
};
use crate::{Address, MemberStatus, Timestamp};

/// An attempt to join.
///
/// Who may form a cluster is decided by the list of seeds, which is the same on all nodes. The first seed forms one as
/// soon as all others have answered that they have none; each further seed waits `form_after` for every seed before it,
/// so that of several only one does it; a node that is not listed never does. Seeds that cannot reach each other may
/// form islands, which merge once they can: see [`Contacts`].
#[derive(Debug, Default)]
pub(super) struct Joining {
    /// Without this node.
    seeds: Vec<Seed>,
    /// How many seeds are listed before this node, if it is listed.
    place: Option<u32>,
    /// Before the next round.
    pause: Duration,
    /// Whether a member has proven that it reaches this node.
    pub(super) reached: bool,
    /// What is known by one that was cut off; it forms a cluster by what others answer, never by their silence.
    returning: Option<Returning>,
}

#[derive(Debug)]
struct Seed {
    address: Address,
    accepted: bool,
    failure: SeedFailure,
}

impl Joining {
    fn new(own: &Address, listed: Vec<Address>, pause: Duration) -> Self {
        let place = listed.iter().position(|address| address == own);
        let place = if listed.is_empty() { Some(0) } else { place };
        let mut joining = Self {
            seeds: Vec::new(),
            place: place.map(|place| u32::try_from(place).unwrap_or(u32::MAX)),
            pause,
            reached: false,
            returning: None,
        };
        for address in listed {
            if address != *own {
                joining.add(address);
            }
        }
        joining
    }

    fn add(&mut self, address: Address) -> bool {
        let new = self.seeds.iter().all(|seed| seed.address != address) && self.seeds.len() < Contacts::LIMIT;
        if new {
            self.seeds.push(Seed { address, accepted: false, failure: SeedFailure::Silent });
        }
        new
    }

    fn note(&mut self, address: &Address, answer: Result<(), SeedFailure>) {
        if let Some(seed) = self.seeds.iter_mut().find(|seed| seed.address == *address) {
            seed.accepted = answer.is_ok();
            if let Err(failure) = answer {
                seed.failure = failure;
            }
        }
    }

    fn is_accepted(&self) -> bool {
        self.seeds.iter().any(|seed| seed.accepted)
    }

    /// Whether no other seed can be the one to form the cluster.
    fn is_first_and_alone(&self) -> bool {
        let may_have_one = |seed: &Seed| matches!(seed.failure, SeedFailure::Silent | SeedFailure::Undecided);
        let has_none = |seed: &Seed| !seed.accepted && !may_have_one(seed);
        self.place == Some(0) && self.seeds.iter().all(has_none)
    }

    fn failures(&self) -> Vec<(Address, SeedFailure)> {
        self.seeds.iter().map(|seed| (seed.address.clone(), seed.failure.clone())).collect()
    }
}

/// Addresses where members of this cluster may be found. Those of which the table knows nothing are asked from time to
/// time, so that islands and the halves of a partition become one cluster. Of those whose members died a few are asked
/// each time: a new process there asks by itself only if it knows whom to ask.
///
/// Bounded: beyond the limit those are dropped of which the provider has not spoken for the longest time.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    /// Whom to ask and not before when; who was added or found again last comes last.
    places: VecDeque<(Address, Timestamp)>,
}

impl Contacts {
    const LIMIT: usize = 256;
    /// Addresses of dead members that are asked at once.
    const MOST_DEAD: usize = 3;

    fn add(&mut self, address: Address) {
        let known = self.remove(&address);
        if self.places.len() >= Self::LIMIT {
            self.places.pop_front();
        }
        self.places.push_back((address, known.unwrap_or_default()));
    }

    fn remove(&mut self, address: &Address) -> Option<Timestamp> {
        let place = self.places.iter().position(|(known, _)| known == address)?;
        self.places.remove(place).map(|(_, not_before)| not_before)
    }

    fn ask_not_before(&mut self, address: &Address, at: Timestamp) {
        if let Some((_, not_before)) = self.places.iter_mut().find(|(known, _)| known == address) {
            *not_before = at;
        }
    }

    /// Whether a node there does not want to be asked yet.
    fn is_to_wait(&self, address: &Address, now: Timestamp) -> bool {
        self.places.iter().any(|(known, not_before)| known == address && *not_before > now)
    }

    fn due(&self, now: Timestamp) -> impl Iterator<Item = &Address> {
        self.places.iter().filter(move |(_, not_before)| *not_before <= now).map(|(address, _)| address)
    }
}

impl Membership {
    pub(super) fn start(&mut self, now: Timestamp, seeds: Vec<Address>, out: &mut Outbox) {
        self.phase = Phase::Joining;
        let own = self.me().member().address.clone();
        self.joining = Joining::new(&own, seeds, self.config.join_retry_min);
        for seed in &self.joining.seeds {
            self.contacts.add(seed.address.clone());
        }
        self.tell(now, self.me().id(), None, MemberStatus::Joining, out);
        if self.joining.is_first_and_alone() {
            return self.come_up(now, out);
        }
        if let Some(place) = self.joining.place {
            self.agenda.schedule(Task::Form, now + self.config.form_after.saturating_mul(place.max(1)));
        }
        self.agenda.schedule(Task::JoinDeadline, now + self.config.join_timeout);
        self.retry_join(now, out);
    }

    pub(super) fn come_back(&mut self, now: Timestamp, through: Vec<Address>, returning: Returning, out: &mut Outbox) {
        self.phase = Phase::Joining;
        let own = self.me().member().address.clone();
        self.joining = Joining::new(&own, through, self.config.join_retry_min);
        self.joining.place = None;
        self.joining.returning = Some(returning);
        for seed in &self.joining.seeds {
            self.contacts.add(seed.address.clone());
        }
        self.tell(now, self.me().id(), None, MemberStatus::Joining, out);
        self.agenda.schedule(Task::JoinDeadline, now + self.config.join_timeout);
        self.retry_join(now, out);
    }

    /// The answer of a node that is in no cluster, to one who asks to be let in.
    pub(super) fn not_ready(&self) -> JoinAnswer {
        let returning = self.joining.returning.as_ref();
        returning.map_or(JoinAnswer::NotReady, Returning::answer)
    }

    pub(super) fn discovered(&mut self, now: Timestamp, addresses: Vec<Address>, out: &mut Outbox) {
        let own = self.me().member().address.clone();
        for address in addresses.into_iter().filter(|address| *address != own) {
            let new = self.phase == Phase::Joining && self.joining.add(address.clone());
            self.contacts.add(address.clone());
            if new {
                self.ask(address, out);
            }
        }
        if self.phase == Phase::Up {
            self.contact(now, out);
        }
    }

    pub(super) fn join_answered(&mut self, now: Timestamp, address: &Address, answer: JoinAnswer, out: &mut Outbox) {
        let failure = match answer {
            JoinAnswer::Accepted { records } => return self.accepted(now, address, &records, out),
            JoinAnswer::Blocked { reason, retry_after } => {
                // As long as anybody remembers a dead member; what a peer says beyond that is not obeyed.
                let longest = self.config.quarantine_ttl + self.config.tombstone_ttl + self.config.lapse_ttl();
                let until = now + retry_after.min(longest) + self.config.contact_interval;
                self.contacts.ask_not_before(address, until);
                if self.joining.returning.is_some() {
                    return self.not_accepted(now, address, SeedFailure::Refused(reason), out);
                }
                let address = address.clone();
                return self.fail_join(JoinError::Blocked { address, reason, retry_after }, out);
            }
            JoinAnswer::Returning { was, settled } => {
                if let Some(returning) = &mut self.joining.returning {
                    returning.note(now, address, was, settled);
                }
                SeedFailure::NotReady
            }
            JoinAnswer::NotReady => SeedFailure::NotReady,
            JoinAnswer::Undecided => SeedFailure::Undecided,
            JoinAnswer::ShuttingDown => SeedFailure::ShuttingDown,
        };
        self.not_accepted(now, address, failure, out);
    }

    pub(super) fn join_failed(&mut self, now: Timestamp, address: &Address, failure: ContactFailure, out: &mut Outbox) {
        match failure {
            ContactFailure::Unreachable(why) => {
                self.not_accepted(now, address, SeedFailure::Unreachable(why), out);
            }
            ContactFailure::Refused(reason) => {
                self.contacts.remove(address);
                // It asks wherever members were: somebody else may be there by now.
                if self.joining.returning.is_some() {
                    return self.not_accepted(now, address, SeedFailure::Refused(reason), out);
                }
                self.fail_join(JoinError::Refused { address: address.clone(), reason }, out);
            }
        }
    }

    pub(super) fn join_if_ready(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.phase == Phase::Joining && self.joining.reached && self.joining.is_accepted() {
            self.come_up(now, out);
        }
    }

    pub(super) fn retry_join(&mut self, now: Timestamp, out: &mut Outbox) {
        for seed in &self.joining.seeds {
            self.ask(seed.address.clone(), out);
        }
        let pause = self.joining.pause;
        let jittered = self.rng.random_range(pause / 2..=pause);
        self.agenda.schedule(Task::JoinRetry, now + jittered);
        self.joining.pause = (pause * 2).min(self.config.join_retry_max);
    }

    pub(super) fn form_due(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.joining.is_accepted() {
            self.agenda.schedule(Task::Form, now + self.config.form_after);
        } else {
            self.come_up(now, out);
        }
    }

    pub(super) fn join_deadline(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.joining.is_accepted() {
            self.fail_join(JoinError::NotReached, out);
        } else if self.joining.place.is_some() {
            // It will form a cluster instead of giving up.
            self.agenda.schedule(Task::JoinDeadline, now + self.config.join_timeout);
        } else {
            self.fail_join(JoinError::NoSeedAnswered { failures: self.joining.failures() }, out);
        }
    }

    pub(super) fn contact_due(&mut self, now: Timestamp, out: &mut Outbox) {
        self.agenda.schedule(Task::Contact, now + self.config.contact_interval);
        self.contact(now, out);
        self.contact_some_dead(now, out);
    }

    pub(super) fn abandon_join(&mut self) {
        for task in [Task::JoinRetry, Task::JoinDeadline, Task::Form] {
            self.agenda.cancel(task);
        }
        self.joining = Joining::default();
    }

    fn accepted(&mut self, now: Timestamp, address: &Address, records: &[Arc<Record>], out: &mut Outbox) {
        self.table.reserve(records.len());
        for record in records {
            if record.stage() == Stage::Leaving && !record.is_terminal() && self.table.get(record.id()).is_none() {
                // A member first: that it goes is for itself to say.
                let there = Record::new(record.member().clone(), record.incarnation(), Stage::Up);
                self.learn(now, None, &Arc::new(there), out);
            }
            if let Some(believed) = self.believed(now, None, record, out) {
                self.learn(now, None, &believed, out);
            }
            if self.phase == Phase::Stopped {
                return;
            }
        }
        self.joining.note(address, Ok(()));
        self.join_if_ready(now, out);
    }

    fn not_accepted(&mut self, now: Timestamp, address: &Address, failure: SeedFailure, out: &mut Outbox) {
        self.joining.note(address, Err(failure));
        // Two rounds of questions.
        let fresh = self.config.join_retry_max.saturating_mul(2).min(self.config.join_timeout / 2);
        let returning = self.joining.returning.as_ref().filter(|_| !self.joining.is_accepted());
        let anew = returning.is_some_and(|returning| returning.may_form(now, fresh));
        if self.phase == Phase::Joining && (anew || self.joining.is_first_and_alone()) {
            self.come_up(now, out);
        }
    }

    /// Only a node that has not joined yet fails by an answer; for one that is up it was one contact of many.
    pub(super) fn fail_join(&mut self, error: JoinError, out: &mut Outbox) {
        if self.phase == Phase::Joining {
            self.stop();
            out.event(Event::JoinFailed(error));
        }
    }

    fn come_up(&mut self, now: Timestamp, out: &mut Outbox) {
        self.abandon_join();
        self.phase = Phase::Up;
        self.last_heard = now;
        self.advance(now, Stage::Up, out);
        self.greet(out);
        self.agenda.schedule(Task::Probe, now + self.config.probe_interval);
        self.agenda.schedule(Task::Contact, now + self.config.contact_interval);
        out.event(Event::Joined);
    }

    /// Tells some members at once that this node is there. It is believed from itself and from any two others, so that
    /// so many, in proportion to the root, make it known to all as soon as a rumour that is believed from anybody.
    fn greet(&mut self, out: &mut Outbox) {
        let greeted = self.random_members(4 * self.table.size().isqrt(), |_| true);
        for to in greeted {
            let message = Message::Gossip { updates: vec![Arc::clone(self.table.own())], digest: self.told_digest() };
            self.send(to, message, out);
        }
    }

    fn contact(&self, now: Timestamp, out: &mut Outbox) {
        let mut due: BTreeSet<_> = self.contacts.due(now).collect();
        for known in self.table.addresses() {
            due.remove(known);
        }
        for address in due {
            self.ask(address.clone(), out);
        }
    }

    /// Somebody else may live there by now who does not know this node's address.
    fn contact_some_dead(&mut self, now: Timestamp, out: &mut Outbox) {
        let living: BTreeSet<_> = self.table.living().map(|record| &record.member().address).collect();
        let died = self.table.others().filter(|record| record.is_terminal() && record.stage() == Stage::Up);
        let mut died: Vec<_> = died.map(|record| record.member().address.clone()).collect();
        died.retain(|address| !living.contains(address) && !self.contacts.is_to_wait(address, now));
        died.sort_unstable();
        died.dedup();
        let (died, _) = died.partial_shuffle(&mut self.rng, Contacts::MOST_DEAD);
        for address in &*died {
            self.ask(address.clone(), out);
        }
    }

    fn ask(&self, address: Address, out: &mut Outbox) {
        out.effect(Effect::Join { address, joiner: self.me().clone() });
    }
}
