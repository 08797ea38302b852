//! This node's activations: one slot for an identity, at most one activation in it at a time.
//!
//! Guarantees, on this node: an identity never has two activations alive at once, whatever happens in which order; an
//! entry leaves the table only after its grain has ended (the one exception is the end of a [shutdown](Input::ShutDown)
//! whose time is up); requests for one identity that meet while it activates share the one activation; every request
//! is answered exactly once or was [withdrawn](Input::Withdrawn); nothing is activated that this node does not own in
//! its view. Not guaranteed here: that no other node runs the identity, which takes a handover or a lease between
//! nodes.
//!
//! ```text
//!             Requested, owned            Activated
//!   (empty) ───────────────> Activating ───────────> Active
//!      ^ ^                    │   │                    │ │
//!      │ │  ActivationFailed, │   │ Deactivate, topology change, timeout
//!      │ └────── Ended ───────┘   v                    v │
//!      │                       Draining <──────────────┘ │ Ended (panicked, stopped itself)
//!      │ Ended, none waits        │  │                   │
//!      ├──────────────────────────┘  │ Ended, some wait  │
//!      ├─────────────────────────────┼───────────────────┘
//!      │                             └──> Activating, a new activation with a greater epoch
//! ```
//!
//! An epoch is the topology's version and the number of the activation, so that a later activation of an identity on
//! this node is always greater.
//!
//! Memory: 90 bytes of table for each bucket (a slot of 72, an index of 16, and a control byte for each); the tables
//! are 44 to 88 % full, so 105 to 210 bytes for a live activation, and one shared `Arc<ClusterIdentity>`, which the
//! grain's cell holds too. Both hash functions are fixed: the table is as deterministic as its inputs.
//!
//! Sources: protoactor-go `cluster/identitylookup/disthash/placement_actor.go`, which checks no ownership, does not
//! wait for the end of a grain, and dies of an unknown `Terminated`; Orleans' activation directory for single flight.
//!
//! The directory of a node drives it: it spawns, drains and stops grains as told, and reports how that went.
//!
//! ```
//! use std::sync::Arc;
//! use gristmill_core::placement::activations::{Activations, Config, Effect, Input};
//! use gristmill_core::placement::Rendezvous;
//! use gristmill_core::topology::Topology;
//! use gristmill_core::{KindName, Member, Outbox, RequestId, Timestamp};
//! use gristmill_messages::{ClusterIdentity, MemberId, TopologyVersion};
//!
//! let me = Member::new(MemberId::new(1), "127.0.0.1:7701", [KindName::from("greeter")]);
//! let mut activations = Activations::new(Config::lan(), me.id);
//! let (now, mut out) = (Timestamp::ZERO, Outbox::new());
//! let topology = Topology::new(TopologyVersion::new(1), vec![me], vec![]);
//! let rendezvous = Arc::new(Rendezvous::new(Arc::new(topology)));
//! activations.handle(now, Input::TopologyChanged { rendezvous }, &mut out);
//! let identity = ClusterIdentity::new("greeter", "alice");
//! activations.handle(now, Input::Requested { request: RequestId::new(1), identity: Arc::new(identity) }, &mut out);
//! assert!(matches!(out.drain_effects().next(), Some(Effect::Spawn { .. })));
//! ```

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MemberId};

use super::{DeactivationReason, Placed, Refusal, Rendezvous};
use crate::alarm::{Alarm, SetTimer, TimerEpoch};
use crate::{KindName, Outbox, RequestId, Timestamp};

mod config;
mod table;

pub use config::{Config, InvalidConfig};

use table::{Slot, State, Table};

