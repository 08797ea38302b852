use std::io::ErrorKind;
use std::time::Duration;

use gristmill_messages::cluster::GrainResponse;
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::not_delivered::Reason;
use gristmill_messages::remote::response::Outcome as Wire;
use gristmill_messages::remote::{CancelRequest, ConnectProof, Request, Response, SystemActor};
use gristmill_transport::frame::FrameError;
use gristmill_transport::*;

use crate::harness::*;

fn small_frames() -> TransportConfig {
    TransportConfig { frame_limit: 10_000, ..TransportConfig::test() }
}

pub(crate) async fn a_request_over_the_frame_limit_fails_at_its_sender(net: Net) {
    let bob = Bob::start(&net, small_frames()).await;
    let (to_bob, _alice) = bob.dial().await;
    let error = to_bob.call(request("echo", vec![0; 10_000]), soon()).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { bytes, limit: 10_000 } if bytes > 10_000), "{error:?}");
    let error = to_bob.notify(request("tell", vec![0; 10_000]), soon()).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error:?}");
    assert_echoes(&to_bob).await;
}

pub(crate) async fn an_answer_over_the_frame_limit_becomes_an_unknown_outcome(net: Net) {
    let bob = Bob::start(&net, small_frames()).await;
    let (to_bob, _alice) = bob.dial().await;
    let outcome = in_time(to_bob.call(request("grow", "10001"), soon())).await.unwrap();
    assert!(matches!(&outcome, Outcome::UnknownOutcome { detail } if detail.contains("limit")), "{outcome:?}");
    assert_echoes(&to_bob).await;
}

pub(crate) async fn a_rejection_too_large_to_send_becomes_an_unknown_outcome(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let outcome = in_time(to_bob.call(request("reject", "x".repeat(70_000)), soon())).await.unwrap();
    assert!(matches!(&outcome, Outcome::UnknownOutcome { detail } if detail.contains("limit")), "{outcome:?}");
    let outcome = in_time(to_bob.call(request("reject", "x".repeat(60_000)), soon())).await.unwrap();
    assert!(matches!(&outcome, Outcome::Rejected { .. }), "{outcome:?}");
}

pub(crate) async fn frames_up_to_the_limit_pass(net: Net) {
    let bob = Bob::start(&net, small_frames()).await;
    let (to_bob, _alice) = bob.dial().await;
    for size in [0, 1, 4000, 4100, 9_900] {
        let outcome = in_time(to_bob.call(request("echo", vec![7; size]), soon())).await.unwrap();
        assert!(matches!(&outcome, Outcome::Response { data, .. } if data.len() == size), "{outcome:?}");
    }
}

/// The connection ends, and the peer is told why if it can still read.
async fn assert_ended(mut raw: Raw, bob: Bob, expected: impl Fn(&CloseReason) -> bool) {
    let reason = bob.watch.disconnected().await;
    assert!(expected(&reason), "{reason:?}");
    let Some(MessageType::DisconnectRequest(disconnect)) = raw.message().await else { panic!("no reason") };
    assert_eq!(disconnect.reason, reason.to_string());
    assert_eq!(raw.message().await, None);
    bob.assert_serves().await;
}

pub(crate) async fn a_length_of_two_gibibytes_ends_the_connection_with_a_reason(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    raw.write(&[0x80, 0, 0, 0]).await.unwrap();
    let limit = bob.config.frame_limit;
    let expected = CloseReason::BadFrame(FrameError::TooLarge { claimed: 1 << 31, limit });
    assert_ended(raw, bob, |reason| *reason == expected).await;
}

pub(crate) async fn junk_after_the_handshake_ends_the_connection_with_a_reason(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    raw.write(&[0, 0, 0, 2, 0xff, 0xff]).await.unwrap();
    let malformed = |reason: &CloseReason| matches!(reason, CloseReason::BadFrame(FrameError::Malformed { .. }));
    assert_ended(raw, bob, malformed).await;
}

pub(crate) async fn a_handshake_frame_after_the_handshake_ends_the_connection(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    raw.send(MessageType::ConnectProof(ConnectProof::default())).await.unwrap();
    assert_ended(raw, bob, |reason| *reason == CloseReason::OutOfTurn).await;
}

fn ask(request_id: u64, message: &str) -> MessageType {
    MessageType::Request(Request {
        request_id,
        system_actor: SystemActor::Gossip.into(),
        message_type_name: message.into(),
        ..Request::default()
    })
}

