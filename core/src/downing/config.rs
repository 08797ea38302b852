//! Which side of a partition goes on, and how long each step waits.

use core::time::Duration;

use crate::membership;

const SHORTEST_STABLE: Duration = Duration::from_millis(500);

/// Which side goes on. Every node of a cluster must use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The side with more than half of the members; of two halves the one with the lowest id. So of two members the
    /// older one goes on, and when it vanishes the younger one stops, as in Pekko.
    KeepMajority,
    /// The side with at least this many members. When there are so many that two sides could have them (twice the
    /// quorum or more), no side goes on.
    StaticQuorum(usize),
    /// The side of the oldest member, the one with the lowest id: ids begin with the time of their start. Until it has
    /// settled, who runs in the place of another is as old as that one.
    KeepOldest {
        /// An oldest member that is cut off from all others, who are two at least, goes down instead of them.
        down_if_alone: bool,
    },
    /// No side.
    DownAll,
    /// Both sides: who is dead is released at once, and nobody fences itself.
    Off,
}

/// A strategy and its waiting times. The default is [`Config::keep_majority`].
///
/// Times that are not set follow from the membership's: T its probe interval, t its probe timeout, n the members,
/// `spread` = max(1, log10 n), `rounds` = ceil((n - 1) / `poll_limit`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(super) strategy: Strategy,
    pub(super) stable_after: Option<Duration>,
    pub(super) margin: Option<Duration>,
    pub(super) unstable_after: Option<Duration>,
    pub(super) poll_limit: usize,
}

impl Config {
    /// See [`Strategy::KeepMajority`].
    #[must_use]
    pub const fn keep_majority() -> Self {
        Self::new(Strategy::KeepMajority)
    }

    /// See [`Strategy::StaticQuorum`].
    #[must_use]
    pub const fn static_quorum(members: usize) -> Self {
        Self::new(Strategy::StaticQuorum(members))
    }

    /// See [`Strategy::KeepOldest`]; `down_if_alone` is on, as in Pekko.
    #[must_use]
    pub const fn keep_oldest() -> Self {
        Self::new(Strategy::KeepOldest { down_if_alone: true })
    }

    /// See [`Strategy::DownAll`].
    #[must_use]
    pub const fn down_all() -> Self {
        Self::new(Strategy::DownAll)
    }

    /// See [`Strategy::Off`].
    #[must_use]
    pub const fn off() -> Self {
        Self::new(Strategy::Off)
    }

    /// The strategy with every waiting time at its default.
    #[must_use]
    pub const fn new(strategy: Strategy) -> Self {
        Self { strategy, stable_after: None, margin: None, unstable_after: None, poll_limit: 64 }
    }

    /// How long a node must have seen itself on a losing side before it fences. Default 2 T `spread`, but half a second
    /// at least, for which a busy machine may stand still: 2 s up to ten members, 4 s at 100, 6 s at 1,000. It grows
    /// with the logarithm of the members as Pekko's table does (7 s at 5, 10 s at 10, 20 s at 100, 30 s at 1,000: ten
    /// times the logarithm) and is a fifth of it, because Pekko's covers detection and spread too, which here are
    /// waited for on their own. Shorter: a short disturbance fences. Longer: the keys of the losers are unserved for
    /// longer.
    #[must_use]
    pub const fn stable_after(mut self, time: Duration) -> Self {
        self.stable_after = Some(time);
        self
    }

    /// How much longer than suspicion and `stable_after` the winner waits. Default T `spread` + 3 t `rounds`: 2.5 s up
    /// to ten members, 5 s at 100, 27 s at 1,000. Those who are found unreachable within it are released together.
    /// Shorter than the default: losers may still serve when it takes over.
    #[must_use]
    pub const fn margin(mut self, time: Duration) -> Self {
        self.margin = Some(time);
        self
    }

    /// A node whose view has had unreachable members for so long, without any decision, goes down, on every side.
    /// Default: never. Pekko does this by default, because there a side that cannot decide goes on serving; here the
    /// losing side fences whether its view is stable or not, so that instability costs time and not safety. Not for
    /// hundreds of members that lose messages: somebody there is suspected at nearly any time.
    #[must_use]
    pub const fn down_all_when_unstable(mut self, after: Duration) -> Self {
        self.unstable_after = Some(after);
        self
    }

