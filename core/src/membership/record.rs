//! What is known of one member, and the law by which two such pieces of knowledge become one.

use alloc::vec;
use alloc::vec::Vec;
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
    /// Is dead, whatever its incarnation. No record refutes it; a machine may withdraw it, see
    /// [`Event::VerdictWithdrawn`](super::Event::VerdictWithdrawn).
    Dead,
    /// Was dead, and its quarantine is over.
    Removed,
}

impl Verdict {
    /// How many authors of it are kept. A suspicion keeps as many as make it expire the soonest: one who raised it and
    /// the three who confirm it. An end needs no confirmation.
    const fn authors_kept(self) -> usize {
        match self {
            Self::Suspect => Record::MOST_ACCUSERS,
            Self::Dead | Self::Removed => 1,
        }
    }
}

/// A verdict and one of its authors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// What is said.
    pub verdict: Verdict,
    /// Who said it; of several authors the smallest id.
    pub by: MemberId,
}

/// A verdict and those of its authors with the smallest ids, so that all nodes keep the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    verdict: Verdict,
    /// Ascending, never empty, at most `verdict.authors_kept()`.
    authors: Vec<MemberId>,
}

impl Held {
    /// The greater verdict; of two equal ones the authors of both.
    fn join(one: Option<Self>, other: Option<&Self>) -> Option<Self> {
        let Some(mut one) = one else { return other.cloned() };
        let Some(other) = other else { return Some(one) };
        match one.verdict.cmp(&other.verdict) {
            Ordering::Less => return Some(other.clone()),
            Ordering::Greater => return Some(one),
            Ordering::Equal => {}
        }
        if one.authors != other.authors {
            one.authors.extend_from_slice(&other.authors);
            one.authors.sort_unstable();
            one.authors.dedup();
            one.authors.truncate(one.verdict.authors_kept());
        }
        Some(one)
    }
}

/// One member as known: what it wrote of itself, and at most one claim of another about it.
///
/// | part | written by | a newer one is known by |
/// | --- | --- | --- |
/// | member, incarnation, stage | the member | stage, then incarnation |
/// | claim | any member | verdict; of equal ones the authors of both, those with the smallest ids |
///
/// The status follows from both: a suspected record still knows whether its member was up, joining or leaving.
///
/// The authors of a suspicion are its accusers: that several members accuse independently is what shortens it, and a
/// bounded set of the smallest ids is the same on all nodes in whatever order the accusations came.
///
/// Invariant: `Suspect` is claimed against the incarnation in the same record, and never of a member that has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    member: Member,
    incarnation: Incarnation,
    stage: Stage,
    claim: Option<Held>,
}

impl Record {
    /// Accusers that a suspicion keeps.
    pub const MOST_ACCUSERS: usize = 4;

    /// What `member` says of itself.
    #[must_use]
    pub const fn new(member: Member, incarnation: Incarnation, stage: Stage) -> Self {
        Self { member, incarnation, stage, claim: None }
    }

    /// This record with the claim added, by the law of [`Record::merge`].
    #[must_use]
    pub fn claimed(&self, verdict: Verdict, by: MemberId) -> Self {
        let mut claimed = self.clone();
        claimed.claim = Held::join(claimed.claim, Some(&Held { verdict, authors: vec![by] }));
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
    pub fn claim(&self) -> Option<Claim> {
        let held = self.claim.as_ref()?;
        Some(Claim { verdict: held.verdict, by: *held.authors.first()? })
    }

    /// All who are known to claim it, ascending: up to [`Record::MOST_ACCUSERS`] of a suspicion, one of an end.
    #[must_use]
    pub fn authors(&self) -> &[MemberId] {
        self.claim.as_ref().map_or(&[], |held| &held.authors)
    }

    /// Who asserts that it is suspect or dead.
    #[must_use]
    pub fn asserted_by(&self) -> Option<MemberId> {
        self.claim().map(|claim| claim.by)
    }

    /// The status that follows from both parts.
    #[must_use]
    pub fn status(&self) -> MemberStatus {
        match (self.stage, self.claim.as_ref().map(|held| held.verdict)) {
            (Stage::Removed, _) | (_, Some(Verdict::Removed)) => MemberStatus::Removed,
            (_, Some(Verdict::Dead)) => MemberStatus::Dead,
            (_, Some(Verdict::Suspect)) => MemberStatus::Suspect,
            (stage, None) => stage.into(),
        }
    }

    /// Whether it is dead or gone: no record of this id changes that.
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
        let Some(merged) = self.merged(other) else { return false };
        *self = merged;
        true
    }

    /// What [`Record::merge`] makes of this record; `None` when it changes nothing.
    pub(super) fn merged(&self, other: &Self) -> Option<Self> {
        if other.id() != self.id() || other == self {
            return None;
        }
        let order = self.version().cmp(&other.version());
        if self.claim.is_none() && other.claim.is_none() && order == Ordering::Greater {
            return None;
        }
        let newer = if self.description().cmp(&other.description()) == Ordering::Less { other } else { self };
        let terminal = Held::join(self.terminal_claim().cloned(), other.terminal_claim());
        let claim = terminal.or_else(|| match order {
            Ordering::Less => other.claim.clone(),
            Ordering::Equal => Held::join(self.claim.clone(), other.claim.as_ref()),
            Ordering::Greater => self.claim.clone(),
        });
        let mut merged =
            Self { member: newer.member.clone(), incarnation: newer.incarnation, stage: newer.stage, claim };
        merged.drop_void_claim();
        (merged != *self).then_some(merged)
    }

    const fn version(&self) -> (Stage, Incarnation) {
        (self.stage, self.incarnation)
    }

    /// A total order of what members write; attributes decide only between forged records of one version.
    fn description(&self) -> impl Ord + '_ {
        (self.version(), &self.member.address, &self.member.kinds, self.member.weight)
    }

    fn terminal_claim(&self) -> Option<&Held> {
        self.claim.as_ref().filter(|held| held.verdict > Verdict::Suspect)
    }

    fn drop_void_claim(&mut self) {
        if self.stage == Stage::Removed {
            self.claim = self.claim.take().filter(|held| held.verdict > Verdict::Suspect);
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
    fn a_suspicion_counts_its_accusers_once_each_and_keeps_the_same_ones_in_any_order() {
        let accused = |by: &[u128]| {
            by.iter().fold(record(3, Stage::Up), |record, by| record.claimed(Verdict::Suspect, MemberId::new(*by)))
        };
        assert_eq!(accused(&[5, 2, 5]).authors(), [2, 5].map(MemberId::new));
        assert_eq!(accused(&[7, 6, 5, 4, 3]).authors(), [3, 4, 5, 6].map(MemberId::new));
        assert_eq!(merged(&accused(&[7, 6]), &accused(&[5, 4, 3])), accused(&[3, 4, 5, 6, 7]));
        let dead = accused(&[5, 4]).claimed(Verdict::Dead, MemberId::new(9));
        assert_eq!(dead.authors(), [MemberId::new(9)]);
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
