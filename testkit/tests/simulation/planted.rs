//! Each checker finds the defect that was planted for it.

use gristmill_testkit::simulation::{Bug, Campaign};

/// How many seeds it takes to find each defect, and by which rule.
#[test]
fn every_planted_defect_is_found() {
    for bug in Bug::ALL {
        let campaign = Campaign::run(0..1000, 8, Some(bug), |campaign| campaign.failures.is_empty());
        assert!(!campaign.failures.is_empty(), "{bug:?} was not found");
        println!("{bug:?}: {} seeds, {}", campaign.trials, campaign.failures[0].1);
    }
}
