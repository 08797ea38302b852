use gristmill_core::Member;
use gristmill_core::gossip::{DeltaId, GossipEntry, Sequence, StateDigest};
use gristmill_core::placement::Rendezvous;
use gristmill_core::topology::Topology;
use gristmill_messages::{MessageName, TopologyVersion};
use gristmill_transport::{IncomingRequest, Local, LocalPeer, Peer, Responder, Target};
use tokio::sync::oneshot;

use super::*;
use crate::config::{ClusterConfig, Timing};
use crate::event::EventStream;
use crate::inbox::Inbox;
use crate::remoting::{Dialer, Remoting, Router};

const ME: MemberId = MemberId::new(1);
const PEER: MemberId = MemberId::new(2);
const STRANGER: MemberId = MemberId::new(9);

/// A node whose only part is its gossip, and a peer that nothing listens for.
struct Alone {
    node: Arc<Node>,
    gossip: Inbox<GossipMessage>,
    actor: ActorRef<GossipMessage>,
    events: EventStream,
}

impl Alone {
    async fn start() -> Self {
        let config = ClusterConfig::builder("gossip").timing(Timing::test()).build().unwrap();
        let me = Member::new(ME, "127.0.0.1:1", []);
        let local = LocalPeer {
            cluster: "gossip".into(),
            member: ME,
            address: Some(me.address.clone()),
            secret: Default::default(),
        };
        let local = Local::new(local, config.transport.clone()).unwrap();
        let dialer = Dialer { network: Arc::clone(&config.network), local, handler: Arc::new(Router::default()) };
        let members = vec![me.clone(), Member::new(PEER, "127.0.0.1:1", [])];
        let (events, stream) = (config.events.clone(), config.events());
        let node = Arc::new(Node::new(me, Role::Member, config, Remoting::new(dialer), events));
        let topology = Arc::new(Topology::new(TopologyVersion::default(), members, vec![]));
        node.view.store(Arc::new(Rendezvous::new(topology)));
        let (actor, _) = Actor::spawn(None, GossipActor, Arc::clone(&node)).await.unwrap();
        let gossip = Inbox::new(actor.clone());
        gossip.send(GossipMessage::Start);
        assert_eq!(gossip.ask(GossipMessage::TopologyChanged).await, Some(Ok(())));
        Self { node, gossip, actor, events: stream }
    }

    fn receive<M: prost::Name>(&self, from: MemberId, data: Vec<u8>) {
        let peer = Peer { member: from, address: Some("127.0.0.1:1".into()), lane: Lane::Control, version: 1 };
        let request = IncomingRequest {
            target: Target::System(SystemActor::Gossip),
            message: MessageName::of::<M>(),
            data: data.into(),
            deadline: None,
            traceparent: None,
            responder: Responder::one_way(),
        };
        assert!(self.gossip.pass_on(&peer, request));
    }

    fn hears(&self, connection: MemberId, from: MemberId, member: MemberId, sequence: u64) {
        let value = Some(GossipValue { type_name: "test.Text".into(), data: "x".into() });
        let entries = vec![GossipEntry { member, key: "n".into(), sequence: Sequence::new(sequence), value }];
        let (id, digest) = (DeltaId::new(1), StateDigest::default());
        let delta = Delta { from, id, digest, full_state_wanted: false, entries };
        self.receive::<GossipRequest>(connection, GossipRequest::from(delta).encode_to_vec());
    }

    async fn writers(&self) -> Vec<MemberId> {
        let read = |reply: oneshot::Sender<_>| GossipMessage::Read { key: "n".into(), reply };
        let values = self.gossip.ask(read).await.expect("the loop has ended");
        values.into_iter().map(|(member, _)| member).collect()
    }
}

// proves TG-2
#[tokio::test]
async fn neither_a_bad_peer_nor_a_bad_message_ends_the_loop() {
    let mut alone = Alone::start().await;
    alone.receive::<GossipRequest>(PEER, vec![0xff; 100]);
    alone.receive::<GossipResponse>(PEER, vec![]);
    alone.hears(STRANGER, STRANGER, STRANGER, 1);
    alone.hears(PEER, ME, ME, 1);
    alone.hears(PEER, PEER, ME, u64::MAX >> 1);
    alone.hears(PEER, PEER, ME, 7);
    assert_eq!(alone.writers().await, []);
    alone.hears(PEER, PEER, PEER, 1);
    assert_eq!(alone.writers().await, [PEER]);

    let read = alone.node.metrics.snapshot().unwrap();
    assert_eq!((read.malformed, read.gossip_refused, read.gossip_received_entries), (2, 4, 5));
    loop {
        if let ClusterEvent::GossipRefused { from, reason } = alone.events.next().await.unwrap() {
            assert_eq!(from, PEER, "a stranger may be about to join");
            assert!(reason.contains(&ME.to_string()), "the first of them: {reason}");
            break;
        }
    }
    alone.actor.stop(None);
}

