use core::time::Duration;

/// Times and bounds of one node's activations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a grain may take to activate before those who wait are told that it failed, and it is drained.
    /// Default 5 s, the default timeout of a request: nobody waits longer. Shorter fails slow loads, longer keeps
    /// requests waiting for a grain that hangs.
    pub activation_timeout: Duration,
    /// How long a grain may take to drain before it is stopped with what it has left. Default 10 s (a guess: twice
    /// the default timeout of a request). Shorter drops queued work, longer keeps an identity unavailable.
    pub drain_timeout: Duration,
    /// Requests that may wait for one activation; one more is answered `Overloaded`. Default 10,000 (a guess), 8 bytes
    /// each.
    pub max_waiters: usize,
    /// Activations of this node; a request for one more is answered `Overloaded`. Default 4,000,000 (a guess: about
    /// 1 GB with small grains).
    pub max_activations: usize,
}

impl Config {
    /// For nodes in one data centre: the defaults.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            activation_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            max_waiters: 10_000,
            max_activations: 4_000_000,
        }
    }

    /// For tests: short times, small bounds.
    #[must_use]
    pub const fn test() -> Self {
        Self {
            activation_timeout: Duration::from_millis(500),
            drain_timeout: Duration::from_millis(500),
            max_waiters: 1_000,
            max_activations: 100_000,
        }
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// A time or bound of zero, which would fail every activation.
    pub const fn validate(&self) -> Result<(), InvalidConfig> {
        if self.activation_timeout.is_zero() {
            Err(InvalidConfig { field: "activation_timeout" })
        } else if self.drain_timeout.is_zero() {
            Err(InvalidConfig { field: "drain_timeout" })
        } else if self.max_waiters == 0 {
            Err(InvalidConfig { field: "max_waiters" })
        } else if self.max_activations == 0 {
            Err(InvalidConfig { field: "max_activations" })
        } else {
            Ok(())
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::lan()
    }
}

/// A field that is zero and must not be. The configuration's author is at fault; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is zero")]
pub struct InvalidConfig {
    /// Which field.
    pub field: &'static str,
}
