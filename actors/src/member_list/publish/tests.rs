use std::num::NonZeroU64;

use gristmill_core::gossip::{SetRefusal, TOPOLOGY};
use gristmill_core::topology::Topology;
use gristmill_core::{Member, Timestamp};
use gristmill_messages::cluster::ClusterTopology;
use gristmill_messages::{ActivationId, ClusterIdentity, MemberId, TopologyVersion};
use gristmill_transport::{Local, LocalPeer};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::*;
use crate::cluster::ClusterMessage;
use crate::config::{ClusterConfig, Timing};
use crate::delivery::DeliveryActor;
use crate::event::EventStream;
use crate::gossip::GossipActor;
use crate::inbox::Inbox;
use crate::member_list::MemberListMessage;
use crate::node;
use crate::pid_cache::{Pid, PidCacheActor};
use crate::placement::Directory;
use crate::remoting::{Dialer, Remoting, Router};

const ME: MemberId = MemberId::new(1);

/// Stands for a part that is not looked at.
struct Stub<M>(std::marker::PhantomData<fn() -> M>);

impl<M: ractor::Message> Actor for Stub<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A placement that takes each topology when it is let, and tells which.
struct Hesitant;

impl Actor for Hesitant {
    type Msg = PlacementMessage;
    type State = (mpsc::UnboundedReceiver<()>, mpsc::UnboundedSender<TopologyHash>);
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _: ActorRef<PlacementMessage>,
        state: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<PlacementMessage>,
        message: PlacementMessage,
        (let_on, taken): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PlacementMessage::TopologyChanged(view) => {
                let_on.recv().await.ok_or("the test is over")?;
                taken.send(view.topology().hash())?;
            }
            PlacementMessage::Count(reply) => drop(reply.send(Default::default())),
            _ => {}
        }
        Ok(())
    }
}

/// A node whose parts are its own, but for the placement and those that topologies are not handed to.
struct Lab {
    node: Arc<Node>,
    events: EventStream,
    let_on: mpsc::UnboundedSender<()>,
    taken: mpsc::UnboundedReceiver<TopologyHash>,
    pid_cache: ActorRef<PidCacheMessage>,
}

async fn stub<M: ractor::Message>() -> ActorRef<M> {
    Actor::spawn(None, Stub(std::marker::PhantomData), ()).await.unwrap().0
}

impl Lab {
    async fn start() -> Self {
        let config = ClusterConfig::builder("publish").timing(Timing::test()).build().unwrap();
        let me = Member::new(ME, "127.0.0.1:1", []);
        let address = Some(me.address.clone());
        let local = LocalPeer { cluster: "publish".into(), member: ME, address, secret: Default::default() };
        let local = Local::new(local, config.transport.clone()).unwrap();
        let dialer = Dialer { network: Arc::clone(&config.network), local, handler: Arc::new(Router::default()) };
        let (events, stream) = (config.events.clone(), config.events());
        let node = Arc::new(Node::new(me, Role::Member, config, Remoting::new(dialer), events));
        let (let_on, letting) = mpsc::unbounded_channel();
        let (taking, taken) = mpsc::unbounded_channel();
        let (placement, _) = Actor::spawn(None, Hesitant, (letting, taking)).await.unwrap();
        let (gossip, _) = Actor::spawn(None, GossipActor, Arc::clone(&node)).await.unwrap();
        let (pid_cache, _) = Actor::spawn(None, PidCacheActor, Arc::clone(&node)).await.unwrap();
        let (delivery, _) = Actor::spawn(None, DeliveryActor, Arc::clone(&node)).await.unwrap();
        node.connect(node::Parts {
            root: stub::<ClusterMessage>().await,
            member_list: Inbox::new(stub::<MemberListMessage>().await),
            gossip: Inbox::new(gossip),
            placement: Inbox::new(placement),
            directory: Arc::new(Directory::new(&node, Vec::new())),
            pid_cache: Inbox::new(pid_cache.clone()),
            delivery: Inbox::new(delivery),
        });
        Self { node, events: stream, let_on, taken, pid_cache }
    }

    /// Publishes a topology of this node and some others.
    fn publish(&self, version: u64, others: u128) -> TopologyHash {
        self.publish_with(version, others, vec![])
    }

    /// The same, less those that are blocked.
    fn publish_with(&self, version: u64, others: u128, blocked: Vec<MemberId>) -> TopologyHash {
        let other = |id| Member::new(MemberId::new(id), "127.0.0.1:1", []);
        let members = (2..2 + others).map(other).chain([self.node.me.clone()]).collect();
        let topology = Arc::new(Topology::new(TopologyVersion::new(version), members, blocked.clone()));
        let hash = topology.hash();
        let (joined, left, dead) = (vec![], vec![], vec![]);
        publish(&self.node, TopologyUpdated { topology, joined, left, dead, blocked, observed_at: Timestamp::ZERO });
        hash
    }

