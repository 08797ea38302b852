//! One node of a cluster, from its start to its end.
//!
//! [`ClusterActor`] is the root: spawn it like any ractor actor and ask it for a [`ClusterContext`], or let
//! [`ClusterActor::start_member`] do both. It starts the parts in the order remoting, gossip, member list, placement,
//! PID cache, delivery, provider, and is started itself when the cluster is joined. If any part fails, those that were
//! started are stopped again. It shuts down in the opposite order, within a bounded time, whether peers answer or not.

mod actor;
mod parts;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::{Actor, ActorRef, RpcReplyPort, SpawnErr};
use tokio::task::JoinHandle;

pub use self::actor::ClusterState;
use crate::config::ClusterConfig;
use crate::context::ClusterContext;
use crate::error::{ShutdownError, StartError};
use crate::node::Role;

/// The root of a node: a ractor actor, whose arguments are [`ClusterArguments`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ClusterActor;

/// What a [`ClusterActor`] is spawned with.
#[derive(Debug, Clone)]
pub struct ClusterArguments {
    config: Arc<ClusterConfig>,
    role: Role,
    end: End,
}

/// How a node has ended, once it has.
type End = Arc<OnceLock<Result<(), ShutdownError>>>;

impl ClusterArguments {
    /// A member: it listens, hosts grains, owns keys.
    #[must_use]
    pub fn member(config: ClusterConfig) -> Self {
        Self::new(config, Role::Member)
    }

    /// A client: it calls, publishes and subscribes, but needs no listening port and owns nothing.
    #[must_use]
    pub fn client(config: ClusterConfig) -> Self {
        Self::new(config, Role::Client)
    }

    fn new(config: ClusterConfig, role: Role) -> Self {
        Self { config: Arc::new(config), role, end: End::default() }
    }
}

/// What a [`ClusterActor`] understands.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClusterMessage {
    /// Asks for the way into the cluster.
    Context(RpcReplyPort<ClusterContext>),
    /// Shuts the node down, then ends the actor. The answer comes when the port is free.
    Shutdown(Shutdown, RpcReplyPort<Result<(), ShutdownError>>),
    /// What the node's own parts say, and nobody else can.
    #[doc(hidden)]
    Internal(Internal),
}

/// Sealed: made in this crate alone.
#[doc(hidden)]
#[derive(Debug)]
pub struct Internal(News);

/// What the parts of a node tell its root.
#[derive(Debug, Clone, Copy)]
enum News {
    /// This node was fenced, or the others have declared it dead: it shuts down at once, or rejoins, as configured.
    Evicted,
    /// An attempt to rejoin has ended.
    Rejoined,
    /// A part of the node has failed: it shuts down at once.
    PartFailed,
}

impl ClusterMessage {
    pub(crate) const EVICTED: Self = Self::Internal(Internal(News::Evicted));
    const REJOINED: Self = Self::Internal(Internal(News::Rejoined));
    const PART_FAILED: Self = Self::Internal(Internal(News::PartFailed));
}

/// How a node shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    pub(crate) grace: Option<Duration>,
}

impl Shutdown {
    /// Tells the others, lets the grains finish what they have for at most `grace`, and only then goes.
    #[must_use]
    pub const fn graceful(grace: Duration) -> Self {
        Self { grace: Some(grace) }
    }

    /// Goes at once, as a crash would, but frees everything in this process. The others find out by themselves.
    #[must_use]
    pub const fn immediate() -> Self {
        Self { grace: None }
    }
}

/// A running node. Dropping it leaves the node running; [`shutdown`](Self::shutdown) ends it.
#[derive(Debug)]
pub struct Cluster {
    actor: ActorRef<ClusterMessage>,
    ended: JoinHandle<()>,
    end: End,
}

impl Cluster {
    /// The root actor, to supervise it or to send it [`ClusterMessage`]s.
    #[must_use]
    pub const fn actor(&self) -> &ActorRef<ClusterMessage> {
        &self.actor
    }

    /// Ends the node. Idempotent: on a node that has ended it does nothing. If the future is dropped the shutdown goes
    /// on.
    ///
    /// # Errors
    /// The node is down, but not in order.
    pub async fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        match self.actor.call(|reply| ClusterMessage::Shutdown(how, reply), None).await {
            Ok(ractor::rpc::CallResult::Success(result)) => result,
            // It has ended, or somebody else's shutdown ends it now.
            Ok(_) | Err(_) => {
                drop(self.actor.wait(None).await);
                Ok(())
            }
        }
    }

    /// Waits until the node has ended, for whatever reason.
    ///
    /// # Errors
    /// The node is down, but not in order.
    pub async fn ended(self) -> Result<(), ShutdownError> {
        // A runtime that shuts down takes the actor with it: an end that nobody has noted.
        drop(self.ended.await);
        self.end.get().cloned().unwrap_or(Err(ShutdownError::Aborted))
    }
}

impl ClusterActor {
    /// Starts a member and returns when it has joined.
    ///
    /// # Errors
    /// Why it did not start; everything that had been started was stopped again and its port is free. If the future is
    /// dropped, so is the start.
    pub async fn start_member(config: ClusterConfig) -> Result<(Cluster, ClusterContext), StartError> {
        Self::start(ClusterArguments::member(config)).await
    }

    /// Starts a client and returns when it knows the members.
    ///
    /// # Errors
    /// Why it did not start; nothing of it is left.
    pub async fn start_client(config: ClusterConfig) -> Result<(Cluster, ClusterContext), StartError> {
        Self::start(ClusterArguments::client(config)).await
    }

    async fn start(arguments: ClusterArguments) -> Result<(Cluster, ClusterContext), StartError> {
        let failed = |reason: String| StartError::Part { part: "cluster", reason };
        let end = Arc::clone(&arguments.end);
        let (actor, ended) = Actor::spawn(None, Self, arguments).await.map_err(|error| match error {
            SpawnErr::StartupFailed(cause) => match cause.downcast::<StartError>() {
                Ok(error) => *error,
                Err(other) => failed(other.to_string()),
            },
            other => failed(other.to_string()),
        })?;
        match actor.call(ClusterMessage::Context, None).await {
            Ok(ractor::rpc::CallResult::Success(context)) => Ok((Cluster { actor, ended, end }, context)),
            Ok(_) | Err(_) => Err(failed("it ended while it started".into())),
        }
    }
}
