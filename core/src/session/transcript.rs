use alloc::vec::Vec;

use gristmill_messages::remote::{ConnectChallenge, ConnectRequest};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Secret;

/// Whose proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prover {
    Initiator,
    Acceptor,
}

impl Prover {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Initiator => b"gristmill handshake, initiator",
            Self::Acceptor => b"gristmill handshake, acceptor",
        }
    }
}

/// What both sides have said. Each field is preceded by its length, so that no two conversations have the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transcript(Vec<u8>);

impl Transcript {
    /// All of the request, and all of the challenge but its proof.
    pub(super) fn new(request: &ConnectRequest, challenge: &ConnectChallenge) -> Self {
        let mut transcript = Self(Vec::with_capacity(256));
        transcript.field(request.cluster_name.as_bytes());
        transcript.field(request.member_id.as_bytes());
        transcript.field(request.address.as_bytes());
        transcript.field(&request.min_version.to_be_bytes());
        transcript.field(&request.max_version.to_be_bytes());
        transcript.field(&request.lane.to_be_bytes());
        transcript.field(&request.nonce);
        transcript.field(request.expected_member_id.as_bytes());
        transcript.field(&challenge.nonce);
        transcript.field(challenge.member_id.as_bytes());
        transcript.field(challenge.address.as_bytes());
        transcript.field(&challenge.version.to_be_bytes());
        transcript
    }

    pub(super) fn proof(&self, prover: Prover, secret: &Secret) -> Vec<u8> {
        self.mac(prover, secret).finalize().into_bytes().to_vec()
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, prover: Prover, secret: &Secret, proof: &[u8]) -> bool {
        self.mac(prover, secret).verify_slice(proof).is_ok()
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn mac(&self, prover: Prover, secret: &Secret) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
        mac.update(prover.label());
        mac.update(&self.0);
        mac
    }
}
