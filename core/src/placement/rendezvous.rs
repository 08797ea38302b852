//! Weighted rendezvous hashing: who owns an identity.
//!
//! Guarantees, for members that see the same topology: they name the same owner, whatever the order in which they
//! learned of each other; only members that host the kind own it; when a member goes, only its identities move, and
//! when one comes, only identities that it now owns move; a member of weight `w` among a total of `W` owns `w / W` of
//! the identities, up to the noise of sampling. Not guaranteed: that two members see the same topology at one time.
//! That is why an owner checks each request against its own view ([`activations`](super::activations)).
//!
//! ```text
//!   member hash   h = mix(FNV-1a 64 of the member id, 16 bytes big-endian)            once per topology
//!   key           k = ClusterIdentity::stable_hash: FNV-1a 64, length-prefixed fields
//!   score         s = mix(k ^ h)                                                      the greatest owns
//!   weighted      -w / ln(u), u = ((s >> 12) + 0.5) / 2^52                            when weights differ
//! ```
//!
//! Without `mix` the scheme fails: FNV-1a carries too little of its last bytes into the high bits, and eight members
//! on ports 8001 to 8008 of one host get between a quarter and four times their share. `mix` is the finalizer of
//! SplitMix64 (Stafford's variant 13 of MurmurHash3's). With equal weights the order of `-w / ln(u)` is the order of
//! `s`, so that the usual case costs one `mix` per member and no logarithm.
//!
//! Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); the logarithmic method
//! for weights: Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005), section 3; protoactor-go
//! `cluster/rendezvous.go`, which takes FNV-1a 32 without mixing and hashes the address.
//!
//! ```
//! use std::sync::Arc;
//! use gristmill_core::placement::Rendezvous;
//! use gristmill_core::topology::Topology;
//! use gristmill_core::{KindName, Member};
//! use gristmill_messages::{ClusterIdentity, MemberId, TopologyVersion};
//!
//! let member = |id| Member::new(MemberId::new(id), "127.0.0.1:7701", [KindName::from("greeter")]);
//! let topology = Topology::new(TopologyVersion::new(1), vec![member(1), member(2)], vec![]);
//! let rendezvous = Rendezvous::new(Arc::new(topology));
//! assert!(rendezvous.owner(&ClusterIdentity::new("greeter", "alice")).is_some());
//! assert!(rendezvous.owner(&ClusterIdentity::new("printer", "alice")).is_none());
//! ```

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use gristmill_messages::{ClusterIdentity, MemberId, StableHasher};

use crate::topology::Topology;
use crate::{KindName, Member};

/// The owners of all identities in one topology: built once for it, then shared and read.
#[derive(Debug, Clone, Default)]
pub struct Rendezvous {
    topology: Arc<Topology>,
    kinds: BTreeMap<KindName, Candidates>,
}

impl Rendezvous {
    /// Prepares the candidates of every kind.
    #[must_use]
    pub fn new(topology: Arc<Topology>) -> Self {
        let mut kinds: BTreeMap<KindName, Candidates> = BTreeMap::new();
        for (index, member) in topology.members().iter().enumerate() {
            let candidate = Candidate { index, hash: member_hash(member.id), weight: member.weight };
            for kind in member.kinds.iter() {
                match kinds.get_mut(kind.as_str()) {
                    Some(candidates) => candidates.add(candidate),
                    None => {
                        kinds.insert(kind.clone(), Candidates::of(candidate));
                    }
                }
            }
        }
        Self { topology, kinds }
    }

    /// What it was built for.
    #[must_use]
    pub const fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Who owns the identity; none when no member hosts its kind.
    #[must_use]
    pub fn owner(&self, identity: &ClusterIdentity) -> Option<&Member> {
        self.owner_of_key(&identity.kind, identity.stable_hash())
    }

    /// Who owns the identity of that kind and [stable hash](ClusterIdentity::stable_hash).
    #[must_use]
    pub(super) fn owner_of_key(&self, kind: &str, key: u64) -> Option<&Member> {
        self.topology.members().get(self.kinds.get(kind)?.winner(key)?)
    }

    /// What a change from `before` to this may have taken of the identities of `kind` that `member` owned there.
    pub(super) fn losses<'a>(&'a self, before: &Self, kind: &'a str, member: MemberId) -> Losses<'a> {
        let hosting = |id| before.topology.member(id).filter(|member| member.kinds.contains(kind));
        let (Some(was), Some(is)) = (hosting(member), self.topology.member(member)) else {
            return Losses { to: Rivals::Anyone, rendezvous: self, kind, member };
        };
        let Some(candidates) = self.kinds.get(kind).filter(|_| was.weight == is.weight && is.kinds.contains(kind))
        else {
            return Losses { to: Rivals::Anyone, rendezvous: self, kind, member };
        };
        let mut to = Candidates::of(Candidate { index: 0, hash: member_hash(member), weight: is.weight });
        for candidate in candidates.iter() {
            let Some(other) = self.topology.members().get(candidate.index) else { continue };
            if other.id != member && hosting(other.id).is_none_or(|earlier| earlier.weight != other.weight) {
                to.add(Candidate { index: 1, ..candidate });
            }
        }
        Losses { to: Rivals::Among(to), rendezvous: self, kind, member }
    }
}

