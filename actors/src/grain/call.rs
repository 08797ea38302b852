use bytes::Bytes;
use gristmill_messages::MessageName;
use prost::{Message, Name};

use crate::grain::Payload;

/// Bytes of a message whose fields are copied out of it rather than shared with it, at most.
const COPIED: usize = 1_024;

/// One message to a grain: a prost message by its full name, not yet decoded.
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) message: &'a MessageName,
    pub(super) data: &'a Payload,
    pub(super) traceparent: Option<&'a str>,
}

/// A call that is not what the grain asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is another message. The caller sent what this grain does not know.
    #[error("unexpected message {name}")]
    OtherMessage {
        /// The full name of what came.
        name: String,
    },
    /// It is the message by name, but does not decode. The caller's fault.
    #[error("malformed {name}: {source}")]
    Malformed {
        /// The full name.
        name: String,
        /// What prost says.
        source: prost::DecodeError,
    },
}

impl Call<'_> {
    /// The full name of the message.
    #[must_use]
    pub const fn name(&self) -> &MessageName {
        self.message
    }

    /// Whether the message is an `M`, by its full name.
    #[must_use]
    pub fn is<M: Name>(&self) -> bool {
        self.message.is::<M>()
    }

    /// The message as an `M`.
    ///
    /// # Errors
    /// It is another message, or it does not decode. Either becomes a [`GrainError`](crate::GrainError) with `?`.
    pub fn decode<M: Message + Name + Default>(&self) -> Result<M, DecodeError> {
        if !self.is::<M>() {
            return Err(DecodeError::OtherMessage { name: self.message.to_string() });
        }
        // `Bytes` fields of a large message share its memory; of a small one it is cheaper to copy them than to share.
        let bytes = self.data.as_slice();
        let decoded = if bytes.len() <= COPIED { M::decode(bytes) } else { M::decode(self.data.to_bytes()) };
        decoded.map_err(|source| DecodeError::Malformed { name: self.message.to_string(), source })
    }

    /// The encoded message. One that came over a connection shares the buffer that it was read into; a short one from
    /// this node is copied.
    #[must_use]
    pub fn data(&self) -> Bytes {
        self.data.to_bytes()
    }

    /// The caller's W3C trace context.
    #[must_use]
    pub const fn traceparent(&self) -> Option<&str> {
        self.traceparent
    }
}

/// A grain's answer: a prost message.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(crate) message: MessageName,
    pub(crate) data: Bytes,
}

impl Reply {
    /// Answers with `message`. Never fails; a `Result` so that a turn can end with it.
    ///
    /// # Errors
    /// None.
    pub fn message<M: Message + Name>(message: &M) -> Result<Self, crate::GrainError> {
        Ok(Self { message: MessageName::of::<M>(), data: message.encode_to_vec().into() })
    }

    /// Answers with nothing to say: `google.protobuf.Empty`, which is prost's `()`.
    ///
    /// # Errors
    /// None.
    pub fn empty() -> Result<Self, crate::GrainError> {
        Self::message(&())
    }

    /// Answers with an encoded message, given by its full name.
    #[must_use]
    pub fn encoded(name: impl Into<String>, data: Bytes) -> Self {
        Self { message: MessageName::from(name.into()), data }
    }

    /// The full name of the message.
    #[must_use]
    pub const fn name(&self) -> &MessageName {
        &self.message
    }

    /// The encoded message.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.data
    }
}
