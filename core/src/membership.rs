//! Who is in the cluster: the membership table of one node and the protocol that keeps it.
//!
//! # What it guarantees, and what not
//! - While the network is connected, all tables become equal some time after the last change, whatever was lost,
//!   duplicated or reordered. At any moment they may differ: this is eventual agreement, not consensus.
//! - No old news brings back a member that is dead or removed while that is remembered: `quarantine_ttl` plus one and a
//!   half times `tombstone_ttl`. A restarted process has a new id and supersedes its predecessor at the address at
//!   once. Only a verdict that stands alone is withdrawn ([`Event::VerdictWithdrawn`]): when two members say that the
//!   condemned has written a later version since.
//! - A member is declared dead in four ways: after a suspicion that it had time to refute; because its host refused
//!   connections of two members; because another process runs at its address; or by the decision of the winners of a
//!   partition ([`Input::Down`]). A failed send kills nobody. A node that was stalled gives the others the time that it
//!   missed. From others a death is believed when this node does not reach the member itself, or when two say it.
//! - A dead member is only sent, when it speaks and now and then, that it is dead, and stops when it hears so of two,
//!   or of the only one who could say it ([`Event::Evicted`]), in messages or by handshakes that refuse it. Two sides
//!   of a partition that hold each other for dead believe nothing of each other until both have forgotten, and then
//!   merge. Which side should go on serving in between is decided by [`downing`](crate::downing).
//! - A member that lies cannot make another one leave, change or die, as long as the others reach that one, nor alone
//!   have others believe in members that do not exist; a newcomer that it lets in believes what it is told, and tells
//!   that to nobody. It can have another one suspected or called dead, which that one refutes. Two that lie can kill.
//! - A node declares nobody dead for silence while it hears nobody itself, nor while so many are suspected at once that
//!   the network is likelier to be the cause.
//!
//! # The way of a member
//! ```text
//!                      ping of a member            Input::Leave            drained, or time is up
//!   Start ──> Joining ─────────────────────> Up ──────────────> Leaving ─────────────────────────> Removed
//!                │                           │  ^                  │                                  ^
//!                └───────────┬───────────────┘  │ refuted          │                                  │
//!                            │ nobody reaches it│ (incarnation+1)  │                                  │
//!                            v                  │                  │                quarantine is over │
//!                         Suspect <─────────────┴──────────────────┘                                  │
//!                            │ suspicion timeout                                                      │
//!                            └──────────────────────────────────> Dead ───────────────────────────────┘
//!   Dead ──> Up, or what it was: a verdict that stood alone is withdrawn
//! ```
//! A joiner asks all seeds. Who accepts registers it as joining and pings it at once; the ping proves that members
//! reach it, and the joiner writes itself up. So a join takes one round trip.
//!
//! # Source
//! SWIM (Das, Gupta, Motivala, DSN 2002), sections 3 and 4: round-robin probes, suspicion, piggybacked updates. Section
//! 3.1 for indirect probes. Lifeguard (Dadgar, Phillips, Currey, arXiv 1707.00788): local health, suspicions that
//! confirmations shorten, and suspects that are told. hashicorp/memberlist for the scaling of timeouts and
//! retransmissions, and for full exchanges. Deviations: refused connections are evidence, and the word of two kills;
//! some of those who hear of a suspicion check it at once; no record refutes a death, because an id lives as long as
//! its process, and what two members have believed is no error of one; the word of one member about the life or death
//! of a third is checked; the stage of a member is ordered before its incarnation; full exchanges happen when digests
//! differ instead of periodically; news is not sent to one who has shown the same table, and a suspect whom enough
//! accuse is probed without the help of others.
//!
//! # Which file answers what
//! | question | file |
//! | --- | --- |
//! | what is known of a member, and how two such pieces of knowledge become one | `record` |
//! | which members are known, and do two tables differ | `table` |
//! | in which records they differ | `comparison` |
//! | what follows when this node has learned something, and what it writes of itself | `knowledge` |
//! | how to get in; how to let others in; how to go | `join`, `admission`, `leave` |
//! | how to come back when no side of a partition has survived | `returning` |
//! | whom to probe next, and which probes wait for an answer | `failure_detector` |
//! | what follows from a probe, a suspicion, a death, and when a member is forgotten | `verdict` |
//! | how long a suspicion lasts | `suspicion` |
//! | what a refused connection says, and who has seen one | `connection`, `refusals` |
//! | how far this node trusts its own probes | `health` |
//! | when there are too many suspicions to be believed | `breaker` |
//! | when others are believed about the life and death of a third member | `hearsay` |
//! | when others are believed about anything else | `doubt` |
//! | what a node has from the answer alone that let it in | `inheritance` |
//! | how many members have said the same | `voices` |
//! | how a message is answered, and to whom gossip goes | `exchange` |
//! | which news goes into the next message | `dissemination` |
//! | what is due when | `agenda` |
//! | why a member was suspected; what has happened; what was counted | `explanation`, `event`, `stats` |
//! | what goes in and out; how it crosses the wire; the numbers | `message`, `wire`, `config` |
//!
//! # How it is driven
//! ```
//! use gristmill_core::membership::{Config, Effect, Event, Input, Membership};
//! use gristmill_core::{Member, Outbox, Timestamp};
//! use gristmill_messages::MemberId;
//!
//! let me = Member::new(MemberId::new(1), "10.0.0.1:4000", ["cart".into()]);
//! let mut membership = Membership::new(Config::lan(), me, 7);
//! let mut out = Outbox::new();
//! membership.handle(Timestamp::ZERO, Input::Start { seeds: vec![] }, &mut out);
//! assert!(out.drain_events().any(|event| event == Event::Joined));
//! assert!(out.drain_effects().all(|effect| matches!(effect, Effect::SetTimer { .. })));
//! assert_eq!(membership.active().len(), 1);
//! ```

