use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use gristmill_messages::MemberId;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use super::message::DeltaId;
use super::state::Revision;
use crate::Timestamp;

/// What this node knows of what another one has.
#[derive(Debug)]
pub(super) struct Peer {
    /// It has everything up to here. Moves forward only by its own word: an acknowledgement, or a digest that equals
    /// ours.
    pub(super) acknowledged: Revision,
    /// It was sent the urgent ones among what came up to here, ahead of their turn.
    pub(super) urgent: Revision,
    /// The delta on its way to it; one at a time.
    pub(super) outstanding: Option<Outstanding>,
    /// What it told us before it last came into view is gone here: every delta asks for it again, up to the first that
    /// is acknowledged.
    pub(super) full_state_wanted: bool,
    /// When its digest last made us ask for everything.
    pub(super) full_state_asked_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) id: DeltaId,
    pub(super) up_to: Revision,
    pub(super) urgent: Revision,
    /// Whether the next one follows at once.
    pub(super) truncated: bool,
    pub(super) lost_at: Timestamp,
}

impl Peer {
    fn new() -> Self {
        Self {
            acknowledged: Revision::default(),
            urgent: Revision::default(),
            outstanding: None,
            full_state_wanted: true,
            full_state_asked_at: None,
        }
    }

    /// Nothing that it acknowledged counts any more. A delta on its way began too late to count, and the next one
    /// follows its acknowledgement; says whether there is none to wait for.
    pub(super) fn start_over(&mut self, now: Timestamp) -> bool {
        self.acknowledged = Revision::default();
        self.urgent = Revision::default();
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.up_to = Revision::default();
            outstanding.urgent = Revision::default();
            outstanding.truncated = true;
        }
        self.is_idle(now)
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.outstanding.as_ref().is_none_or(|outstanding| outstanding.lost_at <= now)
    }
}

/// The other members, and whose turn it is.
///
/// Each is visited once before any is visited twice, in an order that is drawn anew each time, so that news goes
/// everywhere in a bounded number of rounds and not only with probability.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<MemberId, Peer>,
    /// Who has not been visited yet, the next one last.
    to_visit: Vec<MemberId>,
    rng: Xoshiro256PlusPlus,
}

impl Peers {
    pub(super) fn new(seed: u64) -> Self {
        Self { peers: BTreeMap::new(), to_visit: Vec::new(), rng: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    pub(super) fn contains(&self, member: MemberId) -> bool {
        self.peers.contains_key(&member)
    }

    pub(super) fn get_mut(&mut self, member: MemberId) -> Option<&mut Peer> {
        self.peers.get_mut(&member)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.peers.keys().copied()
    }

    /// Makes exactly `members` the peers; returns who is none any more.
    pub(super) fn replace(&mut self, members: &BTreeSet<MemberId>) -> Vec<MemberId> {
        let gone: Vec<_> = self.peers.extract_if(.., |id, _| !members.contains(id)).map(|(id, _)| id).collect();
        self.to_visit.retain(|id| members.contains(id));
        for &id in members {
            self.peers.entry(id).or_insert_with(|| {
                self.to_visit.insert(self.rng.random_range(0..=self.to_visit.len()), id);
                Peer::new()
            });
        }
        gone
    }

    pub(super) fn clear(&mut self) {
        self.peers.clear();
        self.to_visit.clear();
    }

    /// Whose turn it is, among those that no delta is on its way to.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<MemberId> {
        let next = self.next_in_turn(now);
        if next.is_some() {
            return next;
        }
        self.to_visit.extend(self.peers.keys());
        self.to_visit.shuffle(&mut self.rng);
        self.next_in_turn(now)
    }

    fn next_in_turn(&mut self, now: Timestamp) -> Option<MemberId> {
        while let Some(id) = self.to_visit.pop() {
            if self.peers.get(&id).is_some_and(|peer| peer.is_idle(now)) {
                return Some(id);
            }
        }
        None
    }

    pub(super) fn check_invariants(&self, newest: Revision) {
        let visits: BTreeSet<_> = self.to_visit.iter().collect();
        assert_eq!(visits.len(), self.to_visit.len(), "nobody is visited twice in one turn");
        assert!(visits.into_iter().all(|id| self.peers.contains_key(id)), "only peers are visited");
        for peer in self.peers.values() {
            assert!(peer.acknowledged <= newest, "nobody has what is not there yet");
            let outstanding = peer.outstanding.as_ref();
            assert!(outstanding.is_none_or(|delta| delta.up_to <= newest), "no delta carries it either");
        }
    }
}
