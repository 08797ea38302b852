//! A connection after its handshake: calls and one-way requests in both directions, at the same time.
//!
//! ```text
//!  call ──> window ──> room ──> queue ──> writer task ──> peer
//!    ^      (calls     (bytes   (encoded  (one write for
//!    │      without    queued)  frames)   what is queued)
//!    │      answer)
//!  pending calls <── reader task <── peer
//!                      │ requests
//!                      v
//!                    Handler ──> Responder ──> queue
//! ```
//!
//! Guarantees
//! - A call ends: with the peer's [`Outcome`], or with a [`CallError`] that says whether it may have run.
//! - What one task sends, one after the other, is handed to the peer's [`Handler`] in that order.
//! - When a call is dropped, or its deadline passes, nothing is left of it here, and the peer is told, who at once
//!   gives its place in the window back, even if its handler never lets go of the request.
//! - Everything queued is bounded. Requests wait for room within their deadline, then they are `Overloaded`. Answers
//!   never wait; their number is bounded by the peer's window of open calls, and requests beyond it, or beyond the
//!   bytes that may be queued for a slow reader, are refused as `NotDelivered`, which an honest peer does not meet: it
//!   keeps the same window. The reader stops only while a peer takes no refusals; it never waits for handlers, so that
//!   two nodes whose grains call each other cannot block each other's answers.
//! - A peer that takes no bytes for the stall timeout, or sends what is no frame, loses the connection.
//!
//! The window is one of the bounds that make nodes wait for each other: grains that call back and forth between two
//! nodes in more hops than one, with more calls open than the window holds, can fill both windows, and then end by
//! their deadlines.
//!
//! It does not guarantee that a request that was sent arrives, nor that a call that failed did not run, unless the
//! error says so. It does not notice a silent peer by itself while nothing is to be sent: membership probes do.
//!
//! A connection lives until either side closes it, whether or not a handle is left.

mod inbound;
mod outbound;
mod reader;
mod writer;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gristmill_core::session::Peer;
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::{CancelRequest, DisconnectRequest, Request, Response, response};
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Local;
use crate::frame::{Decoder, FrameError, MAX_REJECTION};
use crate::network::Stream;
use crate::pending::{CallKey, PendingCalls};
use crate::{Handler, Outcome, OutgoingRequest};
use inbound::OpenRequests;
use outbound::{Admitted, Outbound, PushError, Sort};

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This node closed it.
    #[error("closed here: {0}")]
    Requested(String),
    /// The peer closed it on purpose.
    #[error("closed by the peer: {0}")]
    ByPeer(String),
    /// The peer closed its socket without a word, or its process ended.
    #[error("the peer hung up")]
    EndOfStream,
    /// The network failed.
    #[error("the network failed: {0}")]
    Network(io::ErrorKind),
    /// The peer took no bytes for so long.
    #[error("the peer took nothing for {0:?}")]
    Stalled(Duration),
    /// The peer sent what is no frame, or one that is over the limit.
    #[error("the peer broke the protocol: {0}")]
    BadFrame(#[from] FrameError),
    /// The peer sent a frame of the handshake after the handshake.
    #[error("the peer sent a handshake frame out of turn")]
    OutOfTurn,
    /// A [`Handler`] panicked: a defect of this node.
    #[error("the handler panicked")]
    HandlerPanicked,
}

impl CloseReason {
    /// Whether the peer may still read: then what is queued is sent, and the reason after it.
    const fn is_orderly(&self) -> bool {
        matches!(self, Self::Requested(_) | Self::BadFrame(_) | Self::OutOfTurn | Self::HandlerPanicked)
    }
}

