//! What a node needs to know before it starts. A [`ClusterConfig`] that exists is valid.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::request::RetryPolicy;
use gristmill_core::topology::Topology;
use gristmill_core::{Address, KindName, downing, gossip, membership, topology};
use gristmill_transport::{Network, Secret, TcpNetwork, TransportConfig};

use crate::event::EventStream;
use crate::event::Events;
use crate::grain::Kind;
use crate::provider::{ClusterProvider, SeedNodes};
use crate::topic;

/// Bytes of a cluster's name, at most: it travels in every handshake.
const MAX_NAME: usize = 128;

const DEFAULT_EVENT_BUFFER: usize = 1_024;

/// Everything that a node is started with. Made by [`ClusterConfig::builder`].
#[derive(Clone)]
pub struct ClusterConfig {
    pub(crate) name: String,
    pub(crate) listen: String,
    pub(crate) advertise: Option<Address>,
    pub(crate) weight: NonZeroU32,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) provider: Arc<dyn ClusterProvider>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) secret: Option<Secret>,
    pub(crate) timing: Timing,
    pub(crate) downing: downing::Config,
    pub(crate) on_eviction: OnEviction,
    pub(crate) transport: TransportConfig,
    pub(crate) request_timeout: Duration,
    pub(crate) pid_cache: NonZeroUsize,
    pub(crate) events: Events,
    pub(crate) metrics: bool,
}

/// What a member does that must not serve any more: it was on the losing side of a partition, or the others have
/// declared it dead. Its grains are stopped at once in either case, without `on_deactivate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnEviction {
    /// It shuts down; whatever supervises the process starts it anew. The default.
    #[default]
    Stop,
    /// It joins again with a new [`MemberId`](crate::MemberId), in the same [`ClusterActor`](crate::ClusterActor) and
    /// for the same [`ClusterContext`](crate::ClusterContext)s, for as long as it takes, through the provider's
    /// findings and the members it knew. It forms a cluster only with so many others that were cut off like it that no
    /// side can go on. What ends with the old life: its subscriptions to topics, and its metrics.
    Rejoin,
}

/// How fast a node notices things.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Probes, suspicion, joins.
    pub membership: membership::Config,
    /// The spread of key/value state.
    pub gossip: gossip::Config,
    /// How long changes of the topology are collected.
    pub topology: topology::Config,
    /// Pauses between the attempts of a request.
    pub retry: RetryPolicy,
    /// How often the provider's findings are tried again while the cluster runs.
    pub rediscovery: Duration,
    /// How often idle grains are looked for.
    pub sweep: Duration,
    /// How often a heartbeat is written again that has not changed, so that readers see how old it is. Default 30 s, a
    /// guess. Shorter: a value for each member and key goes through the whole cluster as often.
    pub heartbeat_refresh: Duration,
}

impl Timing {
    /// For one data centre: the defaults.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            membership: membership::Config::lan(),
            gossip: gossip::Config::lan(),
            topology: topology::Config::default(),
            retry: RetryPolicy::lan(),
            rediscovery: Duration::from_secs(5),
            sweep: Duration::from_secs(5),
            heartbeat_refresh: Duration::from_secs(30),
        }
    }

    /// For one data centre whose processes are never kept from running for long: crashes are known three times as soon.
    #[must_use]
    pub fn fast_lan() -> Self {
        Self { membership: membership::Config::fast_lan(), ..Self::lan() }
    }

    /// For members far apart.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            membership: membership::Config::wan(),
            gossip: gossip::Config::wan(),
            retry: RetryPolicy::wan(),
            ..Self::lan()
        }
    }

    /// For tests: everything that can be fast is fast.
    #[must_use]
    pub fn test() -> Self {
        Self {
            membership: membership::Config::test(),
            gossip: gossip::Config::test(),
            topology: topology::Config { window: Duration::from_millis(20) },
            retry: RetryPolicy::test(),
            rediscovery: Duration::from_millis(200),
            sweep: Duration::from_millis(50),
            heartbeat_refresh: Duration::from_secs(1),
        }
    }
}