    /// What is told of topologies until all parts have answered, or are late.
    async fn told(&mut self) -> Vec<ClusterEvent> {
        tokio::time::sleep(APPLIED_WITHIN * 2).await;
        self.node.events.publish(ClusterEvent::Isolated);
        let mut told = Vec::new();
        loop {
            match self.events.next().await.unwrap() {
                ClusterEvent::Isolated => return told,
                event @ ClusterEvent::TopologyApplyFailed { .. } => told.push(event),
                _ => {}
            }
        }
    }

    fn gossip(&self) -> &Inbox<GossipMessage> {
        &self.node.parts().unwrap().gossip
    }

    /// The topology that gossip tells of this node to go by.
    async fn gossiped(&self) -> Option<TopologyHash> {
        let values = self.gossip().ask(|reply| GossipMessage::Read { key: TOPOLOGY.into(), reply }).await.unwrap();
        let (_, value) = values.into_iter().find(|(member, _)| *member == ME)?;
        Some(TopologyHash::new(value.decode::<ClusterTopology>().unwrap().unwrap().topology_hash))
    }
}

fn failed(hash: TopologyHash, part: TopologyPart, reason: TopologyApplyError) -> ClusterEvent {
    ClusterEvent::TopologyApplyFailed { hash, part, reason }
}

// proves MG-4.2
#[tokio::test(start_paused = true)]
async fn a_part_that_does_not_come_to_a_topology_is_told_and_goes_by_the_next_one() {
    let mut lab = Lab::start().await;
    lab.gossip().send(GossipMessage::Start);
    let first = lab.publish(1, 1);
    let late = TopologyApplyError::Late { after: APPLIED_WITHIN };
    assert_eq!(lab.told().await, [failed(first, TopologyPart::Placement, late)]);
    let second = lab.publish(2, 2);
    lab.let_on.send(()).unwrap();
    lab.let_on.send(()).unwrap();
    assert_eq!(lab.told().await, []);
    assert_eq!((lab.taken.recv().await, lab.taken.recv().await), (Some(first), Some(second)));
}

// proves MG-4.2
#[tokio::test(start_paused = true)]
async fn a_part_that_refuses_a_topology_is_told_and_goes_by_the_next_one() {
    let mut lab = Lab::start().await;
    (0..2).for_each(|_| lab.let_on.send(()).unwrap());
    let first = lab.publish(1, 1);
    let refused = TopologyApplyError::Refused(SetRefusal::NotStarted);
    assert_eq!(lab.told().await, [failed(first, TopologyPart::Gossip, refused)]);
    assert_eq!(lab.gossiped().await, None);
    lab.gossip().send(GossipMessage::Start);
    let second = lab.publish(2, 2);
    assert_eq!(lab.told().await, []);
    assert_eq!(lab.gossiped().await, Some(second));
}

// proves MG-4.2
#[tokio::test(start_paused = true)]
async fn a_part_that_has_ended_is_told_unless_the_node_is_stopping() {
    let mut lab = Lab::start().await;
    lab.gossip().send(GossipMessage::Start);
    (0..2).for_each(|_| lab.let_on.send(()).unwrap());
    lab.pid_cache.stop_and_wait(None, None).await.unwrap();
    let hash = lab.publish(1, 1);
    assert_eq!(lab.told().await, [failed(hash, TopologyPart::PidCache, TopologyApplyError::Ended)]);
    lab.node.stops();
    lab.publish(2, 2);
    assert_eq!(lab.told().await, []);
}

// proves VA-1.4
#[tokio::test]
async fn who_hears_of_a_block_finds_no_way_to_the_blocked_member_and_nothing_of_it_in_the_cache() {
    let mut lab = Lab::start().await;
    let node = Arc::clone(&lab.node);
    let (blocked, other) = (MemberId::new(3), MemberId::new(2));
    lab.publish(1, 2);
    let [kept, _] = [blocked, other].map(|member| node.remoting.endpoint(member, &"127.0.0.1:1".into()));
    let identity = Arc::new(ClusterIdentity::new("test", "a"));
    let activation = ActivationId::new(NonZeroU64::MIN);
    node.pids.insert(Arc::clone(&identity), Pid::Remote { activation, endpoint: Arc::clone(&kept) });
    lab.publish_with(2, 2, vec![blocked]);
    let mut cleared = false;
    loop {
        match lab.events.next().await.unwrap() {
            ClusterEvent::PidCacheCleared { member, entries: 1 } => cleared = member == blocked,
            ClusterEvent::BlockListApplied { entries, blocked: list } => {
                assert_eq!((entries, list, cleared), (1, vec![blocked], true));
                break;
            }
            _ => {}
        }
    }
    assert!(node.remoting.known(blocked).is_none() && node.remoting.known(other).is_some());
    assert!(node.pids.get(identity.stable_hash(), &identity).is_none());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let refused = kept.connection(gristmill_transport::Lane::Data, deadline).await.unwrap_err();
    assert!(refused.to_string().contains("forgotten"), "who has kept it dials no more: {refused}");
}
