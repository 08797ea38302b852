use std::collections::HashMap;
use std::sync::Arc;

use fnv::FnvBuildHasher;
use gristmill_core::placement::pid_cache::{Config, Effect, Event, Input, LookupError, LookupId, Lookups};
use gristmill_core::placement::{Location, Refusal, Rendezvous, wire};
use gristmill_core::request::Unresolved;
use gristmill_core::topology::Topology;
use gristmill_core::{Member, Outbox, RequestId};
use gristmill_messages::cluster::{ActivationRequest, ActivationResponse, ActivationTerminated};
use gristmill_messages::remote::SystemActor;
use gristmill_messages::{ClusterIdentity, MemberId};
use gristmill_transport::Lane;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::delivery::DeliveryMessage;
use crate::event::ClusterEvent;
use crate::inbox::PeerRequest;
use crate::member_list::Applied;
use crate::node::Node;
use crate::pid_cache::Pid;
use crate::remoting::refuse_unknown;
use crate::timer::deadline_in;
use crate::topic;

/// Looks up what the table misses, and keeps the table true.
pub(crate) struct PidCacheActor;

pub(crate) enum PidCacheMessage {
    /// A request found nothing.
    Resolve {
        request: RequestId,
        identity: Arc<ClusterIdentity>,
        reply: oneshot::Sender<Result<Pid, Unresolved>>,
    },
    /// Nobody waits for that any more.
    Withdraw {
        request: RequestId,
        identity: Arc<ClusterIdentity>,
    },
    /// Owners have changed, and who is no member any more owns nothing.
    TopologyChanged(Arc<Rendezvous>, Applied),
    /// The owner has answered.
    LookedUp {
        lookup: LookupId,
        identity: Arc<ClusterIdentity>,
        result: Result<Location, LookupError>,
    },
    FromPeer(PeerRequest),
}

/// Looks up what the table misses; none when this node has ended. Dropped, it takes no place among those who wait any
/// more.
pub(crate) async fn resolve(node: &Node, identity: Arc<ClusterIdentity>) -> Option<Result<Pid, Unresolved>> {
    let request = node.request_id();
    let mut wait = Wait { node, request, identity: Some(Arc::clone(&identity)) };
    let asked = node.parts()?.pid_cache.ask(|reply| PidCacheMessage::Resolve { request, identity, reply });
    let resolved = asked.await;
    wait.identity = None;
    resolved
}

/// A caller of this node; none: it has been answered.
struct Wait<'a> {
    node: &'a Node,
    request: RequestId,
    identity: Option<Arc<ClusterIdentity>>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let (Some(identity), Some(parts)) = (self.identity.take(), self.node.parts()) {
            parts.pid_cache.send(PidCacheMessage::Withdraw { request: self.request, identity });
        }
    }
}

impl From<PeerRequest> for PidCacheMessage {
    fn from(request: PeerRequest) -> Self {
        Self::FromPeer(request)
    }
}

pub(crate) struct PidCacheState {
    node: Arc<Node>,
    lookups: Lookups,
    out: Outbox<Effect, Event>,
    waiting: HashMap<RequestId, oneshot::Sender<Result<Pid, Unresolved>>, FnvBuildHasher>,
    /// What was handed over last.
    topology: Arc<Topology>,
}

impl Actor for PidCacheActor {
    type Msg = PidCacheMessage;
    type State = PidCacheState;
    type Arguments = Arc<Node>;

    async fn pre_start(
        &self,
        _: ActorRef<PidCacheMessage>,
        node: Arc<Node>,
    ) -> Result<PidCacheState, ActorProcessingErr> {
        let lookups = Lookups::new(Config::default());
        let topology = Arc::default();
        Ok(PidCacheState { node, lookups, out: Outbox::new(), waiting: HashMap::default(), topology })
    }

