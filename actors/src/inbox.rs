//! The door of a system actor: ractor's mailboxes have neither bound nor length, so what a peer can send is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_core::request::NotDeliveredReason;
use gristmill_messages::{MemberId, MessageName};
use gristmill_transport::{IncomingRequest, Outcome, Peer};
use prost::{Message, Name};
use ractor::ActorRef;
use tokio::sync::oneshot;

/// Messages of peers that may wait in one system actor. The next one is answered `Overloaded`, or dropped if it is
/// one-way; gossip and probes repeat what was lost.
pub(crate) const PLACES: usize = 16_384;

/// Sends to a system actor of this node.
pub(crate) struct Inbox<M> {
    actor: ActorRef<M>,
    taken: Arc<AtomicUsize>,
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.actor.get_id()).finish()
    }
}

impl<M: ractor::Message> Inbox<M> {
    pub(crate) fn new(actor: ActorRef<M>) -> Self {
        Self { actor, taken: Arc::default() }
    }

    /// Sends what this node itself has to say. An actor that has ended drops it, as a stopping node should.
    pub(crate) fn send(&self, message: M) {
        drop(self.actor.cast(message));
    }

    /// Asks, and waits for the answer; none when the actor has ended.
    pub(crate) async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> M) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.send(message(sender));
        receiver.await.ok()
    }

    /// Passes on what a peer sent, if there is a place for it. Says whether there was.
    pub(crate) fn pass_on(&self, peer: &Peer, request: IncomingRequest) -> bool
    where
        M: From<PeerRequest>,
    {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= PLACES {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            request.responder.respond(not_delivered(NotDeliveredReason::Overloaded, "the actor's queue is full"));
            return false;
        }
        let place = Place(Arc::clone(&self.taken));
        let peer_request = PeerRequest { from: peer.member, is_client: peer.address.is_none(), request, _place: place };
        self.send(M::from(peer_request));
        true
    }
}

#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A peer's message to a system actor. Dropped, it answers that the outcome is unknown.
#[derive(Debug)]
pub(crate) struct PeerRequest {
    pub(crate) from: MemberId,
    pub(crate) is_client: bool,
    request: IncomingRequest,
    _place: Place,
}

impl PeerRequest {
    pub(crate) fn is<M: Name>(&self) -> bool {
        self.request.message.is::<M>()
    }

    /// Bytes of the message.
    pub(crate) const fn len(&self) -> usize {
        self.request.data.len()
    }

    pub(crate) fn name(&self) -> &MessageName {
        &self.request.message
    }

    pub(crate) fn decode<M: Message + Default>(&self) -> Result<M, prost::DecodeError> {
        M::decode(self.request.data.clone())
    }

    pub(crate) fn answer<M: Message + Name>(self, message: &M) {
        let data = message.encode_to_vec().into();
        self.request.responder.respond(Outcome::Response { message: MessageName::of::<M>(), data });
    }

    pub(crate) fn refuse(self, reason: NotDeliveredReason, detail: impl Into<String>) {
        self.request.responder.respond(not_delivered(reason, detail));
    }
}

pub(crate) fn not_delivered(reason: NotDeliveredReason, detail: impl Into<String>) -> Outcome {
    Outcome::NotDelivered { reason: reason.into(), detail: detail.into() }
}