mod admission;
mod agenda;
mod breaker;
mod comparison;
mod config;
mod connection;
mod dissemination;
mod doubt;
mod event;
mod exchange;
mod explanation;
mod failure_detector;
mod health;
mod hearsay;
mod inheritance;
mod join;
mod knowledge;
mod leave;
mod message;
mod record;
mod refusals;
mod returning;
mod stats;
mod suspicion;
mod table;
#[cfg(test)]
mod tests;
mod verdict;
mod voices;
mod wire;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::{Incarnation, MemberId};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

pub use agenda::TimerEpoch;
pub use comparison::Buckets;
pub use config::{Config, ConfigError};
pub use event::{Event, JoinError, Quarantine, QuarantineReason, Refusal, SeedFailure};
pub use explanation::{Accusation, Evidence, Explanation, SuspicionOutcome};
pub use failure_detector::ProbeSequence;
pub use message::{ContactFailure, Effect, Input, JoinAnswer, Message, PingOutcome};
pub use record::{Claim, Record, Stage, Verdict};
pub use stats::Stats;
pub use table::TableDigest;
pub use wire::{WireError, WireMessage};

use crate::{Member, MemberStatus, Timestamp};
use agenda::Agenda;
use breaker::Breaker;
use comparison::Comparisons;
use dissemination::Dissemination;
use doubt::{Climb, Reports};
use explanation::Chronicle;
use failure_detector::FailureDetector;
use health::Health;
use hearsay::Hearsay;
use inheritance::Inheritance;
use join::{Contacts, Joining};
use refusals::Refusals;
use returning::Returning;
use suspicion::Suspicion;
use table::Table;

type Outbox = crate::Outbox<Effect, Event>;

/// Where this node is in its own life. A machine lives once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Before the start.
    Idle,
    /// Asks the seeds.
    Joining,
    /// Takes part.
    Up,
    /// Drains, or spreads the word that it is gone.
    Leaving,
    /// Left, evicted, or never joined.
    Stopped,
}

/// What is due at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    ProbeTimeout(ProbeSequence),
    ProbeEnd(ProbeSequence),
    RelayTimeout(ProbeSequence),
    Suspicion(MemberId),
    /// The next step of forgetting a member.
    Expire(MemberId),
    Probe,
    Gossip,
    JoinRetry,
    JoinDeadline,
    Form,
    Contact,
    DrainDeadline,
    Linger,
}

