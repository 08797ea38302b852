//! What a cell has taken in and not given back.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use gristmill_core::request::NotDeliveredReason;
use gristmill_transport::Outcome;

use crate::grain::{Envelope, ReplyTo};

/// Answers of turns that are over, held back so that the grain is free before their callers wake up, who then find it
/// at rest. Sent before the task waits for anything, and when it ends.
#[derive(Default)]
pub(super) struct Answers(Vec<(ReplyTo, Outcome)>);

impl Answers {
    /// Holds the answer back; says how many there are then.
    pub(super) fn hold(&mut self, reply: ReplyTo, outcome: Outcome) -> usize {
        if reply.is_wanted() {
            self.0.push((reply, outcome));
        }
        self.0.len()
    }

    pub(super) fn send(&mut self) {
        if !self.0.is_empty() {
            std::mem::take(&mut self.0).into_iter().for_each(|(reply, outcome)| reply.send(outcome));
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.send();
    }
}

/// Drops a grain where its panic would be somebody else's.
pub(super) fn drop_quietly<T>(grain: T) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| drop(grain))).is_err() {
        tracing::warn!("a grain panicked while it was dropped");
    }
}

/// Messages that wait. Dropped, they did surely not run, and their callers are told so.
#[derive(Default)]
pub(super) struct Batch(pub(super) VecDeque<Envelope>);

impl Drop for Batch {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|envelope| envelope.reply.not_delivered(NotDeliveredReason::Stopping));
    }
}
