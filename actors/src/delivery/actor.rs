use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_messages::cluster::{
    DeliverBatchRequestTransport, DeliverBatchResponse, DeliveryStatus, PubSubBatchTransport, SubscriberDeliveryReport,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};

use crate::context::ClusterContext;
use crate::delivery::{TopicMessage, stream_subscriber};
use crate::inbox::PeerRequest;
use crate::member_list::Applied;
use crate::node::Node;
use crate::remoting::refuse_unknown;
use crate::timer::Timer;
use crate::topic;

/// Hands the messages of topics to the subscribers of this node. A slow subscriber delays no other: what finds no
/// room is not delivered.
pub(crate) struct DeliveryActor;

pub(crate) enum DeliveryMessage {
    Subscribe {
        topic: String,
        id: u64,
        sender: mpsc::Sender<TopicMessage>,
        added: oneshot::Sender<()>,
    },
    Unsubscribe {
        topic: String,
        id: u64,
    },
    /// From a topic on this node.
    Deliver(DeliverBatchRequestTransport, oneshot::Sender<DeliverBatchResponse>),
    /// From a topic on another.
    FromPeer(PeerRequest),
    /// Tell every topic again that this node subscribes.
    Renew,
    /// The same, since topics may have other owners.
    TopologyChanged(Applied),
    /// The same for one topic, whose activation has ended.
    RenewTopic(String),
    /// A topic was told that this node subscribes no longer, or could not be told.
    Unsubscribed(String),
    /// Take back every subscription.
    Close(oneshot::Sender<()>),
}

impl From<PeerRequest> for DeliveryMessage {
    fn from(request: PeerRequest) -> Self {
        Self::FromPeer(request)
    }
}

pub(crate) struct DeliveryState {
    node: Arc<Node>,
    /// By topic; no topic without subscribers.
    subscribers: BTreeMap<String, Vec<(u64, mpsc::Sender<TopicMessage>)>>,
    /// The topics that are being told that this node subscribes no longer, and who waits for the end of that to
    /// subscribe again: what is said later must not come first.
    leaving: BTreeMap<String, Vec<oneshot::Sender<()>>>,
    _renewal: Timer,
}

impl Actor for DeliveryActor {
    type Msg = DeliveryMessage;
    type State = DeliveryState;
    type Arguments = Arc<Node>;

    async fn pre_start(
        &self,
        myself: ActorRef<DeliveryMessage>,
        node: Arc<Node>,
    ) -> Result<DeliveryState, ActorProcessingErr> {
        let mut renewal = Timer::default();
        renewal.repeat(&myself, topic::RENEWAL, || DeliveryMessage::Renew);
        Ok(DeliveryState { node, subscribers: BTreeMap::new(), leaving: BTreeMap::new(), _renewal: renewal })
    }

