use std::error::Error as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use gristmill_core::Address;
use gristmill_messages::MemberId;
use gristmill_transport::{Backoff, CallError, ConnectError, Connection, Lane, RefusalKind};
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::remoting::{ContactError, Dialer};

/// One peer: its connections, read in place by whoever sends.
pub(crate) struct Endpoint {
    peer: MemberId,
    /// Where it listens; none for a client.
    address: Option<Address>,
    lanes: [ArcSwapOption<Connection>; 2],
    /// Who dials; none for a client, which is only reached on the connections that it opened.
    actor: Option<ActorRef<EndpointMessage>>,
}

/// So long a refusal is told to all who ask: it is the membership's evidence, and another may have asked first.
const FRESH: Duration = Duration::from_millis(500);

/// Nothing was sent: there is no connection, or no room in its queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoConnection {
    #[error("{0}")]
    Unreachable(String),
    /// The peer's host has just refused the connection: no process listens there.
    #[error("{0}")]
    NobodyListens(String),
    /// Another member has proven that it is the one who listens at the peer's address: the peer's process is gone.
    #[error("{0} listens at its address")]
    Superseded(MemberId),
    /// The peer has proven who it is, and holds this node for dead.
    #[error("refused: {0}")]
    Blocked(String),
    #[error("refused: {0}")]
    Refused(String),
}

impl NoConnection {
    pub(crate) fn unreachable(reason: impl fmt::Display) -> Self {
        Self::Unreachable(reason.to_string())
    }

    /// What is said of a failure so long after it, while it is not tried again: who did not listen then may listen now.
    fn remembered(&self, after: Duration) -> Self {
        match self {
            Self::NobodyListens(reason) if after > FRESH => Self::Unreachable(reason.clone()),
            other => other.clone(),
        }
    }
}

impl From<ConnectError> for NoConnection {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { ref source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                Self::NobodyListens(with_cause(&error))
            }
            // Who was met by mistake, behind a proxy or a name of several hosts, says that it listens elsewhere.
            ConnectError::MetAnother { ref address, ref met }
                if met.address.as_ref().is_some_and(|told| told.as_str() == address) =>
            {
                Self::Superseded(met.member)
            }
            ConnectError::MetAnother { .. } => Self::unreachable(error),
            // What a stranger says of itself is a matter for nobody.
            ConnectError::RefusedByPeer { refusal, .. } if refusal.kind == RefusalKind::WrongMember => {
                Self::unreachable(refusal)
            }
            ConnectError::RefusedByPeer { ref refusal, .. } if refusal.kind == RefusalKind::Blocked => {
                Self::Blocked(error.to_string())
            }
            refused if refused.is_permanent() => Self::Refused(refused.to_string()),
            other => Self::Unreachable(with_cause(&other)),
        }
    }
}

/// What happened, and what the network says of it.
fn with_cause(error: &ConnectError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl From<CallError> for NoConnection {
    fn from(error: CallError) -> Self {
        Self::unreachable(error)
    }
}

impl From<NoConnection> for ContactError {
    fn from(error: NoConnection) -> Self {
        match error {
            NoConnection::Unreachable(reason) | NoConnection::NobodyListens(reason) => Self::Unreachable(reason),
            superseded @ NoConnection::Superseded(_) => Self::Unreachable(superseded.to_string()),
            NoConnection::Blocked(reason) | NoConnection::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl From<ConnectError> for ContactError {
    fn from(error: ConnectError) -> Self {
        NoConnection::from(error).into()
    }
}

impl Endpoint {
    /// The endpoint of a member, which is dialed when somebody sends.
    pub(super) fn member(peer: MemberId, address: &Address, dialer: &Arc<Dialer>) -> Arc<Self> {
        Arc::new_cyclic(|endpoint| {
            let arguments = EndpointArguments {
                endpoint: endpoint.clone(),
                peer,
                address: address.clone(),
                dialer: Arc::clone(dialer),
            };
            // Without a name, nothing can fail here but the runtime itself.
            let actor = ActorRuntime::spawn_instant(None, EndpointActor, arguments).ok().map(|(actor, _)| actor);
            Self { peer, address: Some(address.clone()), lanes: Default::default(), actor }
        })
    }

    /// The endpoint of a client.
    pub(super) fn client(peer: MemberId) -> Arc<Self> {
        Arc::new(Self { peer, address: None, lanes: Default::default(), actor: None })
    }

    /// Uses this connection from now on, and no other of its lane.
    pub(super) fn adopt(&self, connection: &Connection) {
        let before = self.lane(connection.peer().lane).swap(Some(Arc::new(connection.clone())));
        if let Some(before) = before {
            before.close("there is a newer connection");
        }
    }

    /// Whether the peer listens there.
    pub(super) fn is_at(&self, address: &Address) -> bool {
        self.address.as_ref() == Some(address)
    }

    pub(crate) const fn peer(&self) -> MemberId {
        self.peer
    }

    /// A connection that was alive a moment ago.
    pub(crate) fn connected(&self, lane: Lane) -> Option<Arc<Connection>> {
        self.lane(lane).load_full().filter(|connection| !connection.is_closed())
    }

    /// Whether there is any connection at all.
    pub(crate) fn is_connected(&self) -> bool {
        [Lane::Data, Lane::Control].into_iter().any(|lane| self.connected(lane).is_some())
    }

    /// A live connection; dials when there is none. While the peer is backed off, the last failure comes at once.
    pub(crate) async fn connection(&self, lane: Lane, deadline: Instant) -> Result<Arc<Connection>, NoConnection> {
        if let Some(connection) = self.connected(lane) {
            return Ok(connection);
        }
        let Some(actor) = &self.actor else {
            return Err(NoConnection::unreachable("the client has disconnected"));
        };
        let (reply, connected) = oneshot::channel();
        drop(actor.cast(EndpointMessage::Connect(lane, reply)));
        match tokio::time::timeout_at(deadline, connected).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(NoConnection::unreachable("the peer was forgotten")),
            Err(_) => Err(NoConnection::unreachable("no connection in time")),
        }
    }

    pub(super) fn close(&self, reason: &str) {
        if let Some(actor) = &self.actor {
            actor.stop(None);
        }
        for lane in &self.lanes {
            if let Some(connection) = lane.swap(None) {
                connection.close(reason);
            }
        }
    }

    const fn lane(&self, lane: Lane) -> &ArcSwapOption<Connection> {
        let [data, control] = &self.lanes;
        match lane {
            Lane::Data => data,
            Lane::Control => control,
        }
    }
}

/// A connection lives on without its handles: it is closed with the last who could use it.
impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close("nobody needs it any more");
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Dials one member, one attempt per lane at a time, with backoff between attempts.
pub(super) struct EndpointActor;

pub(super) struct EndpointArguments {
    endpoint: std::sync::Weak<Endpoint>,
    peer: MemberId,
    address: Address,
    dialer: Arc<Dialer>,
}

type Waiter = oneshot::Sender<Result<Arc<Connection>, NoConnection>>;

pub(crate) enum EndpointMessage {
    Connect(Lane, Waiter),
    Dialed(Lane, Result<Fresh, ConnectError>),
}

/// A connection that nobody has adopted yet. It is closed if nobody does: the endpoint may be forgotten meanwhile.
pub(crate) struct Fresh(Option<Connection>);

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close("nobody needs it any more");
        }
    }
}

