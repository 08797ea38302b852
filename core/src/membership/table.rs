//! All records of one node, and the digest that compares two tables.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use gristmill_messages::{MemberId, StableHasher};

use super::comparison::Buckets;
use super::event::{QuarantineReason, Refusal};
use super::record::Record;
use crate::{Address, MemberStatus};

/// A short summary of a table: equal tables have equal digests, and different ones differ but for one chance in 2^64.
///
/// The sum, modulo 2^64, of one well-mixed hash for each member that is not removed: id, incarnation, stage, status,
/// weight, address, kinds.
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

/// Into which of so many buckets, a power of two, the record of this member belongs.
pub(super) fn bucket(id: MemberId, count: usize) -> usize {
    let hash = mix(StableHasher::new().u128(id.bits()).finish());
    // Only the low bits count, which all widths have.
    hash as usize & count.wrapping_sub(1)
}

/// What a merge did to one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) changed: bool,
    /// It says more than before, not only in other names: others want to know.
    pub(super) weightier: bool,
    /// The member wrote a new version of its own part.
    pub(super) rewritten: bool,
    pub(super) from: Option<MemberStatus>,
    pub(super) to: MemberStatus,
    /// The record asked for a step that is not legal.
    pub(super) refused: Option<Refusal>,
}

/// This node's own record and those of at most `capacity - 1` others.
///
/// Made for thousands of members, and for thousands of such tables in one process: a record is shared with whoever
/// else holds the same, and costs a table of its own one pointer. What only few members have is kept beside them.
///
/// A tombstone that has served its time *lapses* before it is forgotten: it says nothing to others any more, and only
/// keeps this node from admitting the id again while tombstones on other nodes, a little younger, would bury it.
#[derive(Debug)]
pub(super) struct Table {
    me: Arc<Record>,
    /// By id.
    others: Vec<Arc<Record>>,
    /// How many of the others are neither dead nor gone.
    living: usize,
    /// Why the dead are dead: one for each of them.
    reasons: BTreeMap<MemberId, QuarantineReason>,
    lapsed: BTreeMap<MemberId, Address>,
    capacity: usize,
    digest: TableDigest,
    /// The same for each bucket of the finest division, [`Buckets::MOST`] in all.
    buckets: Box<[TableDigest]>,
}

impl Table {
    pub(super) fn new(me: Record, capacity: usize) -> Self {
        let mut table = Self {
            me: Arc::new(me.clone()),
            others: Vec::new(),
            living: 0,
            reasons: BTreeMap::new(),
            lapsed: BTreeMap::new(),
            capacity,
            digest: TableDigest::default(),
            buckets: [TableDigest::default(); Buckets::MOST].into(),
        };
        table.digest_of(me.id(), 0, share(&me));
        table
    }

    pub(super) fn me(&self) -> &Record {
        &self.me
    }

    /// The same, to be sent.
    pub(super) const fn own(&self) -> &Arc<Record> {
        &self.me
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&Arc<Record>> {
        if id == self.me.id() { Some(&self.me) } else { self.others.get(self.place(id).ok()?) }
    }

    /// The other at this place of an order that changes only when members come or go.
    pub(super) fn at(&self, place: usize) -> Option<&Arc<Record>> {
        self.others.get(place)
    }

    /// How many places there are.
    pub(super) const fn places(&self) -> usize {
        self.others.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        core::iter::once(&self.me).chain(self.others())
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.others.iter()
    }

    /// The others that are neither dead nor gone.
    pub(super) fn living(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.others().filter(|record| !record.is_terminal())
    }

    /// The dead, with the reason.
    pub(super) fn dead(&self) -> impl Iterator<Item = (&Arc<Record>, QuarantineReason)> {
        self.reasons.iter().filter_map(|(id, reason)| Some((self.get(*id)?, *reason)))
    }

    pub(super) fn dead_count(&self) -> usize {
        self.reasons.len()
    }

    pub(super) fn living_at(&self, address: &Address) -> Vec<MemberId> {
        self.living().filter(|record| record.member().address == *address).map(|record| record.id()).collect()
    }

    /// The addresses of all of whom anything is remembered, dead and removed ones included.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.others().map(|record| &record.member().address).chain(self.lapsed.values())
    }

    /// Members that count for timeouts and retransmissions, this one included.
    pub(super) const fn size(&self) -> usize {
        1 + self.living
    }

    pub(super) fn is_full(&self) -> bool {
        self.others.len() + self.lapsed.len() + 1 >= self.capacity
    }

    pub(super) const fn digest(&self) -> TableDigest {
        self.digest
    }

    /// The digests of so many buckets, a power of two up to [`Buckets::MOST`]. Together they are the digest of the
    /// table.
    pub(super) fn buckets(&self, count: usize) -> Vec<TableDigest> {
        let mut buckets = vec![TableDigest::default(); count];
        for finest in self.buckets.chunks(count.max(1)) {
            // What belongs in the same one of fewer buckets is so many places apart.
            for (bucket, part) in buckets.iter_mut().zip(finest) {
                bucket.exchange(0, part.0);
            }
        }
        buckets
    }

