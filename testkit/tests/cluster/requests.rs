use std::num::NonZeroUsize;
use std::time::Duration;

use gristmill::{ClusterConfigBuilder, ClusterEvent, ErrorCode, RequestError, Undelivered, Unresolved};
use gristmill_testkit::{Add, Fail, Forward, Panic, Probe, Said, Say, Stop, TestCluster, Total, Wait};

const LONG: Duration = Duration::from_secs(30);

// proves VA-3.1
#[tokio::test]
async fn requests_that_meet_share_one_activation() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().members(2).kind(probe.held_kind("test")).start().await;
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        let callers: Vec<_> = (0..100)
            .map(|number| {
                let grain = cluster.member(number % 2).context().grain(&identity).deadline(LONG);
                tokio::spawn(async move { grain.request::<_, Total>(Add { amount: 1 }).await })
            })
            .collect();
        cluster.eventually("it activates", |_| probe.waiting(&identity) == 1).await;
        probe.release(1);
        let mut totals = Vec::new();
        for caller in callers {
            totals.push(caller.await.unwrap().unwrap().value);
        }
        totals.sort_unstable();
        assert_eq!(totals, (1..=100).collect::<Vec<_>>());
        assert_eq!(probe.activations(&identity), 1);
    }
}

// proves VA-3.2
#[tokio::test]
async fn what_finds_no_room_is_tried_again_until_there_is_some() {
    let probe = Probe::new();
    let kind = probe.kind("test").mailbox(NonZeroUsize::MIN);
    let cluster = TestCluster::builder().members(2).kind(kind).start().await;
    let context = cluster.member(0).context();
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        let grain = context.grain(&identity).deadline(LONG);
        let call = || {
            let grain = grain.clone();
            tokio::spawn(async move { grain.request::<_, Said>(Wait {}).await })
        };
        let running = call();
        cluster.eventually("it runs", |_| probe.waiting(&identity) == 1).await;
        let before = context.metrics().unwrap().retries;
        let others = [call(), call(), call()];
        cluster.eventually("it is tried again", |_| context.metrics().unwrap().retries > before + 4).await;
        probe.release(4);
        for call in [running].into_iter().chain(others) {
            call.await.unwrap().unwrap();
        }
        assert_eq!(probe.turns(&identity), 4, "each ran once");
    }
}

// proves VA-3.2
#[tokio::test]
async fn a_call_to_a_mailbox_that_stays_full_surely_did_not_run() {
    let probe = Probe::new();
    let kind = probe.kind("test").mailbox(NonZeroUsize::MIN);
    let cluster = TestCluster::builder().members(2).kind(kind).start().await;
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        let grain = cluster.member(0).context().grain(&identity).deadline(LONG);
        let running = tokio::spawn({
            let grain = grain.clone();
            async move { grain.request::<_, Said>(Wait {}).await }
        });
        cluster.eventually("it runs", |_| probe.waiting(&identity) == 1).await;
        grain.notify(Say::new("takes the only place")).await.unwrap();
        let short = grain.clone().deadline(Duration::from_millis(200));
        // Which of the two it is depends on whether the deadline passes in an attempt or between two. Passes it while
        // the other node's answer is under way, the caller cannot know: then another call is to be surer.
        let mut surely_did_not_run = false;
        for _ in 0..10 {
            match short.request::<_, Said>(Say::new("")).await.unwrap_err() {
                RequestError::Overloaded { .. } | RequestError::NotDelivered { .. } => surely_did_not_run = true,
                RequestError::DeadlineExceeded { .. } if owner == 1 => continue,
                other => panic!("{other:?}"),
            }
            break;
        }
        assert!(surely_did_not_run);
        probe.release(1);
        running.await.unwrap().unwrap();
        cluster.eventually("the place was taken once", |_| probe.turns(&identity) == 2).await;
    }
}

