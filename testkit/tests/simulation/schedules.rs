//! Random schedules of faults: nothing is broken, and all agree in the end.

use gristmill_testkit::simulation::{Bug, Campaign, Trial};

// proves MG-2.4
#[test]
fn after_any_schedule_of_faults_all_members_agree_and_nothing_was_broken() {
    let campaign = Campaign::run(0..40, |seed| Trial::random(seed, 8), |_| true);
    if let Some((seed, violation)) = campaign.failures.first() {
        panic!("seed {seed}: {violation}\n{}", Trial::random(*seed, 8).shrink().schedule);
    }
    assert_eq!(campaign.trials, 40);
}

// Partitions, and nothing that would excuse whoever serves what another has released (P2).
#[test]
fn no_split_leaves_a_process_serving_what_another_has_released() {
    let campaign = Campaign::run(0..40, |seed| Trial::splits(seed, 8), |_| true);
    if let Some((seed, violation)) = campaign.failures.first() {
        panic!("seed {seed}: {violation}\n{}", Trial::splits(*seed, 8).shrink().schedule);
    }
    assert!(campaign.armed >= 10, "looked at in {} of {}", campaign.armed, campaign.trials);
}

#[test]
fn what_has_not_gone_wrong_yet_excuses_nobody_who_serves_what_another_has_released() {
    let broken = |drift: &str| {
        let schedule = format!("@1000ms partition n0,n1 for 10000ms\n{drift}").parse().unwrap();
        Trial { bug: Some(Bug::NeverFences), hosts: 5, schedule, ..Trial::random(1, 5) }.run().violation
    };
    assert_eq!(broken("@10000ms drift n4 1001").map(|violation| violation.rule), Some("P2"));
    assert_ne!(broken("@500ms drift n4 1001").map(|violation| violation.rule), Some("P2"));
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
