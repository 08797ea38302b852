use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill_messages::remote::Lane;
use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MemberId, MessageName, TopologyVersion};
use gristmill_transport::Responder;
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
