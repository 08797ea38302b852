//! Judging others: probes, suspicion, death, and the way to being forgotten.

use alloc::sync::Arc;
use alloc::vec::Vec;

use gristmill_messages::{Incarnation, MemberId};
use rand::RngExt;

use super::failure_detector::{FailureDetector, Probe, Relay};
use super::knowledge::Source;
use super::record::{Record, Verdict};
use super::suspicion::Suspicion;
use super::{
    Effect, Event, Evidence, Membership, Message, Outbox, Phase, PingOutcome, ProbeSequence, QuarantineReason, Refusal,
    TableDigest, Task,
};
use crate::{MemberStatus, Timestamp};

/// At one probe in so many a dead member is told that it is.
const TELL_THE_DEAD_ONE_IN: u32 = 10;

/// So many suspects are told at once that they are, by a node that hears again; the others by its probes.
const TOLD_AT_ONCE: usize = 32;

impl Membership {
    pub(super) fn probe(&mut self, now: Timestamp, out: &mut Outbox) {
        self.agenda.schedule(Task::Probe, now + self.health.scale(self.config.probe_interval));
        self.review_evictions(now, out);
        self.listen(now, out);
        self.ask_newcomers(now, out);
        if self.table.dead_count() > 0 && self.rng.random_ratio(1, TELL_THE_DEAD_ONE_IN) {
            self.tell_a_dead_one(out);
        }
        let table = &self.table;
        let living = |record: &Arc<Record>| Some(record.id()).filter(|_| !record.is_terminal());
        let since = now.since_origin().saturating_sub(self.config.probe_interval * FailureDetector::HEARD_COUNTS_FOR);
        let next = self.detector.next(
            &mut self.rng,
            table.places(),
            Timestamp::new(since),
            |member| table.get(member).and_then(living).is_some(),
            |place| table.at(place).and_then(living),
        );
        if let Some(member) = next {
            self.start_probe(now, member, out);
        }
    }

    /// Probes a member now, unless it is being probed.
    pub(super) fn probe_now(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        if !self.detector.is_probing(member) {
            self.start_probe(now, member, out);
        }
    }

    fn start_probe(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        let sequence = self.begin_probe(now, member);
        self.stats.probes += 1;
        self.agenda.schedule(Task::ProbeTimeout(sequence), now + self.health.scale(self.config.probe_timeout));
        self.ping(member, sequence, out);
    }

    pub(super) fn begin_probe(&mut self, now: Timestamp, member: MemberId) -> ProbeSequence {
        self.detector.start(now, member, self.version(member))
    }

    fn version(&self, member: MemberId) -> Incarnation {
        self.table.get(member).map_or(Incarnation::default(), |record| record.incarnation())
    }

    /// The member has not answered: perhaps it answers others.
    pub(super) fn probe_timed_out(&mut self, now: Timestamp, sequence: ProbeSequence, out: &mut Outbox) {
        let Some(Probe { member, started, .. }) = self.detector.probe(sequence).cloned() else { return };
        self.stats.unanswered += 1;
        if self.is_well_accused(member) {
            // Nothing that others find would change what is held of it, and they probe it, too.
            self.detector.ended(sequence);
            if let Some(suspicion) = self.suspicions.get_mut(&member) {
                suspicion.answers = false;
            }
            return;
        }
        self.ask_others(sequence, member, false, out);
        if self.detector.probe(sequence).is_some_and(|probe| probe.indirect) {
            let end = started + self.health.scale(self.config.probe_interval);
            self.agenda.schedule(Task::ProbeEnd(sequence), end.max(now + self.config.probe_timeout));
        } else {
            self.probe_failed(now, sequence, out);
        }
    }

    /// Nobody has reached the member.
    pub(super) fn probe_failed(&mut self, now: Timestamp, sequence: ProbeSequence, out: &mut Outbox) {
        if let Some(probe) = self.detector.ended(sequence) {
            // It has heard others since, and refuted: the next probe says more than the end of a long wait.
            if self.version(probe.member) > probe.version {
                return;
            }
            self.stats.failed += 1;
            // Who was asked and says nothing makes it likelier that this node does not hear, unless it is suspected
            // too.
            let is_up = |id: &&MemberId| self.status(**id) == Some(MemberStatus::Up);
            let missing = if probe.indirect { probe.silent.iter().filter(is_up).count() } else { 1 };
            self.health.worsen(u32::try_from(missing).unwrap_or(u32::MAX));
            self.accuse(now, probe.member, Evidence::ProbeUnanswered, out);
        }
    }

