use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use gristmill_messages::remote::frame::MessageType;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::config::TransportConfig;
use crate::frame::{FrameError, encode};
use crate::pending::CallKey;
use crate::sync::lock;

/// Bytes of refusals that may wait for the peer to read them before nothing more is read of it.
const MAX_REFUSALS: usize = 256 * 1024;

/// Fewer frames than these are not written at once: senders that are ready to run may add theirs.
const WORTH_A_WRITE: usize = 64;

/// A buffer that grew beyond this is not kept.
const KEEP_UP_TO: usize = 1024 * 1024;

/// The send queue of a connection: frames, encoded by their senders one behind the other.
///
/// Requests need room before they are pushed; answers and control frames do not.
pub(super) struct Outbound {
    frame_limit: usize,
    /// The least that a request takes of the room, so that small ones are bounded by number.
    least_charge: usize,
    queue_bytes: usize,
    queue: Mutex<Queue>,
    ready: Notify,
    room: Semaphore,
    window: Semaphore,
    /// Calls sent and not answered; the permits that the window has given away.
    unanswered: AtomicUsize,
    /// Bytes of answers queued or being written.
    answers: AtomicUsize,
    /// Bytes of refusals queued or being written.
    refusals: AtomicUsize,
    refusals_written: Notify,
}

struct Queue {
    batch: Batch,
    closed: bool,
}

/// Frames for one write.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: BytesMut,
    pub(super) frames: usize,
    /// Calls among them.
    calls: Vec<CallKey>,
    charge: usize,
    answers: usize,
    refusals: usize,
}

/// What is pushed, and so what bounds it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sort {
    /// Bounded by the room, of which it takes `charge`; a call, with a `key`, by the window too.
    Request { key: Option<CallKey>, charge: usize },
    /// The answer to a request that was open: bounded by the peer's window.
    Answer,
    /// The answer to a request that was not let in: bounded by [`Outbound::refusals_drain`].
    Refusal,
    /// A cancellation, bounded by the window.
    Control,
}

#[derive(Debug)]
pub(super) enum PushError {
    Closed,
    Frame(FrameError),
}

/// Room for one request. Given back when it is dropped unused.
pub(super) struct Admitted<'a> {
    window: Option<SemaphorePermit<'a>>,
    room: SemaphorePermit<'a>,
}

impl Admitted<'_> {
    pub(super) fn charge(&self) -> usize {
        self.room.num_permits()
    }

    /// The request is queued: the writer gives the room back, the answer the place in the window.
    pub(super) fn used(self) {
        self.room.forget();
        if let Some(window) = self.window {
            window.forget();
        }
    }
}

impl Outbound {
    pub(super) fn new(config: &TransportConfig) -> Self {
        Self {
            frame_limit: config.frame_limit,
            least_charge: config.queue_bytes / config.queue_frames,
            queue_bytes: config.queue_bytes,
            queue: Mutex::new(Queue { batch: Batch::default(), closed: false }),
            ready: Notify::new(),
            room: Semaphore::new(config.queue_bytes),
            window: Semaphore::new(config.window),
            unanswered: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            refusals_written: Notify::new(),
        }
    }

    /// What a request of so many bytes takes of the room.
    #[expect(clippy::cast_possible_truncation, reason = "the configuration allows no more than 2²⁹ bytes")]
    fn charge(&self, bytes: usize) -> u32 {
        bytes.max(self.least_charge).min(self.queue_bytes) as u32
    }