/// The membership as one node sees it. See the [module](self).
#[derive(Debug)]
pub struct Membership {
    config: Config,
    phase: Phase,
    table: Table,
    joining: Joining,
    contacts: Contacts,
    detector: FailureDetector,
    health: Health,
    /// Those that run: one for each suspect.
    suspicions: BTreeMap<MemberId, Suspicion>,
    refusals: Refusals,
    breaker: Breaker,
    isolated: bool,
    /// When this node last found that it had not run for as long as a suspicion lasts.
    stood_still: Option<Timestamp>,
    /// When a message of anybody arrived.
    last_heard: Timestamp,
    /// Departures that are known from others alone.
    hearsay: Hearsay,
    inheritance: Inheritance,
    /// When this node last wrote a version far above its own.
    climb: Climb,
    reports: Reports,
    chronicle: Chronicle,
    stats: Stats,
    news: Dissemination,
    comparisons: Comparisons,
    /// The digest of this table when another one was last the same.
    agreed: Option<TableDigest>,
    agenda: Agenda<Task>,
    rng: Xoshiro256PlusPlus,
    restrained: bool,
}

impl Membership {
    /// A node that has not started. `config` is one that [`Config::validate`] accepts; `me.id` is new for each process
    /// and each machine; `seed` is random and decides the order of probes and the targets of gossip.
    #[must_use]
    pub fn new(config: Config, me: Member, seed: u64) -> Self {
        debug_assert_eq!(config.validate(), Ok(()));
        let me = Record::new(me, Incarnation::default(), Stage::Joining);
        Self {
            phase: Phase::Idle,
            table: Table::new(me, config.max_members),
            joining: Joining::default(),
            contacts: Contacts::default(),
            detector: FailureDetector::default(),
            health: Health::default(),
            suspicions: BTreeMap::new(),
            refusals: Refusals::default(),
            breaker: Breaker::default(),
            isolated: false,
            stood_still: None,
            last_heard: Timestamp::ZERO,
            hearsay: Hearsay::default(),
            inheritance: Inheritance::default(),
            climb: Climb::default(),
            reports: Reports::default(),
            chronicle: Chronicle::default(),
            stats: Stats::default(),
            news: Dissemination::default(),
            comparisons: Comparisons::default(),
            agreed: None,
            agenda: Agenda::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            restrained: false,
            config,
        }
    }

    /// Decides what follows from one input.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Outbox) {
        match self.phase {
            Phase::Idle | Phase::Stopped => self.handle_outside(now, input, out),
            Phase::Joining | Phase::Up | Phase::Leaving => self.handle_inside(now, input, out),
        }
        if !self.news.is_empty() && self.agenda.deadline(Task::Gossip).is_none() {
            self.agenda.schedule(Task::Gossip, now + self.config.gossip_interval);
        }
        if let Some((epoch, after)) = self.agenda.arm(now) {
            out.effect(Effect::SetTimer { epoch, after });
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// All that is known, this node's own record first, dead and removed members included.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.table.records().map(|record| &**record)
    }

    /// The status of one member, if it is known.
    #[must_use]
    pub fn status(&self, member: MemberId) -> Option<MemberStatus> {
        self.table.get(member).map(|record| record.status())
    }

    /// The members that own keys, by id: those that are up, suspected ones included.
    #[must_use]
    pub fn active(&self) -> Vec<Member> {
        self.members(Record::is_active)
    }

    /// The dead members that are still in quarantine, by id.
    #[must_use]
    pub fn dead(&self) -> Vec<Member> {
        self.table.dead().map(|(record, _)| record.member().clone()).collect()
    }

    /// The quarantine list.
    #[must_use]
    pub fn blocked(&self) -> Vec<Quarantine> {
        let quarantine = |(record, reason): (&Arc<Record>, QuarantineReason)| {
            let until = self.agenda.deadline(Task::Expire(record.id()))?;
            Some(Quarantine { member: record.member().clone(), reason, until })
        };
        self.table.dead().filter_map(quarantine).collect()
    }

    /// Why this member is or was suspected, if it was lately.
    #[must_use]
    pub fn explain(&self, member: MemberId) -> Option<&Explanation> {
        self.chronicle.get(member)
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { health: self.health.score(), suspects: self.suspicions.len(), ..self.stats }
    }

    /// Whether no suspicion becomes death by this node for now: [`Event::EvictionsHalted`].
    #[must_use]
    pub const fn are_evictions_halted(&self) -> bool {
        self.breaker.is_halted()
    }

    /// Whether this node hears nobody: [`Event::Isolated`].
    #[must_use]
    pub const fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Why a member was declared dead, as long as it is remembered.
    #[must_use]
    pub fn reason(&self, member: MemberId) -> Option<QuarantineReason> {
        self.table.reason(member)
    }

