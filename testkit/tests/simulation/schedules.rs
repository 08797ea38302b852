//! Random schedules of faults: nothing is broken, and all agree in the end.

use gristmill_testkit::simulation::{Campaign, Trial};

// proves MG-2.4
#[test]
fn after_any_schedule_of_faults_all_members_agree_and_nothing_was_broken() {
    let campaign = Campaign::run(0..40, |seed| Trial::random(seed, 8), |_| true);
    if let Some((seed, violation)) = campaign.failures.first() {
        panic!("seed {seed}: {violation}\n{}", Trial::random(*seed, 8).shrink().schedule);
    }
    assert_eq!(campaign.trials, 40);
}

// proves MG-3.3
#[test]
fn a_liar_among_them_changes_nothing_of_that() {
    let campaign = Campaign::run(0..40, |seed| Trial::random(seed, 8).with_liar(), |_| true);
    if let Some((seed, violation)) = campaign.failures.first() {
        panic!("seed {seed}: {violation}\n{}", Trial::random(*seed, 8).with_liar().shrink().schedule);
    }
    assert_eq!(campaign.trials, 40);
}
