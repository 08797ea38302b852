//! Defects that are planted, each with a rule that it must break: so each rule is seen to be looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use super::node::Bug;
use super::shrink::Trial;

/// A defect, a rule that it breaks, and a history that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planted {
    /// What is wrong with every process.
    pub bug: Bug,
    /// The rule that must say so.
    pub rule: &'static str,
    /// A history in which it does.
    pub seed: u64,
}

impl Planted {
    /// In so many histories, from the first seed, each defect must be found.
    pub const LIMIT: u64 = 1000;

    /// All that are planted.
    pub const ALL: [Self; 24] = [
        Self::new(Bug::NeverRefutes, "M4", 32),
        Self::new(Bug::OutlivesEviction, "M7", 54),
        Self::new(Bug::NeverProbes, "M5", 0),
        Self::new(Bug::KillsWithoutSuspicion, "M4", 63),
        Self::new(Bug::NeverCompares, "M5", 84),
        Self::new(Bug::Resurrects, "M8", 0),
        Self::new(Bug::NeverForgets, "M8", 0),
        Self::new(Bug::WritesForOthers, "M2", 0),
        Self::new(Bug::SpeaksOfGhosts, "M6", 0),
        Self::new(Bug::GoesBack, "M1", 2),
        Self::new(Bug::NeverFences, "P2", 26),
        Self::new(Bug::BelievesHearsay, "M3", 1),
        Self::new(Bug::StopsAtOneVoice, "M3", 0),
        Self::new(Bug::BelievesInGhosts, "M2", 9),
        Self::new(Bug::TellsWhatItWasTold, "M2", 9),
        Self::new(Bug::TakesSentForReceived, "G3", 8),
        Self::new(Bug::KeepsValuesOfTheGone, "G3", 0),
        Self::new(Bug::ForgetsTheLiving, "G2", 0),
        Self::new(Bug::WritesValuesOfOthers, "G1", 0),
        Self::new(Bug::AdoptsClaimsAboutItself, "G1", 0),
        Self::new(Bug::NeverDisowns, "G3", 3),
        Self::new(Bug::SaysTwiceWhoWent, "G4", 0),
        Self::new(Bug::TakesTheDeadForLeft, "G4", 0),
        Self::new(Bug::MissesDisagreement, "G5", 0),
    ];

    const fn new(bug: Bug, rule: &'static str, seed: u64) -> Self {
        Self { bug, rule, seed }
    }

    /// The history of this seed, without the defect.
    #[must_use]
    pub fn clean(&self, seed: u64) -> Trial {
        let trial = Trial::random(seed, self.most_hosts());
        if self.bug.needs_liar() { trial.with_liar() } else { trial }
    }

    /// The most hosts of a history in which it is looked for.
    const fn most_hosts(&self) -> usize {
        match self.bug {
            // Of a few members news misses hardly ever one, so that there is little to repair; of many it does.
            Bug::NeverCompares => 24,
            _ => 8,
        }
    }

    /// For each of these the first of its `seeds` whose history breaks the rule with the defect, and nothing without.
    ///
    /// The histories are shared out among as many threads as the machine runs at once; the answer is the same with any
    /// number of them.
    pub fn search<S: IntoIterator<Item = u64>>(planted: &[Self], seeds: impl Fn(&Self) -> S) -> Vec<Option<u64>> {
        let seeds: Vec<Vec<_>> = planted.iter().map(|one| seeds(one).into_iter().collect()).collect();
        let most = seeds.iter().map(Vec::len).max().unwrap_or(0);
        let next = AtomicUsize::new(0);
        // The place of the seed among those of its defect.
        let found = Mutex::new(vec![None; planted.len()]);
        let clean = Mutex::new(BTreeMap::<_, Arc<OnceLock<bool>>>::new());
        let work = || {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= most * planted.len() {
                    return;
                }
                let (place, row) = (turn / planted.len(), turn % planted.len());
                let (one, Some(seed)) = (&planted[row], seeds[row].get(place)) else { continue };
                let is_found = |found: &Option<usize>| found.is_some_and(|found| found < place);
                if is_found(&lock(&found)[row]) {
                    continue;
                }
                let trial = one.clean(*seed);
                let broken = Trial { bug: Some(one.bug), ..trial.clone() }.run().violation;
                if broken.is_none_or(|violation| violation.rule != one.rule) {
                    continue;
                }
                let is_clean =
                    Arc::clone(lock(&clean).entry((*seed, one.most_hosts(), one.bug.needs_liar())).or_default());
                if *is_clean.get_or_init(|| trial.run().violation.is_none()) {
                    let known = &mut lock(&found)[row];
                    *known = Some(known.map_or(place, |known| known.min(place)));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.into_iter().zip(seeds).map(|(place, seeds)| place.map(|place| seeds[place])).collect()
    }
}

/// As it is written in [`Planted::ALL`].
impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Self::new(Bug::{:?}, {:?}, {}),", self.bug, self.rule, self.seed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