/// What the table is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The topology changed. Identities that this node no longer owns are drained, all others are left alone.
    /// A topology that is not newer than the current one changes nothing.
    TopologyChanged {
        /// The owners in it.
        rendezvous: Arc<Rendezvous>,
    },
    /// Somebody, here or on another node, wants the identity's activation.
    Requested {
        /// Whom to answer.
        request: RequestId,
        /// Of what.
        identity: Arc<ClusterIdentity>,
    },
    /// A requester no longer waits: it is not answered. What it started goes on.
    Withdrawn {
        /// Who waited.
        request: RequestId,
        /// For what.
        identity: ClusterIdentity,
    },
    /// A spawned grain has activated.
    Activated {
        /// Which.
        activation: ActivationId,
    },
    /// A spawned grain could not activate and is gone; no `Ended` follows.
    ActivationFailed {
        /// Which.
        activation: ActivationId,
        /// Why, for those who wait.
        failure: String,
    },
    /// A grain is gone, with everything of it.
    Ended {
        /// Which.
        activation: ActivationId,
        /// Why.
        reason: DeactivationReason,
    },
    /// Somebody wants an activation to end: it was idle long enough, or a user asked for it.
    Deactivate {
        /// Which.
        activation: ActivationId,
        /// Why.
        reason: DeactivationReason,
    },
    /// The node leaves: refuse requests, drain everything, and give up what is left after `grace`.
    ShutDown {
        /// How long the grains have.
        grace: Duration,
    },
    /// The node must not serve any more, from now on: refuse requests, and stop everything.
    Halt,
    /// A timer of [`Effect::SetTimer`] fired; ignored unless it is the latest.
    TimerFired(TimerEpoch),
}

/// What its driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start a grain; report `Activated`, `ActivationFailed` or `Ended`.
    Spawn {
        /// Its name.
        activation: ActivationId,
        /// What it is.
        identity: Arc<ClusterIdentity>,
        /// Its order among the activations of the identity.
        epoch: ActivationEpoch,
    },
    /// Answer a request, exactly once.
    Answer {
        /// Which.
        request: RequestId,
        /// With what.
        answer: Result<Placed, Refusal>,
    },
    /// Let the grain finish or answer what it has and end; report `Ended`.
    Drain {
        /// Which.
        activation: ActivationId,
        /// Why.
        reason: DeactivationReason,
    },
    /// End the grain now, whatever it has not finished; report `Ended`.
    Stop {
        /// Which.
        activation: ActivationId,
    },
    /// Tell every member that this activation is no more, so that no cache keeps it.
    Announce {
        /// Which.
        activation: ActivationId,
        /// Its order among the activations of the identity.
        epoch: ActivationEpoch,
        /// What it was.
        identity: Arc<ClusterIdentity>,
        /// Why it ended.
        reason: DeactivationReason,
    },
    /// Give back `Input::TimerFired` after a time; the timer before it is void.
    SetTimer(SetTimer),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A grain activated.
    Started {
        /// What it is.
        identity: Arc<ClusterIdentity>,
        /// Its name.
        activation: ActivationId,
        /// Its order among the activations of the identity.
        epoch: ActivationEpoch,
    },
    /// A grain could not activate, or was ended before it had.
    NotStarted {
        /// What it would have been.
        identity: Arc<ClusterIdentity>,
        /// Its name.
        activation: ActivationId,
        /// Why.
        failure: String,
    },
    /// A grain that had started ended.
    Terminated {
        /// What it was.
        identity: Arc<ClusterIdentity>,
        /// Its name.
        activation: ActivationId,
        /// Its order among the activations of the identity.
        epoch: ActivationEpoch,
        /// Why.
        reason: DeactivationReason,
    },
    /// After a shutdown nothing is left.
    Drained {
        /// How many activations had not ended when the time was up and were given up.
        abandoned: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No topology yet.
    Idle,
    Serving,
    /// What has not ended was told to stop.
    Halted,
    ShuttingDown {
        deadline: Timestamp,
    },
    Stopped,
}

/// The table. See the [module](self).
#[derive(Debug)]
pub struct Activations {
    config: Config,
    me: MemberId,
    phase: Phase,
    rendezvous: Arc<Rendezvous>,
    table: Table,
    next: NonZeroU64,
    /// Activations in flight by deadline; those that have arrived since stay in until they reach the front.
    activating: VecDeque<(Timestamp, ActivationId)>,
    /// The same for drains.
    draining: VecDeque<(Timestamp, ActivationId)>,
    alarm: Alarm,
    ignored: u64,
}

