use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use gristmill::{
    ClusterConfig, ClusterConfigBuilder, ClusterIdentity, Kind, MemoryNetwork, MemoryProvider, Shutdown, ShutdownError,
    StartError, Timing, Topology,
};
use tokio::time::Instant;

use crate::node::TestNode;
use crate::wire::Wire;

/// How long a condition may take to come true: long, since only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// What a graceful shutdown allows.
const GRACE: Duration = Duration::from_secs(10);

/// Events that may wait to be recorded.
const EVENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1 << 16);

type Configure = dyn Fn(ClusterConfigBuilder) -> ClusterConfigBuilder + Send + Sync;

/// Many nodes in this process. Nodes are named by a number, in the order of their start, which they keep.
///
/// Dropping it leaves the nodes to the end of the test's runtime.
#[derive(Debug)]
pub struct TestCluster {
    settings: TestClusterBuilder,
    network: MemoryNetwork,
    registry: MemoryProvider,
    nodes: Vec<TestNode>,
    /// Hosts ever made: a failed start takes a name too.
    hosts: usize,
}

/// Collects what every node of a [`TestCluster`] has in common.
#[derive(Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct TestClusterBuilder {
    members: usize,
    kinds: Vec<Kind>,
    timing: Timing,
    configure: Arc<Configure>,
}

impl TestClusterBuilder {
    /// Members at the start; default 1. They start one after the other.
    pub const fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// Hosts a kind on every member.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// The timers of every node; default [`Timing::test`].
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Changes the configuration of every node.
    pub fn configure(
        mut self,
        configure: impl Fn(ClusterConfigBuilder) -> ClusterConfigBuilder + Send + Sync + 'static,
    ) -> Self {
        self.configure = Arc::new(configure);
        self
    }

    /// Starts the members and returns when all of them agree on the topology.
    ///
    /// # Panics
    /// A member does not start, or they do not agree in time.
    pub async fn start(self) -> TestCluster {
        let members = self.members;
        let (network, registry) = (MemoryNetwork::new(), MemoryProvider::new());
        let mut cluster = TestCluster { settings: self, network, registry, nodes: Vec::new(), hosts: 0 };
        for _ in 0..members {
            cluster.add_member().await;
        }
        cluster.eventually("all members agree", TestCluster::all_agree).await;
        cluster
    }
}

impl fmt::Debug for TestClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClusterBuilder").field("members", &self.members).finish_non_exhaustive()
    }
}

impl TestCluster {
    /// A cluster of one member, with the timers of tests, to be changed.
    pub fn builder() -> TestClusterBuilder {
        let configure = Arc::new(|builder| builder);
        TestClusterBuilder { members: 1, kinds: Vec::new(), timing: Timing::test(), configure }
    }

    /// The network that all nodes share.
    #[must_use]
    pub const fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// A node by its number, running or not.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a test that names a node which was never started is wrong")]
    pub fn member(&self, node: usize) -> &TestNode {
        &self.nodes[node]
    }

