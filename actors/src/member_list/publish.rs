use std::sync::Arc;
use std::time::Duration;

use gristmill_core::placement::Rendezvous;
use gristmill_core::topology::TopologyUpdated;
use gristmill_messages::TopologyHash;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::delivery::DeliveryMessage;
use crate::error::{TopologyApplyError, TopologyPart};
use crate::event::ClusterEvent;
use crate::gossip::GossipMessage;
use crate::node::{Node, Role};
use crate::pid_cache::PidCacheMessage;
use crate::placement::PlacementMessage;

/// How long a part may take to come to a topology: a few hundred times what it takes, and less than it takes to notice
/// by anything else that it does not.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);

/// What a part answers when it has been handed a topology. Dropped: it has ended.
pub(crate) type Applied = oneshot::Sender<Result<(), TopologyApplyError>>;

/// Makes a topology what this node goes by: first the snapshot that everybody reads, then the end of the connections to
/// those whom it blocks, then the actors that act on it, then the event. No lock is held, so that whoever hears of it
/// may ask anything.
///
/// Each actor is handed the whole, compares it with the one that it went by, and says when it is done. Nobody waits for
/// that; what cannot is told as [`ClusterEvent::TopologyApplyFailed`].
pub(super) fn publish(node: &Arc<Node>, updated: TopologyUpdated) {
    let view = Arc::new(Rendezvous::new(Arc::clone(&updated.topology)));
    let before = node.view.swap(Arc::clone(&view));
    for blocked in view.topology().blocked().iter().filter(|member| !before.topology().is_blocked(**member)) {
        node.remoting.forget(*blocked, "it is blocked");
    }
    node.metrics.members.set(view.topology().members().len() as u64);
    node.metrics.topology_version.set(view.topology().version().get());
    if let Some(parts) = node.parts() {
        let ([pid_cache, gossip, delivery], answers) = channels();
        parts.placement.send(PlacementMessage::TopologyChanged(Arc::clone(&view)));
        parts.pid_cache.send(PidCacheMessage::TopologyChanged(Arc::clone(&view), pid_cache));
        parts.gossip.send(GossipMessage::TopologyChanged(gossip));
        // A topic may have a new owner, who knows of no subscriber.
        parts.delivery.send(DeliveryMessage::TopologyChanged(delivery));
        tokio::spawn(await_answers(Arc::clone(node), view.topology().hash(), answers));
    }
    // A member that leaves goes by the topology without itself, but no longer tells of topologies: it is stopping.
    if node.role == Role::Client || view.topology().member(node.me.id).is_some() {
        node.events.publish(ClusterEvent::TopologyUpdated(Arc::new(updated)));
    }
}

type Answers = [(TopologyPart, oneshot::Receiver<Result<(), TopologyApplyError>>); 3];

fn channels() -> ([Applied; 3], Answers) {
    let (pid_cache, cached) = oneshot::channel();
    let (gossip, told) = oneshot::channel();
    let (delivery, renewed) = oneshot::channel();
    let answers = [(TopologyPart::PidCache, cached), (TopologyPart::Gossip, told), (TopologyPart::Delivery, renewed)];
    ([pid_cache, gossip, delivery], answers)
}

/// Tells which parts do not go by a topology that they were handed.
async fn await_answers(node: Arc<Node>, hash: TopologyHash, answers: Answers) {
    let deadline = Instant::now() + APPLIED_WITHIN;
    let tell = |part, reason| {
        // The parts of a node that stops end in order.
        if !node.is_stopping() {
            node.events.publish(ClusterEvent::TopologyApplyFailed { hash, part, reason });
        }
    };
    let late = TopologyApplyError::Late { after: APPLIED_WITHIN };
    // What the placement answers now it answers after what it was handed before.
    let counted = async { node.parts()?.placement.ask(PlacementMessage::Count).await };
    match timeout_at(deadline, counted).await {
        Ok(Some(_)) => {}
        Ok(None) => tell(TopologyPart::Placement, TopologyApplyError::Ended),
        Err(_) => tell(TopologyPart::Placement, late.clone()),
    }
    for (part, answer) in answers {
        match timeout_at(deadline, answer).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(reason))) => tell(part, reason),
            Ok(Err(_)) => tell(part, TopologyApplyError::Ended),
            Err(_) => tell(part, late.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
