//! Calls that wait for their result.
//!
//! [`PendingCalls`] correlates a result with the future that waits for it. A connection keeps one for the responses of
//! its peer, and a node keeps one for calls to its own grains.
//!
//! Guarantees: each registered call ends exactly once, by [`complete`](PendingCalls::complete),
//! [`expire`](PendingCalls::expire), [`close`](PendingCalls::close), or by dropping its future, which frees the slot at
//! once. A key is not reused before its slot was reused 2³² times, so that a late result never ends another's call.
//! It does not guarantee punctuality: a deadline is noticed by the next sweep.
//!
//! There is no timer per call: deadlines live in slabs (one per shard, a thread registers always in the same shard),
//! and one sweep looks at all of them. Waker and result are in an allocation of their own, so that who completes calls
//! meets only who waits for that call, and not the threads that register others.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! use gristmill_transport::pending::PendingCalls;
//! use std::{sync::Arc, time::Duration};
//! use tokio::time::Instant;
//!
//! let calls = Arc::new(PendingCalls::new());
//! let (key, call) = calls.register(Instant::now() + Duration::from_secs(5));
//! calls.complete(key, "done").unwrap();
//! assert_eq!(call.await, Ok("done"));
//! # });
//! ```

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sync::lock;

const SHARD_BITS: u32 = 3;
const SHARDS: usize = 1 << SHARD_BITS;
const INDEX_BITS: u32 = 32 - SHARD_BITS;

/// Names a pending call; never 0.
///
/// Bits 0 to 2: the shard. Bits 3 to 31: the slot. Bits 32 to 63: the generation, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(u64);

impl CallKey {
    /// Wraps a number that came back from a peer; it may name nothing.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, as sent.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    const fn pack(shard: usize, index: usize, generation: u32) -> Self {
        Self(((generation as u64) << 32) | ((index as u64) << SHARD_BITS) | shard as u64)
    }

    const fn unpack(self) -> (usize, usize, u32) {
        let shard = self.0 as usize & (SHARDS - 1);
        let index = (self.0 >> SHARD_BITS) as usize & ((1 << INDEX_BITS) - 1);
        (shard, index, (self.0 >> 32) as u32)
    }
}

/// The deadline of a pending call passed before its result came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Expired;

enum State<T> {
    Waiting(Option<Waker>),
    Done(T),
    Expired,
    /// Its future is gone, or has given the result out.
    Taken,
}

/// What those share who wait for and who end one call.
struct Call<T>(Mutex<State<T>>);

impl<T> Call<T> {
    /// Ends it if it waits; gives back what was to be woken, or else the new state.
    fn end(&self, ended: State<T>) -> Result<Option<Waker>, State<T>> {
        let mut state = lock(&self.0);
        match &mut *state {
            State::Waiting(waker) => {
                let waker = waker.take();
                *state = ended;
                Ok(waker)
            }
            State::Done(_) | State::Expired | State::Taken => Err(ended),
        }
    }

    fn complete(self: Arc<Self>, result: T) -> Result<(), T> {
        let ended = self.end(State::Done(result));
        // Before the other wakes up: the last reference is then mostly his, in whose cache it was made.
        drop(self);
        match ended {
            Ok(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
                Ok(())
            }
            Err(State::Done(result)) => Err(result),
            Err(State::Waiting(_) | State::Expired | State::Taken) => unreachable!("it came back as something else"),
        }
    }
}

struct Slot<T> {
    generation: u32,
    deadline: Instant,
    call: Arc<Call<T>>,
}

