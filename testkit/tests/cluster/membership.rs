use std::collections::BTreeSet;

use gristmill::{
    ClusterConfigBuilder, ClusterEvent, Downing, MemberId, MemberStatus, SuspicionOutcome, Timing, TopologyUpdated,
};
use gristmill_testkit::{Probe, Said, Say, TestCluster, TestNode};

/// The states of a member that a node was told of, in their order.
fn states(node: &TestNode, of: MemberId) -> Vec<MemberStatus> {
    let state = |event| match event {
        ClusterEvent::MemberStatusChanged { member, to, .. } if member.id == of => Some(to),
        _ => None,
    };
    node.events().into_iter().filter_map(state).collect()
}

fn topologies(node: &TestNode) -> Vec<std::sync::Arc<TopologyUpdated>> {
    let topology = |event| match event {
        ClusterEvent::TopologyUpdated(updated) => Some(updated),
        _ => None,
    };
    node.events().into_iter().filter_map(topology).collect()
}

/// What holds for the topology events of every node, whatever happened.
fn check_topologies(node: &TestNode) {
    let failed = |event: &ClusterEvent| matches!(event, ClusterEvent::TopologyApplyFailed { .. });
    assert_eq!(node.count(failed), 0, "all parts go by them: {:?}", node.events());
    let mut before: Option<std::sync::Arc<TopologyUpdated>> = None;
    for updated in topologies(node) {
        let ids = |members: &[gristmill::Member]| members.iter().map(|member| member.id).collect::<BTreeSet<_>>();
        let (now, joined) = (ids(updated.topology.members()), ids(&updated.joined));
        let (left, dead) = (ids(&updated.left), ids(&updated.dead));
        assert!(left.is_disjoint(&dead) && left.is_disjoint(&now) && dead.is_disjoint(&now) && joined.is_subset(&now));
        let then = before.as_ref().map(|before| ids(before.topology.members())).unwrap_or_default();
        let expected: BTreeSet<_> = then.union(&joined).copied().collect();
        let gone: BTreeSet<_> = left.union(&dead).copied().collect();
        assert_eq!(expected.difference(&gone).copied().collect::<BTreeSet<_>>(), now, "the sets tell the difference");
        if let Some(before) = &before {
            assert!(before.topology.version() < updated.topology.version());
            assert!(!before.topology.same_content(&updated.topology), "no change, no event");
        }
        before = Some(updated);
    }
}

// proves MG-2.1, MG-1.3, MG-5.2, CX-2.2
#[tokio::test]
async fn a_member_that_joins_is_joining_then_up_and_everybody_learns_what_it_hosts() {
    let probe = Probe::new();
    let mut cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    let joined = cluster.add_member_with(|builder| builder.kind(probe.kind("special"))).await;
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    let id = cluster.member(joined).id();
    let proven = [MemberStatus::Joining, MemberStatus::Up];
    for node in [0, 1] {
        cluster.eventually("it was seen to join", |cluster| states(cluster.member(node), id) == proven).await;
    }
    for node in cluster.running() {
        let members = node.context().members().await.unwrap();
        assert_eq!(members.len(), 3);
        assert!(members.iter().all(|info| info.status == MemberStatus::Up));
        let kinds = |id| {
            let topology = node.context().topology();
            let member = topology.member(id).unwrap();
            member.kinds.iter().map(|kind| kind.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(id), ["special", "test", "topic"]);
        assert_eq!(kinds(cluster.member(0).id()), ["test", "topic"]);
        let said: Said = node.context().request(("special", "a"), Say::new("")).await.unwrap();
        assert_eq!(said.member, id.to_string());
        check_topologies(node);
    }
}

// proves CX-2.2
#[tokio::test]
async fn gossip_tells_every_member_how_many_grains_the_others_run() {
    let cluster = TestCluster::builder().members(3).kind(Probe::new().kind("test")).start().await;
    let context = cluster.member(0).context();
    for (owner, count) in [(0, 1), (1, 2), (2, 3)] {
        for identity in cluster.owned_by(owner, "test").take(count) {
            let _: Said = context.request(identity, Say::new("")).await.unwrap();
        }
    }
    let expected: Vec<_> = [(0, 1), (1, 2), (2, 3)].map(|(owner, count)| (cluster.member(owner).id(), count)).into();
    for node in cluster.running() {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let counts = node.context().grain_counts().await.unwrap();
            let count = |id| counts.get(id).and_then(|kinds| kinds.get("test")).copied().unwrap_or_default();
            if expected.iter().all(|(id, expected)| count(id) == *expected) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{counts:?}");
            tokio::task::yield_now().await;
        }
    }
}

