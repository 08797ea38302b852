//! What is said of the life and death of others, and when it is believed.
//!
//! One rule for all that is said of a third member: it is believed when this node sees it itself, or when two different
//! members say it, each in a message of its own. Who is honest passes on only what it believes, so each that speaks is
//! a witness; one that lies stays one.
//!
//! | said to this node | believed |
//! | --- | --- |
//! | a living member is dead | with a second voice, or when this node's own probe or connection has failed |
//! | a member leaves or has left | with a second voice, or when its host refuses this node's connection |
//! | this node is dead | with a second voice; at once where nobody else whom this node reaches could deny it, or when it stood still for as long as a suspicion lasts |
//! | a member lives that is dead, or whom this node's own probe has not reached, in a later version than the one that failed | with a second voice, its own included; of the silent at once where no two others can speak |
//! | there is a member of whom nothing is known | with a second voice, or when it speaks itself |
//!
//! Who hears of a death without having seen it asks: it probes the member next, or at once if nobody suspected it, and
//! tells it who accuses it. A member that lives so refutes, and who condemned an earlier version by itself is told of
//! the later one by all others, and takes the verdict back. An earlier version never brings anybody back.
//!
//! Of a newcomer both who let it in and itself tell all others. A member of whom only one has spoken for a probe
//! interval is asked itself: so two parts of a cluster that know of each other through one member find each other.
//!
//! What a node is told when it is let in is believed, but not passed on: see [`inheritance`](super::inheritance).
//!
//! A node whose own probes say little for now, because it hears nobody, is about to lose a partition, or sees a storm
//! of suspicions, believes two voices only.
//!
//! A verdict that was decided outside ([`Input::Down`](super::Input::Down)) is one voice like any other, for others
//! cannot tell it from a lie. Of a member that does not answer it is believed as soon as others have tried. A member
//! that answers denies it, unless it is decided at a second member too before the first has taken it back: the
//! condemned is told by both at once, and stops. Who deals with it again has taken it back.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::{Incarnation, MemberId};
use rand::seq::SliceRandom;

use super::record::{Record, Stage, Verdict};
use super::voices::Voices;
use super::{Effect, Event, Membership, Message, Outbox, Refusal, SuspicionOutcome, Task};
use crate::{Member, MemberStatus, Timestamp};

/// What others have said lately. Bounded; what finds no room is not listened to, and will be said again.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    /// That living members are dead.
    deaths: BTreeMap<MemberId, Said>,
    /// That members live that are dead, or that this node does not reach.
    lives: BTreeMap<MemberId, Said>,
    /// That members go.
    departures: BTreeMap<MemberId, Said>,
    /// That there are members of whom nothing is known.
    newcomers: BTreeMap<MemberId, Newcomer>,
    /// That this node is dead.
    of_me: Voices,
    /// When others were asked what they hold this node for.
    asked: Option<Timestamp>,
}

/// What has been said of one member.
#[derive(Debug)]
struct Said {
    record: Arc<Record>,
    voices: Voices,
    /// When the member was asked last.
    asked: Option<Timestamp>,
}

#[derive(Debug)]
struct Newcomer {
    said: Descriptions,
    /// When it was asked last, or first told of.
    asked: Timestamp,
}

impl Said {
    fn new(record: &Arc<Record>) -> Self {
        Self { record: Arc::clone(record), voices: Voices::default(), asked: None }
    }

    fn merge(&mut self, record: &Record) {
        if let Some(merged) = self.record.merged(record) {
            self.record = Arc::new(merged);
        }
    }

    fn describes(&self, record: &Record) -> bool {
        self.record.member() == record.member() && self.record.is_terminal() == record.is_terminal()
    }

    /// Another says the same; whether enough have. Of two versions the later one is believed where the member could
    /// refute it, and no suspicion yet.
    fn hear(&mut self, from: MemberId, record: &Arc<Record>, now: Timestamp, within: Duration) -> bool {
        self.voices.add(from, now, within);
        if !record.is_terminal() {
            let said_before = (self.record.stage(), self.record.incarnation());
            let ((stage, incarnation), later) = match (record.stage(), record.incarnation()) {
                version if version < said_before => (version, said_before),
                version => (said_before, version),
            };
            let ahead = later.1.get().saturating_sub(incarnation.get());
            // A step that it refutes if it has not made it.
            let harmless = later.0 <= Stage::Up && ahead <= Membership::FAR_AHEAD;
            let (stage, incarnation) = if harmless { later } else { (stage, incarnation) };
            self.record = Arc::new(Record::new(record.member().clone(), incarnation, stage));
        }
        self.voices.count(now, within) >= Voices::ENOUGH
    }
}