impl ClusterConfig {
    /// Starts a configuration for a node of the cluster `name`. Nodes of other names are refused.
    pub fn builder(name: impl Into<String>) -> ClusterConfigBuilder {
        ClusterConfigBuilder {
            config: Self {
                name: name.into(),
                listen: "127.0.0.1:0".into(),
                advertise: None,
                weight: NonZeroU32::MIN,
                kinds: Vec::new(),
                provider: Arc::new(SeedNodes::new(Vec::<Address>::new())),
                network: Arc::new(TcpNetwork::default()),
                secret: None,
                timing: Timing::lan(),
                downing: downing::Config::default(),
                on_eviction: OnEviction::default(),
                transport: TransportConfig::lan(),
                request_timeout: Duration::from_secs(5),
                pid_cache: NonZeroUsize::new(1_000_000).unwrap_or(NonZeroUsize::MIN),
                events: Events::new(DEFAULT_EVENT_BUFFER),
                metrics: true,
            },
            insecure: false,
            custom_network: false,
            event_buffer: DEFAULT_EVENT_BUFFER,
        }
    }

    /// The name of the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The events of the node that is started from this, its start and a failed start among them.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    pub(crate) fn kind_names(&self) -> impl Iterator<Item = KindName> + '_ {
        self.kinds.iter().map(|kind| kind.name().clone())
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("name", &self.name)
            .field("listen", &self.listen)
            .field("provider", &self.provider)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// Collects a [`ClusterConfig`]; [`build`](Self::build) checks it.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct ClusterConfigBuilder {
    config: ClusterConfig,
    insecure: bool,
    custom_network: bool,
    event_buffer: usize,
}

