use std::collections::BTreeMap;
use std::time::Duration;

use gristmill::{ClusterContext, DeliveryStatus, PublishReceipt, RequestError, Subscription};
use gristmill_testkit::{Probe, Say, TestCluster};

async fn next(room: &mut Subscription<Say>) -> String {
    room.next().await.unwrap().unwrap().text
}

async fn publish(context: &ClusterContext, topic: &str, text: &str) -> PublishReceipt {
    context.publish(topic, Say::new(text)).await.unwrap()
}

fn delivered(count: u32) -> PublishReceipt {
    PublishReceipt { accepted: count, delivered: count, failed: Vec::new() }
}

// proves PS-1, CX-4.2
#[tokio::test]
async fn a_message_published_on_any_node_reaches_the_subscribers_on_all_nodes() {
    let mut cluster = TestCluster::builder().members(3).start().await;
    let client = cluster.add_client().await;
    for topic in ["a", "b", "c"] {
        let mut rooms = Vec::new();
        for node in [0, 1, client] {
            rooms.push(cluster.member(node).context().subscribe::<Say>(topic).await.unwrap());
        }
        for from in [0, 1, 2, client] {
            let text = format!("from {from}");
            assert_eq!(publish(cluster.member(from).context(), topic, &text).await, delivered(3));
            for room in &mut rooms {
                assert_eq!(next(room).await, text);
            }
        }
        let batch = ["one", "two", "three"].map(Say::new);
        assert_eq!(cluster.member(2).context().publish_batch(topic, batch).await.unwrap(), delivered(3));
        for room in &mut rooms {
            assert_eq!([next(room).await, next(room).await, next(room).await], ["one", "two", "three"]);
        }
    }
}

// proves PS-1
#[tokio::test]
async fn that_there_is_no_subscriber_is_a_result() {
    let cluster = TestCluster::builder().members(2).start().await;
    assert_eq!(publish(cluster.member(0).context(), "empty", "").await, delivered(0));
    let none: [Say; 0] = [];
    assert_eq!(cluster.member(1).context().publish_batch("empty", none).await.unwrap(), delivered(0));
}

#[tokio::test]
async fn a_batch_that_fits_into_no_stream_is_refused_and_the_longest_that_fits_is_delivered() {
    let cluster = TestCluster::builder().members(2).start().await;
    let context = cluster.member(0).context();
    let mut room = cluster.member(1).context().subscribe::<Say>("room").await.unwrap();
    let batch = |messages: usize| (0..messages).map(|number| Say::new(number.to_string()));
    let refused = context.publish_batch("room", batch(1_025)).await.unwrap_err();
    assert_eq!(refused, RequestError::BatchTooLong { messages: 1_025, limit: 1_024 });
    assert_eq!(context.publish_batch("room", batch(1_024)).await.unwrap(), delivered(1));
    for number in 0..1_024 {
        assert_eq!(next(&mut room).await, number.to_string());
    }
}

// proves PS-1
#[tokio::test]
async fn a_grain_subscribes_by_its_identity_until_it_is_unsubscribed() {
    let probe = Probe::new();
    let cluster = TestCluster::builder().members(2).kind(probe.kind("test")).start().await;
    let [one, other] = [0, 1].map(|owner| cluster.owned_by(owner, "test").next().unwrap());
    let context = cluster.member(0).context();
    for grain in [&one, &other, &one] {
        context.subscribe_grain("room", grain).await.unwrap();
    }
    assert_eq!(publish(context, "room", "first").await, delivered(2));
    assert_eq!((probe.turns(&one), probe.turns(&other)), (1, 1));
    cluster.member(1).context().unsubscribe_grain("room", &one).await.unwrap();
    assert_eq!(publish(context, "room", "second").await, delivered(1));
    assert_eq!((probe.turns(&one), probe.turns(&other)), (1, 2));
}

