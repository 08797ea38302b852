use alloc::string::ToString;
use alloc::vec::Vec;

use gristmill_messages::{InvalidId, MemberId, TopologyHash, TopologyVersion, cluster};

use super::Topology;
use crate::Member;

/// A topology that a peer sent and that is none. The peer's fault; nothing was changed, and asking the same peer again
/// helps only after it has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopology {
    /// More members than any cluster has.
    #[error("{count} members, {max} at most", max = Topology::MAX_MEMBERS)]
    TooManyMembers {
        /// How many came.
        count: usize,
    },
    /// More blocked members than any node keeps.
    #[error("{count} blocked members, {max} at most", max = Topology::MAX_BLOCKED)]
    TooManyBlocked {
        /// How many came.
        count: usize,
    },
    /// One member hosts more kinds than any node does.
    #[error("member {member} hosts {count} kinds, {max} at most", max = Topology::MAX_KINDS)]
    TooManyKinds {
        /// Which, as it was sent.
        member: MemberId,
        /// How many came.
        count: usize,
    },
    /// A member or blocked id is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The members do not hash to what the sender says: it computes the hash in another way, so that none of its
    /// requests would ever find its topology current here.
    #[error("the topology is said to hash to {stated}, and hashes to {computed}")]
    HashMismatch {
        /// What came with it.
        stated: TopologyHash,
        /// What it is.
        computed: TopologyHash,
    },
}

impl Topology {
    /// Members that are taken from the wire, at most: as many as any membership may be configured for.
    pub const MAX_MEMBERS: usize = 65_536;
    /// Blocked members that are taken from the wire, at most: the same.
    pub const MAX_BLOCKED: usize = 65_536;
    /// Kinds of one member that are taken from the wire, at most.
    pub const MAX_KINDS: usize = 1_024;
}

impl From<&Topology> for cluster::ClusterTopology {
    fn from(topology: &Topology) -> Self {
        Self {
            topology_hash: topology.hash.get(),
            members: topology.members.iter().map(cluster::Member::from).collect(),
            joined: Vec::new(),
            left: Vec::new(),
            blocked: topology.blocked.iter().map(ToString::to_string).collect(),
            version: topology.version.get(),
        }
    }
}

impl TryFrom<cluster::ClusterTopology> for Topology {
    type Error = InvalidTopology;

    /// Keeps the sender's version. `joined` and `left` are not read: they tell of a step that the receiver did not
    /// make.
    fn try_from(wire: cluster::ClusterTopology) -> Result<Self, InvalidTopology> {
        if wire.members.len() > Self::MAX_MEMBERS {
            return Err(InvalidTopology::TooManyMembers { count: wire.members.len() });
        }
        if wire.blocked.len() > Self::MAX_BLOCKED {
            return Err(InvalidTopology::TooManyBlocked { count: wire.blocked.len() });
        }
        let members = wire.members.into_iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let blocked = wire.blocked.iter().map(|id| id.parse()).collect::<Result<Vec<_>, _>>()?;
        let topology = Self::new(TopologyVersion::new(wire.version), members, blocked);
        let stated = TopologyHash::new(wire.topology_hash);
        if topology.hash != stated {
            return Err(InvalidTopology::HashMismatch { stated, computed: topology.hash });
        }
        Ok(topology)
    }
}

fn member(wire: cluster::Member) -> Result<Member, InvalidTopology> {
    let count = wire.kinds.len();
    if count > Topology::MAX_KINDS {
        return Err(InvalidTopology::TooManyKinds { member: wire.id.parse()?, count });
    }
    Ok(Member::try_from(wire)?)
}
