//! A client, and the topologies that members send it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill::{
    ClusterActor, ClusterConfig, ClusterEvent, InvalidTopology, Member, MemberId, MemoryNetwork, Network, Secret,
    Shutdown, Timing, Topology, TopologyApplyError, TopologyPart, TransportConfig,
};
use gristmill_messages::cluster::{ClusterTopology, TopologyRequest};
use gristmill_messages::{MessageName, TopologyHash, TopologyVersion};
use gristmill_transport::{Acceptor, AdmitAll, Handler, IncomingRequest, Local, LocalPeer, Outcome, Peer};
use prost::Message as _;

const MEMBER: MemberId = MemberId::new(5);
const ADDRESS: &str = "member:1";

/// A member that answers the first question for the topology with one whose hash is wrong, then with the right one.
struct Mistaken {
    topology: Topology,
    asked: AtomicUsize,
}

impl Handler for Mistaken {
    fn request(&self, _: &Peer, request: IncomingRequest) {
        assert!(request.message.is::<TopologyRequest>(), "{}", request.message);
        let mut answer = ClusterTopology::from(&self.topology);
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.topology_hash ^= 1;
        }
        let data = answer.encode_to_vec().into();
        request.responder.respond(Outcome::Response { message: MessageName::of::<ClusterTopology>(), data });
    }
}

// proves MG-4.2
#[tokio::test]
async fn a_client_says_that_a_topology_cannot_be_applied_and_goes_by_the_next_one() {
    let network = MemoryNetwork::new();
    let topology = Topology::new(TopologyVersion::new(1), vec![Member::new(MEMBER, ADDRESS, [])], vec![]);
    let (computed, secret) = (topology.hash(), Secret::default());
    let stated = TopologyHash::new(computed.get() ^ 1);
    let peer = LocalPeer { cluster: "test".into(), member: MEMBER, address: Some(ADDRESS.into()), secret };
    let local = Local::new(peer, TransportConfig::test()).unwrap();
    let member = Arc::new(Mistaken { topology, asked: AtomicUsize::new(0) });
    let listener = network.host("member").listen(ADDRESS).await.unwrap();
    let _acceptor = Acceptor::start(listener, local, Arc::new(AdmitAll), member);

    let config = ClusterConfig::builder("test")
        .network(Arc::new(network.host("client")))
        .seeds([ADDRESS])
        .timing(Timing::test())
        .transport(TransportConfig::test())
        .build()
        .unwrap();
    let mut events = config.events();
    let (client, context) = ClusterActor::start_client(config).await.unwrap();
    let mut told = Vec::new();
    loop {
        match events.next().await.unwrap() {
            ClusterEvent::TopologyApplyFailed { hash, part, reason } => told.push((hash, part, reason)),
            ClusterEvent::TopologyUpdated(updated) => {
                assert_eq!(updated.topology.hash(), computed);
                break;
            }
            _ => {}
        }
    }
    let reason = TopologyApplyError::Invalid(InvalidTopology::HashMismatch { stated, computed });
    assert_eq!(told, [(stated, TopologyPart::View, reason)]);
    assert_eq!(context.topology().members().len(), 1);
    client.shutdown(Shutdown::immediate()).await.unwrap();
}