/// What several say of one member: each says one thing.
#[derive(Debug, Default)]
pub(super) struct Descriptions(Vec<Said>);

impl Descriptions {
    const MOST: usize = 4;

    /// Another describes the member; what enough have described.
    pub(super) fn hear(
        &mut self,
        from: MemberId,
        record: &Arc<Record>,
        now: Timestamp,
        within: Duration,
    ) -> Option<Arc<Record>> {
        for other in self.0.iter_mut().filter(|said| !said.describes(record)) {
            other.voices.remove(from);
        }
        self.0.retain(|said| said.voices.count(now, within) > 0);
        if !self.0.iter().any(|said| said.describes(record)) && self.0.len() < Self::MOST {
            self.0.push(Said::new(record));
        }
        let said = self.0.iter_mut().find(|said| said.describes(record))?;
        said.hear(from, record, now, within).then(|| Arc::clone(&said.record))
    }

    fn is_said(&self, now: Timestamp, within: Duration) -> bool {
        self.0.iter().any(|said| said.voices.count(now, within) > 0)
    }

    fn is_said_by(&self, member: MemberId) -> bool {
        self.0.iter().any(|said| said.voices.contains(member))
    }

    /// The only description there is of one that lives.
    fn only_living(&self) -> Option<&Arc<Record>> {
        let [said] = self.0.as_slice() else { return None };
        Some(&said.record).filter(|record| !record.is_terminal())
    }
}

impl Hearsay {
    const MOST: usize = 256;
    /// The same of newcomers: two parts of a cluster that find each other are many at once.
    const MOST_NEWCOMERS: usize = 1_024;
    /// Of whom one member may tell.
    const MOST_NEWCOMERS_OF_ONE: usize = 256;

    pub(super) fn forget(&mut self, member: MemberId) {
        self.deaths.remove(&member);
        self.lives.remove(&member);
        self.departures.remove(&member);
    }

    /// So does nobody with one that it holds for dead.
    pub(super) fn deals_with_me(&mut self, member: MemberId) {
        self.of_me.remove(member);
    }

    /// It lives, and this node knows by now.
    pub(super) fn forget_lives(&mut self, member: MemberId) {
        self.lives.remove(&member);
    }

    pub(super) fn departing(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.departures.keys().copied()
    }

    pub(super) fn accused(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.deaths.keys().copied()
    }

    /// It is no newcomer any more.
    pub(super) fn know(&mut self, member: MemberId) {
        self.newcomers.remove(&member);
    }

    pub(super) fn newcomers(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.newcomers.keys().copied()
    }

    pub(super) fn missed(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.lives.keys().copied()
    }

    /// What is said of this member in one of the tables, made anew if there is room for one more among so many.
    fn of<'a>(
        table: &'a mut BTreeMap<MemberId, Said>,
        most: usize,
        record: &Arc<Record>,
        now: Timestamp,
        within: Duration,
    ) -> Option<&'a mut Said> {
        if table.len() >= most && !table.contains_key(&record.id()) {
            table.retain(|_, said| said.voices.count(now, within) > 0);
            if table.len() >= most {
                return None;
            }
        }
        Some(table.entry(record.id()).or_insert_with(|| Said::new(record)))
    }

    /// What is said of this newcomer, of whom `from` tells, if there is room for one more.
    fn newcomer(&mut self, id: MemberId, from: MemberId, now: Timestamp, within: Duration) -> Option<&mut Newcomer> {
        if !self.newcomers.contains_key(&id) && self.newcomers.len() >= Self::MOST_NEWCOMERS_OF_ONE {
            self.newcomers.retain(|_, newcomer| newcomer.said.is_said(now, within));
            let of_one = self.newcomers.values().filter(|newcomer| newcomer.said.is_said_by(from)).count();
            if of_one >= Self::MOST_NEWCOMERS_OF_ONE || self.newcomers.len() >= Self::MOST_NEWCOMERS {
                return None;
            }
        }
        let new = || Newcomer { said: Descriptions::default(), asked: now };
        Some(self.newcomers.entry(id).or_insert_with(new))
    }
}