/// Why a call has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The connection had ended before the request was sent. It did not run; a retry over another connection is safe.
    #[error("not sent, the connection is gone: {reason}")]
    NotSent {
        /// Why the connection ended.
        reason: CloseReason,
    },
    /// The connection ended after the request may have been sent. It may have run.
    #[error("no answer, the connection is gone: {reason}")]
    ConnectionLost {
        /// Why the connection ended.
        reason: CloseReason,
    },
    /// The deadline passed. If the request was not sent it did not run, else it may have.
    #[error("the deadline has passed, {}", if *sent { "the answer did not come" } else { "the request was not sent" })]
    Expired {
        /// Whether the request may have been sent.
        sent: bool,
    },
    /// The request exceeds the frame limit. The caller's fault; nothing was sent, a retry does not help.
    #[error("a request of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the request as a frame.
        bytes: usize,
        /// Bytes of a frame, at most.
        limit: usize,
    },
    /// There was no room to send it within its deadline. It did not run; a retry with backoff is safe.
    #[error("no room to send within the deadline")]
    Overloaded,
}

/// What a connection has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Frames read.
    pub frames_in: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Writes; each carries all frames that were queued.
    pub writes: u64,
    /// Frames that hold nothing that this version knows, and one-way requests to nobody.
    pub ignored: u64,
    /// Requests of the peer refused because too many were open or too much was queued for it.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
    writes: AtomicU64,
    ignored: AtomicU64,
    refused: AtomicU64,
}

/// A connection to a peer. A clone is another handle to the same.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

impl Connection {
    /// Begins to read and write. Frames that came with the handshake are still in `decoder`.
    pub(crate) fn start(
        peer: Peer,
        local: &Local,
        stream: Stream,
        decoder: Decoder,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let shared = Arc::new(Shared::new(peer, local.clone()));
        tokio::spawn(drive(Arc::clone(&shared), stream, decoder, handler));
        Self { shared }
    }

    /// Who is on the other side.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Sends a request and waits for its outcome until `deadline`, which travels with it.
    ///
    /// Dropping the future gives the call up: its slot is free at once, and if it was sent the peer is told.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, request: OutgoingRequest, deadline: Instant) -> Result<Outcome, CallError> {
        let shared = &*self.shared;
        let mut request = request.into_frame();
        let admitted = shared.admit(&mut request, true, deadline).await?;
        let (key, pending) = shared.pending.register(deadline);
        request.request_id = key.get();
        shared.send(request, Some(key), admitted)?;
        let mut sent = CancelOnDrop { shared, key, armed: true };
        let reply = pending.await;
        sent.armed = reply.is_err();
        match reply {
            Ok(Reply::Answered(outcome)) => Ok(outcome),
            Ok(Reply::NotSent) => Err(CallError::NotSent { reason: shared.reason() }),
            Ok(Reply::Lost) => Err(CallError::ConnectionLost { reason: shared.reason() }),
            Err(_) => Err(CallError::Expired { sent: true }),
        }
    }

    /// Queues a request that wants no answer, as soon as there is room, until `deadline`, which travels with it.
    ///
    /// `Ok` says that it is queued, not that it arrives. Dropping the future before that sends nothing.
    ///
    /// # Errors
    /// All but [`CallError::ConnectionLost`], and nothing was sent then.
    pub async fn notify(&self, request: OutgoingRequest, deadline: Instant) -> Result<(), CallError> {
        let mut request = request.into_frame();
        let admitted = self.shared.admit(&mut request, false, deadline).await?;
        self.shared.send(request, None, admitted)
    }

    /// Ends the connection: calls end now, what is queued and the reason are sent within the linger time, and then the
    /// socket is closed. Of no effect when it has ended already.
    pub fn close(&self, reason: impl Into<String>) {
        self.shared.close(CloseReason::Requested(reason.into()));
    }

    /// Waits until the connection has ended, its tasks are gone, and its handler has heard of it.
    pub async fn closed(&self) -> CloseReason {
        // The sender lives in `shared`, which this handle holds.
        let _ = self.shared.phase.subscribe().wait_for(|phase| *phase == Phase::Closed).await;
        self.shared.reason()
    }

    /// Whether it has ended, or is about to: then no request is sent any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Calls of this side that wait for their answer.
    #[must_use]
    pub fn pending_calls(&self) -> usize {
        self.shared.pending.len()
    }

    /// Requests of the peer that wait for this side's answer; cancelled ones do not.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.shared.open.len()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConnectionStats {
            frames_in: read(&counters.frames_in),
            bytes_in: read(&counters.bytes_in),
            frames_out: read(&counters.frames_out),
            bytes_out: read(&counters.bytes_out),
            writes: read(&counters.writes),
            ignored: read(&counters.ignored),
            refused: read(&counters.refused),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { peer, reason, .. } = &*self.shared;
        f.debug_struct("Connection").field("peer", peer).field("reason", &reason.get()).finish_non_exhaustive()
    }
}

