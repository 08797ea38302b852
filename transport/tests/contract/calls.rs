use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::not_delivered::Reason;
use gristmill_messages::remote::{CancelRequest, SystemActor};
use gristmill_messages::{ActivationId, MessageName};
use gristmill_transport::*;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::harness::*;

pub(crate) async fn both_sides_call_over_one_connection(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let to_alice = bob.watch.connected().await;
    tokio::join!(assert_echoes(&to_bob), assert_echoes(&to_alice));
    assert_eq!(bob.watch.request().await, ("echo".into(), "ping".into()));
}

pub(crate) async fn what_one_task_sends_arrives_in_order(net: Net) {
    const EACH: u32 = 3000;
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let senders: Vec<_> = (0..3_u32)
        .map(|sender| {
            let to_bob = to_bob.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let data = [sender.to_be_bytes(), n.to_be_bytes()].concat();
                    if n % 100 == 0 {
                        to_bob.call(request("echo", data), soon()).await.unwrap();
                    } else {
                        to_bob.notify(request("tell", data), soon()).await.unwrap();
                    }
                }
            })
        })
        .collect();
    let mut next = [0; 3];
    for _ in 0..3 * EACH {
        let (_, data) = bob.watch.request().await;
        let [sender, n] = [&data[..4], &data[4..]].map(|part| u32::from_be_bytes(part.try_into().unwrap()));
        assert_eq!(n, next[sender as usize], "of sender {sender}");
        next[sender as usize] += 1;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    to_bob.close("count");
    in_time(to_bob.closed()).await;
    let stats = to_bob.stats();
    // The requests, and the reason of the end.
    assert_eq!((stats.frames_out, stats.frames_in), (u64::from(3 * EACH) + 1, u64::from(3 * EACH) / 100));
    assert!(stats.writes < stats.frames_out / 4, "{stats:?}");
}

pub(crate) async fn many_concurrent_calls_each_get_their_own_answer(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let callers: Vec<_> = (0..200_u32)
        .map(|caller| {
            let to_bob = to_bob.clone();
            tokio::spawn(async move {
                for n in 0..20_u32 {
                    // Sizes on both sides of what is copied and what is shared.
                    let data = [caller.to_be_bytes(), n.to_be_bytes()].concat().repeat(1 + (n as usize % 4) * 300);
                    let outcome = to_bob.call(request("echo", data.clone()), soon()).await.unwrap();
                    assert!(matches!(outcome, Outcome::Response { data: answer, .. } if answer == data));
                }
            })
        })
        .collect();
    for caller in callers {
        in_time(caller).await.unwrap();
    }
    assert_eq!(to_bob.pending_calls(), 0);
}

pub(crate) async fn a_request_carries_target_trace_and_deadline(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let activation = Target::Activation(ActivationId::try_from(77).unwrap());
    for target in [activation, Target::System(SystemActor::Placement)] {
        let request = OutgoingRequest { target, traceparent: Some("00-ab-cd-01".into()), ..request("hold", "x") };
        to_bob.notify(request, within(60_000)).await.unwrap();
        let held = bob.watch.held().await;
        assert_eq!((held.target, held.traceparent.as_deref()), (target, Some("00-ab-cd-01")));
        assert!(!held.responder.wants_answer());
        let left = held.deadline.unwrap() - Instant::now();
        assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60), "{left:?}");
    }
}

pub(crate) async fn every_outcome_reaches_the_caller(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let details = [("k".to_owned(), "v".to_owned())];
    let outcomes = [
        Outcome::Response { message: MessageName::from(String::from("shop.Yes")), data: "yes".into() },
        Outcome::Rejected { code: "no".into(), message: "sold out".into(), details: details.into() },
        Outcome::not_delivered(Reason::NoSuchActivation, "gone"),
        Outcome::unknown("it panicked"),
    ];
    for outcome in outcomes {
        let expected = format!("{outcome:?}").replace("Known", "Received");
        let answering = async {
            let held = bob.watch.held().await;
            held.responder.respond(outcome);
        };
        let (answer, ()) = tokio::join!(to_bob.call(request("hold", ""), soon()), answering);
        assert_eq!(format!("{:?}", answer.unwrap()), expected);
    }
}

// proves VA-3.3, for the connection
pub(crate) async fn a_dropped_call_leaves_nothing_and_the_peer_learns_of_it(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let to_alice = bob.watch.connected().await;
    let call = tokio::spawn({
        let to_bob = to_bob.clone();
        async move { to_bob.call(request("hold", ""), soon()).await }
    });
    let held = bob.watch.held().await;
    assert!(!held.responder.is_cancelled());
    assert_eq!((to_bob.pending_calls(), to_alice.open_requests()), (1, 1));
    call.abort();
    eventually("the peer knows", || held.responder.is_cancelled()).await;
    assert_eq!((to_bob.pending_calls(), to_alice.open_requests()), (0, 0));
    held.responder.respond(Outcome::unknown("nobody hears it"));
    assert_echoes(&to_bob).await;
}

