use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use gristmill_messages::{MemberId, StableHasher};
use prost::{DecodeError, Message, Name};

use super::{Gossip, HEARTBEAT, OWN_KEYS, TOPOLOGY};

/// Names one value of a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipKey(Arc<str>);

impl GossipKey {
    /// Bytes of a key, at most; the same on all members.
    pub const MAX_BYTES: usize = 250;

    /// Wraps the text; a clone shares it. Its length is checked where it is set.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether it is one of the cluster's own, which no user may write.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(&*self.0, HEARTBEAT | TOPOLOGY | OWN_KEYS)
    }

    pub(super) fn is_own_keys(&self) -> bool {
        &*self.0 == OWN_KEYS
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for GossipKey {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl core::borrow::Borrow<str> for GossipKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An encoded message and its type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GossipValue {
    /// The full name, as `package.Name`.
    pub type_name: String,
    /// The message, encoded.
    pub data: Bytes,
}

impl GossipValue {
    /// Bytes of name and message together, at most; the same on all members.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Encodes a message.
    #[must_use]
    pub fn of<M: Message + Name>(message: &M) -> Self {
        Self { type_name: M::full_name(), data: message.encode_to_vec().into() }
    }

    /// Decodes it, when it is an `M`.
    ///
    /// # Errors
    /// It is called an `M` and is none: its writer's fault.
    pub fn decode<M: Message + Name + Default>(&self) -> Option<Result<M, DecodeError>> {
        (self.type_name == M::full_name()).then(|| M::decode(self.data.clone()))
    }

    /// Bytes of name and message together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.type_name.len().saturating_add(self.data.len())
    }

    /// Whether neither name nor message has a byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for GossipValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.type_name, self.data.len())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

// All keys of a member fit into one value, each with a tag and a length of up to three bytes.
const _: () = {
    let keys = Gossip::MAX_KEYS * (GossipKey::MAX_BYTES + 3);
    assert!("cluster.GossipKeys".len() + keys <= GossipValue::MAX_BYTES);
};

number! {
    /// Counts the writes of one member, over all its keys: the later one has the greater number. At most
    /// [`Sequence::MAX`], because the wire's is signed.
    Sequence
}
number! {
    /// Names one delta of one sender; its acknowledgement names it again.
    DeltaId
}
number! {
    /// Tells whether two members hold the same values: equal on all that do.
    StateDigest
}

impl Sequence {
    /// The greatest one.
    pub const MAX: Self = Self(i64::MAX as u64);
    /// How far above the greatest number that a member has told itself another member's word about it is believed:
    /// 2^32, the writes of 50 days at 1,000 a second. Using up all numbers takes two thousand million lies, each of
    /// them answered.
    pub const MAX_JUMP: u64 = 1 << 32;

    /// The one after this; stays at the greatest.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1)).min(Self::MAX)
    }
}

impl StateDigest {
    /// With one more entry. Sums do not depend on the order, so that an entry can come and go without the others.
    #[must_use]
    pub(super) const fn plus(self, entry: u64) -> Self {
        Self(self.0.wrapping_add(entry))
    }

    /// Without this entry.
    #[must_use]
    pub(super) const fn minus(self, entry: u64) -> Self {
        Self(self.0.wrapping_sub(entry))
    }
}

/// One value of one member as it travels; no value: removed by its member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipEntry {
    /// Whose it is.
    pub member: MemberId,
    /// Its name.
    pub key: GossipKey,
    /// Which write it is.
    pub sequence: Sequence,
    /// What was written.
    pub value: Option<GossipValue>,
}

impl GossipEntry {
    /// Field tags, lengths and numbers around one value, and its member's id as if no other value shared it.
    const OVERHEAD: usize = 128;

    /// Never less than its bytes on the wire.
    pub(super) fn wire_bytes(key: &GossipKey, value: Option<&GossipValue>) -> usize {
        let value = value.map_or(0, GossipValue::len);
        Self::OVERHEAD.saturating_add(key.as_str().len()).saturating_add(value)
    }

    /// FNV-1a 64 of all of it, mixed (the 64-bit finalizer of MurmurHash3), because such hashes are added up.
    pub(super) fn stable_hash(&self) -> u64 {
        let hasher = StableHasher::new().u128(self.member.bits()).field(self.key.as_str().as_bytes());
        let hasher = hasher.u64(self.sequence.get());
        let hash = match &self.value {
            Some(value) => hasher.field(value.type_name.as_bytes()).field(&value.data).finish(),
            None => hasher.finish(),
        };
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// What one member believes that another has not got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Its sender.
    pub from: MemberId,
    /// What its acknowledgement has to name.
    pub id: DeltaId,
    /// Of all that the sender holds.
    pub digest: StateDigest,
    /// The sender wants everything that the receiver holds, whatever it acknowledged before.
    pub full_state_wanted: bool,
    /// The urgent ones first, the others as they were learned; may be empty.
    pub entries: Vec<GossipEntry>,
}

impl Delta {
    /// Entries that are taken from the wire, at most.
    pub const MAX_ENTRIES: usize = 10_000;
    /// Everything but the entries, at most.
    pub(super) const HEADER_BYTES: usize = 128;
    /// The greatest entry in a message of its own.
    pub const MIN_BYTES: usize =
        Self::HEADER_BYTES + GossipEntry::OVERHEAD + GossipKey::MAX_BYTES + GossipValue::MAX_BYTES;
}

/// The answer to a [`Delta`]: everything in it was merged, or is nothing that the receiver keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaAck {
    /// Of the delta.
    pub id: DeltaId,
    /// Of all that the receiver holds after the merge.
    pub digest: StateDigest,
    /// The digests differ although neither side has anything to send: everything is wanted again.
    pub full_state_wanted: bool,
}