impl ClusterConfigBuilder {
    /// Where a member listens, as `host:port`; default `127.0.0.1:0`. Port 0 takes a free one. Clients do not listen.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.config.listen = address.into();
        self
    }

    /// Where other members reach this one; default: the address that was bound.
    pub fn advertise(mut self, address: impl Into<Address>) -> Self {
        self.config.advertise = Some(address.into());
        self
    }

    /// Joins through these members: [`SeedNodes`]. The first of the list may form a cluster when it finds none.
    pub fn seeds<A: Into<Address>>(self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.provider(SeedNodes::new(addresses))
    }

    /// How members are found; default: [`SeedNodes`] without any seed, which forms a cluster of its own.
    pub fn provider(mut self, provider: impl ClusterProvider) -> Self {
        self.config.provider = Arc::new(provider);
        self
    }

    /// Hosts a kind of grain on this member.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.config.kinds.push(kind);
        self
    }

    /// This member's share of the keys relative to others; default 1.
    pub const fn weight(mut self, weight: NonZeroU32) -> Self {
        self.config.weight = weight;
        self
    }

    /// What every node of the cluster knows and nobody else: proven, not sent, in each handshake.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.config.secret = Some(Secret::new(secret.as_ref()));
        self
    }

    /// Allows an address off loopback without a [`secret`](Self::secret): anybody who can reach it may join.
    pub const fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// How fast things are noticed; default [`Timing::lan`].
    pub fn timing(mut self, timing: Timing) -> Self {
        self.config.timing = timing;
        self
    }

    /// Which side of a partition goes on, and how long that takes; default [`Downing::keep_majority`](downing::Config).
    /// The same on every member.
    pub const fn downing(mut self, downing: downing::Config) -> Self {
        self.config.downing = downing;
        self
    }

    /// What this member does when it must not serve any more; default [`OnEviction::Stop`].
    pub const fn on_eviction(mut self, what: OnEviction) -> Self {
        self.config.on_eviction = what;
        self
    }

    /// Bounds of connections and frames; default [`TransportConfig::lan`].
    pub const fn transport(mut self, transport: TransportConfig) -> Self {
        self.config.transport = transport;
        self
    }

    /// How long a request may take when it does not say otherwise; default 5 s, protoactor's.
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How many activations this node remembers; default 1,000,000. Fewer cost a lookup more often.
    pub const fn pid_cache(mut self, entries: NonZeroUsize) -> Self {
        self.config.pid_cache = entries;
        self
    }

    /// Events that a subscriber may be behind before it loses the oldest; default 1,024.
    pub const fn event_buffer(mut self, events: NonZeroUsize) -> Self {
        self.event_buffer = events.get();
        self
    }

    /// Whether anything is counted; default: yes. Switched off, [`metrics`](crate::ClusterContext::metrics) is an
    /// error.
    pub const fn metrics(mut self, on: bool) -> Self {
        self.config.metrics = on;
        self
    }

    /// Runs on another network than TCP: in tests, on one in memory. Whether a [`secret`](Self::secret) is needed there
    /// is the caller's to know.
    pub fn network(mut self, network: Arc<dyn Network>) -> Self {
        self.config.network = network;
        self.custom_network = true;
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first field that breaks a rule, with its value.
    pub fn build(self) -> Result<ClusterConfig, ConfigError> {
        let Self { mut config, insecure, custom_network, event_buffer } = self;
        let fail = |field, value: &dyn fmt::Display, rule| Err(ConfigError { field, value: value.to_string(), rule });
        if config.name.is_empty() || config.name.len() > MAX_NAME {
            return fail("name", &config.name, "1 to 128 bytes");
        }
        if !Address::from(config.listen.as_str()).is_host_and_port() {
            return fail("listen", &config.listen, "host:port");
        }
        if let Some(address) = config.advertise.as_ref().filter(|address| !address.is_host_and_port()) {
            return fail("advertise", address, "host:port");
        }
        let addresses = [Some(config.listen.as_str()), config.advertise.as_ref().map(Address::as_str)];
        let exposed = addresses.into_iter().flatten().any(|address| !is_loopback(address));
        if exposed && config.secret.is_none() && !insecure && !custom_network {
            return fail("secret", &"none", "off loopback a shared secret is needed, or insecure()");
        }
        if config.secret.as_ref().is_some_and(Secret::is_empty) {
            return fail("secret", &"empty", "at least one byte");
        }
        if config.kinds.len() >= Topology::MAX_KINDS {
            return fail("kind", &config.kinds.len(), "at most 1,023 of them");
        }
        for (index, kind) in config.kinds.iter().enumerate() {
            let name = kind.name().as_str();
            if name.is_empty() || name.len() > MAX_NAME {
                return fail("kind", &name, "1 to 128 bytes");
            }
            if name == topic::KIND {
                return fail("kind", &name, "the name of the built-in topic kind");
            }
            if config.kinds.iter().take(index).any(|other| other.name() == kind.name()) {
                return fail("kind", &name, "each kind once");
            }
        }
        if config.request_timeout.is_zero() {
            return fail("request_timeout", &"0", "more than nothing");
        }
        if config.timing.sweep.is_zero() || config.timing.rediscovery.is_zero() {
            return fail("timing", &"0", "sweep and rediscovery more than nothing");
        }
        if let Err(error) = config.timing.membership.validate() {
            return fail("timing.membership", &error, "a valid membership configuration");
        }
        if let Err(error) = config.downing.validate(&config.timing.membership) {
            return fail("downing", &error, "a valid downing configuration");
        }
        if let Err(error) = config.timing.gossip.validate() {
            return fail("timing.gossip", &error, "a valid gossip configuration");
        }
        if let Err(error) = config.timing.topology.validate() {
            return fail("timing.topology", &error, "a valid topology configuration");
        }
        if let Err(error) = config.timing.retry.validate() {
            return fail("timing.retry", &error, "a valid retry policy");
        }
        if let Err(error) = config.transport.validate() {
            return fail("transport", &error, "a valid transport configuration");
        }
        config.events = Events::new(event_buffer);
        Ok(config)
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A configuration that cannot work. The caller's fault; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}: {rule}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The field, as its builder method is called.
    pub field: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
}

#[cfg(test)]
mod tests {
    use gristmill_core::placement::{activations, pid_cache};

    use super::*;
    use crate::{Call, Grain, GrainContext, GrainError, Reply};

    #[derive(Default)]
    struct Nothing;
    impl Grain for Nothing {
        async fn receive(&mut self, _: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
            Reply::empty()
        }
    }

    fn field(builder: ClusterConfigBuilder) -> &'static str {
        builder.build().expect_err("must be refused").field
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_field() {
        let good = || ClusterConfig::builder("shop");
        assert!(good().build().is_ok());
        assert_eq!(field(ClusterConfig::builder("")), "name");
        assert_eq!(field(good().listen("nowhere")), "listen");
        assert_eq!(field(good().advertise("127.0.0.1")), "advertise");
        assert_eq!(field(good().kind(Kind::new("topic", Nothing::default))), "kind");
        assert_eq!(field(good().kind(Kind::new("a", Nothing::default)).kind(Kind::new("a", Nothing::default))), "kind");
        assert_eq!(field(good().request_timeout(Duration::ZERO)), "request_timeout");
        assert_eq!(field(good().downing(downing::Config::static_quorum(0))), "downing");
    }

    #[test]
    fn off_loopback_a_secret_is_needed() {
        let open = || ClusterConfig::builder("shop").listen("0.0.0.0:0");
        assert_eq!(field(open()), "secret");
        assert!(open().insecure().build().is_ok());
        assert!(open().secret("s3cret").build().is_ok());
        assert_eq!(field(open().secret("")), "secret");
        assert_eq!(field(ClusterConfig::builder("shop").advertise("10.1.2.3:70")), "secret");
        assert!(ClusterConfig::builder("shop").listen("[::1]:0").build().is_ok());
    }

    /// The numbers of a cell of the table: "16 MiB, 8,192" has two.
    fn numbers(cell: &str) -> Vec<u64> {
        let words: Vec<&str> = cell.split_whitespace().map(|word| word.trim_end_matches([',', ';'])).collect();
        let number = |(at, word): (usize, &&str)| {
            let unit = match words.get(at + 1) {
                Some(&"KiB") => 1024,
                Some(&"MiB") => 1024 * 1024,
                _ => 1,
            };
            word.replace(',', "").parse::<u64>().ok().map(|number| number * unit)
        };
        words.iter().enumerate().filter_map(number).collect()
    }

    #[test]
    fn the_bounds_that_the_semantics_state_are_those_of_the_code() {
        let config = ClusterConfig::builder("shop").kind(Kind::new("nothing", Nothing::default)).build().unwrap();
        let transport = &config.transport;
        let topics = crate::topic::CONFIG;
        let (activations, lookups) = (activations::Config::lan(), pid_cache::Config::default());
        let expected: [(&str, &[usize]); 16] = [
            ("a grain's mailbox", &[config.kinds[0].settings().mailbox]),
            ("calls without answer on one connection", &[transport.window]),
            ("bytes and frames queued on one connection", &[transport.queue_bytes, transport.queue_frames]),
            ("a frame", &[transport.frame_limit]),
            ("a peer that takes no bytes", &[usize::try_from(transport.stall_timeout.as_secs()).unwrap()]),
            ("accepted sockets", &[transport.max_handshakes, transport.max_connections]),
            ("messages of peers waiting for one system actor", &[crate::inbox::PLACES]),
            ("activations of one node", &[activations.max_activations, activations.max_waiters]),
            ("lookups under way", &[lookups.max_lookups, lookups.max_waiters]),
            ("PID cache", &[config.pid_cache.get()]),
            ("subscribers, publications", &[topics.max_subscribers, topics.max_publications, topics.window]),
            ("messages in a subscriber's stream", &[crate::delivery::SUBSCRIBER_BUFFER]),
            ("events that a subscriber", &[DEFAULT_EVENT_BUFFER]),
            ("members remembered", &[config.timing.membership.max_members]),
            (
                "keys of a member in gossip",
                &[gossip::Gossip::MAX_KEYS, gossip::GossipValue::MAX_BYTES, config.timing.gossip.max_bytes_per_message],
            ),
            ("updates that a gossip subscriber", &[crate::gossip::UPDATES]),
        ];
        let semantics = include_str!("../../docs/semantics.md");
        let (_, bounds) = semantics.split_once("## Bounds").unwrap();
        let rows: Vec<&str> = bounds.lines().skip(4).take_while(|line| line.starts_with("| ")).collect();
        assert_eq!(rows.len(), expected.len());
        for (row, (what, values)) in rows.into_iter().zip(expected) {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let (name, bound) = (cells.next().unwrap(), cells.next().unwrap());
            assert!(name.starts_with(what), "{name} instead of {what}");
            assert_eq!(numbers(bound), values.iter().map(|value| *value as u64).collect::<Vec<_>>(), "{name}");
        }
    }
}
