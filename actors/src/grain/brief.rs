//! Which kinds are so quick that their callers run them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The mean length, in nanoseconds, up to which turns are brief: about what it costs to wake another core, below which
/// nothing is won by running a turn beside its caller.
const BRIEF: u32 = 4_000;

/// One outlier, however long, counts as this much.
const LONGEST: u32 = 8 * BRIEF;

/// One in so many of what a thread runs is measured. A prime, so that of things that take turns each gets its share.
const SAMPLED: u8 = 31;

/// Calls between grains, and activations, that may run inside each other in one task, so that a chain of them cannot
/// exhaust its stack.
const MOST_NESTED: u8 = 8;

/// Whether the turns of a kind, or its activations, are brief and do not wait, as far as samples tell.
///
/// An exponentially weighted mean with the weight 1/8 for the newest sample. A kind begins as one that is not brief and
/// needs some samples to prove otherwise; a turn that waits counts with all of its time.
#[derive(Debug)]
pub(crate) struct Brief {
    mean: AtomicU32,
}

impl Default for Brief {
    fn default() -> Self {
        Self { mean: AtomicU32::new(LONGEST) }
    }
}

impl Brief {
    pub(super) fn holds(&self) -> bool {
        self.mean.load(Ordering::Relaxed) <= BRIEF
    }

    /// When what begins now began, if it is to be measured.
    pub(super) fn sample(&self) -> Option<Instant> {
        thread_local! {
            static TURNS: Cell<u8> = const { Cell::new(0) };
        }
        let turn = TURNS.get();
        TURNS.set((turn + 1) % SAMPLED);
        (turn == 0).then(Instant::now)
    }

    pub(super) fn took(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.record(began.elapsed());
        }
    }

    pub(super) fn record(&self, took: Duration) {
        let took = u32::try_from(took.as_nanos()).unwrap_or(LONGEST).min(LONGEST);
        // A sample that is lost to another thread is no loss.
        let mean = self.mean.load(Ordering::Relaxed);
        self.mean.store(mean - mean / 8 + took / 8, Ordering::Relaxed);
    }
}

/// One call or activation that runs inside its caller's task, as long as this lives.
pub(super) struct Nested(());

thread_local! {
    static DEPTH: Cell<u8> = const { Cell::new(0) };
}

impl Nested {
    /// One level deeper, unless that is too deep.
    pub(super) fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < MOST_NESTED).then(|| {
            DEPTH.set(depth + 1);
            Self(())
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_proves_that_it_is_brief_and_loses_it_again() {
        let brief = Brief::default();
        assert!(!brief.holds());
        (0..32).for_each(|_| brief.record(Duration::from_nanos(100)));
        assert!(brief.holds());
        brief.record(Duration::from_secs(9));
        brief.record(Duration::from_secs(9));
        assert!(!brief.holds());
    }

    #[test]
    fn one_long_turn_among_many_is_forgiven() {
        let brief = Brief::default();
        (0..32).for_each(|_| brief.record(Duration::ZERO));
        brief.record(Duration::from_micros(20));
        assert!(brief.holds());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep: Vec<_> = std::iter::from_fn(Nested::enter).take(100).collect();
        assert_eq!(deep.len(), usize::from(MOST_NESTED));
        drop(deep);
        assert!(Nested::enter().is_some());
    }
}
