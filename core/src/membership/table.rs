//! All records of one node, and the digest that compares two tables.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use gristmill_messages::{MemberId, StableHasher};

use super::event::{QuarantineReason, Refusal};
use super::record::Record;
use crate::{Address, MemberStatus, Timestamp};

/// A short summary of a table: equal tables have equal digests, and different ones differ but for one chance in 2^64.
///
/// The sum, modulo 2^64, of one well-mixed hash for each member that is not removed: id, incarnation, stage, status.
/// Being a sum it does not depend on any order and follows one changed record at once. Tombstones are left out, because
/// each node forgets them at its own time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableDigest(u64);

impl TableDigest {
    /// Wraps a number from the wire.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, as sent.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    const fn exchange(&mut self, old: u64, new: u64) {
        self.0 = self.0.wrapping_sub(old).wrapping_add(new);
    }
}

/// What a merge did to one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) changed: bool,
    /// The member wrote a new version of its own part.
    pub(super) rewritten: bool,
    pub(super) from: Option<MemberStatus>,
    pub(super) to: MemberStatus,
    /// The record asked for a step that is not legal.
    pub(super) refused: Option<Refusal>,
}

/// One other member, and what this node alone remembers of it.
#[derive(Debug)]
struct Entry {
    record: Record,
    reason: Option<QuarantineReason>,
    synced_at: Option<Timestamp>,
}

/// This node's own record and those of at most `capacity - 1` others.
///
/// A tombstone that has served its time *lapses* before it is forgotten: it says nothing to others any more, and only
/// keeps this node from admitting the id again while tombstones on other nodes, a little younger, would bury it.
#[derive(Debug)]
pub(super) struct Table {
    me: Record,
    others: BTreeMap<MemberId, Entry>,
    lapsed: BTreeMap<MemberId, Address>,
    capacity: usize,
    digest: TableDigest,
}

impl Table {
    pub(super) fn new(me: Record, capacity: usize) -> Self {
        let digest = TableDigest(share(&me));
        Self { me, others: BTreeMap::new(), lapsed: BTreeMap::new(), capacity, digest }
    }

