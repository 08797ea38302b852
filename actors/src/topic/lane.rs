//! The way from a topic to one subscriber: one delivery after the other, so that a subscriber sees a publisher's
//! messages in their order, and independent of the ways to all others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_core::RequestId;
use gristmill_core::topic::{DeliveryStatus, Subscriber};
use gristmill_messages::cluster::{DeliverBatchRequestTransport, DeliverBatchResponse, PubSubBatchTransport};
use gristmill_messages::remote::SystemActor;
use gristmill_messages::{ClusterIdentity, MemberId, cluster};
use gristmill_transport::Lane as Wire;
use ractor::ActorRef;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::context::ClusterContext;
use crate::delivery::DeliveryMessage;
use crate::error::RequestError;
use crate::grain::GrainContext;
use crate::topic::actor::TopicMessage;

/// Bounded by the topic's window of unanswered publications per subscriber.
pub(super) struct Lane(mpsc::UnboundedSender<(RequestId, Arc<PubSubBatchTransport>)>);

impl Lane {
    pub(super) fn open(
        context: &GrainContext,
        subscriber: &Subscriber,
        timeout: Duration,
        topic: &ActorRef<TopicMessage>,
    ) -> Self {
        let (sender, mut deliveries) = mpsc::unbounded_channel::<(RequestId, Arc<PubSubBatchTransport>)>();
        let (cluster, name) = (context.cluster().clone(), context.identity().identity.clone());
        let (subscriber, topic) = (subscriber.clone(), topic.clone());
        tokio::spawn(async move {
            while let Some((publication, batch)) = deliveries.recv().await {
                let status = match &subscriber {
                    Subscriber::Member(node) => to_node(&cluster, *node, &name, &batch, timeout).await,
                    Subscriber::Grain(grain) => to_grain(&cluster, grain, &batch, timeout).await,
                };
                let subscriber = subscriber.clone();
                if topic.cast(TopicMessage::Delivered { publication, subscriber, status }).is_err() {
                    return;
                }
            }
        });
        Self(sender)
    }

    pub(super) fn deliver(&self, publication: RequestId, batch: Arc<PubSubBatchTransport>) {
        // The task ends only with the topic.
        drop(self.0.send((publication, batch)));
    }
}

async fn to_node(
    cluster: &ClusterContext,
    node: MemberId,
    topic: &str,
    batch: &PubSubBatchTransport,
    timeout: Duration,
) -> DeliveryStatus {
    let request = DeliverBatchRequestTransport { subscribers: None, batch: Some(batch.clone()), topic: topic.into() };
    let deadline = Instant::now() + timeout;
    let here = cluster.node();
    let response: DeliverBatchResponse = if node == here.me.id {
        let Some(parts) = here.parts() else { return DeliveryStatus::NoLongerReachable };
        match parts.delivery.ask(|reply| DeliveryMessage::Deliver(request, reply)).await {
            Some(response) => response,
            None => return DeliveryStatus::NoLongerReachable,
        }
    } else {
        let view = Arc::clone(here.view.load().topology());
        let endpoint = match view.member(node) {
            Some(member) => Some(here.remoting.endpoint(member.id, &member.address)),
            None if view.is_blocked(node) => None,
            // A client, or a member that this node is about to hear of.
            None => here.remoting.known(node).filter(|peer| peer.is_connected()),
        };
        let Some(endpoint) = endpoint else { return DeliveryStatus::NoLongerReachable };
        match here.remoting.ask_peer(&endpoint, Wire::Data, SystemActor::Delivery, &request, deadline).await {
            Ok(response) => response,
            Err(_) if Instant::now() >= deadline => return DeliveryStatus::Timeout,
            Err(_) => return DeliveryStatus::Failed,
        }
    };
    let failure = response.reports.first().map(|report| cluster::DeliveryStatus::try_from(report.status));
    failure.map_or(DeliveryStatus::Delivered, |status| status.map_or(DeliveryStatus::Failed, DeliveryStatus::from))
}

async fn to_grain(
    cluster: &ClusterContext,
    grain: &ClusterIdentity,
    batch: &PubSubBatchTransport,
    timeout: Duration,
) -> DeliveryStatus {
    let grain = cluster.grain(grain).deadline(timeout);
    for envelope in &batch.envelopes {
        let name = usize::try_from(envelope.type_id).ok().and_then(|at| batch.type_names.get(at));
        let data = Bytes::clone(&envelope.message_data);
        match grain.request_encoded(name.cloned().unwrap_or_default(), data).await {
            Ok(_) => {}
            Err(RequestError::DeadlineExceeded { .. }) => return DeliveryStatus::Timeout,
            Err(_) => return DeliveryStatus::Failed,
        }
    }
    DeliveryStatus::Delivered
}