    /// What a table without these members would show, whole and in so many buckets.
    pub(super) fn digests_without(
        &self,
        left_out: impl Iterator<Item = MemberId>,
        count: usize,
    ) -> (TableDigest, Vec<TableDigest>) {
        let (mut whole, mut buckets) = (self.digest, self.buckets(count));
        for record in left_out.filter_map(|id| self.get(id)) {
            whole.exchange(share(record), 0);
            if let Some(digest) = buckets.get_mut(bucket(record.id(), count)) {
                digest.exchange(share(record), 0);
            }
        }
        (whole, buckets)
    }

    /// Follows the change of one record.
    fn digest_of(&mut self, id: MemberId, old: u64, new: u64) {
        self.digest.exchange(old, new);
        if let Some(digest) = self.buckets.get_mut(bucket(id, Buckets::MOST)) {
            digest.exchange(old, new);
        }
    }

    /// So many others are about to become known: no more room is taken than they need.
    pub(super) fn reserve(&mut self, others: usize) {
        let room = others.min(self.capacity).saturating_sub(self.others.len());
        self.others.reserve_exact(room);
    }

    /// Replaces the record that this node writes itself.
    pub(super) fn write_me(&mut self, me: Record) {
        self.digest_of(me.id(), share(&self.me), share(&me));
        self.me = Arc::new(me);
    }

    /// Merges what is said of another member. That an unknown one is gone is not worth remembering.
    pub(super) fn merge(&mut self, incoming: &Arc<Record>) -> Merged {
        let to = incoming.status();
        let none = Merged { changed: false, weightier: false, rewritten: false, from: None, to, refused: None };
        let full = self.is_full();
        let place = self.place(incoming.id());
        let Some(known) = place.ok().and_then(|place| self.others.get_mut(place)) else {
            if to == MemberStatus::Removed || self.lapsed.contains_key(&incoming.id()) {
                return none;
            }
            if full {
                return Merged { refused: Some(Refusal::TableFull), ..none };
            }
            self.digest_of(incoming.id(), 0, share(incoming));
            self.living += usize::from(!incoming.is_terminal());
            self.others.insert(place.unwrap_or_else(|place| place), Arc::clone(incoming));
            return Merged { changed: true, weightier: true, rewritten: true, ..none };
        };
        let from = known.status();
        let refused = refusal(known, incoming);
        let Some(merged) = known.merged(incoming) else {
            return Merged { from: Some(from), to: from, refused, ..none };
        };
        let to = merged.status();
        let rewritten = merged.incarnation() != known.incarnation();
        let (old, new) = (share(known), share(&merged));
        let weightier = old != new || merged.authors().len() > known.authors().len();
        self.living -= usize::from(merged.is_terminal() && !known.is_terminal());
        *known = if merged == **incoming { Arc::clone(incoming) } else { Arc::new(merged) };
        self.digest_of(incoming.id(), old, new);
        if to != MemberStatus::Dead {
            self.reasons.remove(&incoming.id());
        }
        Merged { changed: true, weightier, rewritten, from: Some(from), to, refused }
    }

    /// Whatever was known of this member, it is what this record says.
    pub(super) fn replace(&mut self, record: &Arc<Record>) {
        if let Ok(place) = self.place(record.id())
            && let Some(known) = self.others.get_mut(place)
        {
            let (old, new) = (share(known), share(record));
            self.living += usize::from(!record.is_terminal());
            self.living -= usize::from(!known.is_terminal());
            *known = Arc::clone(record);
            self.digest_of(record.id(), old, new);
            if record.status() != MemberStatus::Dead {
                self.reasons.remove(&record.id());
            }
        }
    }

