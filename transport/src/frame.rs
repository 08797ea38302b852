//! Frames as bytes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 to 3 | length of the rest, big-endian |
//! | 4 .. | one prost [`remote::Frame`] |
//!
//! A length is checked against the limit before anything is reserved for it, and memory grows with what arrives, not
//! with what is claimed. What a legal frame may grow to in memory is bounded too: the only part of a frame that is
//! larger decoded than encoded, by more than a small factor, is the metadata of a rejection, which has its own limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gristmill_messages::remote::{self, frame::MessageType};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Bytes of the length before each frame.
pub const PREFIX: usize = 4;

/// Bytes of a rejection, at most: its metadata takes up to 40 times its encoded size in memory.
pub const MAX_REJECTION: usize = 64 * 1024;

/// Payloads of frames up to this size are copied, so that a small one that is kept does not keep a whole read buffer,
/// and so that the read buffer is used again at once.
const COPY_UP_TO: usize = 4 * 1024;

/// What is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is over the limit. Reading: the peer's fault, nothing was reserved, the connection is lost. Writing: the
    /// caller's fault, nothing was written; a retry does not help.
    #[error("a frame of {claimed} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the frame, as claimed or as measured.
        claimed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes are no prost message. The peer's fault; the connection is lost.
    #[error("a frame of {length} bytes does not decode: {detail}")]
    Malformed {
        /// Bytes of the frame.
        length: usize,
        /// What prost says.
        detail: String,
    },
    /// A rejection is over [`MAX_REJECTION`]. The peer's fault; the connection is lost.
    #[error("a rejection of {0} bytes exceeds the limit of {MAX_REJECTION}")]
    RejectionTooLarge(usize),
}

/// Appends `message` with its length to `out`, and says how many bytes that took.
///
/// # Errors
/// [`FrameError::TooLarge`] when the frame without its length exceeds `limit`; `out` is unchanged.
pub fn encode(message: MessageType, limit: usize, out: &mut BytesMut) -> Result<usize, FrameError> {
    let frame = remote::Frame { message_type: Some(message) };
    let length = check_length(frame.encoded_len(), limit)?;
    out.reserve(PREFIX + length);
    #[expect(clippy::cast_possible_truncation, reason = "check_length allows no more than u32::MAX")]
    out.put_u32(length as u32);
    frame.encode_raw(out);
    Ok(PREFIX + length)
}

fn check_length(length: usize, limit: usize) -> Result<usize, FrameError> {
    if length > limit || u32::try_from(length).is_err() {
        Err(FrameError::TooLarge { claimed: length, limit })
    } else {
        Ok(length)
    }
}

/// Takes frames out of the bytes that came.
///
/// ```
/// use bytes::BytesMut;
/// use gristmill_messages::remote::{CancelRequest, frame::MessageType};
/// use gristmill_transport::frame::{self, Decoder};
///
/// let cancel = MessageType::CancelRequest(CancelRequest { request_id: 7 });
/// let mut decoder = Decoder::new(1024);
/// frame::encode(cancel.clone(), 1024, decoder.buffer())?;
/// assert_eq!(decoder.next_frame()?.and_then(|frame| frame.message_type), Some(cancel));
/// assert_eq!(decoder.next_frame()?, None);
/// # Ok::<_, frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// Refuses frames of more than `limit` bytes, their length not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Changes the limit for the frames to come.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Where to append what was read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete frame, or `None` when more bytes are needed.
    ///
    /// A frame with a message that this version does not know comes without a `message_type`.
    ///
    /// # Errors
    /// After any, the boundary of the next frame is lost, and so is the connection.
    pub fn next_frame(&mut self) -> Result<Option<remote::Frame>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLarge { claimed: length, limit: self.limit });
        }
        let Some(body) = self.buffer.get(PREFIX..PREFIX + length) else { return Ok(None) };
        if length > MAX_REJECTION {
            check_rejection(body)?;
        }
        let decoded = if length <= COPY_UP_TO {
            let decoded = remote::Frame::decode(body);
            self.buffer.advance(PREFIX + length);
            decoded
        } else {
            self.buffer.advance(PREFIX);
            let body: Bytes = self.buffer.split_to(length).freeze();
            remote::Frame::decode(body)
        };
        decoded.map(Some).map_err(|error| FrameError::Malformed { length, detail: error.to_string() })
    }
}

/// Looks for a rejection that is too large, without decoding. What does not parse is left to the decoder.
///
/// A field that comes twice is merged, therefore all count together.
fn check_rejection(frame: &[u8]) -> Result<(), FrameError> {
    const RESPONSE: u32 = 103;
    const REJECTED: u32 = 3;
    let responses = fields(frame).filter(|field| field.number == RESPONSE);
    let rejections = responses.flat_map(|response| fields(response.body)).filter(|field| field.number == REJECTED);
    let bytes = rejections.map(|rejection| rejection.body.len()).sum();
    if bytes > MAX_REJECTION { Err(FrameError::RejectionTooLarge(bytes)) } else { Ok(()) }
}

struct Field<'a> {
    number: u32,
    body: &'a [u8],
}

/// The length-delimited fields of a message, up to its end or to the first byte that makes no sense.
fn fields(mut message: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        while message.has_remaining() {
            let (number, wire_type) = decode_key(&mut message).ok()?;
            if wire_type != WireType::LengthDelimited {
                skip_field(wire_type, number, &mut message, DecodeContext::default()).ok()?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (body, rest) = message.split_at_checked(length)?;
            message = rest;
            return Some(Field { number, body });
        }
        None
    })
}

#[cfg(test)]
mod tests;
