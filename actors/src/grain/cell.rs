//! The light cell: a grain's mailbox, and whoever runs its turns.
//!
//! Turns run in the cell's task, which exists only while there is something to do, or in the task of a caller who finds
//! the grain at rest: a call that is answered at once costs no task switch. Only kinds whose turns are [`Brief`] are
//! lent to callers, since nothing else of the caller's task runs meanwhile.

mod birth;
mod lending;
mod mailbox;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gristmill_core::placement::DeactivationReason;
use gristmill_core::request::NotDeliveredReason;
use gristmill_transport::Outcome;
use tokio::task::AbortHandle;

use self::birth::Make;
use self::mailbox::{Answers, Batch, drop_quietly};
use crate::grain::brief::Nested;
use crate::grain::door::{Door, Ended, Refused};
use crate::grain::kind::{KindSettings, OnPanic};
use crate::grain::{Call, Envelope, ErrorCode, Grain, GrainContext, GrainError, ReplyTo};

/// Of fewer messages that a task has taken, every one is counted; of more, one in so many.
const EXACT: usize = 16;

/// Turns after which a busy grain lets other tasks of its worker run.
const TURN_BUDGET: u32 = 128;

/// Bursts of messages after which a grain keeps its task when its queue is empty, until it is idle. One that is called
/// now and then goes cold at once, so that a million of those cost no million tasks.
const BURSTS: u8 = 2;

/// The same of a grain whose turns are brief.
const BRIEF_TURN_BUDGET: u32 = 2_048;

/// Answers of brief turns that are held back until the grain is free again, at most. As many as callers that queue up
/// while others have it: woken while the task still has the grain, they would queue up again, and the task would keep
/// it for good.
const HELD_BACK: usize = 2_048;

/// One activation of a [`Grain`].
pub(super) struct Cell<G> {
    this: Weak<Self>,
    context: Arc<GrainContext>,
    settings: Arc<KindSettings>,
    inner: Mutex<Inner<G>>,
    /// Messages that the task has taken from the queue and not yet handled. Written by the task alone.
    taken: AtomicUsize,
    /// Sweeps since the last message came, or the last work was done.
    idle_sweeps: AtomicU32,
}

struct Inner<G> {
    queue: VecDeque<Envelope>,
    life: Life<G>,
    order: Order,
    task: Option<Task>,
    activated: bool,
    /// Cut off: whatever is about to be done, it ends instead.
    stopped: bool,
    /// Counts the tasks.
    lives: u32,
    /// How often it got a task since it was last idle, see [`BURSTS`]; zero only while it is idle.
    bursts: u8,
}

/// Where the grain is.
///
/// | state | legal next states |
/// | --- | --- |
/// | `Unborn` | `Lent` (a caller makes it), `Working` (its task does), `Gone` |
/// | `Resting` | `Working` (its task takes it), `Lent` (a caller does), `Gone` |
/// | `Working` | `Resting`, `Gone` |
/// | `Lent` | `Resting`, `Unfinished` (the turn waits for something), `Working` (its activation does), `Gone` |
/// | `Unfinished` | `Working`, `Gone` |
/// | `Gone` | none |
///
/// Invariant: while work waits and the grain rests, a task has been woken or is about to be spawned.
enum Life<G> {
    /// Nobody has begun to make it.
    Unborn(Make<G>),
    /// Nobody runs it.
    Resting(Box<Active<G>>),
    /// Its task has it, or makes it.
    Working,
    /// A caller has it, or makes it.
    Lent,
    /// It is in a caller's turn that its task has to finish.
    Unfinished(Box<Unfinished<G>>),
    /// The activation has ended.
    Gone,
}

/// A grain, and what its turns need, so that who runs one touches nothing else that the callers share.
struct Active<G> {
    grain: G,
    context: Arc<GrainContext>,
    settings: Arc<KindSettings>,
}

impl<G: Grain> Active<G> {
    async fn turn(&mut self, envelope: &Envelope) -> (Outcome, Turn) {
        let brief = &self.settings.brief;
        let began = brief.sample();
        let Envelope { message, data, traceparent, .. } = envelope;
        let call = Call { message, data, traceparent: traceparent.as_deref() };
        let answer = AssertUnwindSafe(self.grain.receive(call, &self.context)).catch_unwind().await;
        brief.took(began);
        match answer {
            Ok(Ok(answer)) => (Outcome::Response { message: answer.message, data: answer.data }, Turn::Done),
            Ok(Err(error)) => (error.into(), Turn::Done),
            Err(_) => {
                tracing::warn!(identity = %self.context.identity, %message, "a grain panicked");
                (GrainError::new(ErrorCode::Panicked, "the grain panicked").into(), Turn::Panicked)
            }
        }
    }
}

