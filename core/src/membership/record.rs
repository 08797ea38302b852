//! What is known of one member, and the law by which two such pieces of knowledge become one.

use core::cmp::Ordering;

use gristmill_messages::{Incarnation, MemberId};

use crate::{Member, MemberStatus};

/// How far a member is, by its own word. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Accepted, not yet proven to be reachable.
    Joining,
    /// Takes part and owns keys.
    Up,
    /// Draining: owns no keys.
    Leaving,
    /// Has left.
    Removed,
}

impl From<Stage> for MemberStatus {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Joining => Self::Joining,
            Stage::Up => Self::Up,
            Stage::Leaving => Self::Leaving,
            Stage::Removed => Self::Removed,
        }
    }
}

/// What another member may say of a member. A greater one wins over a lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Does not answer. Holds against one incarnation: a higher one refutes it.
    Suspect,
    /// Is dead, whatever its incarnation. Nothing refutes it.
    Dead,
    /// Was dead, and its quarantine is over.
    Removed,
}

/// A verdict and its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// What is said.
    pub verdict: Verdict,
    /// Who said it; of several authors of the same verdict the greatest id is kept, so that all nodes keep the same.
    pub by: MemberId,
}

/// One member as known: what it wrote of itself, and at most one claim of another about it.
///
/// | part | written by | a newer one is known by |
/// | --- | --- | --- |
/// | member, incarnation, stage | the member | stage, then incarnation |
/// | claim | any member | verdict, then author |
///
/// The status follows from both: a suspected record still knows whether its member was up, joining or leaving.
///
/// Invariant: `Suspect` is claimed against the incarnation in the same record, and never of a member that has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    member: Member,
    incarnation: Incarnation,
    stage: Stage,
    claim: Option<Claim>,
}

impl Record {
    /// What `member` says of itself.
    #[must_use]
    pub const fn new(member: Member, incarnation: Incarnation, stage: Stage) -> Self {
        Self { member, incarnation, stage, claim: None }
    }

    /// This record with the claim added, by the law of [`Record::merge`].
    #[must_use]
    pub fn claimed(&self, verdict: Verdict, by: MemberId) -> Self {
        let mut claimed = self.clone();
        claimed.claim = claimed.claim.max(Some(Claim { verdict, by }));
        claimed.drop_void_claim();
        claimed
    }

    /// The next record that the member writes of itself: one incarnation later, free of any suspicion.
    #[must_use]
    pub fn rewritten(&self, stage: Stage) -> Self {
        Self::new(self.member.clone(), self.incarnation.next(), stage.max(self.stage))
    }

    /// What the member wrote of itself, without what others claim.
    #[must_use]
    pub fn own_part(&self) -> Self {
        Self::new(self.member.clone(), self.incarnation, self.stage)
    }

    /// Who it is.
    #[must_use]
    pub const fn id(&self) -> MemberId {
        self.member.id
    }

    /// The member, as it described itself last.
    #[must_use]
    pub const fn member(&self) -> &Member {
        &self.member
    }

    /// The version of what the member wrote.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How far the member is, by its own word.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// What another says of it.
    #[must_use]
    pub const fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// Who asserts that it is suspect or dead.
    #[must_use]
    pub fn asserted_by(&self) -> Option<MemberId> {
        self.claim.map(|claim| claim.by)
    }

    /// The status that follows from both parts.
    #[must_use]
    pub fn status(&self) -> MemberStatus {
        match (self.stage, self.claim.map(|claim| claim.verdict)) {
            (Stage::Removed, _) | (_, Some(Verdict::Removed)) => MemberStatus::Removed,
            (_, Some(Verdict::Dead)) => MemberStatus::Dead,
            (_, Some(Verdict::Suspect)) => MemberStatus::Suspect,
            (stage, None) => stage.into(),
        }
    }

