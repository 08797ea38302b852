//! Who has seen a host refuse connections to its member.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::MemberId;

use crate::Timestamp;

/// The evidence of refused connections: a host that answers for a process that is gone.
///
/// Counted are this node's own refusals and what other members said of theirs in their own messages, never hearsay.
/// Bounded by the table and [`Refusals::MOST_WITNESSES`]: entries are of living members only.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    of: BTreeMap<MemberId, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    by: Vec<(MemberId, Timestamp)>,
    /// Another member reached it while this node was refused: the fault is between the two.
    reached_by_others: bool,
}

impl Refusals {
    /// Two decide; a few more do no harm.
    const MOST_WITNESSES: usize = 8;

    pub(super) fn saw(&mut self, member: MemberId, by: MemberId, now: Timestamp) {
        let seen = &mut self.of.entry(member).or_default().by;
        if let Some((_, at)) = seen.iter_mut().find(|(witness, _)| *witness == by) {
            *at = now;
        } else {
            if seen.len() >= Self::MOST_WITNESSES {
                seen.remove(0);
            }
            seen.push((by, now));
        }
    }

    /// How many have seen it since.
    pub(super) fn witnesses(&self, member: MemberId, now: Timestamp, within: Duration) -> usize {
        let fresh = |at: &Timestamp| now.since(*at) <= within;
        self.of.get(&member).map_or(0, |seen| seen.by.iter().filter(|(_, at)| fresh(at)).count())
    }

    pub(super) fn has_seen(&self, member: MemberId, by: MemberId, now: Timestamp, within: Duration) -> bool {
        let fresh = |at: &Timestamp| now.since(*at) <= within;
        self.of.get(&member).is_some_and(|seen| seen.by.iter().any(|(witness, at)| *witness == by && fresh(at)))
    }

    /// Another member has reached it.
    pub(super) fn reached_by_others(&mut self, member: MemberId) {
        if let Some(seen) = self.of.get_mut(&member) {
            seen.reached_by_others = true;
        }
    }

    pub(super) fn is_reached_by_others(&self, member: MemberId) -> bool {
        self.of.get(&member).is_some_and(|seen| seen.reached_by_others)
    }

    /// The member has proven that it lives: what was seen before counts no more.
    pub(super) fn refuted(&mut self, member: MemberId) {
        if let Some(seen) = self.of.get_mut(&member) {
            seen.by.clear();
        }
    }

    /// This node reaches it, or it is gone.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.of.remove(&member);
    }

    pub(super) fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.of.keys().copied()
    }
}
