use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvBuildHasher;
use gristmill_core::consensus::{Change, Check};
use gristmill_core::gossip::{
    Delta, DeltaAck, Effect, Event, Gossip, GossipValue, HEARTBEAT, Input, Refusal, SetRefusal, TOPOLOGY,
};
use gristmill_core::{Outbox, RequestId, Timestamp};
use gristmill_messages::cluster::{GossipRequest, GossipResponse};
use gristmill_messages::remote::SystemActor;
use gristmill_messages::{MemberId, TopologyHash};
use gristmill_transport::Lane;
use prost::Message as _;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use crate::error::TopologyApplyError;
use crate::event::ClusterEvent;
use crate::gossip::access::{topology_hash, topology_value};
use crate::gossip::watchers::Watchers;
use crate::gossip::{GossipMessage, Heartbeat};
use crate::inbox::PeerRequest;
use crate::node::{Node, Role};
use crate::placement::PlacementMessage;
use crate::remoting::{ContactError, refuse_unknown};

/// Between two events of the same kind that a peer can cause at will; the metrics count each.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Owns the gossip state of one member.
pub(crate) struct GossipActor;

pub(crate) struct GossipState {
    node: Arc<Node>,
    gossip: Gossip,
    out: Outbox<Effect, Event>,
    asked: HashMap<RequestId, PeerRequest, FnvBuildHasher>,
    watchers: Watchers,
    /// When each heartbeat came.
    heard: BTreeMap<MemberId, Timestamp>,
    topology: Check,
    /// The topology that this node goes by.
    told: Option<TopologyHash>,
    /// Since when the topology is another one than all agreed on.
    unsettled: Option<Timestamp>,
    reported: Option<Timestamp>,
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
        node.config.timing.gossip.validate()?;
        if node.role == Role::Member {
            myself.send_interval(node.config.timing.gossip.interval, || GossipMessage::Beat);
        }
        let gossip = Gossip::new(node.config.timing.gossip.clone(), node.me.id, rand::random());
        Ok(GossipState {
            node,
            gossip,
            out: Outbox::new(),
            asked: HashMap::default(),
            watchers: Watchers::default(),
            heard: BTreeMap::new(),
            topology: Check::new([TOPOLOGY.into()]),
            told: None,
            unsettled: None,
            reported: None,
        })
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
                state.look();
                myself.stop(None);
            }
            // A client reads no gossip: members do not know it.
            GossipMessage::TopologyChanged(applied) => drop(applied.send(state.topology_changed(&myself))),
            GossipMessage::Gossip(input) => state.step(&myself, input),
            GossipMessage::Timer(epoch) => state.step(&myself, Input::Timer(epoch)),
            GossipMessage::Beat => state.beat(&myself),
            GossipMessage::Counted(value) => state.counted(&myself, value),
            GossipMessage::FromPeer(request) => state.receive(&myself, request),
            GossipMessage::Heartbeats(reply) => drop(reply.send(state.heartbeats())),
            GossipMessage::Write { key, value, reply } => {
                let input = match value {
                    Some(value) => Input::Set { key, value },
                    None => Input::Remove { key },
                };
                let _ = reply.send(state.write(&myself, input));
            }
            GossipMessage::Read { key, reply } => drop(reply.send(state.values(key.as_str()))),
            GossipMessage::Subscribe { key, reply } => {
                let values = state.values(key.as_str());
                drop(reply.send((values, state.watchers.subscribe(key))));
            }
            GossipMessage::Watch { keys, reply } => {
                let (id, standing) = state.watchers.watch(keys, &state.gossip);
                // Whoever asked may have stopped waiting, and then nobody would ever end it.
                if reply.send((id, standing)).is_err() {
                    state.watchers.unwatch(id);
                }
            }
            GossipMessage::Unwatch(id) => state.watchers.unwatch(id),
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
        tokio::spawn(async move {
            let Some(parts) = node.parts() else { return };
            let Some(counts) = parts.placement.ask(PlacementMessage::Count).await else { return };
            drop(myself.cast(GossipMessage::Counted(Heartbeat::encode(counts))));
        });
    }

    /// Probes say who lives: the heartbeat is written when it says something new, and seldom when it does not.
    fn counted(&mut self, myself: &ActorRef<GossipMessage>, value: GossipValue) {
        let me = self.node.me.id;
        let written = self.heard.get(&me);
        let age = written.map(|written| self.node.clock.now().since(*written));
        if self.gossip.value(me, HEARTBEAT) != Some(&value) {
            self.step(myself, Input::Set { key: HEARTBEAT.into(), value });
        } else if age.is_some_and(|age| age >= self.node.config.timing.heartbeat_refresh) {
            self.step(myself, Input::Refresh { key: HEARTBEAT.into() });
        }
    }

    fn heartbeats(&self) -> BTreeMap<MemberId, Heartbeat> {
        let read = |(member, value)| Some((member, Heartbeat::decode(value, *self.heard.get(&member)?)?));
        self.gossip.get(HEARTBEAT).filter_map(read).collect()
    }

    fn values(&self, key: &str) -> Vec<(MemberId, GossipValue)> {
        self.gossip.get(key).map(|(member, value)| (member, value.clone())).collect()
    }

    /// The members are others, and we tell by which topology we go: at once, so that no check compares the new members
    /// with the old hash.
    ///
    /// A client reads no gossip: members do not know it.
    fn topology_changed(&mut self, myself: &ActorRef<GossipMessage>) -> Result<(), TopologyApplyError> {
        if self.node.role == Role::Client {
            return Ok(());
        }
        let me = self.node.me.id;
        let topology = Arc::clone(self.node.view.load().topology());
        let members = topology.members().iter().map(|member| member.id).filter(|id| *id != me).collect();
        // Of a topology in which only the blocked are others, all are agreed already.
        if self.told.replace(topology.hash()) != Some(topology.hash()) {
            self.unsettled.get_or_insert_with(|| self.node.clock.now());
        }
        self.feed(myself, Input::MembersChanged { members });
        let told = Input::Set { key: TOPOLOGY.into(), value: topology_value(topology.hash()) };
        let (refused, _) = self.feed(myself, told);
        self.look();
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    fn receive(&mut self, myself: &ActorRef<GossipMessage>, request: PeerRequest) {
        let metrics = &self.node.metrics;
        metrics.gossip_received_bytes.add(request.len() as u64);
        let decoded = request.decode::<GossipRequest>().ok().and_then(|delta| Delta::try_from(delta).ok());
        match decoded.filter(|_| request.is::<GossipRequest>()) {
            Some(delta) => {
                metrics.gossip_received_entries.add(delta.entries.len() as u64);
                let (id, from) = (self.node.request_id(), request.from);
                self.asked.insert(id, request);
                self.step(myself, Input::Requested { request: id, from, delta });
            }
            None => refuse_unknown(&self.node, request),
        }
    }

    fn write(&mut self, myself: &ActorRef<GossipMessage>, input: Input) -> Result<(), SetRefusal> {
        let (refusal, changed) = self.feed(myself, input);
        if changed {
            self.look();
        }
        refusal.map_or(Ok(()), Err)
    }

    fn step(&mut self, myself: &ActorRef<GossipMessage>, input: Input) {
        if self.feed(myself, input).1 {
            self.look();
        }
    }

    /// Feeds the machine. Says why our own value was refused, if it was one, and whether any value has changed.
    fn feed(&mut self, myself: &ActorRef<GossipMessage>, input: Input) -> (Option<SetRefusal>, bool) {
        let mut out = std::mem::take(&mut self.out);
        self.gossip.handle(self.node.clock.now(), input, &mut out);
        for effect in out.drain_effects() {
            self.perform(myself, effect);
        }
        let (mut refused, mut changed) = (None, false);
        for event in out.drain_events() {
            tracing::trace!(?event, "gossip");
            self.watchers.tell(&event);
            match event {
                Event::Updated { member, key, .. } => {
                    changed = true;
                    if key.as_str() == HEARTBEAT {
                        self.heard.insert(member, self.node.clock.now());
                    }
                }
                Event::Removed { .. } => changed = true,
                Event::Purged { member } => drop(self.heard.remove(&member)),
                Event::Refused { from, reason } => {
                    // Who is about to join, or has just left, is unknown to some for a moment.
                    let innocent = matches!(reason, Refusal::NotStarted | Refusal::UnknownSender);
                    self.refused(from, &reason, innocent);
                }
                Event::ClaimRefused { from, reason, .. } => self.refused(from, &reason, false),
                Event::SetRefused { reason, .. } => refused = Some(reason),
            }
        }
        self.out = out;
        (refused, changed)
    }

    /// Counts what a peer should not have said, and says so now and then.
    fn refused(&mut self, from: MemberId, reason: &impl ToString, innocent: bool) {
        self.node.metrics.gossip_refused.add_one();
        let now = self.node.clock.now();
        let lately = self.reported.is_some_and(|at| now.since(at) < REPORT_INTERVAL);
        if !innocent && !lately {
            self.reported = Some(now);
            self.node.events.publish(ClusterEvent::GossipRefused { from, reason: reason.to_string() });
        }
    }

    /// Looks whether all agree now, on whatever is asked for.
    fn look(&mut self) {
        self.watchers.look(&self.gossip);
        match self.topology.look(&self.gossip) {
            Some(Change::Reached(values)) => {
                let Some(hash) = values.first().and_then(topology_hash) else { return };
                let now = self.node.clock.now();
                let after = now.since(self.unsettled.take().unwrap_or(now));
                self.node.metrics.topology_convergence.set(after);
                self.node.events.publish(ClusterEvent::TopologyConsensusReached { hash, after });
            }
            Some(Change::Lost) => {
                self.unsettled.get_or_insert_with(|| self.node.clock.now());
                self.node.events.publish(ClusterEvent::TopologyConsensusLost);
            }
            None => {}
        }
    }

    fn perform(&mut self, myself: &ActorRef<GossipMessage>, effect: Effect) {
        match effect {
            Effect::Send { to, delta } => {
                let (node, myself) = (Arc::clone(&self.node), myself.clone());
                tokio::spawn(async move {
                    let id = delta.id;
                    let input = match send(&node, to, delta).await {
                        Ok(ack) => Input::Answered { from: to, ack },
                        Err(error) => {
                            node.metrics.failed_sends.add_one();
                            node.metrics.gossip_failed_sends.add_one();
                            tracing::trace!(?to, %error, "gossip was not answered");
                            Input::Failed { to, delta: id }
                        }
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
                self.node.metrics.gossip_rounds.add_one();
                myself.send_after(after, move || GossipMessage::Timer(epoch));
            }
        }
    }
}

/// Why a delta has no acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum SendError {
    /// It left the topology since.
    #[error("the peer is no member any more")]
    Gone,
    #[error(transparent)]
    NotAnswered(#[from] ContactError),
}

async fn send(node: &Node, to: MemberId, delta: Delta) -> Result<DeltaAck, SendError> {
    let member = node.view.load().topology().member(to).cloned().ok_or(SendError::Gone)?;
    let deadline = Instant::now() + node.config.timing.gossip.request_timeout;
    node.metrics.gossip_sent_entries.add(delta.entries.len() as u64);
    let request = GossipRequest::from(delta);
    if node.metrics.is_on() {
        node.metrics.gossip_sent_bytes.add(request.encoded_len() as u64);
    }
    let asked = node.remoting.ask(&member, Lane::Control, SystemActor::Gossip, &request, deadline);
    let response: GossipResponse = asked.await?;
    Ok(DeltaAck::from(&response))
}

#[cfg(test)]
mod tests;