impl Membership {
    /// A voice counts for so many probe intervals: longer than the slowest probe of a node that distrusts itself.
    const VOICE_COUNTS_FOR: u32 = 10;
    /// Others that are asked at once by a node that is told that it is dead.
    const ASKED_ABOUT_ME: usize = 3;
    /// Newcomers that are asked at once.
    const NEWCOMERS_ASKED: usize = 3;

    pub(super) fn voice_ttl(&self) -> Duration {
        self.config.probe_interval * Self::VOICE_COUNTS_FOR
    }

    /// Whether the death of a living member, as `from` says it, is to be learned now.
    pub(super) fn believes_death(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
        out: &mut Outbox,
    ) -> bool {
        let (id, within) = (record.id(), self.voice_ttl());
        // Said of an earlier version: refuted before it was believed.
        if self.table.get(id).is_none_or(|known| record.incarnation() < known.incarnation()) {
            return false;
        }
        // What this node saw fail was the version that it knows.
        let seen = self.has_seen_it_fail(id)
            && self.table.get(id).is_some_and(|known| known.incarnation() == record.incarnation());
        if seen || from == Some(id) {
            return true;
        }
        let Some(said) = Hearsay::of(&mut self.hearsay.deaths, Hearsay::MOST, record, now, within) else {
            return false;
        };
        if said.record.incarnation() < record.incarnation() {
            // Who refutes is not asked again for each version that somebody accuses.
            let asked = said.asked.filter(|asked| now.since(*asked) <= 2 * self.config.probe_interval);
            *said = Said { asked, ..Said::new(record) };
        }
        said.merge(record);
        if let Some(from) = from {
            said.voices.add(from, now, within);
        }
        if said.voices.count(now, within) >= Voices::ENOUGH {
            return true;
        }
        let due = said.asked.is_none_or(|asked| now.since(asked) > within);
        if due {
            said.asked = Some(now);
            // Whom others suspect is asked by them as well, so that it need not be more than this node's next probe.
            if self.suspicions.contains_key(&id) {
                self.detector.hasten(id);
            } else {
                self.probe_now(now, id, out);
            }
        }
        false
    }

    /// This node has seen a member fail: whoever has said that it is dead is believed.
    pub(super) fn weigh_hearsay(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        let (Some(said), Some(known)) = (self.hearsay.deaths.get(&member), self.table.get(member)) else { return };
        let heard = said.voices.count(now, self.voice_ttl()) > 0;
        if heard && said.record.incarnation() == known.incarnation() && self.has_seen_it_fail(member) {
            let record = Arc::clone(&said.record);
            self.learn(now, None, &record, out);
        }
    }

    /// What is said of a living member to its disadvantage and not believed, as an accusation that it can refute.
    pub(super) fn accusation_of(&self, member: MemberId) -> Option<Arc<Record>> {
        let said = self.hearsay.deaths.get(&member)?;
        let known = self.table.get(member).filter(|known| known.claim().is_none())?;
        if said.record.incarnation() < known.incarnation() {
            return None;
        }
        let by = said.voices.first()?;
        let version = Record::new(known.member().clone(), said.record.incarnation(), known.stage());
        Some(Arc::new(version.claimed(Verdict::Suspect, by)))
    }

    /// What is believed of a member of whom nothing is known. Two voices count together when they describe the same.
    pub(super) fn believed_newcomer(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
    ) -> Option<Arc<Record>> {
        let (id, within) = (record.id(), self.voice_ttl());
        // Its own word, or that of one who let this node in. That one is gone is not remembered, and nobody's loss.
        let removed = record.status() == MemberStatus::Removed || self.table.has_lapsed(id);
        let Some(from) = from.filter(|from| *from != id && !removed) else { return Some(Arc::clone(record)) };
        self.hearsay.newcomer(id, from, now, within)?.said.hear(from, record, now, within)
    }

    /// A message has come from one who did not say who it is; whether others have told of it, and all the same.
    pub(super) fn meet_newcomer(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) -> bool {
        let told = self.hearsay.newcomers.get(&member).and_then(|newcomer| newcomer.said.only_living()).cloned();
        told.is_some_and(|told| self.learn(now, Some(member), &told, out))
    }

