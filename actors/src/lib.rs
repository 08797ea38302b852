//! Virtual actors for Rust, clustered.
//!
//! A *grain* is an actor that exists by its name. Whoever calls `("account", "alice")`, on whichever node, reaches it:
//! the members of the cluster compute who of them owns the name, and that one activates the grain for its first message
//! and deactivates it when it is idle. Members find each other by gossip; there is no coordinator and no storage.
//!
//! ```
//! use std::time::Duration;
//!
//! use gristmill::{Call, ClusterActor, ClusterConfig, Grain, GrainContext, GrainError, Kind, Reply, Shutdown};
//!
//! #[derive(Default)]
//! struct Account {
//!     balance: i64,
//! }
//!
//! impl Grain for Account {
//!     async fn receive(&mut self, call: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
//!         self.balance += call.decode::<i64>()?; // any prost message that has a name
//!         Reply::message(&self.balance)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClusterConfig::builder("shop").kind(Kind::new("account", Account::default)).build()?;
//! let (cluster, context) = ClusterActor::start_member(config).await?;
//! let balance: i64 = context.request(("account", "alice"), 100_i64).await?;
//! assert_eq!(balance, 100);
//! cluster.shutdown(Shutdown::graceful(Duration::from_secs(5))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! There are three handles:
//! - [`Cluster`] is the running node, for whoever started it: to shut it down, and to wait for its end.
//! - [`ClusterContext`] is everybody's way into the cluster, a cheap clone. A grain finds it in its [`GrainContext`].
//! - [`Grain`] is what you write, [`GrainRef`] what you call it by.
//!
//! | to | look at |
//! | --- | --- |
//! | call grains | [`ClusterContext::request`] and [`notify`](ClusterContext::notify); [`ClusterContext::grain`] for a deadline, or calls that may run twice |
//! | host grains | [`Kind::new`]; [`Kind::actor`] for a ractor actor that you have; [`ClusterConfig::builder`] for all that a node is started with |
//! | use topics | [`ClusterContext::publish`] and [`subscribe`](ClusterContext::subscribe) |
//! | see the cluster | [`ClusterContext::topology`], [`members`](ClusterContext::members), [`events`](ClusterContext::events), [`explain`](ClusterContext::explain), [`metrics`](ClusterContext::metrics) |
//! | share small values among members | [`ClusterContext::gossip`] |
//! | know what a failed call means | [`RequestError`]: each variant says whether the grain may have run |
//! | say how soon failures are noticed, and who goes on after them | [`Timing`], [`Downing`], [`OnEviction`] |
//! | test | [`MemoryNetwork`] and [`Timing::test`]; the crate `gristmill-testkit` starts, cuts and crashes whole clusters with them |
//!
//! What holds when things fail is in `docs/semantics.md` of the repository, each promise with its test.
mod cluster;
mod config;
mod context;
mod delivery;
mod error;
mod event;
mod gossip;
mod grain;
mod inbox;
mod member_list;
mod metrics;
mod node;
mod pid_cache;
mod placement;
mod provider;
mod remoting;
mod request;
mod timer;
mod topic;

pub use cluster::{Cluster, ClusterActor, ClusterArguments, ClusterMessage, ClusterState, Shutdown};
pub use config::{ClusterConfig, ClusterConfigBuilder, ConfigError, OnEviction, Timing};
pub use context::{ClusterContext, MemberInfo};
pub use delivery::Subscription;
pub use error::{NotRunning, RequestError, ShutdownError, StartError, TopologyApplyError, TopologyPart, Undelivered};
pub use event::{ClusterEvent, EventStream};
pub use gossip::{ClusterGossip, ConsensusError, ConsensusHandle, GossipError, GossipUpdate, GossipUpdates, Heartbeat};
pub use grain::{
    Answer, Call, DeactivationReason, DecodeError, ErrorCode, Grain, GrainContext, GrainError, HostedCall, Kind,
    OnPanic, Reply,
};
#[doc(inline)]
pub use gristmill_core::downing::Config as Downing;
#[doc(inline)]
pub use gristmill_core::gossip::SetRefusal;
#[doc(inline)]
pub use gristmill_core::membership::{
    Accusation, Evidence, Explanation, JoinError, QuarantineReason, Refusal as TransitionRefusal, SeedFailure,
    SuspicionOutcome,
};
#[doc(inline)]
pub use gristmill_core::request::{NotDeliveredReason, Unresolved};
#[doc(inline)]
pub use gristmill_core::topic::{DeliveryStatus, PublishReceipt, Subscriber};
#[doc(inline)]
pub use gristmill_core::topology::{InvalidTopology, Topology, TopologyUpdated};
#[doc(inline)]
pub use gristmill_core::{Address, KindName, Member, MemberStatus, Timestamp};
#[doc(inline)]
pub use gristmill_messages::{
    ActivationEpoch, ActivationId, ClusterIdentity, InvalidId, InvalidIdentity, MemberId, MessageName, TopologyHash,
    TopologyVersion,
};
#[doc(inline)]
pub use gristmill_transport::{MemoryHost, MemoryNetwork, Network, Secret, TcpNetwork, TransportConfig};
pub use metrics::{MetricsError, MetricsSnapshot};
pub use provider::{ClusterProvider, Discovery, MemoryProvider, ProviderError, ProviderFuture, SeedNodes, StaticList};
pub use request::GrainRef;
// Their types are in the public signatures: messages, and the actors around and inside of a node.
pub use {prost, ractor};

/// What was decided about a partition, and why. [`Downing`] configures it, [`ClusterEvent::DowningDecided`] tells it.
pub mod downing {
    #[doc(inline)]
    pub use gristmill_core::downing::{Cause, DowningDecision, Side, Strategy};
}

/// The parts of a [`Timing`], for whoever changes one of its presets.
///
/// ```
/// use std::time::Duration;
///
/// use gristmill::timing::{MembershipConfig, RetryPolicy};
/// use gristmill::{ClusterConfig, Timing};
///
/// let membership = MembershipConfig { join_timeout: Duration::from_secs(60), ..MembershipConfig::lan() };
/// let retry = RetryPolicy { max: Duration::from_millis(500), ..RetryPolicy::lan() };
/// let timing = Timing { membership, retry, ..Timing::lan() };
/// assert!(ClusterConfig::builder("shop").timing(timing).build().is_ok());
/// ```
pub mod timing {
    #[doc(inline)]
    pub use gristmill_core::gossip::Config as GossipConfig;
    #[doc(inline)]
    pub use gristmill_core::membership::Config as MembershipConfig;
    #[doc(inline)]
    pub use gristmill_core::request::RetryPolicy;
    #[doc(inline)]
    pub use gristmill_core::topology::Config as TopologyConfig;
}

/// The code of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