    async fn handle(
        &self,
        myself: ActorRef<PidCacheMessage>,
        message: PidCacheMessage,
        state: &mut PidCacheState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PidCacheMessage::Resolve { request, identity, reply } => {
                // It may have been resolved while this message waited.
                if let Some(pid) = state.node.pids.get(identity.stable_hash(), &identity) {
                    drop(reply.send(Ok(pid)));
                    return Ok(());
                }
                state.waiting.insert(request, reply);
                state.step(&myself, Input::Miss { request, identity: ClusterIdentity::clone(&identity) });
            }
            PidCacheMessage::Withdraw { request, identity } => {
                if state.waiting.remove(&request).is_some() {
                    state.step(&myself, Input::Withdrawn { request, identity: ClusterIdentity::clone(&identity) });
                }
            }
            PidCacheMessage::TopologyChanged(rendezvous, applied) => {
                state.topology_changed(&myself, rendezvous);
                drop(applied.send(Ok(())));
            }
            PidCacheMessage::LookedUp { lookup, identity, result } => {
                let identity = ClusterIdentity::clone(&identity);
                state.step(
                    &myself,
                    match result {
                        Ok(location) => Input::Resolved { lookup, identity, location },
                        Err(error) => Input::Failed { lookup, identity, error },
                    },
                );
            }
            PidCacheMessage::FromPeer(request) => {
                let announced =
                    request.decode::<ActivationTerminated>().ok().and_then(|m| wire::Terminated::try_from(m).ok());
                match announced.filter(|terminated| {
                    // A member speaks for its own activations only.
                    request.is::<ActivationTerminated>() && terminated.location.member == request.from
                }) {
                    Some(terminated) => state.terminated(&myself, terminated),
                    None => refuse_unknown(&state.node, request),
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<PidCacheMessage>,
        _: SupervisionEvent,
        _: &mut PidCacheState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl PidCacheState {
    fn topology_changed(&mut self, myself: &ActorRef<PidCacheMessage>, rendezvous: Arc<Rendezvous>) {
        let now = Arc::clone(rendezvous.topology());
        let before = std::mem::replace(&mut self.topology, Arc::clone(&now));
        self.step(myself, Input::TopologyChanged { rendezvous });
        for member in before.members().iter().filter(|member| now.member(member.id).is_none()) {
            self.step(myself, Input::MemberGone(member.id));
        }
        // Last: who hears of it finds no owner and no activation of the blocked any more.
        let is_new = |member: &&MemberId| before.blocked().binary_search(member).is_err();
        let entries = now.blocked().iter().filter(is_new).count();
        if entries > 0 {
            let blocked = now.blocked().to_vec();
            self.node.events.publish(ClusterEvent::BlockListApplied { entries, blocked });
        }
    }

    fn terminated(&mut self, myself: &ActorRef<PidCacheMessage>, terminated: wire::Terminated) {
        let wire::Terminated { location, identity, reason } = terminated;
        let Location { member, activation, epoch } = location;
        self.step(myself, Input::Terminated { activation, member, identity: identity.clone() });
        if let Some(parts) = self.node.parts().filter(|_| identity.kind == topic::KIND) {
            parts.delivery.send(DeliveryMessage::RenewTopic(identity.identity.clone()));
        }
        let identity = Arc::new(identity);
        self.node.events.publish(ClusterEvent::ActivationTerminated { identity, member, activation, epoch, reason });
    }

    fn step(&mut self, myself: &ActorRef<PidCacheMessage>, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.lookups.handle(self.node.clock.now(), input, &mut out);
        for effect in out.drain_effects() {
            self.perform(myself, effect);
        }
        self.out = out;
    }

    fn perform(&mut self, myself: &ActorRef<PidCacheMessage>, effect: Effect) {
        match effect {
            Effect::Resolve { lookup, identity, owner } if owner.id == self.node.me.id => {
                // It became the owner between the request's look at the topology and this one.
                let (node, myself) = (Arc::clone(&self.node), myself.clone());
                tokio::spawn(async move {
                    let result = ask_here(&node, &identity).await;
                    drop(myself.cast(PidCacheMessage::LookedUp { lookup, identity, result }));
                });
            }
            Effect::Resolve { lookup, identity, owner } => {
                let (node, myself) = (Arc::clone(&self.node), myself.clone());
                tokio::spawn(async move {
                    let result = ask_owner(&node, &owner, &identity).await;
                    drop(myself.cast(PidCacheMessage::LookedUp { lookup, identity, result }));
                });
            }
            Effect::Answer { request, answer } => {
                if let Some(reply) = self.waiting.remove(&request) {
                    let answer = answer.map_err(Unresolved::from);
                    drop(reply.send(answer.and_then(|location| self.pid(location).ok_or(Unresolved::NotOwner))));
                }
            }
            Effect::Insert { identity, location } => {
                if let Some(pid) = self.pid(location) {
                    self.node.pids.insert(identity, pid);
                }
            }
            Effect::Invalidate { identity, activation, .. } => {
                self.node.pids.remove(identity.stable_hash(), activation);
            }
            Effect::InvalidateMember(member) => {
                let entries = self.node.pids.forget_member(member);
                self.node.events.publish(ClusterEvent::PidCacheCleared { member, entries });
            }
        }
    }

    /// How the activation is reached; none when it, or its member, has gone in the meantime.
    fn pid(&self, location: Location) -> Option<Pid> {
        let Location { member, activation, .. } = location;
        if member == self.node.me.id {
            return self.node.local_pid(activation);
        }
        let view = self.node.view.load();
        let member = view.topology().member(member)?;
        Some(Pid::Remote { activation, endpoint: self.node.remoting.endpoint(member.id, &member.address) })
    }
}

async fn ask_here(node: &Arc<Node>, identity: &Arc<ClusterIdentity>) -> Result<Location, LookupError> {
    let parts = node.parts().ok_or(Refusal::NotStarted)?;
    Ok(parts.directory.locate(node, Arc::clone(identity)).await.unwrap_or(Err(Refusal::ShuttingDown))?)
}

async fn ask_owner(node: &Node, owner: &Member, identity: &ClusterIdentity) -> Result<Location, LookupError> {
    let topology_hash = node.view.load().topology().hash().get();
    let request =
        ActivationRequest { cluster_identity: Some(identity.clone()), request_id: String::new(), topology_hash };
    let deadline = deadline_in(node.config.request_timeout);
    let asked = node.remoting.ask(owner, Lane::Control, SystemActor::Placement, &request, deadline).await;
    let response: ActivationResponse = asked.map_err(|error| LookupError::Unreachable(error.to_string()))?;
    let answer = wire::from_response(response).map_err(|error| LookupError::Unreachable(error.to_string()))?;
    let location = answer?;
    if location.member == owner.id {
        Ok(location)
    } else {
        Err(LookupError::Unreachable(format!("{} answered with an activation of {}", owner.id, location.member)))
    }
}
