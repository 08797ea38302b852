//! Random schedules of faults: nothing is broken, and all agree in the end.

use gristmill_core::downing::Config;
use gristmill_testkit::simulation::{Campaign, Trial};

// proves MG-2.4
#[test]
fn after_any_schedule_of_faults_all_members_agree_and_nothing_was_broken() {
    let campaign = Campaign::run(0..40, 8, None, &Config::default(), |_| true);
    if let Some((seed, violation)) = campaign.failures.first() {
        panic!("seed {seed}: {violation}\n{}", Trial::random(*seed, 8).shrink().schedule);
    }
    assert_eq!(campaign.trials, 40);
}