/// What ends a pending call.
enum Reply {
    Answered(Outcome),
    NotSent,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Closed,
}

/// What handle, reader, writer and responders of one connection share.
pub(crate) struct Shared {
    peer: Peer,
    local: Local,
    outbound: Outbound,
    pending: Arc<PendingCalls<Reply>>,
    open: OpenRequests,
    reason: OnceLock<CloseReason>,
    phase: watch::Sender<Phase>,
    counters: Counters,
}

impl Shared {
    fn new(peer: Peer, local: Local) -> Self {
        let config = local.config();
        Self {
            peer,
            outbound: Outbound::new(config),
            pending: Arc::new(PendingCalls::new()),
            open: OpenRequests::new(config.window),
            reason: OnceLock::new(),
            phase: watch::Sender::new(Phase::Open),
            counters: Counters::default(),
            local,
        }
    }

    fn is_closed(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Why it ended. Only asked once it has.
    fn reason(&self) -> CloseReason {
        self.reason.get().cloned().unwrap_or(CloseReason::EndOfStream)
    }

    /// Waits for room, then fills in what is left until the deadline.
    async fn admit(&self, request: &mut Request, call: bool, deadline: Instant) -> Result<Admitted<'_>, CallError> {
        let limit = self.local.config().frame_limit;
        // As long as id and timeout can make it.
        request.request_id = if call { u64::MAX } else { 0 };
        request.timeout_milliseconds = u32::MAX;
        let bytes = frame_length(request.encoded_len());
        if bytes > limit {
            return Err(CallError::TooLarge { bytes, limit });
        }
        let admitted = match self.outbound.try_admit(bytes, call) {
            Some(admitted) => admitted,
            None => match tokio::time::timeout_at(deadline, self.outbound.admit(bytes, call)).await {
                Ok(Some(admitted)) => admitted,
                Ok(None) => return Err(CallError::NotSent { reason: self.reason() }),
                Err(_) => return Err(CallError::Overloaded),
            },
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallError::Expired { sent: false });
        }
        // Rounded up: 0 would stand for no deadline.
        request.timeout_milliseconds = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        Ok(admitted)
    }

    fn send(&self, request: Request, key: Option<CallKey>, admitted: Admitted<'_>) -> Result<(), CallError> {
        let charge = admitted.charge();
        match self.outbound.push(MessageType::Request(request), Sort::Request { key, charge }) {
            Ok(()) => {
                admitted.used();
                Ok(())
            }
            Err(PushError::Closed) => Err(CallError::NotSent { reason: self.reason() }),
            // Its admission has measured it, and would not have let it pass.
            Err(PushError::Frame(_)) => {
                Err(CallError::TooLarge { bytes: charge, limit: self.local.config().frame_limit })
            }
        }
    }

    pub(crate) fn respond(&self, request_id: u64, outcome: Outcome) {
        if self.open.close(request_id) {
            self.push_response(request_id, outcome, Sort::Answer);
        }
    }

    /// The caller waits no more. Nobody reads the answer, but it gives the place in the window back, whatever becomes
    /// of the request here.
    fn cancel(&self, request_id: u64) {
        if self.open.cancel(request_id) {
            self.push_response(request_id, Outcome::unknown("cancelled"), Sort::Answer);
        }
    }

    fn push_response(&self, request_id: u64, outcome: Outcome, sort: Sort) {
        let outcome: response::Outcome = outcome.into();
        let rejection = match &outcome {
            response::Outcome::Rejected(rejected) => rejected.encoded_len(),
            _ => 0,
        };
        let response = |outcome| MessageType::Response(Response { request_id, outcome: Some(outcome) });
        let pushed = if rejection > MAX_REJECTION {
            Err(PushError::Frame(FrameError::RejectionTooLarge(rejection)))
        } else {
            self.outbound.push(response(outcome), sort)
        };
        if let Err(PushError::Frame(error)) = pushed {
            let outcome = Outcome::unknown(format!("it ran, but {error}"));
            let _ = self.outbound.push(response(outcome.into()), sort);
        }
    }

    pub(crate) fn is_cancelled(&self, request_id: u64) -> bool {
        self.is_closed() || self.open.is_cancelled(request_id)
    }

    fn close(&self, reason: CloseReason) {
        let farewell = reason.is_orderly().then(|| reason.to_string());
        if self.reason.set(reason).is_err() {
            return;
        }
        let farewell = farewell.map(|reason| MessageType::DisconnectRequest(DisconnectRequest { reason }));
        for key in self.outbound.close(farewell) {
            let _ = self.pending.complete(key, Reply::NotSent);
        }
        self.pending.close(|| Reply::Lost);
        self.phase.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            *phase = if open { Phase::Closing } else { *phase };
            open
        });
    }
}

