use super::*;

#[tokio::test]
async fn a_brief_turn_of_a_resting_grain_is_answered_at_once_and_without_a_task() {
    let bench = Bench::resting(brief()).await;
    for _ in 0..3 {
        assert!(matches!(bench.lent("a").at_once(), Outcome::Response { .. }));
        assert!(bench.cell.lock().task.is_none());
    }
    assert_eq!(bench.seen.handled(), ["a", "a", "a"]);
    // It was used, and is not idle.
    assert!(!bench.cell.sweep(Duration::from_secs(100)));
}

#[tokio::test]
async fn a_kind_that_has_not_proven_to_be_brief_is_not_lent() {
    let bench = Bench::resting(settings()).await;
    let Called::Later(answered) = bench.lent("a") else { panic!("lent") };
    answers(answered).await;
}

#[tokio::test]
async fn nobody_overtakes_what_waits_already() {
    let bench = Bench::resting(brief()).await;
    let before = bench.send("a");
    let Called::Later(behind) = bench.lent("b") else { panic!("it overtook") };
    answers(before).await;
    answers(behind).await;
    assert_eq!(bench.seen.handled(), ["a", "b"]);
}

#[tokio::test]
async fn a_lent_turn_that_waits_goes_on_in_the_grains_task() {
    let bench = Bench::resting(brief()).await;
    let Called::Later(waits) = bench.lent("wait") else { panic!("it did not wait") };
    let Called::Later(behind) = bench.lent("a") else { panic!("two turns at once") };
    bench.seen.gate.add_permits(1);
    assert_eq!([answers(waits).await, answers(behind).await], ["wait", "a"]);
    assert_eq!(bench.seen.handled(), ["wait", "a"]);
}

#[tokio::test]
async fn a_lent_turn_that_waits_for_ever_is_cut_off() {
    let mut bench = Bench::resting(brief()).await;
    let Called::Later(waits) = bench.lent("wait") else { panic!("it did not wait") };
    let behind = bench.send("a");
    bench.cell.stop();
    assert!(matches!(outcome(waits).await, Outcome::UnknownOutcome { .. }));
    assert_eq!(refusal(behind).await, NotDeliveredReason::Stopping);
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Unresponsive));
    assert!(bench.seen.dropped_in_time.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_grain_that_is_stopped_or_panics_or_drains_while_it_is_lent_answers_and_ends_once() {
    for (message, parked, reason) in [
        ("stop", false, DeactivationReason::Unresponsive),
        ("stop", true, DeactivationReason::Unresponsive),
        ("panic", false, DeactivationReason::Panicked),
        ("panic", true, DeactivationReason::Panicked),
        ("drain", false, DeactivationReason::Idle),
        ("drain", true, DeactivationReason::Idle),
    ] {
        let mut bench = Bench::resting(brief()).await;
        if parked {
            bench.busy().await;
        }
        let answer = bench.lent(message).at_once();
        assert_eq!(matches!(answer, Outcome::Response { .. }), message != "panic");
        assert!(is_deactivated(&bench.ended().await, reason), "{message}");
        assert!(bench.seen.dropped_in_time.load(Ordering::SeqCst), "{message}");
        assert!(matches!(bench.lent("a"), Called::Refused));
        bench.until(|bench| Arc::strong_count(&bench.cell) == 1).await;
        assert!(bench.reports.try_recv().is_err(), "{message}: it ended twice");
    }
}

#[tokio::test]
async fn a_caller_that_panics_with_the_grain_in_its_hands_ends_the_activation() {
    let mut bench = Bench::resting(brief()).await;
    let (message, data) = (MessageName::from(String::from("wait")), Bytes::new());
    let envelope = Envelope { message, data: data.into(), deadline: None, traceparent: None, reply: ReplyTo::nobody() };
    let call = || bench.cell.call(envelope, &mut || panic!("no way back"));
    assert!(std::panic::catch_unwind(AssertUnwindSafe(call)).is_err());
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Unresponsive));
    assert!(bench.seen.dropped_in_time.load(Ordering::SeqCst));
    assert!(matches!(bench.lent("a"), Called::Refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lent_turns_and_queued_ones_never_run_at_once_and_none_is_lost() {
    let bench = Arc::new(Bench::resting(brief()).await);
    let callers: Vec<_> = (0..4_u64)
        .map(|caller| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                for round in 0..2_000 {
                    let name = if (round + caller) % 7 == 0 { "yield" } else { "count" };
                    if round % 5 == caller {
                        answers(bench.send(name)).await;
                        continue;
                    }
                    match bench.lent(name) {
                        Called::AtOnce(outcome) => assert!(matches!(outcome, Outcome::Response { .. })),
                        Called::Later(answered) => drop(answers(answered).await),
                        Called::Refused => panic!("refused"),
                    }
                    if round % 100 == 0 {
                        bench.cell.sweep(Duration::from_secs(1));
                        // Whatever the clock of a busy machine says.
                        (0..64).for_each(|_| bench.cell.settings.brief.record(Duration::ZERO));
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(bench.seen.turns(), 8_000);
    assert!(bench.calls.is_empty());
}

#[test]
fn a_grain_survives_the_runtime_of_its_caller() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let bench = home.block_on(Bench::resting(settings()));
    let visiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let inside = visiting.enter();
    let waits = bench.send("wait");
    drop(inside);
    drop(visiting);
    bench.seen.gate.add_permits(1);
    assert_eq!(home.block_on(answers(waits)), "wait");
    let again = bench.send("a");
    assert_eq!(home.block_on(answers(again)), "a");
}