struct Slots<T> {
    slots: Slab<Slot<T>>,
    generation: u32,
    /// No waiting call of this shard has an earlier deadline.
    earliest: Option<Instant>,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

/// A table of calls that wait for a result of type `T`.
pub struct PendingCalls<T> {
    shards: [Apart<Mutex<Slots<T>>>; SHARDS],
    /// The sweeper sleeps until a call is registered.
    sweeper_rests: AtomicBool,
    sweeper: Notify,
}

impl<T> PendingCalls<T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let slots = |_| Apart(Mutex::new(Slots { slots: Slab::new(), generation: 0, earliest: None }));
        Self { shards: std::array::from_fn(slots), sweeper_rests: AtomicBool::new(true), sweeper: Notify::new() }
    }

    /// Adds a call that ends with [`Expired`] when nothing has ended it by `deadline` and a sweep notices.
    pub fn register(&self, deadline: Instant) -> (CallKey, PendingCall<'_, T>) {
        self.insert(deadline, None)
    }

    /// As [`register`](Self::register), for a future that is polled right away: `waker` is the one of that poll, and
    /// the table is not visited again until there is a result.
    pub fn register_for(&self, deadline: Instant, waker: &Waker) -> (CallKey, PendingCall<'_, T>) {
        self.insert(deadline, Some(waker.clone()))
    }

    fn insert(&self, deadline: Instant, waker: Option<Waker>) -> (CallKey, PendingCall<'_, T>) {
        let fresh = waker.is_some();
        let home = home_shard();
        let call = Arc::new(Call(Mutex::new(State::Waiting(waker))));
        let key = {
            let mut shard = lock(self.shard(home));
            shard.generation = shard.generation.checked_add(1).unwrap_or(1);
            shard.earliest = Some(shard.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            let generation = shard.generation;
            let index = shard.slots.insert(Slot { generation, deadline, call: Arc::clone(&call) });
            CallKey::pack(home, index, generation)
        };
        // The sweeper sets this before it looks into the shards for the last time: it sees the slot, or this its rest.
        if self.sweeper_rests.load(Ordering::Acquire) && self.sweeper_rests.swap(false, Ordering::AcqRel) {
            self.sweeper.notify_one();
        }
        (key, PendingCall { calls: self, key, call, ended: false, fresh })
    }

    /// Ends the call with `result` and wakes who waits for it.
    ///
    /// # Errors
    /// Gives the result back when the call has ended before, or never was.
    pub fn complete(&self, key: CallKey, result: T) -> Result<(), T> {
        let (home, index, generation) = key.unpack();
        let shard = lock(self.shard(home));
        match shard.slots.get(index).filter(|slot| slot.generation == generation) {
            Some(slot) => {
                let call = Arc::clone(&slot.call);
                drop(shard);
                call.complete(result)
            }
            None => Err(result),
        }
    }

    /// Ends every call whose deadline is not after `now`, and says how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut expired = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(&shard.0);
            if shard.earliest.is_none_or(|earliest| earliest > now) {
                continue;
            }
            let mut earliest: Option<Instant> = None;
            for (_, slot) in &shard.slots {
                if slot.deadline <= now {
                    expired.extend(slot.call.end(State::Expired));
                } else {
                    earliest = Some(earliest.map_or(slot.deadline, |earliest| earliest.min(slot.deadline)));
                }
            }
            shard.earliest = earliest;
        }
        let count = expired.len();
        expired.into_iter().flatten().for_each(Waker::wake);
        count
    }

    /// Ends every waiting call with a result of `result`. Calls registered afterwards are not affected.
    pub fn close(&self, mut result: impl FnMut() -> T) {
        let mut closed = Vec::new();
        for shard in &self.shards {
            for (_, slot) in &lock(&shard.0).slots {
                closed.extend(slot.call.end(State::Done(result())));
            }
        }
        closed.into_iter().flatten().for_each(Waker::wake);
    }

    /// Calls whose future still exists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.0).slots.len()).sum()
    }

    /// Whether no call is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| lock(&shard.0).slots.is_empty())
    }

    /// Expires calls `every` so often while there are any, and rests while there are none. Never returns; run it once
    /// for each table. A call ends at most `every`, and what the runtime adds, after its deadline.
    pub async fn sweep(&self, every: Duration) {
        loop {
            if self.is_empty() {
                self.sweeper_rests.store(true, Ordering::Release);
                if self.is_empty() {
                    self.sweeper.notified().await;
                }
                self.sweeper_rests.store(false, Ordering::Release);
            }
            tokio::time::sleep(every).await;
            self.expire(Instant::now());
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a shard number is masked to the length of the array")]
    const fn shard(&self, home: usize) -> &Mutex<Slots<T>> {
        &self.shards[home & (SHARDS - 1)].0
    }
}

/// The right to end one call of a [`PendingCalls`].
pub struct Completer<T>(Arc<Call<T>>);

impl<T> Completer<T> {
    /// Ends the call with `result` and wakes who waits for it.
    ///
    /// # Errors
    /// Gives the result back when the call has ended before.
    pub fn complete(self, result: T) -> Result<(), T> {
        self.0.complete(result)
    }

    /// Whether somebody still waits for the result.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(*lock(&self.0.0), State::Waiting(_))
    }
}

impl<T> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").finish_non_exhaustive()
    }
}

impl<T> Default for PendingCalls<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for PendingCalls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCalls").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The result of one call, once it is there. Dropping it frees the slot; a result that comes later is refused.
#[must_use = "dropping it gives the call up"]
pub struct PendingCall<'a, T> {
    calls: &'a PendingCalls<T>,
    key: CallKey,
    call: Arc<Call<T>>,
    ended: bool,
    /// Not polled yet, but its waker is known.
    fresh: bool,
}

impl<T> PendingCall<'_, T> {
    /// The right to end this call, to be kept by who will answer it.
    #[must_use]
    pub fn completer(&self) -> Completer<T> {
        Completer(Arc::clone(&self.call))
    }

    fn free_slot(&mut self) {
        self.ended = true;
        let (home, index, _) = self.key.unpack();
        // Only this future removes its slot.
        let slot = lock(self.calls.shard(home)).slots.try_remove(index);
        drop(slot);
    }
}

impl<T> Future for PendingCall<'_, T> {
    type Output = Result<T, Expired>;

    /// # Panics
    /// When polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.ended, "polled after it was ready");
        if std::mem::take(&mut self.fresh) {
            // If the result is there already, the waker was woken.
            return Poll::Pending;
        }
        let mut state = lock(&self.call.0);
        let ended = match &mut *state {
            State::Waiting(Some(waker)) => {
                waker.clone_from(context.waker());
                return Poll::Pending;
            }
            State::Waiting(none) => {
                *none = Some(context.waker().clone());
                return Poll::Pending;
            }
            State::Done(_) | State::Expired | State::Taken => std::mem::replace(&mut *state, State::Taken),
        };
        drop(state);
        self.free_slot();
        match ended {
            State::Done(result) => Poll::Ready(Ok(result)),
            State::Expired | State::Waiting(_) | State::Taken => Poll::Ready(Err(Expired)),
        }
    }
}

impl<T> Drop for PendingCall<'_, T> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.free_slot();
        // A waker and a result may run any code when they are dropped: not under the lock.
        let state = std::mem::replace(&mut *lock(&self.call.0), State::Taken);
        drop(state);
    }
}

impl<T> fmt::Debug for PendingCall<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("key", &self.key).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// The shard in which the current thread registers: threads rarely meet in one.
fn home_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HOME: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) & (SHARDS - 1));
    }
    HOME.with(Cell::get)
}

#[cfg(test)]
mod tests;
