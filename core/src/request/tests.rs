use alloc::string::ToString;
use alloc::vec::Vec;

use gristmill_messages::remote::not_delivered::Reason;
use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;

const DEADLINE: Timestamp = Timestamp::from_millis(5_000);
const LOW: u64 = 0;
const HIGH: u64 = u64::MAX;

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn plain() -> Request {
    Request::new(DEADLINE, RetryPolicy::lan(), false)
}

fn idempotent() -> Request {
    Request::new(DEADLINE, RetryPolicy::lan(), true)
}

fn not_delivered(reason: NotDeliveredReason) -> Input {
    Input::Failed(AttemptFailure::NotDelivered { reason, detail: "why".into() })
}

fn unresolved(reason: Unresolved) -> Input {
    Input::Failed(AttemptFailure::Unresolved(reason))
}

fn unknown(detail: &str) -> Input {
    Input::Failed(AttemptFailure::UnknownOutcome(detail.into()))
}

fn back_off(after: u64) -> Effect {
    Effect::Retry { after: ms(after), refresh: false }
}

fn every_reason() -> [NotDeliveredReason; 12] {
    use NotDeliveredReason::{
        Blocked, Expired, Malformed, NoSuchActivation, NotStarted, Overloaded, ShuttingDown, Stopping, Unauthorized,
        UnknownActor, Unreachable, Unspecified,
    };
    [
        Unspecified,
        NoSuchActivation,
        Stopping,
        Overloaded,
        Expired,
        UnknownActor,
        ShuttingDown,
        NotStarted,
        Malformed,
        Unauthorized,
        Blocked,
        Unreachable,
    ]
}

