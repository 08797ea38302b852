use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::placement::DeactivationReason;
use gristmill_core::request::NotDeliveredReason;
use gristmill_messages::ActivationId;
use gristmill_transport::Outcome;

use crate::grain::{Envelope, GrainError, ReplyTo};

/// All that the rest of a node knows of a running grain.
pub(crate) trait Door: Debug + Send + Sync {
    /// Activates the grain, if nobody has begun that: in place as far as that goes without waiting, if that takes but a
    /// moment, and the rest in a task. Says whether it is active, which then is not reported.
    ///
    /// What activates by itself has nothing to do here.
    fn begin(self: Arc<Self>) -> bool {
        false
    }

    /// The same, all of it in a task.
    fn begin_apart(self: Arc<Self>) {}

    /// Whether to [deliver](Self::deliver) runs a user's code, which is not to be done under a lock.
    fn runs_users_code(&self) -> bool {
        false
    }

    /// Queues a message, or gives it back with the reason.
    fn deliver(&self, envelope: Envelope) -> Result<(), Refused>;

    /// As [`deliver`](Self::deliver), for a caller of this node who can do without a way back: the outcome, if the call
    /// was answered at once. Else `reply` is called once, and the answer goes there.
    fn call(&self, mut envelope: Envelope, reply: &mut dyn FnMut() -> ReplyTo) -> Result<Option<Outcome>, Refused> {
        envelope.reply = reply();
        self.deliver(envelope).map(|()| None)
    }

    /// Refuses new messages from now on, handles what is queued, deactivates, and reports [`Ended`].
    fn drain(&self, reason: DeactivationReason);

    /// Ends the running turn at its next await, answers what is queued, and reports [`Ended`]. Does not deactivate.
    fn stop(&self);

    /// Called every so often. Frees what an idle grain does not need, and says whether it was idle for as long as its
    /// kind allows.
    fn sweep(&self, every: Duration) -> bool;
}

/// A message that a door did not take.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) envelope: Box<Envelope>,
    pub(crate) reason: NotDeliveredReason,
}

impl Refused {
    pub(super) fn new(envelope: Envelope, reason: NotDeliveredReason) -> Self {
        Self { envelope: Box::new(envelope), reason }
    }

    /// Tells the caller.
    pub(crate) fn answer(self) {
        self.envelope.reply.not_delivered(self.reason);
    }
}

/// What a door reports to the placement of its node, in this order and at most once each.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It never became active.
    NotActivated(ActivationId, GrainError),
    /// It was active, and is gone.
    Deactivated(ActivationId, DeactivationReason),
}
