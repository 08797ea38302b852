use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use gristmill_core::session::Peer;
use gristmill_messages::remote::{self, SystemActor};
use gristmill_messages::{ActivationId, MessageName};
use tokio::time::Instant;

use crate::connection::Shared;
use crate::{CloseReason, Connection, Outcome};

/// Where a request goes on the node that receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A grain that is activated there.
    Activation(ActivationId),
    /// A part of the node itself.
    System(SystemActor),
}

impl Target {
    /// Where a frame wants to go; `None` when it names nothing that this version knows.
    pub(crate) fn of(request: &remote::Request) -> Option<Self> {
        match ActivationId::try_from(request.activation_id) {
            Ok(activation) => Some(Self::Activation(activation)),
            Err(_) => match SystemActor::try_from(request.system_actor) {
                Ok(SystemActor::NoSystemActor) | Err(_) => None,
                Ok(actor) => Some(Self::System(actor)),
            },
        }
    }
}

/// A request to a peer.
#[derive(Debug, Clone)]
pub struct OutgoingRequest {
    /// Where to.
    pub target: Target,
    /// The type of the message.
    pub message: MessageName,
    /// The message, encoded.
    pub data: Bytes,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl OutgoingRequest {
    pub(crate) fn into_frame(self) -> remote::Request {
        let (activation_id, system_actor) = match self.target {
            Target::Activation(activation) => (activation.get(), SystemActor::NoSystemActor),
            Target::System(actor) => (0, actor),
        };
        remote::Request {
            request_id: 0,
            activation_id,
            system_actor: system_actor.into(),
            message_type_name: self.message.into_full(),
            message_data: self.data,
            timeout_milliseconds: 0,
            traceparent: self.traceparent.unwrap_or_default(),
        }
    }
}

/// A request of a peer.
#[derive(Debug)]
pub struct IncomingRequest {
    /// Where to.
    pub target: Target,
    /// The type of the message, as the peer says.
    pub message: MessageName,
    /// The message, encoded. It may share memory with other frames that came at the same time.
    pub data: Bytes,
    /// When the caller gives up, by this node's clock; the time in flight is not taken off.
    pub deadline: Option<Instant>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Where the answer goes; of no effect when none is wanted.
    pub responder: Responder,
}

/// What a node does with the requests of its peers, and hears of its connections.
///
/// All methods are called from a connection's own tasks: they hand over and return, and never block. A panic in one
/// closes the connection.
pub trait Handler: Send + Sync + 'static {
    /// A peer asks. Requests of one connection come in the order in which they were sent, one after the other.
    fn request(&self, peer: &Peer, request: IncomingRequest);

    /// The handshake has succeeded. Comes before the first request.
    fn connected(&self, connection: &Connection) {
        let _ = connection;
    }

    /// Somebody at `remote` connected and was turned away, or went, before the handshake was done.
    fn refused(&self, remote: &str, reason: &str) {
        tracing::debug!(remote, reason, "no handshake");
    }

    /// The connection is gone. Comes once, after the last request.
    fn disconnected(&self, peer: &Peer, reason: &CloseReason) {
        let _ = (peer, reason);
    }
}

/// Takes the answer to one request of a peer.
///
/// Dropped without an answer it sends [`Outcome::UnknownOutcome`], so that no caller waits for nothing.
#[must_use = "dropped, it answers with an unknown outcome"]
pub struct Responder {
    /// `None`: no answer is wanted, or it was given.
    open: Option<(Arc<Shared>, u64)>,
}

impl Responder {
    /// For a request that wants no answer.
    pub const fn one_way() -> Self {
        Self { open: None }
    }

    pub(crate) const fn new(connection: Arc<Shared>, request_id: u64) -> Self {
        Self { open: Some((connection, request_id)) }
    }

    /// Queues the answer, and never waits: the window of open requests bounds how many answers can be queued.
    ///
    /// An answer over the frame limit becomes an [`Outcome::UnknownOutcome`] that says so. When the connection is
    /// closed, or the caller no longer waits, the answer is dropped.
    pub fn respond(mut self, outcome: Outcome) {
        if let Some((connection, request_id)) = self.open.take() {
            connection.respond(request_id, outcome);
        }
    }

    /// Whether the peer wants an answer.
    #[must_use]
    pub const fn wants_answer(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the caller no longer waits: it said so, or its connection is closed. Always false when no answer is
    /// wanted.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.open.as_ref().is_some_and(|(connection, request_id)| connection.is_cancelled(*request_id))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some((connection, request_id)) = self.open.take() {
            connection.respond(request_id, Outcome::unknown("dropped without an answer"));
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.open.as_ref().map(|(_, request_id)| request_id);
        f.debug_struct("Responder").field("request", &request).finish_non_exhaustive()
    }
}
