//! Connections to other nodes.
//!
//! [`Remoting`] is what the other parts see: a table of [`Endpoint`]s, one per peer, read in place. The
//! [`RemotingActor`] owns the listener and routes what comes in; an [`EndpointActor`] per peer dials, and dials again
//! with backoff when somebody needs a connection that is gone. A member always dials its own connections: that a
//! member's messages arrive proves that it can be reached where it says it listens. Only a client, which does not
//! listen, is answered and called on the connection that it opened.
//!
//! Each peer has a control lane, for the actors of the cluster itself, and a data lane, for grains and topics: neither
//! waits behind the other.

mod actor;
mod endpoint;
mod router;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use fnv::FnvBuildHasher;
use gristmill_core::{Address, Member};
use gristmill_messages::remote::SystemActor;
use gristmill_messages::{MemberId, MessageName};
use gristmill_transport::{Connection, Handler, Lane, Local, Network, Outcome, OutgoingRequest, Target};
use prost::{Message, Name};
use tokio::time::Instant;

pub(crate) use self::actor::{RemotingActor, RemotingArguments};
pub(crate) use self::endpoint::{Endpoint, NoConnection};
pub(crate) use self::router::{Router, refuse_unknown};

/// The table of peers.
#[derive(Debug)]
pub(crate) struct Remoting {
    endpoints: DashMap<MemberId, Arc<Endpoint>, FnvBuildHasher>,
    /// What members have opened, and this node sends nothing on.
    accepted: DashMap<MemberId, Vec<Connection>, FnvBuildHasher>,
    dialer: Arc<Dialer>,
    /// This node shuts down: what is connected now is closed at once.
    closed: AtomicBool,
}

/// What every dial of this node has in common.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) local: Local,
    pub(crate) handler: Arc<Router>,
}

impl Dialer {
    async fn dial(
        &self,
        address: &Address,
        lane: Lane,
        expected: Option<MemberId>,
    ) -> Result<Connection, gristmill_transport::ConnectError> {
        let handler = Arc::clone(&self.handler) as Arc<dyn Handler>;
        gristmill_transport::dial(&*self.network, address.as_str(), lane, expected, &self.local, handler).await
    }
}

