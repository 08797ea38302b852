//! The light cell: a grain's mailbox, and the task that runs its turns only while there is something to do.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use gristmill_core::placement::DeactivationReason;
use gristmill_core::request::NotDeliveredReason;
use gristmill_transport::Outcome;
use tokio::task::AbortHandle;

use crate::grain::door::{Door, Ended, Refused};
use crate::grain::kind::{KindSettings, OnPanic};
use crate::grain::{Call, Envelope, ErrorCode, Grain, GrainContext, GrainError};

/// Of fewer messages that a task has taken, every one is counted; of more, one in so many.
const EXACT: usize = 16;

/// Turns after which a busy grain lets other tasks of its worker run.
const TURN_BUDGET: u32 = 128;

/// Bursts of messages after which a grain keeps its task when its queue is empty, until it is idle. One that is called
/// now and then goes cold at once, so that a million of those cost no million tasks.
const BURSTS: u8 = 2;

/// One activation of a [`Grain`].
pub(super) struct Cell<G> {
    this: Weak<Self>,
    context: GrainContext,
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
    activated: bool,
    /// Cut off: whatever the task is about to do, it ends instead.
    stopped: bool,
    /// Counts the warm lives.
    lives: u32,
    /// How often it became warm since it was last idle, see [`BURSTS`]; zero only while it is idle.
    bursts: u8,
}

/// | state | legal next states |
/// | --- | --- |
/// | `Warm` | `Cold` (idle), `Gone` |
/// | `Cold` | `Warm` (a message, or the order to drain) |
/// | `Gone` | none |
enum Life<G> {
    /// A task owns the grain, which is about to be spawned while there is no handle to it.
    Warm { order: Order, parked: Option<Waker>, task: Option<AbortHandle> },
    /// The grain rests here.
    Cold(Box<G>),
    /// The activation has ended.
    Gone,
}

/// What the task does once the queue is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Wait for the next message.
    Serve,
    /// Rest.
    Cool,
    /// Deactivate; nothing more is queued.
    Drain(DeactivationReason),
}

