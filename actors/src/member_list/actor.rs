use std::collections::HashMap;
use std::sync::Arc;

use fnv::FnvBuildHasher;
use gristmill_core::downing::{self, Downing};
use gristmill_core::membership::{
    ContactFailure, Effect, Event, Input, JoinAnswer, Membership, Message, Phase, Record, WireMessage,
};
use gristmill_core::topology::{self, Aggregator, Roster};
use gristmill_core::{Address, MemberStatus, Outbox, RequestId};
use gristmill_messages::cluster::TopologyRequest;
use gristmill_messages::membership as wire;
use gristmill_messages::remote::SystemActor;
use gristmill_messages::{MemberId, cluster};
use gristmill_transport::Lane;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::context::MemberInfo;
use crate::error::StartError;
use crate::event::ClusterEvent;
use crate::inbox::PeerRequest;
use crate::member_list::MemberListMessage;
use crate::member_list::lag::LagWatch;
use crate::member_list::publish::publish;
use crate::node::Node;
use crate::remoting::{ContactError, NoConnection, refuse_unknown};
use crate::timer::Timer;

/// Owns the membership table of a member and publishes its topology.
pub(crate) struct MemberListActor;

pub(crate) struct MemberListState {
    pub(super) node: Arc<Node>,
    pub(super) membership: Membership,
    out: Outbox<Effect, Event>,
    pub(super) downing: Downing,
    pub(super) downing_timer: Timer,
    pub(super) roster: Roster,
    pub(super) roster_timer: Timer,
    topology: Aggregator,
    topology_out: Outbox<topology::Effect, topology::Event>,
    joins: HashMap<RequestId, PeerRequest, FnvBuildHasher>,
    joined: Option<oneshot::Sender<Result<(), StartError>>>,
    departed: Option<oneshot::Sender<()>>,
    timer: Timer,
    _lag: LagWatch,
}

impl Actor for MemberListActor {
    type Msg = MemberListMessage;
    type State = MemberListState;
    type Arguments = Arc<Node>;

