//! Topics, as a subscriber and a publisher see them.
//!
//! Each topic is a grain (see [`crate::topic`]) that knows which *nodes* have subscribers; the [`DeliveryActor`] of
//! such a node knows the subscribers themselves. It renews its subscriptions from time to time and whenever the
//! topology changes, so that a topic which was passivated, has moved, or has died with its member learns of them again.

mod actor;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use gristmill_core::topic::PublishReceipt;
use gristmill_messages::cluster::{
    PubSubBatchTransport, PubSubEnvelope, PublishResponse, SubscribeRequest, SubscribeResponse, SubscriberIdentity,
    UnsubscribeRequest, UnsubscribeResponse, subscriber_identity,
};
use gristmill_messages::{ClusterIdentity, InvalidId, MemberId, MessageName};
use prost::{Message, Name};
use tokio::sync::mpsc;

pub(crate) use self::actor::{DeliveryActor, DeliveryMessage};
use crate::context::ClusterContext;
use crate::error::RequestError;
use crate::grain::DecodeError;
use crate::node::Node;
use crate::topic;

/// Messages that may wait for one subscriber of this node; the next one is not delivered, and the receipt says so.
pub(crate) const SUBSCRIBER_BUFFER: usize = 1_024;

/// One message of a topic on its way to the subscribers of this node.
#[derive(Debug, Clone)]
pub(crate) struct TopicMessage {
    pub(crate) name: Arc<str>,
    pub(crate) data: Bytes,
}

/// The messages of a topic from the moment of the subscription on, each at most once, a publisher's in its order.
///
/// It is bounded: while 1,024 messages wait here, further ones are not delivered, and their publishers are told.
/// Dropping it unsubscribes.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription<M> {
    messages: mpsc::Receiver<TopicMessage>,
    topic: String,
    id: u64,
    /// The life in which it was made: the next one has other subscriptions under the same numbers.
    node: Arc<Node>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Name + Default> Subscription<M> {
    /// The next message; an error when it is not an `M`; none when the node has shut down. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<M, DecodeError>> {
        self.messages.recv().await.map(decode)
    }
}

impl<M: Message + Name + Default> Stream for Subscription<M> {
    type Item = Result<M, DecodeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().messages.poll_recv(cx).map(|message| message.map(decode))
    }
}

impl<M> Drop for Subscription<M> {
    fn drop(&mut self) {
        if let Some(parts) = self.node.parts() {
            parts.delivery.send(DeliveryMessage::Unsubscribe { topic: std::mem::take(&mut self.topic), id: self.id });
        }
    }
}

impl<M> fmt::Debug for Subscription<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn decode<M: Message + Name + Default>(message: TopicMessage) -> Result<M, DecodeError> {
    if *message.name != *M::full_name() {
        return Err(DecodeError::OtherMessage { name: message.name.to_string() });
    }
    let malformed = |source| DecodeError::Malformed { name: message.name.to_string(), source };
    M::decode(message.data).map_err(malformed)
}

impl ClusterContext {
    /// Subscribes this node to a topic; returns when the topic knows of it. If this node's last subscription has just
    /// been dropped, it waits until the topic has heard of that, or has not in time.
    ///
    /// # Errors
    /// The topic could not be told, see [`RequestError`].
    pub async fn subscribe<M>(&self, topic: impl Into<String>) -> Result<Subscription<M>, RequestError>
    where
        M: Message + Name + Default,
    {
        let topic = topic.into();
        let (sender, messages) = mpsc::channel(SUBSCRIBER_BUFFER);
        let node = self.node();
        let delivery = node.parts().map(|parts| &parts.delivery).ok_or(RequestError::NotRunning)?;
        // From here on dropping it takes everything back.
        let subscription =
            Subscription { messages, topic, id: node.request_id().get(), node: Arc::clone(node), message: PhantomData };
        let (topic, id) = (subscription.topic.clone(), subscription.id);
        let added = delivery.ask(|added| DeliveryMessage::Subscribe { topic, id, sender, added });
        added.await.ok_or(RequestError::NotRunning)?;
        self.subscribe_as(&subscription.topic, stream_subscriber(node.me.id)).await?;
        Ok(subscription)
    }

