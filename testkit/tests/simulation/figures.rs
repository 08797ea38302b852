//! What is promised in figures, for a few seeds each: `simulate --scenario report` measures them for many.

use std::time::Duration;

use gristmill_core::downing;
use gristmill_testkit::simulation::Bug;
use gristmill_testkit::simulation::scenario::{self, Going, Setting};

fn known_within(nodes: usize, trials: u64, how: Going, most: Duration) {
    let ours = scenario::going(&Setting::new(nodes).trials(trials), how);
    assert_eq!((ours.violation, ours.incomplete, ours.false_deaths), (None, 0, 0), "{how:?} at {nodes} nodes");
    assert_eq!(ours.all.len() as u64, trials);
    assert!(ours.all.iter().all(|all| *all <= most), "{how:?} at {nodes} nodes: {:?}", ours.all);
}

#[test]
fn a_killed_process_is_known_to_all_within_a_second() {
    known_within(10, 10, Going::Kill, Duration::from_secs(1));
    known_within(100, 3, Going::Kill, Duration::from_secs(1));
}

#[test]
fn a_leave_is_known_to_all_within_a_second() {
    known_within(100, 3, Going::Leave, Duration::from_secs(1));
}

#[test]
fn a_silent_crash_is_known_to_ten_within_nine_seconds_and_to_a_hundred_within_fourteen() {
    known_within(10, 10, Going::Crash, Duration::from_secs(9));
    known_within(100, 2, Going::Crash, Duration::from_secs(14));
}

/// Somebody is suspected each second or so, and refutes.
#[test]
fn a_silent_crash_among_fifty_is_released_within_twenty_seconds_at_ten_percent_loss() {
    let downing = Some(downing::Config::keep_majority());
    let ours = scenario::going(&Setting { downing, ..Setting::new(50).loss(0.1) }, Going::Crash);
    assert_eq!((ours.violation, ours.incomplete, ours.false_deaths), (None, 0, 0));
    assert!(ours.all_released.iter().all(|all| *all <= Duration::from_secs(20)), "{:?}", ours.all_released);
    assert!(ours.traffic.totals.refutations > 10, "{:?}", ours.traffic.totals);
}

#[test]
fn eight_of_128_that_stand_still_have_no_healthy_one_killed_and_come_back() {
    let ours = scenario::stalls(&Setting::new(128), 8, Duration::from_secs(16), Duration::from_millis(1), 1);
    assert_eq!((ours.violation, ours.healthy_killed), (None, 0));
    assert!(ours.faulty_killed > 0 && ours.healed_after.is_some(), "{:?} {:?}", ours.faulty_killed, ours.healed_after);
}

#[test]
fn of_ten_that_are_cut_in_halves_one_half_goes_on_after_the_other_has_stopped() {
    let ours = scenario::partition(&Setting::new(10).trials(3), 5, Duration::from_secs(60));
    assert_eq!((ours.violation, ours.splits.len()), (None, 3));
    for split in ours.splits {
        assert_eq!(split.sides(), 1, "{split:?}");
        let (fenced, (released, _)) = split.fenced.zip(split.released).unwrap();
        assert!(fenced < released, "{split:?}");
    }
    assert!(ours.healed_after.is_some_and(|healed| healed <= Duration::from_secs(30)), "{:?}", ours.healed_after);
}

#[test]
fn a_deaf_one_of_ten_fences_itself_and_no_other_is_killed() {
    let setting = Setting { downing: Some(downing::Config::keep_majority()), ..Setting::new(10).trials(3) };
    let ours = scenario::deaf(&setting, 1, Duration::from_secs(60));
    assert_eq!((ours.violation, ours.healthy_killed, ours.splits.len()), (None, 0, 3));
    assert!(ours.splits.iter().all(|split| split.serving == [0, 9] && split.fenced.is_some()), "{:?}", ours.splits);
}

#[test]
fn what_is_broken_in_a_scenario_is_told_with_its_figures() {
    let setting = Setting { bug: Some(Bug::SpeaksOfGhosts), ..Setting::new(16) };
    let ours = scenario::stalls(&setting, 2, Duration::from_secs(16), Duration::from_millis(1), 1);
    assert_eq!(ours.violation.map(|violation| violation.rule), Some("M6"));
}
