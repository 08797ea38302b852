//! Records and messages as they cross the wire, and what is refused there.
//!
//! | field of `MemberRecord` | what it holds |
//! | --- | --- |
//! | `member_id`, `address`, `kinds`, `weight`, `incarnation` | as the member wrote them |
//! | `status` | what the member wrote: `JOINING`, `UP`, `LEAVING`, `REMOVED` |
//! | `verdict` | what others claim of it: `SUSPECT`, `DEAD`, `REMOVED`; `UNKNOWN` when nobody claims anything |
//! | `asserted_by` | 16 bytes for each author of the claim, at most four |

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use gristmill_messages::membership as wire;
use gristmill_messages::{Incarnation, InvalidId, MemberId};

use super::{Buckets, Config, JoinAnswer, Message, PingOutcome, ProbeSequence, Record, Stage, TableDigest, Verdict};
use crate::topology::Topology;
use crate::{Address, KindName, Member};

/// Limits on what a peer may send; far above what a cluster needs, far below what hurts.
const MAX_RECORDS: usize = Config::MOST_MEMBERS;
const MAX_ADDRESS: usize = 512;
const MAX_KINDS: usize = Topology::MAX_KINDS;
const MAX_KIND: usize = 256;
/// Bytes of an id.
const AUTHOR: usize = 16;

/// What a peer sent is no membership message. The peer's fault; nothing was changed; the same bytes never succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// An id of the wrong length.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A field is longer than allowed.
    #[error("{field} has {length} elements, {limit} are allowed")]
    TooLong {
        /// Which.
        field: &'static str,
        /// As sent.
        length: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A member that is nowhere.
    #[error("{0} is no host:port")]
    Address(Address),
    /// A status that is none, or not one that this author may write.
    #[error("status {status} of a member {}", if *.asserted { "asserted by another" } else { "written by itself" })]
    Status {
        /// As sent.
        status: i32,
        /// Whether it came with an author other than the member.
        asserted: bool,
    },
    /// A claim that nobody makes.
    #[error("a claim about {member} has no author")]
    NoAuthor {
        /// Whom it accuses.
        member: MemberId,
    },
    /// A table cannot be divided like this, or has no such buckets when it is.
    #[error("no table has these of {count} buckets")]
    Buckets {
        /// Into how many.
        count: usize,
    },
    /// A join request that does not say who wants to join.
    #[error("a join request without a joiner")]
    NoJoiner,
    /// An answer to a join that is none.
    #[error("answer {0} to a join")]
    Answer(i32),
    /// A report of a ping that says nothing of it.
    #[error("outcome {0} of a ping")]
    Outcome(i32),
}

impl From<&Record> for wire::JoinRequest {
    fn from(joiner: &Record) -> Self {
        Self { joiner: Some(own_statement(joiner)) }
    }
}

impl TryFrom<wire::JoinRequest> for Record {
    type Error = WireError;

    fn try_from(request: wire::JoinRequest) -> Result<Self, WireError> {
        let joiner = decode(request.joiner.into_iter().collect())?.pop().ok_or(WireError::NoJoiner)?;
        Ok(joiner.own_part())
    }
}

impl From<&JoinAnswer> for wire::JoinResponse {
    fn from(answer: &JoinAnswer) -> Self {
        use wire::join_response::Answer;
        let response = |answer: Answer| Self { answer: answer.into(), ..Self::default() };
        match answer {
            JoinAnswer::Accepted { records } => Self { snapshot: encode(records), ..response(Answer::Accepted) },
            JoinAnswer::NotReady => response(Answer::NotReady),
            JoinAnswer::Undecided => response(Answer::Undecided),
            JoinAnswer::Returning { was, settled } => {
                let settled = settled.iter().copied().map(id_bytes).collect();
                Self { was: id_bytes(*was), settled, ..response(Answer::Returning) }
            }
            JoinAnswer::ShuttingDown => response(Answer::ShuttingDown),
            JoinAnswer::Blocked { reason, retry_after } => Self {
                detail: reason.clone(),
                retry_after_milliseconds: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
                ..response(Answer::Blocked)
            },
        }
    }
}

