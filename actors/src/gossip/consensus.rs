use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::gossip::{GossipKey, GossipValue};
use tokio::sync::watch;

use super::access::GossipError;
use super::watchers::{CheckId, Standing};
use super::{ClusterGossip, GossipMessage};
use crate::ClusterContext;
use crate::node::Node;

/// Follows whether all active members hold the same value under a key, or under several keys at once.
///
/// It is what this node sees: [`gristmill_core::consensus`] says what that means and what it does not. Dropping the
/// handle ends the check.
pub struct ConsensusHandle<T> {
    keys: Vec<GossipKey>,
    read: Read<T>,
    standing: watch::Receiver<Standing>,
    check: RunningCheck,
}

type Read<T> = Arc<dyn Fn(&[GossipValue]) -> Option<T> + Send + Sync>;

/// Runs until it is dropped.
struct RunningCheck {
    node: Arc<Node>,
    id: CheckId,
}

impl Drop for RunningCheck {
    fn drop(&mut self) {
        if let Some(parts) = self.node.parts() {
            parts.gossip.send(GossipMessage::Unwatch(self.id));
        }
    }
}

/// Why there is no agreed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// The members did not agree in time; waiting on may help.
    #[error("no consensus within {after:?}")]
    DeadlineExceeded {
        /// How long it was waited for.
        after: Duration,
    },
    /// All hold the same value, and it is not of the expected type. The fault of those who wrote it, or of the reader.
    #[error("the members agree on a value of another type")]
    Unreadable,
    /// The node has stopped.
    #[error("the node is not running")]
    NotRunning,
}

impl<T> ConsensusHandle<T> {
    pub(super) async fn new(gossip: &ClusterGossip, keys: Vec<GossipKey>, read: Read<T>) -> Result<Self, GossipError> {
        let (id, standing) = gossip.ask(|reply| GossipMessage::Watch { keys: keys.clone(), reply }).await?;
        let check = RunningCheck { node: Arc::clone(gossip.cluster.node()), id };
        Ok(Self { keys, read, standing, check })
    }

    /// One handle for both: in consensus when all members agree on all of the keys at the same moment.
    ///
    /// # Errors
    /// The node is not running.
    pub async fn and<U>(self, other: ConsensusHandle<U>) -> Result<ConsensusHandle<(T, U)>, GossipError>
    where
        T: 'static,
        U: 'static,
    {
        let (first, second, split) = (self.read, other.read, self.keys.len());
        let gossip = ClusterGossip { cluster: ClusterContext::new(Arc::clone(&self.check.node)) };
        let keys = [self.keys, other.keys].concat();
        let read = move |values: &[GossipValue]| {
            let (one, two) = values.split_at_checked(split)?;
            Some((first(one)?, second(two)?))
        };
        ConsensusHandle::new(&gossip, keys, Arc::new(read)).await
    }

    /// Waits until all agree, and says on what. At once when they do already. Dropping the future changes nothing.
    ///
    /// # Errors
    /// See [`ConsensusError`].
    pub async fn wait(&self, deadline: Duration) -> Result<T, ConsensusError> {
        let mut standing = self.standing.clone();
        if standing.has_changed().is_err() {
            return Err(ConsensusError::NotRunning);
        }
        let agreed = tokio::time::timeout(deadline, standing.wait_for(|standing| standing.values.is_some())).await;
        let agreed = agreed.map_err(|_| ConsensusError::DeadlineExceeded { after: deadline })?;
        let agreed = agreed.map_err(|_| ConsensusError::NotRunning)?;
        self.read(&agreed).ok_or(ConsensusError::Unreadable)
    }

    /// What all agree on now; none when they do not, when it is not of this type, and when the node has stopped.
    #[must_use]
    pub fn current(&self) -> Option<T> {
        self.standing.has_changed().ok()?;
        self.read(&self.standing.borrow())
    }

    /// Waits for the next change since the handle was made, or since this was called last: consensus was reached or
    /// lost, or is on another value. Of several changes meanwhile, the last is told; [`times_lost`](Self::times_lost)
    /// shows whether consensus was lost in between. Cancel safe.
    ///
    /// # Errors
    /// The node has stopped.
    pub async fn changed(&mut self) -> Result<Option<T>, ConsensusError> {
        self.standing.changed().await.map_err(|_| ConsensusError::NotRunning)?;
        let standing = self.standing.borrow_and_update().clone();
        Ok(self.read(&standing))
    }

    /// How often the members have fallen out of consensus since the handle was made; going over to another value
    /// counts.
    #[must_use]
    pub fn times_lost(&self) -> u64 {
        self.standing.borrow().lost
    }

    fn read(&self, standing: &Standing) -> Option<T> {
        standing.values.as_deref().and_then(|values| (self.read)(values))
    }
}

impl<T> fmt::Debug for ConsensusHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agreed = self.standing.borrow().values.is_some();
        f.debug_struct("ConsensusHandle").field("keys", &self.keys).field("agreed", &agreed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterActor, ClusterConfig, Shutdown, Timing};

    #[tokio::test]
    async fn dropping_a_handle_ends_its_check() {
        let config = ClusterConfig::builder("consensus").timing(Timing::test()).build().unwrap();
        let (cluster, context) = ClusterActor::start_member(config).await.unwrap();
        let gossip = context.gossip();
        let (one, other) = (gossip.topology_consensus().await.unwrap(), gossip.topology_consensus().await.unwrap());
        let (mut of_one, mut of_other) = (one.standing.clone(), other.standing.clone());
        of_one.borrow_and_update();
        drop(one);
        while of_one.changed().await.is_ok() {}
        of_other.borrow_and_update();
        assert_eq!(of_other.has_changed().ok(), Some(false), "the other check runs on");
        let both = other.and(gossip.topology_consensus().await.unwrap()).await.unwrap();
        while of_other.changed().await.is_ok() {}
        let hash = context.topology().hash();
        assert_eq!(both.wait(Duration::from_secs(30)).await, Ok((hash, hash)), "its parts have ended, it has not");
        cluster.shutdown(Shutdown::immediate()).await.unwrap();
    }
}
