use std::time::Duration;

use gristmill_core::KindName;
use gristmill_core::gossip::SetRefusal;
use gristmill_core::request::{NotDeliveredReason, Unresolved};
use gristmill_core::topology::InvalidTopology;
use gristmill_messages::InvalidIdentity;

use crate::config::ConfigError;
use crate::grain::GrainError;
use crate::provider::ProviderError;

/// Why a request has no answer. What each says about the grain is exact: see `docs/semantics.md`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The grain ran and said no. Never retried; calling again asks again.
    #[error("rejected by the grain: {0}")]
    Rejected(#[source] GrainError),
    /// It surely did not run; it was tried until the deadline, or cannot succeed. Calling again is safe.
    #[error("not delivered after {attempts} attempts: {reason}")]
    NotDelivered {
        /// Of the last attempt.
        reason: Undelivered,
        /// How often it was tried.
        attempts: u32,
    },
    /// No member hosts the kind, or the one that owns the identity does not. Waiting for such a member helps.
    #[error("no member hosts the kind \"{kind}\"")]
    UnknownKind {
        /// The kind.
        kind: KindName,
    },
    /// It was sent and there is no answer: it may have run. Calling again may run it twice.
    #[error("the outcome is unknown: {detail}")]
    UnknownOutcome {
        /// What is known.
        detail: String,
    },
    /// A mailbox or queue stayed full until the deadline; it surely did not run. Calling again later helps.
    #[error("overloaded for {after:?}")]
    Overloaded {
        /// How long the call was to take at most.
        after: Duration,
    },
    /// The deadline passed while the grain may have been running. As [`UnknownOutcome`](Self::UnknownOutcome).
    #[error("no answer within {after:?}")]
    DeadlineExceeded {
        /// How long the call was to take at most.
        after: Duration,
    },
    /// The caller's fault: nothing was sent.
    #[error("invalid identity: {0}")]
    InvalidIdentity(#[from] InvalidIdentity),
    /// The caller's fault: the message exceeds the frame limit; nothing was sent.
    #[error("the message has {bytes} bytes, {limit} at most")]
    TooLarge {
        /// Of the encoded message.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The caller's fault: the batch for a topic has more messages than fit into an empty stream, so that it could
    /// never be delivered; nothing was sent. Smaller batches help.
    #[error("the batch has {messages} messages, {limit} at most")]
    BatchTooLong {
        /// In the batch.
        messages: usize,
        /// The limit.
        limit: usize,
    },
    /// The grain ran, and answered with something else than the caller expects.
    #[error("expected {expected} as the reply: {problem}")]
    UnexpectedReply {
        /// The full name of the expected message.
        expected: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This node is not running (any more); nothing was sent.
    #[error("this node is not running")]
    NotRunning,
}

/// This node is not running (any more): what a question to the node itself fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node is not running")]
pub struct NotRunning;

impl From<NotRunning> for RequestError {
    fn from(_: NotRunning) -> Self {
        Self::NotRunning
    }
}

/// Why a message surely did not run: of [`RequestError::NotDelivered`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undelivered {
    /// There is no activation to send it to. That no member hosts the kind is [`RequestError::UnknownKind`] instead.
    #[error(transparent)]
    Unresolved(Unresolved),
    /// The activation, its member, or the way to it did not take it.
    #[error("{reason}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
    Refused {
        /// Why.
        reason: NotDeliveredReason,
        /// What was said about it, for people; may be empty.
        detail: String,
    },
    /// The deadline passed before it was sent.
    #[error("no answer within {after:?}")]
    DeadlinePassed {
        /// How long the call was to take at most.
        after: Duration,
    },
}

/// Why a node did not start. Everything that had been started was stopped again; starting anew is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on: a port in use, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The provider did not start.
    #[error("the provider did not start: {0}")]
    Provider(#[from] ProviderError),
    /// The cluster was not joined.
    #[error("did not join: {0}")]
    Join(#[from] gristmill_core::membership::JoinError),
    /// No member answered a client.
    #[error("no member answered: {0}")]
    NoMember(String),
    /// A part of the node failed while it started: a fault of this library.
    #[error("{part} did not start: {reason}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a node has not ended in order. It is down all the same, and its port is free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Grains were still running at the deadline and were cut off.
    #[error("{grains} grains were cut off at the deadline")]
    CutOff {
        /// How many.
        grains: usize,
    },
    /// A part did not stop in time and was killed.
    #[error("{part} did not stop in time")]
    Stuck {
        /// Which.
        part: &'static str,
    },
    /// The root actor was killed, or panicked, which is a fault of this library. No grain was drained and no other node
    /// was told; the parts end by themselves, so that the port is free a moment later.
    #[error("the root actor was killed or panicked")]
    Aborted,
}

/// What of a node could not make a topology its own: see
/// [`ClusterEvent::TopologyApplyFailed`](crate::ClusterEvent::TopologyApplyFailed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopologyPart {
    /// The view that all parts read. On a client only, which takes it from a member.
    View,
    /// Whose activations move.
    Placement,
    /// Which activations of other members are forgotten.
    PidCache,
    /// Whom this node gossips with, and the topology that it tells to go by.
    Gossip,
    /// Which topics may have a new owner.
    Delivery,
}

/// Why it could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyApplyError {
    /// What a member sent is no topology. The next one that is asked may send one.
    #[error(transparent)]
    Invalid(#[from] InvalidTopology),
    /// Gossip does not take the topology's hash. It is told with the next topology.
    #[error(transparent)]
    Refused(#[from] SetRefusal),
    /// The part is busy with something else. What it was handed waits there.
    #[error("it has not come to it within {after:?}")]
    Late {
        /// How long it was waited for.
        after: Duration,
    },
    /// The part has ended. If it did so by itself, the node shuts down:
    /// [`ClusterEvent::PartFailed`](crate::ClusterEvent::PartFailed).
    #[error("it has ended")]
    Ended,
}
