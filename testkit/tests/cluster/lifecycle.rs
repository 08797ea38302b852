use std::sync::{Arc, Weak};
use std::time::Duration;

use gristmill::{
    Cluster, ClusterActor, ClusterConfigBuilder, ClusterContext, ClusterEvent, ClusterProvider, Discovery, Member,
    MemoryNetwork, Network, NotRunning, ProviderError, ProviderFuture, RequestError, Shutdown, ShutdownError,
    StartError, StaticList, Timing,
};
use gristmill_testkit::{Probe, Said, Say, TestCluster, Wait};
use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(10);

fn config(network: &MemoryNetwork, host: &str) -> ClusterConfigBuilder {
    gristmill::ClusterConfig::builder("test")
        .listen(format!("{host}:7"))
        .network(Arc::new(network.host(host)))
        .timing(Timing::test())
}

async fn start(builder: ClusterConfigBuilder) -> (Cluster, ClusterContext) {
    ClusterActor::start_member(builder.build().unwrap()).await.unwrap()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

// proves MG-1.1
#[tokio::test]
async fn a_node_that_has_stopped_leaves_no_port_no_task_and_no_memory_and_starts_again() {
    let network = MemoryNetwork::new();
    let idle = tasks();
    for how in [Shutdown::graceful(GRACE), Shutdown::immediate(), Shutdown::graceful(GRACE)] {
        let probe = Probe::new();
        let (first, context) = start(config(&network, "a").kind(probe.kind("test"))).await;
        let seeds = [context.address().clone()];
        let (second, other) = start(config(&network, "b").seeds(seeds.clone()).kind(probe.kind("test"))).await;
        let wire: Arc<dyn Network> = Arc::new(network.host("c"));
        let held: Weak<dyn Network> = Arc::downgrade(&wire);
        let client = gristmill::ClusterConfig::builder("test").seeds(seeds).network(wire).timing(Timing::test());
        let (client, outside) = ClusterActor::start_client(client.build().unwrap()).await.unwrap();
        let room = outside.subscribe::<Say>("room").await.unwrap();
        for number in 0..20 {
            for context in [&context, &other, &outside] {
                let _: Said = context.request(("test", format!("{number}")), Say::new("")).await.unwrap();
            }
        }
        let _ = other.publish("room", Say::new("")).await.unwrap();
        for cluster in [client, second, first] {
            let stopped = cluster.shutdown(how).await;
            assert_eq!(stopped, Ok(()));
            cluster.shutdown(how).await.expect("a second time it does nothing");
        }
        drop((context, other, outside, room));
        eventually("all tasks have ended", || tasks() <= idle).await;
        assert_eq!(held.strong_count(), 0, "the node is still in memory");
        for number in 0..20 {
            assert_eq!(probe.alive(("test", format!("{number}"))), 0);
        }
    }
}

#[tokio::test]
async fn a_shutdown_may_have_all_the_time_that_can_be_said() {
    let probe = Probe::new();
    let (cluster, context) = start(config(&MemoryNetwork::new(), "a").kind(probe.kind("test"))).await;
    let mut events = context.events();
    let _: Said = context.request(("test", "a"), Say::new("")).await.unwrap();
    assert_eq!(cluster.shutdown(Shutdown::graceful(Duration::MAX)).await, Ok(()));
    assert_eq!(probe.deactivations(("test", "a")).len(), 1, "it said goodbye");
    let ended = async { while events.next().await.expect("an event") != ClusterEvent::Shutdown {} };
    tokio::time::timeout(GRACE, ended).await.expect("it did not end in order");
}

#[tokio::test]
async fn a_node_that_goes_at_once_activates_nothing_on_its_way() {
    const MANY: u64 = 10_000;
    let probe = Probe::new();
    let (cluster, context) = start(config(&MemoryNetwork::new(), "a").kind(probe.kind("test"))).await;
    let activated = {
        let probe = probe.clone();
        move || (0..MANY).take_while(|number| probe.activations(("test", number.to_string())) > 0).count()
    };
    let hangs = tokio::spawn({
        let (grain, activated) = (context.grain(("test", "hangs")), activated.clone());
        async move { (grain.request::<_, Said>(Wait {}).await, activated()) }
    });
    eventually("it hangs", || probe.waiting(("test", "hangs")) == 1).await;
    let calls = tokio::spawn(async move {
        for number in 0..MANY {
            if let Err(error) = context.request::<_, Said>(("test", number.to_string()), Say::new("")).await {
                return error;
            }
        }
        panic!("it is still there");
    });
    eventually("grains are activated", || activated() > 10).await;
    cluster.shutdown(Shutdown::immediate()).await.unwrap();
    let (outcome, activated_by_then) = hangs.await.unwrap();
    assert!(matches!(outcome, Err(RequestError::UnknownOutcome { .. })), "{outcome:?}");
    assert_eq!(calls.await.unwrap(), RequestError::NotRunning);
    assert_eq!(activated(), activated_by_then, "since its grains were stopped");
}

// proves MG-1.2
#[tokio::test]
async fn after_its_end_a_node_refuses_everything() {
    for how in [Shutdown::graceful(GRACE), Shutdown::immediate()] {
        let (cluster, context) = start(config(&MemoryNetwork::new(), "a").kind(Probe::new().kind("test"))).await;
        let grain = context.grain(("test", "a"));
        let _: Said = grain.request(Say::new("")).await.unwrap();
        cluster.shutdown(how).await.unwrap();
        let refused = RequestError::NotRunning;
        assert_eq!(grain.request::<_, Said>(Say::new("")).await.unwrap_err(), refused);
        assert_eq!(grain.notify(Say::new("")).await.unwrap_err(), refused);
        assert_eq!(context.publish("room", Say::new("")).await.unwrap_err(), refused);
        assert_eq!(context.subscribe::<Say>("room").await.unwrap_err(), refused);
        assert_eq!(context.members().await.unwrap_err(), NotRunning);
        assert_eq!(context.grain_counts().await.unwrap_err(), NotRunning);
        cluster.ended().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_runs_when_its_node_goes_down_at_once_is_answered() {
    let probe = Probe::new();
    let (cluster, context) = start(config(&MemoryNetwork::new(), "a").kind(probe.kind("test"))).await;
    let call = tokio::spawn({
        let grain = context.grain(("test", "a")).deadline(Duration::from_secs(60));
        async move { grain.request::<_, Said>(Wait {}).await }
    });
    eventually("it runs", || probe.waiting(("test", "a")) == 1).await;
    cluster.shutdown(Shutdown::immediate()).await.unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(10), call).await.expect("its caller still waits");
    assert!(matches!(answered.unwrap().unwrap_err(), RequestError::UnknownOutcome { .. }));
    assert_eq!(probe.alive(("test", "a")), 0);
}

#[tokio::test]
async fn a_graceful_shutdown_waits_for_what_runs_and_cuts_off_what_does_not_end() {
    let probe = Probe::new();
    let (cluster, context) = start(config(&MemoryNetwork::new(), "a").kind(probe.kind("test"))).await;
    let call = |identity: &str| {
        let grain = context.grain(("test", identity)).deadline(Duration::from_secs(60));
        tokio::spawn(async move { grain.request::<_, Said>(Wait {}).await })
    };
    let runs = call("a");
    eventually("it runs", || probe.waiting(("test", "a")) == 1).await;
    let shutdown = tokio::spawn(async move { cluster.shutdown(Shutdown::graceful(GRACE)).await });
    // It cannot be over while the grain runs.
    probe.release(1);
    runs.await.unwrap().unwrap();
    assert_eq!(shutdown.await.unwrap(), Ok(()));
    assert_eq!(probe.deactivations(("test", "a")).len(), 1);

    let (cluster, context) = start(config(&MemoryNetwork::new(), "a").kind(probe.kind("test"))).await;
    let grain = context.grain(("test", "b")).deadline(Duration::from_secs(60));
    let stuck = tokio::spawn(async move { grain.request::<_, Said>(Wait {}).await });
    eventually("it runs", || probe.waiting(("test", "b")) == 1).await;
    let shutdown = cluster.shutdown(Shutdown::graceful(Duration::from_millis(200))).await;
    assert_eq!(shutdown, Err(ShutdownError::CutOff { grains: 1 }));
    assert!(matches!(stuck.await.unwrap().unwrap_err(), RequestError::UnknownOutcome { .. }));
    assert_eq!(probe.alive(("test", "b")), 0);
}

/// Starts, and never reports or fails, as told.
#[derive(Debug)]
struct Broken(Option<ProviderError>);

impl ClusterProvider for Broken {
    fn start_member<'a>(&'a self, _: &'a Member, discovery: Discovery) -> ProviderFuture<'a> {
        self.start_client(discovery)
    }

    fn start_client(&self, _: Discovery) -> ProviderFuture<'_> {
        let error = self.0.clone();
        Box::pin(async { error.map_or(Ok(()), Err) })
    }

    fn shutdown(&self, _: bool) -> ProviderFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

// proves CX-2.4, CX-3.2, CX-5.1
#[tokio::test]
async fn a_start_that_fails_says_why_and_takes_everything_back() {
    type Expected = fn(&StartError) -> bool;
    let network = MemoryNetwork::new();
    let (running, _) = start(config(&network, "taken")).await;
    let idle = tasks();
    let backend = ProviderError::Backend("down".into());
    let starts: [(&str, ClusterConfigBuilder, Expected); 5] = [
        ("taken", config(&network, "taken"), |error| matches!(error, StartError::Listen { .. })),
        ("a", config(&network, "a").seeds(["nowhere:1"]), |error| matches!(error, StartError::Join(_))),
        ("a", config(&network, "a").provider(StaticList::new(["b:7"])), |error| {
            matches!(error, StartError::Provider(ProviderError::NotListed { .. }))
        }),
        (
            "a",
            config(&network, "a").provider(Broken(Some(backend))),
            |error| matches!(error, StartError::Provider(ProviderError::Backend(why)) if why == "down"),
        ),
        (
            "a",
            config(&network, "a").provider(Broken(None)),
            |error| matches!(error, StartError::Provider(ProviderError::Backend(why)) if why.contains("stopped")),
        ),
    ];
    for (host, builder, expected) in starts {
        let config = builder.build().unwrap();
        let mut events = config.events();
        let error = ClusterActor::start_member(config).await.unwrap_err();
        assert!(expected(&error), "{error:?}");
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(event);
        }
        let failed = ClusterEvent::StartupFailed { reason: error.to_string() };
        assert_eq!(seen.iter().filter(|event| **event == failed).count(), 1, "{seen:?}");
        assert_eq!(seen.last(), Some(&failed), "it is the last event");
        eventually("its tasks have ended", || tasks() <= idle).await;
        if host != "taken" {
            network.host(host).listen(&format!("{host}:7")).await.expect("its port is free");
        }
    }
    running.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
}

// proves CX-2.4
#[tokio::test]
async fn a_start_that_is_given_up_takes_everything_back() {
    let network = MemoryNetwork::new();
    let idle = tasks();
    for round in 0..20 {
        let start = ClusterActor::start_member(config(&network, "a").seeds(["nowhere:1"]).build().unwrap());
        tokio::time::timeout(Duration::from_millis(round * 2), start).await.expect_err("nobody is there");
        eventually("its tasks have ended", || tasks() <= idle).await;
        network.host("a").listen("a:7").await.expect("its port is free");
    }
}

// proves CX-5.1, CX-4.1
#[tokio::test]
async fn a_nodes_life_begins_and_ends_with_one_event_each_and_the_metrics_follow_the_topology() {
    let mut cluster = TestCluster::builder().members(2).start().await;
    for node in cluster.running() {
        assert_eq!(node.count(|event| *event == ClusterEvent::Started { member: node.id() }), 1);
        let topology = node.context().topology();
        assert!(topology.members().iter().all(|member| member.kinds.iter().any(|kind| kind.as_str() == "topic")));
    }
    let third = cluster.add_member().await;
    let newest = |cluster: &TestCluster| {
        cluster.all_agree()
            && cluster.running().all(|node| {
                let (metrics, topology) = (node.context().metrics().unwrap(), node.context().topology());
                metrics.members == topology.members().len() as u64
                    && metrics.topology_version == topology.version().get()
            })
    };
    cluster.eventually("the metrics follow", newest).await;
    cluster.shutdown(third).await.unwrap();
    cluster.eventually("the metrics follow", newest).await;
    for node in [2, 1, 0] {
        cluster.shutdown(node).await.unwrap();
        cluster.shutdown(node).await.unwrap();
        let down = |cluster: &TestCluster| cluster.member(node).saw(|event| *event == ClusterEvent::Shutdown);
        cluster.eventually("it is down", down).await;
        let events = cluster.member(node).events();
        assert_eq!(events.iter().filter(|event| **event == ClusterEvent::Shutdown).count(), 1);
        assert_eq!(events.last(), Some(&ClusterEvent::Shutdown), "nothing comes after it");
        assert_eq!(cluster.member(node).count(|event| matches!(event, ClusterEvent::Started { .. })), 1);
    }
}
