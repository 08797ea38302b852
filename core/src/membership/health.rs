//! How far this node trusts its own word.

use core::time::Duration;

/// The local health of Lifeguard (arXiv 1707.00788, section IV-A): what has gone wrong lately that may be this node's
/// own fault. It stretches the node's probes, so that a slow node accuses less.
///
/// | event | change |
/// | --- | --- |
/// | a probe was answered | -1 |
/// | a probe was not, and of those who were asked to try some said nothing either | +1 for each of these |
/// | a probe was not, and there was nobody to ask | +1 |
/// | a suspicion of this node itself was refuted | +1 |
/// | this node was kept from running | +1, and one more for each probe timeout that it lasted |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    score: u32,
}

impl Health {
    /// The paper's maximum.
    const WORST: u32 = 8;

    pub(super) const fn score(self) -> u32 {
        self.score
    }

    pub(super) fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    pub(super) fn worsen(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(Self::WORST);
    }

    /// What a time of the configuration is for a node of this health.
    pub(super) fn scale(self, time: Duration) -> Duration {
        time.saturating_mul(1 + self.score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_stretches_time_within_bounds() {
        let mut health = Health::default();
        let second = Duration::from_secs(1);
        health.improve();
        assert_eq!(health.scale(second), second);
        health.worsen(2);
        assert_eq!(health.scale(second), 3 * second);
        health.worsen(100);
        assert_eq!((health.scale(second), health.score()), (9 * second, 8));
        health.improve();
        assert_eq!(health.scale(second), 8 * second);
    }
}
