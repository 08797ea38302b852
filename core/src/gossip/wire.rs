use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use gristmill_messages::{InvalidId, MemberId, cluster};
use prost_types::Any;

use super::message::{Delta, DeltaAck, DeltaId, GossipEntry, GossipKey, GossipValue, Sequence, StateDigest};

/// A gossip message that a peer sent and that is none. The peer's fault; nothing of it was merged, and a retry of the
/// same message does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidGossip {
    /// More entries than any member sends.
    #[error("{count} entries, {max} at most", max = Delta::MAX_ENTRIES)]
    TooManyEntries {
        /// How many came.
        count: usize,
    },
    /// The key of an entry has no byte, or too many.
    #[error("a key of {bytes} bytes, 1 to {max} are allowed", max = GossipKey::MAX_BYTES)]
    KeyLength {
        /// How many came.
        bytes: usize,
    },
    /// The value of an entry is too large.
    #[error("a value of {bytes} bytes, {max} at most", max = GossipValue::MAX_BYTES)]
    ValueTooLarge {
        /// How many came.
        bytes: usize,
    },
    /// The sequence number of an entry is not positive.
    #[error("the sequence number {0}")]
    Sequence(i64),
    /// The sender's or an entry's member id is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

const TYPE_URL: &str = "type.googleapis.com/";

impl From<Delta> for cluster::GossipRequest {
    fn from(delta: Delta) -> Self {
        let mut members = BTreeMap::<String, cluster::gossip_state::GossipMemberState>::new();
        for GossipEntry { member, key, sequence, value } in delta.entries {
            let value = cluster::GossipKeyValue {
                sequence_number: i64::try_from(sequence.get()).unwrap_or(i64::MAX),
                value: value.map(|GossipValue { type_name, data }| Any {
                    type_url: TYPE_URL.to_owned() + &type_name,
                    value: data.into(),
                }),
                local_timestamp_unix_milliseconds: 0, // the core knows no calendar, and nobody decides by it
            };
            members.entry(member.to_string()).or_default().values.insert(key.to_string(), value);
        }
        Self {
            state: Some(cluster::GossipState { members }),
            member_id: delta.from.to_string(),
            state_digest: delta.digest.get(),
            delta_id: delta.id.get(),
            full_state_wanted: delta.full_state_wanted,
        }
    }
}

impl TryFrom<cluster::GossipRequest> for Delta {
    type Error = InvalidGossip;

    fn try_from(wire: cluster::GossipRequest) -> Result<Self, InvalidGossip> {
        let members = wire.state.unwrap_or_default().members;
        let count = members.values().map(|state| state.values.len()).sum();
        if count > Self::MAX_ENTRIES {
            return Err(InvalidGossip::TooManyEntries { count });
        }
        let mut entries = Vec::with_capacity(count);
        for (member, state) in members {
            let member = member.parse()?;
            for (key, value) in state.values {
                entries.push(entry(member, &key, value)?);
            }
        }
        Ok(Self {
            from: wire.member_id.parse()?,
            id: DeltaId::new(wire.delta_id),
            digest: StateDigest::new(wire.state_digest),
            full_state_wanted: wire.full_state_wanted,
            entries,
        })
    }
}

fn entry(member: MemberId, key: &str, wire: cluster::GossipKeyValue) -> Result<GossipEntry, InvalidGossip> {
    if key.is_empty() || key.len() > GossipKey::MAX_BYTES {
        return Err(InvalidGossip::KeyLength { bytes: key.len() });
    }
    let sequence = match u64::try_from(wire.sequence_number) {
        Ok(number) if number > 0 => Sequence::new(number),
        _ => return Err(InvalidGossip::Sequence(wire.sequence_number)),
    };
    let value = wire.value.map(|Any { type_url, value }| GossipValue {
        type_name: type_url.rsplit('/').next().unwrap_or_default().to_owned(),
        data: value.into(),
    });
    let bytes = value.as_ref().map_or(0, GossipValue::len);
    if bytes > GossipValue::MAX_BYTES {
        return Err(InvalidGossip::ValueTooLarge { bytes });
    }
    Ok(GossipEntry { member, key: key.into(), sequence, value })
}

impl From<DeltaAck> for cluster::GossipResponse {
    /// The state stays empty: what the answering member has to tell travels in its own deltas, which are acknowledged.
    fn from(ack: DeltaAck) -> Self {
        Self {
            state: None,
            state_digest: ack.digest.get(),
            delta_id: ack.id.get(),
            full_state_wanted: ack.full_state_wanted,
        }
    }
}

impl From<&cluster::GossipResponse> for DeltaAck {
    fn from(wire: &cluster::GossipResponse) -> Self {
        Self {
            id: DeltaId::new(wire.delta_id),
            digest: StateDigest::new(wire.state_digest),
            full_state_wanted: wire.full_state_wanted,
        }
    }
}