    /// The record is gone; its id is remembered until it is forgotten.
    pub(super) fn lapse(&mut self, id: MemberId) {
        if let Ok(place) = self.place(id) {
            let record = self.others.remove(place);
            self.digest_of(id, share(&record), 0);
            self.living -= usize::from(!record.is_terminal());
            self.reasons.remove(&id);
            self.lapsed.insert(id, record.member().address.clone());
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

    /// Why this member is dead.
    pub(super) fn set_reason(&mut self, id: MemberId, reason: QuarantineReason) {
        self.reasons.insert(id, reason);
    }

    pub(super) fn reason(&self, id: MemberId) -> Option<QuarantineReason> {
        self.reasons.get(&id).copied()
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.others.is_sorted_by(|one, next| one.id() < next.id()), "each once, by id");
        assert!(self.place(self.me.id()).is_err(), "this node is no other");
        assert_eq!(self.living, self.living().count(), "the living are counted");
        let dead = |record: &&Arc<Record>| record.status() == MemberStatus::Dead;
        assert!(
            self.others().filter(dead).map(|record| record.id()).eq(self.reasons.keys().copied()),
            "the dead have died of something"
        );
        let recomputed = self.records().map(|record| share(record)).fold(0, u64::wrapping_add);
        assert_eq!(self.digest.0, recomputed, "the digest follows the records");
        assert_eq!(self.buckets(1), [self.digest], "the buckets are parts of the digest");
    }

    /// Where this other is, or would be.
    fn place(&self, id: MemberId) -> Result<usize, usize> {
        self.others.binary_search_by_key(&id, |record| record.id())
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
    let member = record.member();
    let hash = StableHasher::new()
        .u128(record.id().bits())
        .u64(record.incarnation().get())
        .u64(code(record.stage().into()))
        .u64(code(record.status()))
        .u64(u64::from(member.weight.get()))
        .field(member.address.as_str().as_bytes());
    // What it hosts comes last: kinds of other members do not follow.
    let hash = member.kinds.iter().fold(hash, |hash, kind| hash.field(kind.as_str().as_bytes()));
    mix(hash.finish())
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

    fn record(id: u128, incarnation: u64, stage: Stage) -> Arc<Record> {
        Arc::new(Record::new(Member::new(MemberId::new(id), "a:1", []), Incarnation::new(incarnation), stage))
    }

    fn table(me: &Record, capacity: usize) -> Table {
        Table::new(me.clone(), capacity)
    }

    #[test]
    fn the_digest_is_the_same_in_every_order_and_on_every_node() {
        let records = [record(1, 1, Stage::Up), record(2, 1, Stage::Leaving), record(3, 4, Stage::Joining)];
        let [one, two, three] = &records;
        let mut first = table(one, 10);
        first.merge(two);
        first.merge(three);
        let mut second = table(three, 10);
        second.merge(one);
        second.merge(two);
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.digest().get(), 0x745c_c8e4_8dbe_ff3d);
    }

    #[test]
    fn the_digest_tells_exchanged_states_apart() {
        let mut one = table(&record(1, 1, Stage::Up), 10);
        one.merge(&record(2, 1, Stage::Leaving));
        let mut other = table(&record(1, 1, Stage::Leaving), 10);
        other.merge(&record(2, 1, Stage::Up));
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn a_tombstone_and_an_unknown_member_have_the_same_digest() {
        let mut table = table(&record(1, 1, Stage::Up), 10);
        let before = table.digest();
        table.merge(&record(2, 1, Stage::Up));
        table.merge(&record(2, 2, Stage::Removed));
        assert_eq!(table.digest(), before);
        table.merge(&record(3, 2, Stage::Removed));
        assert_eq!(table.get(MemberId::new(3)), None);
    }

    #[test]
    fn only_a_later_version_is_an_attempt_to_come_back() {
        let mut table = table(&record(1, 1, Stage::Up), 10);
        table.merge(&Arc::new(record(2, 3, Stage::Up).claimed(Verdict::Dead, MemberId::new(1))));
        assert_eq!(table.merge(&record(2, 3, Stage::Up)).refused, None);
        let attempt = table.merge(&record(2, 4, Stage::Up));
        assert_eq!((attempt.refused, attempt.to), (Some(Refusal::Final), MemberStatus::Dead));
    }

    #[test]
    fn a_full_table_refuses_newcomers_only() {
        let mut table = table(&record(1, 1, Stage::Up), 2);
        assert!(table.merge(&record(2, 1, Stage::Up)).changed);
        assert_eq!(table.merge(&record(3, 1, Stage::Up)).refused, Some(Refusal::TableFull));
        assert!(table.merge(&record(2, 2, Stage::Leaving)).changed);
    }

    #[test]
    fn nobody_is_let_in_by_hearsay_whose_tombstone_has_lapsed() {
        let mut table = table(&record(1, 1, Stage::Up), 10);
        table.merge(&record(2, 1, Stage::Up));
        table.merge(&record(2, 2, Stage::Removed));
        table.lapse(MemberId::new(2));
        assert!(!table.merge(&record(2, 1, Stage::Up)).changed);
        table.forget(MemberId::new(2));
        assert!(table.merge(&record(2, 1, Stage::Up)).changed);
    }

    #[test]
    fn a_record_that_came_is_shared_and_not_copied() {
        let mut table = table(&record(1, 1, Stage::Up), 10);
        let (joining, up) = (record(2, 1, Stage::Joining), record(2, 2, Stage::Up));
        table.merge(&joining);
        table.merge(&up);
        assert!(table.get(MemberId::new(2)).is_some_and(|known| Arc::ptr_eq(known, &up)));
        table.merge(&record(2, 2, Stage::Up));
        assert!(table.get(MemberId::new(2)).is_some_and(|known| Arc::ptr_eq(known, &up)));
    }
}