/// Two of the same topology are equal: it decides everything.
impl PartialEq for Rendezvous {
    fn eq(&self, other: &Self) -> bool {
        self.topology == other.topology
    }
}

impl Eq for Rendezvous {}

/// Tells for each identity that a member owned before a change of the topology whether it lost it.
///
/// An identity moves away from a member that stays as it was only to a member that is new or has grown, so only
/// these are asked: a join costs each activation two scores, not one for each member.
#[derive(Debug)]
pub(super) struct Losses<'a> {
    to: Rivals,
    rendezvous: &'a Rendezvous,
    kind: &'a str,
    member: MemberId,
}

#[derive(Debug)]
enum Rivals {
    /// The member itself changed: everything has to be looked at.
    Anyone,
    /// Index 0 is the member, index 1 stands for each that is new or changed.
    Among(Candidates),
}

impl Losses<'_> {
    /// Whether there is nothing to ask.
    pub(super) fn is_none(&self) -> bool {
        matches!(&self.to, Rivals::Among(candidates) if candidates.hashes.len() == 1)
    }

    /// Whether the member owns the key no longer.
    pub(super) fn contains(&self, key: u64) -> bool {
        match &self.to {
            Rivals::Anyone => self.rendezvous.owner_of_key(self.kind, key).is_none_or(|owner| owner.id != self.member),
            Rivals::Among(candidates) => candidates.winner(key) != Some(0),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    index: usize,
    hash: u64,
    weight: NonZeroU32,
}

/// The members that host one kind, in columns, because the loop over `hashes` is the price of an owner lookup.
#[derive(Debug, Clone)]
struct Candidates {
    indices: Vec<usize>,
    hashes: Vec<u64>,
    weights: Vec<NonZeroU32>,
    equal: bool,
}

impl Candidates {
    fn of(first: Candidate) -> Self {
        let Candidate { index, hash, weight } = first;
        Self { indices: [index].into(), hashes: [hash].into(), weights: [weight].into(), equal: true }
    }

    fn add(&mut self, candidate: Candidate) {
        self.equal &= self.weights.first() == Some(&candidate.weight);
        self.indices.push(candidate.index);
        self.hashes.push(candidate.hash);
        self.weights.push(candidate.weight);
    }

    fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        let columns = self.indices.iter().zip(&self.hashes).zip(&self.weights);
        columns.map(|((&index, &hash), &weight)| Candidate { index, hash, weight })
    }

    /// The index with the greatest score. The first wins a tie, and members are sorted by id.
    fn winner(&self, key: u64) -> Option<usize> {
        let position = if self.equal { self.highest_score(key) } else { self.highest_weighted_score(key) };
        self.indices.get(position).copied()
    }

    fn highest_score(&self, key: u64) -> usize {
        let mut best = (0, 0);
        for (position, hash) in self.hashes.iter().enumerate() {
            let score = mix(key ^ hash);
            if score > best.1 {
                best = (position, score);
            }
        }
        best.0
    }

    fn highest_weighted_score(&self, key: u64) -> usize {
        let mut best = (0, 0.0);
        for (position, (hash, weight)) in self.hashes.iter().zip(&self.weights).enumerate() {
            let score = weighted(mix(key ^ hash), *weight);
            if score > best.1 {
                best = (position, score);
            }
        }
        best.0
    }
}

fn member_hash(id: MemberId) -> u64 {
    mix(StableHasher::new().u128(id.bits()).finish())
}

/// The finalizer of SplitMix64: a bijection in which each bit of the input flips each bit of the output half the time.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `-w / ln(u)` with the score as `u` in (0, 1), never 0 or 1. `libm` computes it, alike on every platform.
fn weighted(score: u64, weight: NonZeroU32) -> f64 {
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    // 52 bits and a half fit the 53 of an f64; with one more, the greatest score would round to 1.
    #[expect(clippy::cast_precision_loss, reason = "52 bits fit an f64")]
    let u = ((score >> 12) as f64 + 0.5) / TWO_TO_52;
    -f64::from(weight.get()) / libm::log(u)
}

#[cfg(test)]
mod tests;
