//! The membership, as far as downing needs it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use gristmill_messages::MemberId;

use super::Input;
use crate::MemberStatus;
use crate::membership::{Membership, Message, PingOutcome, Record, Stage};

/// How a member that owns keys, or did, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nobody doubts it.
    Up,
    /// Suspected, not refuted.
    Suspect,
    /// Declared dead, or forgotten since: perhaps it only cannot be reached.
    Dead,
    /// It has ended, or is about to by its own word: whatever side it was on, it serves nothing.
    Gone,
}

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Who.
    pub id: MemberId,
    /// How it stands.
    pub standing: Standing,
}

/// Every member of the table that was up at some time.
///
/// Gone for sure are those that leave or have left, those that this node declared dead for a
/// [certain](crate::membership::QuarantineReason::is_certain) reason, and the dead whose address belongs to a living
/// member: an address holds one process.
#[must_use]
pub fn observe(membership: &Membership) -> Vec<Observed> {
    let living = membership.records().filter(|record| !record.is_terminal());
    let addresses: BTreeMap<_, _> = living.map(|record| (&record.member().address, record.id())).collect();
    let is_certain = |record: &Record| {
        let superseded = addresses.contains_key(&record.member().address);
        superseded || membership.reason(record.id()).is_some_and(|reason| reason.is_certain())
    };
    let standing = |record: &Record| match (record.stage(), record.status()) {
        (Stage::Joining, _) => None,
        (Stage::Leaving | Stage::Removed, _) => Some(Standing::Gone),
        (Stage::Up, MemberStatus::Suspect) => Some(Standing::Suspect),
        (Stage::Up, MemberStatus::Dead | MemberStatus::Removed) if is_certain(record) => Some(Standing::Gone),
        (Stage::Up, MemberStatus::Dead | MemberStatus::Removed) => Some(Standing::Dead),
        (Stage::Up, _) => Some(Standing::Up),
    };
    membership.records().filter_map(|record| Some(Observed { id: record.id(), standing: standing(record)? })).collect()
}

/// What a message that the membership is about to receive says about who reaches whom, if anything. A report counts
/// only from a member that this node has asked for it and that has not reported yet.
#[must_use]
pub fn hear(membership: &Membership, from: MemberId, message: &Message) -> Option<Input> {
    match message {
        Message::PingAck { .. } => Some(Input::Answered { member: from }),
        Message::PingReport { sequence, target, outcome: PingOutcome::Reached, .. } => {
            membership.awaits_report(from, *sequence, *target).then_some(Input::Vouched { member: *target })
        }
        Message::PingReport { .. }
        | Message::Ping { .. }
        | Message::PingRequest { .. }
        | Message::Gossip { .. }
        | Message::Compare { .. }
        | Message::Sync { .. } => None,
    }
}
