//! Turns in the tasks of callers.

use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;
use gristmill_core::placement::DeactivationReason;
use gristmill_transport::Outcome;

use super::mailbox::drop_quietly;
use super::{Active, Cell, End, Life, Order, Unfinished};
use crate::grain::{Envelope, Grain, ReplyTo};

/// How often a caller looks again whether another one has given the grain back; each time it spins twice as long.
const PATIENCE: u32 = 7;

impl<G: Grain> Cell<G> {
    /// Takes the grain for one turn in the caller's task, if nobody is before him. While another caller has it, that is
    /// waited for: a brief turn is over sooner than a task is woken.
    pub(super) fn lend(&self) -> Option<Box<Active<G>>> {
        for patience in 0..PATIENCE {
            let mut inner = self.lock();
            if !inner.queue.is_empty() || inner.stopped || matches!(inner.order, Order::Drain(_)) {
                return None;
            }
            match std::mem::replace(&mut inner.life, Life::Lent) {
                Life::Resting(active) => return Some(active),
                Life::Lent => {}
                other => {
                    inner.life = other;
                    return None;
                }
            }
            drop(inner);
            (0..1_u32 << patience).for_each(|_| std::hint::spin_loop());
        }
        None
    }

    /// Runs one turn of the lent grain, as far as it goes without waiting.
    pub(super) fn turn_lent(
        &self,
        mut active: Box<Active<G>>,
        envelope: Envelope,
        reply: &mut dyn FnMut() -> ReplyTo,
    ) -> Option<Outcome> {
        self.is_in_use();
        // Dropped after the turn.
        let lent = Lent(self);
        let mut turn: BoxFuture<'static, _> = Box::pin(async move {
            let (outcome, end) = active.turn(&envelope).await;
            (active, outcome, end)
        });
        // Whatever it waits for is told of the real waker when its task polls it again, at once.
        let Poll::Ready((active, outcome, end)) = turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            let reply = reply();
            lent.returned();
            let mut inner = self.lock();
            if inner.stopped {
                drop(inner);
                drop_quietly(turn);
                self.release(End::Cut, true);
                // The reply, dropped, says that the outcome is unknown.
                return None;
            }
            inner.life = Life::Unfinished(Box::new(Unfinished { turn, reply }));
            self.wake(inner);
            return None;
        };
        lent.returned();
        let mut inner = self.lock();
        let fatal = self.is_fatal(end);
        if inner.stopped || fatal {
            drop(inner);
            drop_quietly(active);
            self.release(if fatal { End::Left(DeactivationReason::Panicked) } else { End::Cut }, true);
        } else {
            inner.life = Life::Resting(active);
            self.wake_for_work(inner);
        }
        Some(outcome)
    }
}

/// A grain that a caller has, or makes. Should the caller panic meanwhile the activation ends: nobody else could ever
/// have the grain again.
pub(super) struct Lent<'a, G: Grain>(pub(super) &'a Cell<G>);

impl<G: Grain> Lent<'_, G> {
    /// Whatever becomes of it, the caller sees to that.
    pub(super) fn returned(self) {
        std::mem::forget(self);
    }
}

impl<G: Grain> Drop for Lent<'_, G> {
    fn drop(&mut self) {
        self.0.release(End::Cut, true);
    }
}
