//! Other processes at the address of a member: its successor, and who only says so.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill::{
    Address, ClusterConfigBuilder, ClusterEvent, MemberId, MemoryHost, MemoryNetwork, Network, QuarantineReason,
    Secret, Timing, TransportConfig,
};
use gristmill_messages::remote::frame::MessageType;
use gristmill_testkit::{TestCluster, TestNode};
use gristmill_transport::frame::{Decoder, encode};
use gristmill_transport::{
    Acceptor, AdmitAll, Handler, IncomingRequest, Listener, Local, LocalPeer, Peer, Refusal, RefusalKind, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SUCCESSOR: MemberId = MemberId::new(7 << 100);

/// Timers of production, so that nobody is dead of silence before a test is over.
fn builder() -> gristmill_testkit::TestClusterBuilder {
    let secret = |builder: ClusterConfigBuilder| builder.secret("mellon");
    TestCluster::builder().timing(Timing::lan()).configure(secret)
}

/// Why a node has put a member into quarantine.
fn quarantined(node: &TestNode, of: MemberId) -> Option<QuarantineReason> {
    node.events().into_iter().find_map(|event| match event {
        ClusterEvent::MemberQuarantined { member, reason, .. } if member.id == of => Some(reason),
        _ => None,
    })
}

/// Answers nobody, and counts whom its handshake has not convinced.
#[derive(Default)]
struct Silent {
    refused: AtomicUsize,
}

impl Handler for Silent {
    fn request(&self, _: &Peer, _: IncomingRequest) {}

    fn refused(&self, _: &str, _: &str) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

/// A process that listens and takes part in nothing.
async fn listen(
    network: &MemoryNetwork,
    host: &str,
    at: &str,
    told: Address,
    secret: &[u8],
) -> (Acceptor, Arc<Silent>) {
    let listener = network.host(host).listen(at).await.unwrap();
    let (cluster, secret) = ("test".into(), Secret::new(secret));
    let peer = LocalPeer { cluster, member: SUCCESSOR, address: Some(told), secret };
    let local = Local::new(peer, TransportConfig::lan()).unwrap();
    let handler = Arc::new(Silent::default());
    (Acceptor::start(listener, local, Arc::new(AdmitAll), Arc::clone(&handler) as Arc<_>), handler)
}

// proves FT-5
#[tokio::test]
async fn who_was_connected_to_a_process_notices_its_successor_before_that_one_joins() {
    let mut cluster = builder().members(3).start().await;
    let (old, host) = (cluster.member(2).id(), cluster.member(2).host().to_owned());
    let address = cluster.member(2).context().address().clone();
    // So that nobody dials before the successor listens: its predecessor would have been refused, not superseded.
    cluster.partition([0, 1], [2]);
    cluster.crash(2).await;
    let (_successor, _) = listen(cluster.network(), &host, address.as_str(), address.clone(), b"mellon").await;
    cluster.heal();
    let superseded = QuarantineReason::Superseded { by: SUCCESSOR };
    for node in [0, 1] {
        cluster.eventually("it is known to be gone", |c| quarantined(c.member(node), old).is_some()).await;
    }
    let reasons = [0, 1].map(|node| quarantined(cluster.member(node), old).unwrap());
    assert!(reasons.contains(&superseded), "{reasons:?}");
    cluster.eventually("its grains are taken over", TestCluster::all_agree).await;
    for node in [0, 1] {
        let members = cluster.member(node).context().members().await.unwrap();
        assert!(members.iter().all(|info| info.member.id != SUCCESSOR), "it has not joined");
    }
}

/// The network of a host on which the way to one address leads elsewhere.
#[derive(Debug)]
struct Detour {
    host: MemoryHost,
    from: &'static str,
    to: String,
}

impl Network for Detour {
    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send + 'a>> {
        self.host.listen(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>> {
        self.host.connect(if address == self.from { &self.to } else { address })
    }
}

const VICTIM: &str = "victim:7";

/// A cluster in which one node's way to another member leads to `liar:1`, who is believed nothing.
async fn nobody_believes_the_liar(network: MemoryNetwork, met: impl Fn() -> usize) {
    let misled = Detour { host: network.host("misled"), from: VICTIM, to: "liar:1".into() };
    let mut cluster = builder().members(0).start().await;
    for host in ["host:1", "host:2"] {
        let network = Arc::new(network.host("host"));
        cluster.add_member_with(|builder| builder.network(network).listen(host)).await;
    }
    let misled = cluster.add_member_with(|builder| builder.network(Arc::new(misled)).listen("misled:7")).await;
    let network = Arc::new(network.host("victim"));
    let victim = cluster.add_member_with(|builder| builder.network(network).listen(VICTIM)).await;
    let victim = cluster.member(victim).id();
    cluster.eventually("the liar was met a few times", |_| met() >= 5).await;
    cluster.eventually("all members agree", TestCluster::all_agree).await;
    for node in cluster.running() {
        assert_eq!(quarantined(node, victim), None, "{}", cluster.describe());
    }
    assert!(cluster.member(misled).context().topology().member(victim).is_some());
}

// proves FT-5
#[tokio::test]
async fn a_member_that_is_met_by_mistake_supersedes_nobody() {
    let network = MemoryNetwork::new();
    let (_liar, handler) = listen(&network, "liar", "liar:1", "liar:1".into(), b"mellon").await;
    nobody_believes_the_liar(network, || handler.refused.load(Ordering::SeqCst)).await;
}

// proves FT-5
#[tokio::test]
async fn who_does_not_know_the_secret_supersedes_nobody() {
    let network = MemoryNetwork::new();
    let (_liar, handler) = listen(&network, "liar", "liar:1", VICTIM.into(), b"sesame").await;
    nobody_believes_the_liar(network, || handler.refused.load(Ordering::SeqCst)).await;
}

// proves FT-5
#[tokio::test]
async fn who_proves_nothing_supersedes_nobody() {
    let network = MemoryNetwork::new();
    let mut listener = network.host("liar").listen("liar:1").await.unwrap();
    let met = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&met);
    tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            let mut decoder = Decoder::new(4096);
            while let Ok(None) = decoder.next_frame() {
                if stream.reader.read_buf(decoder.buffer()).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let refusal = Refusal::new(RefusalKind::WrongMember, format!("this is {SUCCESSOR}"));
            let mut bytes = bytes::BytesMut::new();
            encode(MessageType::ConnectResponse(refusal.into()), 4096, &mut bytes).unwrap();
            drop(stream.writer.write_all(&bytes).await);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    nobody_believes_the_liar(network, || met.load(Ordering::SeqCst)).await;
}
