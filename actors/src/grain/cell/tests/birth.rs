use super::*;

#[tokio::test]
async fn a_grain_that_is_stopped_before_its_task_ran_at_all_ends_like_any_other() {
    // On one thread nothing spawned runs before the test awaits.
    let mut bench = Bench::resting(settings()).await;
    let woken_by = bench.send("a");
    bench.cell.stop();
    assert_eq!(refusal(woken_by).await, NotDeliveredReason::Stopping);
    assert!(matches!(bench.ended().await, Ended::Deactivated(ACTIVATION, _)));
    assert_eq!(bench.call("b").0, Err(NotDeliveredReason::Stopping));

    let mut bench = Bench::start("a", settings()).await;
    bench.cell.stop();
    assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)));
}

#[tokio::test]
async fn an_activation_that_hangs_is_cut_off_and_its_callers_are_told() {
    let mut bench = Bench::start("hangs", settings()).await;
    let waiting = bench.send("a");
    tokio::task::yield_now().await;
    bench.cell.stop();
    assert_eq!(refusal(waiting).await, NotDeliveredReason::Stopping);
    assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)));
}

#[tokio::test]
async fn an_activation_that_is_cut_off_when_it_is_done_does_not_go_on_with_the_work_that_waits() {
    let mut bench = Bench::start("is cut off at its end", settings()).await;
    let waiting = bench.send("wait");
    assert_eq!(refusal(waiting).await, NotDeliveredReason::Stopping);
    assert!(matches!(bench.report().await, PlacementMessage::Activated(ACTIVATION)));
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Unresponsive));
    assert_eq!(bench.seen.turns(), 0);
}

#[tokio::test]
async fn an_activation_that_fails_or_panics_is_reported_and_what_waited_did_not_run() {
    for identity in ["refuses", "panics"] {
        let mut bench = Bench::start(identity, settings()).await;
        let waiting = bench.send("a");
        assert_eq!(refusal(waiting).await, NotDeliveredReason::Stopping);
        assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)));
        assert_eq!(bench.call("b").0, Err(NotDeliveredReason::Stopping));
        assert_eq!(bench.seen.turns(), 0);
    }
}

#[tokio::test]
async fn a_brief_activation_is_done_at_once_in_its_callers_task() {
    let mut bench = Bench::unborn("a", brief()).await;
    assert!(Arc::clone(&bench.cell).begin());
    assert!(matches!(bench.cell.lock().life, Life::Resting(_)));
    assert!(bench.cell.lock().task.is_none());
    assert!(matches!(bench.lent("b").at_once(), Outcome::Response { .. }));
    // Whoever began it knows, and nobody is told.
    assert!(bench.reports.try_recv().is_err());
    bench.cell.drain(DeactivationReason::Idle);
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Idle));
}

#[tokio::test]
async fn a_brief_activation_that_waits_after_all_goes_on_in_a_task_and_is_reported() {
    let mut bench = Bench::unborn("waits", brief()).await;
    assert!(!Arc::clone(&bench.cell).begin());
    bench.seen.gate.add_permits(1);
    assert!(matches!(bench.report().await, PlacementMessage::Activated(ACTIVATION)));
    assert_eq!(answers(bench.send("b")).await, "b");
}

#[tokio::test]
async fn an_activation_that_has_not_proven_to_be_brief_runs_in_a_task() {
    let mut bench = Bench::unborn("a", settings()).await;
    assert!(!Arc::clone(&bench.cell).begin());
    assert!(matches!(bench.report().await, PlacementMessage::Activated(ACTIVATION)));
}

#[tokio::test]
async fn what_has_begun_does_not_begin_again() {
    let mut bench = Bench::unborn("a", brief()).await;
    assert!(Arc::clone(&bench.cell).begin());
    bench.lent("b").at_once();
    assert!(!Arc::clone(&bench.cell).begin());
    Arc::clone(&bench.cell).begin_apart();
    bench.lent("c").at_once();
    assert_eq!(bench.seen.handled(), ["b", "c"]);
    assert!(bench.reports.try_recv().is_err());
}

#[tokio::test]
async fn what_is_stopped_before_it_begins_never_does() {
    let mut bench = Bench::unborn("panics", brief()).await;
    let waiting = bench.send("a");
    bench.cell.stop();
    assert_eq!(refusal(waiting).await, NotDeliveredReason::Stopping);
    assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)));
    assert!(!Arc::clone(&bench.cell).begin());
    Arc::clone(&bench.cell).begin_apart();
    assert!(bench.reports.try_recv().is_err());
}

#[tokio::test]
async fn what_is_drained_before_it_begins_handles_what_waits_and_says_goodbye() {
    let mut bench = Bench::unborn("a", brief()).await;
    let waiting = bench.send("b");
    bench.cell.drain(DeactivationReason::OwnershipMoved);
    assert!(Arc::clone(&bench.cell).begin());
    assert_eq!(answers(waiting).await, "b");
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::OwnershipMoved));
}

#[tokio::test]
async fn a_brief_activation_that_fails_panics_or_is_stopped_ends_once_and_what_waited_did_not_run() {
    for identity in ["refuses", "panics", "is cut off at its end"] {
        let mut bench = Bench::unborn(identity, brief()).await;
        let waiting = bench.send("a");
        assert!(!Arc::clone(&bench.cell).begin(), "{identity}");
        assert_eq!(refusal(waiting).await, NotDeliveredReason::Stopping);
        assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)), "{identity}");
        assert!(bench.reports.try_recv().is_err(), "{identity}");
        assert_eq!(bench.seen.turns(), 0);
    }
}

struct PanicsLast;

impl Drop for PanicsLast {
    fn drop(&mut self) {
        panic!("told to");
    }
}

#[tokio::test]
async fn a_caller_that_panics_while_it_activates_a_grain_ends_the_activation() {
    let mut bench = Bench::unborn("a", brief()).await;
    let (seen, last) = (Arc::clone(&bench.seen), PanicsLast);
    bench.cell.lock().life = Life::Unborn(Arc::new(move || {
        let _ = &last;
        Script(Arc::clone(&seen))
    }));
    let waiting = bench.send("b");
    let begin = || Arc::clone(&bench.cell).begin();
    assert!(std::panic::catch_unwind(AssertUnwindSafe(begin)).is_err());
    assert_eq!(refusal(waiting).await, NotDeliveredReason::Stopping);
    assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)));
}

#[tokio::test]
async fn a_brief_activation_that_hangs_is_cut_off() {
    let mut bench = Bench::unborn("hangs", brief()).await;
    assert!(!Arc::clone(&bench.cell).begin());
    bench.cell.stop();
    assert!(matches!(bench.ended().await, Ended::NotActivated(ACTIVATION, _)));
}
