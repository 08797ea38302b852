use std::time::Duration;

use gristmill::downing::{Cause, Side, Strategy};
use gristmill::{
    ClusterConfigBuilder, ClusterEvent, ClusterIdentity, Downing, MemberId, OnEviction, RequestError, Timing,
    TopologyUpdated,
};
use gristmill_testkit::{Probe, Said, Say, TestCluster, TestNode};

/// Grains of a node, activated.
async fn activate(cluster: &TestCluster, owner: usize, count: usize) -> Vec<ClusterIdentity> {
    let grains: Vec<_> = cluster.owned_by(owner, "test").take(count).collect();
    for grain in &grains {
        let _: Said = cluster.member(owner).context().request(grain.clone(), Say::new("")).await.unwrap();
    }
    grains
}

fn members(node: &TestNode) -> Vec<MemberId> {
    node.context().topology().members().iter().map(|member| member.id).collect()
}

fn fenced(node: &TestNode) -> bool {
    node.saw(|event| matches!(event, ClusterEvent::Fenced { .. }))
}

fn topologies(node: &TestNode) -> Vec<std::sync::Arc<TopologyUpdated>> {
    let topology = |event| match event {
        ClusterEvent::TopologyUpdated(updated) => Some(updated),
        _ => None,
    };
    node.events().into_iter().filter_map(topology).collect()
}

fn position(node: &TestNode, which: impl Fn(&ClusterEvent) -> bool) -> usize {
    node.events().iter().position(which).unwrap_or_else(|| panic!("no such event: {:?}", node.events()))
}

// proves FT-6, FT-7
#[tokio::test]
async fn the_grains_of_a_member_that_is_cut_off_stop_before_the_others_activate_them() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().members(3).kind(probe.kind("test")).start().await;
    let grains = activate(&cluster, 2, 20).await;
    let id = cluster.member(2).id();
    cluster.settled().await;
    cluster.partition([0, 1], [2]);
    cluster.eventually("the minority is fenced", |cluster| fenced(cluster.member(2))).await;
    let released = |cluster: &TestCluster| {
        [0, 1].into_iter().all(|node| cluster.member(node).context().topology().member(id).is_none())
    };
    assert!(!released(&cluster), "the losers stop first");
    cluster.eventually("their keys are taken over", released).await;
    for grain in &grains {
        let said: Said = cluster.member(0).context().request(grain.clone(), Say::new("")).await.unwrap();
        assert_ne!(said.member, id.to_string());
        assert_eq!(probe.most_alive(grain.clone()), 1, "never two at once");
    }
    let decisions = cluster.member(2).context().downing_decisions();
    assert_eq!(decisions.len(), 1);
    let decision = &decisions[0];
    assert_eq!(
        (decision.strategy, decision.cause, decision.chosen),
        (Strategy::KeepMajority, Cause::Losing, Side::Other)
    );
    assert_eq!((&decision.reachable, decision.baseline.len()), (&vec![id], 3));
    let [winner] = &cluster.member(0).context().downing_decisions()[..] else { panic!("one decision") };
    assert_eq!((winner.cause, winner.chosen, &winner.unreachable), (Cause::Stable, Side::This, &vec![id]));
    let order = [
        position(cluster.member(2), |event| matches!(event, ClusterEvent::DowningDecided(_))),
        position(cluster.member(2), |event| matches!(event, ClusterEvent::Fenced { .. })),
    ];
    assert!(order.is_sorted());
    cluster.eventually("it has shut down", |c| c.member(2).saw(|event| *event == ClusterEvent::Shutdown)).await;
    let answer = cluster.member(2).context().request::<_, Said>(grains[0].clone(), Say::new("")).await;
    assert_eq!(answer, Err(RequestError::NotRunning));
}