/// Bytes of a frame whose message has so many: its own key and length are at most so long.
const fn frame_length(message: usize) -> usize {
    message.saturating_add(8)
}

struct CancelOnDrop<'a> {
    shared: &'a Shared,
    key: CallKey,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            let cancel = MessageType::CancelRequest(CancelRequest { request_id: self.key.get() });
            // The call keeps its place in the window until the peer answers, which bounds how many of these can queue.
            let _ = self.shared.outbound.push(cancel, Sort::Control);
        }
    }
}

/// The life of a connection.
async fn drive(shared: Arc<Shared>, stream: Stream, decoder: Decoder, handler: Arc<dyn Handler>) {
    let config = shared.local.config();
    let ended = Ended(&shared);
    let mut tasks = JoinSet::new();
    let reader = tasks.spawn(reader::read(Arc::clone(&shared), stream.reader, decoder, Arc::clone(&handler)));
    tasks.spawn(writer::write(Arc::clone(&shared), stream.writer));
    let mut phase = shared.phase.subscribe();
    let reason = tokio::select! {
        ended = tasks.join_next() => match ended {
            Some(Ok(reason)) => reason,
            Some(Err(_)) | None => CloseReason::HandlerPanicked,
        },
        _ = phase.wait_for(|phase| *phase != Phase::Open) => shared.reason(),
        () = shared.pending.sweep(config.sweep_interval) => CloseReason::EndOfStream,
    };
    shared.close(reason);
    if !shared.reason().is_orderly() {
        reader.abort();
    }
    let flushed = tokio::time::timeout(config.linger, async { while tasks.join_next().await.is_some() {} });
    if flushed.await.is_err() {
        tasks.shutdown().await;
    }
    let reason = shared.reason();
    tracing::debug!(peer = %shared.peer.member, lane = ?shared.peer.lane, %reason, "connection ended");
    handler.disconnected(&shared.peer, &reason);
    drop(ended);
}

/// Says that the connection has ended, even when a handler panics or the runtime shuts down.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.close(CloseReason::Requested("the runtime shut down".into()));
        self.0.phase.send_replace(Phase::Closed);
    }
}
