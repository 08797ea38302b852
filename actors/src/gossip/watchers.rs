use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fnv::FnvBuildHasher;
use gristmill_core::consensus::{Change, Check};
use gristmill_core::gossip::{Event, Gossip, GossipKey, GossipValue};
use tokio::sync::{broadcast, watch};

use super::updates::Update;

/// Updates of one key that a subscriber may be behind.
pub(crate) const UPDATES: usize = 256;

/// Names one check of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CheckId(u64);

/// How a check stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// What all agree on, in the order of the keys.
    pub(super) values: Option<Arc<[GossipValue]>>,
    /// How often an agreement has ended.
    pub(super) lost: u64,
}

/// Who wants to hear of changes.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    checks: BTreeMap<CheckId, (Check, watch::Sender<Standing>)>,
    last: u64,
    subscribers: HashMap<GossipKey, broadcast::Sender<Update>, FnvBuildHasher>,
}

impl Watchers {
    /// Begins a check, which may be in consensus from the beginning.
    pub(super) fn watch(&mut self, keys: Vec<GossipKey>, gossip: &Gossip) -> (CheckId, watch::Receiver<Standing>) {
        self.last += 1;
        let id = CheckId(self.last);
        let mut check = Check::new(keys);
        check.look(gossip);
        let values = check.current().map(Arc::from);
        let (sender, receiver) = watch::channel(Standing { values, lost: 0 });
        self.checks.insert(id, (check, sender));
        (id, receiver)
    }

    pub(super) fn unwatch(&mut self, id: CheckId) {
        self.checks.remove(&id);
    }

    /// Looks whether something has changed for the checks.
    pub(super) fn look(&mut self, gossip: &Gossip) {
        for (check, sender) in self.checks.values_mut() {
            let Some(change) = check.look(gossip) else { continue };
            sender.send_modify(|standing| {
                standing.lost += u64::from(standing.values.is_some());
                standing.values = match change {
                    Change::Reached(values) => Some(values.into()),
                    Change::Lost => None,
                };
            });
        }
    }

    pub(super) fn subscribe(&mut self, key: GossipKey) -> broadcast::Receiver<Update> {
        self.subscribers.retain(|_, sender| sender.receiver_count() > 0);
        self.subscribers.entry(key).or_insert_with(|| broadcast::Sender::new(UPDATES)).subscribe()
    }

    /// Tells those who want to hear of it.
    pub(super) fn tell(&mut self, event: &Event) {
        let (key, member, value) = match event {
            Event::Updated { member, key, value, .. } => (key, *member, Some(value)),
            Event::Removed { member, key, .. } => (key, *member, None),
            Event::Purged { .. } | Event::Refused { .. } | Event::ClaimRefused { .. } | Event::SetRefused { .. } => {
                return;
            }
        };
        if let Some(sender) = self.subscribers.get(key)
            && sender.send(Update { member, value: value.cloned() }).is_err()
        {
            self.subscribers.remove(key); // nobody is left
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.checks.len(), self.subscribers.len())
    }
}
