use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill_core::placement::Rendezvous;
use gristmill_core::topology::Topology;
use gristmill_messages::remote::{Lane, not_delivered};
use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MemberId, MessageName, TopologyVersion};
use gristmill_transport::{
    Acceptor, Local, LocalPeer, MemoryNetwork, Network, Outcome, OutgoingRequest, Responder, TransportConfig,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::*;
use crate::ClusterContext;
use crate::grain::{GrainContext, HostedCall, Kind};
use crate::node::bench;

const ACTIVATION: ActivationId = ActivationId::new(NonZeroU64::new(7).unwrap());

static NODE: OnceLock<Arc<Node>> = OnceLock::new();
static FREE: AtomicBool = AtomicBool::new(false);

/// Made from a call, it looks whether somebody could change the table of doors.
struct Curious;

impl From<HostedCall> for Curious {
    fn from(_: HostedCall) -> Self {
        FREE.store(NODE.get().unwrap().doors.try_get_mut(&ACTIVATION).is_present(), Ordering::SeqCst);
        Self
    }
}

struct Hosted;

impl Actor for Hosted {
    type Msg = Curious;
    type State = ();
    type Arguments = Arc<GrainContext>;

    async fn pre_start(&self, _: ActorRef<Curious>, _: Arc<GrainContext>) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test]
async fn what_makes_a_hosted_actors_message_of_a_call_holds_up_nobody_else() {
    let (node, _told) = bench::node(Vec::new()).await;
    let kind = Kind::actor("hosted", || Hosted);
    let context = GrainContext {
        identity: Arc::new(ClusterIdentity::new("hosted", "a")),
        activation: ACTIVATION,
        epoch: ActivationEpoch { topology: TopologyVersion::new(1), sequence: 1 },
        cluster: ClusterContext::new(Arc::clone(&node)),
    };
    let door = kind.open(kind.settings(), context);
    node.doors.insert(ACTIVATION, Arc::clone(&door));
    assert!(NODE.set(Arc::clone(&node)).is_ok());
    let router = Router::default();
    router.connect(&node);
    let peer = Peer { member: MemberId::new(2), address: None, lane: Lane::Data, version: 1 };
    let request = IncomingRequest {
        target: Target::Activation(ACTIVATION),
        message: MessageName::from(String::from("test")),
        data: Default::default(),
        deadline: None,
        traceparent: None,
        responder: Responder::one_way(),
    };
    router.request(&peer, request);
    assert!(FREE.load(Ordering::SeqCst));
    door.stop();
}

// proves VA-1.4
#[tokio::test]
async fn who_is_blocked_speaks_to_the_member_list_alone_also_on_a_connection_from_before() {
    // Its actors drop what they get, and answer by that.
    let (node, _) = bench::node(Vec::new()).await;
    let router = Arc::new(Router::default());
    router.connect(&node);
    let network = MemoryNetwork::new();
    let listener = network.host("a").listen("a:1").await.unwrap();
    let local = |member| {
        let peer =
            LocalPeer { cluster: "test".into(), member, address: Some("x:1".into()), secret: Default::default() };
        Local::new(peer, TransportConfig::test()).unwrap()
    };
    let _acceptor = Acceptor::start(listener, local(node.me.id), Arc::clone(&router) as _, Arc::clone(&router) as _);
    let peer = MemberId::new(2);
    let host = network.host("x");
    let nobody = Arc::new(Router::default());
    let dialed = gristmill_transport::dial(&host, "a:1", Lane::Data, None, &local(peer), nobody).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_refused = async |target| {
        let message = MessageName::from(String::from("test"));
        let request = OutgoingRequest { target, message, data: Default::default(), traceparent: None };
        let outcome = dialed.call(request, deadline).await.unwrap();
        matches!(outcome, Outcome::NotDelivered { reason: not_delivered::Reason::Blocked, .. })
    };
    let targets = [
        Target::Activation(ACTIVATION),
        Target::System(SystemActor::Placement),
        Target::System(SystemActor::Delivery),
        Target::System(SystemActor::Gossip),
        Target::System(SystemActor::PidCache),
    ];
    for target in targets {
        assert!(!is_refused(target).await, "{target:?}");
    }
    let topology = Topology::new(TopologyVersion::new(1), vec![node.me.clone()], vec![peer]);
    node.view.store(Arc::new(Rendezvous::new(Arc::new(topology))));
    for target in targets {
        assert!(is_refused(target).await, "{target:?}");
    }
    assert!(!is_refused(Target::System(SystemActor::MemberList)).await);
}

// proves MG-3.2
#[tokio::test]
async fn who_is_blocked_is_told_why_and_until_when() {
    let (node, _) = bench::node(Vec::new()).await;
    let router = Router::default();
    router.connect(&node);
    let peer = Peer { member: MemberId::new(2), address: None, lane: Lane::Data, version: 1 };
    assert_eq!(router.admit(&peer), Ok(()));
    let until = node.clock.now() + Duration::from_secs(60);
    let block = Block { reason: "it did not answer probes".into(), until };
    node.blocks.store(Arc::new([(peer.member, block)].into()));
    let topology = Topology::new(TopologyVersion::new(1), vec![], vec![peer.member]);
    node.view.store(Arc::new(Rendezvous::new(Arc::new(topology))));
    let refusal = router.admit(&peer).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Blocked);
    assert!(refusal.detail.starts_with("it did not answer probes; for "), "{refusal}");
    assert!(refusal.detail.ends_with("s more"), "{refusal}");
}
