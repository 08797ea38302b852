use alloc::string::{String, ToString};
use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

use crate::actor;

/// An id that a peer sent and that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}")]
pub struct InvalidId {
    /// What was expected.
    pub what: &'static str,
    /// What came instead, shortened to 64 characters.
    pub value: String,
}

impl InvalidId {
    /// Names what was expected and keeps the first 64 characters of what came.
    #[must_use]
    pub fn new(what: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string().chars().take(64).collect();
        Self { what, value }
    }
}

/// Who a member or client is: 128 random bits, new for each start of a process.
///
/// A restart on the same address is another `MemberId`; blocks, caches and gossip state belong to the id, never to the
/// address. Displayed, and sent in protoactor's messages, as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u128);

impl MemberId {
    /// Wraps 128 bits that the caller drew at random.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits, as a number.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The bits as 16 bytes, big-endian, as our own messages carry them.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl TryFrom<&[u8]> for MemberId {
    type Error = InvalidId;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
        let bits = <[u8; 16]>::try_from(bytes).map_err(|_| InvalidId::new("member id of 16 bytes", bytes.len()))?;
        Ok(Self(u128::from_be_bytes(bits)))
    }
}

impl FromStr for MemberId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| well_formed);
        bits.map(Self).ok_or_else(|| InvalidId::new("member id of 32 hexadecimal digits", text))
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ids begin with a time, so that the first digits of most are the same.
        write!(f, "MemberId(…{:08x})", self.0 & 0xffff_ffff)
    }
}

/// Names one activation within the life of its member's process; never reused there, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(NonZeroU64);

impl ActivationId {
    /// Wraps a number that the placement of one member counts up.
    #[must_use]
    pub const fn new(value: NonZeroU64) -> Self {
        Self(value)
    }

    /// The number, as sent.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl TryFrom<u64> for ActivationId {
    type Error = InvalidId;

    fn try_from(value: u64) -> Result<Self, InvalidId> {
        NonZeroU64::new(value).map(Self).ok_or_else(|| InvalidId::new("activation id", value))
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

macro_rules! counter {
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

            /// The one after this; stays at the greatest.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Version of a member's record. Only the member raises it: to change its record, and to refute a suspicion.
    Incarnation
}
counter! {
    /// Counts the topologies that one node has published, from 1; 0 is the empty one before the first.
    TopologyVersion
}

/// FNV-1a 64 of a topology's content: equal on all members that see the same active members.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopologyHash(u64);

impl TopologyHash {
    /// Wraps the number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, as sent.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TopologyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TopologyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopologyHash({self})")
    }
}

/// Orders the activations of one identity on one member: later is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationEpoch {
    /// The member's topology version at the time of the activation.
    pub topology: TopologyVersion,
    /// Counts the member's activations.
    pub sequence: u64,
}

impl fmt::Display for ActivationEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.topology, self.sequence)
    }
}

impl From<ActivationEpoch> for actor::ActivationEpoch {
    fn from(epoch: ActivationEpoch) -> Self {
        Self { topology_version: epoch.topology.get(), sequence: epoch.sequence }
    }
}

impl From<actor::ActivationEpoch> for ActivationEpoch {
    fn from(epoch: actor::ActivationEpoch) -> Self {
        Self { topology: TopologyVersion::new(epoch.topology_version), sequence: epoch.sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_member_id_survives_text_and_bytes() {
        let id = MemberId::new(0x00ff_0000_0000_0000_0000_0000_0000_0abc);
        assert_eq!(id.to_string(), "00ff0000000000000000000000000abc");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(MemberId::try_from(id.to_bytes().as_slice()), Ok(id));
    }

    #[test]
    fn what_is_no_member_id_is_refused_with_its_text() {
        for text in ["", "abc", "+0ff0000000000000000000000000abc", "00FF0000000000000000000000000abc"] {
            let error = text.parse::<MemberId>().unwrap_err();
            assert_eq!(error.value, text);
        }
        assert!(MemberId::try_from([0_u8; 15].as_slice()).is_err());
    }

    #[test]
    fn an_activation_id_is_never_zero() {
        assert!(ActivationId::try_from(0).is_err());
        assert_eq!(ActivationId::try_from(7).map(ActivationId::get), Ok(7));
    }
}
