//! State that members spread among each other: the [`GossipActor`] drives [`gristmill_core::gossip`].
//!
//! Each member writes its heartbeat there, with how many grains of each kind it runs, and anybody reads it with
//! [`ClusterContext::grain_counts`](crate::ClusterContext::grain_counts).

mod actor;

use std::collections::BTreeMap;

use gristmill_core::gossip::RoundEpoch;
use gristmill_core::{KindName, gossip};
use gristmill_messages::MemberId;
use tokio::sync::oneshot;

pub(crate) use self::actor::GossipActor;
use crate::inbox::PeerRequest;

/// The key under which each member writes its `MemberHeartbeat`.
pub(crate) const HEARTBEAT: &str = "heartbeat";

pub(crate) enum GossipMessage {
    Start,
    /// Forget everything and end.
    Stop,
    /// Look at the topology again.
    TopologyChanged,
    /// What an effect led to.
    Gossip(gossip::Input),
    Timer(RoundEpoch),
    /// Write the heartbeat.
    Beat,
    FromPeer(PeerRequest),
    /// The number of grains of each kind, by member.
    GrainCounts(oneshot::Sender<BTreeMap<MemberId, BTreeMap<KindName, u64>>>),
}

impl From<PeerRequest> for GossipMessage {
    fn from(request: PeerRequest) -> Self {
        Self::FromPeer(request)
    }
}
