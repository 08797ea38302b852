use std::sync::Arc;

use gristmill_core::topology::{self, Aggregator, InvalidTopology, Topology};
use gristmill_core::{Address, Outbox};
use gristmill_messages::cluster::{ClusterTopology, TopologyRequest};
use gristmill_messages::remote::SystemActor;
use gristmill_messages::{MemberId, TopologyHash};
use gristmill_transport::Lane;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::context::MemberInfo;
use crate::error::{StartError, TopologyPart};
use crate::event::ClusterEvent;
use crate::member_list::publish::publish;
use crate::member_list::{Answered, MemberListMessage, NotFollowed};
use crate::node::Node;
use crate::remoting::{ContactError, refuse_unknown};
use crate::timer::deadline_in;

/// A client's member list: asks one member for the topology, always the same one for as long as that answers. Members
/// come to a topology one after the other; who asked them in turn would see what has changed change back. Until there
/// is one, and when it fails, others are asked in an order left to chance: addresses of the provider and known members
/// in turn, so that clients spread over the members.
pub(crate) struct FollowerActor;

pub(crate) struct FollowerState {
    node: Arc<Node>,
    topology: Aggregator,
    out: Outbox<topology::Effect, topology::Event>,
    addresses: Vec<Address>,
    /// Who has answered last.
    followed: Option<MemberId>,
    /// Questions without a usable answer since then.
    failures: usize,
    /// The hash of what came last, if that was no topology.
    invalid: Option<TopologyHash>,
    joined: Option<oneshot::Sender<Result<(), StartError>>>,
    give_up: Instant,
}

impl Actor for FollowerActor {
    type Msg = MemberListMessage;
    type State = FollowerState;
    type Arguments = Arc<Node>;