// proves VA-3.2
#[test]
fn what_was_not_delivered_is_retried_with_a_ceiling_that_doubles_up_to_the_longest_wait() {
    let waits = |random: u64| -> Vec<u128> {
        let mut request = Request::new(at(600_000), RetryPolicy::lan(), false);
        (0..8)
            .map(|_| match request.handle(at(0), not_delivered(NotDeliveredReason::Unreachable), random) {
                Effect::Retry { after, refresh: false } => after.as_millis(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(waits(LOW), [50; 8]);
    assert_eq!(waits(HIGH), [99, 199, 399, 799, 1_599, 1_999, 1_999, 1_999], "one nanosecond below the ceiling");
    assert_eq!(waits(1 << 63), [75, 125, 225, 425, 825, 1_025, 1_025, 1_025], "the middle");
}

#[test]
fn a_stale_reference_is_dropped_and_the_first_time_retried_at_once() {
    for reason in [NotDeliveredReason::NoSuchActivation, NotDeliveredReason::Stopping] {
        let mut request = plain();
        let at_once = Effect::Retry { after: Duration::ZERO, refresh: true };
        assert_eq!(request.handle(at(0), not_delivered(reason), LOW), at_once);
        let later = Effect::Retry { after: ms(50), refresh: true };
        assert_eq!(request.handle(at(1), not_delivered(reason), LOW), later);
        assert_eq!(request.attempts(), 3);
    }
}

#[test]
fn only_a_peer_that_calls_the_reference_stale_makes_it_go() {
    let stale = [NotDeliveredReason::NoSuchActivation, NotDeliveredReason::Stopping, NotDeliveredReason::ShuttingDown];
    for reason in every_reason() {
        if let Effect::Retry { refresh, .. } = plain().handle(at(0), not_delivered(reason), LOW) {
            assert_eq!(refresh, stale.contains(&reason), "{reason}");
        }
    }
    assert_eq!(idempotent().handle(at(0), unknown("connection lost"), LOW), back_off(50));
    let not_owner = plain().handle(at(0), unresolved(Unresolved::NotOwner), LOW);
    assert_eq!(not_owner, Effect::Retry { after: ms(50), refresh: true });
}

#[test]
fn what_would_end_in_the_same_way_is_not_retried() {
    for reason in [NotDeliveredReason::UnknownActor, NotDeliveredReason::Malformed, NotDeliveredReason::Unauthorized] {
        let verdict = Verdict::NotDelivered { reason, detail: "why".into(), attempts: 1 };
        assert_eq!(plain().handle(at(0), not_delivered(reason), LOW), Effect::GiveUp(verdict));
    }
}

// proves VA-3.4
#[test]
fn an_unknown_kind_and_a_failed_activation_are_told_at_once_with_the_reason() {
    for reason in [Unresolved::UnknownKind, Unresolved::ActivationFailed("no database".into())] {
        let verdict = Verdict::Unresolved { reason: reason.clone(), attempts: 1 };
        assert_eq!(idempotent().handle(at(0), unresolved(reason), LOW), Effect::GiveUp(verdict));
    }
}

#[test]
fn what_a_change_of_the_cluster_may_cure_is_resolved_again() {
    let curable = [
        Unresolved::NoMember,
        Unresolved::Locked,
        Unresolved::ShuttingDown,
        Unresolved::NotStarted,
        Unresolved::Overloaded,
        Unresolved::Unreachable("refused".into()),
    ];
    for reason in curable {
        assert_eq!(plain().handle(at(0), unresolved(reason), LOW), back_off(50));
    }
}

// proves VA-3.4
#[test]
fn an_identity_that_stays_unresolved_is_reported_with_the_last_reason() {
    let mut request = plain();
    assert_eq!(request.handle(at(0), unresolved(Unresolved::NoMember), LOW), back_off(50));
    let verdict = Verdict::Unresolved { reason: Unresolved::Locked, attempts: 2 };
    assert_eq!(request.handle(at(4_960), unresolved(Unresolved::Locked), LOW), Effect::GiveUp(verdict));
}

#[test]
fn the_grains_own_error_is_never_retried() {
    for mut request in [plain(), idempotent()] {
        let effect = request.handle(at(0), Input::Failed(AttemptFailure::Rejected), LOW);
        assert_eq!(effect, Effect::GiveUp(Verdict::Rejected { attempts: 1 }));
    }
}

#[test]
fn what_may_have_run_is_retried_only_if_that_does_no_harm() {
    let verdict = Verdict::UnknownOutcome { detail: "connection lost".into(), attempts: 1 };
    assert_eq!(plain().handle(at(0), unknown("connection lost"), LOW), Effect::GiveUp(verdict));
    assert_eq!(idempotent().handle(at(0), unknown("connection lost"), LOW), back_off(50));
}

#[test]
fn once_it_may_have_run_no_later_failure_says_that_it_did_not() {
    let later = [
        not_delivered(NotDeliveredReason::Malformed),
        unresolved(Unresolved::UnknownKind),
        not_delivered(NotDeliveredReason::Overloaded),
        unknown("again"),
    ];
    for failure in later {
        let mut request = idempotent();
        assert_eq!(request.handle(at(0), unknown("connection lost"), LOW), back_off(50));
        let verdict = Verdict::UnknownOutcome { detail: "connection lost".into(), attempts: 2 };
        assert_eq!(request.handle(at(4_990), failure, LOW), Effect::GiveUp(verdict));
    }
    for input in [Input::DeadlinePassed { sent: false }, not_delivered(NotDeliveredReason::Expired)] {
        let mut request = idempotent();
        assert_eq!(request.handle(at(0), unknown("connection lost"), LOW), back_off(50));
        let verdict = Verdict::DeadlineExceeded { delivered: Delivered::Maybe, attempts: 2 };
        assert_eq!(request.handle(DEADLINE, input, LOW), Effect::GiveUp(verdict));
    }
}

#[test]
fn a_lasting_overload_is_called_by_its_name() {
    let effect = plain().handle(at(4_950), not_delivered(NotDeliveredReason::Overloaded), LOW);
    assert_eq!(effect, Effect::GiveUp(Verdict::Overloaded { attempts: 1 }));
    let effect = plain().handle(at(4_950), unresolved(Unresolved::Overloaded), LOW);
    assert_eq!(effect, Effect::GiveUp(Verdict::Overloaded { attempts: 1 }));
}

// proves VA-3.3 as far as the decision goes
#[test]
fn a_passed_deadline_says_whether_the_message_had_left() {
    for (sent, delivered) in [(true, Delivered::Maybe), (false, Delivered::No)] {
        let verdict = Verdict::DeadlineExceeded { delivered, attempts: 1 };
        assert_eq!(plain().handle(DEADLINE, Input::DeadlinePassed { sent }, LOW), Effect::GiveUp(verdict));
    }
}

#[test]
fn a_failure_that_comes_with_the_deadline_is_the_deadline() {
    let exceeded = |delivered| Effect::GiveUp(Verdict::DeadlineExceeded { delivered, attempts: 1 });
    assert_eq!(plain().handle(DEADLINE, not_delivered(NotDeliveredReason::Stopping), LOW), exceeded(Delivered::No));
    assert_eq!(plain().handle(DEADLINE, unresolved(Unresolved::Locked), LOW), exceeded(Delivered::No));
    assert_eq!(idempotent().handle(DEADLINE, unknown("late"), LOW), exceeded(Delivered::Maybe));
    assert_eq!(plain().handle(at(10), not_delivered(NotDeliveredReason::Expired), LOW), exceeded(Delivered::No));
}

#[test]
fn no_wait_is_begun_that_the_deadline_would_cut_off() {
    let mut request = plain();
    assert_eq!(request.handle(at(4_949), not_delivered(NotDeliveredReason::NotStarted), HIGH), back_off(50));
    let verdict = Verdict::NotDelivered { reason: NotDeliveredReason::NotStarted, detail: "why".into(), attempts: 2 };
    let effect = request.handle(at(4_950), not_delivered(NotDeliveredReason::NotStarted), LOW);
    assert_eq!(effect, Effect::GiveUp(verdict));
}

#[test]
fn a_failure_at_once_leaves_time_for_many_attempts() {
    let mut request = plain();
    let mut now = at(0);
    while let Effect::Retry { after, .. } = request.handle(now, not_delivered(NotDeliveredReason::Unreachable), HIGH) {
        now = now + after;
    }
    assert!(request.attempts() >= 6, "{} attempts with the longest waits there are", request.attempts());
    assert!(DEADLINE.since(now) <= ms(50), "and the last of them close to the deadline");
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    for policy in [RetryPolicy::lan(), RetryPolicy::wan(), RetryPolicy::test(), RetryPolicy::default()] {
        assert_eq!(policy.validate(), Ok(()));
    }
    assert_eq!(RetryPolicy { min: Duration::ZERO, max: ms(1) }.validate(), Err(InvalidPolicy::NoWait));
    let error = RetryPolicy { min: ms(2), max: ms(1) }.validate().expect_err("min above max");
    assert_eq!(error.to_string(), "the shortest wait between attempts, 2ms, is longer than the longest, 1ms");
}

#[test]
fn every_reason_of_the_wire_survives_both_ways() {
    let mut known = 0;
    for number in 0..100 {
        let Ok(reason) = Reason::try_from(number) else { continue };
        assert_eq!(Reason::from(NotDeliveredReason::from(reason)), reason);
        known += 1;
    }
    assert_eq!(known, 11);
    assert_eq!(Reason::from(NotDeliveredReason::Unreachable), Reason::Unspecified);
}

fn any_failure() -> impl Strategy<Value = Input> {
    prop_oneof![
        proptest::sample::select(every_reason().to_vec()).prop_map(not_delivered),
        proptest::sample::select(alloc::vec![Unresolved::NoMember, Unresolved::NotOwner, Unresolved::Overloaded])
            .prop_map(unresolved),
        Just(unknown("lost")),
        Just(Input::Failed(AttemptFailure::Rejected)),
    ]
}

proptest! {
    // Whatever happens: it ends, no wait reaches the deadline or leaves the policy, a request that may have run is not
    // run again unless it is idempotent, and the verdict never denies that it may have run.
    #[test]
    fn every_request_ends_in_time_and_honestly(
        failures in many((any_failure(), any::<u64>(), 0..400_u64), 300),
        idempotent: bool,
    ) {
        let policy = RetryPolicy::lan();
        let mut request = Request::new(DEADLINE, policy, idempotent);
        let (mut now, mut maybe_ran, mut ended) = (at(0), false, false);
        for (made, (failure, random, took)) in (1_u32..).zip(failures) {
            prop_assert_eq!(request.attempts(), made);
            now = now + ms(took);
            maybe_ran |= failure == unknown("lost");
            match request.handle(now, failure, random) {
                Effect::Retry { after, refresh } => {
                    prop_assert!(now + after < DEADLINE);
                    prop_assert!((policy.min..=policy.max).contains(&after) || (after.is_zero() && refresh));
                    prop_assert!(idempotent || !maybe_ran);
                    now = now + after;
                }
                Effect::GiveUp(verdict) => {
                    let denies = match verdict {
                        Verdict::NotDelivered { .. } | Verdict::Unresolved { .. } | Verdict::Overloaded { .. } => true,
                        Verdict::DeadlineExceeded { delivered, .. } => delivered == Delivered::No,
                        Verdict::Rejected { .. } | Verdict::UnknownOutcome { .. } => false,
                    };
                    prop_assert!(!(denies && maybe_ran));
                    ended = true;
                    break;
                }
            }
        }
        prop_assert!(ended);
    }
}
