//! One process: the machine of the product, its clock, and what is wrong with it on purpose.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::membership::{
    Config, Event, Input, JoinAnswer, Membership, Message, Record, Stage, TableDigest, Verdict,
};
use gristmill_core::{Member, MemberStatus, Outbox, Timestamp};
use gristmill_messages::{Incarnation, MemberId};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::fault::Lie;

pub(crate) type Effect = gristmill_core::membership::Effect;
pub(crate) type Out = Outbox<Effect, Event>;
/// A record as messages carry it.
pub(crate) type Carried = Arc<Record>;

/// A defect that is planted to see whether it is found. Every process of the simulation has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Does not hear what is suspected of itself.
    NeverRefutes,
    /// Hears neither that it was declared dead nor that it is accused, and serves on.
    OutlivesEviction,
    /// Sends no pings once the cluster stands.
    NeverProbes,
    /// Declares dead whom it should suspect.
    KillsWithoutSuspicion,
    /// Takes the digest of every other table for that of its own, and compares none.
    NeverCompares,
    /// Passes on, in what it says, the dead as if they lived.
    Resurrects,
    /// Remembers all who ever were.
    NeverForgets,
    /// Writes new versions of the records of others.
    WritesForOthers,
    /// Says to those who listen to it that the dead live again.
    SpeaksOfGhosts,
    /// Falls back to an earlier version of what it knew.
    GoesBack,
    /// Serves on, on the losing side of a partition.
    NeverFences,
    /// Believes the first who says that another is dead.
    BelievesHearsay,
    /// Stops when the first says that it is dead.
    StopsAtOneVoice,
    /// Believes the first who says that there is another member.
    BelievesInGhosts,
    /// Takes what it has sent by gossip for received, and hears nobody who says that it was not.
    TakesSentForReceived,
    /// Keeps the values of members that are gone.
    KeepsValuesOfTheGone,
    /// Forgets what members that are there have told by gossip.
    ForgetsTheLiving,
    /// Writes new versions of the values of others.
    WritesValuesOfOthers,
    /// Tells others of members of whom it knows by the answer to its join alone.
    TellsWhatItWasTold,
    /// Says of the values of those whom it tells them that they are others, and believes that of its own.
    AdoptsClaimsAboutItself,
    /// Does not contradict when keys are invented for it.
    NeverDisowns,
    /// Says of who died that it has left, too.
    SaysTwiceWhoWent,
    /// Says of who died that it has left.
    TakesTheDeadForLeft,
    /// Goes on saying that all agree.
    MissesDisagreement,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::NeverRefutes,
        Self::OutlivesEviction,
        Self::NeverProbes,
        Self::KillsWithoutSuspicion,
        Self::NeverCompares,
        Self::Resurrects,
        Self::NeverForgets,
        Self::WritesForOthers,
        Self::SpeaksOfGhosts,
        Self::GoesBack,
        Self::NeverFences,
        Self::BelievesHearsay,
        Self::StopsAtOneVoice,
        Self::BelievesInGhosts,
        Self::TellsWhatItWasTold,
        Self::TakesSentForReceived,
        Self::KeepsValuesOfTheGone,
        Self::ForgetsTheLiving,
        Self::WritesValuesOfOthers,
        Self::AdoptsClaimsAboutItself,
        Self::NeverDisowns,
        Self::SaysTwiceWhoWent,
        Self::TakesTheDeadForLeft,
        Self::MissesDisagreement,
    ];

    /// Whether only what a liar says brings it to light.
    #[must_use]
    pub const fn needs_liar(self) -> bool {
        matches!(
            self,
            Self::BelievesHearsay
                | Self::StopsAtOneVoice
                | Self::BelievesInGhosts
                | Self::TellsWhatItWasTold
                | Self::NeverDisowns
        )
    }
}

/// What a node believes of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belief {
    /// Of whom.
    pub(crate) member: MemberId,
    /// The newest version that it knows.
    pub(crate) incarnation: Incarnation,
    /// How far the member says it is.
    pub(crate) stage: Stage,
    /// What follows.
    pub(crate) status: MemberStatus,
    /// Whether it owns keys.
    pub(crate) active: bool,
}