pub(super) struct EndpointState {
    arguments: EndpointArguments,
    lanes: [Dialing; 2],
}

/// The last failure.
struct Failed {
    error: NoConnection,
    at: Instant,
    /// When the next attempt may be made.
    until: Instant,
}

#[derive(Default)]
struct Dialing {
    /// Not empty exactly while an attempt is under way.
    waiters: Vec<Waiter>,
    backoff: Backoff,
    failed: Option<Failed>,
}

impl EndpointState {
    const fn lane(&mut self, lane: Lane) -> &mut Dialing {
        let [data, control] = &mut self.lanes;
        match lane {
            Lane::Data => data,
            Lane::Control => control,
        }
    }
}

impl Actor for EndpointActor {
    type Msg = EndpointMessage;
    type State = EndpointState;
    type Arguments = EndpointArguments;

    async fn pre_start(
        &self,
        _: ActorRef<EndpointMessage>,
        arguments: EndpointArguments,
    ) -> Result<EndpointState, ActorProcessingErr> {
        Ok(EndpointState { arguments, lanes: Default::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<EndpointMessage>,
        message: EndpointMessage,
        state: &mut EndpointState,
    ) -> Result<(), ActorProcessingErr> {
        let Some(endpoint) = state.arguments.endpoint.upgrade() else {
            myself.stop(None);
            return Ok(());
        };
        match message {
            EndpointMessage::Connect(lane, waiter) => {
                if let Some(connection) = endpoint.connected(lane) {
                    drop(waiter.send(Ok(connection)));
                    return Ok(());
                }
                let dialing = state.lane(lane);
                let now = Instant::now();
                if let Some(failed) = dialing.failed.as_ref().filter(|failed| failed.until > now) {
                    drop(waiter.send(Err(failed.error.remembered(now - failed.at))));
                    return Ok(());
                }
                dialing.waiters.push(waiter);
                if dialing.waiters.len() == 1 {
                    let (dialer, address) = (Arc::clone(&state.arguments.dialer), state.arguments.address.clone());
                    let peer = state.arguments.peer;
                    tokio::spawn(async move {
                        let dial = AssertUnwindSafe(dialer.dial(&address, lane, Some(peer))).catch_unwind();
                        // Those who wait are told in any case, or this lane would never be dialed again.
                        let dialed = dial.await.unwrap_or_else(|_| {
                            let (address, source) = (address.to_string(), io::Error::other("the network panicked"));
                            Err(ConnectError::Unreachable { address, source })
                        });
                        let dialed = dialed.map(|connection| Fresh(Some(connection)));
                        drop(myself.cast(EndpointMessage::Dialed(lane, dialed)));
                    });
                }
            }
            EndpointMessage::Dialed(lane, dialed) => {
                let dialing = state.lane(lane);
                let result = match dialed {
                    Ok(mut fresh) => {
                        let Some(connection) = fresh.0.take() else { return Ok(()) };
                        dialing.backoff.reset();
                        dialing.failed = None;
                        endpoint.adopt(&connection);
                        Ok(Arc::new(connection))
                    }
                    Err(error) => {
                        let error = NoConnection::from(error);
                        let pause = dialing.backoff.next(rand::random());
                        let at = Instant::now();
                        dialing.failed = Some(Failed { error: error.clone(), at, until: at + pause });
                        Err(error)
                    }
                };
                for waiter in dialing.waiters.drain(..) {
                    drop(waiter.send(result.clone()));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<EndpointMessage>,
        _: SupervisionEvent,
        _: &mut EndpointState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_evidence_for_all_who_ask_soon_and_no_longer() {
        let refused = NoConnection::NobodyListens("refused".into());
        assert_eq!(refused.remembered(FRESH), refused);
        let stale = refused.remembered(FRESH + Duration::from_millis(1));
        assert_eq!(stale, NoConnection::Unreachable("refused".into()));
        let met = NoConnection::Superseded(MemberId::new(2));
        assert_eq!(met.remembered(10 * FRESH), met);
    }
}