    pub(super) const fn me(&self) -> &Record {
        &self.me
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&Record> {
        if id == self.me.id() { Some(&self.me) } else { self.others.get(&id).map(|entry| &entry.record) }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        core::iter::once(&self.me).chain(self.others())
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &Record> {
        self.others.values().map(|entry| &entry.record)
    }

    /// The others that are neither dead nor gone.
    pub(super) fn living(&self) -> impl Iterator<Item = &Record> {
        self.others().filter(|record| !record.is_terminal())
    }

    pub(super) fn living_at(&self, address: &Address) -> Vec<MemberId> {
        self.living().filter(|record| record.member().address == *address).map(Record::id).collect()
    }

    /// Whether anything is remembered of a member at this address, be it dead or removed.
    pub(super) fn knows_of(&self, address: &Address) -> bool {
        self.others().map(|record| &record.member().address).chain(self.lapsed.values()).any(|known| known == address)
    }

    /// Members that count for timeouts and retransmissions, this one included.
    pub(super) fn size(&self) -> usize {
        1 + self.living().count()
    }

    pub(super) fn is_full(&self) -> bool {
        self.others.len() + self.lapsed.len() + 1 >= self.capacity
    }

    pub(super) const fn digest(&self) -> TableDigest {
        self.digest
    }

    /// Replaces the record that this node writes itself.
    pub(super) fn write_me(&mut self, me: Record) {
        self.digest.exchange(share(&self.me), share(&me));
        self.me = me;
    }

    /// Merges what is said of another member. That an unknown one is gone is not worth remembering.
    pub(super) fn merge(&mut self, incoming: &Record) -> Merged {
        let to = incoming.status();
        let none = Merged { changed: false, rewritten: false, from: None, to, refused: None };
        let full = self.is_full();
        let Some(entry) = self.others.get_mut(&incoming.id()) else {
            if to == MemberStatus::Removed {
                return none;
            }
            if full {
                return Merged { refused: Some(Refusal::TableFull), ..none };
            }
            self.lapsed.remove(&incoming.id());
            self.digest.exchange(0, share(incoming));
            let entry = Entry { record: incoming.clone(), reason: None, synced_at: None };
            self.others.insert(incoming.id(), entry);
            return Merged { changed: true, rewritten: true, ..none };
        };
        let (from, was) = (entry.record.status(), entry.record.incarnation());
        let refused = refusal(&entry.record, incoming);
        let old = share(&entry.record);
        let changed = entry.record.merge(incoming);
        self.digest.exchange(old, share(&entry.record));
        let rewritten = entry.record.incarnation() != was;
        Merged { changed, rewritten, from: Some(from), to: entry.record.status(), refused }
    }

    /// The record is gone; its id is remembered until it is forgotten.
    pub(super) fn lapse(&mut self, id: MemberId) {
        if let Some(entry) = self.others.remove(&id) {
            self.digest.exchange(share(&entry.record), 0);
            self.lapsed.insert(id, entry.record.member().address.clone());
        }
    }

    pub(super) fn has_lapsed(&self, id: MemberId) -> bool {
        self.lapsed.contains_key(&id)
    }

    pub(super) fn lapsed(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.lapsed.keys().copied()
    }

    pub(super) fn forget(&mut self, id: MemberId) {
        self.lapsed.remove(&id);
    }

    pub(super) fn set_reason(&mut self, id: MemberId, reason: QuarantineReason) {
        if let Some(entry) = self.others.get_mut(&id) {
            entry.reason = Some(reason);
        }
    }

    pub(super) fn reason(&self, id: MemberId) -> Option<QuarantineReason> {
        self.others.get(&id).and_then(|entry| entry.reason)
    }

    /// When tables were last compared in full with this member.
    pub(super) fn synced_at(&self, id: MemberId) -> Option<Timestamp> {
        self.others.get(&id).and_then(|entry| entry.synced_at)
    }

    pub(super) fn set_synced_at(&mut self, id: MemberId, now: Timestamp) {
        if let Some(entry) = self.others.get_mut(&id) {
            entry.synced_at = Some(now);
        }
    }

    pub(super) fn check_invariants(&self) {
        assert!(!self.others.contains_key(&self.me.id()), "this node is no other");
        let recomputed = self.records().map(share).fold(0, u64::wrapping_add);
        assert_eq!(self.digest.0, recomputed, "the digest follows the records");
    }
}

/// Only a version that the member wrote later is an attempt; older ones are rumours that are still on their way.
fn refusal(known: &Record, incoming: &Record) -> Option<Refusal> {
    if incoming.incarnation() <= known.incarnation() {
        None
    } else if known.is_terminal() && !incoming.is_terminal() {
        Some(Refusal::Final)
    } else if incoming.stage() < known.stage() {
        Some(Refusal::Backward)
    } else {
        None
    }
}

/// What one record adds to the digest.
fn share(record: &Record) -> u64 {
    if record.status() == MemberStatus::Removed {
        return 0;
    }
    let hash = StableHasher::new()
        .u128(record.id().bits())
        .u64(record.incarnation().get())
        .u64(code(record.stage().into()))
        .u64(code(record.status()))
        .finish();
    mix(hash)
}

/// Explicit, because what is hashed is part of the wire contract.
const fn code(status: MemberStatus) -> u64 {
    match status {
        MemberStatus::Joining => 1,
        MemberStatus::Up => 2,
        MemberStatus::Leaving => 3,
        MemberStatus::Suspect => 4,
        MemberStatus::Dead => 5,
        MemberStatus::Removed => 6,
    }
}

/// The finalizer of SplitMix64: FNV alone leaves neighbouring inputs in neighbouring sums, which cancel.
const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::record::{Stage, Verdict};
    use super::*;
    use crate::Member;
    use gristmill_messages::Incarnation;

    fn record(id: u128, incarnation: u64, stage: Stage) -> Record {
        Record::new(Member::new(MemberId::new(id), "a:1", []), Incarnation::new(incarnation), stage)
    }

    #[test]
    fn the_digest_is_the_same_in_every_order_and_on_every_node() {
        let records = [record(1, 1, Stage::Up), record(2, 1, Stage::Leaving), record(3, 4, Stage::Joining)];
        let [one, two, three] = &records;
        let mut first = Table::new(one.clone(), 10);
        first.merge(two);
        first.merge(three);
        let mut second = Table::new(three.clone(), 10);
        second.merge(one);
        second.merge(two);
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.digest().get(), 0x0571_87d2_a08b_b351);
    }

    #[test]
    fn the_digest_tells_exchanged_states_apart() {
        let mut one = Table::new(record(1, 1, Stage::Up), 10);
        one.merge(&record(2, 1, Stage::Leaving));
        let mut other = Table::new(record(1, 1, Stage::Leaving), 10);
        other.merge(&record(2, 1, Stage::Up));
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn a_tombstone_and_an_unknown_member_have_the_same_digest() {
        let mut table = Table::new(record(1, 1, Stage::Up), 10);
        let before = table.digest();
        table.merge(&record(2, 1, Stage::Up));
        table.merge(&record(2, 2, Stage::Removed));
        assert_eq!(table.digest(), before);
        table.merge(&record(3, 2, Stage::Removed));
        assert_eq!(table.get(MemberId::new(3)), None);
    }

    #[test]
    fn only_a_later_version_is_an_attempt_to_come_back() {
        let mut table = Table::new(record(1, 1, Stage::Up), 10);
        table.merge(&record(2, 3, Stage::Up).claimed(Verdict::Dead, MemberId::new(1)));
        assert_eq!(table.merge(&record(2, 3, Stage::Up)).refused, None);
        let attempt = table.merge(&record(2, 4, Stage::Up));
        assert_eq!((attempt.refused, attempt.to), (Some(Refusal::Final), MemberStatus::Dead));
    }

    #[test]
    fn a_full_table_refuses_newcomers_only() {
        let mut table = Table::new(record(1, 1, Stage::Up), 2);
        assert!(table.merge(&record(2, 1, Stage::Up)).changed);
        assert_eq!(table.merge(&record(3, 1, Stage::Up)).refused, Some(Refusal::TableFull));
        assert!(table.merge(&record(2, 2, Stage::Leaving)).changed);
    }
}