    async fn handle(
        &self,
        myself: ActorRef<DeliveryMessage>,
        message: DeliveryMessage,
        state: &mut DeliveryState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DeliveryMessage::Subscribe { topic, id, sender, added } => {
                match state.leaving.get_mut(&topic) {
                    Some(waiting) => waiting.push(added),
                    None => drop(added.send(())),
                }
                state.subscribers.entry(topic).or_default().push((id, sender));
            }
            DeliveryMessage::Unsubscribe { topic, id } => state.unsubscribe(&myself, topic, id),
            DeliveryMessage::Unsubscribed(topic) => {
                for added in state.leaving.remove(&topic).into_iter().flatten() {
                    let _ = added.send(());
                }
            }
            DeliveryMessage::Deliver(request, reply) => drop(reply.send(state.deliver(request))),
            DeliveryMessage::FromPeer(request) if request.is::<DeliverBatchRequestTransport>() => {
                match request.decode::<DeliverBatchRequestTransport>() {
                    Ok(batch) => request.answer(&state.deliver(batch)),
                    Err(_) => refuse_unknown(&state.node, request),
                }
            }
            DeliveryMessage::FromPeer(request) => refuse_unknown(&state.node, request),
            DeliveryMessage::Renew => state.renew(),
            DeliveryMessage::TopologyChanged(applied) => {
                state.renew();
                drop(applied.send(Ok(())));
            }
            DeliveryMessage::RenewTopic(topic) => {
                if state.subscribers.contains_key(&topic) {
                    state.renew_topic(&topic);
                }
            }
            DeliveryMessage::Close(closed) => {
                let closed = Arc::new(closed);
                for topic in std::mem::take(&mut state.subscribers).into_keys() {
                    let closed = Arc::clone(&closed);
                    state.tell(&topic, false, move || drop(closed));
                }
                // The last of them to be done drops the sender, which ends the wait.
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<DeliveryMessage>,
        _: SupervisionEvent,
        _: &mut DeliveryState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl DeliveryState {
    fn renew(&self) {
        self.subscribers.keys().for_each(|topic| self.renew_topic(topic));
    }

    /// Who waits to subscribe again does that itself.
    fn renew_topic(&self, topic: &str) {
        if !self.leaving.contains_key(topic) {
            self.tell(topic, true, || {});
        }
    }

    fn unsubscribe(&mut self, myself: &ActorRef<DeliveryMessage>, topic: String, id: u64) {
        let Some(subscribers) = self.subscribers.get_mut(&topic) else { return };
        subscribers.retain(|(other, _)| *other != id);
        if !subscribers.is_empty() {
            return;
        }
        self.subscribers.remove(&topic);
        // Nobody has subscribed since it is being told.
        if self.leaving.contains_key(&topic) {
            return;
        }
        self.leaving.insert(topic.clone(), Vec::new());
        let (myself, left) = (myself.clone(), topic.clone());
        self.tell(&topic, false, move || drop(myself.cast(DeliveryMessage::Unsubscribed(left))));
    }

    /// Tells a topic whether this node subscribes, in a task of its own. A topic that does not hear of an
    /// unsubscription forgets this node by itself.
    fn tell(&self, topic: &str, subscribes: bool, done: impl FnOnce() + Send + 'static) {
        let (cluster, topic) = (ClusterContext::new(Arc::clone(&self.node)), topic.to_owned());
        tokio::spawn(async move {
            let subscriber = stream_subscriber(cluster.id());
            let told = if subscribes {
                cluster.subscribe_as(&topic, subscriber).await
            } else {
                cluster.unsubscribe_as(&topic, subscriber).await
            };
            if let Err(error) = told {
                tracing::debug!(%topic, subscribes, %error, "a topic was not told");
            }
            done();
        });
    }

    fn deliver(&mut self, request: DeliverBatchRequestTransport) -> DeliverBatchResponse {
        let mut response = DeliverBatchResponse::default();
        let batch = request.batch.unwrap_or_default();
        let Some(subscribers) = self.subscribers.get_mut(&request.topic) else {
            response.reports.push(self.report(DeliveryStatus::SubscriberNoLongerReachable));
            return response;
        };
        let messages = messages(&batch);
        let mut slow = 0;
        subscribers.retain(|(_, subscriber)| {
            // All of the batch, or nothing: a subscriber never sees half of it.
            match subscriber.try_reserve_many(messages.len()) {
                Ok(places) => {
                    places.zip(&messages).for_each(|(place, message)| place.send(message.clone()));
                    response.delivered += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    slow += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(())) => false,
            }
        });
        if subscribers.is_empty() {
            self.subscribers.remove(&request.topic);
        }
        let report = self.report(DeliveryStatus::Timeout);
        response.reports.extend((0..slow).map(|_| report.clone()));
        response
    }

    fn report(&self, status: DeliveryStatus) -> SubscriberDeliveryReport {
        SubscriberDeliveryReport { subscriber: Some(stream_subscriber(self.node.me.id)), status: status.into() }
    }
}

/// The messages of a batch. An index out of range names an empty type, which no subscriber asks for.
fn messages(batch: &PubSubBatchTransport) -> Vec<TopicMessage> {
    let names: Vec<Arc<str>> = batch.type_names.iter().map(|name| name.as_str().into()).collect();
    let message = |envelope: &gristmill_messages::cluster::PubSubEnvelope| TopicMessage {
        name: usize::try_from(envelope.type_id).ok().and_then(|at| names.get(at).cloned()).unwrap_or_else(|| "".into()),
        data: envelope.message_data.clone(),
    };
    batch.envelopes.iter().map(message).collect()
}