    /// This node's own record.
    #[must_use]
    pub fn me(&self) -> &Record {
        self.table.me()
    }

    /// The digest of the table: equal on all nodes when they agree.
    #[must_use]
    pub const fn digest(&self) -> TableDigest {
        self.table.digest()
    }

    /// Where this node is in its own life.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether this node has asked `by` to ping the member, and waits for what it has to say.
    #[must_use]
    pub fn awaits_report(&self, by: MemberId, sequence: ProbeSequence, member: MemberId) -> bool {
        self.detector.awaits(sequence, member, by)
    }

    /// Drops all news, as if everyone had heard it, and takes what this node was told for what all have said: for a
    /// simulation that begins in the middle of a cluster's life.
    pub fn assume_told(&mut self) {
        self.news = Dissemination::default();
        self.inheritance = Inheritance::default();
    }

    /// Panics when the state contradicts itself; `handle` calls it in debug builds.
    #[allow(clippy::missing_panics_doc)] // the summary says it
    pub fn check_invariants(&self) {
        self.table.check_invariants();
        let stage_fits = match self.phase {
            Phase::Idle | Phase::Joining => self.me().stage() == Stage::Joining,
            Phase::Up => self.me().stage() == Stage::Up,
            Phase::Leaving => self.me().stage() >= Stage::Leaving,
            Phase::Stopped => self.news.is_empty() && self.agenda.tasks().next().is_none(),
        };
        assert!(stage_fits, "{:?} does not fit {:?}", self.me(), self.phase);
        if self.phase == Phase::Stopped {
            return;
        }
        assert_eq!(self.me().claim(), None, "a running node has refuted every claim");
        for record in self.table.others() {
            let suspected = self.agenda.deadline(Task::Suspicion(record.id())).is_some();
            assert_eq!(suspected, record.status() == MemberStatus::Suspect, "every suspicion ends: {record:?}");
            assert_eq!(suspected, self.suspicions.contains_key(&record.id()), "and is one: {record:?}");
            let expires = self.agenda.deadline(Task::Expire(record.id())).is_some();
            assert_eq!(expires, record.is_terminal(), "every end is forgotten: {record:?}");
        }
        let remembered = |id| self.agenda.deadline(Task::Expire(id)).is_some() && self.table.get(id).is_none();
        assert!(self.table.lapsed().all(remembered), "what has lapsed is forgotten");
        let is_living = |id| self.table.get(id).is_some_and(|record| !record.is_terminal());
        assert!(self.detector.watched().all(is_living), "only the living are probed");
        assert!(self.news.members().all(|id| self.table.get(id).is_some()), "news is of known members");
        assert!(self.refusals.members().all(is_living), "only the living are refused");
        assert!(self.hearsay.departing().all(is_living), "only the living are said to depart");
        assert!(self.hearsay.newcomers().all(|id| self.table.get(id).is_none()), "newcomers are not known yet");
        assert!(self.hearsay.accused().all(is_living), "only the living are said to be dead");
        let is_missed = |id| self.table.reason(id).is_some() || self.suspicions.contains_key(&id);
        assert!(self.hearsay.missed().all(is_missed), "only the dead and suspects are said to live");
        assert!(self.inheritance.members().all(|id| self.table.get(id).is_some()), "only the known are inherited");
        let due = |task| self.agenda.deadline(task).is_some();
        let timed = |sequence| due(Task::ProbeTimeout(sequence)) || due(Task::ProbeEnd(sequence));
        assert!(self.detector.waiting().all(timed), "every probe ends");
        assert!(self.detector.relaying().all(|sequence| due(Task::RelayTimeout(sequence))), "for others too");
    }

    /// Before the start and after the end.
    fn handle_outside(&mut self, now: Timestamp, input: Input, out: &mut Outbox) {
        match input {
            Input::Start { seeds } if self.phase == Phase::Idle => self.start(now, seeds, out),
            Input::Return { through, was, settled, enough } if self.phase == Phase::Idle => {
                self.come_back(now, through, Returning::new(now, was, settled, enough), out);
            }
            // A timer may be on its way when the machine stops.
            Input::Timer(_) => {}
            other => {
                out.event(Event::NotStarted { input: other.name() });
                if let Input::JoinRequested { request, .. } = other {
                    let idle = self.phase == Phase::Idle;
                    let answer = if idle { JoinAnswer::NotReady } else { JoinAnswer::ShuttingDown };
                    out.effect(Effect::AnswerJoin { request, answer });
                }
            }
        }
    }