    /// Someone has answered a ping.
    pub(super) fn acknowledged(&mut self, now: Timestamp, from: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        if let Some(probe) = self.detector.answered(sequence, from) {
            self.stats.round_trip = Some(now.since(probe.started));
            if let Some(suspicion) = self.suspicions.get_mut(&from) {
                (suspicion.mine, suspicion.answers) = (false, true);
            }
            self.refusals.forget(from);
            self.probe_succeeded(sequence);
        } else if let Some(relay) = self.detector.relayed(sequence, Some(from)) {
            self.agenda.cancel(Task::RelayTimeout(sequence));
            self.report(relay, PingOutcome::Reached, out);
        }
    }

    fn probe_succeeded(&mut self, sequence: ProbeSequence) {
        self.agenda.cancel(Task::ProbeTimeout(sequence));
        self.agenda.cancel(Task::ProbeEnd(sequence));
        self.health.improve();
    }

    /// Asks others to ping the member; `refused`: this node's own connection was.
    pub(super) fn ask_others(&mut self, sequence: ProbeSequence, member: MemberId, refused: bool, out: &mut Outbox) {
        let able = |record: &Record| record.id() != member && record.status() == MemberStatus::Up;
        let others = self.random_members(self.config.indirect_probes, able);
        for other in &others {
            let mut updates = self.updates_for(*other, false);
            // What is asked about goes first, so that who holds it for dead or gone says so.
            if let Some(record) = self.table.get(member).filter(|_| self.inheritance.is_told(member))
                && !self.news.holds(*other, self.table.digest())
                && updates.iter().all(|update| update.id() != member)
            {
                updates.insert(0, Arc::clone(record));
            }
            let digest = self.told_digest();
            self.send(*other, Message::PingRequest { sequence, target: member, refused, updates, digest }, out);
        }
        if !others.is_empty() {
            self.detector.asked(sequence, &others);
        }
    }

    /// Pings a member for another.
    pub(super) fn ping_requested(&mut self, now: Timestamp, relay: Relay, refused: bool, out: &mut Outbox) {
        let target = relay.target;
        if target == self.me().id() {
            return self.report(relay, PingOutcome::Reached, out);
        }
        if self.table.get(target).is_none_or(|record| record.is_terminal()) {
            return self.report(relay, PingOutcome::Silent, out);
        }
        if refused {
            self.refusals.saw(target, relay.origin, now);
            if self.refused_me(target, now) {
                self.report(relay, PingOutcome::Refused, out);
                return self.weigh_refusals(now, target, out);
            }
        }
        if let Some(sequence) = self.detector.relay(relay) {
            // In time for the one who asked to hear that it was in vain.
            self.agenda.schedule(Task::RelayTimeout(sequence), now + self.config.probe_timeout * 4 / 5);
            self.ping(target, sequence, out);
        }
    }

    pub(super) fn relay_timed_out(&mut self, sequence: ProbeSequence, out: &mut Outbox) {
        if let Some(relay) = self.detector.relayed(sequence, None) {
            self.report(relay, PingOutcome::Silent, out);
        }
    }

    pub(super) fn report(&mut self, relay: Relay, outcome: PingOutcome, out: &mut Outbox) {
        let Relay { target, origin, sequence } = relay;
        let mut updates = self.updates_for(origin, false);
        let ended = self.table.get(target).filter(|record| record.is_terminal() && self.inheritance.is_told(target));
        if let Some(record) = ended
            && updates.iter().all(|update| update.id() != target)
        {
            updates.insert(0, Arc::clone(record));
        }
        let digest = self.told_digest();
        self.send(origin, Message::PingReport { sequence, target, outcome, updates, digest }, out);
    }