impl TryFrom<wire::JoinResponse> for JoinAnswer {
    type Error = WireError;

    fn try_from(response: wire::JoinResponse) -> Result<Self, WireError> {
        use wire::join_response::Answer;
        match Answer::try_from(response.answer) {
            Ok(Answer::Accepted) => Ok(Self::Accepted { records: decode(response.snapshot)? }),
            Ok(Answer::NotReady) => Ok(Self::NotReady),
            Ok(Answer::Undecided) => Ok(Self::Undecided),
            Ok(Answer::Returning) => {
                within("settled", response.settled.len(), Self::MAX_SETTLED)?;
                let settled = response.settled.iter().map(|id| MemberId::try_from(id.as_ref()));
                let settled = settled.collect::<Result<_, _>>()?;
                Ok(Self::Returning { was: MemberId::try_from(response.was.as_ref())?, settled })
            }
            Ok(Answer::ShuttingDown) => Ok(Self::ShuttingDown),
            Ok(Answer::Blocked) => Ok(Self::Blocked {
                reason: response.detail,
                retry_after: Duration::from_millis(response.retry_after_milliseconds),
            }),
            Ok(Answer::Unspecified) | Err(_) => Err(WireError::Answer(response.answer)),
        }
    }
}

/// A message of any of its wire types, for the shell to send under that type's name.
#[derive(Debug, Clone, PartialEq)]
pub enum WireMessage {
    /// As named.
    Ping(wire::Ping),
    /// As named.
    PingAck(wire::PingAck),
    /// As named.
    PingRequest(wire::PingRequest),
    /// As named.
    PingReport(wire::PingReport),
    /// As named.
    Gossip(wire::MembershipGossip),
    /// As named.
    Compare(wire::MembershipCompare),
    /// As named.
    Sync(wire::MembershipSync),
}

impl From<&Message> for WireMessage {
    fn from(message: &Message) -> Self {
        match message {
            Message::Ping { sequence, updates, digest } => Self::Ping(wire::Ping {
                sequence: sequence.get(),
                updates: encode(updates),
                table_digest: digest.get(),
            }),
            Message::PingAck { sequence, updates, digest } => Self::PingAck(wire::PingAck {
                sequence: sequence.get(),
                updates: encode(updates),
                table_digest: digest.get(),
            }),
            Message::PingRequest { sequence, target, refused, updates, digest } => {
                Self::PingRequest(wire::PingRequest {
                    sequence: sequence.get(),
                    target: id_bytes(*target),
                    refused: *refused,
                    updates: encode(updates),
                    table_digest: digest.get(),
                })
            }
            Message::PingReport { sequence, target, outcome, updates, digest } => Self::PingReport(wire::PingReport {
                sequence: sequence.get(),
                target: id_bytes(*target),
                outcome: wire::ping_report::Outcome::from(*outcome).into(),
                updates: encode(updates),
                table_digest: digest.get(),
            }),
            Message::Gossip { updates, digest } => {
                Self::Gossip(wire::MembershipGossip { updates: encode(updates), table_digest: digest.get() })
            }
            Message::Compare { updates, buckets } => Self::Compare(wire::MembershipCompare {
                updates: encode(updates),
                buckets: buckets.iter().map(|digest| digest.get()).collect(),
            }),
            Message::Sync { records, complete } => Self::Sync(wire::MembershipSync {
                records: encode(records),
                bucket_count: narrow(complete.count()),
                buckets: complete.numbers().iter().map(|number| narrow(*number)).collect(),
            }),
        }
    }
}

impl TryFrom<wire::Ping> for Message {
    type Error = WireError;

    fn try_from(ping: wire::Ping) -> Result<Self, WireError> {
        Ok(Self::Ping {
            sequence: ProbeSequence::new(ping.sequence),
            updates: decode(ping.updates)?,
            digest: TableDigest::new(ping.table_digest),
        })
    }
}