// proves TG-1, TG-2 as far as failing sends go
#[tokio::test]
async fn sends_that_fail_are_counted_and_the_loop_goes_on() {
    let alone = Alone::start().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let counted = || alone.node.metrics.snapshot().unwrap();
    while counted().gossip_failed_sends < 3 {
        assert!(Instant::now() < deadline, "{:?}", counted());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let read = counted();
    assert!(read.gossip_rounds >= 3 && read.failed_sends >= 3, "{read:?}");
    assert!(read.gossip_sent_bytes > 0 && read.gossip_sent_entries >= 3, "the same entry again each time: {read:?}");
    alone.actor.stop(None);
}

// proves TG-1
#[tokio::test]
async fn who_sends_hears_why_it_failed() {
    let alone = Alone::start().await;
    let delta = |to: MemberId| {
        let (id, digest) = (DeltaId::new(1), StateDigest::default());
        (to, Delta { from: ME, id, digest, full_state_wanted: false, entries: vec![] })
    };
    let (to, gone) = delta(STRANGER);
    assert_eq!(send(&alone.node, to, gone).await, Err(SendError::Gone));
    let (to, refused) = delta(PEER);
    let error = send(&alone.node, to, refused).await.unwrap_err();
    assert!(matches!(error, SendError::NotAnswered(_)), "{error}");
    alone.actor.stop(None);
}

// proves TG-2 as far as its stop goes
#[tokio::test]
async fn a_stopped_loop_answers_nobody_and_can_be_started_anew() {
    let alone = Alone::start().await;
    alone.gossip.send(GossipMessage::Stop);
    alone.actor.wait(Some(Duration::from_secs(30))).await.unwrap();
    let read = |reply: oneshot::Sender<_>| GossipMessage::Read { key: "n".into(), reply };
    assert!(alone.gossip.ask(read).await.is_none());
    let again = Alone::start().await;
    again.hears(PEER, PEER, PEER, 1);
    assert_eq!(again.writers().await, [PEER]);
    again.actor.stop(None);
}

#[tokio::test]
async fn checks_and_subscriptions_that_nobody_holds_are_gone() {
    let gossip = Gossip::new(gristmill_core::gossip::Config::test(), ME, 1);
    let mut watchers = Watchers::default();
    let (id, _standing) = watchers.watch(vec!["a".into()], &gossip);
    let (first, second) = (watchers.subscribe("a".into()), watchers.subscribe("b".into()));
    assert_eq!(watchers.size(), (1, 2));
    watchers.unwatch(id);
    drop(first);
    let removed = Event::Removed { member: PEER, key: "a".into(), sequence: Sequence::new(1) };
    watchers.tell(&removed);
    assert_eq!(watchers.size(), (0, 1));
    drop(second);
    let _third = watchers.subscribe("c".into());
    assert_eq!(watchers.size(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_topology_that_is_handed_over_again_unsettles_nothing() {
    let mut alone = Alone::start().await;
    let one = |weight: u32| {
        let weight = weight.try_into().unwrap();
        let members = vec![Member { weight, ..alone.node.me.clone() }];
        Arc::new(Rendezvous::new(Arc::new(Topology::new(TopologyVersion::default(), members, vec![]))))
    };
    let changes = [one(1), one(1), one(2)];
    for view in changes {
        alone.node.view.store(view);
        assert_eq!(alone.gossip.ask(GossipMessage::TopologyChanged).await, Some(Ok(())));
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    let mut took = Vec::new();
    while took.len() < 2 {
        if let ClusterEvent::TopologyConsensusReached { after, .. } = alone.events.next().await.unwrap() {
            took.push(after);
        }
    }
    assert!(took.iter().all(|after| *after < Duration::from_secs(1)), "whoever is alone agrees at once: {took:?}");
    alone.actor.stop(None);
}