impl From<&Record> for Belief {
    fn from(record: &Record) -> Self {
        Self {
            member: record.id(),
            incarnation: record.incarnation(),
            stage: record.stage(),
            status: record.status(),
            active: record.is_active(),
        }
    }
}

/// A clock that was started at another time than others and runs at another speed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    since: Timestamp,
    shown: Timestamp,
    rate: u32,
}

impl Clock {
    pub(crate) const fn new(offset: Duration) -> Self {
        Self { since: Timestamp::ZERO, shown: Timestamp::new(offset), rate: 1000 }
    }

    pub(crate) fn at(&self, now: Timestamp) -> Timestamp {
        let passed = now.since(self.since);
        self.shown + if self.rate == 1000 { passed } else { passed * self.rate / 1000 }
    }

    /// How much time really passes while this clock shows so much.
    pub(crate) fn real(&self, shown: Duration) -> Duration {
        if self.rate == 1000 { shown } else { shown * 1000 / self.rate + Duration::from_nanos(1) }
    }

    pub(crate) fn set_rate(&mut self, now: Timestamp, thousandths: u32) {
        *self = Self { since: now, shown: self.at(now), rate: thousandths.max(1) };
    }
}

/// What is wrong with the process, and what the defect remembers.
#[derive(Debug)]
struct Defect {
    bug: Bug,
    seen: BTreeMap<MemberId, Carried>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Node {
    machine: Membership,
    defect: Option<Defect>,
    lie: Option<Lie>,
    rng: Xoshiro256PlusPlus,
}

impl Node {
    pub(crate) fn new(config: &Config, me: Member, seed: u64, bug: Option<Bug>) -> Self {
        Self {
            machine: Membership::new(config.clone(), me, seed),
            defect: bug.map(|bug| Defect { bug, seen: BTreeMap::new() }),
            lie: None,
            rng: Xoshiro256PlusPlus::seed_from_u64(!seed),
        }
    }

    pub(crate) const fn machine(&self) -> &Membership {
        &self.machine
    }

    pub(crate) const fn machine_mut(&mut self) -> &mut Membership {
        &mut self.machine
    }

    pub(crate) const fn set_lie(&mut self, lie: Option<Lie>) {
        self.lie = lie;
    }

    pub(crate) fn beliefs(&self) -> Vec<Belief> {
        let mut beliefs: Vec<_> = self.machine.records().map(Belief::from).collect();
        if let Some(Defect { bug: Bug::NeverForgets, seen }) = &self.defect {
            let forgotten = |id: &MemberId| beliefs.iter().all(|belief| belief.member != *id);
            let forgotten: Vec<_> = seen.iter().filter(|(id, _)| forgotten(id)).collect();
            beliefs.extend(forgotten.into_iter().map(|(_, record)| Belief::from(&**record)));
        }
        if matches!(&self.defect, Some(Defect { bug: Bug::GoesBack, seen }) if seen.len() % 4 == 3) {
            for belief in &mut beliefs {
                belief.incarnation = Incarnation::default();
            }
        }
        beliefs
    }

    pub(crate) fn handle(&mut self, now: Timestamp, mut input: Input, out: &mut Out) {
        if let Some(defect) = &mut self.defect {
            defect.mishear(&self.machine, &mut input);
        }
        let is_answer = matches!(input, Input::JoinAnswered { .. });
        let tells = is_answer && self.defect.as_ref().is_some_and(|defect| defect.bug == Bug::TellsWhatItWasTold);
        let echo = self.defect.as_ref().and_then(|defect| defect.echo(&self.machine, &input));
        self.machine.handle(now, input, out);
        if let Some(echo) = echo {
            self.machine.handle(now, echo, out);
        }
        if tells {
            self.machine.assume_told();
        }
        if let Some(defect) = &mut self.defect {
            defect.misbehave(now, &mut self.machine, out);
        }
        if let Some(lie) = self.lie {
            self.forge(lie, out);
        }
    }

