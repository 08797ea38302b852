//! What the parts of one node share: read in place on the way of a request, written by the actor that owns it.

#[cfg(test)]
pub(crate) mod bench;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use fnv::FnvBuildHasher;
use gristmill_core::downing::DowningDecision;
use gristmill_core::placement::Rendezvous;
use gristmill_core::{Member, RequestId, Timestamp};
use gristmill_messages::{ActivationId, ClusterIdentity, MemberId};
use gristmill_transport::{Outcome, PendingCalls};
use ractor::ActorRef;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::cluster::ClusterMessage;
use crate::config::ClusterConfig;
use crate::delivery::DeliveryMessage;
use crate::event::Events;
use crate::gossip::GossipMessage;
use crate::grain::Door;
use crate::inbox::Inbox;
use crate::member_list::MemberListMessage;
use crate::metrics::Metrics;
use crate::pid_cache::{Pid, PidCacheMessage, PidTable};
use crate::placement::{Directory, PlacementMessage};
use crate::remoting::Remoting;

/// How often deadlines of calls to grains of this node are looked at.
pub(crate) const SWEEP: Duration = Duration::from_millis(10);

/// Whether a node owns grains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Listens, is in the topology, owns keys.
    Member,
    /// Only calls.
    Client,
}

/// What a blocked member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) reason: String,
    pub(crate) until: Timestamp,
}

/// One node of a cluster.
pub(crate) struct Node {
    pub(crate) me: Member,
    pub(crate) role: Role,
    pub(crate) config: ClusterConfig,
    pub(crate) clock: Clock,
    /// Written by the member list alone, as one piece: no two parts of a node disagree about who owns what.
    pub(crate) view: ArcSwap<Rendezvous>,
    /// Written by the directory alone.
    pub(crate) doors: DashMap<ActivationId, Arc<dyn Door>, FnvBuildHasher>,
    pub(crate) pids: PidTable,
    pub(crate) local_calls: Arc<PendingCalls<Outcome>>,
    pub(crate) remoting: Remoting,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    /// That of the node's start; grains run there, whoever calls them.
    pub(crate) runtime: Handle,
    /// Why and until when those are blocked whom the view names; written by the member list alone, before the view.
    pub(crate) blocks: ArcSwap<BTreeMap<MemberId, Block>>,
    /// Of this life and those before it; written by the member list alone.
    pub(crate) decisions: ArcSwap<Vec<DowningDecision>>,
    parts: OnceLock<Parts>,
    next_request: AtomicU64,
    fenced: AtomicBool,
    stopping: AtomicBool,
    /// This node's next life, in which it has another id.
    successor: OnceLock<Arc<Node>>,
}

/// The actors of a node that others send to.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) root: ActorRef<ClusterMessage>,
    pub(crate) member_list: Inbox<MemberListMessage>,
    pub(crate) gossip: Inbox<GossipMessage>,
    pub(crate) placement: Inbox<PlacementMessage>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) pid_cache: Inbox<PidCacheMessage>,
    pub(crate) delivery: Inbox<DeliveryMessage>,
}

impl Node {
    /// To be called on the runtime that the node is to live on.
    pub(crate) fn new(me: Member, role: Role, config: ClusterConfig, remoting: Remoting, events: Events) -> Self {
        let metrics = config.metrics;
        Self {
            pids: PidTable::new(config.pid_cache.get()),
            me,
            role,
            config,
            clock: Clock::new(),
            view: ArcSwap::default(),
            doors: DashMap::default(),
            local_calls: Arc::default(),
            remoting,
            events,
            runtime: Handle::current(),
            metrics: Metrics::new(metrics),
            blocks: ArcSwap::default(),
            decisions: ArcSwap::default(),
            parts: OnceLock::new(),
            next_request: AtomicU64::new(1),
            fenced: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            successor: OnceLock::new(),
        }
    }

    /// The other actors; none until the node has them all.
    pub(crate) fn parts(&self) -> Option<&Parts> {
        self.parts.get()
    }

    /// Called once, when all actors are spawned.
    pub(crate) fn connect(&self, parts: Parts) {
        if self.parts.set(parts).is_err() {
            tracing::error!("a node's parts were connected twice");
        }
    }

    /// How a grain of this node is reached, if it is still there.
    pub(crate) fn local_pid(&self, activation: ActivationId) -> Option<Pid> {
        let door = Arc::clone(&*self.doors.get(&activation)?);
        Some(Pid::Local { activation, door })
    }

    /// Stops every grain at its next await and starts none any more: others may be about to run them. What was queued
    /// is given back, nobody deactivates, and who asks for a grain is told to ask again.
    pub(crate) fn fence(self: &Arc<Self>) {
        self.fenced.store(true, Ordering::SeqCst);
        if let Some(parts) = self.parts() {
            parts.directory.halt(self);
        }
        self.pids.clear();
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }

    /// Its parts are about to end.
    pub(crate) fn stops(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Whoever knows this life finds the next one. Called once in each life.
    pub(crate) fn succeeded_by(&self, next: &Arc<Self>) {
        if self.successor.set(Arc::clone(next)).is_err() {
            tracing::error!("a node was succeeded twice");
        }
    }

    pub(crate) fn successor(&self) -> Option<&Arc<Self>> {
        self.successor.get()
    }

    pub(crate) fn owner(&self, identity: &ClusterIdentity) -> Option<Member> {
        self.view.load().owner(identity).cloned()
    }

    /// A number for a machine's request, unique on this node.
    pub(crate) fn request_id(&self) -> RequestId {
        RequestId::new(self.next_request.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("me", &self.me.id).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Translates between the runtime's clock and the machines'.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Timestamp {
        Timestamp::new(self.0.elapsed())
    }

    pub(crate) fn at(self, instant: Instant) -> Timestamp {
        Timestamp::new(instant.saturating_duration_since(self.0))
    }
}
