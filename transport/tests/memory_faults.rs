//! What the faults of the memory network do to connections.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // helpers of tests say what they expect, too

#[path = "contract/harness.rs"]
#[allow(dead_code)] // the contract suite uses the rest
mod harness;

use gristmill_transport::*;
use harness::*;
use std::time::Duration;

async fn start(config: TransportConfig) -> (MemoryNetwork, Bob, Connection, Watch) {
    let network = MemoryNetwork::new();
    let bob = Bob::start(&Net::Memory(network.clone()), config).await;
    let (to_bob, alice) = bob.dial().await;
    (network, bob, to_bob, alice)
}

#[tokio::test(start_paused = true)]
async fn while_the_way_there_is_cut_calls_expire_and_arrive_once_it_is_healed() {
    let (network, bob, to_bob, _alice) = start(TransportConfig::test()).await;
    network.cut("alice", "bob");
    let error = to_bob.call(request("tell", "1"), within(1000)).await.unwrap_err();
    assert_eq!(error, CallError::Expired { sent: true });
    network.heal();
    assert_eq!(bob.watch.request().await.1, "1");
    assert_echoes(&to_bob).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_way_back_is_cut_calls_run_and_expire() {
    let (network, bob, to_bob, _alice) = start(TransportConfig::test()).await;
    network.cut("bob", "alice");
    let error = to_bob.call(request("echo", "1"), within(1000)).await.unwrap_err();
    assert_eq!(error, CallError::Expired { sent: true });
    assert_eq!(bob.watch.request().await.1, "1");
    network.heal();
    assert_echoes(&to_bob).await;
}

#[tokio::test(start_paused = true)]
async fn while_a_way_is_cut_no_connection_comes_about() {
    let (network, bob, _to_bob, _alice) = start(TransportConfig::test()).await;
    network.partition("alice", "bob");
    let result = bob.dial_as(&local(ALICE, &bob.config)).await.0;
    assert!(matches!(result, Err(ConnectError::TimedOut { .. })), "{result:?}");
    // Others are not affected.
    let (handler, _watch) = script();
    let lane = gristmill_messages::remote::Lane::Data;
    let carol = local(gristmill_messages::MemberId::new(0xc), &bob.config);
    let host = network.host("carol");
    assert_echoes(&dial(&host, &bob.address, lane, None, &carol, handler).await.unwrap()).await;
    network.heal();
    bob.assert_serves().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_still_queued_behind_a_dead_connection_was_surely_not_sent() {
    let (network, _bob, to_bob, _alice) = start(TransportConfig::test()).await;
    network.cut("alice", "bob");
    let call = |size| {
        let to_bob = to_bob.clone();
        tokio::spawn(async move { to_bob.call(request("tell", vec![0; size]), soon()).await.unwrap_err() })
    };
    // The first fills what is in flight, so that the second cannot even begin. Paused time passes only once no task can
    // run: after it both are where they can get.
    let first = call(1 << 20);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = call(10);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((to_bob.pending_calls(), to_bob.stats().writes), (2, 0));
    network.crash("bob");
    let reason = to_bob.closed().await;
    assert!(matches!(reason, CloseReason::Network(_)), "{reason:?}");
    assert_eq!(first.await.unwrap(), CallError::ConnectionLost { reason: reason.clone() });
    assert_eq!(second.await.unwrap(), CallError::NotSent { reason });
}

#[tokio::test(start_paused = true)]
async fn a_crashed_host_loses_its_connections_and_its_address_and_may_come_back() {
    let (network, bob, to_bob, alice) = start(TransportConfig::test()).await;
    network.crash("bob");
    assert!(matches!(alice.disconnected().await, CloseReason::Network(_)));
    assert!(to_bob.is_closed());
    let result = bob.dial_as(&local(ALICE, &bob.config)).await.0;
    assert!(matches!(result, Err(ConnectError::Unreachable { .. })), "{result:?}");
    network.host("bob").listen(&bob.address).await.unwrap();
}
