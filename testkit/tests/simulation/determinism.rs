//! The same seed gives the same history.

use std::time::Duration;

use gristmill_core::Timestamp;
use gristmill_testkit::simulation::{Schedule, Simulation, SimulationConfig, Trial};

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another_one() {
    let trace = |seed| {
        let outcome = Trial::random(seed, 8).run();
        (outcome.trace, outcome.totals, outcome.violation)
    };
    assert_eq!(trace(11), trace(11));
    assert_ne!(trace(11), trace(12));
}

#[test]
fn a_schedule_that_was_printed_gives_the_same_trace_when_it_is_read_again() {
    let trial = Trial::random(5, 8);
    let printed: Schedule = trial.schedule.to_string().parse().unwrap();
    assert_eq!(trial.run(), Trial { schedule: printed, ..trial.clone() }.run());
}

#[test]
fn a_cluster_that_is_left_alone_stays_as_it_is() {
    let mut simulation = Simulation::new(SimulationConfig::new(30, 1));
    simulation.run_until(Timestamp::new(Duration::from_secs(30))).unwrap();
    assert_eq!(simulation.agreed(), Ok(()));
    let totals = simulation.history().totals;
    assert_eq!((totals.refutations, totals.false_suspicions, totals.lost, totals.syncs), (0, 0, 0, 0));
    // One probe and one answer of each node in each second.
    assert!((1700..=1860).contains(&totals.messages), "{totals:?}");
}
