//! Each checker finds the defect that was planted for it.

use gristmill_testkit::simulation::{Bug, Trial};

/// How many histories it takes until the defect breaks something that holds without it, and what.
fn found(bug: Bug) -> Option<(u64, &'static str)> {
    (0..1000).find_map(|seed| {
        let clean = Trial::random(seed, 8);
        let clean = if bug.needs_liar() { clean.with_liar() } else { clean };
        let violation = Trial { bug: Some(bug), ..clean.clone() }.run().violation?;
        clean.run().violation.is_none().then_some((seed + 1, violation.rule))
    })
}

#[test]
fn every_planted_defect_is_found_within_a_thousand_histories() {
    let found: Vec<_> = std::thread::scope(|scope| {
        let searches = Bug::ALL.map(|bug| (bug, scope.spawn(move || found(bug))));
        searches.map(|(bug, search)| (bug, search.join().unwrap())).into()
    });
    for (bug, by) in &found {
        println!("{bug:?}: {by:?}");
    }
    assert!(found.iter().all(|(_, by)| by.is_some()), "{found:?}");
}
