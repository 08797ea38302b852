//! What goes in and out of the machine.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::agenda::TimerEpoch;
use super::comparison::Buckets;
use super::failure_detector::ProbeSequence;
use super::record::Record;
use super::table::TableDigest;
use crate::{Address, RequestId};

/// What the machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin. The first input of a machine, and accepted once.
    Start {
        /// As the provider lists them, in the same order on every node; may be empty, may contain this node.
        seeds: Vec<Address>,
    },
    /// Begin after an eviction, instead of `Start`: join again, and form a cluster only with others who say that they
    /// were cut off from the same members.
    Return {
        /// Where others may be found; this node's own address means nothing.
        through: Vec<Address>,
        /// Under which id this node was cut off.
        was: MemberId,
        /// The members that counted then: [`DowningDecision::counted`](crate::downing::DowningDecision::counted). None
        /// when it was declared dead by others, who go on.
        settled: Vec<MemberId>,
        /// How many of them, this node among them, must be without a cluster so that nobody goes on. See
        /// [`enough_to_form`](crate::downing::Config::enough_to_form).
        enough: usize,
    },
    /// The provider has found more addresses. Those of which nothing is known are contacted, so that two clusters and
    /// the halves of a healed partition become one.
    Discovered {
        /// In any order, known ones included.
        addresses: Vec<Address>,
    },
    /// The answer to [`Effect::Join`].
    JoinAnswered {
        /// Who was asked.
        address: Address,
        /// What it said.
        answer: JoinAnswer,
    },
    /// [`Effect::Join`] could not be delivered, or its answer did not come.
    JoinFailed {
        /// Who was asked.
        address: Address,
        /// Why.
        failure: ContactFailure,
    },
    /// Another node sent [`Effect::Join`] here.
    JoinRequested {
        /// Where the answer goes.
        request: RequestId,
        /// What the other wrote of itself.
        joiner: Record,
    },
    /// A message from the peer whose handshake proved that it is `from`.
    Received {
        /// Who sent it.
        from: MemberId,
        /// What it said.
        message: Message,
    },
    /// A send to this member failed: evidence that it should be probed, no more.
    Unreachable {
        /// Whom.
        member: MemberId,
    },
    /// The connection to this member was reset and its host refused the next one: its process is gone, the host is not.
    /// Also: a send failed because its host refused the connection. Say it at once, and again after each further try.
    Refused {
        /// Whom.
        member: MemberId,
    },
    /// This node was kept from running for so long, by what the shell has measured: its word about others counts less
    /// for a while.
    Lag {
        /// Beyond what was asked for.
        by: Duration,
    },
    /// A handshake with the address of a member met another process of this cluster, which has proven the secret and
    /// says that it listens there. Never to be said because of less: it kills.
    Superseded {
        /// Who was expected.
        old: MemberId,
        /// Who is there.
        by: MemberId,
    },
    /// A member has refused the handshake of this node because it holds it for dead. Its word as in a message of its
    /// own: it is one voice.
    Blocked {
        /// Who refused, and has proven that it is the one.
        by: MemberId,
    },
    /// Declare this member dead, as decided outside: by [`downing`](crate::downing) on the winning side. To others it
    /// is the word of one member: who answers them is dead for all only when a second one is told the same within ten
    /// probe intervals.
    Down {
        /// Whom.
        member: MemberId,
    },
    /// Send a ping to each of these living members, now; nobody is judged by the answers. Asked by
    /// [`downing`](crate::downing).
    Poll {
        /// Whom.
        members: Vec<MemberId>,
    },
    /// These do not answer polls: ask others at once whether they reach them, and suspect whom nobody does. Asked by
    /// [`downing`](crate::downing).
    Check {
        /// Whom.
        members: Vec<MemberId>,
    },
    /// While true this node turns no suspicion into a death and admits nobody: it may be on the losing side of a
    /// partition. Asked by [`downing`](crate::downing).
    Restrain(bool),
    /// The timer of [`Effect::SetTimer`] has fired.
    Timer(TimerEpoch),
    /// Begin to leave: announced at once, so that no keys are owned any more. Ends with `Drained` or the drain timeout.
    Leave,
    /// What this node served has moved: tell all that it is gone.
    Drained,
}