impl Remoting {
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self {
            endpoints: DashMap::default(),
            accepted: DashMap::default(),
            dialer: Arc::new(dialer),
            closed: AtomicBool::new(false),
        }
    }

    /// The endpoint of a member; made when there is none.
    pub(crate) fn endpoint(&self, member: MemberId, address: &Address) -> Arc<Endpoint> {
        if let Some(endpoint) = self.endpoints.get(&member) {
            return Arc::clone(&endpoint);
        }
        let made = self.endpoints.entry(member).or_insert_with(|| Endpoint::member(member, address, &self.dialer));
        let endpoint = Arc::clone(&made);
        drop(made);
        self.check(member);
        endpoint
    }

    /// Forgets a peer again that was added while, or after, all were forgotten.
    fn check(&self, peer: MemberId) {
        if self.closed.load(Ordering::SeqCst) {
            self.forget(peer, "this node shuts down");
        }
    }

    /// The endpoint of a peer that has one.
    pub(crate) fn known(&self, peer: MemberId) -> Option<Arc<Endpoint>> {
        self.endpoints.get(&peer).map(|endpoint| Arc::clone(&endpoint))
    }

    /// A connection that a client has opened: the only way to it.
    pub(crate) fn client_connected(&self, connection: &Connection) {
        let peer = connection.peer();
        self.endpoints.entry(peer.member).or_insert_with(|| Endpoint::client(peer.member)).adopt(connection);
    }

    /// Remembers a connection of a member, to hang up on it. Also one of this node's own, which does no harm.
    pub(crate) fn member_connected(&self, connection: &Connection) {
        self.accepted.entry(connection.peer().member).or_default().push(connection.clone());
    }

    /// A connection of this member has ended.
    pub(crate) fn member_disconnected(&self, member: MemberId) {
        self.accepted.remove_if_mut(&member, |_, connections| {
            connections.retain(|connection| !connection.is_closed());
            connections.is_empty()
        });
    }

    /// Closes the connections that a member has opened. It hears why when it opens the next one.
    pub(crate) fn hang_up(&self, member: MemberId, reason: &str) {
        if let Some((_, connections)) = self.accepted.remove(&member) {
            connections.iter().for_each(|connection| connection.close(reason));
        }
    }

    /// Closes the connections of a peer that has left, or that has gone.
    pub(crate) fn forget(&self, peer: MemberId, reason: &str) {
        if let Some((_, endpoint)) = self.endpoints.remove(&peer) {
            endpoint.close(reason);
        }
    }

    /// Forgets a client that has no connection any more: one that has come back in the meantime stays.
    pub(crate) fn client_disconnected(&self, client: MemberId) {
        if let Some((_, endpoint)) = self.endpoints.remove_if(&client, |_, endpoint| !endpoint.is_connected()) {
            endpoint.close("the client has disconnected");
        }
    }

    /// Forgets the peers that have no connection, unless they are to be kept. One that is needed again is made again.
    pub(crate) fn forget_disconnected(&self, keep: impl Fn(MemberId) -> bool) {
        self.endpoints.retain(|peer, endpoint| {
            let kept = endpoint.is_connected() || keep(*peer);
            if !kept {
                endpoint.close("it is gone");
            }
            kept
        });
    }

    /// Forgets every peer, also those that tasks under way still add.
    pub(crate) fn forget_all(&self, reason: &str) {
        self.closed.store(true, Ordering::SeqCst);
        let peers: Vec<_> = self.endpoints.iter().map(|entry| *entry.key()).collect();
        peers.into_iter().for_each(|peer| self.forget(peer, reason));
    }

    /// Asks whoever listens at `address`, on the control connection to it, or on a new one, which becomes the peer's if
    /// it has none.
    pub(crate) async fn contact<Q: Message + Name, A: Message + Name + Default>(
        &self,
        address: &Address,
        question: &Q,
        actor: SystemActor,
        deadline: Instant,
    ) -> Result<(MemberId, A), ContactError> {
        let at = |endpoint: &Endpoint| endpoint.connected(Lane::Control).filter(|_| endpoint.is_at(address));
        let live = self.endpoints.iter().find_map(|endpoint| at(&endpoint));
        let connection = match live {
            Some(connection) => connection,
            None => {
                let dialed = tokio::time::timeout_at(deadline, self.dialer.dial(address, Lane::Control, None)).await;
                let connection = dialed.map_err(|_| ContactError::Unreachable("no answer in time".into()))??;
                let peer = connection.peer();
                // Behind a name of several hosts it is one of them, who tells its own address.
                let endpoint = self.endpoint(peer.member, peer.address.as_ref().unwrap_or(address));
                match endpoint.connected(Lane::Control) {
                    Some(live) => {
                        connection.close("there is one already");
                        live
                    }
                    None => {
                        endpoint.adopt(&connection);
                        self.check(peer.member);
                        Arc::new(connection)
                    }
                }
            }
        };
        let peer = connection.peer().member;
        let outcome = connection.call(system_request(actor, question), deadline).await;
        Ok((peer, answer(outcome.map_err(NoConnection::from))?))
    }

    /// Asks an actor of a member's node.
    pub(crate) async fn ask<Q: Message + Name, A: Message + Name + Default>(
        &self,
        member: &Member,
        lane: Lane,
        actor: SystemActor,
        question: &Q,
        deadline: Instant,
    ) -> Result<A, ContactError> {
        let endpoint = self.endpoint(member.id, &member.address);
        self.ask_peer(&endpoint, lane, actor, question, deadline).await
    }

    /// Asks an actor of a node, which may be a client.
    pub(crate) async fn ask_peer<Q: Message + Name, A: Message + Name + Default>(
        &self,
        endpoint: &Endpoint,
        lane: Lane,
        actor: SystemActor,
        question: &Q,
        deadline: Instant,
    ) -> Result<A, ContactError> {
        let connection = endpoint.connection(lane, deadline).await?;
        answer(connection.call(system_request(actor, question), deadline).await.map_err(NoConnection::from))
    }

    /// Tells an actor of a member's node, one-way.
    pub(crate) async fn tell<Q: Message + Name>(
        &self,
        endpoint: &Endpoint,
        lane: Lane,
        actor: SystemActor,
        message: &Q,
        deadline: Instant,
    ) -> Result<(), NoConnection> {
        let connection = endpoint.connection(lane, deadline).await?;
        Ok(connection.notify(system_request(actor, message), deadline).await?)
    }
}

fn system_request<M: Message + Name>(actor: SystemActor, message: &M) -> OutgoingRequest {
    OutgoingRequest {
        target: Target::System(actor),
        message: MessageName::of::<M>(),
        data: message.encode_to_vec().into(),
        traceparent: None,
    }
}

fn answer<A: Message + Name + Default>(outcome: Result<Outcome, NoConnection>) -> Result<A, ContactError> {
    match outcome? {
        Outcome::Response { message, data } if message.is::<A>() => {
            A::decode(data).map_err(|error| ContactError::Unreachable(format!("malformed {message}: {error}")))
        }
        Outcome::Response { message, .. } => Err(ContactError::Unreachable(format!("unexpected {message}"))),
        Outcome::Rejected { message, .. } => Err(ContactError::Unreachable(message)),
        Outcome::NotDelivered { reason, detail } => Err(ContactError::Unreachable(format!("{reason:?} {detail}"))),
        Outcome::UnknownOutcome { detail } => Err(ContactError::Unreachable(detail)),
    }
}

/// Why an actor of another node did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContactError {
    /// It may answer another time.
    #[error("{0}")]
    Unreachable(String),
    /// It never will, as things are configured.
    #[error("refused: {0}")]
    Refused(String),
}

#[cfg(test)]
mod tests;