// proves FT-6
#[tokio::test]
async fn a_member_that_was_cut_off_rejoins_under_a_new_id_and_its_context_goes_on() {
    let probe = Probe::new();
    let cluster = TestCluster::builder()
        .members(3)
        .kind(probe.kind("test"))
        .configure(|builder| builder.on_eviction(OnEviction::Rejoin))
        .start()
        .await;
    let grains = activate(&cluster, 2, 5).await;
    let context = cluster.member(2).context().clone();
    let grain = context.grain(grains[0].clone()).deadline(Duration::from_secs(20));
    let _: Said = grain.request(Say::new("")).await.unwrap();
    let old = cluster.member(2).id();
    cluster.settled().await;
    cluster.partition([0, 1], [2]);
    cluster.eventually("the minority is fenced", |cluster| fenced(cluster.member(2))).await;
    // Waits for the next life.
    let call = tokio::spawn(async move { grain.request::<_, Said>(Say::new("")).await });
    let alone = |cluster: &TestCluster| [0, 1].into_iter().all(|node| members(cluster.member(node)).len() == 2);
    cluster.eventually("their keys are taken over", alone).await;
    cluster.heal();
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    let rejoined = |cluster: &TestCluster| {
        cluster.member(2).saw(|event| matches!(event, ClusterEvent::Rejoined { old: before, .. } if *before == old))
    };
    cluster.eventually("it has rejoined", rejoined).await;
    assert_ne!(context.id(), old);
    assert_eq!(members(cluster.member(0)), members(cluster.member(2)));
    call.await.unwrap().unwrap();
    for grain in &grains {
        let _: Said = context.request(grain.clone(), Say::new("")).await.unwrap();
        assert_eq!(probe.most_alive(grain.clone()), 1, "never two at once");
    }
    assert_eq!(context.downing_decisions().len(), 1, "the decision of its former life is still there");
    assert!(!cluster.member(2).saw(|event| *event == ClusterEvent::Shutdown));
}

#[tokio::test]
async fn members_that_were_all_cut_off_from_each_other_form_a_cluster_anew() {
    let cluster = TestCluster::builder()
        .members(3)
        .kind(Probe::new().kind("test"))
        .configure(|builder| builder.on_eviction(OnEviction::Rejoin))
        .start()
        .await;
    let old = [0, 1, 2].map(|node| cluster.member(node).id());
    cluster.settled().await;
    cluster.partition([0], [1, 2]);
    cluster.partition([1], [2]);
    let all_fenced = |cluster: &TestCluster| cluster.running().all(fenced);
    cluster.eventually("no side goes on", all_fenced).await;
    cluster.heal();
    let anew = |cluster: &TestCluster| cluster.all_agree() && cluster.running().all(|node| !old.contains(&node.id()));
    cluster.eventually("all agree under new ids", anew).await;
    assert!(cluster.running().all(|node| members(node).len() == 3));
}

// proves MG-3.3, MG-3.2 as far as it joins under a new id
#[tokio::test]
async fn a_member_that_is_told_that_it_is_dead_stops_its_grains_and_rejoins() {
    let probe = Probe::new();
    let mut cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    // It fences never by itself, and takes its time to bury others: it serves until it is told.
    let mut patient = Timing::test();
    patient.membership.suspicion_multiplier = 1_000;
    let rejoins = move |builder: ClusterConfigBuilder| {
        builder.on_eviction(OnEviction::Rejoin).downing(Downing::off()).timing(patient)
    };
    let node = cluster.add_member_with(rejoins).await;
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    let grains = activate(&cluster, node, 5).await;
    let old = cluster.member(node).id();
    cluster.partition([0, 1], [node]);
    let released = |cluster: &TestCluster| [0, 1].into_iter().all(|other| members(cluster.member(other)).len() == 2);
    cluster.eventually("it is dead to the others", released).await;
    assert!(grains.iter().all(|grain| probe.alive(grain.clone()) == 1) && !fenced(cluster.member(node)));
    cluster.heal();
    cluster.eventually("all members agree", |cluster| cluster.member(node).id() != old && cluster.all_agree()).await;
    let node = cluster.member(node);
    let order = [
        position(node, |event| *event == ClusterEvent::Evicted),
        position(node, |event| *event == ClusterEvent::Fenced { member: old }),
        position(node, |event| *event == ClusterEvent::Rejoined { old, new: node.id() }),
    ];
    assert!(order.is_sorted());
    assert!(grains.iter().all(|grain| probe.alive(grain.clone()) == 0));
}