#[tokio::test]
async fn a_deadline_may_be_as_far_away_as_can_be_said() {
    let probe = Probe::new();
    let configure = |builder: ClusterConfigBuilder| builder.request_timeout(Duration::MAX);
    let cluster = TestCluster::builder().members(2).kind(probe.kind("test")).configure(configure).start().await;
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        // This node's grain is soon run in its caller's task, until it waits.
        for _ in 0..2_000 {
            let _: Said = cluster.member(0).context().request(&identity, Say::new("")).await.unwrap();
        }
        let grain = cluster.member(0).context().grain(&identity);
        let call = tokio::spawn(async move { grain.request::<_, Said>(Wait {}).await });
        cluster.eventually("it runs", |_| probe.waiting(&identity) == 1).await;
        probe.release(1);
        call.await.unwrap().unwrap();
        cluster.member(0).context().notify(&identity, Say::new("")).await.unwrap();
    }
}

// proves VA-3.3
#[tokio::test]
async fn a_call_whose_deadline_passes_or_whose_caller_goes_never_begins_to_run() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        let grain = cluster.member(0).context().grain(&identity).deadline(LONG);
        let call = || {
            let grain = grain.clone();
            tokio::spawn(async move { grain.request::<_, Said>(Wait {}).await })
        };
        let running = call();
        cluster.eventually("it runs", |_| probe.waiting(&identity) == 1).await;
        let short = Duration::from_millis(50);
        let error = grain.clone().deadline(short).request::<_, Said>(Say::new("late")).await.unwrap_err();
        assert_eq!(error, RequestError::DeadlineExceeded { after: short }, "it waits in the mailbox: it may have run");
        let gone = call();
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        // The same connection keeps the order: when this is answered, all before it were handled, or were not.
        let after = tokio::spawn({
            let grain = grain.clone();
            async move { grain.request::<_, Said>(Say::new("after")).await }
        });
        tokio::task::yield_now().await;
        probe.release(1);
        running.await.unwrap().unwrap();
        assert_eq!(after.await.unwrap().unwrap().turn, 2);
    }
}

// proves VA-3.4
#[tokio::test]
async fn an_identity_that_cannot_be_resolved_says_why_and_is_counted() {
    let probe = Probe::new();
    let cluster = TestCluster::builder()
        .members(2)
        .kind(probe.failing_kind("failing"))
        .kind(probe.panicking_kind("panicking"))
        .start()
        .await;
    let context = cluster.member(0).context();
    for (kind, why) in [("failing", "told not to activate"), ("panicking", "panicked")] {
        for owner in [0, 1] {
            let before = context.metrics().unwrap();
            let identity = cluster.owned_by(owner, kind).next().unwrap();
            match context.request::<_, Said>(identity, Say::new("")).await.unwrap_err() {
                RequestError::NotDelivered {
                    reason: Undelivered::Unresolved(Unresolved::ActivationFailed(failure)),
                    attempts: 1,
                } => assert!(failure.contains(why), "{failure}"),
                other => panic!("{other:?}"),
            }
            let after = context.metrics().unwrap();
            assert_eq!((after.unresolved, after.retries), (before.unresolved + 1, before.retries));
        }
    }
    let before = context.metrics().unwrap().unresolved;
    assert!(context.request::<_, Said>(("nobody's", "a"), Say::new("")).await.is_err());
    assert_eq!(context.metrics().unwrap().unresolved, before + 1);
}

// proves VA-3.5, CX-1.1, VA-3.2
#[tokio::test]
async fn when_a_member_crashes_or_leaves_its_entries_go_and_the_next_request_reaches_a_new_activation() {
    for graceful in [false, true] {
        let probe = Probe::new();
        let mut cluster = TestCluster::builder().members(3).kind(probe.kind("test")).start().await;
        let context = cluster.member(0).context().clone();
        let identity = cluster.owned_by(2, "test").next().unwrap();
        let gone = cluster.member(2).id();
        let first: Total = context.request(&identity, Add { amount: 5 }).await.unwrap();
        assert_eq!(first.value, 5);
        if graceful {
            cluster.shutdown(2).await.unwrap();
        } else {
            cluster.crash(2).await;
        }
        // Nothing tells the caller: it finds out by itself, within its deadline.
        let grain = context.grain(&identity).deadline(LONG).idempotent();
        let again: Total = grain.request(Add { amount: 1 }).await.unwrap();
        assert_eq!(again.value, 1, "a new activation");
        assert_eq!(probe.activations(&identity), 2);
        let cleared =
            |event: &ClusterEvent| matches!(event, ClusterEvent::PidCacheCleared { member, .. } if *member == gone);
        let both = |cluster: &TestCluster| [0, 1].iter().all(|node| cluster.member(*node).count(cleared) == 1);
        cluster.eventually("both say that they forgot its entries", both).await;
    }
}

