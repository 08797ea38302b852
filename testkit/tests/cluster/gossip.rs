use std::collections::BTreeMap;
use std::time::Duration;

use gristmill::{
    ClusterEvent, ConsensusError, GossipError, GossipUpdate, GossipUpdates, MemberId, MetricsError, SetRefusal, Timing,
};
use gristmill_testkit::{Probe, Said, Say, TestCluster, TestNode, Total};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// The values under a key, by member, as a node reads them.
async fn texts(node: &TestNode, key: &str) -> BTreeMap<MemberId, String> {
    let said = node.context().gossip().get::<Say>(key).await.unwrap();
    said.into_iter().map(|(member, say)| (member, say.text)).collect()
}

/// Waits until every node reads exactly these values.
async fn all_read(cluster: &TestCluster, key: &str, expected: &[(MemberId, &str)]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(member, text)| (*member, (*text).to_owned())).collect();
    let deadline = Instant::now() + PATIENCE;
    for node in cluster.running() {
        loop {
            let read = texts(node, key).await;
            if read == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{read:?} instead of {expected:?}\n{}", cluster.describe());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn next(updates: &mut GossipUpdates<Say>) -> GossipUpdate<Say> {
    timeout(PATIENCE, updates.next()).await.expect("no update").expect("the subscription has ended")
}

fn set(member: MemberId, text: &str) -> GossipUpdate<Say> {
    GossipUpdate::Set { member, value: Say::new(text) }
}

// proves MG-5.3, TG-3
#[tokio::test]
async fn what_a_member_writes_every_member_reads_and_the_last_write_wins() {
    let cluster = TestCluster::builder().members(3).start().await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster.member(node));
    a.context().gossip().set("build", &Say::new("1.3")).await.unwrap();
    b.context().gossip().set("build", &Say::new("1.3")).await.unwrap();
    all_read(&cluster, "build", &[(a.id(), "1.3"), (b.id(), "1.3")]).await;
    for version in ["1.4", "1.5", "1.6"] {
        a.context().gossip().set("build", &Say::new(version)).await.unwrap();
    }
    assert_eq!(texts(a, "build").await[&a.id()], "1.6", "it is there when the call returns");
    all_read(&cluster, "build", &[(a.id(), "1.6"), (b.id(), "1.3")]).await;
    b.context().gossip().remove("build").await.unwrap();
    all_read(&cluster, "build", &[(a.id(), "1.6")]).await;
    assert_eq!(c.context().gossip().get::<Total>("build").await.unwrap(), BTreeMap::new(), "it is no Total");
    let read = c.context().metrics().unwrap();
    assert!(read.gossip_rounds > 0 && read.gossip_received_entries > 0, "{read:?}");
    assert!(read.gossip_sent_bytes > 0 && read.gossip_received_bytes > 0, "{read:?}");
}

