//! State that members spread among each other: the [`GossipActor`] drives [`gristmill_core::gossip`].
//!
//! A user writes and reads through [`ClusterGossip`](crate::ClusterGossip). Two keys are the cluster's own: each member
//! writes its heartbeat, with how many grains of each kind it runs, and the hash of its topology, by which everybody
//! sees when all go by the same one.

mod access;
mod actor;
mod consensus;
mod heartbeat;
mod updates;
mod watchers;

use std::collections::BTreeMap;

use gristmill_core::gossip;
use gristmill_core::gossip::{GossipKey, GossipValue, RoundEpoch, SetRefusal};
use gristmill_messages::MemberId;
use tokio::sync::{oneshot, watch};

pub use self::access::{ClusterGossip, GossipError};
pub(crate) use self::actor::GossipActor;
pub use self::consensus::{ConsensusError, ConsensusHandle};
pub use self::heartbeat::Heartbeat;
use self::updates::Begun;
pub use self::updates::{GossipUpdate, GossipUpdates};
#[cfg(test)]
pub(crate) use self::watchers::UPDATES;
use self::watchers::{CheckId, Standing};
use crate::inbox::PeerRequest;
use crate::member_list::Applied;

pub(crate) enum GossipMessage {
    Start,
    /// Forget everything and end.
    Stop,
    /// Look at the topology again.
    TopologyChanged(Applied),
    /// What an effect led to.
    Gossip(gossip::Input),
    Timer(RoundEpoch),
    /// See whether there is something to write into the heartbeat.
    Beat,
    /// What the heartbeat is now.
    Counted(GossipValue),
    FromPeer(PeerRequest),
    /// What each member says of its grains.
    Heartbeats(oneshot::Sender<BTreeMap<MemberId, Heartbeat>>),
    /// A user's write; none: remove.
    Write {
        key: GossipKey,
        value: Option<GossipValue>,
        reply: oneshot::Sender<Result<(), SetRefusal>>,
    },
    Read {
        key: GossipKey,
        reply: oneshot::Sender<Vec<(MemberId, GossipValue)>>,
    },
    /// Tell of each change of a key, from the values on that come with the answer.
    Subscribe {
        key: GossipKey,
        reply: oneshot::Sender<Begun>,
    },
    /// Tell whether all agree on these keys.
    Watch {
        keys: Vec<GossipKey>,
        reply: oneshot::Sender<(CheckId, watch::Receiver<Standing>)>,
    },
    /// Nobody asks any more.
    Unwatch(CheckId),
}

impl From<PeerRequest> for GossipMessage {
    fn from(request: PeerRequest) -> Self {
        Self::FromPeer(request)
    }
}
