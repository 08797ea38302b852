//! The public face of a node: [`ClusterContext`].

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_core::downing::DowningDecision;
use gristmill_core::membership::Explanation;
use gristmill_core::placement::DeactivationReason;
use gristmill_core::topology::Topology;
use gristmill_core::{Address, KindName, Member, MemberStatus, Timestamp};
use gristmill_messages::{ActivationId, ClusterIdentity, MemberId};
use prost::{Message, Name};

use crate::error::{NotRunning, RequestError};
use crate::event::EventStream;
use crate::gossip::{ClusterGossip, GossipMessage, Heartbeat};
use crate::grain::Ended;
use crate::member_list::MemberListMessage;
use crate::metrics::{MetricsError, MetricsSnapshot};
use crate::node::Node;
use crate::placement::PlacementMessage;
use crate::request::GrainRef;

/// A node's way into its cluster: call grains, publish and subscribe, see the members. A cheap clone, `Send + Sync`.
///
/// It does not keep the node alive: after a shutdown every call is [`RequestError::NotRunning`], and every question to
/// the node [`NotRunning`]. It stays valid when the node rejoins under a new id
/// ([`OnEviction::Rejoin`](crate::OnEviction)); meanwhile calls are retried until their deadline.
#[derive(Debug, Clone)]
pub struct ClusterContext {
    /// The life in which it was made.
    node: Arc<Node>,
}

/// What is known of one member, whatever its state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Who, where, and what it hosts.
    pub member: Member,
    /// Its state, as this node sees it.
    pub status: MemberStatus,
}

impl ClusterContext {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// The node in its newest life. Each rejoin makes the way to it one step longer, and leaves a node without content.
    pub(crate) fn node(&self) -> &Arc<Node> {
        let mut node = &self.node;
        while let Some(next) = node.successor() {
            node = next;
        }
        node
    }

    /// This node's id. A client has one too, though it is no member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.node().me.id
    }

    /// Where this member is reached; of a client it says nothing.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.node().me.address
    }

    /// The name of the cluster.
    #[must_use]
    pub fn cluster_name(&self) -> &str {
        self.node().config.name()
    }

    /// This node's clock, by which the times of its events, heartbeats, explanations and decisions are told:
    /// `context.now().since(then)` is how long ago that was.
    ///
    /// It is monotonic and counts from the start of the node's current life, so that times from before a
    /// [rejoin](crate::OnEviction::Rejoin) cannot be compared with it, nor those of two nodes.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.node().clock.now()
    }

    /// The grain of this name, to call it with other options than the defaults, or again and again.
    #[must_use]
    pub fn grain(&self, identity: impl Into<ClusterIdentity>) -> GrainRef {
        GrainRef::for_many_calls(self.clone(), identity.into())
    }

    /// Sends `message` to a grain, which is activated if it is not, and waits for its reply.
    ///
    /// What was not delivered is tried again until the [request timeout](crate::ClusterConfigBuilder::request_timeout)
    /// has passed. Dropping the future cancels: what has not begun to run never does.
    ///
    /// # Errors
    /// See [`RequestError`]; each variant says whether the grain may have run.
    pub async fn request<M, R>(&self, identity: impl Into<ClusterIdentity>, message: M) -> Result<R, RequestError>
    where
        M: Message + Name,
        R: Message + Name + Default,
    {
        GrainRef::for_one_call(self.clone(), identity.into()).request(message).await
    }

    /// Sends `message` to a grain, one-way: waits for room in its mailbox or in the connection to its member, not for
    /// the grain. On its way to another member it may be lost, without a word: with the connection, or because the
    /// grain has just ended there, or its mailbox is full.
    ///
    /// # Errors
    /// It surely was not sent, see [`RequestError`].
    pub async fn notify<M: Message + Name>(
        &self,
        identity: impl Into<ClusterIdentity>,
        message: M,
    ) -> Result<(), RequestError> {
        GrainRef::for_one_call(self.clone(), identity.into()).notify(message).await
    }

    /// The newest topology: the active members, their hash, the block list.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(self.node().view.load().topology())
    }

    /// Every member that this node knows, with its state: also those that join, leave, or are dead.
    ///
    /// # Errors
    /// The node is not running.
    pub async fn members(&self) -> Result<Vec<MemberInfo>, NotRunning> {
        let parts = self.node().parts().ok_or(NotRunning)?;
        parts.member_list.ask(MemberListMessage::Members).await.ok_or(NotRunning)
    }

    /// Why a member is or was suspected of being dead: by whom, when, on what evidence, and how it ended. None when it
    /// was not lately, and on a client.
    ///
    /// # Errors
    /// The node is not running.
    pub async fn explain(&self, member: MemberId) -> Result<Option<Explanation>, NotRunning> {
        let parts = self.node().parts().ok_or(NotRunning)?;
        let explain = |reply| MemberListMessage::Explain(member, reply);
        parts.member_list.ask(explain).await.ok_or(NotRunning)
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.node().events.subscribe()
    }

    /// The values that members write for each other: set, get, subscribe, consensus.
    #[must_use]
    pub fn gossip(&self) -> ClusterGossip {
        ClusterGossip { cluster: self.clone() }
    }

    /// How many grains of each kind every member runs, as its last [heartbeat](Self::heartbeat) says. On a client:
    /// nothing.
    ///
    /// # Errors
    /// The node is not running.
    pub async fn grain_counts(&self) -> Result<BTreeMap<MemberId, BTreeMap<KindName, u64>>, NotRunning> {
        Ok(self.heartbeats().await?.into_iter().map(|(member, heartbeat)| (member, heartbeat.grains)).collect())
    }

    /// The last heartbeat of an active member; none when it has not come here yet, and on a client.
    ///
    /// # Errors
    /// The node is not running.
    pub async fn heartbeat(&self, member: MemberId) -> Result<Option<Heartbeat>, NotRunning> {
        Ok(self.heartbeats().await?.remove(&member))
    }

    async fn heartbeats(&self) -> Result<BTreeMap<MemberId, Heartbeat>, NotRunning> {
        let parts = self.node().parts().ok_or(NotRunning)?;
        parts.gossip.ask(GossipMessage::Heartbeats).await.ok_or(NotRunning)
    }

    /// What this node has counted since the start of its current life.
    ///
    /// # Errors
    /// Metrics are [switched off](crate::ClusterConfigBuilder::metrics).
    pub fn metrics(&self) -> Result<MetricsSnapshot, MetricsError> {
        self.node().metrics.snapshot()
    }

    /// The last decisions of this node about partitions, oldest first, with everything that they were made from; those
    /// of its former lives among them. On a client: none.
    #[must_use]
    pub fn downing_decisions(&self) -> Vec<DowningDecision> {
        self.node().decisions.load().to_vec()
    }

    /// Who owns the identity in the newest topology; none when no member hosts the kind.
    #[must_use]
    pub fn owner(&self, identity: impl Into<ClusterIdentity>) -> Option<Member> {
        self.node().owner(&identity.into())
    }

    /// The three below belong to the life in which the grain was activated.
    pub(crate) fn activated(&self, activation: ActivationId) {
        if let Some(parts) = self.node.parts() {
            parts.placement.send(PlacementMessage::Activated(activation));
        }
    }

    pub(crate) fn ended(&self, ended: Ended) {
        if let Some(parts) = self.node.parts() {
            parts.placement.send(PlacementMessage::Ended(ended));
        }
    }

    pub(crate) fn deactivate(&self, activation: ActivationId) {
        if let Some(parts) = self.node.parts() {
            parts.placement.send(PlacementMessage::Deactivate(activation, DeactivationReason::Stopped));
        }
    }
}
