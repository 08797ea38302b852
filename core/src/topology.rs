//! What a node believes of the cluster, as one value, and when it says that this has changed.
//!
//! # Guarantees
//! - A [`Topology`] is content: members in the order of their ids, those who are blocked, and a hash. Two nodes that
//!   see the same members hold the same hash, whatever happened in between; a changed kind, address or weight changes
//!   it.
//! - [`Aggregator`] publishes a [`TopologyUpdated`] for each change of content and for nothing else: no event repeats
//!   the one before, and following the events from the first one gives exactly the newest topology.
//! - `joined`, `left` and `dead` never overlap; a blocked member is never a member.
//! - With [`Roster`], a dead member is a member until it is released, then it is gone as dead and blocked for as long
//!   as a quarantine lasts, whatever the membership has forgotten of it meanwhile.
//!
//! It does not make nodes agree: that is the work of [`membership`](crate::membership). Versions count the topologies
//! of one node and mean nothing on another; compare hashes there.
//!
//! # When
//! ```text
//! change ──► published at once, the window opens
//!              change, change ──► wait
//! window ends ──► one event for both, the next window opens
//! window ends ──► nothing has waited: quiet again
//! ```
//! The first change after a quiet window is published at once, because a joiner waits for it. Those behind it come
//! together when the window ends, so that a cluster of a hundred that starts makes a few events, not a hundred. A
//! member that comes and goes within one window is never reported.
//!
//! # Source
//! protoactor-go at c318a5a0, `cluster/member_list.go` (`UpdateClusterTopology`, `getTopologyChanges`) and
//! `cluster/member.go` (`TopologyHash`). Deviations: there each call publishes under the list's lock, so that a
//! subscriber who asks the list waits for ever, and the hash is of member ids alone, so that a change of kinds is
//! invisible.
//!
//! # How it is driven
//! ```
//! use gristmill_core::topology::{Aggregator, Config, Effect, Event, Input};
//! use gristmill_core::{KindName, Member, Outbox, Timestamp};
//! use gristmill_messages::MemberId;
//!
//! let mut aggregator = Aggregator::new(Config::lan());
//! let mut out = Outbox::new();
//! let me = Member::new(MemberId::new(1), "10.0.0.1:7701", [KindName::new("greeter")]);
//! let active = vec![me];
//! aggregator.handle(Timestamp::ZERO, Input::Changed { active, dead: vec![], blocked: vec![] }, &mut out);
//!
//! let Some(Event::Updated(updated)) = out.drain_events().next() else { panic!("published at once") };
//! assert_eq!(updated.topology.members().len(), 1);
//! assert!(matches!(out.drain_effects().next(), Some(Effect::SetTimer { .. })));
//! ```

mod aggregator;
mod roster;
#[cfg(test)]
mod tests;
mod wire;

use alloc::vec::Vec;

use gristmill_messages::{MemberId, StableHasher, TopologyHash, TopologyVersion};

pub use aggregator::{Aggregator, Config, Effect, Event, Input, InvalidConfig, TopologyUpdated, WindowEpoch};
pub use roster::Roster;
pub use wire::InvalidTopology;

use crate::Member;

/// The active members as one node sees them, and those it has blocked; never changes once made.
///
/// Share it in an `Arc`. The default is the empty one of version 0, before anything is known.
///
/// Invariant: members and blocked are each strictly ascending by id, and have no id in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    version: TopologyVersion,
    hash: TopologyHash,
    members: Vec<Member>,
    blocked: Vec<MemberId>,
}

impl Topology {
    /// Makes the topology of this content, in whatever order it comes.
    ///
    /// Who is blocked is no member. Of two members with one id the one with the lower address (then kinds, then weight)
    /// stays, so that the result does not depend on the order.
    #[must_use]
    pub fn new(version: TopologyVersion, mut members: Vec<Member>, mut blocked: Vec<MemberId>) -> Self {
        blocked.sort_unstable();
        blocked.dedup();
        members.retain(|member| blocked.binary_search(&member.id).is_err());
        members.sort_unstable_by(|a, b| {
            (a.id, &a.address, &a.kinds, a.weight).cmp(&(b.id, &b.address, &b.kinds, b.weight))
        });
        members.dedup_by_key(|member| member.id);
        Self { version, hash: hash(&members), members, blocked }
    }

    /// Which of this node's topologies it is.
    #[must_use]
    pub const fn version(&self) -> TopologyVersion {
        self.version
    }

    /// FNV-1a 64 over id, address, kinds and weight of the sorted members. The blocked are not in it.
    #[must_use]
    pub const fn hash(&self) -> TopologyHash {
        self.hash
    }

    /// FNV-1a 64 over [`hash`](Self::hash) and the sorted ids of the blocked: another one whenever the content is.
    #[must_use]
    pub fn content_hash(&self) -> TopologyHash {
        let hasher = StableHasher::new().u64(self.hash.get());
        TopologyHash::new(self.blocked.iter().fold(hasher, |hasher, id| hasher.u128(id.bits())).finish())
    }

    /// The active members, ascending by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The active member of this id.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        let index = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(index)
    }

    /// Who is blocked, ascending by id.
    #[must_use]
    pub fn blocked(&self) -> &[MemberId] {
        &self.blocked
    }

    /// Whether a member is blocked.
    #[must_use]
    pub fn is_blocked(&self, id: MemberId) -> bool {
        self.blocked.binary_search(&id).is_ok()
    }

    /// Whether no member is active.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether members and blocked are the same; the versions may differ.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.hash == other.hash && self.members == other.members && self.blocked == other.blocked
    }

    fn check_invariants(&self) {
        assert!(self.members.is_sorted_by(|a, b| a.id < b.id), "members ascend by id");
        assert!(self.blocked.is_sorted_by(|a, b| a < b), "blocked ascend");
        assert!(self.blocked.iter().all(|&id| self.member(id).is_none()), "a blocked member is no member");
        assert_eq!(self.hash, hash(&self.members), "the hash is that of the members");
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::new(TopologyVersion::default(), Vec::new(), Vec::new())
    }
}

/// Each member: id (16 bytes), address (length, bytes), number of kinds, each kind (length, bytes), weight; numbers are
/// 8 bytes big-endian. No two lists of members write the same bytes.
fn hash(members: &[Member]) -> TopologyHash {
    let hasher = members.iter().fold(StableHasher::new(), |hasher, member| {
        let hasher = hasher.u128(member.id.bits()).field(member.address.as_str().as_bytes());
        let hasher = hasher.u64(member.kinds.len() as u64);
        let hasher = member.kinds.iter().fold(hasher, |hasher, kind| hasher.field(kind.as_str().as_bytes()));
        hasher.u64(u64::from(member.weight.get()))
    });
    TopologyHash::new(hasher.finish())
}