// proves MG-2.3, MG-4.1, CX-2.3
#[tokio::test]
async fn a_member_that_leaves_is_leaving_then_removed_and_the_topology_says_so() {
    let mut cluster = TestCluster::builder().members(3).start().await;
    let id = cluster.member(2).id();
    cluster.shutdown(2).await.unwrap();
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    for node in [0, 1] {
        let removed = |cluster: &TestCluster| states(cluster.member(node), id).last() == Some(&MemberStatus::Removed);
        cluster.eventually("it is removed", removed).await;
        let node = cluster.member(node);
        let states: Vec<_> = states(node, id).into_iter().skip_while(|state| *state != MemberStatus::Up).collect();
        assert_eq!(states, [MemberStatus::Up, MemberStatus::Leaving, MemberStatus::Removed]);
        assert_eq!((node.context().topology().members().len(), node.context().metrics().unwrap().members), (2, 2));
        check_topologies(node);
        let departures = |updated: &TopologyUpdated| updated.left.iter().filter(|member| member.id == id).count();
        assert_eq!(topologies(node).iter().map(|updated| departures(updated)).sum::<usize>(), 1);
        assert!(topologies(node).iter().all(|updated| updated.dead.is_empty()));
    }
}

// proves MG-5.2, TG-1 as far as failed sends are counted
#[tokio::test]
async fn a_member_that_crashes_is_suspected_then_dead_and_blocked() {
    let mut cluster = TestCluster::builder().members(3).start().await;
    let id = cluster.member(2).id();
    cluster.crash(2).await;
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    for node in [0, 1] {
        let node = cluster.member(node);
        let states = states(node, id);
        assert!(states.contains(&MemberStatus::Dead), "{states:?}");
        let quarantined =
            |event: &ClusterEvent| matches!(event, ClusterEvent::MemberQuarantined { member, .. } if member.id == id);
        assert_eq!(node.count(quarantined), 1);
        check_topologies(node);
        let died = |updated: &TopologyUpdated| updated.dead.iter().any(|member| member.id == id);
        assert_eq!(topologies(node).iter().filter(|updated| died(updated)).count(), 1);
    }
    let failed =
        |cluster: &TestCluster| cluster.running().any(|node| node.context().metrics().unwrap().failed_sends > 0);
    cluster.eventually("sends to it failed and were counted", failed).await;
    cluster.eventually("the block ends", |c| c.running().all(|n| n.context().topology().blocked().is_empty())).await;
    cluster.running().for_each(check_topologies);
}

#[tokio::test]
async fn a_client_that_stays_does_not_pile_up_connections() {
    let mut cluster = TestCluster::builder().members(2).start().await;
    let client = cluster.add_client().await;
    let id = cluster.member(client).id();
    // Long enough for dozens of questions for the topology, which each came on a connection of its own once.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for node in [0, 1] {
        let connected = |event: &ClusterEvent| matches!(event, ClusterEvent::PeerConnected { peer, .. } if *peer == id);
        assert!(cluster.member(node).count(connected) <= 2, "one for each lane: {}", cluster.describe());
    }
}

// proves MG-1.3
#[tokio::test]
async fn ten_members_that_start_one_after_the_other_all_see_each_other() {
    // At a pace at which a machine that has other work too makes nobody take itself for cut off.
    let cluster = TestCluster::builder().members(10).timing(Timing::lan()).start().await;
    let hashes: BTreeSet<_> = cluster.running().map(|node| node.context().topology().hash()).collect();
    assert_eq!(hashes.len(), 1);
    cluster.running().for_each(check_topologies);
}

