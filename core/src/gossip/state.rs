use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Bound;

use gristmill_messages::{MemberId, cluster};

use super::message::{Delta, GossipEntry, GossipKey, GossipValue, Sequence, StateDigest};

/// Counts what this node learned, in its own order: the later an entry was taken, the greater its revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision(u64);

/// What this node holds, and the order in which it came.
///
/// Invariant: `log` names each held entry once, under its revision; `digest` is the sum over all of them.
#[derive(Debug, Default)]
pub(super) struct State {
    members: BTreeMap<MemberId, Keys>,
    log: BTreeMap<Revision, (MemberId, GossipKey)>,
    newest: Revision,
    digest: StateDigest,
}

/// What is held of one member.
#[derive(Debug, Default)]
struct Keys {
    held: BTreeMap<GossipKey, Held>,
    /// What is held under [`OWN_KEYS`](super::OWN_KEYS), read.
    own: Option<OwnKeys>,
    /// The greatest number that the member has told us itself.
    word: Sequence,
}

/// All keys of a member, by its own word.
#[derive(Debug)]
struct OwnKeys {
    sequence: Sequence,
    keys: BTreeSet<GossipKey>,
}

impl OwnKeys {
    /// None, if it is something else, or names more keys than a member may have.
    fn read(sequence: Sequence, value: &GossipValue) -> Option<Self> {
        let cluster::GossipKeys { keys } = value.decode()?.ok().filter(Self::is_short)?;
        Some(Self { sequence, keys: keys.iter().map(|key| GossipKey::new(key)).collect() })
    }

    const fn is_short(said: &cluster::GossipKeys) -> bool {
        said.keys.len() <= State::MAX_KEYS
    }

    fn disowns(&self, key: &GossipKey, sequence: Sequence) -> bool {
        sequence < self.sequence && !key.is_own_keys() && !self.keys.contains(key)
    }
}

impl Keys {
    fn listed(&self) -> impl Iterator<Item = (&GossipKey, &Held)> {
        self.held.iter().filter(|(key, _)| !key.is_own_keys())
    }

    fn disowns(&self, key: &GossipKey, sequence: Sequence) -> bool {
        self.own.as_ref().is_some_and(|own| own.disowns(key, sequence))
    }

    /// Who has to go for one more key: the one that was written first.
    fn first_to_go(&self) -> Option<(Sequence, &GossipKey)> {
        if self.held.len() < State::MAX_KEYS || self.listed().count() < State::MAX_KEYS {
            return None;
        }
        self.listed().map(|(key, held)| (held.sequence, key)).min()
    }
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

/// What an entry has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether there was a value under its key.
    pub(super) replaced: bool,
    /// The values of its member that went because of it.
    pub(super) dropped: Vec<(GossipKey, Sequence)>,
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
    /// Keys of one member, removed ones among them and [`OWN_KEYS`](super::OWN_KEYS) not. The same on all members.
    pub(super) const MAX_KEYS: usize = 256;

    pub(super) const fn digest(&self) -> StateDigest {
        self.digest
    }

    pub(super) const fn newest(&self) -> Revision {
        self.newest
    }

    /// Sequence and value of the last write that is known here; no value when it is removed.
    pub(super) fn held(&self, member: MemberId, key: &str) -> Option<(Sequence, Option<&GossipValue>)> {
        let held = self.members.get(&member)?.held.get(key)?;
        Some((held.sequence, held.value.as_ref()))
    }

    pub(super) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (MemberId, &'a GossipValue)> {
        self.members.iter().filter_map(move |(&member, keys)| Some((member, keys.held.get(key)?.value.as_ref()?)))
    }

    /// The keys of a member but [`OWN_KEYS`](super::OWN_KEYS), and whether they have a value.
    pub(super) fn keys(&self, member: MemberId) -> impl Iterator<Item = (&GossipKey, bool)> {
        let keys = self.members.get(&member).into_iter().flat_map(Keys::listed);
        keys.map(|(key, held)| (key, held.value.is_some()))
    }

    /// What a member whose values these are has to write under [`OWN_KEYS`](super::OWN_KEYS).
    pub(super) fn own_keys(&self, member: MemberId) -> GossipValue {
        let keys = self.keys(member).filter(|(_, has_value)| *has_value).map(|(key, _)| key.to_string());
        GossipValue::of(&cluster::GossipKeys { keys: keys.collect() })
    }

