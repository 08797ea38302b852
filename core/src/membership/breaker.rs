//! When suspicions are no longer believed.

use super::Config;
use crate::Timestamp;

/// Stops evictions while suspicions come in numbers that say more about the network, or about this node, than about
/// the members.
///
/// It trips when, within [`Breaker::BUCKETS`] probe intervals, more than a share of the members have become suspect, or
/// when suspicions and refutations come faster than gossip can carry them, so that refutations arrive too late. The
/// second is the law `events * retransmissions < updates per second`: beyond it false suspicions feed themselves. It
/// resumes when both have fallen to half: members that were suspected and do not refute are then dead after all. So a
/// crash of many is a matter of some seconds more, and a storm evicts nobody.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    begun: [u32; Self::BUCKETS],
    refuted: [u32; Self::BUCKETS],
    /// The number of the latest bucket, counted from the origin of time.
    latest: u64,
    halted: bool,
}

impl Breaker {
    /// Each as long as a probe interval.
    const BUCKETS: usize = 8;

    pub(super) fn note_begun(&mut self, now: Timestamp, config: &Config) {
        let bucket = self.turn_to(now, config);
        if let Some(count) = self.begun.get_mut(bucket) {
            *count += 1;
        }
    }

    pub(super) fn note_refuted(&mut self, now: Timestamp, config: &Config) {
        let bucket = self.turn_to(now, config);
        if let Some(count) = self.refuted.get_mut(bucket) {
            *count += 1;
        }
    }

    /// Whether it is in the other state now.
    pub(super) fn review(&mut self, now: Timestamp, config: &Config, members: usize) -> bool {
        self.turn_to(now, config);
        let half = if self.halted { 2 } else { 1 };
        let begun = self.begun() as usize * half;
        let crowd = begun > config.halt_above.max(members / config.halt_at_one_in);
        let load = f64::from(self.begun() + self.refuted.iter().sum::<u32>()) * half as f64;
        let seconds = config.probe_interval.as_secs_f64() * Self::BUCKETS as f64;
        let flood = load * f64::from(config.retransmits(members)) > config.updates_per_second() * seconds;
        let was = core::mem::replace(&mut self.halted, crowd || flood);
        was != self.halted
    }

    pub(super) const fn is_halted(&self) -> bool {
        self.halted
    }

    /// Suspicions that have begun lately.
    pub(super) fn begun(&self) -> u32 {
        self.begun.iter().sum()
    }

    /// The bucket of this time; those between it and the latest are emptied.
    fn turn_to(&mut self, now: Timestamp, config: &Config) -> usize {
        let number = now.since_origin().as_nanos() / config.probe_interval.as_nanos().max(1);
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let passed = number.saturating_sub(self.latest).min(Self::BUCKETS as u64);
        for skipped in 0..passed {
            let bucket = Self::bucket(number - skipped);
            if let (Some(begun), Some(refuted)) = (self.begun.get_mut(bucket), self.refuted.get_mut(bucket)) {
                (*begun, *refuted) = (0, 0);
            }
        }
        self.latest = self.latest.max(number);
        Self::bucket(self.latest)
    }

    const fn bucket(number: u64) -> usize {
        (number % Self::BUCKETS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    #[test]
    fn a_third_of_the_members_suspected_at_once_halts_and_a_quiet_time_resumes() {
        let (config, mut breaker) = (Config::lan(), Breaker::default());
        for second in 1..=4 {
            breaker.note_begun(at(second), &config);
            assert_eq!(breaker.review(at(second), &config, 10), second == 4, "at {second} s");
        }
        assert!(breaker.is_halted());
        assert!(!breaker.review(at(10), &config, 10), "two of them are recent");
        assert!(breaker.review(at(11), &config, 10));
        assert!(!breaker.is_halted());
    }

    #[test]
    fn the_same_number_spread_over_time_does_not() {
        let (config, mut breaker) = (Config::lan(), Breaker::default());
        for round in 0..20 {
            breaker.note_begun(at(3 * round), &config);
            assert!(!breaker.review(at(3 * round), &config, 10));
        }
    }

    #[test]
    fn more_suspicions_and_refutations_than_gossip_carries_halt_though_they_are_few_of_many() {
        let (config, mut breaker) = (Config::lan(), Breaker::default());
        // 17 messages of 32 updates in a second, each piece of news sent 16 times: 34 events in a second.
        for _ in 0..8 * 17 {
            breaker.note_begun(at(1), &config);
            breaker.note_refuted(at(1), &config);
        }
        assert!(!breaker.review(at(1), &config, 5000));
        breaker.note_refuted(at(1), &config);
        assert!(breaker.review(at(1), &config, 5000));
    }

    /// How probable it is that a probe and those of all helpers fail although the member lives, when so much of what is
    /// sent is lost: a probe is two messages, one by a helper four.
    fn failure(config: &Config, loss: f64) -> f64 {
        let lost = |messages| 1.0 - core::iter::repeat_n(1.0 - loss, messages).product::<f64>();
        core::iter::repeat_n(lost(4), config.indirect_probes).fold(lost(2), |failure, helper| failure * helper)
    }

    /// The greatest loss, in percent, that is allowed.
    fn greatest_loss(is_allowed: impl Fn(f64) -> bool) -> u32 {
        (0..=100).take_while(|percent| is_allowed(f64::from(*percent) / 100.0)).last().unwrap()
    }

    /// At which every member probes one in each interval, and what gossip carries suffices for a suspicion and a
    /// refutation of each that fails.
    fn greatest_loss_carried(config: &Config, members: usize) -> u32 {
        let probes = members as f64 / config.probe_interval.as_secs_f64();
        let sent = f64::from(config.retransmits(members));
        greatest_loss(|loss| 2.0 * probes * failure(config, loss) * sent <= config.updates_per_second())
    }

    /// At which not too many become suspect at once.
    fn greatest_loss_without_a_crowd(config: &Config, members: usize) -> u32 {
        let probes = members * Breaker::BUCKETS;
        let enough = config.halt_above.max(members / config.halt_at_one_in) as f64;
        greatest_loss(|loss| probes as f64 * failure(config, loss) <= enough)
    }

    #[test]
    fn the_bounds_of_loss_that_the_semantics_state_are_those_of_the_code() {
        let semantics = include_str!("../../../docs/semantics.md");
        let (_, table) = semantics.split_once("| members | `Timing::lan()` | `Timing::fast_lan()` |").unwrap();
        let mut rows = table.lines().skip(2);
        for members in [10, 100, 1_000, 2_000, 5_000, 10_000] {
            let mut cells = rows.next().unwrap().split('|').skip(1).map(str::trim);
            assert_eq!(cells.next().unwrap().replace(',', "").parse(), Ok(members));
            for config in [Config::lan(), Config::fast_lan()] {
                let stated = cells.next().unwrap();
                let stated = if stated == "any" { 100 } else { stated.trim_end_matches(" %").parse().unwrap() };
                assert_eq!(stated, greatest_loss_carried(&config, members), "{members} members");
                let crowd = alloc::format!("Above {} %", greatest_loss_without_a_crowd(&config, members));
                assert!(table.contains(&crowd), "{crowd}, of {members} members");
            }
        }
        assert_eq!(rows.next(), Some(""), "no other row");
    }
}