// proves VA-3.3, for the connection
pub(crate) async fn calls_that_nobody_waits_for_leave_room_for_others_whatever_becomes_of_them(net: Net) {
    let bob = Bob::start(&net, TransportConfig { window: 2, ..TransportConfig::test() }).await;
    let (to_bob, _alice) = bob.dial().await;
    let to_alice = bob.watch.connected().await;
    let mut kept = Vec::new();
    for _ in 0..5 {
        let calls = [(); 2].map(|()| {
            let to_bob = to_bob.clone();
            tokio::spawn(async move { to_bob.call(request("hold", ""), soon()).await })
        });
        kept.extend([bob.watch.held().await, bob.watch.held().await]);
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        eventually("the peer knows", || kept.iter().all(|held| held.responder.is_cancelled())).await;
    }
    assert_echoes(&to_bob).await;
    kept.into_iter().for_each(|held| held.responder.respond(Outcome::unknown("nobody hears it")));
    assert_echoes(&to_bob).await;
    assert_eq!((to_bob.pending_calls(), to_alice.open_requests(), to_alice.stats().refused), (0, 0, 0));
}

// proves VA-3.3, for the connection
pub(crate) async fn a_call_that_expires_leaves_nothing_and_says_that_it_was_sent(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let to_alice = bob.watch.connected().await;
    let error = in_time(to_bob.call(request("hold", ""), within(30))).await.unwrap_err();
    assert_eq!(error, CallError::Expired { sent: true });
    assert_eq!(to_bob.pending_calls(), 0);
    let held = bob.watch.held().await;
    eventually("the peer knows", || held.responder.is_cancelled()).await;
    assert_eq!(to_alice.open_requests(), 0);
    assert!(held.deadline.unwrap() <= within(30));
}

pub(crate) async fn a_deadline_that_has_passed_sends_nothing(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let past = Instant::now();
    assert_eq!(to_bob.call(request("first", ""), past).await.unwrap_err(), CallError::Expired { sent: false });
    assert_eq!(to_bob.notify(request("second", ""), past).await.unwrap_err(), CallError::Expired { sent: false });
    assert_echoes(&to_bob).await;
    assert_eq!(bob.watch.request().await.0, "echo");
}

pub(crate) async fn an_answer_that_comes_late_ends_no_other_call(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    for _ in 0..20 {
        let given_up = to_bob.call(request("hold", ""), within(1));
        let _ = in_time(given_up).await;
        let next = tokio::spawn({
            let to_bob = to_bob.clone();
            async move { to_bob.call(request("hold", ""), soon()).await }
        });
        let mut held = bob.watch.held().await;
        // The first may not even have been sent.
        if held.deadline.unwrap() < within(1000) {
            held.responder.respond(Outcome::unknown("late"));
            held = bob.watch.held().await;
        }
        held.responder.respond(Outcome::unknown("in time"));
        let outcome = in_time(next).await.unwrap().unwrap();
        assert!(matches!(&outcome, Outcome::UnknownOutcome { detail } if detail == "in time"), "{outcome:?}");
    }
}

pub(crate) async fn a_dropped_responder_answers_for_itself(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let outcome = in_time(to_bob.call(request("drop", ""), soon())).await.unwrap();
    assert!(matches!(&outcome, Outcome::UnknownOutcome { detail } if detail.contains("dropped")), "{outcome:?}");
}

pub(crate) async fn closing_ends_open_calls_and_both_handlers_hear_of_it_once(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, alice) = bob.dial().await;
    let to_alice = bob.watch.connected().await;
    let call = tokio::spawn({
        let to_bob = to_bob.clone();
        async move { to_bob.call(request("hold", ""), soon()).await }
    });
    let held = bob.watch.held().await;
    to_bob.close("going home");
    to_bob.close("twice");
    let reason = CloseReason::Requested("going home".into());
    assert_eq!(in_time(call).await.unwrap().unwrap_err(), CallError::ConnectionLost { reason: reason.clone() });
    assert_eq!(in_time(to_bob.closed()).await, reason);
    assert!(to_bob.is_closed());
    assert_eq!(alice.disconnected().await, reason);
    let reason = CloseReason::ByPeer("closed here: going home".into());
    assert_eq!(in_time(to_alice.closed()).await, reason);
    assert_eq!(bob.watch.disconnected().await, reason);
    assert!(held.responder.is_cancelled());
    held.responder.respond(Outcome::unknown("nobody hears it"));
    bob.acceptor.shutdown("done").await;
}

pub(crate) async fn what_was_queued_before_closing_arrives(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    for n in 0..500_u32 {
        to_bob.notify(request("tell", n.to_be_bytes().to_vec()), soon()).await.unwrap();
    }
    to_bob.close("that was all");
    for n in 0..500_u32 {
        assert_eq!(bob.watch.request().await.1, n.to_be_bytes().to_vec());
    }
}