    /// What became of a ping that this node asked for.
    pub(super) fn ping_reported(
        &mut self,
        now: Timestamp,
        by: MemberId,
        sequence: ProbeSequence,
        target: MemberId,
        outcome: PingOutcome,
        out: &mut Outbox,
    ) {
        if !self.detector.reported(sequence, target, by) {
            return;
        }
        match outcome {
            PingOutcome::Reached => {
                self.detector.ended(sequence);
                self.stats.reached_by_others += 1;
                self.refusals.reached_by_others(target);
                self.probe_succeeded(sequence);
            }
            PingOutcome::Silent => {}
            PingOutcome::Refused => {
                self.refusals.saw(target, by, now);
                // This node's own try decides whether it says so too.
                self.detector.hasten(target);
                self.weigh_refusals(now, target, out);
            }
        }
    }

    /// Whether as many accuse the member as make its suspicion end the soonest.
    fn is_well_accused(&self, member: MemberId) -> bool {
        let all = Record::MOST_ACCUSERS.min(self.table.size().saturating_sub(1));
        let enough = |record: &Arc<Record>| record.status() == MemberStatus::Suspect && record.authors().len() >= all;
        self.table.get(member).is_some_and(enough)
    }

    /// Claims that a member is suspect, unless enough do.
    pub(super) fn accuse(&mut self, now: Timestamp, member: MemberId, evidence: Evidence, out: &mut Outbox) {
        let Some(record) = self.table.get(member) else { return };
        if !self.is_well_accused(member) && !record.is_terminal() {
            self.stats.accusations += 1;
            let suspect = Arc::new(record.claimed(Verdict::Suspect, self.me().id()));
            self.learn_from(now, &suspect, Source::Accused(evidence), out);
        }
        if let Some(suspicion) = self.suspicions.get_mut(&member) {
            (suspicion.mine, suspicion.answers) = (true, false);
            self.weigh_hearsay(now, member, out);
        }
    }

    /// Sets the end of a suspicion by what is known of it; it only ever comes nearer. What should have been over
    /// already ends now: a deadline in the past would look as if this process had not run since.
    pub(super) fn time_suspicion(&mut self, now: Timestamp, member: MemberId) {
        if let (Some(suspicion), Some(record)) = (self.suspicions.get(&member), self.table.get(member)) {
            let accusers = record.authors().len();
            let lasts = Suspicion::lasts(&self.config, self.table.size(), self.suspicions.len(), accusers);
            let end = (suspicion.started + lasts).max(now);
            let before = self.agenda.deadline(Task::Suspicion(member));
            self.agenda.schedule(Task::Suspicion(member), before.map_or(end, |before| before.min(end)));
        }
    }

    /// The time to refute is over.
    pub(super) fn suspicion_expired(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        self.review_evictions(now, out);
        self.listen(now, out);
        // Who answers this node cannot be dead, whatever keeps its refutation from being heard.
        let answers = self.suspicions.get(&member).is_some_and(|suspicion| suspicion.answers);
        if answers {
            self.detector.hasten(member);
        }
        if answers || self.restrained || self.breaker.is_halted() || self.isolated {
            self.agenda.schedule(Task::Suspicion(member), now + self.config.probe_interval);
        } else {
            self.judge(now, member, Verdict::Dead, QuarantineReason::SuspicionExpired, out);
        }
    }