    /// Whether it is dead or gone: final for this id.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.status(), MemberStatus::Dead | MemberStatus::Removed)
    }

    /// Whether it owns keys: it is up, suspected or not.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.stage == Stage::Up && !self.is_terminal()
    }

    /// Takes over what `other` knows better; whether anything changed.
    ///
    /// Commutative, associative and idempotent; the status never goes back from dead or removed, nor a stage to an
    /// earlier one (the order of the stages comes before that of the incarnations, so that a member that writes an
    /// illegal step changes nothing anywhere). A suspicion lasts as long as the incarnation that it was raised against.
    /// Records of different members do not mix: then nothing changes.
    pub fn merge(&mut self, other: &Self) -> bool {
        if other.id() != self.id() {
            return false;
        }
        let before = (self.incarnation, self.stage, self.claim);
        let terminal = self.terminal_claim().max(other.terminal_claim());
        let suspicion = match self.version().cmp(&other.version()) {
            Ordering::Less => other.claim,
            Ordering::Equal => self.claim.max(other.claim),
            Ordering::Greater => self.claim,
        };
        let described_newly = self.description().cmp(&other.description()) == Ordering::Less;
        if described_newly {
            self.member = other.member.clone();
            self.incarnation = other.incarnation;
            self.stage = other.stage;
        }
        self.claim = terminal.or(suspicion);
        self.drop_void_claim();
        described_newly || before != (self.incarnation, self.stage, self.claim)
    }

    const fn version(&self) -> (Stage, Incarnation) {
        (self.stage, self.incarnation)
    }

    /// A total order of what members write; attributes decide only between forged records of one version.
    fn description(&self) -> impl Ord + '_ {
        (self.version(), &self.member.address, &self.member.kinds, self.member.weight)
    }

    fn terminal_claim(&self) -> Option<Claim> {
        self.claim.filter(|claim| claim.verdict > Verdict::Suspect)
    }

    fn drop_void_claim(&mut self) {
        if self.stage == Stage::Removed {
            self.claim = self.terminal_claim();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId::new(1);
    const WITNESS: MemberId = MemberId::new(2);

    fn record(incarnation: u64, stage: Stage) -> Record {
        Record::new(Member::new(ME, "a:1", []), Incarnation::new(incarnation), stage)
    }

    fn merged(one: &Record, other: &Record) -> Record {
        let mut merged = one.clone();
        merged.merge(other);
        merged
    }

    #[test]
    fn a_higher_incarnation_refutes_a_suspicion_and_an_equal_one_does_not() {
        let suspect = record(3, Stage::Up).claimed(Verdict::Suspect, WITNESS);
        assert_eq!(merged(&suspect, &record(3, Stage::Up)).status(), MemberStatus::Suspect);
        assert_eq!(merged(&suspect, &record(4, Stage::Up)), record(4, Stage::Up));
        assert_eq!(merged(&record(4, Stage::Up), &suspect), record(4, Stage::Up));
    }

    #[test]
    fn a_suspect_remembers_whether_it_was_up() {
        let suspect = |stage| record(3, stage).claimed(Verdict::Suspect, WITNESS);
        assert!(suspect(Stage::Up).is_active());
        assert!(!suspect(Stage::Joining).is_active());
        assert!(!suspect(Stage::Leaving).is_active());
    }

    #[test]
    fn death_is_final_whatever_the_incarnation() {
        let dead = record(3, Stage::Up).claimed(Verdict::Dead, WITNESS);
        assert_eq!(merged(&record(9, Stage::Up), &dead).status(), MemberStatus::Dead);
        assert_eq!(merged(&dead, &record(9, Stage::Leaving)).status(), MemberStatus::Dead);
        assert_eq!(merged(&dead, &record(9, Stage::Removed)).status(), MemberStatus::Removed);
    }

    #[test]
    fn a_member_never_goes_back_to_an_earlier_stage() {
        assert_eq!(merged(&record(3, Stage::Up), &record(9, Stage::Joining)), record(3, Stage::Up));
    }

    #[test]
    fn a_member_that_has_left_cannot_be_suspected() {
        assert_eq!(record(3, Stage::Removed).claimed(Verdict::Suspect, WITNESS), record(3, Stage::Removed));
    }
}
