use alloc::string::{String, ToString};

use gristmill_messages::remote::not_delivered::Reason;

use crate::placement::Refusal;
use crate::placement::pid_cache::LookupError;

/// Why a message surely did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NotDeliveredReason {
    /// The peer gave a reason that this release does not know. Retried.
    #[error("for an unknown reason")]
    Unspecified,
    /// The activation has ended. Retried with a fresh reference.
    #[error("no such activation")]
    NoSuchActivation,
    /// The activation is on its way out and takes nothing more. Retried with a fresh reference.
    #[error("the activation is stopping")]
    Stopping,
    /// A mailbox, queue or window was full up to the deadline that the receiver allows. Retried.
    #[error("overloaded")]
    Overloaded,
    /// Its deadline passed before its turn came. Never retried: there is no time left.
    #[error("expired on its way")]
    Expired,
    /// The receiver has no system actor of this name: its release differs. Never retried.
    #[error("unknown system actor")]
    UnknownActor,
    /// The member shuts down and keeps no grain. Retried with a fresh reference.
    #[error("the member is shutting down")]
    ShuttingDown,
    /// The member has not started yet. Retried.
    #[error("the member has not started")]
    NotStarted,
    /// The receiver could not read it. The sender's fault; never retried.
    #[error("malformed")]
    Malformed,
    /// The receiver does not take this from us. Never retried.
    #[error("unauthorized")]
    Unauthorized,
    /// The receiver has blocked this node: it takes us for dead. Retried: the block ends, or this node comes back under
    /// another id.
    #[error("the member has blocked this node")]
    Blocked,
    /// There is no connection to the member, and nothing was written. Found here, never sent by a peer. Retried.
    #[error("the member cannot be reached")]
    Unreachable,
}

/// Why an identity has no activation to send to. Nothing ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unresolved {
    /// No member hosts the kind. Never retried: it is said at once.
    #[error("no member hosts this kind")]
    UnknownKind,
    /// No member is known at all: the topology is empty. Retried.
    #[error("no member is known")]
    NoMember,
    /// The member that we take for the owner takes another one for it. Retried: one of the two views is about to
    /// change.
    #[error("the asked member is not the owner")]
    NotOwner,
    /// Another activation is on its way. Retried.
    #[error("another activation is on its way")]
    Locked,
    /// The owner shuts down. Retried: its keys are about to move.
    #[error("the owner is shutting down")]
    ShuttingDown,
    /// The owner has not started yet. Retried.
    #[error("the owner has not started")]
    NotStarted,
    /// The owner has no room for another activation or another waiting request. Retried.
    #[error("the owner is overloaded")]
    Overloaded,
    /// The owner could not be asked, or did not answer. Retried: asking is idempotent.
    #[error("the owner cannot be reached: {0}")]
    Unreachable(String),
    /// The grain's factory or its `on_activate` failed: the user's own code said no. Never retried.
    #[error("the activation failed: {0}")]
    ActivationFailed(String),
}

impl From<Refusal> for Unresolved {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownKind { .. } => Self::UnknownKind,
            Refusal::NotOwner { .. } => Self::NotOwner,
            Refusal::Locked { .. } => Self::Locked,
            Refusal::ShuttingDown => Self::ShuttingDown,
            Refusal::Failed(failure) => Self::ActivationFailed(failure),
            Refusal::NotStarted => Self::NotStarted,
            Refusal::Overloaded => Self::Overloaded,
        }
    }
}

impl From<LookupError> for Unresolved {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Refused(refusal) => refusal.into(),
            other @ (LookupError::OwnerGone(_) | LookupError::Unreachable(_)) => Self::Unreachable(other.to_string()),
        }
    }
}

/// What follows from a reason.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// Trying again would end in the same way.
    GiveUp,
    /// Wait, then try again.
    BackOff,
    /// Wait, then try again without the cached reference.
    Refresh,
    /// The reference was stale: try again without it, the first time at once.
    RefreshNow,
}

impl NotDeliveredReason {
    pub(super) const fn next(self) -> Next {
        match self {
            Self::NoSuchActivation | Self::Stopping => Next::RefreshNow,
            Self::ShuttingDown => Next::Refresh,
            Self::Unspecified | Self::Overloaded | Self::NotStarted | Self::Blocked | Self::Unreachable => {
                Next::BackOff
            }
            Self::Expired | Self::UnknownActor | Self::Malformed | Self::Unauthorized => Next::GiveUp,
        }
    }
}

impl Unresolved {
    pub(super) const fn next(&self) -> Next {
        match self {
            Self::NotOwner => Next::Refresh,
            Self::NoMember
            | Self::Locked
            | Self::ShuttingDown
            | Self::NotStarted
            | Self::Overloaded
            | Self::Unreachable(_) => Next::BackOff,
            Self::UnknownKind | Self::ActivationFailed(_) => Next::GiveUp,
        }
    }
}

impl From<Reason> for NotDeliveredReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::NoSuchActivation => Self::NoSuchActivation,
            Reason::Stopping => Self::Stopping,
            Reason::Overloaded => Self::Overloaded,
            Reason::Expired => Self::Expired,
            Reason::UnknownActor => Self::UnknownActor,
            Reason::ShuttingDown => Self::ShuttingDown,
            Reason::NotStarted => Self::NotStarted,
            Reason::Malformed => Self::Malformed,
            Reason::Unauthorized => Self::Unauthorized,
            Reason::Blocked => Self::Blocked,
        }
    }
}

impl From<NotDeliveredReason> for Reason {
    /// `Unreachable` has no counterpart on the wire and becomes `Unspecified`.
    fn from(reason: NotDeliveredReason) -> Self {
        match reason {
            NotDeliveredReason::Unspecified | NotDeliveredReason::Unreachable => Self::Unspecified,
            NotDeliveredReason::NoSuchActivation => Self::NoSuchActivation,
            NotDeliveredReason::Stopping => Self::Stopping,
            NotDeliveredReason::Overloaded => Self::Overloaded,
            NotDeliveredReason::Expired => Self::Expired,
            NotDeliveredReason::UnknownActor => Self::UnknownActor,
            NotDeliveredReason::ShuttingDown => Self::ShuttingDown,
            NotDeliveredReason::NotStarted => Self::NotStarted,
            NotDeliveredReason::Malformed => Self::Malformed,
            NotDeliveredReason::Unauthorized => Self::Unauthorized,
            NotDeliveredReason::Blocked => Self::Blocked,
        }
    }
}
