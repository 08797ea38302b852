use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What a node has counted since the start of its current life: a [rejoin](crate::OnEviction::Rejoin) begins at zero.
/// The names of the fields are the names of the metrics.
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
    /// Members that join now; each that has not left is in one of these five states.
    pub joining_members: u64,
    /// Members that are up and not suspected.
    pub up_members: u64,
    /// Members that are suspected now.
    pub suspects: u64,
    /// Members that drain.
    pub leaving_members: u64,
    /// Dead members in quarantine.
    pub dead_members: u64,
    /// Members that count when the sides of a partition are counted: those that have settled, this node among them, and
    /// have not gone. A partition of `n` members is decided as promised when each of them says `n`.
    pub settled_members: u64,
    /// How little this node trusts its own probes now: 0 to 8.
    pub local_health: u64,
    /// Of the probe that was answered last; zero before the first.
    pub probe_round_trip: Duration,
    /// Gossip rounds begun.
    pub gossip_rounds: u64,
    /// Encoded bytes of the deltas that were sent, without frames; those that failed are among them. As in all metrics
    /// of gossip: of the values that members share. What the membership says is not in it.
    pub gossip_sent_bytes: u64,
    /// Encoded bytes of what peers sent to gossip, also of what was refused.
    pub gossip_received_bytes: u64,
    /// Values in the deltas that were sent.
    pub gossip_sent_entries: u64,
    /// Values in the deltas that came, also those that were no news.
    pub gossip_received_entries: u64,
    /// Deltas without an acknowledgement; they are among `failed_sends`.
    pub gossip_failed_sends: u64,
    /// Deltas and values of peers that gossip refused; some when members come and go, since not all learn of it at
    /// once.
    pub gossip_refused: u64,
    /// How long it last took from a change of the topology to the moment when all members told of the same one, as seen
    /// here; zero before the first.
    pub topology_convergence: Duration,
}

/// Why there are no metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// They are switched off in the [configuration](crate::ClusterConfigBuilder::metrics).
    #[error("metrics are disabled")]
    Disabled,
}

macro_rules! metrics {
    ($($metric:ident: $kind:ident),* $(,)?) => {
        #[derive(Debug)]
        pub(crate) struct Metrics { on: bool, $(pub(crate) $metric: $kind),* }

        impl Metrics {
            /// Switched off, nothing is counted.
            pub(crate) fn new(on: bool) -> Self {
                Self { on, $($metric: $kind::new(on)),* }
            }

            pub(crate) fn snapshot(&self) -> Result<MetricsSnapshot, MetricsError> {
                if !self.on {
                    return Err(MetricsError::Disabled);
                }
                Ok(MetricsSnapshot { $($metric: self.$metric.get()),* })
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
    joining_members: Gauge,
    up_members: Gauge,
    suspects: Gauge,
    leaving_members: Gauge,
    dead_members: Gauge,
    settled_members: Gauge,
    local_health: Gauge,
    probe_round_trip: LastTime,
    gossip_rounds: Counter,
    gossip_sent_bytes: Counter,
    gossip_received_bytes: Counter,
    gossip_sent_entries: Counter,
    gossip_received_entries: Counter,
    gossip_failed_sends: Counter,
    gossip_refused: Counter,
    topology_convergence: LastTime,
}

impl Metrics {
    /// Whether anything is counted, for what costs something to find out.
    pub(crate) const fn is_on(&self) -> bool {
        self.on
    }
}

/// A number that any thread may raise, and none waits for another: each has its own part of it.
#[derive(Debug)]
pub(crate) struct Counter {
    on: bool,
    parts: [Part; PARTS],
}

const PARTS: usize = 8;

/// A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part(AtomicU64);

impl Counter {
    fn new(on: bool) -> Self {
        Self { on, parts: Default::default() }
    }

    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
        }
        if !self.on {
            return;
        }
        if let Some(Part(part)) = MINE.with(|mine| self.parts.get(*mine)) {
            part.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.parts.iter().map(|Part(part)| part.load(Ordering::Relaxed)).sum()
    }
}

/// A number that one actor writes.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// A store costs as little as the question whether to.
    fn new(_: bool) -> Self {
        Self::default()
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took the last time; one actor writes it.
#[derive(Debug, Default)]
pub(crate) struct LastTime(Gauge);

impl LastTime {
    fn new(_: bool) -> Self {
        Self::default()
    }

    pub(crate) fn set(&self, time: Duration) {
        self.0.set(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves MG-5.1 as far as counting goes
    #[test]
    fn what_is_counted_is_read_from_any_thread() {
        let metrics = Metrics::new(true);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| (0..100).for_each(|_| metrics.requests.add_one()));
            }
        });
        metrics.gossip_sent_bytes.add(7);
        metrics.members.set(3);
        metrics.topology_convergence.set(Duration::from_millis(5));
        let read = metrics.snapshot().unwrap();
        assert_eq!((read.requests, read.gossip_sent_bytes, read.members), (1_000, 7, 3));
        assert_eq!(read.topology_convergence, Duration::from_millis(5));
    }

    // proves MG-5.1 as far as disabled metrics go
    #[test]
    fn switched_off_nothing_is_counted_and_reading_says_so() {
        let metrics = Metrics::new(false);
        metrics.requests.add_one();
        metrics.members.set(3);
        assert_eq!(metrics.requests.get(), 0);
        assert_eq!(metrics.snapshot(), Err(MetricsError::Disabled));
    }
}
