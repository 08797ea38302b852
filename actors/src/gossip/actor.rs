use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fnv::FnvBuildHasher;
use gristmill_core::gossip::{Delta, DeltaAck, Effect, Event, Gossip, GossipValue, Input};
use gristmill_core::{KindName, Outbox, RequestId};
use gristmill_messages::MemberId;
use gristmill_messages::cluster::{ActorStatistics, GossipRequest, GossipResponse, MemberHeartbeat};
use gristmill_messages::remote::SystemActor;
use gristmill_transport::Lane;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use crate::gossip::{GossipMessage, HEARTBEAT};
use crate::inbox::PeerRequest;
use crate::node::{Node, Role};
use crate::placement::PlacementMessage;
use crate::remoting::refuse_unknown;

/// Owns the gossip state of one member.
pub(crate) struct GossipActor;

pub(crate) struct GossipState {
    node: Arc<Node>,
    gossip: Gossip,
    out: Outbox<Effect, Event>,
    asked: HashMap<RequestId, PeerRequest, FnvBuildHasher>,
}

impl Actor for GossipActor {
    type Msg = GossipMessage;
    type State = GossipState;
    type Arguments = Arc<Node>;

    async fn pre_start(
        &self,
        myself: ActorRef<GossipMessage>,
        node: Arc<Node>,
    ) -> Result<GossipState, ActorProcessingErr> {
        if node.role == Role::Member {
            myself.send_interval(node.config.timing.gossip.interval, || GossipMessage::Beat);
        }
        node.config.timing.gossip.validate()?;
        let gossip = Gossip::new(node.config.timing.gossip.clone(), node.me.id, rand::random());
        Ok(GossipState { node, gossip, out: Outbox::new(), asked: HashMap::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<GossipMessage>,
        message: GossipMessage,
        state: &mut GossipState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GossipMessage::Start => state.step(&myself, Input::Start),
            GossipMessage::Stop => {
                state.step(&myself, Input::Stop);
                myself.stop(None);
            }
            // A client reads no gossip: members do not know it.
            GossipMessage::TopologyChanged if state.node.role == Role::Client => {}
            GossipMessage::TopologyChanged => {
                let me = state.node.me.id;
                let topology = Arc::clone(state.node.view.load().topology());
                let members = topology.members().iter().map(|member| member.id).filter(|id| *id != me).collect();
                state.step(&myself, Input::MembersChanged { members });
            }
            GossipMessage::Gossip(input) => state.step(&myself, input),
            GossipMessage::Timer(epoch) => state.step(&myself, Input::Timer(epoch)),
            GossipMessage::Beat => state.beat(&myself),
            GossipMessage::FromPeer(request) => {
                let decoded = request.decode::<GossipRequest>().ok().and_then(|delta| Delta::try_from(delta).ok());
                match decoded.filter(|_| request.is::<GossipRequest>()) {
                    Some(delta) => {
                        let (id, from) = (state.node.request_id(), request.from);
                        state.asked.insert(id, request);
                        state.step(&myself, Input::Requested { request: id, from, delta });
                    }
                    None => refuse_unknown(&state.node, request),
                }
            }
            GossipMessage::GrainCounts(reply) => {
                let counts =
                    state.gossip.get(HEARTBEAT).filter_map(|(member, value)| Some((member, grain_counts(value)?)));
                drop(reply.send(counts.collect()));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<GossipMessage>,
        _: SupervisionEvent,
        _: &mut GossipState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl GossipState {
    /// Counts the grains, without waiting for the count.
    fn beat(&self, myself: &ActorRef<GossipMessage>) {
        let (node, myself) = (Arc::clone(&self.node), myself.clone());
        let last = self.gossip.value(node.me.id, HEARTBEAT).cloned();
        tokio::spawn(async move {
            let Some(parts) = node.parts() else { return };
            let Some(counts) = parts.placement.ask(PlacementMessage::Count).await else { return };
            let counted =
                |(kind, count): (KindName, usize)| (kind.to_string(), i64::try_from(count).unwrap_or(i64::MAX));
            let actor_count = counts.into_iter().map(counted).collect();
            let heartbeat = MemberHeartbeat { actor_statistics: Some(ActorStatistics { actor_count }) };
            let value = GossipValue::of(&heartbeat);
            // Probes say who lives: the heartbeat is written only when it says something new.
            if last.as_ref() != Some(&value) {
                drop(myself.cast(GossipMessage::Gossip(Input::Set { key: HEARTBEAT.into(), value })));
            }
        });
    }

    fn step(&mut self, myself: &ActorRef<GossipMessage>, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.gossip.handle(self.node.clock.now(), input, &mut out);
        for effect in out.drain_effects() {
            self.perform(myself, effect);
        }
        for event in out.drain_events() {
            tracing::trace!(?event, "gossip");
        }
        self.out = out;
    }

    fn perform(&mut self, myself: &ActorRef<GossipMessage>, effect: Effect) {
        match effect {
            Effect::Send { to, delta } => {
                let (node, myself) = (Arc::clone(&self.node), myself.clone());
                tokio::spawn(async move {
                    let id = delta.id;
                    let input = match send(&node, to, delta).await {
                        Some(ack) => Input::Answered { from: to, ack },
                        None => Input::Failed { to, delta: id },
                    };
                    drop(myself.cast(GossipMessage::Gossip(input)));
                });
            }
            Effect::Answer { request, answer } => {
                if let Some(request) = self.asked.remove(&request) {
                    match answer {
                        Ok(ack) => request.answer(&GossipResponse::from(ack)),
                        Err(refusal) => request.refuse(refusal.into(), refusal.to_string()),
                    }
                }
            }
            Effect::SetTimer { after, epoch } => {
                myself.send_after(after, move || GossipMessage::Timer(epoch));
            }
        }
    }
}

async fn send(node: &Node, to: MemberId, delta: Delta) -> Option<DeltaAck> {
    let member = node.view.load().topology().member(to).cloned()?;
    let deadline = Instant::now() + node.config.timing.gossip.request_timeout;
    let request = GossipRequest::from(delta);
    match node.remoting.ask(&member, Lane::Control, SystemActor::Gossip, &request, deadline).await {
        Ok(response) => Some(DeltaAck::from(&GossipResponse { ..response })),
        Err(error) => {
            node.metrics.failed_sends.add_one();
            tracing::trace!(?to, %error, "gossip was not answered");
            None
        }
    }
}

fn grain_counts(heartbeat: &GossipValue) -> Option<BTreeMap<KindName, u64>> {
    let heartbeat = heartbeat.decode::<MemberHeartbeat>()?.ok()?;
    let counts = heartbeat.actor_statistics.unwrap_or_default().actor_count;
    Some(counts.into_iter().map(|(kind, count)| (kind.into(), u64::try_from(count).unwrap_or(0))).collect())
}