// proves MG-5.3
#[tokio::test]
async fn a_subscriber_hears_what_is_there_what_comes_and_what_goes() {
    let mut cluster = TestCluster::builder().members(3).start().await;
    let (a, c) = (cluster.member(0).id(), cluster.member(2).id());
    let gossip = |node: usize| cluster.member(node).context().gossip();
    gossip(2).set("build", &Say::new("1")).await.unwrap();
    all_read(&cluster, "build", &[(c, "1")]).await;

    let mut updates = gossip(1).subscribe::<Say>("build").await.unwrap();
    assert_eq!(next(&mut updates).await, set(c, "1"));
    gossip(0).set("other", &Say::new("none of its business")).await.unwrap();
    gossip(0).set("build", &Say::new("2")).await.unwrap();
    assert_eq!(next(&mut updates).await, set(a, "2"));
    gossip(0).set("build", &Total { value: 1 }).await.unwrap();
    let type_name = "gristmill.testkit.Total".to_owned();
    assert_eq!(next(&mut updates).await, GossipUpdate::Unreadable { member: a, type_name });
    gossip(0).remove("build").await.unwrap();
    assert_eq!(next(&mut updates).await, GossipUpdate::Removed { member: a });
    // proves MG-3.1 as far as gossip goes
    cluster.crash(2).await;
    assert_eq!(next(&mut updates).await, GossipUpdate::Removed { member: c });
    all_read(&cluster, "build", &[]).await;
    cluster.shutdown(1).await.unwrap();
    assert_eq!(timeout(PATIENCE, updates.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_how_much_it_lost() {
    let cluster = TestCluster::builder().start().await;
    let gossip = cluster.member(0).context().gossip();
    let mut slow = gossip.subscribe::<Say>("n").await.unwrap();
    for n in 1..=300 {
        gossip.set("n", &Say::new(n.to_string())).await.unwrap();
    }
    assert_eq!(next(&mut slow).await, GossipUpdate::Missed(300 - 256));
    assert_eq!(next(&mut slow).await, set(cluster.member(0).id(), "45"));
}

// proves MG-2.4 as far as a node can see it
#[tokio::test]
async fn the_topology_is_agreed_on_after_a_join_and_not_while_it_changes() {
    let mut cluster = TestCluster::builder().members(2).start().await;
    let mut handle = cluster.member(0).context().gossip().topology_consensus().await.unwrap();
    let hash = |cluster: &TestCluster| cluster.member(0).context().topology().hash();
    assert_eq!(handle.wait(PATIENCE).await, Ok(hash(&cluster)));
    assert_eq!(handle.current(), Some(hash(&cluster)));

    cluster.add_member().await;
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    let deadline = Instant::now() + PATIENCE;
    while handle.current() != Some(hash(&cluster)) {
        timeout(deadline - Instant::now(), handle.changed()).await.unwrap().unwrap();
    }
    assert!(handle.times_lost() > 0, "a newcomer that has not told of its topology has not agreed");

    for node in cluster.running() {
        let context = node.context().clone();
        let reached = move |event: &ClusterEvent| matches!(event, ClusterEvent::TopologyConsensusReached { hash, .. } if *hash == context.topology().hash());
        cluster.eventually("it is an event", |_| node.saw(&reached)).await;
        assert!(node.context().metrics().unwrap().topology_convergence > Duration::ZERO);
    }

    // A death is a change as well.
    let before = handle.times_lost();
    cluster.partition([0, 1], [2]);
    let without_it = |cluster: &TestCluster| cluster.member(0).context().topology().members().len() == 2;
    cluster.eventually("the majority goes on", without_it).await;
    assert!(handle.wait(PATIENCE).await.is_ok(), "who is left agrees");
    assert!(handle.times_lost() > before);
}

#[tokio::test]
async fn consensus_on_a_users_key_is_reached_when_the_last_has_written_and_lost_when_one_writes_another() {
    let cluster = TestCluster::builder().members(3).start().await;
    let gossip = |node: usize| cluster.member(node).context().gossip();
    let mut handle = gossip(0).consensus::<Say>("build").await.unwrap();
    for node in [0, 1] {
        gossip(node).set("build", &Say::new("1.4")).await.unwrap();
    }
    let short = Duration::from_millis(50);
    assert_eq!(handle.wait(short).await, Err(ConsensusError::DeadlineExceeded { after: short }));
    gossip(2).set("build", &Say::new("1.4")).await.unwrap();
    assert_eq!(handle.wait(PATIENCE).await, Ok(Say::new("1.4")));
    assert_eq!(timeout(PATIENCE, handle.changed()).await.unwrap(), Ok(Some(Say::new("1.4"))));

    gossip(1).set("build", &Say::new("1.5")).await.unwrap();
    assert_eq!(timeout(PATIENCE, handle.changed()).await.unwrap(), Ok(None));
    assert_eq!((handle.current(), handle.times_lost()), (None, 1));

    let other = gossip(0).consensus::<Total>("build").await.unwrap();
    gossip(1).set("build", &Say::new("1.4")).await.unwrap();
    assert_eq!(other.wait(PATIENCE).await, Err(ConsensusError::Unreadable));
}

#[tokio::test]
async fn a_composite_is_in_consensus_when_all_of_its_keys_are() {
    let mut cluster = TestCluster::builder().members(2).start().await;
    let gossip = |node: usize| cluster.member(node).context().gossip();
    let build = gossip(0).consensus::<Say>("build").await.unwrap();
    let both = build.and(gossip(0).consensus::<Total>("flag").await.unwrap()).await.unwrap();
    for node in [0, 1] {
        gossip(node).set("build", &Say::new("1.4")).await.unwrap();
    }
    gossip(0).set("flag", &Total { value: 7 }).await.unwrap();
    let one = gossip(0).consensus::<Say>("build").await.unwrap();
    one.wait(PATIENCE).await.unwrap();
    assert_eq!(both.current(), None);
    gossip(1).set("flag", &Total { value: 7 }).await.unwrap();
    assert_eq!(both.wait(PATIENCE).await, Ok((Say::new("1.4"), Total { value: 7 })));

    cluster.shutdown(0).await.unwrap();
    assert_eq!(both.wait(PATIENCE).await, Err(ConsensusError::NotRunning));
    assert_eq!(both.current(), None);
}

// proves MG-5.4
#[tokio::test]
async fn a_heartbeat_says_how_many_grains_a_member_runs_and_is_repeated() {
    let mut cluster = TestCluster::builder().members(3).kind(Probe::new().kind("test")).start().await;
    let context = cluster.member(0).context().clone();
    for identity in cluster.owned_by(1, "test").take(4) {
        let _: Said = context.request(identity, Say::new("")).await.unwrap();
    }
    let member = cluster.member(1).id();
    let deadline = Instant::now() + PATIENCE;
    let read = |count| {
        let context = &context;
        async move {
            loop {
                let heartbeat = context.heartbeat(member).await.unwrap();
                if heartbeat.as_ref().map(|heartbeat| heartbeat.grains.get("test").copied().unwrap_or_default())
                    == count
                {
                    return heartbeat;
                }
                assert!(Instant::now() < deadline, "{heartbeat:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let first = read(Some(4)).await.unwrap();
    // Nothing changes any more, and it comes again all the same.
    let then = context.now();
    assert!(first.heard_at <= then);
    loop {
        let heard_at = context.heartbeat(member).await.unwrap().unwrap().heard_at;
        assert!(heard_at <= context.now(), "it is told by another clock");
        if heard_at > then {
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.crash(1).await;
    assert_eq!(read(None).await, None, "a dead member has none");
    assert!(context.heartbeat(cluster.member(2).id()).await.unwrap().is_some());
}

#[tokio::test]
async fn what_may_not_be_written_is_refused_and_a_client_has_no_gossip() {
    let mut cluster = TestCluster::builder().start().await;
    let gossip = cluster.member(0).context().gossip();
    for key in ["heartbeat", "topology"] {
        let refused = GossipError::Reserved(key.to_owned());
        assert_eq!(gossip.set(key, &Say::new("")).await, Err(refused.clone()));
        assert_eq!(gossip.remove(key).await, Err(refused));
    }
    let refused = GossipError::Refused(SetRefusal::KeyLength { bytes: 0 });
    assert_eq!(gossip.set("", &Say::new("")).await, Err(refused));
    let large = Say::new("x".repeat(1 << 16));
    assert!(matches!(gossip.set("a", &large).await, Err(GossipError::Refused(SetRefusal::ValueTooLarge { .. }))));
    assert_eq!(gossip.get::<Say>("a").await.unwrap(), BTreeMap::new());

    let client = cluster.add_client().await;
    let client = cluster.member(client).context().gossip();
    assert_eq!(client.set("a", &Say::new("")).await, Err(GossipError::NotAMember));
    assert_eq!(client.get::<Say>("a").await, Err(GossipError::NotAMember));
    assert!(matches!(client.subscribe::<Say>("a").await, Err(GossipError::NotAMember)));
    assert!(matches!(client.topology_consensus().await, Err(GossipError::NotAMember)));

    cluster.shutdown(0).await.unwrap();
    // proves MG-1.2 as far as gossip goes
    assert_eq!(gossip.set("a", &Say::new("")).await, Err(GossipError::NotRunning));
    assert!(matches!(gossip.consensus::<Say>("a").await, Err(GossipError::NotRunning)));
}

// proves TG-1 as far as gossip goes
#[tokio::test]
async fn gossip_that_cannot_be_sent_is_counted_and_comes_when_the_way_is_free_again() {
    let mut timing = Timing::test();
    // Nobody is declared dead meanwhile.
    timing.membership.suspicion_multiplier = 1_000;
    let cluster = TestCluster::builder().members(2).timing(timing).start().await;
    let [a, b] = [0, 1].map(|node| cluster.member(node));
    a.context().gossip().set("n", &Say::new("1")).await.unwrap();
    all_read(&cluster, "n", &[(a.id(), "1")]).await;
    cluster.partition([0], [1]);
    a.context().gossip().set("n", &Say::new("2")).await.unwrap();
    let failed = |_: &TestCluster| a.context().metrics().unwrap().gossip_failed_sends > 3;
    cluster.eventually("sends fail", failed).await;
    assert_eq!(texts(b, "n").await[&a.id()], "1");
    cluster.heal();
    all_read(&cluster, "n", &[(a.id(), "2")]).await;
    let read = a.context().metrics().unwrap();
    assert!(read.failed_sends >= read.gossip_failed_sends);
}

// proves TG-2 as far as its restart goes
#[tokio::test]
async fn gossip_stops_with_its_node_and_starts_with_the_next_one() {
    let mut cluster = TestCluster::builder().members(2).start().await;
    cluster.member(1).context().gossip().set("n", &Say::new("1")).await.unwrap();
    all_read(&cluster, "n", &[(cluster.member(1).id(), "1")]).await;
    cluster.shutdown(1).await.unwrap();
    all_read(&cluster, "n", &[]).await;
    let again = cluster.add_member().await;
    cluster.member(again).context().gossip().set("n", &Say::new("2")).await.unwrap();
    all_read(&cluster, "n", &[(cluster.member(again).id(), "2")]).await;
}

// proves MG-5.1 as far as disabled metrics go
#[tokio::test]
async fn a_cluster_without_metrics_works_and_says_that_it_has_none() {
    let mut cluster = TestCluster::builder().members(2).configure(|builder| builder.metrics(false)).start().await;
    let context = cluster.member(0).context().clone();
    context.gossip().set("n", &Say::new("1")).await.unwrap();
    all_read(&cluster, "n", &[(cluster.member(0).id(), "1")]).await;
    assert_eq!(context.metrics(), Err(MetricsError::Disabled));
    cluster.shutdown(0).await.unwrap();
    assert_eq!(context.metrics(), Err(MetricsError::Disabled));
}