pub(crate) async fn what_was_queued_arrives_at_a_peer_that_goes_on_sending(net: Net) {
    const FRAMES: usize = 300;
    let bob = Bob::start(&net, TransportConfig { linger: PATIENCE, ..TransportConfig::test() }).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    for _ in 0..FRAMES {
        to_alice.notify(request("tell", vec![7; 10_000]), soon()).await.unwrap();
    }
    to_alice.close("that was all");
    let mut frames = 0;
    loop {
        raw.send(MessageType::CancelRequest(CancelRequest { request_id: 1 })).await.unwrap();
        match raw.message().await {
            Some(MessageType::Request(_)) => frames += 1,
            Some(MessageType::DisconnectRequest(_)) => break,
            other => panic!("{other:?} after {frames}"),
        }
    }
    assert_eq!(frames, FRAMES);
    drop(raw);
    in_time(to_alice.closed()).await;
}

pub(crate) async fn a_call_over_a_closed_connection_was_not_sent(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    to_bob.close("over");
    let error = CallError::NotSent { reason: CloseReason::Requested("over".into()) };
    assert_eq!(to_bob.call(request("echo", ""), soon()).await.unwrap_err(), error);
    assert_eq!(to_bob.notify(request("tell", ""), soon()).await.unwrap_err(), error);
    in_time(to_bob.closed()).await;
    assert_eq!(to_bob.call(request("echo", ""), soon()).await.unwrap_err(), error);
}

pub(crate) async fn a_peer_that_hangs_up_ends_the_connection(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let mut raw = bob.raw().await;
    raw.shake_hands().await;
    let to_alice = bob.watch.connected().await;
    let call = tokio::spawn({
        let to_alice = to_alice.clone();
        async move { to_alice.call(request("hold", ""), soon()).await }
    });
    raw.message().await.expect("the request");
    drop(raw);
    let error = in_time(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }), "{error:?}");
    let reason = in_time(to_alice.closed()).await;
    assert!(matches!(reason, CloseReason::EndOfStream | CloseReason::Network(_)), "{reason:?}");
}

pub(crate) async fn a_handler_that_panics_costs_its_connection_only(net: Net) {
    let bob = Bob::start(&net, TransportConfig::test()).await;
    let (to_bob, _alice) = bob.dial().await;
    let error = in_time(to_bob.call(request("panic", ""), soon())).await;
    // The responder that the panic dropped may answer before the connection ends.
    assert!(matches!(error, Ok(Outcome::UnknownOutcome { .. }) | Err(CallError::ConnectionLost { .. })), "{error:?}");
    assert_eq!(bob.watch.disconnected().await, CloseReason::HandlerPanicked);
    in_time(to_bob.closed()).await;
    bob.assert_serves().await;
}

/// Answers each call only after a call of its own to whoever asked.
struct Nested {
    back: Arc<OnceCell<Connection>>,
    served: AtomicUsize,
}

impl Handler for Nested {
    fn request(&self, _: &Peer, incoming: IncomingRequest) {
        let IncomingRequest { message, data, responder, .. } = incoming;
        self.served.fetch_add(1, Ordering::Relaxed);
        if message.to_string() == "leaf" {
            return responder.respond(Outcome::Response { message, data });
        }
        let back = self.back.get().unwrap().clone();
        tokio::spawn(async move {
            match back.call(request("leaf", data), soon()).await {
                Ok(outcome) => responder.respond(outcome),
                Err(error) => responder.respond(Outcome::unknown(error.to_string())),
            }
        });
    }

    fn connected(&self, connection: &Connection) {
        self.back.set(connection.clone()).unwrap();
    }
}

pub(crate) async fn a_node_calls_back_while_the_window_of_its_caller_is_full(net: Net) {
    const CALLS: usize = 300;
    // Far more callers than the window lets through at a time.
    let config = TransportConfig { window: 4, queue_frames: 8, queue_bytes: 64 * 1024, ..TransportConfig::test() };
    let nested = || Arc::new(Nested { back: Arc::default(), served: AtomicUsize::new(0) });
    let (alice, bob) = (nested(), nested());
    let listener = net.host("bob").listen(&net.any_port("bob")).await.unwrap();
    let acceptor = Acceptor::start(listener, local(BOB, &config), Arc::new(AdmitAll), bob.clone());
    let network = net.host("alice");
    let address = acceptor.address().to_string();
    let lane = gristmill_messages::remote::Lane::Data;
    let dialled = dial(&*network, &address, lane, None, &local(ALICE, &config), alice.clone()).await;
    let to_bob = dialled.unwrap();
    eventually("both are connected", || alice.back.initialized() && bob.back.initialized()).await;
    let to_alice = bob.back.get().unwrap().clone();
    let callers: Vec<_> = (0..CALLS)
        .map(|n| {
            let to_bob = to_bob.clone();
            tokio::spawn(async move {
                let data = vec![n as u8; 2000];
                let outcome = to_bob.call(request("branch", data.clone()), soon()).await.unwrap();
                assert!(matches!(&outcome, Outcome::Response { data: answer, .. } if *answer == data), "{outcome:?}");
            })
        })
        .collect();
    for caller in callers {
        in_time(caller).await.unwrap();
    }
    assert_eq!([&alice, &bob].map(|side| side.served.load(Ordering::Relaxed)), [CALLS; 2]);
    assert_eq!((to_bob.stats().refused, to_alice.stats().refused), (0, 0));
}
