//! Coming back after a partition that no side has survived.
//!
//! Who was cut off joins again and forms no cluster by itself: others may go on without it, and merely be unreachable.
//! Silence says nothing, but those with whom it was can say that they were cut off too. When so many of the members
//! that had settled have said it that nobody can be left who goes on
//! ([`enough_to_form`](crate::downing::Config::enough_to_form)), the oldest of them forms the cluster anew, and the
//! others join it.
//!
//! Only those count who knew the same members for settled: of a later view, with which others went on, fewer might be
//! enough. Who had not settled itself is none of them, and waits for others.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use gristmill_messages::{MemberId, StableHasher};

use super::JoinAnswer;
use crate::{Address, Timestamp};

/// What a node was before it was cut off, and who else has said so.
#[derive(Debug)]
pub(super) struct Returning {
    was: MemberId,
    settled: BTreeSet<MemberId>,
    enough: usize,
    /// What each address has said last, and when: one process speaks for one that was cut off, however often it
    /// answers.
    waiting: BTreeMap<Address, (MemberId, Timestamp)>,
}

impl Returning {
    pub(super) fn new(was: MemberId, settled: impl IntoIterator<Item = MemberId>, enough: usize) -> Self {
        Self { was, settled: settled.into_iter().collect(), enough, waiting: BTreeMap::new() }
    }

    /// What this node answers to others who want to join.
    pub(super) fn answer(&self) -> JoinAnswer {
        JoinAnswer::Returning { was: self.was, settled: self.hash() }
    }

    /// Somebody else has given such an answer.
    pub(super) fn note(&mut self, now: Timestamp, by: &Address, was: MemberId, settled: u64) {
        if settled == self.hash() && was != self.was && self.settled.contains(&was) {
            self.waiting.insert(by.clone(), (was, now));
        } else {
            self.waiting.remove(by);
        }
    }

    /// Whether this node is to form the cluster, by answers that are not older than `fresh`.
    pub(super) fn may_form(&self, now: Timestamp, fresh: Duration) -> bool {
        let fresh = self.waiting.values().filter(|(_, at)| now.since(*at) <= fresh);
        // Two addresses may be those of one process.
        let waiting: BTreeSet<_> = fresh.map(|(was, _)| *was).collect();
        self.settled.contains(&self.was)
            && waiting.len() + 1 >= self.enough
            && waiting.first().is_none_or(|other| self.was < *other)
    }

    fn hash(&self) -> u64 {
        let hasher = StableHasher::new().u64(self.settled.len() as u64);
        self.settled.iter().fold(hasher, |hasher, id| hasher.u128(id.bits())).finish()
    }
}
