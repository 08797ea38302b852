//! The numbers of the protocol.

use core::time::Duration;

use crate::topology::Topology;

/// Timing and limits. Every member of a cluster should use the same.
///
/// "memberlist" names hashicorp/memberlist's `DefaultLANConfig` and `DefaultWANConfig` (`config.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// One member is probed in each. 1 s (memberlist). Shorter: crashes are seen sooner, more traffic.
    pub probe_interval: Duration,
    /// A probe unanswered for so long is tried through others; unanswered until the end of the interval, it makes its
    /// member suspect. Less than the interval. 500 ms (memberlist). Shorter: slow members are suspected.
    pub probe_timeout: Duration,
    /// How many others are asked to try. 3 (memberlist). Zero: none, and the timeout alone makes suspect.
    pub indirect_probes: usize,
    /// A suspicion that others confirm lasts `multiplier * probe_interval` in a cluster of up to ten, two thirds of
    /// that longer for each further factor of ten (simulated; memberlist: as much longer), then kills. 4 (memberlist).
    /// Less: stalled members die for nothing. More: the keys of a crashed one stay unserved for longer.
    pub suspicion_multiplier: u32,
    /// One that nobody confirms lasts so many times as long. 6 (memberlist).
    pub suspicion_stretch: u32,
    /// A node in a cluster of three or more that hears nothing from anybody for so long takes itself for cut off, and
    /// declares nobody dead. 5 s: shorter than any suspicion that it could begin meanwhile.
    pub isolated_after: Duration,
    /// When more than one member in so many has become suspect within eight probe intervals, no suspicion kills until
    /// it calms. 3 (a guess).
    pub halt_at_one_in: usize,
    /// But not for so few or fewer. 3 (a guess: small clusters must be able to lose a member or two).
    pub halt_above: usize,
    /// News goes out once in each, what a node has found itself also at once. 200 ms (memberlist).
    pub gossip_interval: Duration,
    /// To how many random members they go each time. 3 (memberlist).
    pub gossip_fanout: usize,
    /// Each piece of news is sent `multiplier * ceil(log10(members + 1))` times by each member, and `multiplier` times
    /// among ten; less often where members show that they know it. 4 (memberlist).
    pub retransmit_multiplier: u32,
    /// Pieces of news in one message. 32 (a guess: about 3 KB).
    pub max_updates_per_message: usize,
    /// Tables are compared with one peer at most once in each, and with four peers in all. 1 s (a guess).
    pub sync_interval: Duration,
    /// How long a dead member's id is refused. 60 s.
    pub quarantine_ttl: Duration,
    /// How long it is remembered that a member has left or that its quarantine is over, so that no stale news of it is
    /// believed. 120 s (a guess: far above the age of any message in flight). Longer: memory under churn. For half as
    /// long again the id is not admitted, so that by then no member remembers it.
    pub tombstone_ttl: Duration,
    /// First pause before the seeds are asked again; doubles, with jitter. 100 ms (a guess).
    pub join_retry_min: Duration,
    /// Longest such pause. 2 s (a guess).
    pub join_retry_max: Duration,
    /// After it a node that must not form a cluster gives up. 10 s.
    pub join_timeout: Duration,
    /// A listed seed forms a cluster by itself when this much time, for each seed listed before it, has brought no
    /// acceptance. 5 s (a guess: far above a join). Shorter: islands when seeds start slowly.
    pub form_after: Duration,
    /// How often known addresses without a living member are contacted, so that partitions heal. 30 s (serf's
    /// `ReconnectInterval`).
    pub contact_interval: Duration,
    /// Longest time spent in leaving before it is left without regard to what is not drained. 10 s (a guess).
    pub drain_timeout: Duration,
    /// How long a node that has left stays to spread the word. 1 s (three gossip rounds).
    pub leave_linger: Duration,
    /// Dead members listed as quarantined at the same time; beyond it the quarantine of the oldest ends. 1,024.
    pub max_quarantined: usize,
    /// Members remembered, dead and removed ones included; beyond it newcomers are refused. 10,000.
    pub max_members: usize,
}

impl Config {
    /// What one answer to a join, the only message with a whole table, can carry.
    pub(super) const MOST_MEMBERS: usize = Topology::MAX_MEMBERS;
    /// Longest of all times: sums and products of them do not overflow.
    pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    /// Greatest of all multipliers, for the same reason.
    const GREATEST: u32 = 1_000;

