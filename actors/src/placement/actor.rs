use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::KindName;
use gristmill_core::alarm::{SetTimer, TimerEpoch};
use gristmill_core::placement::activations::Input;
use gristmill_core::placement::{DeactivationReason, Rendezvous};
use gristmill_messages::ActivationId;
use gristmill_messages::cluster::ActivationRequest;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::grain::Ended;
use crate::inbox::PeerRequest;
use crate::node::Node;
use crate::placement::Directory;
use crate::remoting::refuse_unknown;
use crate::timer::Timer;

/// Looks after the activations of one member: tells its [`Directory`] what topologies, peers, grains and time bring.
pub(crate) struct PlacementActor;

pub(crate) enum PlacementMessage {
    /// Ownership in a new topology.
    TopologyChanged(Arc<Rendezvous>),
    FromPeer(PeerRequest),
    Activated(ActivationId),
    Ended(Ended),
    Deactivate(ActivationId, DeactivationReason),
    SetTimer(SetTimer),
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
    directory: Arc<Directory>,
    timer: Timer,
}

impl Actor for PlacementActor {
    type Msg = PlacementMessage;
    type State = PlacementState;
    type Arguments = (Arc<Node>, Arc<Directory>);

    async fn pre_start(
        &self,
        myself: ActorRef<PlacementMessage>,
        (node, directory): (Arc<Node>, Arc<Directory>),
    ) -> Result<PlacementState, ActorProcessingErr> {
        myself.send_interval(node.config.timing.sweep, || PlacementMessage::Sweep);
        Ok(PlacementState { node, directory, timer: Timer::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<PlacementMessage>,
        message: PlacementMessage,
        state: &mut PlacementState,
    ) -> Result<(), ActorProcessingErr> {
        let PlacementState { node, directory, timer } = state;
        match message {
            PlacementMessage::TopologyChanged(rendezvous) => {
                directory.step(node, Input::TopologyChanged { rendezvous })
            }
            PlacementMessage::FromPeer(request) if request.is::<ActivationRequest>() => {
                match request.decode::<ActivationRequest>().map(|request| request.cluster_identity) {
                    Ok(Some(identity)) if identity.validate().is_ok() => {
                        directory.locate_for(node, Arc::new(identity), request);
                    }
                    Ok(_) | Err(_) => refuse_unknown(node, request),
                }
            }
            PlacementMessage::FromPeer(request) => refuse_unknown(node, request),
            PlacementMessage::Activated(activation) => directory.step(node, Input::Activated { activation }),
            PlacementMessage::Ended(ended) => directory.ended(node, ended),
            PlacementMessage::Deactivate(activation, reason) => {
                directory.step(node, Input::Deactivate { activation, reason });
            }
            PlacementMessage::SetTimer(set) => {
                timer.set(&myself, set.after, move || PlacementMessage::Timer(set.epoch));
            }
            PlacementMessage::Timer(epoch) => directory.step(node, Input::TimerFired(epoch)),
            PlacementMessage::Sweep => sweep(node, &myself),
            PlacementMessage::ShutDown { grace, reply } => directory.shut_down(node, grace, reply),
            PlacementMessage::Count(reply) => drop(reply.send(directory.counts())),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<PlacementMessage>,
        state: &mut PlacementState,
    ) -> Result<(), ActorProcessingErr> {
        state.directory.close();
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
