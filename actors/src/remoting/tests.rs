use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gristmill_transport::{Listener, LocalPeer, MemoryHost, MemoryNetwork, Stream, TransportConfig};

use super::*;
use crate::{Cluster, ClusterActor, ClusterConfig, ClusterContext, ClusterEvent, Shutdown, Timing};

const LONG: Duration = Duration::from_secs(30);

/// A host to which the name `svc` is whoever it says.
#[derive(Debug)]
struct Named(MemoryHost, &'static str);

impl Network for Named {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.listen(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        self.0.connect(if address == "svc:1" { self.1 } else { address })
    }
}

async fn start(network: impl Network, host: &str, seeds: &[&str]) -> (Cluster, ClusterContext) {
    let config = ClusterConfig::builder("test")
        .listen(format!("{host}:1"))
        .seeds(seeds.iter().copied())
        .network(Arc::new(network))
        .timing(Timing::test());
    ClusterActor::start_member(config.build().unwrap()).await.unwrap()
}

#[tokio::test]
async fn who_was_met_behind_a_name_is_known_by_the_address_that_it_tells() {
    let network = MemoryNetwork::new();
    let (met, context) = start(network.host("a"), "a", &[]).await;
    let (joiner, other) = start(Named(network.host("b"), "a:1"), "b", &["svc:1"]).await;
    let endpoint = other.node().remoting.known(context.id()).unwrap();
    assert!(endpoint.is_at(&"a:1".into()), "{endpoint:?}");
    for cluster in [met, joiner] {
        cluster.shutdown(Shutdown::immediate()).await.unwrap();
    }
}

/// Panics at every other attempt, and fails at the others.
#[derive(Debug, Default)]
struct Broken(AtomicUsize);

impl Network for Broken {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async {
            assert!(!self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2), "as it does");
            Err(io::ErrorKind::NetworkDown.into())
        })
    }
}

fn remoting(network: Arc<dyn Network>) -> Remoting {
    let local = LocalPeer { cluster: "test".into(), member: MemberId::new(1), address: None, secret: <_>::default() };
    let local = Local::new(local, TransportConfig::lan()).unwrap();
    Remoting::new(Dialer { network, local, handler: Arc::default() })
}

#[tokio::test(start_paused = true)]
async fn a_network_that_panics_has_failed_and_is_tried_again() {
    let network = Arc::new(Broken::default());
    let remoting = remoting(Arc::clone(&network) as Arc<_>);
    let endpoint = remoting.endpoint(MemberId::new(2), &"b:1".into());
    let dials = || network.0.load(Ordering::Relaxed);
    let deadline = Instant::now() + LONG;
    let error = endpoint.connection(Lane::Data, deadline).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    while dials() < 2 {
        assert!(Instant::now() < deadline, "never dialled again");
        assert!(endpoint.connection(Lane::Data, deadline).await.is_err());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_client_that_is_connected_again_is_not_forgotten_for_the_end_of_a_connection_before() {
    let network = MemoryNetwork::new();
    let (member, context) = start(network.host("a"), "a", &[]).await;
    let config = ClusterConfig::builder("test").network(Arc::new(network.host("c"))).seeds(["a:1"]);
    let (client, called) = ClusterActor::start_client(config.timing(Timing::test()).build().unwrap()).await.unwrap();
    let remoting = &context.node().remoting;
    let is_connected = || remoting.known(called.id()).is_some_and(|endpoint| endpoint.is_connected());
    assert!(is_connected());
    remoting.client_disconnected(called.id());
    assert!(is_connected());
    client.shutdown(Shutdown::immediate()).await.unwrap();
    let deadline = Instant::now() + LONG;
    while remoting.known(called.id()).is_some() {
        assert!(Instant::now() < deadline, "never forgotten");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    member.shutdown(Shutdown::immediate()).await.unwrap();
}

/// A host whose dials to one address hang while it is cut.
#[derive(Debug)]
struct Cut(MemoryHost, &'static str, Arc<AtomicBool>);

impl Network for Cut {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.listen(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            if address == self.1 && self.2.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.0.connect(address).await
        })
    }
}

// proves MG-3.2, FT-8
#[tokio::test]
async fn a_dead_member_that_reaches_others_and_is_not_reached_is_told_by_their_handshakes_and_stops() {
    let (network, cut) = (MemoryNetwork::new(), Arc::new(AtomicBool::new(false)));
    // Long enough to be told however slow the machine is.
    let mut timing = Timing::test();
    timing.membership.quarantine_ttl = 2 * LONG;
    let mut nodes = Vec::new();
    for (name, seeds) in [("a", vec![]), ("b", vec!["a:1"]), ("c", vec!["a:1"])] {
        let config = ClusterConfig::builder("test")
            .listen(format!("{name}:1"))
            .seeds(seeds)
            .network(Arc::new(Cut(network.host(name), "c:1", Arc::clone(&cut))))
            .downing(crate::Downing::off())
            .timing(timing.clone());
        let config = config.build().unwrap();
        let events = config.events();
        nodes.push((ClusterActor::start_member(config).await.unwrap(), events));
    }
    let [((a, a_knows), mut a_hears), ((b, b_knows), mut b_hears), ((c, c_knows), mut c_hears)] =
        <[_; 3]>::try_from(nodes).unwrap_or_else(|_| unreachable!());
    let deadline = Instant::now() + LONG;
    while [&a_knows, &b_knows, &c_knows].iter().any(|context| context.topology().members().len() < 3) {
        assert!(Instant::now() < deadline, "never three");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cut.store(true, Ordering::SeqCst);
    for context in [&a_knows, &b_knows] {
        context.node().remoting.forget(c_knows.id(), "the test cuts it");
    }
    let stops = async {
        let blocks = |context: &ClusterContext| context.topology().is_blocked(c_knows.id());
        while !blocks(&a_knows) && !blocks(&b_knows) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while c_hears.next().await.unwrap() != ClusterEvent::Evicted {}
        let told = |event| match event {
            ClusterEvent::ConnectionRefused { reason, .. } if reason.contains("blocked") => Some(reason),
            _ => None,
        };
        // One of them may be enough: of those that it suspects itself it waits for no second voice.
        loop {
            let event = tokio::select! {
                event = a_hears.next() => event,
                event = b_hears.next() => event,
            };
            if let Some(reason) = told(event.unwrap()) {
                break reason;
            }
        }
    };
    let reason = tokio::time::timeout(LONG, stops).await.expect("it serves on");
    assert!(reason.contains("; for ") && reason.ends_with("s more"), "why, and for how long: {reason}");
    for cluster in [a, b, c] {
        drop(cluster.shutdown(Shutdown::immediate()).await);
    }
}
