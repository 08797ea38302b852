use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::not_delivered::Reason;
use gristmill_messages::remote::{self, Frame};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::inbound::Opened;
use super::outbound::Sort;
use super::{CloseReason, Reply, Shared};
use crate::frame::Decoder;
use crate::pending::CallKey;
use crate::{Connection, Handler, IncomingRequest, Outcome, Responder, Target};

/// Room for one read.
const READ: usize = 64 * 1024;

/// Reads until the connection ends, and says why it did.
pub(super) async fn read(
    shared: Arc<Shared>,
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
    mut decoder: Decoder,
    handler: Arc<dyn Handler>,
) -> CloseReason {
    handler.connected(&Connection { shared: Arc::clone(&shared) });
    let reason = serve(&shared, &mut *reader, &mut decoder, &*handler).await;
    shared.close(reason);
    let reason = shared.reason();
    if reason.is_orderly() {
        // A socket that is closed with bytes unread resets the connection, and what was written last is lost.
        loop {
            decoder.buffer().clear();
            decoder.buffer().reserve(READ);
            if matches!(reader.read_buf(decoder.buffer()).await, Ok(0) | Err(_)) {
                break;
            }
        }
    }
    reason
}

async fn serve(
    shared: &Arc<Shared>,
    reader: &mut (dyn AsyncRead + Send + Unpin),
    decoder: &mut Decoder,
    handler: &dyn Handler,
) -> CloseReason {
    while !shared.is_closed() {
        if let Err(reason) = dispatch(shared, decoder, handler) {
            return reason;
        }
        shared.outbound.refusals_drain().await;
        decoder.buffer().reserve(READ);
        match reader.read_buf(decoder.buffer()).await {
            Ok(0) => return CloseReason::EndOfStream,
            Ok(bytes) => shared.counters.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed),
            Err(error) => return CloseReason::Network(error.kind()),
        };
    }
    shared.reason()
}

/// Handles all frames that have come.
fn dispatch(shared: &Arc<Shared>, decoder: &mut Decoder, handler: &dyn Handler) -> Result<(), CloseReason> {
    let now = Instant::now();
    let mut frames = 0;
    let mut responses = 0;
    let result = loop {
        let Frame { message_type } = match decoder.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        frames += 1;
        match message_type {
            Some(MessageType::Request(frame)) => request(shared, handler, frame, now),
            Some(MessageType::Response(response)) => {
                responses += 1;
                // It is late when its caller gave up.
                let reply = Reply::Answered(response.outcome.into());
                let _ = shared.pending.complete(CallKey::new(response.request_id), reply);
            }
            Some(MessageType::CancelRequest(cancel)) => shared.cancel(cancel.request_id),
            Some(MessageType::DisconnectRequest(disconnect)) => {
                break Err(CloseReason::ByPeer(disconnect.reason.chars().take(256).collect()));
            }
            Some(
                MessageType::ConnectRequest(_)
                | MessageType::ConnectResponse(_)
                | MessageType::ConnectChallenge(_)
                | MessageType::ConnectProof(_),
            ) => break Err(CloseReason::OutOfTurn),
            None => ignore(shared),
        }
    };
    shared.counters.frames_in.fetch_add(frames, Ordering::Relaxed);
    if responses > 0 {
        shared.outbound.answered(responses);
    }
    result
}

fn request(shared: &Arc<Shared>, handler: &dyn Handler, request: remote::Request, now: Instant) {
    let id = request.request_id;
    let Some(target) = Target::of(&request) else {
        if id == 0 {
            ignore(shared)
        } else {
            refuse(shared, id, Reason::UnknownActor, "the target is nothing known")
        }
        return;
    };
    let responder = if id == 0 {
        Responder::one_way()
    } else if shared.outbound.answers_pile_up() {
        return refuse(shared, id, Reason::Overloaded, "answers wait to be read");
    } else {
        match shared.open.open(id) {
            Opened::Yes => Responder::new(Arc::clone(shared), id),
            Opened::Full => return refuse(shared, id, Reason::Overloaded, "too many requests wait for their answer"),
            Opened::Duplicate => return refuse(shared, id, Reason::Malformed, "the id is in use"),
        }
    };
    let timeout = Duration::from_millis(request.timeout_milliseconds.into());
    let request = IncomingRequest {
        target,
        message: request.message_type_name.into(),
        data: request.message_data,
        deadline: (!timeout.is_zero()).then(|| now + timeout),
        traceparent: Some(request.traceparent).filter(|traceparent| !traceparent.is_empty()),
        responder,
    };
    handler.request(&shared.peer, request);
}

fn refuse(shared: &Shared, id: u64, reason: Reason, detail: &str) {
    shared.counters.refused.fetch_add(1, Ordering::Relaxed);
    shared.push_response(id, Outcome::not_delivered(reason, detail), Sort::Refusal);
}

fn ignore(shared: &Shared) {
    shared.counters.ignored.fetch_add(1, Ordering::Relaxed);
}
