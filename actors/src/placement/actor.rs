use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvBuildHasher;
use gristmill_core::alarm::TimerEpoch;
use gristmill_core::placement::activations::{Activations, Config, Effect, Event, Input};
use gristmill_core::placement::{DeactivationReason, Location, Placed, Refusal, Rendezvous, wire};
use gristmill_core::{KindName, Outbox, RequestId};
use gristmill_messages::cluster::ActivationRequest;
use gristmill_messages::{ActivationId, ClusterIdentity};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::ClusterContext;
use crate::delivery::DeliveryMessage;
use crate::event::ClusterEvent;
use crate::grain::{Door, Ended, GrainContext, Kind, KindSettings};
use crate::inbox::PeerRequest;
use crate::node::Node;
use crate::placement::announcer::Announcer;
use crate::placement::located::{Located, Unborn};
use crate::remoting::refuse_unknown;
use crate::timer::Timer;
use crate::topic;

/// Owns the activations of one member.
pub(crate) struct PlacementActor;

pub(crate) enum PlacementMessage {
    /// Ownership in a new topology.
    TopologyChanged(Arc<Rendezvous>),
    /// See [`locate`](super::locate).
    Locate {
        identity: Arc<ClusterIdentity>,
        reply: oneshot::Sender<Located>,
    },
    FromPeer(PeerRequest),
    Activated(ActivationId),
    Ended(Ended),
    Deactivate(ActivationId, DeactivationReason),
    Timer(TimerEpoch),
    Sweep,
    /// Drains everything; answers with the number of grains that had to be cut off.
    ShutDown {
        grace: Duration,
        reply: oneshot::Sender<usize>,
    },
    /// How many grains of each kind live here.
    Count(oneshot::Sender<BTreeMap<KindName, usize>>),
}

impl From<PeerRequest> for PlacementMessage {
    fn from(request: PeerRequest) -> Self {
        Self::FromPeer(request)
    }
}

pub(crate) struct PlacementState {
    node: Arc<Node>,
    activations: Activations,
    out: Outbox<Effect, Event>,
    kinds: HashMap<KindName, (Kind, Arc<KindSettings>), FnvBuildHasher>,
    waiting: HashMap<RequestId, Requester, FnvBuildHasher>,
    /// The first activation that a request of this node starts, for who asked to begin.
    unborn: Option<(Placed, Arc<dyn Door>)>,
    asked_here: bool,
    shutdown: Option<oneshot::Sender<usize>>,
    announcer: Announcer,
    timer: Timer,
}

/// Who asked for an activation.
enum Requester {
    /// This node.
    Here(Arc<ClusterIdentity>, oneshot::Sender<Located>),
    Peer(PeerRequest),
}

impl Actor for PlacementActor {
    type Msg = PlacementMessage;
    type State = PlacementState;
    type Arguments = (Arc<Node>, Vec<Kind>);

