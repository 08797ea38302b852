use alloc::sync::Arc;
use alloc::vec::Vec;

use fnv::FnvBuildHasher;
use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MemberId, TopologyVersion};
use hashbrown::{HashMap, HashTable};

use crate::placement::{Placed, Rendezvous};
use crate::{KindName, RequestId};

/// Where an activation is in its life.
///
/// | state | legal next states |
/// | --- | --- |
/// | `Activating` | `Active`, `Draining`, gone |
/// | `Active` | `Draining`, gone |
/// | `Draining` | gone; a new `Activating` takes the slot when some wait |
#[derive(Debug)]
pub(super) enum State {
    Activating {
        waiters: Vec<RequestId>,
    },
    Active,
    Draining {
        /// For the activation after this one.
        waiters: Vec<RequestId>,
        /// Whether it had been `Active`.
        started: bool,
    },
}

impl State {
    pub(super) const fn has_started(&self) -> bool {
        match self {
            Self::Activating { .. } => false,
            Self::Active => true,
            Self::Draining { started, .. } => *started,
        }
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) hash: u64,
    pub(super) activation: ActivationId,
    pub(super) identity: Arc<ClusterIdentity>,
    topology: TopologyVersion,
    pub(super) state: State,
    pub(super) kind: u32,
}

impl Slot {
    pub(super) const fn placed(&self) -> Placed {
        let epoch = ActivationEpoch { topology: self.topology, sequence: self.activation.get() };
        Placed { activation: self.activation, epoch }
    }
}

#[derive(Debug)]
struct Kind {
    name: KindName,
    started: usize,
}

/// The slots, found by identity and by activation.
///
/// A slot lies in one table under the identity's stable hash; a second maps an activation to that hash. A change of
/// the topology walks the first in a line and touches no identity.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: HashTable<Slot>,
    hashes: HashMap<ActivationId, u64, FnvBuildHasher>,
    kinds: Vec<Kind>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// All activations, oldest first.
    pub(super) fn activations(&self) -> Vec<ActivationId> {
        sorted(self.slots.iter().map(|slot| slot.activation).collect())
    }

    pub(super) fn started(&self) -> impl Iterator<Item = (&KindName, usize)> {
        self.kinds.iter().map(|kind| (&kind.name, kind.started))
    }

    pub(super) fn of_identity(&self, hash: u64, identity: &ClusterIdentity) -> Option<&Slot> {
        self.slots.find(hash, |slot| slot.hash == hash && *slot.identity == *identity)
    }

    pub(super) fn of_identity_mut(&mut self, hash: u64, identity: &ClusterIdentity) -> Option<&mut Slot> {
        self.slots.find_mut(hash, |slot| slot.hash == hash && *slot.identity == *identity)
    }

    pub(super) fn of_activation_mut(&mut self, activation: ActivationId) -> Option<&mut Slot> {
        let hash = *self.hashes.get(&activation)?;
        self.slots.find_mut(hash, |slot| slot.activation == activation)
    }

    /// Adds a slot for an identity that has none.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        activation: ActivationId,
        identity: Arc<ClusterIdentity>,
        topology: TopologyVersion,
        state: State,
    ) -> &Slot {
        let kind = self.kind(&identity.kind);
        self.hashes.insert(activation, hash);
        let slot = Slot { hash, activation, identity, topology, state, kind };
        self.slots.insert_unique(hash, slot, |slot| slot.hash).into_mut()
    }

    /// Counts an activation of this kind as started until it is removed.
    pub(super) fn count_started(&mut self, kind: u32) {
        if let Some(kind) = self.kinds.get_mut(kind as usize) {
            kind.started += 1;
        }
    }

    pub(super) fn remove(&mut self, activation: ActivationId) -> Option<Slot> {
        let hash = self.hashes.remove(&activation)?;
        let (slot, _) = self.slots.find_entry(hash, |slot| slot.activation == activation).ok()?.remove();
        if slot.state.has_started()
            && let Some(kind) = self.kinds.get_mut(slot.kind as usize)
        {
            kind.started -= 1;
        }
        Some(slot)
    }

    /// The activations whose identity `me` owned in `before` and does not own in `after`, oldest first.
    pub(super) fn lost(&self, before: &Rendezvous, after: &Rendezvous, me: MemberId) -> Vec<ActivationId> {
        let losses: Vec<_> = self.kinds.iter().map(|kind| after.losses(before, kind.name.as_str(), me)).collect();
        if losses.iter().all(super::super::rendezvous::Losses::is_none) {
            return Vec::new();
        }
        let is_lost = |slot: &&Slot| losses.get(slot.kind as usize).is_some_and(|losses| losses.contains(slot.hash));
        sorted(self.slots.iter().filter(is_lost).map(|slot| slot.activation).collect())
    }

    fn kind(&mut self, name: &str) -> u32 {
        // A node hosts a handful of kinds; comparing them in a line costs less than hashing one.
        let position = self.kinds.iter().position(|kind| kind.name.as_str() == name).unwrap_or_else(|| {
            self.kinds.push(Kind { name: name.into(), started: 0 });
            self.kinds.len() - 1
        });
        u32::try_from(position).unwrap_or(u32::MAX)
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.slots.len(), self.hashes.len(), "each slot has one activation");
        for slot in &self.slots {
            assert_eq!(self.hashes.get(&slot.activation), Some(&slot.hash));
            assert_eq!(slot.identity.stable_hash(), slot.hash);
            let found = self.of_identity(slot.hash, &slot.identity).map(|slot| slot.activation);
            assert_eq!(found, Some(slot.activation), "two slots for one identity");
        }
        for (index, kind) in self.kinds.iter().enumerate() {
            let started = self.slots.iter().filter(|slot| slot.kind as usize == index && slot.state.has_started());
            assert_eq!(kind.started, started.count(), "count of {}", kind.name);
        }
    }
}

fn sorted(mut activations: Vec<ActivationId>) -> Vec<ActivationId> {
    activations.sort_unstable();
    activations
}
