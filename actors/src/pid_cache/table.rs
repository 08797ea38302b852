use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use fnv::FnvBuildHasher;
use gristmill_messages::{ActivationId, ClusterIdentity, MemberId};

use crate::grain::Door;
use crate::remoting::Endpoint;

/// An activation that was there when it was looked up, and how to reach it.
#[derive(Debug, Clone)]
pub(crate) enum Pid {
    /// On this node.
    Local { activation: ActivationId, door: Arc<dyn Door> },
    /// On another.
    Remote { activation: ActivationId, endpoint: Arc<Endpoint> },
}

impl Pid {
    pub(crate) const fn activation(&self) -> ActivationId {
        match self {
            Self::Local { activation, .. } | Self::Remote { activation, .. } => *activation,
        }
    }
}

/// Activations by identity, in shards that are locked one at a time and for an instant.
///
/// Keyed by the identity's 64-bit hash, which the caller has at hand. Of two identities with one hash the later takes
/// the place, and the other is looked up again: that costs time, never a message to the wrong grain.
#[derive(Debug)]
pub(crate) struct PidTable {
    entries: DashMap<u64, Entry, FnvBuildHasher>,
    len: AtomicUsize,
    capacity: usize,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<ClusterIdentity>,
    pid: Pid,
}

impl PidTable {
    pub(super) const EVICT_ONE_IN: usize = 16;

    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: DashMap::default(), len: AtomicUsize::new(0), capacity }
    }

    /// Hands the activation to `with`, which must not come back to this table: its shard is locked for reading. Nothing
    /// is cloned, so that callers of one grain do not fight for its reference counts.
    pub(crate) fn with<T>(&self, hash: u64, identity: &ClusterIdentity, with: impl FnOnce(&Pid) -> T) -> Option<T> {
        self.entries.get(&hash).filter(|entry| *entry.identity == *identity).map(|entry| with(&entry.pid))
    }

    pub(crate) fn get(&self, hash: u64, identity: &ClusterIdentity) -> Option<Pid> {
        self.with(hash, identity, Pid::clone)
    }

    /// Forgets an activation, unless the identity has another one by now.
    pub(crate) fn remove(&self, hash: u64, activation: ActivationId) -> bool {
        let removed = self.entries.remove_if(&hash, |_, entry| entry.pid.activation() == activation).is_some();
        if removed {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Remembers an activation. A full table first forgets one entry in sixteen, whichever those are.
    pub(crate) fn insert(&self, identity: Arc<ClusterIdentity>, pid: Pid) {
        if self.len.load(Ordering::Relaxed) >= self.capacity {
            let mut place = 0_usize;
            self.retain(|_| {
                place = place.wrapping_add(1);
                !place.is_multiple_of(Self::EVICT_ONE_IN.min(self.capacity))
            });
        }
        match self.entries.entry(identity.stable_hash()) {
            Slot::Occupied(mut slot) => drop(slot.insert(Entry { identity, pid })),
            Slot::Vacant(slot) => {
                slot.insert(Entry { identity, pid });
                self.len.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Forgets everything on a member; says how much that was.
    pub(super) fn forget_member(&self, member: MemberId) -> usize {
        self.retain(|pid| !matches!(pid, Pid::Remote { endpoint, .. } if endpoint.peer() == member))
    }

    pub(crate) fn clear(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, mut keep: impl FnMut(&Pid) -> bool) -> usize {
        let mut removed = 0;
        self.entries.retain(|_, entry| {
            let kept = keep(&entry.pid);
            removed += usize::from(!kept);
            kept
        });
        self.len.fetch_sub(removed, Ordering::Relaxed);
        removed
    }
}
