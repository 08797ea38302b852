//! Deadlines, and the timer of a machine: only the one that was set last counts.

use std::time::Duration;

use ractor::ActorRef;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Thirty years. A clock cannot say every sum of a moment and a duration.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment that is `timeout` away, which may be as long as anybody likes.
pub(crate) fn deadline_in(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(FOREVER)
}

/// Set anew, or dropped, it takes back what was set before: no task sleeps for nobody.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<AbortHandle>);

impl Timer {
    /// Sends the message once.
    pub(crate) fn set<M: ractor::Message>(
        &mut self,
        actor: &ActorRef<M>,
        after: Duration,
        message: impl FnOnce() -> M + Send + 'static,
    ) {
        self.replace(actor.send_after(after, message).abort_handle());
    }

    /// Sends messages until further notice, the first one after `every`.
    pub(crate) fn repeat<M: ractor::Message>(
        &mut self,
        actor: &ActorRef<M>,
        every: Duration,
        message: impl Fn() -> M + Send + 'static,
    ) {
        self.replace(actor.send_interval(every, message).abort_handle());
    }

    fn replace(&mut self, timer: AbortHandle) {
        if let Some(before) = self.0.replace(timer) {
            before.abort();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(timer) = &self.0 {
            timer.abort();
        }
    }
}
