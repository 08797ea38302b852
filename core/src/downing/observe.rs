//! The membership, as far as downing needs it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use gristmill_messages::MemberId;

use super::Input;
use crate::MemberStatus;
use crate::membership::{Membership, Message, PingOutcome, QuarantineReason, Record, Stage};

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
    /// It has ended, and this one runs in its place, or has: it is on the side of that one.
    Replaced {
        /// Who.
        by: MemberId,
    },
}

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Who.
    pub id: MemberId,
    /// How it stands.
    pub standing: Standing,
}

/// Every member of the table that was up at some time, and whoever runs, or has run, in the place of one.
///
/// Gone for sure are those that leave or have left, those that this node declared dead for a
/// [certain](crate::membership::QuarantineReason::is_certain) reason, and those at whose address there has been a newer
/// process: an address holds one. That one stands in for them as long as it has not ended too.
#[must_use]
pub fn observe(membership: &Membership) -> Vec<Observed> {
    // A living one is newer than any that has ended, and one that has ended newer than those that were replaced, as
    // this node knows. Of others ids tell, which begin with the time of their host.
    let was_replaced =
        |record: &Record| matches!(membership.reason(record.id()), Some(QuarantineReason::Superseded { .. }));
    let age = |record: &Record| (!record.is_terminal(), !was_replaced(record), record.id());
    let mut newest: BTreeMap<_, &Record> = BTreeMap::new();
    for record in membership.records() {
        let known = newest.entry(&record.member().address).or_insert(record);
        if age(known) < age(record) {
            *known = record;
        }
    }
    let is_certain = |record: &Record| membership.reason(record.id()).is_some_and(|reason| reason.is_certain());
    // Of a member that nobody has replaced.
    let standing = |record: &Record| match (record.stage(), record.status()) {
        (Stage::Leaving | Stage::Removed, _) => Standing::Gone,
        (_, MemberStatus::Suspect) => Standing::Suspect,
        (_, MemberStatus::Dead | MemberStatus::Removed) if is_certain(record) => Standing::Gone,
        (_, MemberStatus::Dead | MemberStatus::Removed) => Standing::Dead,
        (_, _) => Standing::Up,
    };
    let mut observed = Vec::new();
    for record in membership.records() {
        let ended = record.is_terminal() && record.stage() <= Stage::Up;
        let newest = newest.get(&record.member().address).filter(|newest| ended && newest.id() != record.id());
        let standing = match newest {
            // In nobody's place, or listed with the one in whose place it is.
            None if record.stage() == Stage::Joining => continue,
            Some(newest) => {
                if newest.stage() == Stage::Joining {
                    observed.push(Observed { id: newest.id(), standing: standing(newest) });
                }
                Standing::Replaced { by: newest.id() }
            }
            None => standing(record),
        };
        observed.push(Observed { id: record.id(), standing });
    }
    observed
}

/// What a message that the membership is about to receive says about who reaches whom, if anything. A report counts
/// only from a member that this node has asked for it and that has not reported yet.
#[must_use]
pub fn hear(membership: &Membership, from: MemberId, message: &Message) -> Option<Input> {
    let me = membership.me().id();
    let accuses = || message.contents().0.iter().any(|record| record.id() == me && record.claim().is_some());
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
        | Message::Sync { .. } => accuses().then_some(Input::Accused),
    }
}
