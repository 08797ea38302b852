use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
    /// Members that were probed.
    pub probes: u64,
    /// Probes that failed, also through others.
    pub failed_probes: u64,
    /// Accusations that this node raised.
    pub accusations: u64,
    /// Suspicions that were refuted: so many were false.
    pub refuted_suspicions: u64,
    /// Full comparisons of membership tables that this node began.
    pub table_comparisons: u64,
    /// Members that are suspected now.
    pub suspects: u64,
    /// How little this node trusts its own probes now: 0 to 8.
    pub local_health: u64,
    /// Of the probe that was answered last, in microseconds.
    pub probe_round_trip_micros: u64,
}

macro_rules! metrics {
    ($($metric:ident: $kind:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Metrics { $(pub(crate) $metric: $kind),* }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($metric: self.$metric.get()),* }
            }
        }
    };
}

metrics! {
    members: Gauge,
    topology_version: Gauge,
    activations: Gauge,
    requests: Counter,
    retries: Counter,
    unresolved: Counter,
    shed: Counter,
    malformed: Counter,
    refused_connections: Counter,
    failed_sends: Counter,
    probes: Gauge,
    failed_probes: Gauge,
    accusations: Gauge,
    refuted_suspicions: Gauge,
    table_comparisons: Gauge,
    suspects: Gauge,
    local_health: Gauge,
    probe_round_trip_micros: Gauge,
}

/// A number that any thread may raise, and none waits for another: each has its own part of it.
#[derive(Debug, Default)]
pub(crate) struct Counter([Part; PARTS]);

const PARTS: usize = 8;

/// A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
        }
        if let Some(Part(part)) = MINE.with(|mine| self.0.get(*mine)) {
            part.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|Part(part)| part.load(Ordering::Relaxed)).sum()
    }
}

/// A number that one actor writes.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