    /// Members asked in one round while there are unreachable ones. Default 64, a guess: 128 small messages in a second
    /// with the default timing. Fewer: larger clusters need a longer margin.
    #[must_use]
    pub const fn poll_limit(mut self, members: usize) -> Self {
        self.poll_limit = members;
        self
    }

    /// Which side goes on.
    #[must_use]
    pub const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Of so many members of a settled view, how many must have been cut off, under whatever names, so that no side
    /// with members of that view goes on. They may then form the cluster anew: no others, for they are more than half.
    #[must_use]
    pub const fn enough_to_form(&self, members: usize) -> usize {
        let enough = match self.strategy {
            // Of two halves one may go on.
            Strategy::KeepMajority => members / 2 + 1,
            Strategy::StaticQuorum(quorum) => {
                let (enough, half) = ((members + 1).saturating_sub(quorum), members / 2 + 1);
                if enough < half { half } else { enough }
            }
            // Any side may, or need not have fenced.
            Strategy::KeepOldest { .. } | Strategy::DownAll | Strategy::Off => members,
        };
        if enough == 0 { 1 } else { enough }
    }

    /// Whether the values fit together, and with those of the membership.
    ///
    /// # Errors
    /// The first rule that is broken, with the offending value.
    pub fn validate(&self, membership: &membership::Config) -> Result<(), ConfigError> {
        if self.strategy == Strategy::StaticQuorum(0) {
            return Err(ConfigError::Zero { field: "static_quorum" });
        }
        if self.poll_limit == 0 {
            return Err(ConfigError::Zero { field: "poll_limit" });
        }
        if self.stable_after.is_some_and(|time| time.is_zero()) {
            return Err(ConfigError::Zero { field: "stable_after" });
        }
        let times = [("stable_after", self.stable_after), ("down_all_when_unstable", self.unstable_after)];
        let limit = membership::Config::LONGEST;
        for (field, value) in times.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            if value > limit {
                return Err(ConfigError::TooLong { field, value, limit });
            }
        }
        let pace = Pace { config: self, membership };
        if let Some(after) = self.unstable_after.filter(|after| *after <= pace.takeover(1)) {
            return Err(ConfigError::UnstableTooSoon { after, takeover: pace.takeover(1) });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::keep_majority()
    }
}

/// The waiting times in a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace<'a> {
    pub(super) config: &'a Config,
    pub(super) membership: &'a membership::Config,
}

impl Pace<'_> {
    pub(super) fn stable_after(self, members: usize) -> Duration {
        let scaled = || (self.membership.probe_interval * 2).mul_f64(spread(members));
        self.config.stable_after.unwrap_or_else(|| scaled().max(SHORTEST_STABLE))
    }

    /// After so long a cut that came before is known: a node that hears nobody knows it by then, and a side that others
    /// do not reach has been probed by all.
    pub(super) fn settle_after(self, members: usize) -> Duration {
        let noticed = (self.membership.probe_interval * 3).mul_f64(spread(members));
        self.stable_after(members).saturating_add(noticed)
    }

    /// How long a member is unreachable before it is released.
    pub(super) fn takeover(self, members: usize) -> Duration {
        let waited = self.membership.suspicion_timeout(members).saturating_add(self.stable_after(members));
        waited.saturating_add(self.margin(members))
    }

    /// From the first member that is found unreachable to the last of its side.
    pub(super) fn margin(self, members: usize) -> Duration {
        self.config.margin.unwrap_or_else(|| {
            let rounds = members.saturating_sub(1).div_ceil(self.config.poll_limit.max(1)).max(1);
            let polls = self.poll_interval().saturating_mul(3 * u32::try_from(rounds).unwrap_or(u32::MAX / 3));
            self.membership.probe_interval.mul_f64(spread(members)).saturating_add(polls)
        })
    }

    pub(super) const fn poll_interval(self) -> Duration {
        self.membership.probe_timeout
    }

    /// A node in a connected cluster has an answer to its probes in each interval.
    pub(super) const fn quiet_after(self) -> Duration {
        self.membership.probe_interval.saturating_mul(2).saturating_add(self.membership.probe_timeout)
    }
}