    fn handle_inside(&mut self, now: Timestamp, input: Input, out: &mut Outbox) {
        match input {
            Input::Start { .. } | Input::Return { .. } => out.event(Event::AlreadyStarted),
            Input::Discovered { addresses } => self.discovered(now, addresses, out),
            Input::JoinAnswered { address, answer } => self.join_answered(now, &address, answer, out),
            Input::JoinFailed { address, failure } => self.join_failed(now, &address, failure, out),
            Input::JoinRequested { request, joiner } => self.join_requested(now, request, &joiner, out),
            Input::Received { from, message } => self.received(now, from, message, out),
            Input::Unreachable { member } => self.detector.hasten(member),
            Input::Refused { member } => self.refused(now, member, out),
            Input::Lag { by } => self.lagged(now, by),
            Input::Superseded { old, by } => self.met_another(now, old, by, out),
            Input::Blocked { by } => self.blocked_by(now, by, out),
            Input::Down { member } => self.down(now, member, out),
            Input::Poll { members } => self.poll(&members, out),
            Input::Check { members } => self.check(now, &members, out),
            Input::Restrain(restrained) => self.restrained = restrained,
            Input::Timer(epoch) => self.timer(now, epoch, out),
            Input::Leave => self.leave(now, out),
            Input::Drained => self.drained(now, out),
        }
    }

    fn timer(&mut self, now: Timestamp, epoch: TimerEpoch, out: &mut Outbox) {
        if !self.agenda.fired(epoch) {
            return;
        }
        // So late a timer means that this process stood still, and answers may wait unread in its queues: nobody is
        // judged by time that this node did not live through.
        let late = self.agenda.lateness(now);
        if late >= self.config.probe_timeout {
            self.lagged(now, late);
            self.give_time(late + self.config.probe_timeout);
        }
        while let Some(task) = self.agenda.pop_due(now) {
            match task {
                Task::ProbeTimeout(sequence) => self.probe_timed_out(now, sequence, out),
                Task::ProbeEnd(sequence) => self.probe_failed(now, sequence, out),
                Task::RelayTimeout(sequence) => self.relay_timed_out(sequence, out),
                Task::Suspicion(member) => self.suspicion_expired(now, member, out),
                Task::Expire(member) => self.expire(now, member, out),
                Task::Probe => self.probe(now, out),
                Task::Gossip => self.gossip(out),
                Task::JoinRetry => self.retry_join(now, out),
                Task::JoinDeadline => self.join_deadline(now, out),
                Task::Form => self.form_due(now, out),
                Task::Contact => self.contact_due(now, out),
                Task::DrainDeadline => self.drained(now, out),
                Task::Linger => self.left(out),
            }
        }
    }

    /// This node did not run when it should have.
    fn lagged(&mut self, now: Timestamp, by: Duration) {
        if by >= self.config.suspicion_timeout(self.table.size()) {
            self.stood_still = Some(now);
        }
        if by >= self.config.probe_timeout / 2 {
            let timeouts = by.as_nanos() / self.config.probe_timeout.as_nanos().max(1);
            self.health.worsen(u32::try_from(timeouts).unwrap_or(u32::MAX).saturating_add(1));
        }
    }

    /// Everything that others have to do in time may take so much longer.
    fn give_time(&mut self, grace: Duration) {
        let waits = |task: &Task| {
            matches!(task, Task::ProbeTimeout(_) | Task::ProbeEnd(_) | Task::RelayTimeout(_) | Task::Suspicion(_))
                || matches!(task, Task::JoinDeadline | Task::Form)
        };
        self.agenda.postpone(grace, waits);
        for suspicion in self.suspicions.values_mut() {
            suspicion.started = suspicion.started + grace;
        }
        self.last_heard = self.last_heard + grace;
    }

    fn members(&self, chosen: impl Fn(&Record) -> bool) -> Vec<Member> {
        let mut members: Vec<_> =
            self.records().filter(|record| chosen(record)).map(|record| record.member().clone()).collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }

    fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.agenda.clear();
        self.suspicions.clear();
        self.hearsay = Hearsay::default();
        self.inheritance = Inheritance::default();
        self.news = Dissemination::default();
    }
}