type Out = Outbox<Effect, Event>;

impl Activations {
    /// The empty table of one node, which refuses everything until its first topology.
    #[must_use]
    pub fn new(config: Config, me: MemberId) -> Self {
        Self {
            config,
            me,
            phase: Phase::Idle,
            rendezvous: Arc::default(),
            table: Table::default(),
            next: NonZeroU64::MIN,
            activating: VecDeque::new(),
            draining: VecDeque::new(),
            alarm: Alarm::new(),
            ignored: 0,
        }
    }

    /// Takes one input and leaves in `out` what follows from it.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Out) {
        match input {
            Input::TopologyChanged { rendezvous } => self.change_topology(now, rendezvous, out),
            Input::Requested { request, identity } => self.request(now, request, identity, out),
            Input::Withdrawn { request, identity } => self.withdraw(request, &identity),
            Input::Activated { activation } => self.activated(activation, out),
            Input::ActivationFailed { activation, failure } => self.failed(now, activation, failure, out),
            Input::Ended { activation, reason } => self.ended(now, activation, reason, out),
            Input::Deactivate { activation, reason } => self.deactivate(now, activation, reason, out),
            Input::ShutDown { grace } => self.shut_down(now, grace, out),
            Input::Halt => self.halt(out),
            Input::TimerFired(epoch) => {
                if self.alarm.fired(epoch) {
                    self.wake(now, out);
                }
            }
        }
        let deadline = self.next_deadline();
        if let Some(timer) = self.alarm.wake_at(now, deadline) {
            out.effect(Effect::SetTimer(timer));
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// The activation of an identity that may be called now.
    #[must_use]
    pub fn active(&self, identity: &ClusterIdentity) -> Option<Placed> {
        let slot = self.table.of_identity(identity.stable_hash(), identity)?;
        matches!(slot.state, State::Active).then(|| slot.placed())
    }

    /// How many identities have a slot: activating, active or draining.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no identity has a slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// How many grains of each kind have started and not ended. Kinds that never had one are absent.
    pub fn started(&self) -> impl Iterator<Item = (&KindName, usize)> {
        self.table.started()
    }

    /// How many reports named an activation that this table does not hold, or that contradicted its state.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn change_topology(&mut self, now: Timestamp, rendezvous: Arc<Rendezvous>, out: &mut Out) {
        if rendezvous.topology().version() <= self.rendezvous.topology().version() {
            self.ignored += 1;
            return;
        }
        let before = core::mem::replace(&mut self.rendezvous, rendezvous);
        match self.phase {
            Phase::Idle => self.phase = Phase::Serving,
            Phase::Serving => {}
            // Everything drains already, or stops.
            Phase::Halted | Phase::ShuttingDown { .. } | Phase::Stopped => return,
        }
        for activation in self.table.lost(&before, &self.rendezvous, self.me) {
            self.drain(now, activation, DeactivationReason::OwnershipMoved, out);
        }
    }

    fn request(&mut self, now: Timestamp, request: RequestId, identity: Arc<ClusterIdentity>, out: &mut Out) {
        let refusal = match self.phase {
            Phase::Idle => Some(Refusal::NotStarted),
            Phase::Halted | Phase::ShuttingDown { .. } | Phase::Stopped => Some(Refusal::ShuttingDown),
            Phase::Serving => None,
        };
        let hash = identity.stable_hash();
        let answer = match refusal {
            Some(refusal) => Err(refusal),
            None => match self.table.of_identity_mut(hash, &identity) {
                None => match self.admit(&identity, hash) {
                    Ok(()) => return self.spawn(now, hash, identity, [request].into(), out),
                    Err(refusal) => Err(refusal),
                },
                Some(slot) => match &mut slot.state {
                    State::Active => Ok(slot.placed()),
                    State::Draining { .. } if !owns(&self.rendezvous, self.me, &slot.identity.kind, hash) => {
                        Err(not_owned(&self.rendezvous, &slot.identity.kind, hash))
                    }
                    State::Activating { waiters } | State::Draining { waiters, .. } => {
                        if waiters.len() < self.config.max_waiters {
                            waiters.push(request);
                            return;
                        }
                        Err(Refusal::Overloaded)
                    }
                },
            },
        };
        out.effect(Effect::Answer { request, answer });
    }

