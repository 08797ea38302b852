//! The life of one grain request: what a failed attempt means, whether to try again, when, and what to tell the caller.
//!
//! # Guarantees
//! - What surely did not run is tried again until the deadline, with exponential backoff and jitter. What the grain
//!   itself rejected is never tried again. What may have run is tried again only if the request is idempotent.
//! - A verdict is honest over all attempts: once one of them may have run, the request is never called "not delivered".
//! - No wait reaches the deadline; a request that has no time for another attempt gives up at once.
//! - The cached reference to an activation is dropped only when a peer says that it is stale; a timeout, an overload or
//!   a broken connection says nothing about where the grain lives.
//!
//! It does not limit a single attempt: an attempt ends with an answer, with the loss of its connection, or with the
//! deadline. Otherwise a grain that needs long would run again and again for nobody.
//!
//! # Story
//! ```text
//! attempt ──► answer                                                      done, nothing was asked here
//!         ──► Failed(rejected, malformed, unknown kind, …)                GiveUp
//!         ──► Failed(may have run), not idempotent                        GiveUp(UnknownOutcome)
//!         ──► Failed(no such activation, stopping), for the first time    Retry at once, refreshed
//!         ──► Failed(anything else)      ──► time left                    Retry after min..=ceiling
//!                                        ──► none left                    GiveUp
//!         ──► DeadlinePassed                                              GiveUp(DeadlineExceeded)
//! ```
//!
//! # Source
//! Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), full jitter; deviation: the draw
//! starts at `min` instead of zero, and its ceiling is never more than half of what is left of the deadline, so that an
//! unlucky draw cannot throw that rest away. protoactor-go at c318a5a0, `cluster/default_context.go` (`Request`),
//! retries timeouts and dead letters alike, with waits of nanoseconds, and drops the cached reference on both.
//!
//! # How it is driven
//! The caller's own task owns the [`Request`], a plain value: dropping it leaves nothing behind. An attempt that
//! succeeds never gets here.
//! ```
//! use core::time::Duration;
//! use gristmill_core::Timestamp;
//! use gristmill_core::request::{AttemptFailure, Effect, Input, NotDeliveredReason, Request, RetryPolicy};
//!
//! let deadline = Timestamp::from_millis(5_000);
//! let mut request = Request::new(deadline, RetryPolicy::lan(), false);
//! let failure = AttemptFailure::NotDelivered { reason: NotDeliveredReason::Overloaded, detail: String::new() };
//! let random = 0; // from the shell's generator
//! let effect = request.handle(Timestamp::from_millis(3), Input::Failed(failure), random);
//! assert_eq!(effect, Effect::Retry { after: Duration::from_millis(50), refresh: false });
//! ```

mod reason;
#[cfg(test)]
mod tests;

use alloc::string::String;
use core::time::Duration;

pub use reason::{NotDeliveredReason, Unresolved};

use crate::Timestamp;
use reason::Next;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The shortest wait; doubled with each failure it makes the ceiling of the next. Default 50 ms: a few round trips
    /// in a data centre. Shorter: more load while something is wrong. Longer: a short disturbance costs more.
    pub min: Duration,
    /// The longest wait. Default 2 s: two probe intervals, in which the owner of a dead member's key may have changed.
    pub max: Duration,
}

impl RetryPolicy {
    /// For members in one data centre: 50 ms to 2 s.
    #[must_use]
    pub const fn lan() -> Self {
        Self { min: Duration::from_millis(50), max: Duration::from_secs(2) }
    }

    /// For members far apart: 200 ms, about a round trip around the earth, to 5 s.
    #[must_use]
    pub const fn wan() -> Self {
        Self { min: Duration::from_millis(200), max: Duration::from_secs(5) }
    }

    /// For tests: 2 ms to 50 ms.
    #[must_use]
    pub const fn test() -> Self {
        Self { min: Duration::from_millis(2), max: Duration::from_millis(50) }
    }