    async fn pre_start(
        &self,
        myself: ActorRef<MemberListMessage>,
        node: Arc<Node>,
    ) -> Result<MemberListState, ActorProcessingErr> {
        let timing = &node.config.timing;
        Ok(MemberListState {
            membership: Membership::new(timing.membership.clone(), node.me.clone(), rand::random()),
            out: Outbox::new(),
            downing: Downing::new(node.config.downing.clone(), timing.membership.clone(), node.me.id),
            downing_timer: Timer::default(),
            roster: Roster::new(timing.membership.clone()),
            roster_timer: Timer::default(),
            topology: Aggregator::new(timing.topology.clone()),
            topology_out: Outbox::new(),
            joins: HashMap::default(),
            joined: None,
            departed: None,
            timer: Timer::default(),
            _lag: LagWatch::start(myself, timing.membership.probe_timeout / 2),
            node,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<MemberListMessage>,
        message: MemberListMessage,
        state: &mut MemberListState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MemberListMessage::Start { seeds, cut_off, joined } => {
                state.joined = Some(joined);
                let input = match cut_off {
                    None => Input::Start { seeds },
                    Some((was, settled)) => {
                        let enough = state.node.config.downing.enough_to_form(settled.len());
                        Input::Return { through: seeds, was, settled, enough }
                    }
                };
                state.step(&myself, input);
            }
            MemberListMessage::Discovered(addresses) => state.step(&myself, Input::Discovered { addresses }),
            MemberListMessage::Membership(input) => {
                if let Input::Refused { member } = input {
                    state.judge(&myself, downing::Input::Refused { member });
                }
                state.step(&myself, input);
            }
            MemberListMessage::Window(epoch) => state.aggregate(&myself, topology::Input::Timer(epoch)),
            MemberListMessage::Timer(epoch) => state.step(&myself, Input::Timer(epoch)),
            MemberListMessage::Judge(epoch) => state.judge(&myself, downing::Input::Timer(epoch)),
            MemberListMessage::Unblock(epoch) => {
                if state.roster.fired(epoch) {
                    state.refresh(&myself);
                }
            }
            MemberListMessage::FromPeer(request) => state.receive(&myself, request),
            MemberListMessage::Disconnected(peer) => state.reconnect(&myself, peer),
            MemberListMessage::Explain(member, reply) => {
                drop(reply.send(state.membership.explain(member).cloned()));
            }
            MemberListMessage::Members(reply) => {
                let info = |record: &Record| MemberInfo { member: record.member().clone(), status: record.status() };
                drop(reply.send(state.membership.records().map(info).collect()));
            }
            MemberListMessage::Leave => state.step(&myself, Input::Leave),
            MemberListMessage::Depart(departed) => {
                state.departed = Some(departed);
                state.aggregate(&myself, topology::Input::Stop);
                state.step(&myself, Input::Drained);
            }
            // Only a client follows.
            MemberListMessage::Ask | MemberListMessage::Followed(_) => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<MemberListMessage>,
        _: SupervisionEvent,
        _: &mut MemberListState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl MemberListState {
    fn receive(&mut self, myself: &ActorRef<MemberListMessage>, request: PeerRequest) {
        if request.is::<TopologyRequest>() {
            return self.answer_topology(request);
        }
        if request.is_client {
            return refuse_unknown(&self.node, request);
        }
        if request.is::<wire::JoinRequest>() {
            let joiner = request.decode::<wire::JoinRequest>().ok().and_then(|join| Record::try_from(join).ok());
            // A node joins for itself.
            match joiner.filter(|joiner| joiner.id() == request.from) {
                Some(joiner) => {
                    let id = self.node.request_id();
                    self.joins.insert(id, request);
                    self.step(myself, Input::JoinRequested { request: id, joiner });
                }
                None => refuse_unknown(&self.node, request),
            }
            return;
        }
        match decode(&request) {
            Some(message) => {
                if let Some(heard) = downing::hear(&self.membership, request.from, &message) {
                    self.judge(myself, heard);
                }
                self.step(myself, Input::Received { from: request.from, message });
            }
            None => refuse_unknown(&self.node, request),
        }
    }

    /// A client's question: the topology, or, when it has that already, one without members.
    fn answer_topology(&self, request: PeerRequest) {
        let topology = Arc::clone(self.node.view.load().topology());
        match request.decode::<TopologyRequest>() {
            Ok(question) if question.known_hash == topology.content_hash().get() => {
                let unchanged = cluster::ClusterTopology { topology_hash: question.known_hash, ..Default::default() };
                request.answer(&unchanged);
            }
            Ok(_) => request.answer(&cluster::ClusterTopology::from(&*topology)),
            Err(_) => refuse_unknown(&self.node, request),
        }
    }

    pub(super) fn step(&mut self, myself: &ActorRef<MemberListMessage>, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.membership.handle(self.node.clock.now(), input, &mut out);
        for effect in out.drain_effects() {
            self.perform(myself, effect);
        }
        let mut changed = false;
        for event in out.drain_events() {
            changed |= self.happened(event);
        }
        self.out = out;
        if changed {
            self.count_members();
        }
        self.count();
        // Before it has joined, a node knows nothing that others should go by.
        if changed && self.membership.phase() > Phase::Joining {
            if self.membership.phase() == Phase::Up {
                self.judge(myself, downing::Input::Observed(downing::observe(&self.membership)));
            }
            self.refresh(myself);
            // Only now, so that who has joined finds itself in the topology.
            if let Some(joined) = self.joined.take() {
                let _ = joined.send(Ok(()));
            }
        }
    }

    /// A connection that was lost says nothing; whether the next one is refused does. So it is tried at once.
    fn reconnect(&self, myself: &ActorRef<MemberListMessage>, peer: MemberId) {
        let lives = |status| !matches!(status, MemberStatus::Dead | MemberStatus::Removed);
        let endpoint = self.node.remoting.known(peer).filter(|_| self.membership.status(peer).is_some_and(lives));
        let Some(endpoint) = endpoint else { return };
        let deadline = Instant::now() + self.node.config.timing.membership.probe_interval;
        let myself = myself.clone();
        tokio::spawn(async move {
            if let Err(error) = endpoint.connection(Lane::Control, deadline).await {
                drop(myself.cast(MemberListMessage::Membership(failure(peer, &error))));
            }
        });
    }

    /// Makes readable how many members are in each state, in one pass.
    fn count_members(&self) {
        let metrics = &self.node.metrics;
        let states = [
            (MemberStatus::Joining, &metrics.joining_members),
            (MemberStatus::Up, &metrics.up_members),
            (MemberStatus::Suspect, &metrics.suspects),
            (MemberStatus::Leaving, &metrics.leaving_members),
            (MemberStatus::Dead, &metrics.dead_members),
        ];
        let mut counts = states.map(|_| 0);
        for record in self.membership.records() {
            for (count, (state, _)) in counts.iter_mut().zip(&states) {
                *count += u64::from(record.status() == *state);
            }
        }
        for (count, (_, gauge)) in counts.into_iter().zip(states) {
            gauge.set(count);
        }
    }

    /// Makes readable what the membership has counted.
    fn count(&self) {
        let (stats, metrics) = (self.membership.stats(), &self.node.metrics);
        metrics.probes.set(stats.probes);
        metrics.failed_probes.set(stats.failed);
        metrics.accusations.set(stats.accusations);
        metrics.refuted_suspicions.set(stats.refuted);
        metrics.table_comparisons.set(stats.comparisons);
        metrics.local_health.set(stats.health.into());
        metrics.probe_round_trip.set(stats.round_trip.unwrap_or_default());
    }

    fn perform(&mut self, myself: &ActorRef<MemberListMessage>, effect: Effect) {
        match effect {
            Effect::Join { address, joiner } => {
                let (node, myself) = (Arc::clone(&self.node), myself.clone());
                tokio::spawn(async move {
                    let input = join(&node, address, &joiner).await;
                    drop(myself.cast(MemberListMessage::Membership(input)));
                });
            }
            Effect::AnswerJoin { request, answer } => {
                if let Some(request) = self.joins.remove(&request) {
                    request.answer(&wire::JoinResponse::from(&answer));
                }
            }
            Effect::Send { to, address, message } => {
                let (node, myself) = (Arc::clone(&self.node), myself.clone());
                tokio::spawn(async move {
                    if let Err(error) = send(&node, to, &address, &message).await {
                        node.metrics.failed_sends.add_one();
                        if node.view.load().topology().is_blocked(to) {
                            // It cannot be told that it is dead: it is told when it connects again.
                            node.remoting.hang_up(to, "it is blocked");
                        }
                        drop(myself.cast(MemberListMessage::Membership(failure(to, &error))));
                    }
                });
            }
            Effect::SetTimer { epoch, after } => {
                self.timer.set(myself, after, move || MemberListMessage::Timer(epoch));
            }
        }
    }

    /// Tells the world; says whether the topology may be another one now.
    fn happened(&mut self, event: Event) -> bool {
        let node = &self.node;
        match event {
            Event::Joined => true,
            Event::JoinFailed(error) => {
                if let Some(joined) = self.joined.take() {
                    drop(joined.send(Err(StartError::Join(error))));
                }
                false
            }
            Event::StatusChanged { member, from, to, observed_at } => {
                match to {
                    MemberStatus::Dead => node.remoting.forget(member.id, "it was declared dead"),
                    MemberStatus::Removed => forget_later(node, member.id),
                    MemberStatus::Joining | MemberStatus::Up | MemberStatus::Leaving | MemberStatus::Suspect => {}
                }
                node.events.publish(ClusterEvent::MemberStatusChanged { member, from, to, observed_at });
                true
            }
            Event::Quarantined { member, reason, observed_at, .. } => {
                node.events.publish(ClusterEvent::MemberQuarantined { member, reason, observed_at });
                true
            }
            Event::QuarantineEnded { .. } => true,
            Event::VerdictWithdrawn { member, .. } => {
                node.events.publish(ClusterEvent::VerdictWithdrawn { member });
                true
            }
            Event::Suspected { member, by, evidence, .. } => {
                node.events.publish(ClusterEvent::MemberSuspected { member, by, evidence });
                false
            }
            Event::EvictionsHalted { suspects, .. } => {
                node.events.publish(ClusterEvent::EvictionsHalted { suspects });
                false
            }
            Event::EvictionsResumed { suspects, .. } => {
                node.events.publish(ClusterEvent::EvictionsResumed { suspects });
                false
            }
            Event::Isolated { .. } => {
                node.events.publish(ClusterEvent::Isolated);
                false
            }
            Event::IsolationEnded { .. } => {
                node.events.publish(ClusterEvent::IsolationEnded);
                false
            }
            Event::SuspicionRefuted { member, .. } => {
                node.events.publish(ClusterEvent::SuspicionRefuted { member });
                false
            }
            Event::TransitionRefused { member, from, to, reason } => {
                node.events.publish(ClusterEvent::TransitionRefused { member, from, to, reason });
                false
            }
            Event::Evicted { .. } => {
                node.events.publish(ClusterEvent::Evicted);
                self.fence();
                false
            }
            Event::Left => {
                if let Some(departed) = self.departed.take() {
                    let _ = departed.send(());
                }
                false
            }
            Event::SenderUnknown { member } => {
                tracing::debug!(?member, "a message from somebody who is no member");
                false
            }
            Event::NotStarted { input } => {
                tracing::debug!(input, "refused: the membership is not running");
                false
            }
            Event::AlreadyStarted => false,
        }
    }

    pub(super) fn aggregate(&mut self, myself: &ActorRef<MemberListMessage>, input: topology::Input) {
        let mut out = std::mem::take(&mut self.topology_out);
        self.topology.handle(self.node.clock.now(), input, &mut out);
        for topology::Effect::SetTimer { after, epoch } in out.drain_effects() {
            myself.send_after(after, move || MemberListMessage::Window(epoch));
        }
        for topology::Event::Updated(updated) in out.drain_events() {
            publish(&self.node, updated);
        }
        self.topology_out = out;
    }
}

/// Forgets a member that has left, once it has had the time to close its connections by itself: its last answers may
/// be behind the news that it has gone, which came on another lane.
fn forget_later(node: &Arc<Node>, member: MemberId) {
    let (after, node) = (node.config.timing.membership.leave_linger, Arc::downgrade(node));
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        if let Some(node) = node.upgrade() {
            node.remoting.forget(member, "it has left");
        }
    });
}

async fn join(node: &Node, address: Address, joiner: &Record) -> Input {
    let request = wire::JoinRequest::from(joiner);
    let deadline = Instant::now() + node.config.timing.membership.join_retry_max;
    let asked = node.remoting.contact::<_, wire::JoinResponse>(&address, &request, SystemActor::MemberList, deadline);
    let failure = match asked.await {
        Ok((_, response)) => match JoinAnswer::try_from(response) {
            Ok(answer) => return Input::JoinAnswered { address, answer },
            Err(error) => ContactFailure::Unreachable(error.to_string()),
        },
        Err(ContactError::Refused(reason)) => ContactFailure::Refused(reason),
        Err(ContactError::Unreachable(reason)) => ContactFailure::Unreachable(reason),
    };
    Input::JoinFailed { address, failure }
}

/// What a failed send or dial is to the membership.
fn failure(member: MemberId, error: &NoConnection) -> Input {
    match error {
        NoConnection::NobodyListens(_) => Input::Refused { member },
        NoConnection::Superseded(by) => Input::Superseded { old: member, by: *by },
        NoConnection::Blocked(_) => Input::Blocked { by: member },
        NoConnection::Unreachable(_) | NoConnection::Refused(_) => Input::Unreachable { member },
    }
}

async fn send(node: &Node, to: MemberId, address: &Address, message: &Message) -> Result<(), NoConnection> {
    let endpoint = node.remoting.endpoint(to, address);
    let deadline = Instant::now() + node.config.timing.membership.probe_interval;
    let (remoting, list) = (&node.remoting, SystemActor::MemberList);
    match WireMessage::from(message) {
        WireMessage::Ping(ping) => remoting.tell(&endpoint, Lane::Control, list, &ping, deadline).await,
        WireMessage::PingAck(ack) => remoting.tell(&endpoint, Lane::Control, list, &ack, deadline).await,
        WireMessage::PingRequest(request) => remoting.tell(&endpoint, Lane::Control, list, &request, deadline).await,
        WireMessage::PingReport(report) => remoting.tell(&endpoint, Lane::Control, list, &report, deadline).await,
        WireMessage::Gossip(gossip) => remoting.tell(&endpoint, Lane::Control, list, &gossip, deadline).await,
        WireMessage::Compare(compare) => remoting.tell(&endpoint, Lane::Control, list, &compare, deadline).await,
        WireMessage::Sync(sync) => remoting.tell(&endpoint, Lane::Control, list, &sync, deadline).await,
    }
}

/// The message, if it is one of the membership's and makes sense.
fn decode(request: &PeerRequest) -> Option<Message> {
    if request.is::<wire::Ping>() {
        Message::try_from(request.decode::<wire::Ping>().ok()?).ok()
    } else if request.is::<wire::PingAck>() {
        Message::try_from(request.decode::<wire::PingAck>().ok()?).ok()
    } else if request.is::<wire::PingRequest>() {
        Message::try_from(request.decode::<wire::PingRequest>().ok()?).ok()
    } else if request.is::<wire::PingReport>() {
        Message::try_from(request.decode::<wire::PingReport>().ok()?).ok()
    } else if request.is::<wire::MembershipGossip>() {
        Message::try_from(request.decode::<wire::MembershipGossip>().ok()?).ok()
    } else if request.is::<wire::MembershipCompare>() {
        Message::try_from(request.decode::<wire::MembershipCompare>().ok()?).ok()
    } else if request.is::<wire::MembershipSync>() {
        Message::try_from(request.decode::<wire::MembershipSync>().ok()?).ok()
    } else {
        None
    }
}
