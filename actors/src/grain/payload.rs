//! The bytes of one message to a grain.

use bytes::Bytes;
use prost::Message;

/// Bytes that fit into a payload itself: no more than it takes anyway to point at longer ones.
const SHORT: usize = 23;

/// An encoded message. A short one is kept in place: on one node nothing else of it would be allocated, and freed on
/// another thread.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// So many of these bytes.
    Short { length: u8, bytes: [u8; SHORT] },
    /// Somewhere else, perhaps shared.
    Shared(Bytes),
}

impl Payload {
    pub(crate) fn encode(message: &impl Message) -> Self {
        let mut bytes = [0; SHORT];
        let mut room = bytes.as_mut_slice();
        if message.encode(&mut room).is_err() {
            return Self::Shared(message.encode_to_vec().into());
        }
        let length = SHORT - room.len();
        Self::Short { length: u8::try_from(length).unwrap_or(u8::MAX), bytes }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Self::Shared(bytes) => bytes,
        }
    }

    /// Copies a short one.
    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Short { .. } => Bytes::copy_from_slice(self.as_slice()),
            Self::Shared(bytes) => bytes.clone(),
        }
    }

    /// To be sent elsewhere.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Short { .. } => self.to_bytes(),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_kept_in_place_and_all_is_what_it_was() {
        assert_eq!(size_of::<Payload>(), size_of::<Bytes>());
        for length in [0, 1, 20, 21, 22, 23, 24, 1_000] {
            // One byte for the field, one or two for its length.
            let message = vec![7_u8; length];
            let payload = Payload::encode(&message);
            assert_eq!(matches!(payload, Payload::Short { .. }), length <= 21, "{length}");
            assert_eq!(payload.as_slice(), message.encode_to_vec());
            assert_eq!(payload.to_bytes(), message.encode_to_vec());
            assert_eq!(payload.clone().into_bytes(), message.encode_to_vec());
            assert_eq!(Payload::from(payload.to_bytes()).as_slice(), payload.as_slice());
        }
    }
}