    /// Whether a new activation of the identity may start here.
    fn admit(&self, identity: &ClusterIdentity, hash: u64) -> Result<(), Refusal> {
        if !owns(&self.rendezvous, self.me, &identity.kind, hash) {
            Err(not_owned(&self.rendezvous, &identity.kind, hash))
        } else if let Err(invalid) = identity.validate() {
            Err(Refusal::Failed(alloc::format!("invalid identity: {invalid}")))
        } else if self.table.len() >= self.config.max_activations {
            Err(Refusal::Overloaded)
        } else {
            Ok(())
        }
    }

    fn spawn(
        &mut self,
        now: Timestamp,
        hash: u64,
        identity: Arc<ClusterIdentity>,
        waiters: Vec<RequestId>,
        out: &mut Out,
    ) {
        let activation = ActivationId::new(self.next);
        self.next = self.next.saturating_add(1);
        let topology = self.rendezvous.topology().version();
        let slot = self.table.insert(hash, activation, Arc::clone(&identity), topology, State::Activating { waiters });
        let epoch = slot.placed().epoch;
        self.activating.push_back((now + self.config.activation_timeout, activation));
        out.effect(Effect::Spawn { activation, identity, epoch });
    }

    fn withdraw(&mut self, request: RequestId, identity: &ClusterIdentity) {
        let slot = self.table.of_identity_mut(identity.stable_hash(), identity);
        if let Some(State::Activating { waiters } | State::Draining { waiters, .. }) = slot.map(|slot| &mut slot.state)
        {
            waiters.retain(|waiter| *waiter != request);
        }
    }

    fn activated(&mut self, activation: ActivationId, out: &mut Out) {
        let Some(slot) = self.table.of_activation_mut(activation) else {
            self.ignored += 1;
            return;
        };
        match core::mem::replace(&mut slot.state, State::Active) {
            State::Activating { waiters } => {
                let (placed, identity, kind) = (slot.placed(), Arc::clone(&slot.identity), slot.kind);
                self.table.count_started(kind);
                answer(waiters, &Ok(placed), out);
                out.event(Event::Started { identity, activation, epoch: placed.epoch });
            }
            // It was told to drain before it had activated: it will end without having served anyone.
            draining @ State::Draining { .. } => slot.state = draining,
            State::Active => self.ignored += 1,
        }
    }

    fn failed(&mut self, now: Timestamp, activation: ActivationId, failure: String, out: &mut Out) {
        match self.table.of_activation_mut(activation).map(|slot| slot.state.has_started()) {
            Some(false) => self.remove(now, activation, End::Failed(failure), out),
            Some(true) | None => self.ignored += 1,
        }
    }

    fn ended(&mut self, now: Timestamp, activation: ActivationId, reason: DeactivationReason, out: &mut Out) {
        if self.table.of_activation_mut(activation).is_some() {
            self.remove(now, activation, End::Ended(reason), out);
        } else {
            self.ignored += 1;
        }
    }

    /// Takes a grain that is gone out of the table and starts the next when some wait for it.
    fn remove(&mut self, now: Timestamp, activation: ActivationId, end: End, out: &mut Out) {
        let Some(slot) = self.table.remove(activation) else { return };
        let waiters = bury(slot, end, out);
        if let Some((hash, identity, waiters)) = waiters {
            self.spawn(now, hash, identity, waiters, out);
        }
        self.finish(0, out);
    }

    fn deactivate(&mut self, now: Timestamp, activation: ActivationId, reason: DeactivationReason, out: &mut Out) {
        if self.table.of_activation_mut(activation).is_some() {
            self.drain(now, activation, reason, out);
        } else {
            self.ignored += 1;
        }
    }

