use std::task::Waker;

use gristmill_messages::cluster::DeliverBatchRequestTransport;

use super::*;
use crate::{Cluster, ClusterActor, ClusterConfig, Shutdown, Timing};

async fn start() -> (Cluster, ClusterContext) {
    let config = ClusterConfig::builder("delivery").timing(Timing::test()).build().unwrap();
    ClusterActor::start_member(config).await.unwrap()
}

/// To how many subscribers of this node a message of the topic is delivered; none when it has none.
async fn subscribers(context: &ClusterContext, topic: &str) -> Option<u32> {
    let batch =
        PubSubBatchTransport { type_names: vec![<()>::full_name()], envelopes: vec![PubSubEnvelope::default()] };
    let request = DeliverBatchRequestTransport { subscribers: None, batch: Some(batch), topic: topic.into() };
    let delivered = context.node().parts().unwrap().delivery.ask(|reply| DeliveryMessage::Deliver(request, reply));
    let response = delivered.await.unwrap();
    response.reports.is_empty().then_some(response.delivered)
}

#[tokio::test]
async fn a_subscription_that_is_given_up_leaves_nothing() {
    let (cluster, context) = start().await;
    let mut subscribing = Box::pin(context.subscribe::<()>("room"));
    assert!(subscribing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(subscribing);
    assert_eq!(subscribers(&context, "room").await, None);
    cluster.shutdown(Shutdown::immediate()).await.unwrap();
}

#[tokio::test]
async fn a_subscription_of_a_former_life_ends_none_of_the_next() {
    let (before, former) = start().await;
    let (after, next) = start().await;
    let mut old = former.subscribe::<()>("room").await.unwrap();
    let new = next.subscribe::<()>("room").await.unwrap();
    // Each life counts from one.
    old.id = new.id;
    former.node().succeeded_by(next.node());
    drop(old);
    assert_eq!(subscribers(&next, "room").await, Some(1));
    drop(new);
    assert_eq!(subscribers(&next, "room").await, None);
    for cluster in [before, after] {
        cluster.shutdown(Shutdown::immediate()).await.unwrap();
    }
}