    fn forge(&mut self, lie: Lie, out: &mut Out) {
        let me = self.machine.me().id();
        let of_the_dead = lie == Lie::Forgotten;
        let is_victim = |record: &&Record| record.id() != me && record.is_terminal() == of_the_dead;
        let others: Vec<_> = self.machine.records().filter(is_victim).collect();
        rewrite(out, |_, message| {
            if let (Some(victim), Some(said)) = (others.choose(&mut self.rng), said_mut(message)) {
                let version =
                    |member: Member, incarnation: u64, stage| Record::new(member, Incarnation::new(incarnation), stage);
                let (member, written) = (victim.member().clone(), victim.incarnation().get());
                let forged = match lie {
                    Lie::Left => version(member, written + 1, Stage::Removed),
                    Lie::Newest => version(member, u64::MAX - 1, Stage::Leaving),
                    Lie::Suspect => victim.claimed(Verdict::Suspect, me),
                    Lie::Dead => victim.claimed(Verdict::Dead, me),
                    Lie::Ahead => version(member, written + (1 << 10), victim.stage()),
                    Lie::Heavy => version(Member { weight: NonZeroU32::MAX, ..member }, written, victim.stage()),
                    Lie::Invented => ghost(&mut self.rng),
                    Lie::Written => return true, // told by what is shared
                    Lie::Forgotten => victim.claimed(Verdict::Removed, me),
                };
                said.push(forged.into());
            }
            true
        });
        if lie == Lie::Invented {
            welcome(out, &ghost(&mut self.rng).into());
        }
    }
}

/// A member that does not exist.
fn ghost(rng: &mut impl RngExt) -> Record {
    let id = MemberId::new(rng.random_range(1..=64) << 64);
    Record::new(Member::new(id, "nowhere:1", []), Incarnation::new(1), Stage::Up)
}

/// Tells whoever is let in of this one, too.
fn welcome(out: &mut Out, of: &Carried) {
    let effects: Vec<_> = out.drain_effects().collect();
    for mut effect in effects {
        if let Effect::AnswerJoin { answer: JoinAnswer::Accepted { records }, .. } = &mut effect {
            records.push(of.clone());
        }
        out.effect(effect);
    }
}

impl Defect {
    fn mishear(&self, machine: &Membership, input: &mut Input) {
        let Input::Received { message, .. } = input else { return };
        if self.bug == Bug::NeverCompares
            && let Some(digest) = digest_mut(message)
        {
            *digest = machine.digest();
        }
        let me = machine.me().id();
        let Some(said) = said_mut(message) else { return };
        match self.bug {
            Bug::NeverRefutes => {
                said.retain(|record| record.id() != me || record.status() != MemberStatus::Suspect);
            }
            Bug::OutlivesEviction => said.retain(|record| record.id() != me || record.claim().is_none()),
            _ => {}
        }
    }

    /// What a message tells of others, as if a second member had said the same.
    fn echo(&self, machine: &Membership, input: &Input) -> Option<Input> {
        let Input::Received { from, message } = input else { return None };
        let me = machine.me().id();
        let is_meant = |record: &&Carried| match self.bug {
            Bug::BelievesHearsay => record.is_terminal() && record.id() != me,
            Bug::StopsAtOneVoice => record.is_terminal() && record.id() == me,
            Bug::BelievesInGhosts => !record.is_terminal() && machine.status(record.id()).is_none(),
            _ => false,
        };
        let updates: Vec<_> = said(message).iter().filter(is_meant).cloned().collect();
        let others = machine.records().filter(|record| record.id() != me && record.id() != *from);
        let from =
            others.filter(|record| !record.is_terminal()).map(Record::id).next().filter(|_| !updates.is_empty())?;
        Some(Input::Received { from, message: Message::Gossip { updates, digest: machine.digest() } })
    }