    /// Starts to drain, unless it drains already.
    fn drain(&mut self, now: Timestamp, activation: ActivationId, reason: DeactivationReason, out: &mut Out) {
        if self.retire(activation, reason, out) {
            self.draining.push_back((now + self.config.drain_timeout, activation));
            out.effect(Effect::Drain { activation, reason });
        }
    }

    /// It serves nobody new; says whether it did until now. Who waits behind it is answered when this node may not
    /// start the next.
    fn retire(&mut self, activation: ActivationId, reason: DeactivationReason, out: &mut Out) -> bool {
        let Some(slot) = self.table.of_activation_mut(activation) else { return false };
        let refusal = match reason {
            DeactivationReason::OwnershipMoved => Some(not_owned(&self.rendezvous, &slot.identity.kind, slot.hash)),
            DeactivationReason::ShuttingDown => Some(Refusal::ShuttingDown),
            _ => None,
        };
        let started = match &mut slot.state {
            State::Draining { waiters, .. } => {
                if let Some(refusal) = refusal {
                    answer(core::mem::take(waiters), &Err(refusal), out);
                }
                return false;
            }
            State::Activating { waiters } => {
                let ended = || Refusal::Failed(alloc::format!("it was ended while it activated: {reason}"));
                answer(core::mem::take(waiters), &Err(refusal.unwrap_or_else(ended)), out);
                false
            }
            State::Active => true,
        };
        slot.state = State::Draining { waiters: Vec::new(), started };
        true
    }

    fn halt(&mut self, out: &mut Out) {
        if matches!(self.phase, Phase::Idle | Phase::Serving) {
            self.phase = Phase::Halted;
        }
        for activation in self.table.activations() {
            self.retire(activation, DeactivationReason::ShuttingDown, out);
            out.effect(Effect::Stop { activation });
        }
    }

    fn shut_down(&mut self, now: Timestamp, grace: Duration, out: &mut Out) {
        if matches!(self.phase, Phase::ShuttingDown { .. } | Phase::Stopped) {
            return;
        }
        self.phase = Phase::ShuttingDown { deadline: now + grace };
        for activation in self.table.activations() {
            self.drain(now, activation, DeactivationReason::ShuttingDown, out);
        }
        self.finish(0, out);
    }

    fn finish(&mut self, abandoned: usize, out: &mut Out) {
        if matches!(self.phase, Phase::ShuttingDown { .. }) && self.is_empty() {
            self.phase = Phase::Stopped;
            self.activating.clear();
            self.draining.clear();
            out.event(Event::Drained { abandoned });
        }
    }

    fn wake(&mut self, now: Timestamp, out: &mut Out) {
        if let Phase::ShuttingDown { deadline } = self.phase
            && deadline <= now
        {
            return self.abandon(out);
        }
        while let Some((_, activation)) = self.activating.pop_front_if(|(deadline, _)| *deadline <= now) {
            let slot = self.table.of_activation_mut(activation);
            if slot.is_some_and(|slot| matches!(slot.state, State::Activating { .. })) {
                self.drain(now, activation, DeactivationReason::Unresponsive, out);
            }
        }
        while let Some((_, activation)) = self.draining.pop_front_if(|(deadline, _)| *deadline <= now) {
            if self.table.of_activation_mut(activation).is_some() {
                out.effect(Effect::Stop { activation });
            }
        }
    }

    /// The grace of a shutdown is over: what has not ended is stopped and no longer waited for.
    fn abandon(&mut self, out: &mut Out) {
        let left = self.table.activations();
        for activation in &left {
            out.effect(Effect::Stop { activation: *activation });
            if let Some(slot) = self.table.remove(*activation) {
                // Nobody waits: the shutdown has refused them.
                bury(slot, End::Ended(DeactivationReason::ShuttingDown), out);
            }
        }
        self.finish(left.len(), out);
    }

