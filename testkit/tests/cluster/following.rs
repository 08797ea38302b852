//! A client, and the topologies that members send it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gristmill::{
    ClusterActor, ClusterConfig, ClusterEvent, InvalidTopology, Member, MemberId, MemoryNetwork, Network, Secret,
    Shutdown, Timing, Topology, TopologyApplyError, TopologyPart, TransportConfig,
};
use gristmill_messages::cluster::{ClusterTopology, TopologyRequest};
use gristmill_messages::{MessageName, TopologyHash, TopologyVersion};
use gristmill_testkit::TestCluster;
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

/// A member that answers with its topology, unless that is known.
struct Honest {
    topology: Mutex<Topology>,
    asked: AtomicUsize,
}

impl Handler for Honest {
    fn request(&self, _: &Peer, request: IncomingRequest) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let question = TopologyRequest::decode(request.data).unwrap();
        let topology = self.topology.lock().unwrap();
        let answer = if question.known_hash == topology.content_hash().get() {
            ClusterTopology { topology_hash: question.known_hash, ..Default::default() }
        } else {
            ClusterTopology::from(&*topology)
        };
        let data = answer.encode_to_vec().into();
        request.responder.respond(Outcome::Response { message: MessageName::of::<ClusterTopology>(), data });
    }
}

// proves VA-1.4
#[tokio::test]
async fn a_client_gives_nothing_back_to_a_blocked_member_of_which_another_has_not_heard_yet() {
    let network = MemoryNetwork::new();
    let [a, b, x] = [1, 2, 3].map(|id| Member::new(MemberId::new(id), format!("m{id}:1"), []));
    let topology = |members: &[&Member], blocked: &[&Member]| {
        let members = members.iter().copied().cloned().collect();
        Mutex::new(Topology::new(TopologyVersion::new(1), members, blocked.iter().map(|member| member.id).collect()))
    };
    let late = Arc::new(Honest { topology: topology(&[&a, &b, &x], &[]), asked: AtomicUsize::new(0) });
    let early = Arc::new(Honest { topology: topology(&[&a, &b], &[&x]), asked: AtomicUsize::new(0) });
    let mut acceptors = Vec::new();
    for (member, handler) in [(&a, &late), (&b, &early)] {
        let address = Some(member.address.clone());
        let peer = LocalPeer { cluster: "test".into(), member: member.id, address, secret: Secret::default() };
        let local = Local::new(peer, TransportConfig::test()).unwrap();
        let host = network.host(member.address.as_str().split(':').next().unwrap());
        let listener = host.listen(member.address.as_str()).await.unwrap();
        acceptors.push(Acceptor::start(listener, local, Arc::new(AdmitAll), Arc::clone(handler) as _));
    }
    let config = ClusterConfig::builder("test")
        .network(Arc::new(network.host("client")))
        .seeds([b.address.as_str()])
        .timing(Timing::test())
        .transport(TransportConfig::test())
        .build()
        .unwrap();
    let mut events = config.events();
    let (client, context) = ClusterActor::start_client(config).await.unwrap();
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(tokio::time::Instant::now() < patience, "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    until("it asks ten times", &|| early.asked.load(Ordering::SeqCst) >= 10).await;
    assert_eq!(late.asked.load(Ordering::SeqCst), 0, "it goes by the one that answers");
    assert_eq!((context.topology().members().len(), context.topology().blocked()), (2, &[x.id][..]));
    // The same members, and nobody is blocked any more.
    *early.topology.lock().unwrap() = topology(&[&a, &b], &[]).into_inner().unwrap();
    until("the block ends", &|| context.topology().blocked().is_empty()).await;
    client.shutdown(Shutdown::immediate()).await.unwrap();
    let mut applied = 0;
    loop {
        match events.next().await.unwrap() {
            ClusterEvent::Shutdown => break,
            ClusterEvent::TopologyUpdated(updated) => assert!(updated.topology.member(x.id).is_none(), "{updated:?}"),
            ClusterEvent::BlockListApplied { .. } => applied += 1,
            _ => {}
        }
    }
    assert_eq!(applied, 1);
}

#[tokio::test]
async fn a_client_whose_member_is_gone_asks_another() {
    let mut cluster = TestCluster::builder().members(3).start().await;
    let client = cluster.add_client().await;
    for gone in [0, 1] {
        cluster.crash(gone).await;
        cluster.eventually("all agree, the client too", TestCluster::all_agree).await;
    }
    assert_eq!(cluster.member(client).context().topology().members().len(), 1);
}