#[tokio::test]
async fn a_short_cut_of_the_network_costs_nobody_its_membership() {
    let cluster = TestCluster::builder().members(3).start().await;
    cluster.partition([0], [1]);
    // The third one reaches both, and vouches for them.
    let said = |cluster: &TestCluster| {
        cluster.member(0).context().topology().members().len() == 3
            && cluster.member(1).context().topology().members().len() == 3
    };
    for _ in 0..100 {
        assert!(said(&cluster), "{}", cluster.describe());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    cluster.heal();
    cluster.eventually("all members agree", TestCluster::all_agree).await;
}

#[tokio::test]
async fn a_cluster_that_was_cut_in_two_finds_together_again() {
    let both_go_on = |builder: ClusterConfigBuilder| builder.downing(Downing::off());
    let cluster = TestCluster::builder().members(4).configure(both_go_on).start().await;
    cluster.partition([0, 1], [2, 3]);
    let size = |cluster: &TestCluster, node: usize| cluster.member(node).context().topology().members().len();
    cluster.eventually("each side buries the other", |c| [0, 1, 2, 3].map(|node| size(c, node)) == [2; 4]).await;
    cluster.heal();
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    cluster.running().for_each(check_topologies);
}

#[tokio::test]
async fn a_member_that_hears_nobody_buries_nobody_and_says_so() {
    let cluster = TestCluster::builder()
        .members(3)
        .configure(|builder: ClusterConfigBuilder| builder.downing(Downing::off()))
        .start()
        .await;
    cluster.partition([0, 1], [2]);
    let size = |cluster: &TestCluster, node: usize| cluster.member(node).context().topology().members().len();
    cluster.eventually("the others bury it", |c| [0, 1].map(|node| size(c, node)) == [2; 2]).await;
    let isolated = |c: &TestCluster| c.member(2).events().contains(&ClusterEvent::Isolated);
    cluster.eventually("it says that it hears nobody", isolated).await;
    assert_eq!(size(&cluster, 2), 3);
    cluster.heal();
    cluster.eventually("it is told", |c| c.member(2).events().contains(&ClusterEvent::Evicted)).await;
    assert_eq!([0, 1].map(|node| size(&cluster, node)), [2; 2]);
}

// proves MG-5.1, MG-5.2
#[tokio::test]
async fn a_crashed_member_is_explained() {
    let mut cluster = TestCluster::builder().members(3).start().await;
    let crashed = cluster.member(2).id();
    cluster.crash(2).await;
    let dead = |c: &TestCluster| c.member(0).context().metrics().unwrap().dead_members == 1;
    cluster.eventually("it is counted among the dead", dead).await;
    cluster.eventually("the others bury it", |c| c.member(0).context().topology().members().len() == 2).await;
    let explanation = cluster.member(0).context().explain(crashed).await.unwrap().unwrap();
    assert!(!explanation.accusations.is_empty());
    assert!(matches!(explanation.outcome, Some(SuspicionOutcome::Dead { .. })), "{explanation:?}");
    let suspected =
        |event: &ClusterEvent| matches!(event, ClusterEvent::MemberSuspected { member, .. } if *member == crashed);
    assert!(cluster.member(0).events().iter().any(suspected));
    assert!([0, 1].iter().any(|node| cluster.member(*node).context().metrics().unwrap().accusations > 0));
    let metrics = cluster.member(0).context().metrics().unwrap();
    let others = metrics.joining_members + metrics.suspects + metrics.leaving_members;
    assert_eq!((metrics.up_members, others), (2, 0));
}

// proves MG-5.1 as far as a node's trust in itself goes
#[tokio::test]
async fn a_node_whose_runtime_was_blocked_trusts_itself_less() {
    let cluster = TestCluster::builder().start().await;
    let health = |cluster: &TestCluster| cluster.member(0).context().metrics().unwrap().local_health;
    assert_eq!(health(&cluster), 0);
    // The fault: nothing of the node runs for so long.
    std::thread::sleep(std::time::Duration::from_millis(500));
    cluster.eventually("it has noticed", |cluster| health(cluster) > 0).await;
}

// proves MG-5.1
#[tokio::test]
async fn probes_and_suspicions_that_were_refuted_are_counted() {
    let mut patient = Timing::test();
    patient.membership.suspicion_multiplier = 1_000;
    let both_go_on = |builder: ClusterConfigBuilder| builder.downing(Downing::off());
    let cluster = TestCluster::builder().members(3).timing(patient).configure(both_go_on).start().await;
    let read = |cluster: &TestCluster| cluster.member(0).context().metrics().unwrap();
    cluster.eventually("a probe is answered", |cluster| !read(cluster).probe_round_trip.is_zero()).await;
    cluster.partition([0, 1], [2]);
    cluster.eventually("it is suspected", |cluster| read(cluster).suspects == 1).await;
    let before = read(&cluster).refuted_suspicions;
    cluster.heal();
    cluster.eventually("it has refuted", |cluster| read(cluster).suspects == 0).await;
    let after = read(&cluster);
    assert!(after.refuted_suspicions > before, "{after:?}");
    assert_eq!(after.dead_members, 0);
}