/// The task of a cell.
#[derive(Default)]
struct Task {
    /// None while it is about to be spawned.
    handle: Option<AbortHandle>,
    /// Some while it waits for work.
    parked: Option<Waker>,
}

/// What the task does once the queue is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Wait for the next message.
    Serve,
    /// End.
    Cool,
    /// Deactivate; nothing more is queued.
    Drain(DeactivationReason),
}

impl<G: Grain> Cell<G> {
    fn lock(&self) -> MutexGuard<'_, Inner<G>> {
        // A panic under this lock is impossible: no user code runs there.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the life of a task, cut off by [`stop`](Door::stop) wherever it is, even before it has begun: the grain,
    /// and what it had taken, are dropped, and then the cell is released. Not to be called under the lock: a runtime
    /// that has ended drops all of that at once.
    fn spawn(self: &Arc<Self>, life: u32, work: impl Future<Output = End> + Send + 'static) {
        // A tuple is dropped from its first field to its last.
        let live = (work, Leaving { cell: Arc::clone(self), end: End::Cut });
        // On the node's runtime, whichever the caller is on.
        let spawned = self.context.cluster.node().runtime.spawn(async move {
            let (work, mut leaving) = live;
            leaving.end = work.await;
        });
        let spawned = spawned.abort_handle();
        let mut inner = self.lock();
        if inner.stopped {
            return spawned.abort();
        }
        // It may have ended by now, and another one may have begun.
        let current = inner.lives == life;
        if let (true, Some(task)) = (current, &mut inner.task) {
            task.handle = Some(spawned);
        }
    }