async fn answer(raw: &mut Raw) -> Response {
    match raw.message().await {
        Some(MessageType::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

async fn refusal(raw: &mut Raw) -> (u64, Reason) {
    let response = answer(raw).await;
    match response.outcome {
        Some(Wire::NotDelivered(refused)) => (response.request_id, refused.reason()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_frame_of_nothing_known_is_ignored_and_counted(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    raw.write(&[0, 0, 0, 0]).await.unwrap();
    raw.write(&[0, 0, 0, 5, 0xc2, 0xa9, 0x07, 1, 0]).await.unwrap();
    raw.send(MessageType::Request(Request { system_actor: 99, ..Request::default() })).await.unwrap();
    raw.send(ask(5, "echo")).await.unwrap();
    assert_eq!(answer(&mut raw).await.request_id, 5);
    assert_eq!(to_alice.stats().ignored, 3);
}

pub(crate) async fn a_request_to_nobody_is_answered(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    for (request_id, system_actor) in [(1, 0), (2, 99), (3, -1)] {
        raw.send(MessageType::Request(Request { request_id, system_actor, ..Request::default() })).await.unwrap();
        assert_eq!(refusal(&mut raw).await, (request_id, Reason::UnknownActor));
    }
}

pub(crate) async fn a_request_id_in_use_is_answered(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    raw.send(ask(1, "hold")).await.unwrap();
    raw.send(ask(1, "hold")).await.unwrap();
    assert_eq!(refusal(&mut raw).await, (1, Reason::Malformed));
    bob.watch.held().await.responder.respond(Outcome::unknown("the first"));
    assert!(matches!(answer(&mut raw).await.outcome, Some(Wire::UnknownOutcome(_))));
}

pub(crate) async fn a_cancelled_request_is_answered_at_once_and_only_once(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    raw.send(ask(1, "hold")).await.unwrap();
    let cancel = || MessageType::CancelRequest(CancelRequest { request_id: 1 });
    raw.send(cancel()).await.unwrap();
    let cancelled = answer(&mut raw).await;
    assert!(cancelled.request_id == 1 && matches!(cancelled.outcome, Some(Wire::UnknownOutcome(_))), "{cancelled:?}");
    // Its id is in use as long as its handler has it, who would answer another one.
    raw.send(cancel()).await.unwrap();
    raw.send(ask(1, "hold")).await.unwrap();
    assert_eq!(refusal(&mut raw).await, (1, Reason::Malformed));
    bob.watch.held().await.responder.respond(Outcome::unknown("nobody hears it"));
    raw.send(ask(1, "echo")).await.unwrap();
    let echo = answer(&mut raw).await;
    assert!(echo.request_id == 1 && matches!(echo.outcome, Some(Wire::Response(_))), "{echo:?}");
}

pub(crate) async fn a_peer_that_stops_reading_loses_its_connection_and_harms_nobody(net: Net) {
    let config = TransportConfig { stall_timeout: Duration::from_millis(700), ..TransportConfig::test() };
    let bob = Bob::start(&net, config).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_stalled = bob.watch.connected().await;
    let (to_bob, _alice) = bob.dial().await;
    // More than the sockets and the queue hold: the last ones wait for room.
    let flood = tokio::spawn({
        let to_stalled = to_stalled.clone();
        async move {
            loop {
                if let Err(error) = to_stalled.notify(request("tell", vec![0; 1 << 20]), soon()).await {
                    return error;
                }
            }
        }
    });
    while !to_stalled.is_closed() {
        assert_echoes(&to_bob).await;
    }
    let reason = CloseReason::Stalled(Duration::from_millis(700));
    assert_eq!(in_time(flood).await.unwrap(), CallError::NotSent { reason: reason.clone() });
    assert_eq!(in_time(to_stalled.closed()).await, reason);
    assert_echoes(&to_bob).await;
}

pub(crate) async fn calls_beyond_the_window_wait_for_an_answer(net: Net) {
    let bob = Bob::start(&net, TransportConfig { window: 2, ..TransportConfig::test() }).await;
    let (to_bob, _alice) = bob.dial().await;
    let call = |deadline| {
        let to_bob = to_bob.clone();
        tokio::spawn(async move { to_bob.call(request("hold", ""), deadline).await })
    };
    let first = [call(soon()), call(soon())];
    let held = [bob.watch.held().await, bob.watch.held().await];
    assert_eq!(in_time(call(within(30))).await.unwrap().unwrap_err(), CallError::Overloaded);
    // One-way requests need no place in the window.
    to_bob.notify(request("tell", ""), soon()).await.unwrap();
    assert_eq!(bob.watch.request().await.0, "tell");
    let third = call(soon());
    for held in held {
        held.responder.respond(Outcome::unknown("done"));
    }
    bob.watch.held().await.responder.respond(Outcome::unknown("done"));
    for call in first.into_iter().chain([third]) {
        assert!(matches!(in_time(call).await.unwrap(), Ok(Outcome::UnknownOutcome { .. })));
    }
    assert_eq!(to_bob.stats().refused, 0);
}

pub(crate) async fn a_peer_that_ignores_the_window_is_refused_not_served(net: Net) {
    let bob = Bob::start(&net, TransportConfig { window: 2, ..TransportConfig::test() }).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    for id in 1..=3 {
        raw.send(ask(id, "hold")).await.unwrap();
    }
    assert_eq!(refusal(&mut raw).await, (3, Reason::Overloaded));
    assert_eq!((to_alice.open_requests(), to_alice.stats().refused), (2, 1));
    let [first, second] = [bob.watch.held().await, bob.watch.held().await];
    first.responder.respond(Outcome::unknown("done"));
    assert_eq!(answer(&mut raw).await.request_id, 1);
    raw.send(ask(4, "hold")).await.unwrap();
    bob.watch.held().await.responder.respond(Outcome::unknown("done"));
    assert_eq!(answer(&mut raw).await.request_id, 4);
    assert!(second.responder.wants_answer());
}

pub(crate) async fn a_peer_that_takes_no_refusals_is_read_no_further(net: Net) {
    let bob = Bob::start(&net, TransportConfig { window: 1, ..TransportConfig::test() }).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    // It asks as fast as it can, and reads nothing: after the buffers on the way are full its writes stand still.
    let flood = async {
        let mut bytes = bytes::BytesMut::new();
        for id in 1..=1000 {
            frame::encode(ask(id, "hold"), 1 << 20, &mut bytes).unwrap();
        }
        while raw.write(&bytes).await.is_ok() {}
    };
    let ended = async {
        let reason = in_time(to_alice.closed()).await;
        (reason, to_alice.stats().refused)
    };
    let (reason, refused) = tokio::select! {
        ended = ended => ended,
        () = flood => (in_time(to_alice.closed()).await, to_alice.stats().refused),
    };
    // On a busy machine the system's own limit may come first.
    let silence = [CloseReason::Stalled(bob.config.stall_timeout), CloseReason::Network(ErrorKind::TimedOut)];
    assert!(silence.contains(&reason), "{reason:?}");
    // What the sockets took, and 256 KiB.
    assert!(refused < 500_000, "{refused}");
    bob.assert_serves().await;
}

pub(crate) async fn answers_nobody_asked_for_open_no_window(net: Net) {
    let bob = Bob::start(&net, TransportConfig { window: 1, ..TransportConfig::test() }).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    for request_id in [0, 1, u64::MAX, 1 << 32, 1 << 32, 9] {
        let outcome = Some(Wire::Response(GrainResponse::default()));
        raw.send(MessageType::Response(Response { request_id, outcome })).await.unwrap();
    }
    raw.send(ask(1, "echo")).await.unwrap();
    answer(&mut raw).await;
    let held = tokio::spawn({
        let to_alice = to_alice.clone();
        async move { to_alice.call(request("hold", ""), soon()).await }
    });
    let Some(MessageType::Request(Request { request_id, .. })) = raw.message().await else { panic!() };
    assert_eq!(to_alice.call(request("hold", ""), within(30)).await.unwrap_err(), CallError::Overloaded);
    let outcome = Some(Wire::Response(GrainResponse::default()));
    raw.send(MessageType::Response(Response { request_id, outcome })).await.unwrap();
    assert!(matches!(in_time(held).await.unwrap(), Ok(Outcome::Response { .. })));
}

pub(crate) async fn one_way_requests_wait_for_room(net: Net) {
    let config = TransportConfig { queue_frames: 4, stall_timeout: PATIENCE, ..TransportConfig::test() };
    let bob = Bob::start(&net, config).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    let mut sent = 0;
    let error = loop {
        match to_alice.notify(request("tell", vec![0; 1 << 20]), within(300)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, CallError::Overloaded);
    // Once the peer reads, what was queued comes, and there is room again.
    let more = to_alice.notify(request("more", ""), soon());
    let reading = async {
        for _ in 0..sent {
            assert!(matches!(raw.message().await, Some(MessageType::Request(_))));
        }
    };
    let (more, ()) = tokio::join!(more, reading);
    more.unwrap();
    assert!(matches!(raw.message().await, Some(MessageType::Request(request)) if request.message_type_name == "more"));
}