impl Input {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "Start",
            Self::Return { .. } => "Return",
            Self::Discovered { .. } => "Discovered",
            Self::JoinAnswered { .. } => "JoinAnswered",
            Self::JoinFailed { .. } => "JoinFailed",
            Self::JoinRequested { .. } => "JoinRequested",
            Self::Received { .. } => "Received",
            Self::Unreachable { .. } => "Unreachable",
            Self::Refused { .. } => "Refused",
            Self::Lag { .. } => "Lag",
            Self::Superseded { .. } => "Superseded",
            Self::Blocked { .. } => "Blocked",
            Self::Down { .. } => "Down",
            Self::Poll { .. } => "Poll",
            Self::Check { .. } => "Check",
            Self::Restrain(_) => "Restrain",
            Self::Timer(_) => "Timer",
            Self::Leave => "Leave",
            Self::Drained => "Drained",
        }
    }
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask whoever is at this address to let this node in. Answered by `JoinAnswered` or `JoinFailed`; a later one to
    /// the same address stands for all earlier ones.
    Join {
        /// Where.
        address: Address,
        /// This node's own record.
        joiner: Record,
    },
    /// Answer `JoinRequested`.
    AnswerJoin {
        /// Which.
        request: RequestId,
        /// How.
        answer: JoinAnswer,
    },
    /// Send, without waiting. If it fails say `Refused` when the host refused the connection, else `Unreachable`.
    Send {
        /// To whom: the connection must prove this id.
        to: MemberId,
        /// Where it listens.
        address: Address,
        /// What.
        message: Message,
    },
    /// Say `Timer` with this epoch after this time. Replaces the timer set before; one that fires nevertheless is
    /// ignored.
    SetTimer {
        /// What to say.
        epoch: TimerEpoch,
        /// When, from now.
        after: Duration,
    },
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    /// Known as joining from now on.
    Accepted {
        /// The whole table of the one who accepts, without what is removed.
        records: Vec<Arc<Record>>,
    },
    /// The asked node is not up itself.
    NotReady,
    /// The asked node is up, but admits nobody until it has decided about a partition.
    Undecided,
    /// The asked node was cut off, and looks for a cluster itself.
    Returning {
        /// Under which id it was cut off.
        was: MemberId,
        /// The members that counted then, itself only if it had settled; at most [`JoinAnswer::MAX_SETTLED`].
        settled: Vec<MemberId>,
    },
    /// Refused for this id.
    Blocked {
        /// Why, for people.
        reason: String,
        /// How long the refusal lasts; zero: as long as its cause.
        retry_after: Duration,
    },
    /// The asked node is leaving or has left.
    ShuttingDown,
}

impl JoinAnswer {
    /// The most settled members of one that was cut off, that are taken from the wire.
    pub const MAX_SETTLED: usize = 100_000;
}

/// Why a join got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContactFailure {
    /// Nobody there, connection lost, or no answer in time: asked again later.
    Unreachable(String),
    /// The handshake was refused for good: wrong cluster, secret or version.
    Refused(String),
}

/// What became of a ping that one member sent for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PingOutcome {
    /// It was answered.
    Reached,
    /// It was not answered in time. Says that the one who reports is well.
    Silent,
    /// The host refused the connection.
    Refused,
}

/// What members say to each other. Each carries the digest of the sender's table, or parts of
/// both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks for a `PingAck`; introduces the sender by its own record, unless all seem to know it.
    Ping {
        /// To be repeated in the answer.
        sequence: ProbeSequence,
        /// News.
        updates: Vec<Arc<Record>>,
        /// Of the sender's table.
        digest: TableDigest,
    },
    /// The answer.
    PingAck {
        /// Of the ping.
        sequence: ProbeSequence,
        /// News.
        updates: Vec<Arc<Record>>,
        /// Of the sender's table.
        digest: TableDigest,
    },
    /// Asks for a ping of a third member on behalf of the sender, and for a `PingReport`.
    PingRequest {
        /// To be repeated in the report.
        sequence: ProbeSequence,
        /// Whom to ping.
        target: MemberId,
        /// Whether the sender's own connection to it was refused.
        refused: bool,
        /// News.
        updates: Vec<Arc<Record>>,
        /// Of the sender's table.
        digest: TableDigest,
    },
    /// The answer to a `PingRequest`.
    PingReport {
        /// Of the request.
        sequence: ProbeSequence,
        /// Who was pinged.
        target: MemberId,
        /// What became of it.
        outcome: PingOutcome,
        /// News.
        updates: Vec<Arc<Record>>,
        /// Of the sender's table.
        digest: TableDigest,
    },
    /// News.
    Gossip {
        /// News.
        updates: Vec<Arc<Record>>,
        /// Of the sender's table.
        digest: TableDigest,
    },
    /// Anti-entropy: asks for the records of those parts of the table that differ.
    Compare {
        /// News.
        updates: Vec<Arc<Record>>,
        /// Of each bucket of the sender's table, as many as [`Buckets::divides`] allows.
        buckets: Vec<TableDigest>,
    },
    /// Records of a table: the answer to a comparison, and the answer to that.
    Sync {
        /// Of the sender.
        records: Vec<Arc<Record>>,
        /// Of these buckets they are all: the receiver sends what the sender lacks in them.
        complete: Buckets,
    },
}

impl Message {
    /// Whether it is a ping of [`Input::Poll`], or the answer to one.
    pub(super) const fn is_poll(&self) -> bool {
        match self {
            Self::Ping { sequence, .. } | Self::PingAck { sequence, .. } => sequence.get() == ProbeSequence::POLL.get(),
            Self::PingRequest { .. }
            | Self::PingReport { .. }
            | Self::Gossip { .. }
            | Self::Compare { .. }
            | Self::Sync { .. } => false,
        }
    }

    /// The records in it, and the digest unless it is the table itself.
    pub(crate) fn contents(&self) -> (&[Arc<Record>], Option<TableDigest>) {
        match self {
            Self::Ping { updates, digest, .. }
            | Self::PingAck { updates, digest, .. }
            | Self::PingRequest { updates, digest, .. }
            | Self::PingReport { updates, digest, .. }
            | Self::Gossip { updates, digest } => (updates, Some(*digest)),
            Self::Compare { updates: records, .. } | Self::Sync { records, .. } => (records, None),
        }
    }
}