#[tokio::test]
async fn the_survivor_of_two_killed_processes_goes_on_because_their_hosts_say_that_they_are_gone() {
    let mut cluster = TestCluster::builder().members(3).kind(Probe::new().kind("test")).start().await;
    cluster.settled().await;
    cluster.crash(1).await;
    cluster.crash(2).await;
    cluster.eventually("it is alone and owns everything", |cluster| members(cluster.member(0)).len() == 1).await;
    assert!(!fenced(cluster.member(0)));
}

#[tokio::test]
async fn the_survivor_of_two_members_that_fall_silent_fences_itself() {
    let cluster = TestCluster::builder().members(3).kind(Probe::new().kind("test")).start().await;
    cluster.settled().await;
    cluster.partition([0], [1, 2]);
    cluster.eventually("the survivor is fenced", |cluster| fenced(cluster.member(0))).await;
}

#[tokio::test]
async fn without_downing_both_sides_go_on() {
    let cluster = TestCluster::builder().members(4).configure(|builder| builder.downing(Downing::off())).start().await;
    cluster.partition([0, 1], [2, 3]);
    let sizes = |cluster: &TestCluster| [0, 1, 2, 3].map(|node| members(cluster.member(node)).len());
    cluster.eventually("each side buries the other", |cluster| sizes(cluster) == [2; 4]).await;
    assert!(cluster.running().all(|node| !fenced(node) && node.context().downing_decisions().is_empty()));
}

// proves VA-1.4, PS-6
#[tokio::test]
async fn a_member_that_is_blocked_has_lost_its_keys_its_subscriptions_and_its_place_in_caches() {
    let cluster = TestCluster::builder().members(3).kind(Probe::new().kind("test")).start().await;
    let grain = activate(&cluster, 2, 1).await.remove(0);
    let topic = cluster.owned_by(0, "topic").next().unwrap().identity;
    let mut rooms = Vec::new();
    for node in [1, 2] {
        rooms.push(cluster.member(node).context().subscribe::<Say>(&topic).await.unwrap());
    }
    let context = cluster.member(0).context().clone();
    let kept = context.grain(grain.clone()).deadline(Duration::from_secs(30));
    let _: Said = kept.request(Say::new("")).await.unwrap();
    assert_eq!(context.publish(&topic, Say::new("before")).await.unwrap().delivered, 2);
    cluster.settled().await;
    let (id, mut events) = (cluster.member(2).id(), context.events());
    cluster.partition([0, 1], [2]);
    let watcher = tokio::spawn(async move {
        let mut cleared = false;
        loop {
            let event = events.next().await.unwrap();
            match event {
                ClusterEvent::PidCacheCleared { member, .. } => cleared = member == id,
                ClusterEvent::BlockListApplied { .. } => assert!(cleared, "the cache first"),
                ClusterEvent::TopologyUpdated(ref updated) if updated.blocked == [id] => {}
                _ => continue,
            }
            assert_ne!(context.owner(grain.clone()).map(|owner| owner.id), Some(id), "at {event:?}");
            if event == (ClusterEvent::BlockListApplied { entries: 1, blocked: vec![id] }) {
                break;
            }
        }
        let receipt = context.publish(&topic, Say::new("after")).await.unwrap();
        assert_eq!((receipt.accepted, receipt.delivered, receipt.failed), (1, 1, vec![]), "its lease is over");
        let said: Said = kept.request(Say::new("")).await.unwrap();
        assert_ne!(said.member, id.to_string());
    });
    tokio::time::timeout(Duration::from_secs(30), watcher).await.unwrap().unwrap();
}