// proves PS-1
#[tokio::test]
async fn dropping_a_subscription_unsubscribes() {
    let cluster = TestCluster::builder().members(2).start().await;
    let context = cluster.member(0).context();
    let mut kept = cluster.member(1).context().subscribe::<Say>("room").await.unwrap();
    let one = context.subscribe::<Say>("room").await.unwrap();
    let mut two = context.subscribe::<Say>("room").await.unwrap();
    drop(one);
    assert_eq!(publish(context, "room", "a").await, delivered(2), "two nodes have subscribers");
    assert_eq!((next(&mut kept).await, next(&mut two).await), ("a".into(), "a".into()));
    drop(two);
    loop {
        let receipt = publish(context, "room", "b").await;
        assert_eq!(next(&mut kept).await, "b");
        if receipt == delivered(1) {
            break;
        }
        // The node may still be a subscriber to the topic, but has none itself.
        let statuses: Vec<_> = receipt.failed.iter().map(|(_, status)| *status).collect();
        assert_eq!(statuses, [DeliveryStatus::NoLongerReachable]);
    }
}

#[tokio::test]
async fn a_subscriber_of_another_message_gets_an_error_and_what_comes_after_it() {
    let cluster = TestCluster::builder().start().await;
    let context = cluster.member(0).context();
    let mut room = context.subscribe::<Say>("room").await.unwrap();
    context.publish("room", gristmill_testkit::Add { amount: 1 }).await.unwrap();
    assert_eq!(publish(context, "room", "a").await, delivered(1));
    assert!(room.next().await.unwrap().is_err());
    assert_eq!(next(&mut room).await, "a");
}

/// Publishes until a message is delivered to one subscriber, which gets that one, and perhaps some of those before.
async fn publish_until_delivered(context: &ClusterContext, topic: &str, room: &mut Subscription<Say>) {
    // Sooner than subscriptions are renewed by themselves: because the topology has changed, or the topic has ended.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
    for count in 0.. {
        assert!(tokio::time::Instant::now() < deadline, "the subscription is lost");
        let text = format!("message {count}");
        // While the topic moves it may take longer to know than a call has.
        match context.publish(topic, Say::new(&text)).await {
            Ok(receipt) if receipt == delivered(1) => {
                while next(room).await != text {}
                return;
            }
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

// proves PS-1
#[tokio::test]
async fn a_stream_outlives_the_move_of_its_topic_and_the_end_of_the_member_that_ran_it() {
    for crashes in [false, true] {
        let mut cluster = TestCluster::builder().members(3).start().await;
        let topic = cluster.owned_by(2, "topic").next().unwrap().identity;
        let mut room = cluster.member(0).context().subscribe::<Say>(&topic).await.unwrap();
        assert_eq!(publish(cluster.member(1).context(), &topic, "before").await, delivered(1));
        assert_eq!(next(&mut room).await, "before");
        if crashes {
            cluster.crash(2).await;
        } else {
            cluster.shutdown(2).await.unwrap();
        }
        cluster.eventually("all members agree", TestCluster::all_agree).await;
        publish_until_delivered(cluster.member(1).context(), &topic, &mut room).await;
        // Back to where it was, with a new member: some topics move to it.
        cluster.add_member().await;
        cluster.eventually("all members agree", TestCluster::all_agree).await;
        publish_until_delivered(cluster.member(1).context(), &topic, &mut room).await;
    }
}

// proves PS-1
#[tokio::test]
async fn a_subscriber_gets_the_messages_of_each_publisher_in_their_order_on_whatever_nodes_they_are() {
    const MESSAGES: usize = 50;
    let cluster = TestCluster::builder().members(3).start().await;
    for owner in [0, 1, 2] {
        let topic = cluster.owned_by(owner, "topic").next().unwrap().identity;
        let mut rooms = Vec::new();
        for node in [0, 1, 2] {
            rooms.push(cluster.member(node).context().subscribe::<Say>(&topic).await.unwrap());
        }
        let publisher = |node: usize| {
            let (context, topic) = (cluster.member(node).context().clone(), topic.clone());
            tokio::spawn(async move {
                for count in 0..MESSAGES {
                    assert_eq!(publish(&context, &topic, &format!("{node} {count}")).await, delivered(3));
                }
            })
        };
        for published in [0, 1, 2].map(publisher) {
            published.await.unwrap();
        }
        for room in &mut rooms {
            let mut counts = BTreeMap::<String, usize>::new();
            for _ in 0..3 * MESSAGES {
                let text = next(room).await;
                let (publisher, count) = text.split_once(' ').unwrap();
                let expected = counts.entry(publisher.to_owned()).or_default();
                assert_eq!(count.parse::<usize>(), Ok(*expected));
                *expected += 1;
            }
        }
    }
}
