use std::sync::atomic::{AtomicU64, Ordering};

/// What a node has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// Active members in the newest topology.
    pub members: u64,
    /// Version of the newest topology.
    pub topology_version: u64,
    /// Grains activated on this member now.
    pub activations: u64,
    /// Requests begun here.
    pub requests: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Identities that could not be resolved, counted for each attempt.
    pub unresolved: u64,
    /// Messages that a system actor of this node refused because too many waited.
    pub shed: u64,
    /// Messages of peers that this node could not make sense of.
    pub malformed: u64,
    /// Connections of others that were turned away before they were believed.
    pub refused_connections: u64,
    /// Sends to peers that failed.
    pub failed_sends: u64,
}

macro_rules! metrics {
    ($($counter:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Metrics { $(pub(crate) $counter: Counter),* }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($counter: self.$counter.0.load(Ordering::Relaxed)),* }
            }
        }
    };
}

metrics!(
    members,
    topology_version,
    activations,
    requests,
    retries,
    unresolved,
    shed,
    malformed,
    refused_connections,
    failed_sends
);

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}
