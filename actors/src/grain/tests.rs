//! Calls between two nodes, and what is left of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use gristmill_messages::ClusterIdentity;
use gristmill_transport::{Connection, Lane, MemoryNetwork};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::node::Node;
use crate::{
    Call, Cluster, ClusterActor, ClusterConfig, ClusterContext, Grain, GrainContext, GrainError, Kind, Reply,
    RequestError, Shutdown, Timing,
};

const LONG: Duration = Duration::from_secs(60);

/// Takes one permit for each empty message, and none for a `bool`; if it is held, one to be activated.
struct Gated {
    gate: Arc<Semaphore>,
    held: bool,
}

impl Grain for Gated {
    async fn on_activate(&mut self, _: &GrainContext) -> Result<(), GrainError> {
        if self.held {
            self.gate.acquire().await.map_err(GrainError::internal)?.forget();
        }
        Ok(())
    }

    async fn receive(&mut self, call: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        if !call.is::<bool>() {
            self.gate.acquire().await.map_err(GrainError::internal)?.forget();
        }
        Reply::empty()
    }
}

struct Pair {
    nodes: [(Cluster, ClusterContext); 2],
    gate: Arc<Semaphore>,
}

impl Pair {
    async fn start() -> Self {
        let (network, gate) = (MemoryNetwork::new(), Arc::new(Semaphore::new(0)));
        let start = async |host: &str, seeds: &[&str]| {
            let kind = |name: &str, held: bool| {
                let gate = Arc::clone(&gate);
                Kind::new(name, move || Gated { gate: Arc::clone(&gate), held })
            };
            let config = ClusterConfig::builder("test")
                .listen(format!("{host}:7"))
                .seeds(seeds.iter().copied())
                .network(Arc::new(network.host(host)))
                .timing(Timing::test())
                .kind(kind("gated", false))
                .kind(kind("held", true));
            ClusterActor::start_member(config.build().unwrap()).await.unwrap()
        };
        let nodes = [start("a", &[]).await, start("b", &["a:7"]).await];
        let pair = Self { nodes, gate };
        pair.until(|pair| pair.nodes.iter().all(|(_, context)| context.topology().members().len() == 2)).await;
        pair
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition(self) {
            assert!(Instant::now() < deadline, "never happened");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    const fn caller(&self) -> &ClusterContext {
        &self.nodes[0].1
    }

    fn node(&self, at: usize) -> &Node {
        self.nodes[at].1.node()
    }

    fn owned_by<'a>(&'a self, at: usize, kind: &'a str) -> impl Iterator<Item = ClusterIdentity> + 'a {
        let owner = self.nodes[at].1.id();
        let identities = (0..1_000).map(move |number| ClusterIdentity::new(kind, number.to_string()));
        identities.filter(move |identity| self.caller().owner(identity).unwrap().id == owner)
    }

    /// The caller's data connection to the other node, once there is one.
    fn connection(&self) -> Option<Arc<Connection>> {
        self.node(0).remoting.known(self.nodes[1].1.id())?.connected(Lane::Data)
    }

    /// Calls of the caller that wait for their answer.
    fn pending(&self) -> usize {
        self.node(0).local_calls.len() + self.connection().map_or(0, |connection| connection.pending_calls())
    }

    async fn stop(self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
        for (cluster, _) in self.nodes {
            cluster.shutdown(Shutdown::graceful(LONG)).await.unwrap();
        }
    }
}

// proves VA-3.3
#[tokio::test]
async fn a_call_that_expired_or_was_dropped_leaves_nothing_pending() {
    for owner in [0, 1] {
        let pair = Pair::start().await;
        let mut grains = pair.owned_by(owner, "gated").map(|identity| pair.caller().grain(&identity).deadline(LONG));
        let (grain, other) = (grains.next().unwrap(), grains.next().unwrap());
        let call = || {
            let grain = grain.clone();
            tokio::spawn(async move { grain.request::<_, ()>(()).await })
        };
        let dropped = [call(), call(), call()];
        pair.until(|pair| pair.pending() == 3).await;
        dropped.iter().for_each(tokio::task::JoinHandle::abort);
        pair.until(|pair| pair.pending() == 0).await;

        let short = Duration::from_millis(50);
        let expired = grain.clone().deadline(short).request::<_, ()>(()).await;
        assert_eq!(expired, Err(RequestError::DeadlineExceeded { after: short }));
        assert_eq!(pair.pending(), 0);

        // The owner has heard all of that when it answers this, which comes after it on the same connection.
        other.request::<_, ()>(true).await.unwrap();
        // The grain still runs the first call; the others are handed back unrun, so that two permits are enough.
        pair.gate.add_permits(2);
        call().await.unwrap().unwrap();
        pair.until(|pair| pair.gate.available_permits() == 0).await;
        drop(grains);
        pair.stop().await;
    }
}

/// Needs, to be activated, the grain with the next number.
struct Link(Arc<AtomicU64>);

/// In a debug build each costs a look at all activations.
const LINKS: u64 = 500;

impl Grain for Link {
    async fn on_activate(&mut self, context: &GrainContext) -> Result<(), GrainError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let next = context.identity().identity.parse::<u64>().map_err(GrainError::internal)? + 1;
        if next < LINKS {
            let next = context.cluster().grain(("link", next.to_string())).deadline(LONG);
            next.notify(()).await.map_err(GrainError::internal)?;
        }
        Ok(())
    }

    async fn receive(&mut self, _: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        Reply::empty()
    }
}

#[tokio::test]
async fn activations_that_need_each_other_do_not_exhaust_the_stack() {
    let activated = Arc::new(AtomicU64::new(0));
    let links = Arc::clone(&activated);
    let kind = Kind::new("link", move || Link(Arc::clone(&links)));
    // Callers activate it themselves.
    (0..64).for_each(|_| kind.settings().brief_start.record(Duration::ZERO));
    let network = Arc::new(MemoryNetwork::new().host("a"));
    let config = ClusterConfig::builder("test").listen("a:7").network(network).timing(Timing::test()).kind(kind);
    let (cluster, context) = ClusterActor::start_member(config.build().unwrap()).await.unwrap();
    // On a machine that is busy enough the first ones are given up, but not those behind them.
    drop(context.grain(("link", "0")).deadline(LONG).notify(()).await);
    let deadline = Instant::now() + LONG;
    while activated.load(Ordering::Relaxed) < LINKS {
        assert!(Instant::now() < deadline, "{activated:?} of {LINKS}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.shutdown(Shutdown::graceful(LONG)).await.unwrap();
}

#[tokio::test]
async fn callers_that_have_given_up_take_no_place_of_those_who_wait_for_an_activation() {
    const MOST: usize = 10_000;
    for owner in [0, 1] {
        let pair = Pair::start().await;
        let grain = pair.caller().grain(pair.owned_by(owner, "held").next().unwrap());
        for _ in 0..MOST {
            let mut call = Box::pin(grain.request::<_, ()>(true));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            // A task may do only so much before it yields.
            tokio::task::yield_now().await;
        }
        let short = Duration::from_millis(200);
        let outcome = grain.clone().deadline(short).request::<_, ()>(true).await;
        assert!(matches!(outcome, Err(RequestError::NotDelivered { .. })), "{outcome:?}");
        drop(grain);
        pair.stop().await;
    }
}