    /// Asks some of those of whom only one has told for a while.
    pub(super) fn ask_newcomers(&mut self, now: Timestamp, out: &mut Outbox) {
        let within = self.voice_ttl();
        self.hearsay.newcomers.retain(|_, newcomer| newcomer.said.is_said(now, within));
        let interval = self.config.probe_interval;
        let due = |newcomer: &&mut Newcomer| now.since(newcomer.asked) >= interval;
        let mut due: Vec<_> = self.hearsay.newcomers.values_mut().filter(due).collect();
        let (due, _) = due.partial_shuffle(&mut self.rng, Self::NEWCOMERS_ASKED);
        let mut asked = Vec::new();
        for newcomer in due {
            newcomer.asked = now;
            let living = newcomer.said.0.iter().filter(|said| !said.record.is_terminal());
            asked.extend(living.map(|said| said.record.member().clone()));
        }
        for Member { id, address, .. } in asked {
            let sequence = self.detector.sequence();
            let (updates, digest) = (self.updates_for(id, true), self.told_digest());
            out.effect(Effect::Send { to: id, address, message: Message::Ping { sequence, updates, digest } });
        }
    }

    /// Somebody says that a dead member lives. Nothing of it is merged: what was condemned stays as it was until the
    /// verdict is taken back.
    pub(super) fn hear_of_dead(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
        out: &mut Outbox,
    ) {
        let id = record.id();
        let Some(known) = self.table.get(id).filter(|known| known.status() == MemberStatus::Dead).cloned() else {
            return;
        };
        if self.deny_inherited(now, record, out) {
            return;
        }
        let later = record.claim().is_none() && record.incarnation() > known.incarnation();
        let Some(from) = from.filter(|_| later) else { return };
        let new = self.hear_of_life(now, from, &known, record.incarnation());
        if let Some(living) = self.living_as_said(now, id, Voices::ENOUGH) {
            self.reinstate(now, &living, out);
        } else if new {
            self.refuse(now, record, Refusal::Final, out);
        }
    }

    /// A later version of a member whose failure this node has seen, as it is to be learned. The member is asked.
    pub(super) fn believed_refutation(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
    ) -> Option<Arc<Record>> {
        let (id, known) = (record.id(), self.table.get(record.id()).cloned()?);
        self.detector.hasten(id);
        self.hear_of_life(now, from?, &known, record.incarnation());
        // Of three members only one can say so of another: better a dead one lives than a living one dies.
        let could = |other: &&Arc<Record>| other.id() != id && !self.has_failed_here(other.id());
        let able = self.table.living().filter(could).take(Voices::ENOUGH).count();
        self.living_as_said(now, id, able)
    }

    /// Another says that a member has written later than what is known of it; whether that is new from this one.
    fn hear_of_life(&mut self, now: Timestamp, from: MemberId, known: &Record, written: Incarnation) -> bool {
        let within = self.voice_ttl();
        // Nothing but that it has written later: what else it wrote is learned when it lives.
        let living = Arc::new(Record::new(known.member().clone(), written, known.stage()));
        let Some(said) = Hearsay::of(&mut self.hearsay.lives, Hearsay::MOST, &living, now, within) else {
            return false;
        };
        // Of several later versions the earliest: whoever says a later one than it wrote adds no more than a voice.
        if said.record.incarnation() <= known.incarnation() {
            *said = Said::new(&living);
        } else if written < said.record.incarnation() {
            said.record = living;
        }
        said.voices.add(from, now, within)
    }

    /// The member as it lives on, if so many have said that it does.
    fn living_as_said(&self, now: Timestamp, member: MemberId, needed: usize) -> Option<Arc<Record>> {
        let (said, known) = (self.hearsay.lives.get(&member)?, self.table.get(member)?);
        let enough = said.voices.count(now, self.voice_ttl()) >= needed;
        (enough && said.record.incarnation() > known.incarnation()).then(|| Arc::clone(&said.record))
    }

    /// The departure of a member that another tells of, as it is to be learned: the least of what two say.
    pub(super) fn believed_departure(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
        out: &mut Outbox,
    ) -> Option<Arc<Record>> {
        let (id, within) = (record.id(), self.voice_ttl());
        let departed = Arc::new(record.own_part());
        let said = Hearsay::of(&mut self.hearsay.departures, Hearsay::MOST, &departed, now, within)?;
        if said.voices.count(now, within) == 0 {
            *said = Said { asked: said.asked, ..Said::new(&departed) };
        }
        if (departed.stage(), departed.incarnation()) < (said.record.stage(), said.record.incarnation()) {
            said.record = departed;
        }
        if let Some(from) = from {
            said.voices.add(from, now, within);
        }
        if said.voices.count(now, within) >= Voices::ENOUGH {
            return self.hearsay.departures.remove(&id).map(|said| said.record);
        }
        if said.asked.is_none_or(|asked| now.since(asked) > self.config.probe_interval) {
            said.asked = Some(now);
            let sequence = self.detector.sequence();
            self.introduce(id, sequence, out);
        }
        None
    }