    /// For nodes of one data centre; also the default.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_probes: 3,
            suspicion_multiplier: 4,
            suspicion_stretch: 6,
            isolated_after: Duration::from_secs(5),
            halt_at_one_in: 3,
            halt_above: 3,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            retransmit_multiplier: 4,
            max_updates_per_message: 32,
            sync_interval: Duration::from_secs(1),
            quarantine_ttl: Duration::from_secs(60),
            tombstone_ttl: Duration::from_secs(120),
            join_retry_min: Duration::from_millis(100),
            join_retry_max: Duration::from_secs(2),
            join_timeout: Duration::from_secs(10),
            form_after: Duration::from_secs(5),
            contact_interval: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            leave_linger: Duration::from_secs(1),
            max_quarantined: 1024,
            max_members: 10_000,
        }
    }

    /// For nodes of one data centre whose processes are never kept from running for long: a crash is known three times
    /// as soon as with [`Config::lan`], and a member that stands still for two seconds may die of it.
    #[must_use]
    pub const fn fast_lan() -> Self {
        Self {
            probe_interval: Duration::from_millis(300),
            probe_timeout: Duration::from_millis(150),
            isolated_after: Duration::from_millis(1500),
            gossip_interval: Duration::from_millis(100),
            sync_interval: Duration::from_millis(500),
            ..Self::lan()
        }
    }

    /// For nodes far apart: probes of 5 s with 3 s to answer, suspicion multiplier 6, gossip to 4 each 500 ms
    /// (memberlist), and joins with three times the patience.
    #[must_use]
    pub const fn wan() -> Self {
        Self {
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            suspicion_multiplier: 6,
            isolated_after: Duration::from_secs(25),
            gossip_interval: Duration::from_millis(500),
            gossip_fanout: 4,
            sync_interval: Duration::from_secs(5),
            join_retry_max: Duration::from_secs(5),
            join_timeout: Duration::from_secs(30),
            form_after: Duration::from_secs(15),
            leave_linger: Duration::from_secs(3),
            ..Self::lan()
        }
    }

    /// For tests on one machine: ten to thirty times as fast as [`Config::lan`].
    #[must_use]
    pub const fn test() -> Self {
        Self {
            probe_interval: Duration::from_millis(100),
            probe_timeout: Duration::from_millis(50),
            isolated_after: Duration::from_millis(500),
            gossip_interval: Duration::from_millis(20),
            sync_interval: Duration::from_millis(50),
            quarantine_ttl: Duration::from_secs(2),
            tombstone_ttl: Duration::from_secs(2),
            join_retry_min: Duration::from_millis(20),
            join_retry_max: Duration::from_millis(100),
            join_timeout: Duration::from_secs(2),
            form_after: Duration::from_millis(300),
            contact_interval: Duration::from_millis(500),
            drain_timeout: Duration::from_secs(1),
            leave_linger: Duration::from_millis(100),
            ..Self::lan()
        }
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    /// The first rule that is broken, with the offending values.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let may_be_zero = [
            ("join_retry_max", self.join_retry_max),
            ("drain_timeout", self.drain_timeout),
            ("leave_linger", self.leave_linger),
        ];
        let durations = [
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
            ("isolated_after", self.isolated_after),
            ("gossip_interval", self.gossip_interval),
            ("sync_interval", self.sync_interval),
            ("quarantine_ttl", self.quarantine_ttl),
            ("tombstone_ttl", self.tombstone_ttl),
            ("join_retry_min", self.join_retry_min),
            ("join_timeout", self.join_timeout),
            ("form_after", self.form_after),
            ("contact_interval", self.contact_interval),
        ];
        let counts = [
            ("suspicion_multiplier", self.suspicion_multiplier as usize),
            ("suspicion_stretch", self.suspicion_stretch as usize),
            ("halt_at_one_in", self.halt_at_one_in),
            ("gossip_fanout", self.gossip_fanout),
            ("retransmit_multiplier", self.retransmit_multiplier as usize),
            ("max_updates_per_message", self.max_updates_per_message),
            ("max_quarantined", self.max_quarantined),
            ("max_members", self.max_members),
        ];
        let zero_duration = durations.iter().find(|(_, value)| value.is_zero()).map(|(field, _)| *field);
        let zero_count = counts.iter().find(|(_, value)| *value == 0).map(|(field, _)| *field);
        if let Some(field) = zero_duration.or(zero_count) {
            return Err(ConfigError::Zero { field });
        }
        let mut times = durations.into_iter().chain(may_be_zero);
        if let Some((field, value)) = times.find(|(_, value)| *value > Self::LONGEST) {
            return Err(ConfigError::TooLong { field, value, limit: Self::LONGEST });
        }
        let limits = [
            ("max_members", self.max_members, Self::MOST_MEMBERS),
            ("max_quarantined", self.max_quarantined, Topology::MAX_BLOCKED),
            ("suspicion_multiplier", self.suspicion_multiplier as usize, Self::GREATEST as usize),
            ("suspicion_stretch", self.suspicion_stretch as usize, Self::GREATEST as usize),
        ];
        if let Some((field, value, limit)) = limits.into_iter().find(|(_, value, limit)| value > limit) {
            return Err(ConfigError::TooMany { field, value, limit });
        }
        if self.probe_timeout >= self.probe_interval {
            return Err(ConfigError::ProbeTimeout { timeout: self.probe_timeout, interval: self.probe_interval });
        }
        if self.join_retry_min > self.join_retry_max {
            return Err(ConfigError::JoinRetry { min: self.join_retry_min, max: self.join_retry_max });
        }
        Ok(())
    }

    pub(crate) fn suspicion_timeout(&self, members: usize) -> Duration {
        let spread = 1.0 + 0.65 * (libm::log10(members.max(10) as f64) - 1.0);
        self.probe_interval.saturating_mul(self.suspicion_multiplier).mul_f64(spread)
    }

    /// How much news a member can send in a second.
    pub(super) fn updates_per_second(&self) -> f64 {
        let gossip = self.gossip_fanout as f64 / self.gossip_interval.as_secs_f64();
        // A ping and an answer.
        let probes = 2.0 / self.probe_interval.as_secs_f64();
        (gossip + probes) * self.max_updates_per_message as f64
    }

    pub(super) fn lapse_ttl(&self) -> Duration {
        self.tombstone_ttl / 2
    }

    pub(super) fn retransmits(&self, members: usize) -> u32 {
        // The count of decimal digits of n is ceil(log10(n + 1)); ten count as fewer, as for suspicions.
        let digits = if members <= 10 { 1 } else { members.ilog10() + 1 };
        self.retransmit_multiplier.saturating_mul(digits)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::lan()
    }
}