impl TryFrom<wire::PingAck> for Message {
    type Error = WireError;

    fn try_from(ack: wire::PingAck) -> Result<Self, WireError> {
        Ok(Self::PingAck {
            sequence: ProbeSequence::new(ack.sequence),
            updates: decode(ack.updates)?,
            digest: TableDigest::new(ack.table_digest),
        })
    }
}

impl From<PingOutcome> for wire::ping_report::Outcome {
    fn from(outcome: PingOutcome) -> Self {
        match outcome {
            PingOutcome::Reached => Self::Reached,
            PingOutcome::Silent => Self::Silent,
            PingOutcome::Refused => Self::Refused,
        }
    }
}

impl TryFrom<wire::PingRequest> for Message {
    type Error = WireError;

    fn try_from(request: wire::PingRequest) -> Result<Self, WireError> {
        Ok(Self::PingRequest {
            sequence: ProbeSequence::new(request.sequence),
            target: MemberId::try_from(request.target.as_ref())?,
            refused: request.refused,
            updates: decode(request.updates)?,
            digest: TableDigest::new(request.table_digest),
        })
    }
}

impl TryFrom<wire::PingReport> for Message {
    type Error = WireError;

    fn try_from(report: wire::PingReport) -> Result<Self, WireError> {
        use wire::ping_report::Outcome;
        let outcome = match Outcome::try_from(report.outcome) {
            Ok(Outcome::Reached) => PingOutcome::Reached,
            Ok(Outcome::Silent) => PingOutcome::Silent,
            Ok(Outcome::Refused) => PingOutcome::Refused,
            Ok(Outcome::Unspecified) | Err(_) => return Err(WireError::Outcome(report.outcome)),
        };
        Ok(Self::PingReport {
            sequence: ProbeSequence::new(report.sequence),
            target: MemberId::try_from(report.target.as_ref())?,
            outcome,
            updates: decode(report.updates)?,
            digest: TableDigest::new(report.table_digest),
        })
    }
}

impl TryFrom<wire::MembershipGossip> for Message {
    type Error = WireError;

    fn try_from(gossip: wire::MembershipGossip) -> Result<Self, WireError> {
        Ok(Self::Gossip { updates: decode(gossip.updates)?, digest: TableDigest::new(gossip.table_digest) })
    }
}

impl TryFrom<wire::MembershipSync> for Message {
    type Error = WireError;

    fn try_from(sync: wire::MembershipSync) -> Result<Self, WireError> {
        within("buckets", sync.buckets.len(), Buckets::MOST)?;
        let complete = if sync.bucket_count == 0 && sync.buckets.is_empty() {
            Buckets::default()
        } else {
            let numbers = sync.buckets.iter().map(|number| *number as usize).collect();
            let buckets = Buckets::new(sync.bucket_count as usize, numbers);
            buckets.ok_or(WireError::Buckets { count: sync.bucket_count as usize })?
        };
        Ok(Self::Sync { records: decode(sync.records)?, complete })
    }
}

impl TryFrom<wire::MembershipCompare> for Message {
    type Error = WireError;

    fn try_from(compare: wire::MembershipCompare) -> Result<Self, WireError> {
        let count = compare.buckets.len();
        if !Buckets::divides(count) {
            return Err(WireError::Buckets { count });
        }
        let buckets = compare.buckets.into_iter().map(TableDigest::new).collect();
        Ok(Self::Compare { updates: decode(compare.updates)?, buckets })
    }
}

fn encode(records: &[Arc<Record>]) -> Vec<wire::MemberRecord> {
    records.iter().map(|record| statement(record)).collect()
}

fn own_statement(record: &Record) -> wire::MemberRecord {
    let member = record.member();
    let status = match record.stage() {
        Stage::Joining => wire::MemberStatus::Joining,
        Stage::Up => wire::MemberStatus::Up,
        Stage::Leaving => wire::MemberStatus::Leaving,
        Stage::Removed => wire::MemberStatus::Removed,
    };
    wire::MemberRecord {
        member_id: id_bytes(member.id),
        address: member.address.as_str().into(),
        kinds: member.kinds.iter().map(|kind| kind.as_str().into()).collect(),
        weight: member.weight.get(),
        incarnation: record.incarnation().get(),
        status: status.into(),
        ..wire::MemberRecord::default()
    }
}

