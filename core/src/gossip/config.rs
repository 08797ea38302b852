use core::num::NonZeroUsize;
use core::time::Duration;

use super::message::Delta;

/// How often, to how many and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Between two rounds. Default 300 ms, protoactor's `GossipInterval`. Shorter: news spreads faster and costs more
    /// messages, most of them empty.
    pub interval: Duration,
    /// Peers in a round. Default 3, protoactor's `GossipFanOut`. One: news takes more rounds. All: every member sends
    /// everything to everyone.
    pub fanout: NonZeroUsize,
    /// How long a delta waits for its acknowledgement before it counts as lost; looked at once a round. Default 500 ms,
    /// protoactor's `GossipRequestTimeout`. Below the round trip nothing is ever acknowledged.
    pub request_timeout: Duration,
    /// Values in one message, at most. Default 1,000, a guess: as many members with one value each.
    pub max_entries_per_message: NonZeroUsize,
    /// Encoded bytes of one message, at most. Default 256 KiB, so that a heartbeat behind it on the control lane waits
    /// 2 ms at 1 Gbit/s. Lower: a newcomer needs more round trips for the whole state.
    pub max_bytes_per_message: usize,
    /// Between two demands for the whole state of one peer, at least. Default 5 s, a guess. While two members do not
    /// know the same members their digests differ, and each demand costs a transfer in both directions.
    pub full_state_interval: Duration,
}

impl Config {
    /// For members in one data centre.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            interval: Duration::from_millis(300),
            fanout: at_least_one(3),
            request_timeout: Duration::from_millis(500),
            max_entries_per_message: at_least_one(1_000),
            max_bytes_per_message: 256 * 1024,
            full_state_interval: Duration::from_secs(5),
        }
    }

    /// For members far apart: rounds of 500 ms, acknowledgements within 3 s.
    #[must_use]
    pub const fn wan() -> Self {
        Self {
            interval: Duration::from_millis(500),
            request_timeout: Duration::from_secs(3),
            full_state_interval: Duration::from_secs(15),
            ..Self::lan()
        }
    }

    /// For tests: rounds of 10 ms.
    #[must_use]
    pub const fn test() -> Self {
        Self {
            interval: Duration::from_millis(10),
            request_timeout: Duration::from_millis(25),
            full_state_interval: Duration::from_millis(50),
            ..Self::lan()
        }
    }

    /// Says why this configuration cannot be used.
    ///
    /// # Errors
    /// A time of zero, or messages that are too small for a single value or too large for the receiver.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        for (field, value) in [("interval", self.interval), ("request_timeout", self.request_timeout)] {
            if value.is_zero() {
                return Err(InvalidConfig::Zero { field });
            }
        }
        let entries = self.max_entries_per_message.get();
        if entries > Delta::MAX_ENTRIES {
            return Err(InvalidConfig::TooManyEntries { entries });
        }
        if self.max_bytes_per_message < Delta::MIN_BYTES {
            return Err(InvalidConfig::TooFewBytes { bytes: self.max_bytes_per_message });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::lan()
    }
}

/// A configuration that cannot be used. The user's mistake; nothing has started, and a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Nothing would wait.
    #[error("the gossip's {field} is zero")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// Receivers would refuse the message.
    #[error("{entries} gossip values in one message, {max} at most", max = Delta::MAX_ENTRIES)]
    TooManyEntries {
        /// As configured.
        entries: usize,
    },
    /// Not even one value of the greatest size would fit.
    #[error("{bytes} bytes in one gossip message, {min} at least", min = Delta::MIN_BYTES)]
    TooFewBytes {
        /// As configured.
        bytes: usize,
    },
}

const fn at_least_one(n: usize) -> NonZeroUsize {
    match NonZeroUsize::new(n) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    }
}