    /// The nodes that run, clients included.
    pub fn running(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// Starts one more member and returns its number.
    ///
    /// # Panics
    /// It does not start.
    pub async fn add_member(&mut self) -> usize {
        self.add_member_with(|builder| builder).await
    }

    /// Starts one more member, whose configuration differs from the others'.
    ///
    /// # Panics
    /// It does not start.
    pub async fn add_member_with(
        &mut self,
        configure: impl FnOnce(ClusterConfigBuilder) -> ClusterConfigBuilder,
    ) -> usize {
        let started = self.try_add_member(configure).await;
        started.unwrap_or_else(|error| panic!("a member did not start: {error}\n{}", self.describe()))
    }

    /// Tries to start one more member.
    ///
    /// # Errors
    /// Why it did not start.
    pub async fn try_add_member(
        &mut self,
        configure: impl FnOnce(ClusterConfigBuilder) -> ClusterConfigBuilder,
    ) -> Result<usize, StartError> {
        let (host, wire) = self.host();
        let mut builder = self.builder_on(&host, &wire);
        for kind in &self.settings.kinds {
            builder = builder.kind(kind.clone());
        }
        let config = configure(builder).build()?;
        self.start(config, host, wire, false).await
    }

    /// Starts a client and returns its number.
    ///
    /// # Panics
    /// It does not start.
    pub async fn add_client(&mut self) -> usize {
        let (host, wire) = self.host();
        let started = match self.builder_on(&host, &wire).build() {
            Ok(config) => self.start(config, host, wire, true).await,
            Err(error) => Err(error.into()),
        };
        started.unwrap_or_else(|error| panic!("a client did not start: {error}\n{}", self.describe()))
    }

    fn host(&mut self) -> (String, Arc<Wire>) {
        self.hosts += 1;
        let host = format!("host{}", self.hosts);
        let wire = Wire::new(self.network.host(&host));
        (host, wire)
    }

    fn builder_on(&self, host: &str, wire: &Arc<Wire>) -> ClusterConfigBuilder {
        let builder = ClusterConfig::builder("test")
            .listen(format!("{host}:0"))
            .network(Arc::clone(wire) as Arc<_>)
            .provider(self.registry.node())
            .timing(self.settings.timing.clone())
            .event_buffer(EVENTS);
        (self.settings.configure)(builder)
    }

    async fn start(
        &mut self,
        config: ClusterConfig,
        host: String,
        wire: Arc<Wire>,
        client: bool,
    ) -> Result<usize, StartError> {
        self.nodes.push(TestNode::start(config, host, wire, client).await?);
        Ok(self.nodes.len() - 1)
    }

    /// Shuts a node down in order; a second time it does nothing.
    ///
    /// # Errors
    /// It was not orderly.
    pub async fn shutdown(&mut self, node: usize) -> Result<(), ShutdownError> {
        self.node(node).stop(Shutdown::graceful(GRACE)).await
    }

    /// Ends a node as the end of its process would: from one moment to the next nobody hears from it any more, its
    /// connections are reset, its address is free. Then it frees what it had in this process.
    pub async fn crash(&mut self, node: usize) {
        self.member(node).wire.unplug();
        self.network.crash(&self.member(node).host);
        // Nobody can hear how it goes.
        drop(self.node(node).stop(Shutdown::immediate()).await);
    }

    /// Cuts both directions between each of these and each of those; nothing fails by itself.
    pub fn partition(&self, these: impl IntoIterator<Item = usize>, those: impl IntoIterator<Item = usize>) {
        let those: Vec<_> = those.into_iter().collect();
        for one in these {
            for other in &those {
                self.network.partition(&self.member(one).host, &self.member(*other).host);
            }
        }
    }

    /// Lets everything flow again.
    pub fn heal(&self) {
        self.network.heal();
    }

    /// Identities of a kind that a node owns, as it sees it: always the same ones, for as long as nothing changes.
    pub fn owned_by<'a>(&'a self, node: usize, kind: &'a str) -> impl Iterator<Item = ClusterIdentity> + 'a {
        let owner = self.member(node);
        let named = move |number: u64| ClusterIdentity::new(kind, format!("grain-{number}"));
        let owned = move |identity: &ClusterIdentity| {
            owner.context().owner(identity).is_some_and(|member| member.id == owner.id())
        };
        (0..100_000).map(named).filter(owned)
    }

    /// Whether every running node's topology consists of exactly the running members.
    #[must_use]
    pub fn all_agree(&self) -> bool {
        let mut members: Vec<_> = self.running().filter(|node| !node.client).map(TestNode::id).collect();
        members.sort_unstable();
        let agrees =
            |topology: &Topology| topology.members().iter().map(|member| member.id).eq(members.iter().copied());
        self.running().all(|node| agrees(&node.context().topology()))
    }

    /// Waits until all members count each other, so that a partition is decided as promised (`settled_members` of the
    /// metrics).
    ///
    /// # Panics
    /// They do not within half a minute, or their metrics are off; says what every node knows.
    pub async fn settled(&self) {
        let members = || self.running().filter(|node| !node.client);
        let count = |node: &TestNode| node.context().metrics().map(|metrics| metrics.settled_members);
        let all = members().count() as u64;
        self.eventually("all have settled", |_| members().all(|node| count(node) == Ok(all))).await;
    }

    /// Waits until the condition holds.
    ///
    /// # Panics
    /// It does not within half a minute; says what every node knows.
    pub async fn eventually(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "never happened: {what}\n{}", self.describe());
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// What every node knows, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.nodes.iter().map(|node| node.describe() + "\n").collect()
    }

    #[expect(clippy::indexing_slicing, reason = "a test that names a node which was never started is wrong")]
    fn node(&mut self, node: usize) -> &mut TestNode {
        &mut self.nodes[node]
    }
}