impl<G: Grain> Cell<G> {
    /// Starts the activation: builds the grain and runs `on_activate` in a task of its own, then reports.
    pub(super) fn start(
        settings: Arc<KindSettings>,
        context: GrainContext,
        grain: impl FnOnce() -> G + Send + 'static,
    ) -> Arc<Self> {
        let cell = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            context,
            settings,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                life: Life::Warm { order: Order::Cool, parked: None, task: None },
                activated: false,
                stopped: false,
                lives: 0,
                bursts: 1,
            }),
            taken: AtomicUsize::new(0),
            idle_sweeps: AtomicU32::new(0),
        });
        let this = Arc::clone(&cell);
        cell.spawn(0, async move { this.activate(grain).await });
        cell
    }

    fn lock(&self) -> MutexGuard<'_, Inner<G>> {
        // A panic under this lock is impossible: no user code runs there.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a warm life, cut off by [`stop`](Door::stop) wherever it is, even before it has begun: the grain, and what
    /// it had taken, are dropped, and then the cell is released. Not to be called under the lock: a runtime that has ended
    /// drops all of that at once.
    fn spawn(self: &Arc<Self>, life: u32, work: impl Future<Output = End> + Send + 'static) {
        // A tuple is dropped from its first field to its last.
        let live = (work, Leaving { cell: Arc::clone(self), end: End::Cut });
        let spawned = tokio::spawn(async move {
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
        if let (true, Life::Warm { task, .. }) = (current, &mut inner.life) {
            *task = Some(spawned);
        }
    }

    async fn activate(&self, grain: impl FnOnce() -> G) -> End {
        let activation = async {
            let mut grain = Box::new(grain());
            grain.on_activate(&self.context).await.map(|()| grain)
        };
        let failure = match AssertUnwindSafe(activation).catch_unwind().await {
            Ok(Ok(grain)) => {
                self.lock().activated = true;
                self.context.cluster.activated(self.context.activation);
                return self.settle(grain);
            }
            Ok(Err(error)) => error,
            Err(_) => GrainError::new(ErrorCode::Panicked, "the activation panicked"),
        };
        End::Failed(failure)
    }

    /// Puts the activated grain to rest, or into a task of its own if there is work already: that task is large, and this
    /// one is small, because most grains are activated more often than they are busy.
    fn settle(&self, grain: Box<G>) -> End {
        let Some(grain) = self.rest(grain) else { return End::Rest };
        let Some(this) = self.this.upgrade() else { return End::Cut };
        let mut inner = self.lock();
        let stopped = inner.stopped;
        match &mut inner.life {
            Life::Warm { task, .. } if !stopped => *task = None,
            Life::Warm { .. } | Life::Cold(_) | Life::Gone => return End::Cut,
        }
        inner.lives = inner.lives.wrapping_add(1);
        let (life, cell) = (inner.lives, Arc::clone(&this));
        drop(inner);
        this.spawn(life, async move { cell.run(grain).await });
        End::Rest
    }

    async fn run(&self, mut grain: Box<G>) -> End {
        let mut batch = Batch::default();
        let mut turns: u32 = 0;
        loop {
            match poll_fn(|cx| self.poll_work(cx, &mut batch.0)).await {
                Work::Turns => {}
                Work::Rest => match self.rest(grain) {
                    None => return End::Rest,
                    Some(woken) => grain = woken,
                },
                Work::End => return End::Cut,
                Work::Leave(reason) => {
                    // Boxed, since it happens once, and its room would be in every task.
                    let goodbye = AssertUnwindSafe(grain.on_deactivate(reason, &self.context)).catch_unwind();
                    if Box::pin(goodbye).await.is_err() {
                        tracing::warn!(identity = %self.context.identity, "a grain panicked while it was deactivated");
                    }
                    return End::Left(reason);
                }
            }
            while let Some(mut envelope) = batch.0.pop_front() {
                // Senders read this, and each store takes it away from them: of a long batch not every step is worth that.
                let left = batch.0.len();
                if left < EXACT || left.is_multiple_of(EXACT) {
                    self.taken.store(left, Ordering::Relaxed);
                }
                match (self.turn(&mut grain, &mut envelope).await, self.settings.on_panic) {
                    (Turn::Done, _) | (Turn::Panicked, OnPanic::Keep) => {}
                    (Turn::Panicked, OnPanic::Deactivate) => return End::Left(DeactivationReason::Panicked),
                }
                turns = turns.wrapping_add(1);
                if turns.is_multiple_of(TURN_BUDGET) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn turn(&self, grain: &mut G, envelope: &mut Envelope) -> Turn {
        if envelope.is_stale() {
            envelope.reply.take().not_delivered(NotDeliveredReason::Expired);
            return Turn::Done;
        }
        let Envelope { message, data, traceparent, .. } = &*envelope;
        let call = Call { message, data, traceparent: traceparent.as_deref() };
        let answer = AssertUnwindSafe(grain.receive(call, &self.context)).catch_unwind().await;
        let reply = envelope.reply.take();
        match answer {
            Ok(Ok(answer)) => reply.send(Outcome::Response { message: answer.message, data: answer.data }),
            Ok(Err(error)) => reply.send(error.into()),
            Err(_) => {
                let (identity, message) = (&self.context.identity, &envelope.message);
                tracing::warn!(%identity, %message, "a grain panicked");
                reply.send(GrainError::new(ErrorCode::Panicked, "the grain panicked").into());
                return Turn::Panicked;
            }
        }
        Turn::Done
    }

    fn poll_work(&self, cx: &Context<'_>, batch: &mut VecDeque<Envelope>) -> Poll<Work> {
        let mut inner = self.lock();
        if inner.stopped {
            return Poll::Ready(Work::End);
        }
        if !inner.queue.is_empty() {
            std::mem::swap(&mut inner.queue, batch);
            self.taken.store(batch.len(), Ordering::Relaxed);
            return Poll::Ready(Work::Turns);
        }
        match &mut inner.life {
            Life::Warm { order: Order::Serve, parked, .. } => {
                *parked = Some(cx.waker().clone());
                self.idle_sweeps.store(0, Ordering::Relaxed);
                Poll::Pending
            }
            Life::Warm { order: Order::Drain(reason), .. } => Poll::Ready(Work::Leave(*reason)),
            Life::Warm { order: Order::Cool, .. } | Life::Cold(_) | Life::Gone => Poll::Ready(Work::Rest),
        }
    }

    /// Puts the grain to rest, unless there is work again.
    fn rest(&self, grain: Box<G>) -> Option<Box<G>> {
        let mut inner = self.lock();
        if inner.queue.is_empty() && !inner.stopped && matches!(inner.life, Life::Warm { order: Order::Cool, .. }) {
            inner.queue = VecDeque::new();
            inner.life = Life::Cold(grain);
            return None;
        }
        Some(grain)
    }

    /// Makes sure that the task runs, and that it drains if that is wanted.
    fn wake(&self, mut guard: MutexGuard<'_, Inner<G>>, drain: Option<DeactivationReason>) {
        let inner = &mut *guard;
        match &mut inner.life {
            Life::Warm { order, parked, .. } => {
                inner.bursts = inner.bursts.max(1);
                if let (Order::Serve | Order::Cool, Some(reason)) = (*order, drain) {
                    *order = Order::Drain(reason);
                }
                let parked = parked.take();
                drop(guard);
                if let Some(waker) = parked {
                    waker.wake();
                }
            }
            cold @ Life::Cold(_) => {
                // Somebody holds a door that somebody knocks at.
                let Some(this) = self.this.upgrade() else { return };
                inner.bursts = inner.bursts.saturating_add(1);
                let idle = if inner.bursts > BURSTS { Order::Serve } else { Order::Cool };
                let order = drain.map_or(idle, Order::Drain);
                let warm = Life::Warm { order, parked: None, task: None };
                if let Life::Cold(grain) = std::mem::replace(cold, warm) {
                    inner.lives = inner.lives.wrapping_add(1);
                    let (life, cell) = (inner.lives, Arc::clone(&this));
                    drop(guard);
                    this.spawn(life, async move { cell.run(grain).await });
                }
            }
            Life::Gone => {}
        }
    }

    /// Ends the activation, gives what is queued back to its callers, and reports.
    fn release(&self, end: End) {
        let (queued, activated) = {
            let mut inner = self.lock();
            inner.life = Life::Gone;
            (Batch(std::mem::take(&mut inner.queue)), inner.activated)
        };
        drop(queued);
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
    fn deliver(&self, envelope: Envelope) -> Result<(), Refused> {
        let mut inner = self.lock();
        match &inner.life {
            _ if inner.stopped => return Err(Refused::new(envelope, NotDeliveredReason::Stopping)),
            Life::Gone | Life::Warm { order: Order::Drain(_), .. } => {
                return Err(Refused::new(envelope, NotDeliveredReason::Stopping));
            }
            Life::Warm { .. } | Life::Cold(_) => {}
        }
        if inner.queue.len() + self.taken.load(Ordering::Relaxed) >= self.settings.mailbox {
            return Err(Refused::new(envelope, NotDeliveredReason::Overloaded));
        }
        if inner.queue.capacity() == 0 {
            // Most grains never have more than one message waiting.
            inner.queue.reserve_exact(1);
        }
        inner.queue.push_back(envelope);
        if self.idle_sweeps.load(Ordering::Relaxed) != 0 {
            self.idle_sweeps.store(0, Ordering::Relaxed);
        }
        self.wake(inner, None);
        Ok(())
    }

    fn drain(&self, reason: DeactivationReason) {
        let inner = self.lock();
        self.wake(inner, Some(reason));
    }

    fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        if let Life::Warm { task, .. } = &inner.life {
            if let Some(task) = task {
                task.abort();
            }
            return;
        }
        if let Life::Cold(grain) = std::mem::replace(&mut inner.life, Life::Gone) {
            drop(inner);
            drop(grain);
            self.release(End::Cut);
        }
    }

    fn sweep(&self, every: Duration) -> bool {
        let idle = self.idle_sweeps.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if idle > 1 {
            let mut guard = self.lock();
            let inner = &mut *guard;
            match &mut inner.life {
                Life::Warm { order: order @ Order::Serve, parked: parked @ Some(_), .. } => {
                    *order = Order::Cool;
                    inner.bursts = 0;
                    let parked = parked.take();
                    drop(guard);
                    if let Some(waker) = parked {
                        waker.wake();
                    }
                }
                // A turn that takes long is no idleness.
                Life::Warm { .. } if inner.bursts > 0 => {
                    self.idle_sweeps.store(0, Ordering::Relaxed);
                    return false;
                }
                // On its way to rest.
                Life::Warm { .. } => {}
                Life::Cold(_) | Life::Gone => inner.bursts = 0,
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

enum Work {
    Turns,
    Rest,
    End,
    Leave(DeactivationReason),
}

enum Turn {
    Done,
    Panicked,
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
            end => self.cell.release(end),
        }
    }
}

/// Messages that wait. Dropped, they did surely not run, and their callers are told so.
#[derive(Default)]
struct Batch(VecDeque<Envelope>);

impl Drop for Batch {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|envelope| envelope.reply.not_delivered(NotDeliveredReason::Stopping));
    }
}

#[cfg(test)]
mod tests;
