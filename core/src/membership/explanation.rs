//! Why a member was suspected: the record of it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use gristmill_messages::{Incarnation, MemberId};

use super::QuarantineReason;
use crate::Timestamp;

/// What an accusation rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// A probe of the accuser, and those of others that it asked, stayed without answer.
    ProbeUnanswered,
    /// The member's host refused the accuser's connection.
    ConnectionRefused,
    /// The accuser is another node, which knows why.
    Reported,
}

/// One member's word against another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Accusation {
    /// Who accuses.
    pub by: MemberId,
    /// When this node learned of it, on its own clock.
    pub at: Timestamp,
    /// What it rests on.
    pub evidence: Evidence,
}

/// How a suspicion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SuspicionOutcome {
    /// The member has proven that it lives.
    Refuted {
        /// The incarnation that refutes.
        incarnation: Incarnation,
        /// When this node learned of it.
        at: Timestamp,
    },
    /// The member is dead.
    Dead {
        /// Who declared it.
        by: Option<MemberId>,
        /// Why.
        reason: QuarantineReason,
        /// When this node learned of it.
        at: Timestamp,
    },
    /// The member has left, or is no longer remembered as dead.
    Removed {
        /// When this node learned of it.
        at: Timestamp,
    },
}

/// The latest suspicion of a member, as this node saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Oldest first; at most [`Explanation::MOST_ACCUSATIONS`].
    pub accusations: Vec<Accusation>,
    /// `None` while it lasts.
    pub outcome: Option<SuspicionOutcome>,
    /// How many suspicions of this member were refuted before this one.
    pub refuted_before: u32,
}

impl Explanation {
    /// Accusations that are kept of one suspicion.
    pub const MOST_ACCUSATIONS: usize = 8;
    /// Members of whom one is kept; the one that began first is dropped.
    pub const MOST_MEMBERS: usize = 256;
}

/// In the order in which they began. So few that looking through them costs little, and that thousands of nodes in one
/// process can all remember a storm.
#[derive(Debug, Default)]
pub(super) struct Chronicle(VecDeque<(MemberId, Explanation)>);

impl Chronicle {
    pub(super) fn get(&self, member: MemberId) -> Option<&Explanation> {
        self.0.iter().find(|(id, _)| *id == member).map(|(_, explanation)| explanation)
    }

    fn get_mut(&mut self, member: MemberId) -> Option<&mut Explanation> {
        self.0.iter_mut().find(|(id, _)| *id == member).map(|(_, explanation)| explanation)
    }

    /// A suspicion has begun.
    pub(super) fn begin(&mut self, member: MemberId) {
        let place = self.0.iter().position(|(id, _)| *id == member);
        let before = place.and_then(|place| self.0.remove(place)).map(|(_, before)| before);
        let refuted = |explanation: &Explanation| matches!(explanation.outcome, Some(SuspicionOutcome::Refuted { .. }));
        let refuted_before =
            before.map_or(0, |before| before.refuted_before.saturating_add(u32::from(refuted(&before))));
        let explanation = Explanation { accusations: Vec::new(), outcome: None, refuted_before };
        if self.0.len() >= Explanation::MOST_MEMBERS {
            self.0.pop_front();
        }
        self.0.push_back((member, explanation));
    }

    /// Somebody accuses a member that is suspected.
    pub(super) fn accused(&mut self, member: MemberId, accusation: Accusation) {
        if let Some(explanation) = self.get_mut(member) {
            let known = explanation.accusations.iter().any(|other| other.by == accusation.by);
            if !known && explanation.accusations.len() < Explanation::MOST_ACCUSATIONS {
                explanation.accusations.reserve_exact(1);
                explanation.accusations.push(accusation);
            }
        }
    }

    pub(super) fn ended(&mut self, member: MemberId, outcome: SuspicionOutcome) {
        if let Some(explanation) = self.get_mut(member) {
            explanation.outcome = Some(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accusation(by: u128) -> Accusation {
        Accusation { by: MemberId::new(by), at: Timestamp::ZERO, evidence: Evidence::Reported }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_members_and_accusations() {
        let mut chronicle = Chronicle::default();
        for member in 0..300 {
            chronicle.begin(MemberId::new(member));
        }
        assert_eq!(chronicle.0.len(), Explanation::MOST_MEMBERS);
        assert_eq!(chronicle.get(MemberId::new(43)), None);
        let member = MemberId::new(44);
        for by in (0..20).chain(0..20) {
            chronicle.accused(member, accusation(by));
        }
        let accusations = chronicle.get(member).map(|explanation| explanation.accusations.clone());
        assert_eq!(accusations, Some((0..8).map(accusation).collect()));
    }

    #[test]
    fn refuted_suspicions_are_counted() {
        let (mut chronicle, member) = (Chronicle::default(), MemberId::new(1));
        for refuted_before in 0..3 {
            chronicle.begin(member);
            assert_eq!(chronicle.get(member).map(|explanation| explanation.refuted_before), Some(refuted_before));
            let incarnation = Incarnation::default();
            chronicle.ended(member, SuspicionOutcome::Refuted { incarnation, at: Timestamp::ZERO });
        }
    }
}
