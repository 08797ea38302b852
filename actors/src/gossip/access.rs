use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_core::gossip::{GossipKey, GossipValue, SetRefusal, TOPOLOGY};
use gristmill_messages::{MemberId, TopologyHash, cluster};
use prost::{Message, Name};
use tokio::sync::oneshot;

use super::{ConsensusHandle, GossipMessage, GossipUpdates};
use crate::ClusterContext;
use crate::node::Role;

/// Values that each member writes and every member reads, by key:
/// [`ClusterContext::gossip`](crate::ClusterContext::gossip).
///
/// Each member has its own value under a key. The last write of a member wins everywhere; all members come to hold the
/// same within a few gossip rounds, whatever is lost meanwhile, and what a member wrote goes when it goes. No order is
/// promised between two keys. [`gristmill_core::gossip`] says the rest.
///
/// Meant for what is small and changes seldom (a version, a flag, a load): 256 keys of 250 bytes for each member, two
/// of which are the cluster's own, and 64 KiB for each value.
///
/// ```no_run
/// # async fn example(context: gristmill::ClusterContext) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// let gossip = context.gossip();
/// gossip.set("build", &"1.4".to_owned()).await?; // any prost message with a name
/// for (member, build) in gossip.get::<String>("build").await? {
///     println!("{member} runs {build}");
/// }
/// let build = gossip.consensus::<String>("build").await?.wait(Duration::from_secs(60)).await?;
/// println!("all run {build}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClusterGossip {
    pub(crate) cluster: ClusterContext,
}

/// Why gossip was not read or written. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The node is not running.
    #[error("the node is not running")]
    NotRunning,
    /// This node is a client: members do not gossip with it. Ask a grain.
    #[error("a client does not take part in gossip")]
    NotAMember,
    /// The caller's fault: the key is the cluster's own.
    #[error("the key {0:?} is the cluster's own")]
    Reserved(String),
    /// The caller's fault: key or value are not allowed.
    #[error(transparent)]
    Refused(SetRefusal),
}

impl From<SetRefusal> for GossipError {
    fn from(refusal: SetRefusal) -> Self {
        match refusal {
            SetRefusal::NotStarted => Self::NotRunning,
            other => Self::Refused(other),
        }
    }
}

impl ClusterGossip {
    /// Writes this member's value. Back when it is written here; the others learn of it in the next rounds. Writing
    /// what is written already does nothing.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn set<M: Message + Name>(&self, key: &str, message: &M) -> Result<(), GossipError> {
        self.write(key, Some(GossipValue::of(message))).await
    }

    /// Removes this member's value. The key stays among those that it may have.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn remove(&self, key: &str) -> Result<(), GossipError> {
        self.write(key, None).await
    }

    /// The value of each member that has one, as far as it has come here. What is no `M` is left out.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn get<M: Message + Name + Default>(&self, key: &str) -> Result<BTreeMap<MemberId, M>, GossipError> {
        let key = GossipKey::new(key);
        let values = self.ask(|reply| GossipMessage::Read { key, reply }).await?;
        Ok(values.into_iter().filter_map(|(member, value)| Some((member, value.decode::<M>()?.ok()?))).collect())
    }

    /// Begins with the value of each member that has one, and goes on with each change.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn subscribe<M: Message + Name + Default>(&self, key: &str) -> Result<GossipUpdates<M>, GossipError> {
        let key = GossipKey::new(key);
        Ok(GossipUpdates::new(self.ask(|reply| GossipMessage::Subscribe { key, reply }).await?))
    }

    /// Follows whether all active members hold the same value. Compared are the encoded messages.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn consensus<M>(&self, key: &str) -> Result<ConsensusHandle<M>, GossipError>
    where
        M: Message + Name + Default,
    {
        let read = |values: &[GossipValue]| values.first()?.decode::<M>()?.ok();
        ConsensusHandle::new(self, vec![key.into()], Arc::new(read)).await
    }

    /// Follows whether all active members go by the same topology; the value is its [hash](crate::Topology::hash).
    ///
    /// Each member tells of its topology after it has begun to go by it. While a change is on its way there is no
    /// consensus, but the first who learn of it may still see the old one for a moment.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn topology_consensus(&self) -> Result<ConsensusHandle<TopologyHash>, GossipError> {
        let read = |values: &[GossipValue]| topology_hash(values.first()?);
        ConsensusHandle::new(self, vec![TOPOLOGY.into()], Arc::new(read)).await
    }

    async fn write(&self, key: &str, value: Option<GossipValue>) -> Result<(), GossipError> {
        let key = GossipKey::new(key);
        if key.is_reserved() {
            return Err(GossipError::Reserved(key.to_string()));
        }
        Ok(self.ask(|reply| GossipMessage::Write { key, value, reply }).await??)
    }

    pub(super) async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> GossipMessage,
    ) -> Result<T, GossipError> {
        if self.cluster.node().role == Role::Client {
            return Err(GossipError::NotAMember);
        }
        let parts = self.cluster.node().parts().ok_or(GossipError::NotRunning)?;
        parts.gossip.ask(message).await.ok_or(GossipError::NotRunning)
    }
}

pub(super) fn topology_value(hash: TopologyHash) -> GossipValue {
    GossipValue::of(&cluster::ClusterTopology { topology_hash: hash.get(), ..Default::default() })
}

pub(super) fn topology_hash(value: &GossipValue) -> Option<TopologyHash> {
    Some(TopologyHash::new(value.decode::<cluster::ClusterTopology>()?.ok()?.topology_hash))
}