    /// Whether a member says that it has keys of which nothing is held.
    pub(super) fn lacks_own_keys(&self, member: MemberId) -> bool {
        let Some(Keys { held, own: Some(own), .. }) = self.members.get(&member) else { return false };
        own.keys.iter().any(|key| !held.contains_key(key))
    }

    /// Whether a member says that it has not written this.
    pub(super) fn disowns(&self, member: MemberId, key: &GossipKey, sequence: Sequence) -> bool {
        self.members.get(&member).is_some_and(|keys| keys.disowns(key, sequence))
    }

    /// The greatest number that a member has told us itself.
    pub(super) fn word(&self, member: MemberId) -> Sequence {
        self.members.get(&member).map_or(Sequence::default(), |keys| keys.word)
    }

    pub(super) fn sequences(&self, member: MemberId) -> impl Iterator<Item = Sequence> {
        self.members.get(&member).into_iter().flat_map(|keys| keys.held.values()).map(|held| held.sequence)
    }

    /// Takes the entry if its sequence is greater than the one held, or equal with a greater value; and then drops what
    /// its member says it has not written, or else, of one key too many, the one that was written first. So all
    /// members that were offered the same entries hold the same, in whatever order they came; but of what went for want
    /// of room, or because of a list that others have contradicted, some has to be offered again. None, if it is not
    /// taken.
    pub(super) fn offer(&mut self, entry: GossipEntry, learned_from: Option<MemberId>) -> Option<Taken> {
        let hash = entry.stable_hash();
        let GossipEntry { member, key, sequence, value } = entry;
        // What is not taken is so because of something that is held: no member is left without.
        let keys = self.members.entry(member).or_default();
        if learned_from == Some(member) {
            keys.word = keys.word.max(sequence);
        }
        let old = keys.held.get(&key);
        let grows = old.is_none() && !key.is_own_keys();
        let first = if grows { keys.first_to_go() } else { None };
        if old.is_some_and(|old| (old.sequence, &old.value) >= (sequence, &value))
            || keys.disowns(&key, sequence)
            || first.is_some_and(|first| first > (sequence, &key))
        {
            return None;
        }
        let mut gone: Vec<_> = first.map(|(_, key)| key.clone()).into_iter().collect();
        if key.is_own_keys() {
            keys.own = value.as_ref().and_then(|value| OwnKeys::read(sequence, value));
            let disowned = keys.held.iter().filter(|(key, held)| keys.disowns(key, held.sequence));
            gone.extend(disowned.map(|(key, _)| key.clone()));
        }
        self.newest = Revision(self.newest.0.saturating_add(1));
        self.digest = self.digest.plus(hash);
        self.log.insert(self.newest, (member, key.clone()));
        let held = Held { sequence, value, revision: self.newest, hash, learned_from };
        let old = keys.held.insert(key, held);
        let dropped: Vec<_> = gone.into_iter().filter_map(|key| keys.held.remove_entry(&key)).collect();
        for held in old.iter().chain(dropped.iter().map(|(_, held)| held)) {
            self.digest = self.digest.minus(held.hash);
            self.log.remove(&held.revision);
        }
        Some(Taken { replaced: old.is_some_and(|old| old.value.is_some()), dropped: visible(dropped) })
    }

    /// Forgets a member; tells which values were visible, and none when there was nothing to forget.
    pub(super) fn purge(&mut self, member: MemberId) -> Option<Vec<(GossipKey, Sequence)>> {
        let Keys { held, .. } = self.members.remove(&member)?;
        for held in held.values() {
            self.digest = self.digest.minus(held.hash);
            self.log.remove(&held.revision);
        }
        Some(visible(held))
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
        for held in self.members.values_mut().flat_map(|keys| keys.held.values_mut()) {
            if held.learned_from == Some(peer) {
                held.learned_from = None;
            }
        }
    }

    fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = (Revision, Logged<'_>)> {
        self.log.range((Bound::Excluded(revision), Bound::Unbounded)).filter_map(|(&revision, (member, key))| {
            let held = self.members.get(member)?.held.get(key)?; // always there, by the invariant
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
            assert!(keys.listed().count() <= Self::MAX_KEYS, "no member has more keys than it may");
            assert!(!keys.held.is_empty(), "nothing is remembered of whom nothing is held");
            for (key, held) in &keys.held {
                assert!(!keys.disowns(key, held.sequence), "nothing is held that its member has not written");
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

/// Those that have a value.
fn visible(held: impl IntoIterator<Item = (GossipKey, Held)>) -> Vec<(GossipKey, Sequence)> {
    held.into_iter().filter(|(_, held)| held.value.is_some()).map(|(key, held)| (key, held.sequence)).collect()
}
