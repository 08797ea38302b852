//! Which news goes into the next message.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use gristmill_messages::MemberId;

use super::table::TableDigest;

/// How much a piece of news matters when a message cannot carry all. Refutations, joins and deaths come before
/// suspicions, so that a storm of accusations cannot keep the accused from being heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    First,
    Second,
}

/// Members whose record is news, and how often it was sent.
///
/// SWIM section 4.1 (piggybacked updates, least sent first). What is lost on all its ways is repaired by the comparison
/// of tables, not here. Bounded by the table: one entry for each member. A message costs its own length, whatever
/// waits.
#[derive(Debug, Default)]
pub(super) struct Dissemination {
    queue: BTreeMap<MemberId, (Urgency, u32)>,
    /// The same, in the order of sending.
    order: BTreeSet<(Urgency, u32, MemberId)>,
    /// The tables that members have shown last, the latest last.
    shown: VecDeque<(MemberId, TableDigest)>,
}

impl Dissemination {
    /// Members whose tables are remembered: all of a small cluster, where most of what is sent would be known.
    const MOST_SHOWN: usize = 32;

    /// This member has said which table it holds.
    pub(super) fn show(&mut self, member: MemberId, digest: TableDigest) {
        self.shown.retain(|(other, _)| *other != member);
        if self.shown.len() >= Self::MOST_SHOWN {
            self.shown.pop_front();
        }
        self.shown.push_back((member, digest));
    }

    /// Whether this member has shown this very table: then nothing in it is news to it.
    pub(super) fn holds(&self, member: MemberId, digest: TableDigest) -> bool {
        self.shown.contains(&(member, digest))
    }

    /// All who have shown this very table.
    pub(super) fn holders(&self, digest: TableDigest) -> Vec<MemberId> {
        self.shown.iter().filter(|(_, shown)| *shown == digest).map(|(member, _)| *member).collect()
    }

    /// The record of `member` has changed: it starts again.
    pub(super) fn enqueue(&mut self, member: MemberId, urgency: Urgency) {
        self.enqueue_after(member, urgency, 0);
    }

    /// So little has changed that it is sent so many times less.
    pub(super) fn enqueue_after(&mut self, member: MemberId, urgency: Urgency, sent: u32) {
        self.remove(member);
        self.insert(member, urgency, sent);
    }

    pub(super) fn remove(&mut self, member: MemberId) {
        if let Some((urgency, sent)) = self.queue.remove(&member) {
            self.order.remove(&(urgency, sent, member));
        }
    }

    /// Whether there is news that no digest shows: who accuses is not in it.
    pub(super) fn has_accusations(&self) -> bool {
        self.order.last().is_some_and(|(urgency, ..)| *urgency == Urgency::Second)
    }

    /// All have shown this table: only accusations are news.
    pub(super) fn forget_shown_by_digests(&mut self) {
        self.queue.retain(|_, (urgency, _)| *urgency == Urgency::Second);
        self.order.retain(|(urgency, ..)| *urgency == Urgency::Second);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.queue.keys().copied()
    }

    /// Up to `limit` members to write of, the urgent before the others and the least sent first; each is counted as
    /// sent and is news no longer after `retransmits`. For who holds the same table, only accusations are news.
    pub(super) fn pick(&mut self, limit: usize, retransmits: u32, skip: &[MemberId], holds: bool) -> Vec<MemberId> {
        let is_news = |urgency| !holds || urgency == Urgency::Second;
        let waiting = self.order.iter().filter(|(urgency, _, member)| is_news(*urgency) && !skip.contains(member));
        let chosen: Vec<_> = waiting.take(limit).copied().collect();
        for (urgency, sent, member) in &chosen {
            self.remove(*member);
            if sent + 1 < retransmits {
                self.insert(*member, *urgency, sent + 1);
            }
        }
        chosen.into_iter().map(|(_, _, member)| member).collect()
    }

    fn insert(&mut self, member: MemberId, urgency: Urgency, sent: u32) {
        self.queue.insert(member, (urgency, sent));
        self.order.insert((urgency, sent, member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_shown_a_table_holds_it_until_it_shows_another_one() {
        let mut news = Dissemination::default();
        let (member, one, other) = (MemberId::new(1), TableDigest::new(7), TableDigest::new(8));
        news.show(member, one);
        assert!(news.holds(member, one) && !news.holds(member, other) && !news.holds(MemberId::new(2), one));
        news.show(member, other);
        assert_eq!((news.holders(one), news.holders(other)), (ids(&[]), ids(&[1])));
        (2..100).for_each(|id| news.show(MemberId::new(id), one));
        assert_eq!(news.shown.len(), Dissemination::MOST_SHOWN);
    }

    fn ids(values: &[u128]) -> Vec<MemberId> {
        values.iter().copied().map(MemberId::new).collect()
    }

    #[test]
    fn what_was_sent_least_goes_first() {
        let mut news = Dissemination::default();
        for member in ids(&[1, 2, 3]) {
            news.enqueue(member, Urgency::First);
        }
        assert_eq!(news.pick(2, 9, &[], false), ids(&[1, 2]));
        assert_eq!(news.pick(2, 9, &[], false), ids(&[3, 1]));
    }

    #[test]
    fn a_suspicion_waits_until_the_urgent_is_said() {
        let mut news = Dissemination::default();
        news.enqueue(MemberId::new(1), Urgency::Second);
        news.enqueue(MemberId::new(2), Urgency::First);
        assert_eq!(news.pick(1, 2, &[], false), ids(&[2]));
        assert_eq!(news.pick(1, 2, &[], false), ids(&[2]));
        assert_eq!(news.pick(1, 2, &[], false), ids(&[1]));
    }

    #[test]
    fn news_end_after_their_retransmissions_and_begin_again_when_the_record_changes() {
        let mut news = Dissemination::default();
        let member = MemberId::new(1);
        news.enqueue(member, Urgency::First);
        assert_eq!(news.pick(1, 2, &[], false), [member]);
        news.enqueue(member, Urgency::First);
        assert_eq!(news.pick(1, 2, &[], false), [member]);
        assert_eq!(news.pick(1, 2, &[member], false), []);
        assert_eq!(news.pick(1, 2, &[], false), [member]);
        assert!(news.is_empty());
    }
}