    async fn pre_start(
        &self,
        _: ActorRef<MemberListMessage>,
        node: Arc<Node>,
    ) -> Result<FollowerState, ActorProcessingErr> {
        Ok(FollowerState {
            topology: Aggregator::new(node.config.timing.topology.clone()),
            out: Outbox::new(),
            addresses: Vec::new(),
            followed: None,
            failures: 0,
            invalid: None,
            joined: None,
            give_up: deadline_in(node.config.timing.membership.join_timeout),
            node,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<MemberListMessage>,
        message: MemberListMessage,
        state: &mut FollowerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MemberListMessage::Start { seeds, joined, .. } => {
                state.addresses = seeds;
                state.joined = Some(joined);
                state.ask(&myself);
            }
            MemberListMessage::Discovered(addresses) => state.addresses = addresses,
            MemberListMessage::Followed(answer) => state.answered(&myself, answer),
            MemberListMessage::Window(epoch) => state.aggregate(&myself, topology::Input::Timer(epoch)),
            MemberListMessage::Members(reply) => {
                let view = state.node.view.load();
                let up = |member: &gristmill_core::Member| MemberInfo {
                    member: member.clone(),
                    status: gristmill_core::MemberStatus::Up,
                };
                drop(reply.send(view.topology().members().iter().map(up).collect()));
            }
            MemberListMessage::Depart(departed) => {
                state.aggregate(&myself, topology::Input::Stop);
                let _ = departed.send(());
            }
            MemberListMessage::FromPeer(request) => refuse_unknown(&state.node, request),
            MemberListMessage::Ask => state.ask(&myself),
            // A client suspects nobody.
            MemberListMessage::Explain(_, reply) => drop(reply.send(None)),
            // It has no record to change, and members look after each other.
            MemberListMessage::Leave
            | MemberListMessage::Membership(_)
            | MemberListMessage::Timer(_)
            | MemberListMessage::Judge(_)
            | MemberListMessage::Unblock(_)
            | MemberListMessage::Disconnected(_) => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<MemberListMessage>,
        _: SupervisionEvent,
        _: &mut FollowerState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl FollowerState {
    fn ask(&mut self, myself: &ActorRef<MemberListMessage>) {
        let (node, myself) = (Arc::clone(&self.node), myself.clone());
        let topology = Arc::clone(node.view.load().topology());
        // After a failure it is the turn of an address of the provider first, in case all known members are gone.
        let by_address = self.failures % 2 == 1 && !self.addresses.is_empty();
        let followed = self.followed.and_then(|member| topology.member(member));
        let member = followed.or_else(|| any_of(topology.members())).filter(|_| !by_address).cloned();
        let address = any_of(&self.addresses).cloned();
        let question = TopologyRequest { known_hash: topology.content_hash().get() };
        tokio::spawn(async move {
            let deadline = Instant::now() + node.config.timing.membership.join_retry_max;
            let list = SystemActor::MemberList;
            let asked = match (&member, &address) {
                (Some(member), _) => {
                    let asked = node.remoting.ask(member, Lane::Control, list, &question, deadline).await;
                    asked.map(|answer| (member.id, answer))
                }
                (None, Some(address)) => node.remoting.contact(address, &question, list, deadline).await,
                (None, None) => Err(ContactError::Unreachable("no address is known".into())),
            };
            let unanswered = |error: ContactError| NotFollowed::Unanswered(error.to_string());
            let answer = asked.map_err(unanswered).and_then(|(by, answer): (_, ClusterTopology)| {
                let stated = TopologyHash::new(answer.topology_hash);
                // Without members it says that nothing has changed.
                let changed = Some(answer).filter(|answer| !answer.members.is_empty());
                let invalid = |error: InvalidTopology| NotFollowed::Invalid { stated, reason: error.into() };
                Ok((by, changed.map(Topology::try_from).transpose().map_err(invalid)?))
            });
            drop(myself.cast(MemberListMessage::Followed(answer)));
        });
    }

    fn answered(&mut self, myself: &ActorRef<MemberListMessage>, answer: Answered) {
        if let Ok((by, _)) = answer {
            (self.followed, self.failures) = (Some(by), 0);
        }
        match answer {
            Ok((_, None)) => {}
            Ok((_, Some(topology))) => {
                self.invalid = None;
                let input = topology::Input::Changed {
                    active: topology.members().to_vec(),
                    dead: Vec::new(),
                    blocked: topology.blocked().to_vec(),
                };
                self.aggregate(myself, input);
                if let Some(joined) = self.joined.take() {
                    drop(joined.send(Ok(())));
                }
            }
            Err(error) => {
                let reason = error.to_string();
                self.followed = None;
                self.failures = self.failures.wrapping_add(1);
                if let NotFollowed::Invalid { stated, reason } = error
                    // Told once of each, however often and by however many it is sent.
                    && self.invalid.replace(stated) != Some(stated)
                {
                    let (hash, part) = (stated, TopologyPart::View);
                    self.node.events.publish(ClusterEvent::TopologyApplyFailed { hash, part, reason });
                }
                self.node.metrics.failed_sends.add_one();
                tracing::debug!(%reason, "no topology");
                if Instant::now() >= self.give_up
                    && let Some(joined) = self.joined.take()
                {
                    drop(joined.send(Err(StartError::NoMember(reason))));
                }
            }
        }
        let pause = self.node.config.timing.membership.gossip_interval;
        myself.send_after(pause, || MemberListMessage::Ask);
    }

    fn aggregate(&mut self, myself: &ActorRef<MemberListMessage>, input: topology::Input) {
        let mut out = std::mem::take(&mut self.out);
        self.topology.handle(self.node.clock.now(), input, &mut out);
        for topology::Effect::SetTimer { after, epoch } in out.drain_effects() {
            myself.send_after(after, move || MemberListMessage::Window(epoch));
        }
        for topology::Event::Updated(updated) in out.drain_events() {
            publish(&self.node, updated);
        }
        self.out = out;
    }
}

fn any_of<T>(all: &[T]) -> Option<&T> {
    (!all.is_empty()).then(|| rand::random_range(0..all.len())).and_then(|at| all.get(at))
}
