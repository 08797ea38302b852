//! Who is a member.
//!
//! On a member, the [`MemberListActor`] drives [`gristmill_core::membership`]: records, probes, joins; what that says
//! of the active members, less those that [`gristmill_core::downing`] has released, goes through the window of
//! [`gristmill_core::topology`] and is published as one snapshot. On a client, the [`FollowerActor`] asks a member for
//! its topology instead. Both answer to [`MemberListMessage`].

mod actor;
mod follower;
mod lag;
mod partition;
mod publish;

use gristmill_core::membership::{Explanation, Input, TimerEpoch};
use gristmill_core::topology::WindowEpoch;
use gristmill_core::{Address, alarm, downing, topology};
use gristmill_messages::{MemberId, TopologyHash};
use tokio::sync::oneshot;

pub(crate) use self::actor::MemberListActor;
pub(crate) use self::follower::FollowerActor;
pub(crate) use self::publish::Applied;
use crate::context::MemberInfo;
use crate::error::{StartError, TopologyApplyError};
use crate::inbox::PeerRequest;

pub(crate) enum MemberListMessage {
    /// Join through these; the answer comes when this node has joined, or cannot.
    Start {
        seeds: Vec<Address>,
        /// For one that was cut off: under which id, and the members that were settled then.
        cut_off: Option<(MemberId, Vec<MemberId>)>,
        joined: oneshot::Sender<Result<(), StartError>>,
    },
    /// The provider found these.
    Discovered(Vec<Address>),
    /// What an effect of the membership led to.
    Membership(Input),
    /// The window of the topology has passed.
    Window(WindowEpoch),
    Timer(TimerEpoch),
    /// A timer of the downing.
    Judge(downing::TimerEpoch),
    /// A member that was released has been blocked for long enough.
    Unblock(alarm::TimerEpoch),
    /// Ask a member for the topology.
    Ask,
    /// What came of a client's question for the topology.
    Followed(Answered),
    FromPeer(PeerRequest),
    /// The last connection to this peer was lost.
    Disconnected(MemberId),
    /// Why this member is or was suspected.
    Explain(MemberId, oneshot::Sender<Option<Explanation>>),
    /// Every known member.
    Members(oneshot::Sender<Vec<MemberInfo>>),
    /// Own no keys from now on.
    Leave,
    /// Nothing runs here any more: go, and answer when the others were told.
    Depart(oneshot::Sender<()>),
}

/// Who has answered a client's question, and the topology; none when it is what it was.
pub(crate) type Answered = Result<(MemberId, Option<topology::Topology>), NotFollowed>;

/// Why a client has no new topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotFollowed {
    #[error("{0}")]
    Unanswered(String),
    /// The answer cannot be applied; it states this hash.
    #[error("{reason}")]
    Invalid { stated: TopologyHash, reason: TopologyApplyError },
}

impl From<PeerRequest> for MemberListMessage {
    fn from(request: PeerRequest) -> Self {
        Self::FromPeer(request)
    }
}