    fn next_deadline(&mut self) -> Option<Timestamp> {
        let table = &mut self.table;
        let mut is_activating = |activation: ActivationId| {
            let slot = table.of_activation_mut(activation);
            slot.is_some_and(|slot| matches!(slot.state, State::Activating { .. }))
        };
        while self.activating.pop_front_if(|(_, activation)| !is_activating(*activation)).is_some() {}
        while self
            .draining
            .pop_front_if(|(_, activation)| self.table.of_activation_mut(*activation).is_none())
            .is_some()
        {}
        let shutdown = match self.phase {
            Phase::ShuttingDown { deadline } => Some(deadline),
            Phase::Idle | Phase::Serving | Phase::Halted | Phase::Stopped => None,
        };
        let fronts = [self.activating.front(), self.draining.front()].into_iter().flatten().map(|(at, _)| *at);
        fronts.chain(shutdown).min()
    }

    /// Panics when the table contradicts itself; for tests and debug builds.
    pub fn check_invariants(&self) {
        self.table.check_invariants();
        for slot in self.table.iter() {
            let owned = owns(&self.rendezvous, self.me, &slot.identity.kind, slot.hash);
            match &slot.state {
                State::Activating { waiters } => assert!(waiters.len() <= self.config.max_waiters),
                State::Active => {}
                State::Draining { waiters, .. } => {
                    assert!(waiters.is_empty() || owned && self.phase == Phase::Serving, "waits for what cannot come");
                }
            }
            assert!(
                matches!(slot.state, State::Draining { .. }) || owned && self.phase == Phase::Serving,
                "{} runs and is not owned",
                slot.identity
            );
            assert!(slot.activation.get() < self.next.get(), "an activation that was never drawn");
        }
        assert!(self.phase != Phase::Stopped || self.is_empty());
        assert!(self.phase != Phase::Idle || self.is_empty());
    }
}

/// How a grain went.
enum End {
    Ended(DeactivationReason),
    /// Before it had started.
    Failed(String),
}

/// Says what a grain that is gone leaves: the answers, the events, and those who wait for the next of its identity.
fn bury(slot: Slot, end: End, out: &mut Out) -> Option<(u64, Arc<ClusterIdentity>, Vec<RequestId>)> {
    let Placed { activation, epoch } = slot.placed();
    let Slot { hash, identity, state, .. } = slot;
    match end {
        End::Ended(reason) if state.has_started() => {
            // Only a started grain ever stood in an answer, so only that one can be in a cache.
            out.effect(Effect::Announce { activation, epoch, identity: Arc::clone(&identity), reason });
            out.event(Event::Terminated { identity: Arc::clone(&identity), activation, epoch, reason });
            next_waiters(state).map(|waiters| (hash, identity, waiters))
        }
        end => {
            let failure = match end {
                End::Ended(reason) => alloc::format!("it ended before it was active: {reason}"),
                End::Failed(failure) => failure,
            };
            let next = match state {
                State::Activating { waiters } => {
                    answer(waiters, &Err(Refusal::Failed(failure.clone())), out);
                    None
                }
                state => next_waiters(state),
            };
            out.event(Event::NotStarted { identity: Arc::clone(&identity), activation, failure });
            next.map(|waiters| (hash, identity, waiters))
        }
    }
}

fn next_waiters(state: State) -> Option<Vec<RequestId>> {
    match state {
        State::Draining { waiters, .. } if !waiters.is_empty() => Some(waiters),
        State::Draining { .. } | State::Activating { .. } | State::Active => None,
    }
}

fn owns(rendezvous: &Rendezvous, me: MemberId, kind: &str, hash: u64) -> bool {
    rendezvous.owner_of_key(kind, hash).is_some_and(|owner| owner.id == me)
}

fn not_owned(rendezvous: &Rendezvous, kind: &str, hash: u64) -> Refusal {
    match rendezvous.owner_of_key(kind, hash) {
        None => Refusal::UnknownKind { kind: kind.into() },
        Some(owner) => Refusal::NotOwner { owner: Some(owner.clone()) },
    }
}

fn answer(waiters: Vec<RequestId>, answer: &Result<Placed, Refusal>, out: &mut Out) {
    for request in waiters {
        out.effect(Effect::Answer { request, answer: answer.clone() });
    }
}

#[cfg(test)]
mod tests;