    fn misbehave(&mut self, now: Timestamp, machine: &mut Membership, out: &mut Out) {
        let me = machine.me().id();
        match self.bug {
            Bug::NeverProbes => {
                rewrite(out, |_, message| !matches!(message, Message::Ping { .. } | Message::PingRequest { .. }))
            }
            Bug::NeverCompares => {
                rewrite(out, |_, message| !matches!(message, Message::Compare { .. } | Message::Sync { .. }))
            }
            Bug::KillsWithoutSuspicion => {
                let suspects = |record: &&Record| record.id() != me && record.status() == MemberStatus::Suspect;
                let suspects: Vec<_> =
                    machine.records().map(|record| -> &Record { record }).filter(suspects).map(Record::id).collect();
                for member in suspects {
                    machine.handle(now, Input::Down { member }, out);
                }
            }
            Bug::Resurrects => {
                self.remember(machine);
                let dead =
                    |record: &Record| machine.status(record.id()).is_none_or(|status| status >= MemberStatus::Dead);
                let zombies: Vec<_> = self.seen.values().filter(|record| dead(record)).cloned().collect();
                rewrite(out, |_, message| {
                    if let Some(said) = said_mut(message) {
                        said.extend(zombies.iter().cloned());
                    }
                    true
                });
            }
            Bug::NeverForgets => {
                self.seen.extend(machine.records().map(|record| (record.id(), record.clone().into())));
            }
            Bug::GoesBack => self.remember(machine),
            Bug::SpeaksOfGhosts => {
                let dead = machine.dead().into_iter().filter(|member| !self.seen.contains_key(&member.id));
                for member in dead.collect::<Vec<_>>() {
                    let record = Record::new(member.clone(), Incarnation::default(), Stage::Up);
                    self.seen.insert(member.id, record.into());
                    let (from, to) = (Some(MemberStatus::Dead), MemberStatus::Up);
                    out.event(Event::StatusChanged { member, from, to, observed_at: now });
                }
            }
            Bug::WritesForOthers => rewrite(out, |to, message| {
                for record in said_mut(message).into_iter().flatten() {
                    if record.id() != me && record.id() != to && !record.is_terminal() {
                        let member = record.member().clone();
                        *record = Record::new(member, record.incarnation().next(), record.stage()).into();
                    }
                }
                true
            }),
            _ => {}
        }
    }

    fn remember(&mut self, machine: &Membership) {
        for record in machine.records().filter(|record| !record.is_terminal()) {
            if self.seen.get(&record.id()).is_none_or(|known| known.incarnation() < record.incarnation()) {
                self.seen.insert(record.id(), record.clone().into());
            }
        }
    }
}

/// Gives each message that is about to be sent to `change`, which says whether it is sent at all.
fn rewrite(out: &mut Out, mut change: impl FnMut(MemberId, &mut Message) -> bool) {
    let effects: Vec<_> = out.drain_effects().collect();
    for mut effect in effects {
        let sent = match &mut effect {
            Effect::Send { to, message, .. } => change(*to, message),
            _ => true,
        };
        if sent {
            out.effect(effect);
        }
    }
}

/// The records in a message.
pub(crate) fn said(message: &Message) -> &[Carried] {
    match message {
        Message::Ping { updates, .. }
        | Message::PingAck { updates, .. }
        | Message::PingRequest { updates, .. }
        | Message::PingReport { updates, .. }
        | Message::Gossip { updates, .. }
        | Message::Compare { updates, .. } => updates,
        Message::Sync { records, .. } => records,
    }
}

fn said_mut(message: &mut Message) -> Option<&mut Vec<Carried>> {
    match message {
        Message::Ping { updates, .. }
        | Message::PingAck { updates, .. }
        | Message::PingRequest { updates, .. }
        | Message::PingReport { updates, .. }
        | Message::Gossip { updates, .. }
        | Message::Compare { updates, .. } => Some(updates),
        Message::Sync { records, .. } => Some(records),
    }
}

/// What a message says of the table of who sends it, unless it is the table itself.
const fn digest_mut(message: &mut Message) -> Option<&mut TableDigest> {
    match message {
        Message::Ping { digest, .. }
        | Message::PingAck { digest, .. }
        | Message::PingRequest { digest, .. }
        | Message::PingReport { digest, .. }
        | Message::Gossip { digest, .. } => Some(digest),
        Message::Compare { .. } | Message::Sync { .. } => None,
    }
}

/// A random offset, so that no two clocks agree.
pub(crate) fn clock_offset(rng: &mut Xoshiro256PlusPlus) -> Duration {
    Duration::from_secs(10) + Duration::from_micros(rng.random_range(0..1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_its_timers_come_sooner() {
        let mut clock = Clock::new(Duration::from_secs(5));
        clock.set_rate(Timestamp::from_millis(1000), 1100);
        assert_eq!(clock.at(Timestamp::from_millis(2000)), Timestamp::from_millis(7100));
        assert_eq!(clock.real(Duration::from_millis(1100)), Duration::from_secs(1) + Duration::from_nanos(1));
    }
}
