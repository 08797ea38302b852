//! What every provider promises: one suite, which each shipped provider passes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may fail where it stands

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gristmill::{
    Address, Cluster, ClusterActor, ClusterConfig, ClusterConfigBuilder, ClusterContext, ClusterProvider, Discovery,
    Member, MemoryNetwork, MemoryProvider, ProviderError, ProviderFuture, SeedNodes, Shutdown, StartError, StaticList,
    Timing,
};
use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(10);

/// One provider for each node of a cluster whose members listen at `a:7`, `b:7` and `c:7`.
trait Suite {
    type Provider: ClusterProvider + Clone;
    fn provider(&self) -> Self::Provider;
}

struct Each<P>(P);

impl Suite for Each<SeedNodes> {
    type Provider = SeedNodes;
    fn provider(&self) -> SeedNodes {
        self.0.clone()
    }
}

impl Suite for Each<StaticList> {
    type Provider = StaticList;
    fn provider(&self) -> StaticList {
        self.0.clone()
    }
}

impl Suite for Each<MemoryProvider> {
    type Provider = MemoryProvider;
    fn provider(&self) -> MemoryProvider {
        self.0.node()
    }
}

fn addresses() -> [Address; 3] {
    ["a:7", "b:7", "c:7"].map(Address::from)
}

fn config(network: &MemoryNetwork, host: &str) -> ClusterConfigBuilder {
    ClusterConfig::builder("test")
        .listen(format!("{host}:7"))
        .network(Arc::new(network.host(host)))
        .timing(Timing::test())
}

async fn start(builder: ClusterConfigBuilder) -> (Cluster, ClusterContext) {
    ClusterActor::start_member(builder.build().unwrap()).await.unwrap()
}

async fn agree(contexts: &[&ClusterContext], members: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !contexts.iter().all(|context| context.topology().members().len() == members) {
        assert!(Instant::now() < deadline, "{:?}", contexts.iter().map(|c| c.topology()).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn contract(suite: impl Suite) {
    let network = MemoryNetwork::new();

    // The first forms a cluster, others find it, in whatever order; a client finds it too.
    let (a, at_a) = start(config(&network, "a").provider(suite.provider())).await;
    let own = suite.provider();
    let (c, at_c) = start(config(&network, "c").provider(own.clone())).await;
    let (b, at_b) = start(config(&network, "b").provider(suite.provider())).await;
    agree(&[&at_a, &at_b, &at_c], 3).await;
    let client = config(&network, "client").provider(suite.provider()).build().unwrap();
    let (client, outside) = ClusterActor::start_client(client).await.unwrap();
    assert_eq!(outside.topology().members().len(), 3);

    // A provider that was shut down, however often, serves the next node.
    c.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
    agree(&[&at_a, &at_b, &outside], 2).await;
    own.shutdown(true).await.unwrap();
    own.shutdown(false).await.unwrap();
    let (c, at_c) = start(config(&network, "c").provider(own)).await;
    agree(&[&at_a, &at_b, &at_c, &outside], 3).await;

    for node in [client, b, c, a] {
        node.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
    }

    // All gone, the same providers make a new cluster.
    let (a, at_a) = start(config(&network, "a").provider(suite.provider())).await;
    let (b, at_b) = start(config(&network, "b").provider(suite.provider())).await;
    agree(&[&at_a, &at_b], 2).await;
    for node in [b, a] {
        node.shutdown(Shutdown::immediate()).await.unwrap();
    }
}

// proves CX-3.1
#[tokio::test]
async fn seed_nodes_pass_the_suite() {
    contract(Each(SeedNodes::new(addresses()))).await;
}

// proves CX-3.1
#[tokio::test]
async fn a_static_list_passes_the_suite() {
    contract(Each(StaticList::new(addresses()))).await;
}

// proves CX-3.1
#[tokio::test]
async fn a_registry_in_memory_passes_the_suite() {
    contract(Each(MemoryProvider::new())).await;
}

// proves CX-3.2
#[tokio::test]
async fn one_provider_serves_one_node_at_a_time() {
    let network = MemoryNetwork::new();
    let provider = MemoryProvider::new();
    let (running, _) = start(config(&network, "a").provider(provider.clone())).await;
    let second = ClusterActor::start_member(config(&network, "b").provider(provider.clone()).build().unwrap()).await;
    assert!(matches!(second, Err(StartError::Provider(ProviderError::AlreadyRunning))), "{second:?}");
    running.shutdown(Shutdown::immediate()).await.unwrap();
}

/// Finds whom it is told, late, and stops looking when nobody listens any more.
#[derive(Debug, Clone, Default)]
struct Late {
    discovery: Arc<std::sync::Mutex<Option<Discovery>>>,
    stopped: Arc<AtomicBool>,
}

impl ClusterProvider for Late {
    fn start_member<'a>(&'a self, _: &'a Member, discovery: Discovery) -> ProviderFuture<'a> {
        self.start_client(discovery)
    }

    fn start_client(&self, discovery: Discovery) -> ProviderFuture<'_> {
        discovery.report(Vec::new());
        *self.discovery.lock().unwrap() = Some(discovery.clone());
        let stopped = Arc::clone(&self.stopped);
        tokio::spawn(async move {
            discovery.closed().await;
            stopped.store(true, Ordering::SeqCst);
        });
        Box::pin(async { Ok(()) })
    }

    fn shutdown(&self, _: bool) -> ProviderFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

// proves CX-3.1
#[tokio::test]
async fn what_a_provider_finds_later_brings_two_clusters_together_and_it_learns_of_the_end() {
    let network = MemoryNetwork::new();
    let provider = Late::default();
    let (a, at_a) = start(config(&network, "a")).await;
    let (b, at_b) = start(config(&network, "b").provider(provider.clone())).await;
    assert_eq!((at_a.topology().members().len(), at_b.topology().members().len()), (1, 1));
    provider.discovery.lock().unwrap().as_ref().unwrap().report(vec!["a:7".into()]);
    agree(&[&at_a, &at_b], 2).await;
    b.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !provider.stopped.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "it still waits for the node's end");
        tokio::task::yield_now().await;
    }
    a.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
}
