use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::Gossip;
use super::message::{Delta, DeltaAck, DeltaId, GossipKey, GossipValue, Sequence};
use crate::RequestId;
use crate::request::NotDeliveredReason;

/// Counts the rounds of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundEpoch(pub(super) u64);

impl fmt::Display for RoundEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`Gossip`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin, without values and peers. No-op when it has begun.
    Start,
    /// End: forget everything but the numbers of our writes, so that a later start goes on above them.
    Stop,
    /// Write one of our values.
    Set {
        /// Its name.
        key: GossipKey,
        /// What it is from now on.
        value: GossipValue,
    },
    /// Remove one of our values.
    Remove {
        /// Its name.
        key: GossipKey,
    },
    /// Write one of our values again as it is, with a new number; nothing when there is none. Readers see that its
    /// member still means it.
    Refresh {
        /// Its name.
        key: GossipKey,
    },
    /// Whom to gossip with and whose state to keep: all others that are active, and those under suspicion.
    MembersChanged {
        /// All of them, in any order.
        members: Vec<MemberId>,
    },
    /// A delta came from the process that the connection belongs to.
    Requested {
        /// What to answer.
        request: RequestId,
        /// Whose connection.
        from: MemberId,
        /// What came.
        delta: Delta,
    },
    /// The answer to one of our deltas.
    Answered {
        /// Whose.
        from: MemberId,
        /// What it says.
        ack: DeltaAck,
    },
    /// One of our deltas was refused or did not leave.
    Failed {
        /// Whom it was for.
        to: MemberId,
        /// Which.
        delta: DeltaId,
    },
    /// The next round is due.
    Timer(RoundEpoch),
}

/// What [`Gossip`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send it and wait for the answer, no longer than [`super::Config::request_timeout`].
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        delta: Delta,
    },
    /// Answer a delta.
    Answer {
        /// Which request.
        request: RequestId,
        /// The acknowledgement, or why there is none.
        answer: Result<DeltaAck, Refusal>,
    },
    /// Come back with [`Input::Timer`].
    SetTimer {
        /// After how long.
        after: Duration,
        /// What to come back with.
        epoch: RoundEpoch,
    },
}

/// What [`Gossip`] says has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member wrote a value; this node's own writes are among them.
    Updated {
        /// Who.
        member: MemberId,
        /// Its name.
        key: GossipKey,
        /// What it is.
        value: GossipValue,
        /// Which of the member's writes.
        sequence: Sequence,
    },
    /// A member removed a value, says that it never wrote it, has written too many others since, or is gone.
    Removed {
        /// Who.
        member: MemberId,
        /// Its name.
        key: GossipKey,
        /// Which of the member's writes.
        sequence: Sequence,
    },
    /// A member is gone, and everything of it; its values were [`Event::Removed`] just before.
    Purged {
        /// Who.
        member: MemberId,
    },
    /// A delta was refused, or the members were told to a node that is not started.
    Refused {
        /// Whose connection; this node for its own input.
        from: MemberId,
        /// Why.
        reason: Refusal,
    },
    /// A peer told of a value what it cannot know. The rest of its delta was merged.
    ClaimRefused {
        /// Who told it.
        from: MemberId,
        /// Whose value it would be.
        member: MemberId,
        /// Its name.
        key: GossipKey,
        /// Why it was not taken.
        reason: ClaimRefusal,
    },
    /// One of our own values was not written.
    SetRefused {
        /// Its name.
        key: GossipKey,
        /// Why.
        reason: SetRefusal,
    },
}

/// Why a delta was not merged. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// This node has not started, or has stopped. Nobody's fault; a later retry helps.
    #[error("gossip has not started")]
    NotStarted,
    /// The sender is no member here. A retry helps once it is.
    #[error("the sender is not a member")]
    UnknownSender,
    /// The sender calls itself by another's id. Its fault; a retry does not help.
    #[error("the sender calls itself {claimed}")]
    WrongSender {
        /// What it calls itself.
        claimed: MemberId,
    },
}

impl From<Refusal> for NotDeliveredReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotStarted => Self::NotStarted,
            Refusal::UnknownSender | Refusal::WrongSender { .. } => Self::Unauthorized,
        }
    }
}

/// Why one value in a peer's delta was not merged. The fault of whoever said it first, who need not be this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimRefusal {
    /// It is ours, and we did not write it.
    #[error("the value is ours, and not by us")]
    Ours,
    /// Its number is too far above the greatest one that its member has told us, and it does not come from the member
    /// itself.
    #[error("the number {sequence} is more than {max} above the last one", max = Sequence::MAX_JUMP)]
    Jump {
        /// The number.
        sequence: Sequence,
    },
}

/// Why one of our own values was not written. The caller's fault but for the first; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetRefusal {
    /// Gossip has not started, or has stopped; a later retry helps.
    #[error("gossip has not started")]
    NotStarted,
    /// The key has no byte, or too many.
    #[error("a key of {bytes} bytes, 1 to {max} are allowed", max = GossipKey::MAX_BYTES)]
    KeyLength {
        /// How many.
        bytes: usize,
    },
    /// The value is too large.
    #[error("a value of {bytes} bytes, {max} at most", max = GossipValue::MAX_BYTES)]
    ValueTooLarge {
        /// How many.
        bytes: usize,
    },
    /// This member has as many keys as it may have.
    #[error("{max} keys at most", max = Gossip::MAX_KEYS)]
    TooManyKeys,
}
