use core::time::Duration;

/// Times and bounds of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a member stays subscribed without renewing; its node renews three times in that span. Default 30 s (a
    /// guess). Shorter costs renewals, longer keeps delivering to nobody.
    pub lease: Duration,
    /// How long subscribers have to take a publication. Default 5 s, as protoactor-go's subscriber timeout. Shorter
    /// gives up on slow ones, longer keeps publishers waiting for dead ones.
    pub delivery_timeout: Duration,
    /// Subscribers; one more is answered `Overloaded`. Default 10,000 (a guess).
    pub max_subscribers: usize,
    /// Publications under way; one more is answered `Overloaded`. Default 1,024 (a guess); the shell keeps the payload
    /// of each.
    pub max_publications: usize,
    /// Publications under way to one subscriber; one more is not sent to it. Below `max_publications`, so that one slow
    /// subscriber never stops publishing. Default 128 (a guess).
    pub window: usize,
}

impl Config {
    /// For nodes in one data centre: the defaults.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            lease: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(5),
            max_subscribers: 10_000,
            max_publications: 1_024,
            window: 128,
        }
    }

    /// For tests: short times, small bounds.
    #[must_use]
    pub const fn test() -> Self {
        Self {
            lease: Duration::from_secs(1),
            delivery_timeout: Duration::from_millis(200),
            max_subscribers: 100,
            max_publications: 32,
            window: 8,
        }
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// A time or bound of zero, or a window that is not below the publications.
    pub const fn validate(&self) -> Result<(), InvalidConfig> {
        if self.lease.is_zero() {
            Err(InvalidConfig::Zero { field: "lease" })
        } else if self.delivery_timeout.is_zero() {
            Err(InvalidConfig::Zero { field: "delivery_timeout" })
        } else if self.max_subscribers == 0 {
            Err(InvalidConfig::Zero { field: "max_subscribers" })
        } else if self.window == 0 {
            Err(InvalidConfig::Zero { field: "window" })
        } else if self.window >= self.max_publications {
            Err(InvalidConfig::Window { window: self.window, max_publications: self.max_publications })
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

/// Why a configuration cannot work. Its author is at fault; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// A time or bound is zero.
    #[error("{field} is zero")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// One slow subscriber could hold every publication.
    #[error("the window of {window} is not below the {max_publications} publications")]
    Window {
        /// The window.
        window: usize,
        /// The publications.
        max_publications: usize,
    },
}