    /// The departure of a member, if somebody has told of it lately.
    pub(super) fn told_departure(&self, now: Timestamp, member: MemberId) -> Option<Arc<Record>> {
        let said = self.hearsay.departures.get(&member)?;
        (said.voices.count(now, self.voice_ttl()) > 0).then(|| Arc::clone(&said.record))
    }

    pub(super) fn reinstate(&mut self, now: Timestamp, living: &Arc<Record>, out: &mut Outbox) {
        let member = living.id();
        self.hearsay.forget(member);
        self.inheritance.revive(member);
        self.agenda.cancel(Task::Expire(member));
        self.table.replace(living);
        if self.inheritance.is_told(member) {
            self.spread(member);
        }
        let incarnation = living.incarnation();
        self.chronicle.ended(member, SuspicionOutcome::Refuted { incarnation, at: now });
        out.event(Event::VerdictWithdrawn { member, incarnation, observed_at: now });
        self.tell(now, member, Some(MemberStatus::Dead), living.status(), out);
    }

    /// Whether this node believes that it is dead, now that `from` says so.
    pub(super) fn believes_own_death(&mut self, now: Timestamp, from: Option<MemberId>) -> bool {
        let within = self.voice_ttl();
        let Some(from) = from else { return false };
        self.hearsay.of_me.add(from, now, within);
        // Whom this node does not reach could neither be the second to say it nor deny it.
        let may_deny = |id| !self.hearsay.of_me.contains(id) && !self.has_failed_here(id);
        let deniable = self.table.living().any(|record| may_deny(record.id()));
        // Who stood still has seen itself why it may be dead.
        let needed = if deniable && !self.has_stood_still(now) { Voices::ENOUGH } else { 1 };
        self.hearsay.of_me.count(now, within) >= needed
    }

    /// A member refuses to be connected with this node, because it holds it for dead. That is refuted where it may have
    /// been heard: by the others, who are asked.
    pub(super) fn blocked_by(&mut self, now: Timestamp, by: MemberId, out: &mut Outbox) {
        let speaks = self.table.get(by).is_some_and(|record| !record.is_terminal());
        if !speaks || by == self.me().id() || self.me().is_terminal() {
            return;
        }
        if self.believes_own_death(now, Some(by)) {
            let dead = self.me().claimed(Verdict::Dead, by);
            self.evicted(now, &dead, out);
        } else {
            self.ask_about_me(now, Some(by), out);
        }
    }

    /// Whether this process has lately, within the shortest suspicion, not run for as long as that lasts.
    fn has_stood_still(&self, now: Timestamp) -> bool {
        self.agenda.lateness(now) >= self.config.suspicion_timeout(self.table.size())
            || self.stood_still.is_some_and(|at| now.since(at) <= self.config.suspicion_timeout(self.table.size()))
    }

    /// Asks others what they hold this node for, and tells them that it lives: who holds it for dead says so.
    pub(super) fn ask_about_me(&mut self, now: Timestamp, from: Option<MemberId>, out: &mut Outbox) {
        if self.hearsay.asked.is_some_and(|asked| now.since(asked) < self.config.probe_interval) {
            return;
        }
        self.hearsay.asked = Some(now);
        let mut asked = self.random_members(Self::ASKED_ABOUT_ME, |record| Some(record.id()) != from);
        asked.extend(from);
        for to in asked {
            let sequence = self.detector.sequence();
            self.introduce(to, sequence, out);
        }
    }

    /// Whether this node's own probe of the member, or its connection, has failed, and it trusts its own word.
    fn has_seen_it_fail(&self, member: MemberId) -> bool {
        let distrusts_itself = self.restrained || self.isolated || self.breaker.is_halted();
        !distrusts_itself && self.has_failed_here(member)
    }

    /// The same, whatever this node thinks of its own word.
    pub(super) fn has_failed_here(&self, member: MemberId) -> bool {
        self.suspicions.get(&member).is_some_and(|suspicion| suspicion.mine)
    }
}
