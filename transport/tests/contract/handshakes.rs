use std::sync::Arc;
use std::time::Duration;

use gristmill_core::Address;
use gristmill_messages::MemberId;
use gristmill_messages::remote::connect_response::Refusal as Wire;
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::{ConnectRequest, Lane};
use gristmill_transport::network::BoxFuture;
use gristmill_transport::*;
use tokio::time::Instant;

use crate::harness::*;

pub(crate) async fn both_sides_know_each_other(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let address = Some(Address::new("alice:7"));
    let alice = Local::new(LocalPeer { address: address.clone(), ..peer(ALICE) }, TransportConfig::test()).unwrap();
    let (handler, _watch) = script();
    let network = net.host("alice");
    let dialled = dial(&*network, &bob.address, Lane::Control, Some(BOB), &alice, handler).await;
    let expected = Peer { member: BOB, address: None, lane: Lane::Control, version: 1 };
    assert_eq!(dialled.unwrap().peer(), &expected);
    let expected = Peer { member: ALICE, address, lane: Lane::Control, version: 1 };
    assert_eq!(bob.watch.connected().await.peer(), &expected);
}

fn refused_by_peer(result: Result<Connection, ConnectError>) -> RefusalKind {
    match result {
        Err(ConnectError::RefusedByPeer { refusal, .. }) => refusal.kind,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn another_cluster_or_secret_is_refused_for_good(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let dial_as = async |peer| {
        let local = Local::new(peer, TransportConfig::test()).unwrap();
        bob.dial_as(&local).await.0
    };
    let other = dial_as(LocalPeer { cluster: "bank".into(), ..peer(ALICE) }).await;
    assert!(other.as_ref().unwrap_err().is_permanent());
    assert_eq!(refused_by_peer(other), RefusalKind::ClusterName);
    for secret in [Secret::default(), Secret::new(b"sesame")] {
        let other = dial_as(LocalPeer { secret, ..peer(ALICE) }).await.unwrap_err();
        assert!(other.is_permanent());
        assert!(matches!(&other, ConnectError::Refused { refusal, .. } if refusal.kind == RefusalKind::Secret));
    }
    bob.assert_serves().await;
}

pub(crate) async fn no_version_in_common_is_refused(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    let later = ConnectRequest { min_version: 2, max_version: 9, ..ConnectRequest::default() };
    raw.send(MessageType::ConnectRequest(later)).await.unwrap();
    let Some(MessageType::ConnectResponse(response)) = raw.message().await else { panic!() };
    assert_eq!(response.refusal(), Wire::Version);
    assert_eq!(raw.message().await, None);
}

pub(crate) async fn another_member_than_the_expected_is_refused(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (handler, _watch) = script();
    let network = net.host("alice");
    let alice = local(ALICE, &bob.config);
    let expected = Some(MemberId::new(0xc));
    let error = dial(&*network, &bob.address, Lane::Data, expected, &alice, handler).await.unwrap_err();
    assert!(error.is_permanent());
    assert!(matches!(&error, ConnectError::MetAnother { met, .. } if met.member == BOB), "{error:?}");
    let itself = bob.dial_as(&local(BOB, &bob.config)).await.0;
    assert_eq!(refused_by_peer(itself), RefusalKind::WrongMember);
}

struct Quarantine;

impl Admission for Quarantine {
    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        if peer.member == ALICE { Err(Refusal::new(RefusalKind::Blocked, "for 60 s more")) } else { Ok(()) }
    }
}

pub(crate) async fn who_is_not_admitted_is_told_why(net: Net) {
    let bob = Bob::admitting(&net, TransportConfig::test(), Arc::new(Quarantine)).await;
    match bob.dial_as(&local(ALICE, &bob.config)).await.0 {
        Err(error @ ConnectError::RefusedByPeer { .. }) => {
            assert!(error.is_permanent());
            assert!(error.to_string().ends_with("blocked: for 60 s more"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    bob.dial_as(&local(MemberId::new(0xc), &bob.config)).await.0.unwrap();
}

pub(crate) async fn connections_over_the_limit_are_refused_as_overloaded(net: Net) {
    let bob = Bob::start(&net, TransportConfig { max_connections: 1, ..TransportConfig::test() }).await;
    let (first, _alice) = bob.dial().await;
    let second = bob.dial_as(&local(ALICE, &bob.config)).await.0;
    assert!(!second.as_ref().unwrap_err().is_permanent());
    assert_eq!(refused_by_peer(second), RefusalKind::Overloaded);
    first.close("make room");
    bob.watch.disconnected().await;
    // The place is free a moment after the handler heard of the end.
    let mut again = bob.dial_as(&local(ALICE, &bob.config)).await.0;
    let patience = Instant::now() + PATIENCE;
    while again.is_err() && Instant::now() < patience {
        again = bob.dial_as(&local(ALICE, &bob.config)).await.0;
    }
    again.expect("its place is free");
}

pub(crate) async fn nobody_listening_is_unreachable(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let Bob { acceptor, address, .. } = bob;
    acceptor.shutdown("gone").await;
    let (handler, _watch) = script();
    let alice = local(ALICE, &TransportConfig::test());
    let error = dial(&*net.host("alice"), &address, Lane::Data, None, &alice, handler).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(!error.is_permanent());
}

pub(crate) async fn junk_instead_of_a_handshake_is_refused_and_harms_nobody(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let junk: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x80, 0, 0, 0],
        // One byte over what a handshake frame may have.
        &4097_u32.to_be_bytes(),
        &[0, 0, 0, 2, 0xff, 0xff],
    ];
    for bytes in junk {
        let mut raw = bob.raw().await;
        raw.write(bytes).await.unwrap();
        // The refusal may be lost to a reset, when bytes were left unread.
        if let Some(message) = raw.message().await {
            let MessageType::ConnectResponse(response) = message else { panic!("{message:?}") };
            assert_eq!(response.refusal(), Wire::Malformed);
        }
        assert_eq!(raw.message().await, None);
    }
    bob.assert_serves().await;
}

pub(crate) async fn a_handshake_that_never_ends_is_ended(net: Net) {
    let config = TransportConfig { handshake_timeout: Duration::from_millis(100), ..TransportConfig::test() };
    let bob = Bob::start(&net, config).await;
    let mut silent = bob.raw().await;
    let mut slow = bob.raw().await;
    slow.write(&[0, 0]).await.unwrap();
    assert_eq!(silent.message().await, None);
    assert_eq!(slow.message().await, None);
}

pub(crate) async fn a_silent_acceptor_is_given_up(net: Net) {
    let listener = net.host("bob").listen(&net.any_port("bob")).await.unwrap();
    let config = TransportConfig { handshake_timeout: Duration::from_millis(100), ..TransportConfig::test() };
    let (handler, _watch) = script();
    let address = listener.local_address().to_string();
    let alice = local(ALICE, &config);
    let error = in_time(dial(&*net.host("alice"), &address, Lane::Data, None, &alice, handler)).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
}

pub(crate) async fn unfinished_handshakes_are_bounded_and_yield_their_places(net: Net) {
    let bob = Bob::start(
        &net,
        TransportConfig { max_handshakes: 2, handshake_timeout: Duration::from_millis(300), ..TransportConfig::test() },
    )
    .await;
    let begun = Instant::now();
    let mut silent = [bob.raw().await, bob.raw().await, bob.raw().await];
    // The first two are let go, then the third has its turn, and then this.
    let patient = local(ALICE, &TransportConfig { handshake_timeout: PATIENCE, ..TransportConfig::test() });
    let (connection, _alice) = bob.dial_as(&patient).await;
    assert!(begun.elapsed() >= Duration::from_millis(300), "it waited for a place");
    assert_echoes(&connection.unwrap()).await;
    assert_eq!(silent[0].message().await, None);
    assert_eq!(silent[1].message().await, None);
}

pub(crate) async fn shutdown_frees_the_address_and_ends_all_connections(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (connection, _alice) = bob.dial().await;
    let mut unfinished = bob.raw().await;
    let Bob { acceptor, address, watch, .. } = bob;
    in_time(acceptor.shutdown("on its way out")).await;
    assert_eq!(watch.disconnected().await, CloseReason::Requested("on its way out".into()));
    assert_eq!(in_time(connection.closed()).await, CloseReason::ByPeer("closed here: on its way out".into()));
    assert_eq!(unfinished.message().await, None);
    let again = net.host("bob").listen(&address).await.unwrap();
    assert_eq!(again.local_address().as_str(), address);
}

pub(crate) async fn an_address_in_use_is_refused(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let error = net.host("bob").listen(&bob.address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    bob.assert_serves().await;
}

/// Fails many times before each connection, as when the process has too many files open.
#[derive(Debug)]
struct Failing {
    inner: Box<dyn Listener>,
    failures: usize,
}

impl Listener for Failing {
    fn accept(&mut self) -> BoxFuture<'_, std::io::Result<Stream>> {
        if self.failures == 0 {
            self.failures = 4;
            return self.inner.accept();
        }
        self.failures -= 1;
        Box::pin(async { Err(std::io::Error::other("too many open files")) })
    }

    fn local_address(&self) -> Address {
        self.inner.local_address()
    }
}

pub(crate) async fn accepting_survives_failures_of_the_listener(net: Net) {
    let inner = net.host("bob").listen(&net.any_port("bob")).await.unwrap();
    let (handler, watch) = script();
    let config = TransportConfig::test();
    let failing = Box::new(Failing { inner, failures: 4 });
    let acceptor = Acceptor::start(failing, local(BOB, &config), Arc::new(AdmitAll), handler);
    let address = acceptor.address().to_string();
    let bob = Bob { net, acceptor, address, watch, config };
    bob.assert_serves().await;
    bob.assert_serves().await;
}