#[tokio::test]
async fn what_a_grain_refuses_is_its_own_error_and_not_tried_again() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        let context = cluster.member(0).context();
        match context.request::<_, Said>(&identity, Fail { text: "no".into() }).await.unwrap_err() {
            RequestError::Rejected(error) => {
                assert_eq!((error.code, error.message.as_str()), (ErrorCode::FailedPrecondition, "no"));
            }
            other => panic!("{other:?}"),
        }
        match context.request::<_, Said>(&identity, Total { value: 1 }).await.unwrap_err() {
            RequestError::Rejected(error) => assert_eq!(error.code, ErrorCode::Unimplemented),
            other => panic!("{other:?}"),
        }
        match context.request::<_, Said>(&identity, Panic {}).await.unwrap_err() {
            RequestError::Rejected(error) => assert_eq!(error.code, ErrorCode::Panicked),
            other => panic!("{other:?}"),
        }
        assert_eq!(probe.turns(&identity), 3);
        match context.request::<_, Total>(&identity, Say::new("")).await.unwrap_err() {
            RequestError::UnexpectedReply { expected, .. } => assert_eq!(expected, "gristmill.testkit.Total"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn grains_call_each_other_across_members_and_clients_call_them_all() {
    let probe = Probe::new();
    let mut cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    let client = cluster.add_client().await;
    let [near, far] = [0, 1].map(|owner| cluster.owned_by(owner, "test").next().unwrap());
    for caller in [0, 1, client] {
        let context = cluster.member(caller).context();
        for (first, second, member) in [(&near, &far, 1), (&far, &near, 0)] {
            let (kind, identity) = (second.kind.clone(), second.identity.clone());
            let said: Said = context.request(first, Forward { kind, identity, text: "pass".into() }).await.unwrap();
            assert_eq!((said.text.as_str(), said.member), ("pass", cluster.member(member).id().to_string()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_thousand_calls_is_handled_once_while_the_grain_stops_again_and_again() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    for owner in [0, 1] {
        let identity = cluster.owned_by(owner, "test").next().unwrap();
        let callers: Vec<_> = (0..20)
            .map(|caller| {
                let grain = cluster.member(caller % 2).context().grain(&identity).deadline(LONG);
                tokio::spawn(async move {
                    for call in 0..50 {
                        if (caller + call) % 10 == 0 {
                            let _: Said = grain.request(Stop {}).await.unwrap();
                        } else {
                            let _: Total = grain.request(Add { amount: 1 }).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(probe.turns(&identity), 1_000, "each call ran exactly once");
        assert_eq!(probe.most_alive(&identity), 1);
        assert!(probe.activations(&identity) > 5, "it hardly stopped: the test shows little");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_way_message_to_a_grain_of_this_node_is_not_lost_behind_a_stop() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().kind(probe.kind("test")).start().await;
    let grain = cluster.member(0).context().grain(("test", "a")).deadline(LONG);
    let mut sent = 0;
    // Rounds, so that the stops of one meet the messages of the next.
    for round in 1..=10 {
        for number in 0..50 {
            if number % 10 == 9 { grain.notify(Stop {}).await } else { grain.notify(Add { amount: 1 }).await }.unwrap();
            sent += 1;
        }
        cluster.eventually("all are handled", |_| probe.turns(("test", "a")) == sent).await;
        if round % 2 == 0 {
            cluster.eventually("the last stop has stopped it", |_| probe.alive(("test", "a")) == 0).await;
        }
    }
    assert!(probe.activations(("test", "a")) >= 5);
}