    /// Says why this policy cannot be used.
    ///
    /// # Errors
    /// No shortest wait, or one longer than the longest.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        if self.min.is_zero() {
            Err(InvalidPolicy::NoWait)
        } else if self.min > self.max {
            Err(InvalidPolicy::MinAboveMax { min: self.min, max: self.max })
        } else {
            Ok(())
        }
    }

    /// The wait after this many failed attempts, drawn evenly from `min` to the ceiling; none when the deadline is
    /// nearer than `min`.
    fn wait(&self, failed: u32, remaining: Duration, random: u64) -> Option<Duration> {
        if remaining <= self.min {
            return None;
        }
        let doubled = self.min.saturating_mul(1_u32.checked_shl(failed).unwrap_or(u32::MAX));
        let ceiling = doubled.min(self.max).min(remaining / 2).max(self.min);
        let range = ceiling.saturating_sub(self.min).as_nanos();
        // The upper 64 bits of the product: `range` times a fraction below 1, and so never more than `range`.
        let jitter = range.saturating_mul(u128::from(random)) >> 64;
        Some(self.min.saturating_add(Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX))))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::lan()
    }
}

/// A policy that cannot be used. The user's mistake; nothing was sent, and a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// Attempts would follow each other without a pause.
    #[error("the shortest wait between attempts is zero")]
    NoWait,
    /// No wait would satisfy both.
    #[error("the shortest wait between attempts, {min:?}, is longer than the longest, {max:?}")]
    MinAboveMax {
        /// The shortest as configured.
        min: Duration,
        /// The longest as configured.
        max: Duration,
    },
}

/// What a [`Request`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The attempt has ended without the grain's reply.
    Failed(AttemptFailure),
    /// The deadline has passed while an attempt was on its way.
    DeadlinePassed {
        /// Whether the message had left: into a connection's queue or a grain's mailbox.
        sent: bool,
    },
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptFailure {
    /// It surely did not run.
    NotDelivered {
        /// Why.
        reason: NotDeliveredReason,
        /// What the peer or the transport said about it; may be empty.
        detail: String,
    },
    /// There was no activation to send it to, and none could be made.
    Unresolved(Unresolved),
    /// It may have run: sent, and no answer will come.
    UnknownOutcome(String),
    /// The grain's own error, which the shell keeps.
    Rejected,
}

/// What to do next, exactly one for each input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Wait, look the activation up again, send once more.
    Retry {
        /// How long to wait; ends before the deadline.
        after: Duration,
        /// First drop the cached reference, which is stale, unless it has been replaced in the meantime.
        refresh: bool,
    },
    /// Answer the caller; the request is over.
    GiveUp(Verdict),
}

/// What the caller is told. `attempts` counts all of them, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It surely did not run. Whoever still wants it may ask again.
    NotDelivered {
        /// Of the last attempt.
        reason: NotDeliveredReason,
        /// What was said about it; may be empty.
        detail: String,
        /// How many.
        attempts: u32,
    },
    /// It surely did not run: there is no activation of this identity.
    Unresolved {
        /// Of the last attempt.
        reason: Unresolved,
        /// How many.
        attempts: u32,
    },
    /// It surely did not run: up to the last attempt there was no room for it. Asking again at once makes that worse.
    Overloaded {
        /// How many.
        attempts: u32,
    },
    /// It ran, and the grain said no.
    Rejected {
        /// How many.
        attempts: u32,
    },
    /// It may have run, perhaps more than once if it is idempotent.
    UnknownOutcome {
        /// Of the first attempt that may have run.
        detail: String,
        /// How many.
        attempts: u32,
    },
    /// The deadline has passed.
    DeadlineExceeded {
        /// Whether it may have run.
        delivered: Delivered,
        /// How many.
        attempts: u32,
    },
}

/// Whether a request may have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It surely did not.
    No,
    /// It may have.
    Maybe,
}

/// One request from its first attempt on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    deadline: Timestamp,
    policy: RetryPolicy,
    idempotent: bool,
    attempts: u32,
    /// A stale reference was dropped already: the next one is not believed to be fresh at once.
    refreshed: bool,
    /// What was said of the first attempt that may have run.
    maybe_ran: Option<String>,
}