    async fn run(&self) -> End {
        let mut batch = Batch::default();
        let mut answers = Answers::default();
        let mut held = None;
        let mut turns: u32 = 0;
        loop {
            let work = poll_fn(|cx| {
                let work = self.poll_work(cx, &mut batch.0, &mut held);
                answers.send();
                work
            });
            match work.await {
                Work::Turns => {}
                Work::Finish(unfinished) => {
                    let Unfinished { turn, reply } = *unfinished;
                    let (grain, outcome, end) = turn.await;
                    held = Some(grain);
                    reply.send(outcome);
                    if self.is_fatal(end) {
                        return End::Left(DeactivationReason::Panicked);
                    }
                }
                Work::Rest => return End::Rest,
                Work::End => return End::Cut,
                Work::Leave(mut active, reason) => {
                    // Boxed, since it happens once, and its room would be in every task.
                    let goodbye = AssertUnwindSafe(active.grain.on_deactivate(reason, &self.context)).catch_unwind();
                    if Box::pin(goodbye).await.is_err() {
                        tracing::warn!(identity = %self.context.identity, "a grain panicked while it was deactivated");
                    }
                    return End::Left(reason);
                }
            }
            while let (Some(grain), Some(mut envelope)) = (&mut held, batch.0.pop_front()) {
                // Senders read this, and each store takes it away from them: of a long batch not every step is worth
                // that.
                let left = batch.0.len();
                if left < EXACT || left.is_multiple_of(EXACT) {
                    self.taken.store(left, Ordering::Relaxed);
                }
                if envelope.is_stale() {
                    envelope.reply.take().not_delivered(NotDeliveredReason::Expired);
                    continue;
                }
                let reply = envelope.reply.take();
                let mut turn = pin!(grain.turn(&envelope));
                let (outcome, end) = poll_fn(|cx| {
                    let done = turn.as_mut().poll(cx);
                    if done.is_pending() {
                        answers.send();
                    }
                    done
                })
                .await;
                let held_back = answers.hold(reply, outcome);
                if self.is_fatal(end) {
                    return End::Left(DeactivationReason::Panicked);
                }
                let brief = self.settings.brief.holds();
                if !brief || held_back >= HELD_BACK {
                    answers.send();
                }
                turns = turns.wrapping_add(1);
                if turns.is_multiple_of(if brief { BRIEF_TURN_BUDGET } else { TURN_BUDGET }) {
                    answers.send();
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn is_fatal(&self, turn: Turn) -> bool {
        turn == Turn::Panicked && self.settings.on_panic == OnPanic::Deactivate
    }

    fn is_in_use(&self) {
        if self.idle_sweeps.load(Ordering::Relaxed) != 0 {
            self.idle_sweeps.store(0, Ordering::Relaxed);
        }
    }

    /// Gives the task what to do next, and takes the grain from it, or gives it to it, as that needs.
    fn poll_work(
        &self,
        cx: &Context<'_>,
        batch: &mut VecDeque<Envelope>,
        held: &mut Option<Box<Active<G>>>,
    ) -> Poll<Work<G>> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.stopped {
            return Poll::Ready(Work::End);
        }
        match std::mem::replace(&mut inner.life, Life::Working) {
            Life::Unfinished(turn) => return Poll::Ready(Work::Finish(turn)),
            Life::Resting(grain) => *held = Some(grain),
            other => inner.life = other,
        }
        if let Some(grain) = held.take() {
            if !inner.queue.is_empty() {
                *held = Some(grain);
                std::mem::swap(&mut inner.queue, batch);
                self.taken.store(batch.len(), Ordering::Relaxed);
                return Poll::Ready(Work::Turns);
            }
            if let Order::Drain(reason) = inner.order {
                return Poll::Ready(Work::Leave(grain, reason));
            }
            inner.life = Life::Resting(grain);
            self.idle_sweeps.store(0, Ordering::Relaxed);
        }
        // Nothing to do, or a caller has the grain, who looks for work and orders when he gives it back.
        if inner.order == Order::Cool && inner.queue.is_empty() {
            inner.queue = VecDeque::new();
            inner.task = None;
            return Poll::Ready(Work::Rest);
        }
        if let Some(task) = &mut inner.task {
            task.parked = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Sees to it that waiting work, or the order to drain, is attended to.
    fn wake_for_work(&self, guard: MutexGuard<'_, Inner<G>>) {
        let waits = !guard.queue.is_empty() || matches!(guard.order, Order::Drain(_));
        if waits || matches!(guard.life, Life::Unfinished(_)) {
            self.wake(guard);
        }
    }

    /// Makes sure that a task runs, unless somebody has the grain who will look for work.
    fn wake(&self, mut guard: MutexGuard<'_, Inner<G>>) {
        let inner = &mut *guard;
        inner.bursts = inner.bursts.max(1);
        match inner.life {
            Life::Unborn(_) | Life::Working | Life::Lent | Life::Gone => return,
            Life::Resting(_) | Life::Unfinished(_) => {}
        }
        if let Some(task) = &mut inner.task {
            let parked = task.parked.take();
            drop(guard);
            if let Some(waker) = parked {
                waker.wake();
            }
            return;
        }
        // Somebody holds a door that somebody knocks at.
        let Some(this) = self.this.upgrade() else { return };
        inner.bursts = inner.bursts.saturating_add(1);
        if inner.order == Order::Cool && inner.bursts > BURSTS {
            inner.order = Order::Serve;
        }
        inner.task = Some(Task::default());
        inner.lives = inner.lives.wrapping_add(1);
        let (life, cell) = (inner.lives, Arc::clone(&this));
        drop(guard);
        this.spawn(life, async move { cell.run().await });
    }

    /// Ends the activation, gives what is queued back to its callers, and reports. Who has the grain has dropped it;
    /// while it is lent that is the caller's part.
    fn release(&self, end: End, lent: bool) {
        let mut inner = self.lock();
        inner.stopped = true;
        match std::mem::replace(&mut inner.life, Life::Working) {
            Life::Gone => {
                inner.life = Life::Gone;
                return;
            }
            Life::Lent if !lent => {
                inner.life = Life::Lent;
                return;
            }
            // Outside the lock, and before the activation counts as ended.
            held @ (Life::Unborn(_) | Life::Resting(_) | Life::Unfinished(_)) => {
                drop(inner);
                drop_quietly(held);
                inner = self.lock();
            }
            Life::Working | Life::Lent => {}
        }
        inner.life = Life::Gone;
        let (queued, activated) = (Batch(std::mem::take(&mut inner.queue)), inner.activated);
        let parked = inner.task.take().and_then(|task| task.parked);
        drop(inner);
        drop(queued);
        // It finds that it has been stopped.
        if let Some(waker) = parked {
            waker.wake();
        }
        let activation = self.context.activation;
        self.context.cluster.ended(match end {
            End::Left(reason) => Ended::Deactivated(activation, reason),
            End::Failed(error) => Ended::NotActivated(activation, error),
            End::Rest | End::Cut if activated => Ended::Deactivated(activation, DeactivationReason::Unresponsive),
            End::Rest | End::Cut => {
                Ended::NotActivated(activation, GrainError::internal("the activation was cut short"))
            }
        });
    }
}

impl<G: Grain> Door for Cell<G> {
    fn begin(self: Arc<Self>) -> bool {
        self.begin_here()
    }

    fn begin_apart(self: Arc<Self>) {
        self.begin_in_task();
    }

    fn deliver(&self, envelope: Envelope) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.stopped || matches!(inner.life, Life::Gone) || matches!(inner.order, Order::Drain(_)) {
            return Err(Refused::new(envelope, NotDeliveredReason::Stopping));
        }
        if inner.queue.len() + self.taken.load(Ordering::Relaxed) >= self.settings.mailbox {
            return Err(Refused::new(envelope, NotDeliveredReason::Overloaded));
        }
        if inner.queue.capacity() == 0 {
            // Most grains never have more than one message waiting.
            inner.queue.reserve_exact(1);
        }
        inner.queue.push_back(envelope);
        self.is_in_use();
        self.wake(inner);
        Ok(())
    }

    fn call(&self, mut envelope: Envelope, reply: &mut dyn FnMut() -> ReplyTo) -> Result<Option<Outcome>, Refused> {
        if self.settings.brief.holds()
            && let Some(_nested) = Nested::enter()
            && let Some(lent) = self.lend()
        {
            return Ok(self.turn_lent(lent, envelope, reply));
        }
        envelope.reply = reply();
        self.deliver(envelope).map(|()| None)
    }

    fn drain(&self, reason: DeactivationReason) {
        let mut inner = self.lock();
        if !matches!(inner.order, Order::Drain(_)) {
            inner.order = Order::Drain(reason);
        }
        self.wake(inner);
    }

    fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        match (&inner.life, &inner.task) {
            // Who has it ends it, when the turn is over.
            (Life::Lent, _) | (Life::Gone, _) => {}
            (_, Some(task)) => {
                if let Some(task) = &task.handle {
                    task.abort();
                }
            }
            (_, None) => {
                drop(inner);
                self.release(End::Cut, false);
            }
        }
    }

    fn sweep(&self, every: Duration) -> bool {
        let idle = self.idle_sweeps.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if idle > 1 {
            let mut guard = self.lock();
            let inner = &mut *guard;
            match (&inner.life, &mut inner.task) {
                (Life::Resting(_), Some(task)) if inner.order == Order::Serve && task.parked.is_some() => {
                    inner.order = Order::Cool;
                    inner.bursts = 0;
                    let parked = task.parked.take();
                    drop(guard);
                    if let Some(waker) = parked {
                        waker.wake();
                    }
                }
                // A turn that takes long is no idleness.
                (Life::Lent | Life::Unfinished(_), _) | (Life::Working, _) if inner.bursts > 0 => {
                    self.idle_sweeps.store(0, Ordering::Relaxed);
                    return false;
                }
                // On its way to rest.
                (Life::Unborn(_) | Life::Lent | Life::Unfinished(_) | Life::Working, _)
                | (Life::Resting(_), Some(_)) => {}
                (Life::Resting(_), None) | (Life::Gone, _) => inner.bursts = 0,
            }
        }
        self.settings.is_idle(idle, every)
    }
}

impl<G> fmt::Debug for Cell<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("context", &self.context).finish_non_exhaustive()
    }
}

/// What a task has to do.
enum Work<G> {
    /// Handle what was taken from the queue.
    Turns,
    /// Finish what a caller began.
    Finish(Box<Unfinished<G>>),
    /// End; the grain rests.
    Rest,
    /// End; it was stopped.
    End,
    /// Say goodbye.
    Leave(Box<Active<G>>, DeactivationReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    Panicked,
}

/// A turn that a caller began, with the grain in it.
struct Unfinished<G> {
    turn: BoxFuture<'static, (Box<Active<G>>, Outcome, Turn)>,
    reply: ReplyTo,
}

/// How a warm life ends.
enum End {
    /// The grain rests in its cell.
    Rest,
    /// The activation is over.
    Left(DeactivationReason),
    /// There was no activation.
    Failed(GrainError),
    /// It was stopped, or what it dropped panicked.
    Cut,
}

/// Releases the cell when its task ends in any way but rest.
struct Leaving<G: Grain> {
    cell: Arc<Cell<G>>,
    end: End,
}

impl<G: Grain> Drop for Leaving<G> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.end, End::Cut) {
            End::Rest => {}
            end => self.cell.release(end, false),
        }
    }
}
