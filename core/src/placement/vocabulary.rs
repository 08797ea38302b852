//! What the parts of placement tell each other.

use alloc::string::String;
use core::fmt;

use gristmill_messages::{ActivationEpoch, ActivationId, MemberId};

use crate::{KindName, Member};

/// An activation that may be called, as its own member names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placed {
    /// Its name on its member.
    pub activation: ActivationId,
    /// Its order among the activations of its identity there.
    pub epoch: ActivationEpoch,
}

/// An activation as every member names it: what a PID cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Who runs it.
    pub member: MemberId,
    /// Its name on that member.
    pub activation: ActivationId,
    /// Its order among the activations of its identity there.
    pub epoch: ActivationEpoch,
}

/// Why a member gives no activation. In every case the request left nothing behind on that member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No member hosts the kind. The caller's fault, or a deployment that is not complete; asking again helps only
    /// after the topology has changed.
    #[error("no member hosts the kind {kind}")]
    UnknownKind {
        /// The kind that was asked for.
        kind: KindName,
    },
    /// Another member owns the identity in this member's view. One of the two views is behind; asking the hinted
    /// owner, or asking again once topologies have settled, helps.
    #[error("another member owns the identity: {}", OwnerHint(owner.as_ref()))]
    NotOwner {
        /// Who owns it in this member's view.
        owner: Option<Member>,
    },
    /// Another activation of the identity is on its way elsewhere. Asking again helps, the holder first.
    #[error("{} holds the lock of the identity", holder.id)]
    Locked {
        /// Who holds it.
        holder: Member,
    },
    /// The member is leaving. Asking its successor helps, once the topology has changed.
    #[error("the member is shutting down")]
    ShuttingDown,
    /// The grain could not be made: its factory, its `on_activate` or its identity is at fault. Asking again makes
    /// another attempt.
    #[error("the activation failed: {0}")]
    Failed(String),
    /// The member has seen no topology yet. Asking again helps.
    #[error("placement has not started")]
    NotStarted,
    /// A bound of the member is reached: too many wait for this activation, or too many live. Asking again after a
    /// pause helps.
    #[error("too many activations or requests for them")]
    Overloaded,
}

impl Refusal {
    /// Whether the same request may succeed a little later without anybody changing code or deployment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::UnknownKind { .. } | Self::Failed(_) => false,
            Self::NotOwner { .. } | Self::Locked { .. } | Self::ShuttingDown | Self::NotStarted | Self::Overloaded => {
                true
            }
        }
    }
}

struct OwnerHint<'a>(Option<&'a Member>);

impl fmt::Display for OwnerHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(owner) => write!(f, "{} at {}", owner.id, owner.address),
            None => f.write_str("unknown which"),
        }
    }
}

/// Why an activation ends or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeactivationReason {
    /// Nothing was asked of it for its kind's idle time.
    Idle,
    /// It asked for it, or its user did.
    Stopped,
    /// Another member owns its identity now.
    OwnershipMoved,
    /// Its node is leaving.
    ShuttingDown,
    /// A turn panicked and the kind's policy is to end the activation, or the actor behind it has failed.
    Panicked,
    /// It did not activate or did not drain within its time.
    Unresponsive,
    /// A peer of another release gave a reason that this one does not know.
    Unspecified,
}

impl DeactivationReason {
    pub(super) const ALL: [Self; 7] = [
        Self::Idle,
        Self::Stopped,
        Self::OwnershipMoved,
        Self::ShuttingDown,
        Self::Panicked,
        Self::Unresponsive,
        Self::Unspecified,
    ];

    /// The word for it in logs and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::OwnershipMoved => "ownership_moved",
            Self::ShuttingDown => "shutting_down",
            Self::Panicked => "panicked",
            Self::Unresponsive => "unresponsive",
            Self::Unspecified => "unspecified",
        }
    }
}

impl fmt::Display for DeactivationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
