use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_core::{Address, Member};

use crate::provider::{ClusterProvider, Discovery, ProviderError, ProviderFuture};

/// A registry in memory, for many nodes in one process: tests. Each node gets its own [`node`](Self::node).
#[derive(Debug, Clone, Default)]
pub struct MemoryProvider {
    registry: Arc<Mutex<Registry>>,
    started: Arc<Mutex<Option<Started>>>,
}

#[derive(Debug, Default)]
struct Registry {
    /// Members, in the order of their announcement.
    members: Vec<Address>,
    watchers: Vec<(u64, Discovery)>,
    next: u64,
}

#[derive(Debug)]
struct Started {
    watcher: u64,
    announced: Option<Address>,
}

impl MemoryProvider {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The provider of one more node of the same registry.
    #[must_use]
    pub fn node(&self) -> Self {
        Self { registry: Arc::clone(&self.registry), started: Arc::default() }
    }

    fn start(&self, announced: Option<Address>, discovery: Discovery) -> Result<(), ProviderError> {
        let mut started = lock(&self.started);
        if started.is_some() {
            return Err(ProviderError::AlreadyRunning);
        }
        let mut registry = lock(&self.registry);
        let watcher = registry.next;
        registry.next += 1;
        registry.watchers.push((watcher, discovery));
        registry.members.extend(announced.clone());
        registry.report();
        *started = Some(Started { watcher, announced });
        Ok(())
    }
}

impl Registry {
    fn report(&self) {
        for (_, discovery) in &self.watchers {
            discovery.report(self.members.clone());
        }
    }
}

impl ClusterProvider for MemoryProvider {
    fn start_member<'a>(&'a self, member: &'a Member, discovery: Discovery) -> ProviderFuture<'a> {
        let started = self.start(Some(member.address.clone()), discovery);
        Box::pin(async { started })
    }

    fn start_client(&self, discovery: Discovery) -> ProviderFuture<'_> {
        let started = self.start(None, discovery);
        Box::pin(async { started })
    }

    fn shutdown(&self, _graceful: bool) -> ProviderFuture<'_> {
        if let Some(Started { watcher, announced }) = lock(&self.started).take() {
            let mut registry = lock(&self.registry);
            registry.watchers.retain(|(id, _)| *id != watcher);
            // One announcement only: another process may have announced the same address since.
            if let Some(at) = registry.members.iter().position(|address| Some(address) == announced.as_ref()) {
                registry.members.remove(at);
            }
            registry.report();
        }
        Box::pin(async { Ok(()) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
