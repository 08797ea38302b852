//! Lookups behind a PID cache: which are made, who waits for them, and what the cache must forget.
//!
//! The cache itself is a concurrent map of the shell, read in place by every request. A request that misses comes
//! here. Guarantees: one lookup at a time for an identity, however many miss it; every miss is answered exactly once
//! or was [withdrawn](Input::Withdrawn); an answer that comes after its lookup was given up changes nothing; when a
//! member goes, nobody waits for it any longer and the cache forgets all its activations. Not guaranteed: that an
//! activation in the cache still lives. Its member says so when it does not.
//!
//! ```text
//!   Miss ──> pending? ──yes──> wait
//!              └──no──> owner ──none──> Answer UnknownKind
//!                         └──> Resolve ──> Resolved ──> Insert, Answer to all
//!                                     └──> Failed, MemberGone ──> Answer to all, retryable or not
//! ```
//!
//! A timeout of one call removes nothing from the cache: only the member itself, its announcement or its departure
//! does, else a living grain would be orphaned.
//!
//! Source: protoactor-go `cluster/pid_cache.go` and `cluster/default_context.go`, where each miss makes its own lookup.
//!
//! ```
//! use std::sync::Arc;
//! use gristmill_core::placement::pid_cache::{Config, Effect, Input, Lookups};
//! use gristmill_core::placement::Rendezvous;
//! use gristmill_core::topology::Topology;
//! use gristmill_core::{KindName, Member, Outbox, RequestId, Timestamp};
//! use gristmill_messages::{ClusterIdentity, MemberId, TopologyVersion};
//!
//! let owner = Member::new(MemberId::new(1), "127.0.0.1:7701", [KindName::from("greeter")]);
//! let topology = Topology::new(TopologyVersion::new(1), vec![owner], vec![]);
//! let rendezvous = Arc::new(Rendezvous::new(Arc::new(topology)));
//! let (mut lookups, mut out) = (Lookups::new(Config::default()), Outbox::new());
//! lookups.handle(Timestamp::ZERO, Input::TopologyChanged { rendezvous }, &mut out);
//! for request in [1, 2].map(RequestId::new) {
//!     let identity = ClusterIdentity::new("greeter", "alice");
//!     lookups.handle(Timestamp::ZERO, Input::Miss { request, identity }, &mut out);
//! }
//! assert_eq!(out.drain_effects().count(), 1); // one Resolve for both
//! ```

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use fnv::FnvBuildHasher;
use gristmill_messages::{ActivationId, ClusterIdentity, MemberId, TopologyVersion};
use hashbrown::HashMap;

use super::{Location, Refusal, Rendezvous};
use crate::{Member, Outbox, RequestId, Timestamp};

/// Bounds of the lookups of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Requests that may wait for one lookup; one more is answered `Overloaded`. Default 10,000 (a guess), 8 bytes
    /// each.
    pub max_waiters: usize,
    /// Lookups under way; a miss that needs one more is answered `Overloaded`. Default 100,000 (a guess: one second
    /// of cold starts).
    pub max_lookups: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_waiters: 10_000, max_lookups: 100_000 }
    }
}

/// Names one lookup; an answer to another one is not for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(u64);

impl fmt::Display for LookupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the lookups are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Owners have changed. Lookups under way go on: who was asked answers whether it still owns.
    TopologyChanged {
        /// The owners now.
        rendezvous: Arc<Rendezvous>,
    },
    /// A request found nothing in the cache.
    Miss {
        /// Whom to answer.
        request: RequestId,
        /// What it looked for.
        identity: ClusterIdentity,
    },
    /// A request no longer waits: it is not answered.
    Withdrawn {
        /// Who waited.
        request: RequestId,
        /// For what.
        identity: ClusterIdentity,
    },
    /// The owner named the activation.
    Resolved {
        /// Whose answer.
        lookup: LookupId,
        /// Of what.
        identity: ClusterIdentity,
        /// Where it is.
        location: Location,
    },
    /// The owner refused, or did not answer.
    Failed {
        /// Whose answer.
        lookup: LookupId,
        /// Of what.
        identity: ClusterIdentity,
        /// Why.
        error: LookupError,
    },
    /// A member left, died or was blocked.
    MemberGone(MemberId),
    /// A member announced, or answered, that an activation is no more.
    Terminated {
        /// Which.
        activation: ActivationId,
        /// Whose.
        member: MemberId,
        /// What it was.
        identity: ClusterIdentity,
    },
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the owner for the activation; report `Resolved` or `Failed`.
    Resolve {
        /// To be named in the report.
        lookup: LookupId,
        /// What is looked for.
        identity: Arc<ClusterIdentity>,
        /// Whom to ask.
        owner: Member,
    },
    /// Answer a miss, exactly once.
    Answer {
        /// Which.
        request: RequestId,
        /// With what.
        answer: Result<Location, LookupError>,
    },
    /// Put into the cache, over whatever is there.
    Insert {
        /// What.
        identity: Arc<ClusterIdentity>,
        /// Where it is.
        location: Location,
    },
    /// Remove from the cache if it holds this very activation of this member.
    Invalidate {
        /// What.
        identity: ClusterIdentity,
        /// Which activation.
        activation: ActivationId,
        /// Whose.
        member: MemberId,
    },
    /// Remove every activation of a member from the cache.
    InvalidateMember(MemberId),
}

