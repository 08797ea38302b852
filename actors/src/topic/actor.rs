use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fnv::FnvBuildHasher;
use gristmill_core::alarm::TimerEpoch;
use gristmill_core::topic::{self, DeliveryStatus, Effect, Event, Input, Subscriber, Topic};
use gristmill_core::{Outbox, RequestId};
use gristmill_messages::TopologyVersion;
use gristmill_messages::cluster::{
    PubSubBatchTransport, PublishResponse, SubscribeRequest, SubscribeResponse, SubscriberIdentity, UnsubscribeRequest,
    UnsubscribeResponse,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::grain::{Answer, Call, ErrorCode, GrainContext, GrainError, HostedCall, Reply};
use crate::timer::Timer;
use crate::topic::CONFIG;
use crate::topic::lane::Lane;

/// One topic.
pub(super) struct TopicActor;

pub(super) enum TopicMessage {
    Call(HostedCall),
    Delivered {
        publication: RequestId,
        subscriber: Subscriber,
        status: DeliveryStatus,
    },
    Timer(TimerEpoch),
    /// See whether this topic is of any use.
    Look,
}

impl From<HostedCall> for TopicMessage {
    fn from(call: HostedCall) -> Self {
        Self::Call(call)
    }
}

pub(super) struct TopicState {
    context: Arc<GrainContext>,
    topic: Topic,
    out: Outbox<Effect, Event>,
    open: HashMap<RequestId, Open, FnvBuildHasher>,
    lanes: BTreeMap<Subscriber, Lane>,
    /// Of the topology whose blocked members subscribe no longer.
    seen: TopologyVersion,
    timer: Timer,
    _look: Timer,
}

/// A request that waits for its answer.
struct Open {
    answer: Answer,
    /// What it publishes.
    batch: Option<Arc<PubSubBatchTransport>>,
}

impl Actor for TopicActor {
    type Msg = TopicMessage;
    type State = TopicState;
    type Arguments = Arc<GrainContext>;

    async fn pre_start(
        &self,
        myself: ActorRef<TopicMessage>,
        context: Arc<GrainContext>,
    ) -> Result<TopicState, ActorProcessingErr> {
        let topic = Topic::new(CONFIG);
        let mut look = Timer::default();
        look.repeat(&myself, CONFIG.lease, || TopicMessage::Look);
        Ok(TopicState {
            context,
            topic,
            out: Outbox::new(),
            open: HashMap::default(),
            lanes: BTreeMap::new(),
            seen: TopologyVersion::default(),
            timer: Timer::default(),
            _look: look,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<TopicMessage>,
        message: TopicMessage,
        state: &mut TopicState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TopicMessage::Call(call) => {
                state.drop_blocked(&myself);
                call.open(|call, answer| match Asked::read(&call) {
                    Ok(asked) => state.asked(&myself, asked, answer),
                    Err(error) => answer.send(Err(error)),
                });
            }
            TopicMessage::Delivered { publication, subscriber, status } => {
                state.step(&myself, Input::Delivered { publication, subscriber, status });
            }
            TopicMessage::Timer(epoch) => state.step(&myself, Input::TimerFired(epoch)),
            // Not by the placement's measure: a topic that is quiet still knows its subscribers.
            TopicMessage::Look if state.topic.is_idle() => state.context.stop(),
            TopicMessage::Look => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<TopicMessage>,
        _: SupervisionEvent,
        _: &mut TopicState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// What a call to a topic wants.
enum Asked {
    Subscribe(Subscriber),
    Unsubscribe(Subscriber),
    Publish(PubSubBatchTransport),
}

impl Asked {
    fn read(call: &Call<'_>) -> Result<Self, GrainError> {
        let subscriber = |subscriber: Option<SubscriberIdentity>| {
            let invalid = |error| GrainError::new(ErrorCode::InvalidArgument, format!("subscriber: {error}"));
            Subscriber::try_from(subscriber.unwrap_or_default()).map_err(invalid)
        };
        if call.is::<SubscribeRequest>() {
            subscriber(call.decode::<SubscribeRequest>()?.subscriber).map(Self::Subscribe)
        } else if call.is::<UnsubscribeRequest>() {
            subscriber(call.decode::<UnsubscribeRequest>()?.subscriber).map(Self::Unsubscribe)
        } else {
            Ok(Self::Publish(call.decode::<PubSubBatchTransport>()?))
        }
    }
}

impl TopicState {
    /// Who is blocked subscribes no longer. Looked up in the view before each request, so that it counts from the
    /// moment in which the owners of keys are others.
    fn drop_blocked(&mut self, myself: &ActorRef<TopicMessage>) {
        let view = Arc::clone(self.context.cluster().node().view.load().topology());
        if std::mem::replace(&mut self.seen, view.version()) != view.version() {
            for member in view.blocked() {
                self.step(myself, Input::MemberGone(*member));
            }
        }
    }

    fn asked(&mut self, myself: &ActorRef<TopicMessage>, asked: Asked, answer: Answer) {
        if let Asked::Subscribe(Subscriber::Member(member)) = asked
            && self.context.cluster().node().view.load().topology().is_blocked(member)
        {
            return answer.send(Err(GrainError::new(ErrorCode::FailedPrecondition, format!("{member} is blocked"))));
        }
        let request = self.context.cluster().node().request_id();
        let (batch, input) = match asked {
            Asked::Subscribe(subscriber) => (None, Input::Subscribe { request, subscriber }),
            Asked::Unsubscribe(subscriber) => (None, Input::Unsubscribe { request, subscriber }),
            Asked::Publish(batch) => (Some(Arc::new(batch)), Input::Publish { publication: request }),
        };
        self.open.insert(request, Open { answer, batch });
        self.step(myself, input);
    }

    fn step(&mut self, myself: &ActorRef<TopicMessage>, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.topic.handle(self.context.cluster().node().clock.now(), input, &mut out);
        for effect in out.drain_effects() {
            self.perform(myself, effect);
        }
        for event in out.drain_events() {
            match event {
                Event::Subscribed(subscriber) => tracing::debug!(?subscriber, "subscribed"),
                Event::Unsubscribed(subscriber, reason) => {
                    tracing::debug!(?subscriber, ?reason, "unsubscribed");
                    self.lanes.remove(&subscriber);
                }
            }
        }
        self.out = out;
    }

    fn perform(&mut self, myself: &ActorRef<TopicMessage>, effect: Effect) {
        match effect {
            Effect::Deliver { publication, subscriber } => {
                let Some(batch) = self.open.get(&publication).and_then(|open| open.batch.clone()) else { return };
                let open = || Lane::open(&self.context, &subscriber, CONFIG.delivery_timeout, myself);
                self.lanes.entry(subscriber.clone()).or_insert_with(open).deliver(publication, batch);
            }
            Effect::Answer { request, answer } => {
                let Some(open) = self.open.remove(&request) else { return };
                open.answer.send(match answer {
                    topic::Answer::Subscribed { .. } => Reply::message(&SubscribeResponse {}),
                    topic::Answer::Unsubscribed => Reply::message(&UnsubscribeResponse {}),
                    topic::Answer::Published(receipt) => Reply::message(&PublishResponse::from(&receipt)),
                    topic::Answer::Overloaded => {
                        Err(GrainError::new(ErrorCode::Other("OVERLOADED".into()), "the topic has too much to do"))
                    }
                });
            }
            Effect::SetTimer(timer) => {
                self.timer.set(myself, timer.after, move || TopicMessage::Timer(timer.epoch));
            }
        }
    }
}
