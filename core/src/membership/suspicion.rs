//! How long a suspicion lasts.

use core::time::Duration;

use super::{Config, Record};
use crate::Timestamp;

/// One suspicion that runs, as this node sees it.
///
/// Lifeguard (arXiv 1707.00788, section IV-B): it begins with the longest time and each independent confirmation
/// shortens it, on a logarithmic scale, down to the shortest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// Since when this node knows of it, less the time that it did not live through.
    pub(super) started: Timestamp,
    /// Whether this node accuses for what it has seen itself.
    pub(super) mine: bool,
    /// Whether the suspect has answered this node's own probe since, and after its last failure.
    pub(super) answers: bool,
}

impl Suspicion {
    pub(super) const fn new(started: Timestamp) -> Self {
        Self { started, mine: false, answers: false }
    }

    /// How long it lasts with so many accusers in a cluster of `members`, this one and the suspects included, of whom
    /// `suspects` are suspected. Where there are fewer others than would be asked to confirm, so many are enough.
    pub(super) fn lasts(config: &Config, members: usize, suspects: usize, accusers: usize) -> Duration {
        let shortest = config.suspicion_timeout(members);
        let confirmers = members.saturating_sub(suspects + 1).min(Record::MOST_ACCUSERS - 1);
        let confirmed = accusers.saturating_sub(1);
        if confirmed >= confirmers {
            return shortest;
        }
        let longest = shortest.saturating_mul(config.suspicion_stretch);
        let share = libm::log((confirmed + 1) as f64) / libm::log((confirmers + 1) as f64);
        longest.saturating_sub((longest - shortest).mul_f64(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_confirmation_shortens_a_suspicion_and_the_first_the_most() {
        let lasts =
            |members, suspects, accusers| Suspicion::lasts(&Config::lan(), members, suspects, accusers).as_millis();
        assert_eq!([1, 2, 3, 4, 5].map(|accusers| lasts(10, 1, accusers)), [24_000, 14_000, 8_150, 4_000, 4_000]);
        assert_eq!([1, 4].map(|accusers| lasts(1000, 1, accusers)), [55_200, 9200]);
    }

    #[test]
    fn who_has_nobody_to_ask_waits_for_no_confirmation() {
        let lasts =
            |members, suspects, accusers| Suspicion::lasts(&Config::lan(), members, suspects, accusers).as_millis();
        assert_eq!(lasts(2, 1, 1), 4000);
        assert_eq!([1, 2].map(|accusers| lasts(3, 1, accusers)), [24_000, 4000]);
        assert_eq!(lasts(3, 2, 1), 4000);
    }
}