/// What happened: nothing that others need to hear of; an error is counted where it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {}

/// Why an identity was not found. Nothing of the caller's request has run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The owner, or this node on its behalf, refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The owner left while it was asked. Its successor owns the identity now: asking again helps.
    #[error("the owner {0} left")]
    OwnerGone(MemberId),
    /// The owner could not be asked or did not answer. Asking again may help; it may have activated the grain.
    #[error("the owner did not answer: {0}")]
    Unreachable(String),
}

impl LookupError {
    /// Whether the same lookup may succeed a little later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_transient(),
            Self::OwnerGone(_) | Self::Unreachable(_) => true,
        }
    }
}

#[derive(Debug)]
struct Lookup {
    id: LookupId,
    owner: MemberId,
    waiters: Vec<RequestId>,
}

/// The lookups of one node. See the [module](self).
#[derive(Debug)]
pub struct Lookups {
    config: Config,
    rendezvous: Arc<Rendezvous>,
    pending: HashMap<Arc<ClusterIdentity>, Lookup, FnvBuildHasher>,
    last: LookupId,
}

impl Lookups {
    /// No lookups; every miss is refused as not started until the first topology.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, rendezvous: Arc::default(), pending: HashMap::default(), last: LookupId::default() }
    }

    /// Takes one input and leaves in `out` what follows from it.
    pub fn handle(&mut self, _now: Timestamp, input: Input, out: &mut Outbox<Effect, Event>) {
        match input {
            Input::TopologyChanged { rendezvous } => {
                if rendezvous.topology().version() > self.rendezvous.topology().version() {
                    self.rendezvous = rendezvous;
                }
            }
            Input::Miss { request, identity } => {
                if let Err(refusal) = self.miss(request, identity, out) {
                    out.effect(Effect::Answer { request, answer: Err(refusal.into()) });
                }
            }
            Input::Withdrawn { request, identity } => {
                if let Some(lookup) = self.pending.get_mut(&identity) {
                    lookup.waiters.retain(|waiter| *waiter != request);
                }
            }
            Input::Resolved { lookup, identity, location } => {
                if let Some((identity, waiters)) = self.finish(lookup, &identity) {
                    out.effect(Effect::Insert { identity, location });
                    answer(waiters, &Ok(location), out);
                }
            }
            Input::Failed { lookup, identity, error } => {
                if let Some((_, waiters)) = self.finish(lookup, &identity) {
                    answer(waiters, &Err(error), out);
                }
            }
            Input::MemberGone(member) => self.member_gone(member, out),
            Input::Terminated { activation, member, identity } => {
                out.effect(Effect::Invalidate { identity, activation, member });
            }
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// How many identities are being looked up.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no identity is being looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn miss(
        &mut self,
        request: RequestId,
        identity: ClusterIdentity,
        out: &mut Outbox<Effect, Event>,
    ) -> Result<(), Refusal> {
        if let Some(lookup) = self.pending.get_mut(&identity) {
            if lookup.waiters.len() >= self.config.max_waiters {
                return Err(Refusal::Overloaded);
            }
            lookup.waiters.push(request);
            return Ok(());
        }
        if self.rendezvous.topology().version() == TopologyVersion::default() {
            return Err(Refusal::NotStarted);
        }
        let Some(owner) = self.rendezvous.owner(&identity) else {
            return Err(Refusal::UnknownKind { kind: identity.kind.into() });
        };
        if self.pending.len() >= self.config.max_lookups {
            return Err(Refusal::Overloaded);
        }
        self.last = LookupId(self.last.0.saturating_add(1));
        let identity = Arc::new(identity);
        let lookup = Lookup { id: self.last, owner: owner.id, waiters: [request].into() };
        self.pending.insert(Arc::clone(&identity), lookup);
        out.effect(Effect::Resolve { lookup: self.last, identity, owner: owner.clone() });
        Ok(())
    }

    fn finish(&mut self, id: LookupId, identity: &ClusterIdentity) -> Option<(Arc<ClusterIdentity>, Vec<RequestId>)> {
        self.pending.get(identity).filter(|lookup| lookup.id == id)?;
        let (identity, lookup) = self.pending.remove_entry(identity)?;
        Some((identity, lookup.waiters))
    }

    fn member_gone(&mut self, member: MemberId, out: &mut Outbox<Effect, Event>) {
        let mut orphans: Vec<Lookup> =
            self.pending.extract_if(|_, lookup| lookup.owner == member).map(|(_, lookup)| lookup).collect();
        orphans.sort_unstable_by_key(|lookup| lookup.id);
        out.effect(Effect::InvalidateMember(member));
        for lookup in orphans {
            answer(lookup.waiters, &Err(LookupError::OwnerGone(member)), out);
        }
    }

    /// Panics when the table contradicts itself; for tests and debug builds.
    pub fn check_invariants(&self) {
        assert!(self.pending.len() <= self.config.max_lookups);
        for lookup in self.pending.values() {
            assert!(lookup.waiters.len() <= self.config.max_waiters);
            assert!(lookup.id <= self.last, "a lookup that was never made");
        }
    }
}

fn answer(waiters: Vec<RequestId>, answer: &Result<Location, LookupError>, out: &mut Outbox<Effect, Event>) {
    for request in waiters {
        out.effect(Effect::Answer { request, answer: answer.clone() });
    }
}

#[cfg(test)]
mod tests;
