use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use gristmill_core::request::NotDeliveredReason;
use gristmill_messages::remote::SystemActor;
use gristmill_transport::{
    Admission, CloseReason, Connection, Handler, IncomingRequest, Peer, Refusal, RefusalKind, Target,
};

use tokio::time::Instant;

use crate::event::ClusterEvent;
use crate::grain::{Envelope, ReplyTo};
use crate::inbox::{PeerRequest, not_delivered};
use crate::member_list::MemberListMessage;
use crate::node::{Block, Node};

/// Takes what peers send to where it belongs, in the reader task of their connection: a grain's message straight into
/// its cell, a system actor's into that actor's inbox.
#[derive(Debug, Default)]
pub(crate) struct Router {
    node: OnceLock<Weak<Node>>,
    /// Since when how many refused connections were reported.
    reported: Mutex<Option<(Instant, u32)>>,
}

/// Refused connections that are reported in a second; all are counted. Strangers must not drown out other events.
const REPORTS_PER_SECOND: u32 = 10;

impl Router {
    /// Called once: the node holds the router, and the router finds the node.
    pub(crate) fn connect(&self, node: &Arc<Node>) {
        drop(self.node.set(Arc::downgrade(node)));
    }

    fn may_report(&self) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = reported.filter(|(since, _)| since.elapsed() < Duration::from_secs(1));
        let (since, count) = recent.unwrap_or_else(|| (Instant::now(), 0));
        *reported = Some((since, count.saturating_add(1)));
        count < REPORTS_PER_SECOND
    }

    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.node.get().and_then(Weak::upgrade)
    }
}

impl Handler for Router {
    fn request(&self, peer: &Peer, request: IncomingRequest) {
        let Some(node) = self.node() else {
            return request.responder.respond(not_delivered(NotDeliveredReason::ShuttingDown, ""));
        };
        // Who is blocked may only say to the member list that it lives.
        let may_speak = matches!(request.target, Target::System(SystemActor::MemberList));
        if !may_speak && node.view.load().topology().is_blocked(peer.member) {
            return request.responder.respond(not_delivered(NotDeliveredReason::Blocked, ""));
        }
        match request.target {
            Target::Activation(activation) => {
                let Some(door) = node.doors.get(&activation) else {
                    return request.responder.respond(not_delivered(NotDeliveredReason::NoSuchActivation, ""));
                };
                let IncomingRequest { message, data, deadline, traceparent, responder, .. } = request;
                let reply = ReplyTo::remote(responder);
                let envelope = Envelope { message, data: data.into(), deadline, traceparent, reply };
                // Cloned only where it must be: all who send to one grain share the count.
                let delivered = if door.runs_users_code() {
                    let hosted = Arc::clone(&door);
                    drop(door);
                    hosted.deliver(envelope)
                } else {
                    door.deliver(envelope)
                };
                if let Err(refused) = delivered {
                    refused.answer();
                }
            }
            Target::System(actor) => {
                let Some(parts) = node.parts() else {
                    return request.responder.respond(not_delivered(NotDeliveredReason::NotStarted, ""));
                };
                let passed_on = match actor {
                    SystemActor::MemberList => parts.member_list.pass_on(peer, request),
                    SystemActor::Placement => parts.placement.pass_on(peer, request),
                    SystemActor::Delivery => parts.delivery.pass_on(peer, request),
                    // A client takes no part in these.
                    SystemActor::Gossip if peer.address.is_some() => parts.gossip.pass_on(peer, request),
                    SystemActor::PidCache if peer.address.is_some() => parts.pid_cache.pass_on(peer, request),
                    SystemActor::Gossip | SystemActor::PidCache => {
                        request.responder.respond(not_delivered(NotDeliveredReason::Unauthorized, "not for clients"));
                        true
                    }
                    SystemActor::NoSystemActor => {
                        request.responder.respond(not_delivered(NotDeliveredReason::UnknownActor, ""));
                        node.metrics.malformed.add_one();
                        true
                    }
                };
                if !passed_on {
                    node.metrics.shed.add_one();
                }
            }
        }
    }

    fn connected(&self, connection: &Connection) {
        let Some(node) = self.node() else { return };
        let Peer { member, address, .. } = connection.peer();
        if address.is_none() {
            node.remoting.client_connected(connection);
        } else {
            node.remoting.member_connected(connection);
        }
        let address = address.as_ref().map(ToString::to_string).unwrap_or_default();
        node.events.publish(ClusterEvent::PeerConnected { peer: *member, address });
    }

    fn refused(&self, remote: &str, reason: &str) {
        let Some(node) = self.node() else { return };
        node.metrics.refused_connections.add_one();
        if self.may_report() {
            let (from, reason) = (remote.to_owned(), reason.to_owned());
            node.events.publish(ClusterEvent::ConnectionRefused { from, reason });
        }
    }

    fn disconnected(&self, peer: &Peer, reason: &CloseReason) {
        if let Some(node) = self.node() {
            node.events.publish(ClusterEvent::PeerDisconnected { peer: peer.member, reason: reason.to_string() });
            if peer.address.is_none() {
                return node.remoting.client_disconnected(peer.member);
            }
            node.remoting.member_disconnected(peer.member);
            let lanes_left = node.remoting.known(peer.member).is_some_and(|endpoint| endpoint.is_connected());
            if let Some(parts) = node.parts().filter(|_| !lanes_left) {
                parts.member_list.send(MemberListMessage::Disconnected(peer.member));
            }
        }
    }
}

/// Answers a message that its actor does not know.
pub(crate) fn refuse_unknown(node: &Node, request: PeerRequest) {
    node.metrics.malformed.add_one();
    let detail = format!("unexpected {}", request.name());
    request.refuse(NotDeliveredReason::Malformed, detail);
}

impl Admission for Router {
    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        let node = self.node().ok_or_else(|| Refusal::new(RefusalKind::ShuttingDown, "the node shuts down"))?;
        if !node.view.load().topology().is_blocked(peer.member) {
            return Ok(());
        }
        let detail = match node.blocks.load().get(&peer.member) {
            Some(Block { reason, until }) => {
                format!("{reason}; for {:.1?} more", until.since(node.clock.now()))
            }
            None => String::from("it is dead"),
        };
        Err(Refusal::new(RefusalKind::Blocked, detail))
    }
}

#[cfg(test)]
mod tests;