    /// Subscribes a grain to a topic: each message becomes a request to it, whose reply is ignored.
    ///
    /// # Errors
    /// The topic could not be told, see [`RequestError`].
    pub async fn subscribe_grain(
        &self,
        topic: impl Into<String>,
        grain: impl Into<ClusterIdentity>,
    ) -> Result<(), RequestError> {
        let grain = grain.into();
        grain.validate()?;
        self.subscribe_as(&topic.into(), grain_subscriber(grain)).await
    }

    /// Takes back what [`subscribe_grain`](Self::subscribe_grain) did.
    ///
    /// # Errors
    /// The topic could not be told, see [`RequestError`].
    pub async fn unsubscribe_grain(
        &self,
        topic: impl Into<String>,
        grain: impl Into<ClusterIdentity>,
    ) -> Result<(), RequestError> {
        self.unsubscribe_as(&topic.into(), grain_subscriber(grain.into())).await
    }

    /// Publishes a message to every subscriber of a topic, on all nodes, each at most once.
    ///
    /// # Errors
    /// The topic was not reached, or its answer was lost; see [`RequestError`]. That a subscriber did not get it is no
    /// error but part of the receipt, and so is that there is none.
    pub async fn publish<M: Message + Name>(
        &self,
        topic: impl Into<String>,
        message: M,
    ) -> Result<PublishReceipt, RequestError> {
        self.publish_batch(topic, [message]).await
    }

    /// Publishes up to 1,024 messages together: each subscriber gets them in this order, a stream all of them or none.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`RequestError::BatchTooLong`] for more messages.
    pub async fn publish_batch<M: Message + Name>(
        &self,
        topic: impl Into<String>,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<PublishReceipt, RequestError> {
        let envelope =
            |message: M| PubSubEnvelope { type_id: 0, message_data: message.encode_to_vec().into(), serializer_id: 0 };
        let batch = PubSubBatchTransport {
            type_names: vec![MessageName::of::<M>().into_full()],
            envelopes: messages.into_iter().map(envelope).collect(),
        };
        // A stream gets all of a batch or nothing: a longer one would fit into none.
        let (messages, limit) = (batch.envelopes.len(), SUBSCRIBER_BUFFER);
        if messages > limit {
            return Err(RequestError::BatchTooLong { messages, limit });
        }
        let response: PublishResponse = self.grain((topic::KIND, topic.into())).request(batch).await?;
        let unexpected = |error: InvalidId| RequestError::UnexpectedReply {
            expected: PublishResponse::full_name(),
            problem: error.to_string(),
        };
        PublishReceipt::try_from(response).map_err(unexpected)
    }

    pub(crate) async fn subscribe_as(&self, topic: &str, subscriber: SubscriberIdentity) -> Result<(), RequestError> {
        let request = SubscribeRequest { subscriber: Some(subscriber) };
        let _: SubscribeResponse = self.grain((topic::KIND, topic)).idempotent().request(request).await?;
        Ok(())
    }

    pub(crate) async fn unsubscribe_as(&self, topic: &str, subscriber: SubscriberIdentity) -> Result<(), RequestError> {
        let request = UnsubscribeRequest { subscriber: Some(subscriber) };
        let _: UnsubscribeResponse = self.grain((topic::KIND, topic)).idempotent().request(request).await?;
        Ok(())
    }
}

pub(crate) fn stream_subscriber(node: MemberId) -> SubscriberIdentity {
    SubscriberIdentity { identity: Some(subscriber_identity::Identity::MemberId(node.to_string())) }
}

fn grain_subscriber(grain: ClusterIdentity) -> SubscriberIdentity {
    SubscriberIdentity { identity: Some(subscriber_identity::Identity::ClusterIdentity(grain)) }
}

#[cfg(test)]
mod tests;