fn spread(members: usize) -> f64 {
    libm::log10(members.max(1) as f64).max(1.0)
}

/// Values that do not fit together: the caller's mistake, nothing was started, a retry needs other values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// This value must not be zero.
    #[error("downing: {field} is zero")]
    Zero {
        /// Which one.
        field: &'static str,
    },
    /// This time is longer than any that makes sense.
    #[error("downing: {field} {value:?} is above {limit:?}")]
    TooLong {
        /// Which one.
        field: &'static str,
        /// As given.
        value: Duration,
        /// The most that is allowed.
        limit: Duration,
    },
    /// Every crash would bring all down.
    #[error("downing: down_all_when_unstable {after:?} is not above the {takeover:?} that a decision takes")]
    UnstableTooSoon {
        /// As given.
        after: Duration,
        /// What a decision takes in the smallest cluster.
        takeover: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_do_not_fit_are_named() {
        let valid = |config: Config| config.validate(&membership::Config::lan());
        assert_eq!(valid(Config::default()), Ok(()));
        assert_eq!(valid(Config::static_quorum(0)), Err(ConfigError::Zero { field: "static_quorum" }));
        assert_eq!(valid(Config::off().poll_limit(0)), Err(ConfigError::Zero { field: "poll_limit" }));
        let zero = Config::keep_oldest().stable_after(Duration::ZERO);
        assert_eq!(valid(zero), Err(ConfigError::Zero { field: "stable_after" }));
        let value = Duration::MAX;
        let too_long = |field| Err(ConfigError::TooLong { field, value, limit: membership::Config::LONGEST });
        assert_eq!(valid(Config::default().stable_after(value)), too_long("stable_after"));
        assert_eq!(valid(Config::default().down_all_when_unstable(value)), too_long("down_all_when_unstable"));
        let after = Duration::from_secs(8);
        let refused = ConfigError::UnstableTooSoon { after, takeover: Duration::from_millis(8_500) };
        assert_eq!(valid(Config::default().down_all_when_unstable(after)), Err(refused));
    }

    #[test]
    fn so_many_form_anew_that_the_others_cannot_go_on() {
        use alloc::collections::BTreeSet;
        use gristmill_messages::MemberId;
        let strategies = [Config::keep_majority(), Config::static_quorum(3), Config::static_quorum(5)];
        for (config, members) in
            strategies.into_iter().flat_map(|config| (1..10).map(move |members| (config.clone(), members)))
        {
            let view: BTreeSet<_> = (0..members as u128).map(MemberId::new).collect();
            let enough = config.enough_to_form(members);
            // Those with the highest ids, so that the others have the lowest.
            let out: BTreeSet<_> = view.iter().rev().take(enough).copied().collect();
            if out.len() < members {
                let side = super::super::decision::choose(config.strategy, &view, &out);
                assert_ne!(side, super::super::Side::This, "{config:?} {members}");
            }
        }
        let counts = [Config::keep_majority(), Config::static_quorum(3), Config::keep_oldest(), Config::off()];
        assert_eq!(counts.map(|config| config.enough_to_form(5)), [3, 3, 5, 5]);
    }

    #[test]
    fn the_waiting_times_grow_with_the_logarithm_of_the_members() {
        let (config, membership) = (Config::default(), membership::Config::lan());
        let pace = Pace { config: &config, membership: &membership };
        let waited = |members| (pace.stable_after(members), pace.takeover(members));
        let tenths =
            |stable: u64, takeover: u64| (Duration::from_millis(stable * 100), Duration::from_millis(takeover * 100));
        assert_eq!(waited(3), tenths(20, 40 + 20 + 25));
        assert_eq!(waited(10), tenths(20, 40 + 20 + 25));
        assert_eq!(waited(100), tenths(40, 66 + 40 + 50));
        assert_eq!(waited(1000), tenths(60, 92 + 60 + 270));
    }
}
