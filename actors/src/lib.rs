//! Virtual actors for Rust, clustered.
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
pub use error::{RequestError, ShutdownError, StartError, TopologyApplyError, TopologyPart};
pub use event::{ClusterEvent, EventStream};
pub use gossip::{ClusterGossip, ConsensusError, ConsensusHandle, GossipError, GossipUpdate, GossipUpdates, Heartbeat};
pub use grain::{
    Answer, Call, DeactivationReason, DecodeError, ErrorCode, Grain, GrainContext, GrainError, HostedCall, Kind,
    OnPanic, Reply,
};
pub use gristmill_core::downing::{Cause, Config as Downing, DowningDecision, Side, Strategy};
pub use gristmill_core::gossip::SetRefusal;
pub use gristmill_core::membership::{Accusation, Evidence, Explanation, QuarantineReason, SuspicionOutcome};
pub use gristmill_core::topic::{DeliveryStatus, Receipt, Subscriber};
pub use gristmill_core::topology::{InvalidTopology, Topology, TopologyUpdated};
pub use gristmill_core::{Address, KindName, Member, MemberStatus, Timestamp};
pub use gristmill_messages::{
    ActivationEpoch, ActivationId, ClusterIdentity, MemberId, MessageName, TopologyHash, TopologyVersion,
};
pub use gristmill_transport::{MemoryHost, MemoryNetwork, Network, Secret, TcpNetwork, TransportConfig};
pub use metrics::{MetricsError, MetricsSnapshot};
pub use provider::{ClusterProvider, Discovery, MemoryProvider, ProviderError, ProviderFuture, SeedNodes, StaticList};
pub use request::GrainRef;

/// The code of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
