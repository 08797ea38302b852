//! What happens in the membership, as others are told of it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use gristmill_messages::{Incarnation, MemberId};

use super::Evidence;
use crate::{Address, Member, MemberStatus, Timestamp};

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node is up: it has joined or formed a cluster.
    Joined,
    /// The start has failed; the machine has stopped.
    JoinFailed(JoinError),
    /// A member, this one included, has another status in this node's view.
    StatusChanged {
        /// Who.
        member: Member,
        /// `None`: not known before.
        from: Option<MemberStatus>,
        /// What it is now.
        to: MemberStatus,
        /// When this node learned of it, on its own clock.
        observed_at: Timestamp,
    },
    /// A dead member's id is refused from now on.
    Quarantined {
        /// Who.
        member: Member,
        /// Why.
        reason: QuarantineReason,
        /// Since when.
        observed_at: Timestamp,
        /// Until when it is listed.
        until: Timestamp,
    },
    /// Two members, perhaps itself among them, have said that a member lives, in a later version than the one that this
    /// node held for dead: its verdict stood alone, and the member is one again.
    VerdictWithdrawn {
        /// Who.
        member: MemberId,
        /// The version that shows that it lives.
        incarnation: Incarnation,
        /// When.
        observed_at: Timestamp,
    },
    /// The quarantine is over; unless the verdict was withdrawn, the id is still remembered as removed for a while.
    QuarantineEnded {
        /// Who.
        member: Member,
        /// When.
        observed_at: Timestamp,
    },
    /// A member has become suspect: why. More is known of it by and by:
    /// [`Membership::explain`](super::Membership::explain).
    Suspected {
        /// Who.
        member: MemberId,
        /// Who accuses.
        by: MemberId,
        /// What the accusation rests on.
        evidence: Evidence,
        /// When this node learned of it.
        observed_at: Timestamp,
    },
    /// So many members have become suspect at once that no suspicion becomes death by this node until it calms.
    EvictionsHalted {
        /// Who are suspected now.
        suspects: usize,
        /// When.
        observed_at: Timestamp,
    },
    /// It has calmed: who does not refute is dead again.
    EvictionsResumed {
        /// Who are suspected still.
        suspects: usize,
        /// When.
        observed_at: Timestamp,
    },
    /// This node hears nothing from anybody. It takes itself for cut off and declares nobody dead. What follows is for
    /// others to decide.
    Isolated {
        /// When.
        observed_at: Timestamp,
    },
    /// This node hears somebody again.
    IsolationEnded {
        /// When.
        observed_at: Timestamp,
    },
    /// A suspected member, perhaps this one, has proven that it lives.
    SuspicionRefuted {
        /// Who.
        member: MemberId,
        /// The incarnation that refutes.
        incarnation: Incarnation,
        /// When this node learned of it.
        observed_at: Timestamp,
    },
    /// A step that is not legal was asked for, and not made.
    TransitionRefused {
        /// Whose.
        member: MemberId,
        /// What it is and stays; `None`: not known.
        from: Option<MemberStatus>,
        /// What it was to become.
        to: MemberStatus,
        /// Why not.
        reason: Refusal,
    },
    /// A message came from one who is no member and did not introduce itself; nothing of it was believed.
    SenderUnknown {
        /// Who sent it.
        member: MemberId,
    },
    /// This node has learned, from two members or the only one that could say it, that they hold it for dead; the
    /// machine has stopped. Only a new start under a new id leads back.
    Evicted {
        /// Who declared it, as far as known.
        by: Option<MemberId>,
    },
    /// The leave of this node has been spread; the machine has stopped.
    Left,
    /// An input came before the start or after the end; it changed nothing.
    NotStarted {
        /// The name of the input.
        input: &'static str,
    },
    /// A second start; it changed nothing.
    AlreadyStarted,
}

/// Why a member is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuarantineReason {
    /// It did not refute a suspicion in time.
    SuspicionExpired,
    /// Its host refuses connections, as this node and another one have seen: its process is gone.
    ConnectionRefused,
    /// Another process runs at its address.
    Superseded {
        /// Who.
        by: MemberId,
    },
    /// This node was told to declare it dead.
    Decided,
    /// Another member declared it dead.
    Declared {
        /// Who.
        by: MemberId,
    },
}

impl QuarantineReason {
    /// Whether the member has surely ended, instead of perhaps being unreachable only.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        match self {
            Self::ConnectionRefused | Self::Superseded { .. } | Self::Decided => true,
            Self::SuspicionExpired | Self::Declared { .. } => false,
        }
    }
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuspicionExpired => f.write_str("it did not answer probes"),
            Self::ConnectionRefused => f.write_str("its host refuses connections"),
            Self::Superseded { by } => write!(f, "{by} runs at its address"),
            Self::Decided => f.write_str("it was decided"),
            Self::Declared { by } => write!(f, "{by} declared it dead"),
        }
    }
}

/// A dead member whose id is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Who.
    pub member: Member,
    /// Why.
    pub reason: QuarantineReason,
    /// Until when, on this node's clock.
    pub until: Timestamp,
}

/// Why a transition was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Dead and removed are final for an id, unless a second member denies the verdict.
    Final,
    /// A member never goes back to an earlier stage.
    Backward,
    /// As many members are known as the configuration allows.
    TableFull,
    /// No such member is known.
    UnknownMember,
    /// Another said it in the name of the member, which denies it or cannot have said it.
    Forged,
    /// An incarnation so far ahead is no step of a member.
    Implausible,
    /// A node does not declare itself dead; it leaves.
    Oneself,
}

/// Why a start failed. Nothing of it remains in this machine, but members that accepted the join may know the id: a
/// new attempt takes a new id and a new machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No seed accepted within the join timeout. The environment's fault; a retry may help.
    #[error("no seed accepted the join: {}", Failures(.failures))]
    NoSeedAnswered {
        /// The last answer of each seed, in the order of the seeds.
        failures: Vec<(Address, SeedFailure)>,
    },
    /// A seed accepted, but no member's ping has arrived within the join timeout, or before the members gave this node
    /// up: its advertised address is wrong or cannot be reached. The configuration's or the environment's fault; a
    /// retry alone seldom helps.
    #[error("the join was accepted, but no member reaches this node at its advertised address")]
    NotReached,
    /// A seed refused the connection for good: wrong cluster, secret or version. The configuration's fault; a retry
    /// does not help.
    #[error("{address} refused: {reason}")]
    Refused {
        /// Who.
        address: Address,
        /// In its words.
        reason: String,
    },
    /// The cluster refuses this id or address. A retry with a new id helps, and so does `retry_after`.
    #[error("{address} blocks this node: {reason}; retry after {retry_after:?}")]
    Blocked {
        /// Who.
        address: Address,
        /// In its words.
        reason: String,
        /// How long the refusal lasts.
        retry_after: Duration,
    },
}

/// Why one seed did not let this node in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedFailure {
    /// It has not answered yet.
    #[error("no answer")]
    Silent,
    /// It could not be reached.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It has not joined itself.
    #[error("not ready")]
    NotReady,
    /// It is in a cluster, which admits nobody until a partition is decided.
    #[error("deciding about a partition")]
    Undecided,
    /// It refuses this node, which asked others as well.
    #[error("refuses: {0}")]
    Refused(String),
    /// It is about to leave.
    #[error("shutting down")]
    ShuttingDown,
}

struct Failures<'a>(&'a [(Address, SeedFailure)]);

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is none");
        }
        for (index, (address, failure)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{address} ({failure})")?;
        }
        Ok(())
    }
}