// proves MG-4.1, VA-1.4, VA-4.4, CX-1.2
#[tokio::test]
async fn a_member_that_is_released_when_its_quarantine_is_over_has_died_and_is_blocked() {
    let mut timing = Timing::test();
    timing.membership.quarantine_ttl = Duration::from_millis(200);
    timing.membership.tombstone_ttl = Duration::from_millis(100);
    let patient = Downing::keep_majority().margin(Duration::from_secs(3));
    let cluster =
        TestCluster::builder().members(3).timing(timing).configure(move |it| it.downing(patient.clone())).start().await;
    let id = cluster.member(2).id();
    cluster.settled().await;
    cluster.partition([0, 1], [2]);
    let forgotten = |node: &TestNode| {
        let removed = gristmill::MemberStatus::Removed;
        node.saw(|event| {
            matches!(event, ClusterEvent::MemberStatusChanged { member, to, .. } if member.id == id && *to == removed)
        })
    };
    cluster.eventually("its quarantine is over", |c| [0, 1].into_iter().all(|node| forgotten(c.member(node)))).await;
    let is_there = |cluster: &TestCluster, node: usize| members(cluster.member(node)).contains(&id);
    assert!([0, 1].into_iter().all(|node| is_there(&cluster, node)), "nobody has decided yet");
    let released = |cluster: &TestCluster| [0, 1].into_iter().all(|node| !is_there(cluster, node));
    cluster.eventually("it is released", released).await;
    for node in [0, 1].map(|node| cluster.member(node)) {
        let topologies = topologies(node);
        let gone = topologies.iter().find(|it| !it.left.is_empty() || !it.dead.is_empty()).expect("it has gone");
        let dead: Vec<_> = gone.dead.iter().map(|member| member.id).collect();
        assert_eq!((dead, &gone.left, &gone.blocked), (vec![id], &vec![], &vec![id]));
        let (at, decided) = (node.context().downing_decisions()[0].at, gone.observed_at);
        assert!(decided >= at, "its keys go when that is decided, not before");
    }
    let applied =
        |event: &ClusterEvent| matches!(event, ClusterEvent::BlockListApplied { blocked, .. } if *blocked == [id]);
    cluster
        .eventually("the block list is applied", |c| [0, 1].into_iter().all(|node| c.member(node).saw(applied)))
        .await;
    let ended = |cluster: &TestCluster| {
        [0, 1].into_iter().all(|node| cluster.member(node).context().topology().blocked().is_empty())
    };
    cluster.eventually("the block ends", ended).await;
}

// proves VA-4.4
#[tokio::test]
async fn the_event_of_a_block_list_counts_those_that_were_not_blocked_before() {
    let mut cluster = TestCluster::builder().members(5).start().await;
    cluster.settled().await;
    let mut both = [3, 4].map(|node| cluster.member(node).id());
    both.sort_unstable();
    for node in [3, 4] {
        cluster.crash(node).await;
    }
    let lists = |node: &TestNode| {
        let list = |event| match event {
            ClusterEvent::BlockListApplied { entries, blocked } => Some((entries, blocked)),
            _ => None,
        };
        node.events().into_iter().filter_map(list).collect::<Vec<_>>()
    };
    let complete = |cluster: &TestCluster| {
        [0, 1, 2].into_iter().all(|node| lists(cluster.member(node)).last().is_some_and(|(_, list)| *list == both))
    };
    cluster.eventually("both are blocked", complete).await;
    for node in [0, 1, 2] {
        let mut before = Vec::new();
        for (entries, blocked) in lists(cluster.member(node)) {
            assert_eq!(entries, blocked.iter().filter(|member| !before.contains(*member)).count());
            assert!(entries > 0, "nobody new, no event");
            before = blocked;
        }
    }
}