    pub(super) fn try_admit(&self, bytes: usize, call: bool) -> Option<Admitted<'_>> {
        let window = if call { Some(self.window.try_acquire().ok()?) } else { None };
        let room = self.room.try_acquire_many(self.charge(bytes)).ok()?;
        Some(Admitted { window, room })
    }

    /// Waits for room, first come, first served. `None` when the connection has ended.
    pub(super) async fn admit(&self, bytes: usize, call: bool) -> Option<Admitted<'_>> {
        let window = if call { Some(self.window.acquire().await.ok()?) } else { None };
        let room = self.room.acquire_many(self.charge(bytes)).await.ok()?;
        Some(Admitted { window, room })
    }

    pub(super) fn push(&self, message: MessageType, sort: Sort) -> Result<(), PushError> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(PushError::Closed);
        }
        let batch = &mut queue.batch;
        let bytes = encode(message, self.frame_limit, &mut batch.bytes).map_err(PushError::Frame)?;
        let was_empty = batch.frames == 0;
        batch.frames += 1;
        match sort {
            Sort::Request { key, charge } => {
                batch.charge += charge;
                if let Some(key) = key {
                    batch.calls.push(key);
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            Sort::Answer => {
                batch.answers += bytes;
                self.answers.fetch_add(bytes, Ordering::Relaxed);
            }
            Sort::Refusal => {
                batch.refusals += bytes;
                self.refusals.fetch_add(bytes, Ordering::Relaxed);
            }
            Sort::Control => {}
        }
        drop(queue);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for frames and takes them all; false when there will be none any more. `batch` must be empty.
    pub(super) async fn next(&self, batch: &mut Batch) -> bool {
        let mut gathered = false;
        loop {
            {
                let mut queue = lock(&self.queue);
                let frames = queue.batch.frames;
                if frames >= WORTH_A_WRITE || (frames > 0 && (gathered || queue.closed)) {
                    std::mem::swap(&mut queue.batch, batch);
                    return true;
                }
                if queue.closed {
                    return false;
                }
                gathered = frames > 0;
            }
            if gathered {
                // Waking the writer lets it run right after the first sender. The yield sends it behind all senders
                // that are ready, and one write carries the frames of all.
                tokio::task::yield_now().await;
            } else {
                self.ready.notified().await;
            }
        }
    }

    /// Gives back what the frames of a written batch took, and empties it.
    pub(super) fn written(&self, batch: &mut Batch) {
        self.room.add_permits(batch.charge);
        self.answers.fetch_sub(batch.answers, Ordering::Relaxed);
        if batch.refusals > 0 {
            self.refusals.fetch_sub(batch.refusals, Ordering::Relaxed);
            self.refusals_written.notify_one();
        }
        let mut bytes = std::mem::take(&mut batch.bytes);
        let mut calls = std::mem::take(&mut batch.calls);
        bytes.clear();
        calls.clear();
        *batch = Batch::default();
        if bytes.capacity() <= KEEP_UP_TO {
            batch.bytes = bytes;
            batch.calls = calls;
        }
    }

    /// So many responses came. What was not asked for opens no window.
    pub(super) fn answered(&self, responses: usize) {
        let take = |unanswered: usize| Some(unanswered.saturating_sub(responses));
        let before = self.unanswered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_default();
        self.window.add_permits(before.min(responses));
    }

    /// Whether so much waits for the peer to read it that it should ask for no more.
    pub(super) fn answers_pile_up(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > self.queue_bytes
    }

    /// Waits while too many refusals wait for the peer to read them.
    pub(super) async fn refusals_drain(&self) {
        while self.refusals.load(Ordering::Relaxed) > MAX_REFUSALS {
            self.refusals_written.notified().await;
        }
    }

    /// Takes no frames any more. With a farewell all that is queued is still written, and the farewell after it;
    /// without one it is dropped, and the calls in it are returned: they were surely not sent.
    pub(super) fn close(&self, farewell: Option<MessageType>) -> Vec<CallKey> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let unsent = match farewell {
            Some(farewell) => {
                // It cannot be too large: a reason has a few words, of a frame limit of at least 4 KiB.
                queue.batch.frames += usize::from(encode(farewell, self.frame_limit, &mut queue.batch.bytes).is_ok());
                Vec::new()
            }
            None => std::mem::take(&mut queue.batch).calls,
        };
        drop(queue);
        self.room.close();
        self.window.close();
        self.ready.notify_one();
        unsent
    }
}
