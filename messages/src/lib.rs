//! The wire contract of Gristmill: every message that may cross from one node to another, and the newtypes of the
//! ids inside them.
//!
//! The modules [`actor`], [`cluster`], [`remote`] and [`membership`] are generated from `proto/` at build time. Names
//! and field numbers 1 to 99 of the first three follow protoactor-go's protos; our own fields start at 100.
//! Anything read from a peer passes through a `TryFrom` of this crate or of `gristmill-core` before it is believed.
#![no_std]

extern crate alloc;

mod hash;
mod id;
mod identity;
mod name;

/// Generated from `proto/actor.proto`: where an activation lives.
#[allow(missing_docs, clippy::all)]
pub mod actor {
    include!(concat!(env!("OUT_DIR"), "/actor.rs"));
}

/// Generated from `proto/{cluster,gossip,grain,pubsub}.proto`.
#[allow(missing_docs, clippy::all)]
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/cluster.rs"));
}

/// Generated from `proto/remote.proto`: frames.
#[allow(missing_docs, clippy::all)]
pub mod remote {
    include!(concat!(env!("OUT_DIR"), "/remote.rs"));
}

/// Generated from `proto/membership.proto`: probes, rumours and joins.
#[allow(missing_docs, clippy::all)]
pub mod membership {
    include!(concat!(env!("OUT_DIR"), "/gristmill.rs"));
}

pub use cluster::ClusterIdentity;
pub use hash::StableHasher;
pub use id::{ActivationEpoch, ActivationId, Incarnation, InvalidId, MemberId, TopologyHash, TopologyVersion};
pub use identity::InvalidIdentity;
pub use name::MessageName;