    /// Declares a living member dead.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        member: MemberId,
        verdict: Verdict,
        reason: QuarantineReason,
        out: &mut Outbox,
    ) {
        if let Some(record) = self.table.get(member).filter(|record| !record.is_terminal()) {
            let judged = Arc::new(record.claimed(verdict, self.me().id()));
            self.learn_from(now, &judged, Source::Judged(reason), out);
        }
    }

    /// As decided outside. The member may live and answer others, so it is told at once.
    pub(super) fn down(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        let from = self.status(member);
        let reason = match from {
            _ if member == self.me().id() => Refusal::Oneself,
            None => Refusal::UnknownMember,
            Some(MemberStatus::Dead | MemberStatus::Removed) => Refusal::Final,
            Some(_) => {
                self.judge(now, member, Verdict::Dead, QuarantineReason::Decided, out);
                if let Some(record) = self.table.get(member) {
                    tell_the_dead(record, self.told_digest(), out);
                }
                return;
            }
        };
        out.event(Event::TransitionRefused { member, from, to: MemberStatus::Dead, reason });
    }

    /// The next step of forgetting: dead, removed, lapsed, unknown.
    pub(super) fn expire(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        match self.table.get(member) {
            Some(record) if record.status() == MemberStatus::Dead => {
                let removed = Arc::new(record.claimed(Verdict::Removed, self.me().id()));
                self.learn(now, None, &removed, out);
            }
            Some(_) => {
                self.news.remove(member);
                self.inheritance.forget(member);
                self.table.lapse(member);
                self.agenda.schedule(Task::Expire(member), now + self.config.lapse_ttl());
            }
            None => self.table.forget(member),
        }
    }

    /// Ends the quarantine of those who are in it for the longest, when there are too many.
    pub(super) fn bound_quarantine(&mut self, now: Timestamp, out: &mut Outbox) {
        while self.table.dead_count() > self.config.max_quarantined {
            let until = |id: MemberId| self.agenda.deadline(Task::Expire(id));
            let oldest = self.table.dead().map(|(record, _)| record.id()).min_by_key(|id| until(*id));
            let Some(oldest) = oldest else { return };
            self.expire(now, oldest, out);
        }
    }

    /// Halts evictions, or resumes them.
    pub(super) fn review_evictions(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.breaker.review(now, &self.config, self.table.size()) {
            let suspects = self.suspicions.len();
            out.event(if self.breaker.is_halted() {
                Event::EvictionsHalted { suspects, observed_at: now }
            } else {
                Event::EvictionsResumed { suspects, observed_at: now }
            });
        }
    }

    /// Whether this node still hears the others. One of two cannot know who it is that is cut off; nor is it silence
    /// when hosts say that their members are gone.
    fn listen(&mut self, now: Timestamp, out: &mut Outbox) {
        let silent = now.since(self.last_heard) >= self.config.isolated_after;
        if silent && !self.isolated && self.phase == Phase::Up && self.table.size() > 2 {
            let refused = |record: &Arc<Record>| self.refused_me(record.id(), now);
            if !self.table.living().any(refused) {
                self.isolated = true;
                out.event(Event::Isolated { observed_at: now });
            }
        }
    }

    /// Somebody was heard.
    pub(super) fn heard(&mut self, now: Timestamp, out: &mut Outbox) {
        self.last_heard = now;
        self.end_isolation(now, out);
    }

    /// Somebody was heard, or a host that answers that nobody listens there.
    pub(super) fn end_isolation(&mut self, now: Timestamp, out: &mut Outbox) {
        if core::mem::take(&mut self.isolated) {
            out.event(Event::IsolationEnded { observed_at: now });
            // Whom this node could not hear has had no chance to refute.
            let suspects: Vec<_> = self.suspicions.keys().copied().collect();
            for suspect in suspects {
                self.agenda.cancel(Task::Suspicion(suspect));
                self.suspicions.insert(suspect, Suspicion::new(now));
                self.time_suspicion(now, suspect);
                self.detector.hasten(suspect);
            }
            for suspect in self.random_members(TOLD_AT_ONCE, |record| record.status() == MemberStatus::Suspect) {
                let sequence = self.detector.sequence();
                self.ping(suspect, sequence, out);
            }
        }
    }

    /// It may live, cut off from the news: then it stops, or begins anew.
    fn tell_a_dead_one(&mut self, out: &mut Outbox) {
        let chosen = self.rng.random_range(0..self.table.dead_count());
        if let Some((record, _)) = self.table.dead().nth(chosen).filter(|(dead, _)| self.inheritance.is_told(dead.id()))
        {
            tell_the_dead(record, self.told_digest(), out);
        }
    }
}

/// Says to a dead member that it is.
pub(super) fn tell_the_dead(dead: &Arc<Record>, digest: TableDigest, out: &mut Outbox) {
    let message = Message::Gossip { updates: [Arc::clone(dead)].into(), digest };
    out.effect(Effect::Send { to: dead.id(), address: dead.member().address.clone(), message });
}