// proves VA-1.4, VA-4.4, CX-1.2, MG-3.1, MG-3.3
#[tokio::test]
async fn a_blocked_owner_owns_nothing_and_every_topology_says_who_is_blocked() {
    let mut cluster = TestCluster::builder().members(3).kind(Probe::new().kind("test")).start().await;
    let client = cluster.add_client().await;
    let grains = activate(&cluster, 2, 5).await;
    let context = cluster.member(0).context().clone();
    for grain in &grains {
        let _: Said = context.request(grain.clone(), Say::new("")).await.unwrap();
    }
    let id = cluster.member(2).id();
    cluster.crash(2).await;
    let blocks = |cluster: &TestCluster| {
        let applied = |event: &ClusterEvent| matches!(event, ClusterEvent::BlockListApplied { .. });
        [0, 1, client].into_iter().all(|node| cluster.member(node).saw(applied))
    };
    cluster.eventually("the block list is applied", blocks).await;
    for node in [0, 1] {
        let node = cluster.member(node);
        let applied = ClusterEvent::BlockListApplied { entries: 1, blocked: vec![id] };
        assert_eq!(node.count(|event| matches!(event, ClusterEvent::BlockListApplied { .. })), 1);
        let suspected = position(node, |event| {
            matches!(event, ClusterEvent::MemberStatusChanged { member, to, .. }
                if member.id == id && *to == gristmill::MemberStatus::Suspect)
        });
        let topology =
            position(node, |event| matches!(event, ClusterEvent::TopologyUpdated(updated) if updated.blocked == [id]));
        let applied = position(node, |event| *event == applied);
        assert!(suspected < topology && topology < applied, "a suspicion alone blocks nobody");
        assert!(grains.iter().all(|grain| node.context().owner(grain.clone()).is_some_and(|owner| owner.id != id)));
    }
    let cleared = position(
        cluster.member(0),
        |event| matches!(event, ClusterEvent::PidCacheCleared { member, entries: 1.. } if *member == id),
    );
    assert!(cleared < position(cluster.member(0), |event| matches!(event, ClusterEvent::BlockListApplied { .. })));
    // While there is a block list, every topology carries it, also that of one who has only heard of it.
    let newcomer = cluster.add_member().await;
    cluster.eventually("the block ends", |c| c.running().all(|n| n.context().topology().blocked().is_empty())).await;
    for node in [client, newcomer] {
        let applied = |event: ClusterEvent| match event {
            ClusterEvent::BlockListApplied { entries, blocked } => Some((entries, blocked)),
            _ => None,
        };
        let applied: Vec<_> = cluster.member(node).events().into_iter().filter_map(applied).collect();
        assert_eq!(applied, [(1, vec![id])]);
    }
    for node in [0, 1] {
        let lists: Vec<_> = topologies(cluster.member(node)).iter().map(|it| it.blocked.clone()).collect();
        let first = lists.iter().position(|list| !list.is_empty()).unwrap();
        let last = lists.iter().rposition(|list| !list.is_empty()).unwrap();
        assert!(last > first, "the join came in between: {lists:?}");
        assert!(lists[first..=last].iter().all(|list| *list == [id]), "{lists:?}");
    }
}

#[tokio::test]
async fn where_no_side_goes_on_nobody_is_up_before_the_sides_meet_again() {
    // Each side has the quorum.
    for strategy in [Downing::static_quorum(2), Downing::down_all()] {
        let cluster = TestCluster::builder()
            .members(4)
            .configure(move |builder| builder.on_eviction(OnEviction::Rejoin).downing(strategy.clone()))
            .start()
            .await;
        let old = [0, 1, 2, 3].map(|node| cluster.member(node).id());
        cluster.settled().await;
        cluster.partition([0, 2], [1, 3]);
        cluster.eventually("no side goes on", |cluster| cluster.running().all(fenced)).await;
        // Long enough for several attempts to join, of which the first begins four intervals after the fence.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let rejoined = |node: &TestNode| node.saw(|event| matches!(event, ClusterEvent::Rejoined { .. }));
        assert!(!cluster.running().any(rejoined));
        cluster.heal();
        let anew =
            |cluster: &TestCluster| cluster.all_agree() && cluster.running().all(|node| !old.contains(&node.id()));
        cluster.eventually("all agree under new ids", anew).await;
        assert!(cluster.running().all(|node| members(node).len() == 4));
    }
}
