use std::sync::Arc;

use gristmill_core::placement::Rendezvous;
use gristmill_core::topology::TopologyUpdated;

use crate::delivery::DeliveryMessage;
use crate::event::ClusterEvent;
use crate::gossip::GossipMessage;
use crate::node::{Node, Role};
use crate::pid_cache::PidCacheMessage;
use crate::placement::PlacementMessage;

/// Makes a topology what this node goes by: first the snapshot that everybody reads, then the actors that act on it,
/// then the event. No lock is held, so that whoever hears of it may ask anything.
pub(super) fn publish(node: &Node, updated: TopologyUpdated) {
    let before = Arc::clone(node.view.load().topology());
    let is_new = |member: &&gristmill_messages::MemberId| before.blocked().binary_search(member).is_err();
    let newly_blocked = updated.blocked.iter().filter(is_new).count();
    let view = Arc::new(Rendezvous::new(Arc::clone(&updated.topology)));
    node.view.store(Arc::clone(&view));
    node.metrics.members.set(view.topology().members().len() as u64);
    node.metrics.topology_version.set(view.topology().version().get());
    if let Some(parts) = node.parts() {
        parts.placement.send(PlacementMessage::TopologyChanged(Arc::clone(&view)));
        let gone = updated.left.iter().chain(&updated.dead).map(|member| member.id).collect();
        parts.pid_cache.send(PidCacheMessage::TopologyChanged { rendezvous: Arc::clone(&view), gone, newly_blocked });
        parts.gossip.send(GossipMessage::TopologyChanged);
        // A topic may have a new owner, who knows of no subscriber.
        parts.delivery.send(DeliveryMessage::Renew);
    }
    // A member that leaves goes by the topology without itself, but no longer tells of topologies: it is stopping.
    if node.role == Role::Client || view.topology().member(node.me.id).is_some() {
        node.events.publish(ClusterEvent::TopologyUpdated(Arc::new(updated)));
    }
}
