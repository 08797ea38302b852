use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use gristmill_messages::MemberId;

use super::message::{Delta, GossipEntry, GossipKey, GossipValue, Sequence, StateDigest};

/// Counts what this node learned, in its own order: the later an entry was taken, the greater its revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision(u64);

/// What this node holds, and the order in which it came.
///
/// Invariant: `log` names each held entry once, under its revision; `digest` is the sum over all of them.
#[derive(Debug, Default)]
pub(super) struct State {
    members: BTreeMap<MemberId, BTreeMap<GossipKey, Held>>,
    log: BTreeMap<Revision, (MemberId, GossipKey)>,
    newest: Revision,
    digest: StateDigest,
}

#[derive(Debug)]
struct Held {
    sequence: Sequence,
    value: Option<GossipValue>,
    revision: Revision,
    hash: u64,
    /// Who need not be told, because it is who told us.
    learned_from: Option<MemberId>,
}

/// One entry, where it is held.
#[derive(Debug, Clone, Copy)]
struct Logged<'a> {
    member: MemberId,
    key: &'a GossipKey,
    held: &'a Held,
}

impl Logged<'_> {
    fn wire_bytes(self) -> usize {
        GossipEntry::wire_bytes(self.key, self.held.value.as_ref())
    }

    fn entry(self) -> GossipEntry {
        let Self { member, key, held } = self;
        GossipEntry { member, key: key.clone(), sequence: held.sequence, value: held.value.clone() }
    }
}

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
struct Room {
    entries: usize,
    bytes: usize,
}

impl Room {
    /// Takes the place of one entry, if there is one.
    fn take(&mut self, bytes: usize) -> bool {
        match (self.entries.checked_sub(1), self.bytes.checked_sub(bytes)) {
            (Some(entries), Some(bytes)) => {
                *self = Self { entries, bytes };
                true
            }
            (None, _) | (_, None) => false,
        }
    }

    /// A quarter of it, or less, if an entry of so many bytes would have no place beside it.
    fn quarter_beside(self, bytes: usize) -> Self {
        Self {
            entries: (self.entries / 4).min(self.entries.saturating_sub(1)),
            bytes: (self.bytes / 4).min(self.bytes.saturating_sub(bytes)),
        }
    }
}

/// What a peer has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) to: MemberId,
    /// Everything up to here.
    pub(super) acknowledged: Revision,
    /// The urgent ones among those up to here, for which there was room.
    pub(super) urgent: Revision,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is newer than what was held.
    New {
        /// Whether a value was visible before.
        replaced: bool,
    },
    /// It is not.
    Old,
    /// Its member has as many keys as it may have, and this would be one more.
    Full,
}

/// The part of the log that one message carries.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) entries: Vec<GossipEntry>,
    /// Who acknowledges it has everything up to here.
    pub(super) up_to: Revision,
    /// More is waiting behind it.
    pub(super) truncated: bool,
}

impl State {
    /// Keys of one member, removed ones among them, that are taken from others; from the member itself twice as many,
    /// so that keys which somebody invents for it leave room for its own. The same on all members.
    pub(super) const MAX_KEYS: usize = 256;

    pub(super) const fn digest(&self) -> StateDigest {
        self.digest
    }

    pub(super) const fn newest(&self) -> Revision {
        self.newest
    }

    /// Sequence and value of the last write that is known here; no value when it is removed.
    pub(super) fn held(&self, member: MemberId, key: &str) -> Option<(Sequence, Option<&GossipValue>)> {
        let held = self.members.get(&member)?.get(key)?;
        Some((held.sequence, held.value.as_ref()))
    }

    pub(super) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (MemberId, &'a GossipValue)> {
        self.members.iter().filter_map(move |(&member, keys)| Some((member, keys.get(key)?.value.as_ref()?)))
    }

    /// Keys of a member, removed ones among them.
    pub(super) fn keys(&self, member: MemberId) -> usize {
        self.members.get(&member).map_or(0, BTreeMap::len)
    }

    pub(super) fn sequences(&self, member: MemberId) -> impl Iterator<Item = Sequence> {
        self.members.get(&member).into_iter().flatten().map(|(_, held)| held.sequence)
    }

    /// Takes the entry if its sequence is greater than the one held, or equal with a greater value: a total order, so
    /// that all members that were offered the same entries hold the same, in whatever order they came.
    pub(super) fn offer(&mut self, entry: GossipEntry, learned_from: Option<MemberId>) -> Taken {
        let hash = entry.stable_hash();
        let GossipEntry { member, key, sequence, value } = entry;
        let keys = self.members.get(&member);
        let old = keys.and_then(|keys| keys.get(&key));
        if old.is_some_and(|old| (old.sequence, &old.value) >= (sequence, &value)) {
            return Taken::Old;
        }
        let relayed = learned_from.is_some_and(|from| from != member);
        let most = if relayed { Self::MAX_KEYS } else { 2 * Self::MAX_KEYS };
        if old.is_none() && keys.is_some_and(|keys| keys.len() >= most) {
            return Taken::Full;
        }
        self.newest = Revision(self.newest.0.saturating_add(1));
        self.digest = self.digest.plus(hash);
        self.log.insert(self.newest, (member, key.clone()));
        let held = Held { sequence, value, revision: self.newest, hash, learned_from };
        let old = self.members.entry(member).or_default().insert(key, held);
        if let Some(old) = &old {
            self.digest = self.digest.minus(old.hash);
            self.log.remove(&old.revision);
        }
        Taken::New { replaced: old.is_some_and(|old| old.value.is_some()) }
    }

