//! The handshake that opens each connection, for both of its sides.
//!
//! ```text
//! initiator                                          acceptor
//!   ConnectRequest   cluster, who, versions, lane,
//!                    nonce, whom it expects  ------>   version and cluster fit?
//!                    <------  ConnectChallenge  nonce, who, where, version, proof
//!   knows the secret, is the one expected?
//!   ConnectProof     proof                   ------>   knows the secret? may it come in (asked of the shell)?
//!                    <------  ConnectResponse   accepted
//! ```
//!
//! Either side may send a `ConnectResponse` with a [`Refusal`] instead of its next frame; that ends the handshake.
//!
//! Guarantees: when [`Event::Established`] comes on both sides, both know the same secret at that moment, name the same
//! cluster, and saw the same frames (HMAC-SHA256 over the transcript, a label of its own for each side, so that no
//! proof can be sent back as one's own; nonces of both sides, so that none can be used twice). The acceptor tells
//! whether a member is admitted only to a peer that proved the secret. An initiator that expects one member and meets
//! another learns who that is, and where it says that it listens, from the other's own proof ([`Event::MetAnother`]):
//! what a stranger says is never more than a [`Refusal`].
//!
//! It does not guarantee: anything about the bytes that follow. Who can change packets in flight can take over an
//! established connection, and who can read a handshake can guess a weak secret at leisure: TLS cures the first, a
//! secret of 128 random bits the second. Without a secret the flow is the same with an empty one, and proves nothing.
//!
//! Driven by a shell that draws the nonce, sends each [`Effect::Send`], decodes at most 4 KiB for each frame, asks
//! whether a peer is admitted on [`Effect::Admit`], and gives up after a deadline of its choice. There is no timer
//! inside, and so no time among the arguments.
//!
//! Source: the challenge-response of RFC 5802 (nonces of both sides, both prove) without its password storage.
//!
//! ```
//! use gristmill_core::Outbox;
//! use gristmill_core::session::{Effect, Event, Handshake, Input, LocalPeer, Nonce, Secret};
//! use gristmill_messages::{MemberId, remote::Lane};
//!
//! let local = |id| LocalPeer {
//!     cluster: "shop".into(),
//!     member: MemberId::new(id),
//!     address: None,
//!     secret: Secret::new(b"xyzzy"),
//! };
//! let mut sides = [
//!     Handshake::initiator(local(1), Lane::Data, None, Nonce::new([1; 16])),
//!     Handshake::acceptor(local(2), Nonce::new([2; 16])),
//! ];
//! let (mut turn, mut input, mut out) = (0, Input::Start, Outbox::new());
//! let established = loop {
//!     sides[turn].handle(input, &mut out);
//!     if let Some(event) = out.drain_events().next() {
//!         break event;
//!     }
//!     let effect = out.drain_effects().next();
//!     input = match effect {
//!         Some(Effect::Send(frame)) => {
//!             turn = 1 - turn;
//!             Input::Received(Some(frame))
//!         }
//!         _ => Input::Admission(Ok(())),
//!     };
//! };
//! assert!(matches!(established, Event::Established(peer) if peer.member == MemberId::new(1)));
//! ```

mod handshake;
mod refusal;
mod transcript;

pub use handshake::{Effect, Event, Handshake, Input};
pub use refusal::{Refusal, RefusalKind};

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use gristmill_messages::{MemberId, remote::Lane};

use crate::Address;

/// The protocol version of this build, the only one that it speaks.
pub const VERSION: u32 = 1;

/// Bytes of an encoded handshake frame, at most.
pub const MAX_FRAME: usize = 4 * 1024;

/// What a node tells of itself on each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPeer {
    /// The name of the cluster; both sides of a connection must agree.
    pub cluster: String,
    /// Who this process is.
    pub member: MemberId,
    /// Where it listens; `None` for a client.
    pub address: Option<Address>,
    /// What both sides must know.
    pub secret: Secret,
}

/// Who is on the other side of an established connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is, as it says itself: the secret proves that it belongs to the cluster, not which member it is.
    pub member: MemberId,
    /// Where it listens; `None` for a client.
    pub address: Option<Address>,
    /// What the connection is for.
    pub lane: Lane,
    /// The protocol version that both sides speak.
    pub version: u32,
}

/// What the members of a cluster share, and nobody else knows. Empty by default, which proves nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Option<Arc<[u8]>>);

impl Secret {
    /// Wraps the bytes; draw at least 16 of them at random.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| bytes.into()))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Random bytes that one side draws for one handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// Wraps bytes that a cryptographic generator drew.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
