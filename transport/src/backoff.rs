//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Exponential backoff with full jitter: the n-th wait is uniform between zero and `min(longest, first · 2ⁿ)`.
///
/// Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("full jitter"). The caller draws
/// the random bits and resets it once a connection stands.
///
/// ```
/// use gristmill_transport::backoff::Backoff;
/// use std::time::Duration;
///
/// let mut backoff = Backoff::default();
/// assert_eq!(backoff.next(u64::MAX), Duration::from_millis(100));
/// assert_eq!(backoff.next(u64::MAX / 2), Duration::from_millis(100)); // half of 200
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, none is longer than `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = first.min(longest);
        Self { first, longest, ceiling: first }
    }

    /// How long to wait now; `random` is uniform over all of `u64`.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = u64::try_from(self.ceiling.as_nanos()).unwrap_or(u64::MAX);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.longest);
        // The high half of the product, rounded: no larger than the ceiling.
        let product = u128::from(ceiling) * u128::from(random);
        Duration::from_nanos(u64::try_from(product.div_ceil(u128::from(u64::MAX))).unwrap_or(ceiling))
    }

    /// Starts again with the shortest wait.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

impl Default for Backoff {
    /// 100 ms to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest_and_starts_again_after_a_reset() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), Duration::from_millis(100));
    }

    #[test]
    fn full_jitter_reaches_down_to_zero() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(u64::MAX / 4), Duration::from_millis(100));
    }

    #[test]
    fn a_ceiling_of_years_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX / 2);
        assert!(backoff.next(u64::MAX) > Duration::from_secs(1 << 33));
        assert!(backoff.next(u64::MAX) > Duration::from_secs(1 << 33));
    }
}