    /// Forgets a member; tells which values were visible, and none when there was nothing to forget.
    pub(super) fn purge(&mut self, member: MemberId) -> Option<Vec<(GossipKey, Sequence)>> {
        let mut values = Vec::new();
        for (key, held) in self.members.remove(&member)? {
            self.digest = self.digest.minus(held.hash);
            self.log.remove(&held.revision);
            if held.value.is_some() {
                values.push((key, held.sequence));
            }
        }
        Some(values)
    }

    /// What was taken after the acknowledged and not from the peer itself, within the bounds: the urgent ones first,
    /// then in order. At least one in order when there is any: each fits in a message of its own.
    pub(super) fn chunk(&self, told: Told, max_entries: usize, max_bytes: usize) -> Chunk {
        let mut room = Room { entries: max_entries, bytes: max_bytes.saturating_sub(Delta::HEADER_BYTES) };
        let mut rest = self.untold(told).peekable();
        let mut overtaking = BTreeMap::new();
        if let Some((_, oldest)) = rest.peek()
            && !self.fits(told, room)
        {
            // The oldest comes along in any case, or nothing would ever move on.
            let mut quarter = room.quarter_beside(oldest.wire_bytes());
            overtaking = self.urgent(told).take_while(|(_, logged)| quarter.take(logged.wire_bytes())).collect();
        }
        let mut chunk = Chunk { entries: Vec::new(), up_to: told.acknowledged, truncated: false };
        for logged in overtaking.values() {
            room.take(logged.wire_bytes());
            chunk.entries.push(logged.entry());
        }
        for (revision, logged) in rest {
            if !overtaking.contains_key(&revision) {
                if !room.take(logged.wire_bytes()) && !chunk.entries.is_empty() {
                    chunk.truncated = true;
                    return chunk;
                }
                chunk.entries.push(logged.entry());
            }
            chunk.up_to = revision;
        }
        // Behind the last one is only what the peer told us itself.
        chunk.up_to = self.newest;
        chunk
    }

    fn fits(&self, told: Told, mut room: Room) -> bool {
        self.untold(told).all(|(_, logged)| room.take(logged.wire_bytes()))
    }

    fn untold(&self, told: Told) -> impl DoubleEndedIterator<Item = (Revision, Logged<'_>)> {
        self.after(told.acknowledged).filter(move |(_, logged)| logged.held.learned_from != Some(told.to))
    }

    /// The urgent ones that have not overtaken yet, newest first.
    fn urgent(&self, told: Told) -> impl Iterator<Item = (Revision, Logged<'_>)> {
        let new = self.untold(told).rev().take_while(move |(revision, _)| *revision > told.urgent);
        new.filter(|(_, logged)| logged.key.is_reserved())
    }

    /// Whether `to` has everything, by what it acknowledged and by what it told us itself.
    pub(super) fn is_told(&self, acknowledged: Revision, to: MemberId) -> bool {
        self.after(acknowledged).all(|(_, logged)| logged.held.learned_from == Some(to))
    }

    /// What `peer` told us it may have lost since.
    pub(super) fn forget_source(&mut self, peer: MemberId) {
        for held in self.members.values_mut().flat_map(BTreeMap::values_mut) {
            if held.learned_from == Some(peer) {
                held.learned_from = None;
            }
        }
    }

    fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = (Revision, Logged<'_>)> {
        self.log.range((Bound::Excluded(revision), Bound::Unbounded)).filter_map(|(&revision, (member, key))| {
            let held = self.members.get(member)?.get(key)?; // always there, by the invariant
            Some((revision, Logged { member: *member, key, held }))
        })
    }

    /// Entries, and members with entries.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.log.len(), self.members.len())
    }

    pub(super) fn check_invariants(&self, known: impl Fn(MemberId) -> bool) {
        let mut digest = StateDigest::default();
        let mut held_entries = 0;
        for (&member, keys) in &self.members {
            assert!(known(member), "only the state of members is held");
            assert!(keys.len() <= 2 * Self::MAX_KEYS, "no member has more keys than it may");
            for (key, held) in keys {
                let entry = Logged { member, key, held }.entry();
                assert_eq!(held.hash, entry.stable_hash(), "the hash is that of the entry");
                assert_eq!(self.log.get(&held.revision), Some(&(member, entry.key)), "the log names each entry");
                digest = digest.plus(held.hash);
                held_entries += 1;
            }
        }
        assert_eq!(self.log.len(), held_entries, "the log names nothing else");
        assert_eq!(self.digest, digest, "the digest is the sum over the entries");
        assert!(self.log.keys().next_back().is_none_or(|&last| last <= self.newest), "revisions only grow");
    }
}