/// Values that do not fit together: the caller's mistake, nothing was started, a retry needs other values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// This value must not be zero.
    #[error("membership: {field} is zero")]
    Zero {
        /// Which one.
        field: &'static str,
    },
    /// This value is too large: tables have to fit into a message, and products of numbers into one.
    #[error("membership: {field} {value} is above {limit}")]
    TooMany {
        /// Which one.
        field: &'static str,
        /// As given.
        value: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// This time is longer than any that makes sense; one that never ends is not offered.
    #[error("membership: {field} {value:?} is above {limit:?}")]
    TooLong {
        /// Which one.
        field: &'static str,
        /// As given.
        value: Duration,
        /// The most that is allowed.
        limit: Duration,
    },
    /// A probe must be judged before the next one starts.
    #[error("membership: probe_timeout {timeout:?} is not below probe_interval {interval:?}")]
    ProbeTimeout {
        /// As given.
        timeout: Duration,
        /// As given.
        interval: Duration,
    },
    /// The shortest pause is above the longest.
    #[error("membership: join_retry_min {min:?} is above join_retry_max {max:?}")]
    JoinRetry {
        /// As given.
        min: Duration,
        /// As given.
        max: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_valid() {
        for config in [Config::lan(), Config::fast_lan(), Config::wan(), Config::test()] {
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let config = Config { gossip_fanout: 0, ..Config::lan() };
        assert_eq!(config.validate(), Err(ConfigError::Zero { field: "gossip_fanout" }));
        let value = Config::LONGEST + Duration::from_nanos(1);
        let config = Config { quarantine_ttl: value, ..Config::lan() };
        let refused = ConfigError::TooLong { field: "quarantine_ttl", value, limit: Config::LONGEST };
        assert_eq!(config.validate(), Err(refused));
        let config = Config { max_members: 65_537, ..Config::lan() };
        let refused = ConfigError::TooMany { field: "max_members", value: 65_537, limit: 65_536 };
        assert_eq!(config.validate(), Err(refused));
        let second = Duration::from_secs(1);
        let config = Config { probe_timeout: second, ..Config::lan() };
        assert_eq!(config.validate(), Err(ConfigError::ProbeTimeout { timeout: second, interval: second }));
        let config = Config { join_retry_min: second * 3, ..Config::lan() };
        assert_eq!(config.validate(), Err(ConfigError::JoinRetry { min: second * 3, max: second * 2 }));
    }

    #[test]
    fn a_suspicion_lasts_longer_in_a_larger_cluster() {
        let config = Config::lan();
        assert_eq!(config.suspicion_timeout(3), Duration::from_secs(4));
        assert_eq!(config.suspicion_timeout(10), Duration::from_secs(4));
        assert_eq!(config.suspicion_timeout(100), Duration::from_millis(6600));
        assert_eq!(config.suspicion_timeout(1000), Duration::from_millis(9200));
    }

    #[test]
    fn news_are_sent_more_often_in_a_larger_cluster() {
        let config = Config::lan();
        assert_eq!([0, 1, 9, 10, 11, 99, 100].map(|members| config.retransmits(members)), [4, 4, 4, 4, 8, 8, 12]);
    }
}