impl Request {
    /// A request whose first attempt is about to be made.
    #[must_use]
    pub const fn new(deadline: Timestamp, policy: RetryPolicy, idempotent: bool) -> Self {
        Self { deadline, policy, idempotent, attempts: 1, refreshed: false, maybe_ran: None }
    }

    /// Attempts so far, with the one on its way.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Takes the end of an attempt and says what to do. `random` are 64 even bits, for the jitter.
    #[must_use]
    pub fn handle(&mut self, now: Timestamp, input: Input, random: u64) -> Effect {
        let attempts = self.attempts;
        let (next, verdict) = match input {
            Input::DeadlinePassed { sent } => return self.deadline_exceeded(sent),
            Input::Failed(AttemptFailure::Rejected) => return Effect::GiveUp(Verdict::Rejected { attempts }),
            Input::Failed(AttemptFailure::UnknownOutcome(detail)) => {
                let next = if self.idempotent { Next::BackOff } else { Next::GiveUp };
                (next, Verdict::UnknownOutcome { detail, attempts })
            }
            Input::Failed(AttemptFailure::NotDelivered { reason, detail }) => match reason {
                NotDeliveredReason::Expired => return self.deadline_exceeded(false),
                NotDeliveredReason::Overloaded => (reason.next(), Verdict::Overloaded { attempts }),
                _ => (reason.next(), Verdict::NotDelivered { reason, detail, attempts }),
            },
            Input::Failed(AttemptFailure::Unresolved(reason)) => match reason {
                Unresolved::Overloaded => (reason.next(), Verdict::Overloaded { attempts }),
                _ => (reason.next(), Verdict::Unresolved { reason, attempts }),
            },
        };
        match self.wait(now, next, random) {
            Wait::For(after) => self.retry(after, next, verdict),
            Wait::TooLate => self.deadline_exceeded(matches!(verdict, Verdict::UnknownOutcome { .. })),
            Wait::Pointless => Effect::GiveUp(self.over_all_attempts(verdict)),
        }
    }

    fn wait(&self, now: Timestamp, next: Next, random: u64) -> Wait {
        let remaining = self.deadline.since(now);
        match next {
            Next::GiveUp => Wait::Pointless,
            _ if remaining.is_zero() => Wait::TooLate,
            // The reference was as old as the cache let it become; nothing is known to be wrong with the cluster.
            Next::RefreshNow if !self.refreshed => Wait::For(Duration::ZERO),
            Next::BackOff | Next::RefreshNow | Next::Refresh => {
                self.policy.wait(self.attempts, remaining, random).map_or(Wait::Pointless, Wait::For)
            }
        }
    }

    fn retry(&mut self, after: Duration, next: Next, verdict: Verdict) -> Effect {
        if let Verdict::UnknownOutcome { detail, .. } = verdict {
            self.maybe_ran.get_or_insert(detail);
        }
        let refresh = matches!(next, Next::RefreshNow | Next::Refresh);
        self.refreshed |= refresh;
        self.attempts = self.attempts.saturating_add(1);
        Effect::Retry { after, refresh }
    }

    fn deadline_exceeded(&self, sent: bool) -> Effect {
        let delivered = if sent || self.maybe_ran.is_some() { Delivered::Maybe } else { Delivered::No };
        Effect::GiveUp(Verdict::DeadlineExceeded { delivered, attempts: self.attempts })
    }

    /// The last attempt's verdict, unless an earlier one may have run.
    fn over_all_attempts(&mut self, last: Verdict) -> Verdict {
        match self.maybe_ran.take() {
            Some(detail) => Verdict::UnknownOutcome { detail, attempts: self.attempts },
            None => last,
        }
    }
}

enum Wait {
    For(Duration),
    /// The deadline has passed.
    TooLate,
    /// Nothing would change by it, or no time is left for what comes after it.
    Pointless,
}
