use gristmill_core::request::NotDeliveredReason;
use gristmill_messages::MessageName;
use gristmill_transport::{Completer, Outcome, Responder};
use tokio::time::Instant;

use crate::grain::Payload;

/// A message on its way into a mailbox, with the way back for its answer.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) message: MessageName,
    pub(crate) data: Payload,
    /// Until when a caller behind a connection waits.
    pub(crate) deadline: Option<Instant>,
    pub(crate) traceparent: Option<String>,
    pub(crate) reply: ReplyTo,
}

impl Envelope {
    /// Whether nobody waits for the answer any more: the deadline has passed, or the caller has gone. Reads the clock
    /// only for a caller behind a connection: of those here the sweep of their table knows.
    pub(crate) fn is_stale(&self) -> bool {
        match &self.reply.0 {
            Some(Way::Local(call)) => !call.is_waiting(),
            Some(Way::Remote(responder)) => {
                responder.is_cancelled() || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
            }
            // Once it was taken in it is handled, however long it had to wait.
            None => false,
        }
    }
}

/// Where the answer to one message goes. Dropped unanswered, it tells the caller so: no caller waits for a dead grain.
#[derive(Debug)]
pub(crate) struct ReplyTo(Option<Way>);

#[derive(Debug)]
enum Way {
    /// A caller on this node.
    Local(Completer<Outcome>),
    /// A caller behind a connection.
    Remote(Responder),
}

impl ReplyTo {
    /// A one-way message.
    pub(crate) const fn nobody() -> Self {
        Self(None)
    }

    pub(crate) const fn local(call: Completer<Outcome>) -> Self {
        Self(Some(Way::Local(call)))
    }

    pub(crate) const fn remote(responder: Responder) -> Self {
        Self(Some(Way::Remote(responder)))
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Takes the way back; what is left has none.
    pub(crate) const fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    pub(crate) fn send(mut self, outcome: Outcome) {
        match self.0.take() {
            // The caller has gone when its slot has: nobody is left to tell.
            Some(Way::Local(call)) => drop(call.complete(outcome)),
            Some(Way::Remote(responder)) => responder.respond(outcome),
            None => {}
        }
    }

    pub(crate) fn not_delivered(self, reason: NotDeliveredReason) {
        if self.0.is_some() {
            self.send(Outcome::NotDelivered { reason: reason.into(), detail: String::new() });
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        // A dropped `Responder` answers by itself.
        if let Some(Way::Local(call)) = self.0.take() {
            let detail = "the grain ended without an answer".into();
            drop(call.complete(Outcome::UnknownOutcome { detail }));
        }
    }
}
