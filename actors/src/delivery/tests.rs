use std::task::Waker;

use gristmill_messages::cluster::DeliverBatchRequestTransport;
use gristmill_transport::MemoryNetwork;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::{Cluster, ClusterActor, ClusterConfig, Downing, Shutdown, Timing};

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

#[tokio::test]
async fn who_subscribes_again_waits_until_the_topic_has_heard_of_the_end_before() {
    let network = MemoryNetwork::new();
    let mut patient = Timing::test();
    patient.membership.suspicion_multiplier = 1_000;
    let start = async |host: &str, seeds: &[&str]| {
        let config = ClusterConfig::builder("delivery")
            .listen(format!("{host}:1"))
            .seeds(seeds.iter().copied())
            .network(Arc::new(network.host(host)))
            .downing(Downing::off())
            .timing(patient.clone());
        ClusterActor::start_member(config.build().unwrap()).await.unwrap()
    };
    let nodes = [start("a", &[]).await, start("b", &["a:1"]).await];
    let ([_, (_, there)], (_, here)) = (&nodes, &nodes[0]);
    let met = async {
        while here.topology().members().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), met).await.expect("they meet");
    let mut names = (0..).map(|number| number.to_string());
    let room = names.find(|name| here.owner((topic::KIND, name)).unwrap().id == there.id()).unwrap();

    let subscription = here.subscribe::<()>(&room).await.unwrap();
    network.partition("a", "b");
    drop(subscription);
    assert_eq!(subscribers(here, &room).await, None);
    let (sender, _messages) = mpsc::channel(1);
    let (added, mut subscribed) = oneshot::channel();
    let delivery = &here.node().parts().unwrap().delivery;
    delivery.send(DeliveryMessage::Subscribe { topic: room.clone(), id: 0, sender, added });
    assert_eq!(subscribers(here, &room).await, Some(1));
    assert_eq!(subscribed.try_recv(), Err(TryRecvError::Empty), "the topic may hear of the end after the beginning");
    network.heal();
    subscribed.await.unwrap();
    for (cluster, _) in nodes {
        cluster.shutdown(Shutdown::immediate()).await.unwrap();
    }
}
