use std::collections::BTreeMap;

use gristmill_core::gossip::GossipValue;
use gristmill_core::{KindName, Timestamp};
use gristmill_messages::cluster::{ActorStatistics, MemberHeartbeat};

/// What a member says of itself: `cluster.MemberHeartbeat`, spread by gossip.
///
/// It is written when it changes, looked at in each gossip round, and again after
/// [`Timing::heartbeat_refresh`](crate::Timing::heartbeat_refresh) when it does not. Whether a member lives is not read
/// from it but from its [status](crate::ClusterContext::members).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// How many grains of each kind it runs; kinds of which it runs none may be missing.
    pub grains: BTreeMap<KindName, u64>,
    /// When it came here, on [this node's clock](crate::ClusterContext::now).
    pub heard_at: Timestamp,
}

impl Heartbeat {
    pub(super) fn encode(counts: BTreeMap<KindName, usize>) -> GossipValue {
        let counted = |(kind, count): (KindName, usize)| (kind.to_string(), i64::try_from(count).unwrap_or(i64::MAX));
        let actor_count = counts.into_iter().map(counted).collect();
        GossipValue::of(&MemberHeartbeat { actor_statistics: Some(ActorStatistics { actor_count }) })
    }

    /// None when it cannot be read.
    pub(super) fn decode(value: &GossipValue, heard_at: Timestamp) -> Option<Self> {
        let heartbeat = value.decode::<MemberHeartbeat>()?.ok()?;
        let counts = heartbeat.actor_statistics.unwrap_or_default().actor_count;
        let grains = counts.into_iter().map(|(kind, count)| (kind.into(), u64::try_from(count).unwrap_or(0))).collect();
        Some(Self { grains, heard_at })
    }
}
