//! Anti-entropy: two members find out in which records their tables differ.
//!
//! ```text
//! A, who has seen a digest unlike its own          B
//!  ── Compare: the digest of each bucket of A ──▶
//!  ◀── Sync: the records of B in all buckets that differ, and which those are
//!  ── Sync: what B knows less of in them ──────▶
//! ```
//!
//! A bucket holds the records whose ids hash into it, so that members agree on it without a word, and one changed
//! record makes one bucket differ. The first message grows with the root of the table and the answer with the
//! difference; no message carries more than a few hundred records.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::record::Record;
use super::table::{TableDigest, bucket};
use super::{Membership, Message, Outbox};
use crate::{MemberStatus, Timestamp};

/// Some buckets of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    count: usize,
    numbers: Vec<usize>,
}

impl Buckets {
    /// The most that a table is divided into.
    pub const MOST: usize = 256;

    /// These of `count` buckets. `None` unless `count` is a power of two up to [`Buckets::MOST`] and the numbers are
    /// ascending and below it. No buckets of none are [`Buckets::default`].
    #[must_use]
    pub fn new(count: usize, numbers: Vec<usize>) -> Option<Self> {
        let valid = Self::divides(count)
            && numbers.is_sorted_by(|one, next| one < next)
            && numbers.last().is_none_or(|last| *last < count);
        valid.then_some(Self { count, numbers })
    }

    /// Whether a table may be divided into so many.
    #[must_use]
    pub const fn divides(count: usize) -> bool {
        count.is_power_of_two() && count <= Self::MOST
    }

    /// Into how many the table is divided.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Which of them, ascending.
    #[must_use]
    pub fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// Into how many a table of this size is divided. The digests of all and the records of one bucket weigh about the
    /// same at four times the root.
    const fn suited_to(members: usize) -> usize {
        let count = (4 * members.isqrt()).next_power_of_two();
        if count < Self::MOST { count } else { Self::MOST }
    }

    fn contain(&self, id: MemberId) -> bool {
        self.count > 0 && self.numbers.binary_search(&bucket(id, self.count)).is_ok()
    }
}

/// With whom tables were compared lately. While news is on its way digests differ everywhere for a moment: so only so
/// often, and not while this node itself spreads news, unless that takes long.
#[derive(Debug, Default)]
pub(super) struct Comparisons {
    recent: Vec<(MemberId, Timestamp)>,
    last: Timestamp,
}

impl Comparisons {
    /// In one interval.
    const MOST: usize = 4;
    /// So many intervals without a comparison are long.
    const LONG: u32 = 5;

    /// Whether to compare with this member now.
    fn begin(&mut self, now: Timestamp, with: MemberId, interval: Duration, quiet: bool) -> bool {
        self.recent.retain(|(_, at)| now.since(*at) < interval);
        let known = self.recent.iter().any(|(member, _)| *member == with);
        let timely = quiet || now.since(self.last) >= interval * Self::LONG;
        let begins = !known && timely && self.recent.len() < Self::MOST;
        if begins {
            self.recent.push((with, now));
            self.last = now;
        }
        begins
    }
}

impl Membership {
    /// Records in one message of a comparison, but for a bucket that alone has more: so many times the updates that any
    /// other message may carry.
    const RECORDS_TO_UPDATES: usize = 8;

    /// Compares tables with a peer whose digest differs, if it is time to.
    pub(super) fn compare(&mut self, now: Timestamp, with: MemberId, out: &mut Outbox) {
        if self.comparisons.begin(now, with, self.config.sync_interval, self.news.is_empty()) {
            self.stats.comparisons += 1;
            let buckets = self.told_buckets(Buckets::suited_to(self.table.places()));
            // The reason may be that the other does not know this node.
            let updates = self.updates_for(with, true);
            self.send(with, Message::Compare { updates, buckets }, out);
        }
    }

    /// Sends what this table has in the buckets that differ, tombstones included: the other may believe in the member.
    pub(super) fn answer_comparison(&mut self, now: Timestamp, to: MemberId, theirs: &[TableDigest], out: &mut Outbox) {
        let count = theirs.len();
        let ours = self.table.buckets(count);
        let is_equal = |member| {
            let bucket = bucket(member, count);
            theirs.get(bucket).is_some_and(|theirs| ours.get(bucket) == Some(theirs))
        };
        self.vouch_for_equal(now, to, is_equal, out);
        let differing = ours.iter().zip(theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
        let mut held: BTreeMap<usize, Vec<Arc<Record>>> = differing.map(|(number, _)| (number, Vec::new())).collect();
        if held.is_empty() {
            self.agreed = Some(self.table.digest());
            return;
        }
        for record in self.table.records().filter(|record| self.inheritance.is_told(record.id())) {
            if let Some(bucket) = held.get_mut(&bucket(record.id(), count)) {
                bucket.push(Arc::clone(record));
            }
        }
        let (mut records, mut numbers) = (Vec::new(), Vec::new());
        for (number, mut bucket) in held {
            if !records.is_empty() && records.len() + bucket.len() > self.most_records() {
                let complete = Buckets { count, numbers: mem::take(&mut numbers) };
                self.send(to, Message::Sync { records: mem::take(&mut records), complete }, out);
            }
            records.append(&mut bucket);
            numbers.push(number);
        }
        self.send(to, Message::Sync { records, complete: Buckets { count, numbers } }, out);
    }

    /// Sends what the other knows less of in the buckets that it has sent. Tombstones only where it believes in the
    /// member.
    pub(super) fn complete_comparison(
        &self,
        to: MemberId,
        theirs: &[Arc<Record>],
        complete: &Buckets,
        out: &mut Outbox,
    ) {
        if complete.numbers().is_empty() {
            return;
        }
        let theirs: BTreeMap<_, _> = theirs.iter().map(|record| (record.id(), record)).collect();
        let lacks = |record: &&Arc<Record>| match theirs.get(&record.id()) {
            Some(known) => !Arc::ptr_eq(known, record) && known != record,
            None => record.status() != MemberStatus::Removed,
        };
        let told = self.table.records().filter(|record| self.inheritance.is_told(record.id()));
        let lacking = told.filter(|record| complete.contain(record.id())).filter(lacks);
        let lacking: Vec<_> = lacking.cloned().collect();
        for records in lacking.chunks(self.most_records()) {
            self.send(to, Message::Sync { records: records.to_vec(), complete: Buckets::default() }, out);
        }
    }

    const fn most_records(&self) -> usize {
        Self::RECORDS_TO_UPDATES * self.config.max_updates_per_message
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_table_is_divided_into_more_buckets_the_larger_it_is_but_not_into_ever_more() {
        assert_eq!([0, 1, 9, 99, 999, 4_999, 65_535].map(Buckets::suited_to), [1, 4, 16, 64, 128, 256, 256]);
    }

    #[test]
    fn buckets_that_no_table_has_are_none() {
        assert!(Buckets::new(4, vec![0, 3]).is_some());
        for (count, numbers) in
            [(0, vec![]), (3, vec![]), (512, vec![]), (4, vec![4]), (4, vec![1, 1]), (4, vec![2, 1])]
        {
            assert_eq!(Buckets::new(count, numbers), None);
        }
    }
}
