//! Whether all active members say the same.
//!
//! # Guarantees
//! - A [`Check`] is in consensus exactly while every active member of this node's view, this node among them, holds the
//!   same value under each of its keys, as far as gossip has come here. One member that lacks it or has another is
//!   enough to end it; one that is no longer active has no say.
//! - Each change is told once: [`Change::Reached`] with the values, [`Change::Lost`] without.
//!
//! It is what this node sees, not what all see at one moment: another node may be in consensus earlier or later, and a
//! member may have written another value that has not come here yet. With the hash of the topology under
//! [`TOPOLOGY`](crate::gossip::TOPOLOGY), consensus means that all members of this node's topology have told of the
//! same topology. Values are compared by their bytes.
//!
//! # Story
//! ```text
//! build of:    A    B    C
//!             1.4  1.4   -     nothing
//!             1.4  1.4  1.4    Reached(1.4)
//!             1.5  1.4  1.4    Lost
//!             1.5  1.5  ✗      Reached(1.5)      C is no member any more
//! ```
//!
//! # Source
//! protoactor-go at c318a5a0, `cluster/consensus.go` and `cluster/consensus_check_builder.go`. Deviations: a composite
//! check keeps the values of all its keys (there a tuple of pointers), losing consensus is told and counted.
//!
//! # How it is driven
//! The shell looks again after each input of [`Gossip`]; a look is a comparison for each key and member.
//! ```
//! use gristmill_core::consensus::{Change, Check};
//! use gristmill_core::gossip::{Config, Gossip, GossipValue, Input};
//! use gristmill_core::{Outbox, Timestamp};
//! use gristmill_messages::MemberId;
//!
//! let mut gossip = Gossip::new(Config::lan(), MemberId::new(1), 42);
//! let mut out = Outbox::new();
//! gossip.handle(Timestamp::ZERO, Input::Start, &mut out);
//! let mut check = Check::new(["build".into()]);
//! assert_eq!(check.look(&gossip), None);
//!
//! let value = GossipValue { type_name: "shop.Build".into(), data: "1.4".into() };
//! gossip.handle(Timestamp::ZERO, Input::Set { key: "build".into(), value: value.clone() }, &mut out);
//! assert_eq!(check.look(&gossip), Some(Change::Reached(vec![value])));
//! assert_eq!(check.look(&gossip), None, "which is no news any more");
//! ```

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::gossip::{Gossip, GossipKey, GossipValue};

/// The value that everyone has: none when somebody has none or another, or when there is nobody.
pub fn agreed<'a, V: PartialEq + ?Sized>(values: impl IntoIterator<Item = Option<&'a V>>) -> Option<&'a V> {
    let mut values = values.into_iter();
    let first = values.next()??;
    values.all(|value| value == Some(first)).then_some(first)
}

/// Follows whether all active members agree on the values of some keys, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    keys: Vec<GossipKey>,
    current: Option<Vec<GossipValue>>,
}

/// What a look has found to be new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All agree, on one value for each key, in the order of the keys. From one agreed value to another there is no
    /// [`Change::Lost`] when no look came in between.
    Reached(Vec<GossipValue>),
    /// They no longer do.
    Lost,
}

impl Check {
    /// Not in consensus before the first look. Without keys there is nothing to agree on, and never consensus.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = GossipKey>) -> Self {
        Self { keys: keys.into_iter().collect(), current: None }
    }

    /// Compares what the members say now; says what has changed since the look before.
    pub fn look(&mut self, gossip: &Gossip) -> Option<Change> {
        let found: Option<Vec<_>> = self.keys.iter().map(|key| gossip.consensus(key.as_str())).collect();
        let found = found.filter(|values| !values.is_empty());
        let same = match (&self.current, &found) {
            (Some(current), Some(found)) => current.iter().eq(found.iter().copied()),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            return None;
        }
        self.current = found.map(|values| values.into_iter().cloned().collect());
        Some(self.current.clone().map_or(Change::Lost, Change::Reached))
    }

    /// The values that all agreed on at the last look, in the order of the keys.
    #[must_use]
    pub fn current(&self) -> Option<&[GossipValue]> {
        self.current.as_deref()
    }
}