    async fn pre_start(
        &self,
        myself: ActorRef<PlacementMessage>,
        (node, kinds): (Arc<Node>, Vec<Kind>),
    ) -> Result<PlacementState, ActorProcessingErr> {
        myself.send_interval(node.config.timing.sweep, || PlacementMessage::Sweep);
        let kinds = kinds.into_iter().map(|kind| (kind.name().clone(), (kind.clone(), kind.settings()))).collect();
        let activations = Activations::new(Config::lan(), node.me.id);
        Ok(PlacementState {
            announcer: Announcer::start(&node),
            node,
            activations,
            out: Outbox::new(),
            kinds,
            waiting: HashMap::default(),
            unborn: None,
            asked_here: false,
            shutdown: None,
            timer: Timer::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<PlacementMessage>,
        message: PlacementMessage,
        state: &mut PlacementState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PlacementMessage::TopologyChanged(rendezvous) => {
                state.step(&myself, Input::TopologyChanged { rendezvous });
            }
            PlacementMessage::Locate { identity, reply } => {
                state.request(&myself, Arc::clone(&identity), Requester::Here(identity, reply));
            }
            PlacementMessage::FromPeer(request) if request.is::<ActivationRequest>() => {
                match request.decode::<ActivationRequest>().map(|request| request.cluster_identity) {
                    Ok(Some(identity)) if identity.validate().is_ok() => {
                        state.request(&myself, Arc::new(identity), Requester::Peer(request));
                    }
                    Ok(_) | Err(_) => refuse_unknown(&state.node, request),
                }
            }
            PlacementMessage::FromPeer(request) => refuse_unknown(&state.node, request),
            PlacementMessage::Activated(activation) => state.step(&myself, Input::Activated { activation }),
            PlacementMessage::Ended(Ended::NotActivated(activation, error)) => {
                state.node.doors.remove(&activation);
                state.step(&myself, Input::ActivationFailed { activation, failure: error.to_string() });
            }
            PlacementMessage::Ended(Ended::Deactivated(activation, reason)) => {
                state.node.doors.remove(&activation);
                state.step(&myself, Input::Ended { activation, reason });
            }
            PlacementMessage::Deactivate(activation, reason) => {
                state.step(&myself, Input::Deactivate { activation, reason });
            }
            PlacementMessage::Timer(epoch) => state.step(&myself, Input::TimerFired(epoch)),
            PlacementMessage::Sweep => sweep(&state.node, &myself),
            PlacementMessage::ShutDown { grace, reply } => {
                state.shutdown = Some(reply);
                state.step(&myself, Input::ShutDown { grace });
            }
            PlacementMessage::Count(reply) => {
                drop(reply.send(state.activations.started().map(|(kind, count)| (kind.clone(), count)).collect()));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<PlacementMessage>,
        _: SupervisionEvent,
        _: &mut PlacementState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl PlacementState {
    fn request(&mut self, myself: &ActorRef<PlacementMessage>, identity: Arc<ClusterIdentity>, requester: Requester) {
        let request = self.node.request_id();
        self.asked_here = matches!(requester, Requester::Here(..));
        self.waiting.insert(request, requester);
        self.step(myself, Input::Requested { request, identity });
        self.asked_here = false;
        if let Some((placed, door)) = self.unborn.take() {
            let location = self.location(placed);
            let (answer, known) = oneshot::channel();
            let unborn = Located::Unborn(Unborn::new(location, door, known));
            if let Some(Requester::Here(_, reply)) = self.waiting.get_mut(&request) {
                // Who no longer waits drops it, and so it begins.
                drop(std::mem::replace(reply, answer).send(unborn));
            }
        }
    }

    fn step(&mut self, myself: &ActorRef<PlacementMessage>, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.activations.handle(self.node.clock.now(), input, &mut out);
        for effect in out.drain_effects() {
            self.perform(myself, effect);
        }
        for event in out.drain_events() {
            self.publish(event);
        }
        self.out = out;
    }

    fn perform(&mut self, myself: &ActorRef<PlacementMessage>, effect: Effect) {
        match effect {
            Effect::Spawn { activation, identity, epoch } => {
                let Some((kind, settings)) = self.kinds.get(identity.kind.as_str()) else {
                    let failure = format!("the kind {} is in the topology but not on this member", identity.kind);
                    let failed = Ended::NotActivated(activation, crate::GrainError::internal(failure));
                    drop(myself.cast(PlacementMessage::Ended(failed)));
                    return;
                };
                if self.node.is_fenced() {
                    let failed = Ended::NotActivated(activation, crate::GrainError::internal("the node is fenced"));
                    drop(myself.cast(PlacementMessage::Ended(failed)));
                    return;
                }
                let cluster = ClusterContext::new(Arc::clone(&self.node));
                let context = GrainContext { identity, activation, epoch, cluster };
                let door = kind.open(Arc::clone(settings), context);
                self.node.doors.insert(activation, Arc::clone(&door));
                // Fenced in between, it was not among those that were stopped.
                if self.node.is_fenced() {
                    door.stop();
                } else if std::mem::take(&mut self.asked_here) {
                    self.unborn = Some((Placed { activation, epoch }, door));
                } else {
                    door.begin_apart();
                }
            }
            Effect::Answer { request, answer } => {
                if let Some(requester) = self.waiting.remove(&request) {
                    self.answer(requester, answer.map(|placed| self.location(placed)));
                }
            }
            Effect::Drain { activation, reason } => {
                if let Some(door) = self.node.doors.get(&activation) {
                    door.drain(reason);
                }
            }
            Effect::Stop { activation } => {
                if let Some(door) = self.node.doors.get(&activation) {
                    door.stop();
                }
            }
            Effect::Announce { activation, epoch, identity, reason } => {
                self.node.pids.remove(identity.stable_hash(), activation);
                let location = self.location(Placed { activation, epoch });
                let terminated = wire::Terminated { location, identity: ClusterIdentity::clone(&identity), reason };
                if let Some(parts) = self.node.parts().filter(|_| identity.kind == topic::KIND) {
                    parts.delivery.send(DeliveryMessage::RenewTopic(identity.identity.clone()));
                }
                self.announcer.announce(terminated.to_message(&self.node.me.address));
            }
            Effect::SetTimer(timer) => {
                self.timer.set(myself, timer.after, move || PlacementMessage::Timer(timer.epoch));
            }
        }
    }

    fn location(&self, placed: Placed) -> Location {
        Location { member: self.node.me.id, activation: placed.activation, epoch: placed.epoch }
    }

    fn answer(&self, requester: Requester, result: Result<Location, Refusal>) {
        match requester {
            Requester::Here(identity, reply) => {
                // By who also removes it when it ends, so that it cannot be inserted after that.
                if let Some(pid) = result.as_ref().ok().and_then(|location| self.node.local_pid(location.activation)) {
                    self.node.pids.insert(identity, pid);
                }
                drop(reply.send(Located::Known(result)));
            }
            Requester::Peer(peer) => {
                let hash = self.node.view.load().topology().hash();
                peer.answer(&wire::to_response(&result, &self.node.me.address, hash));
            }
        }
    }

    fn publish(&mut self, event: Event) {
        let member = self.node.me.id;
        self.node.metrics.activations.set(self.activations.len() as u64);
        match event {
            Event::Started { identity, activation, epoch } => {
                self.node.events.publish(ClusterEvent::ActivationStarted { identity, member, activation, epoch });
            }
            Event::NotStarted { identity, failure, .. } => {
                tracing::warn!(%identity, %failure, "a grain did not activate");
            }
            Event::Terminated { identity, activation, epoch, reason } => {
                let event = ClusterEvent::ActivationTerminated { identity, member, activation, epoch, reason };
                self.node.events.publish(event);
            }
            Event::Drained { abandoned } => {
                if let Some(reply) = self.shutdown.take() {
                    let _ = reply.send(abandoned);
                }
            }
        }
    }
}

/// Looks at every grain, off the runtime's workers: there may be millions.
fn sweep(node: &Arc<Node>, placement: &ActorRef<PlacementMessage>) {
    let (node, placement) = (Arc::clone(node), placement.clone());
    tokio::task::spawn_blocking(move || {
        for door in &node.doors {
            if door.sweep(node.config.timing.sweep) {
                drop(placement.cast(PlacementMessage::Deactivate(*door.key(), DeactivationReason::Idle)));
            }
        }
    });
}