/// What the member wrote, and what others claim of it.
fn statement(record: &Record) -> wire::MemberRecord {
    let verdict = record.claim().map_or(wire::MemberStatus::Unknown, |claim| match claim.verdict {
        Verdict::Suspect => wire::MemberStatus::Suspect,
        Verdict::Dead => wire::MemberStatus::Dead,
        Verdict::Removed => wire::MemberStatus::Removed,
    });
    wire::MemberRecord {
        verdict: verdict.into(),
        asserted_by: record.authors().iter().flat_map(|author| author.to_bytes()).collect(),
        ..own_statement(record)
    }
}

/// Of buckets there are few.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn id_bytes(id: MemberId) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(&id.to_bytes())
}

fn decode(statements: Vec<wire::MemberRecord>) -> Result<Vec<Arc<Record>>, WireError> {
    within("records", statements.len(), MAX_RECORDS)?;
    statements.into_iter().map(|statement| record(statement).map(Arc::new)).collect()
}

fn record(mut statement: wire::MemberRecord) -> Result<Record, WireError> {
    let authors = core::mem::take(&mut statement.asserted_by);
    let claimed = statement.verdict;
    let mut record = own_record(statement)?;
    if authors.is_empty() && claimed == i32::from(wire::MemberStatus::Unknown) {
        return Ok(record);
    }
    let verdict = verdict(claimed)?;
    if authors.is_empty() {
        return Err(WireError::NoAuthor { member: record.id() });
    }
    within("asserted_by", authors.len(), Record::MOST_ACCUSERS * AUTHOR)?;
    for author in authors.chunks(AUTHOR) {
        record = record.claimed(verdict, MemberId::try_from(author)?);
    }
    Ok(record)
}

fn own_record(statement: wire::MemberRecord) -> Result<Record, WireError> {
    let stage = match wire::MemberStatus::try_from(statement.status) {
        Ok(wire::MemberStatus::Joining) => Stage::Joining,
        Ok(wire::MemberStatus::Up) => Stage::Up,
        Ok(wire::MemberStatus::Leaving) => Stage::Leaving,
        Ok(wire::MemberStatus::Removed) => Stage::Removed,
        _ => return Err(WireError::Status { status: statement.status, asserted: false }),
    };
    within("address", statement.address.len(), MAX_ADDRESS)?;
    let address = Address::from(statement.address);
    if !address.is_host_and_port() {
        return Err(WireError::Address(address));
    }
    within("kinds", statement.kinds.len(), MAX_KINDS)?;
    statement.kinds.iter().try_for_each(|kind| within("kind", kind.len(), MAX_KIND))?;
    let member = Member {
        id: MemberId::try_from(statement.member_id.as_ref())?,
        address,
        kinds: Arc::new(statement.kinds.into_iter().map(|kind: String| KindName::from(kind)).collect()),
        weight: NonZeroU32::new(statement.weight).unwrap_or(NonZeroU32::MIN),
    };
    Ok(Record::new(member, Incarnation::new(statement.incarnation), stage))
}

fn verdict(status: i32) -> Result<Verdict, WireError> {
    match wire::MemberStatus::try_from(status) {
        Ok(wire::MemberStatus::Suspect) => Ok(Verdict::Suspect),
        Ok(wire::MemberStatus::Dead) => Ok(Verdict::Dead),
        Ok(wire::MemberStatus::Removed) => Ok(Verdict::Removed),
        _ => Err(WireError::Status { status, asserted: true }),
    }
}

const fn within(field: &'static str, length: usize, limit: usize) -> Result<(), WireError> {
    if length > limit { Err(WireError::TooLong { field, length, limit }) } else { Ok(()) }
}
