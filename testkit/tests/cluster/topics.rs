use gristmill::{ClusterContext, DeliveryStatus, Receipt, Subscription};
use gristmill_testkit::{Probe, Say, TestCluster};

async fn next(room: &mut Subscription<Say>) -> String {
    room.next().await.unwrap().unwrap().text
}

async fn publish(context: &ClusterContext, topic: &str, text: &str) -> Receipt {
    context.publish(topic, Say::new(text)).await.unwrap()
}

fn delivered(count: u32) -> Receipt {
    Receipt { accepted: count, delivered: count, failed: Vec::new() }
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
