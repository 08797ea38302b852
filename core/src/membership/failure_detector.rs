//! Whom to probe next, and which probes wait for an answer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use gristmill_messages::MemberId;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

/// Names one probe of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeSequence(u64);

impl ProbeSequence {
    /// Of a ping that is no probe.
    pub(super) const POLL: Self = Self(0);

    /// Wraps a number from the wire.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, as sent.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Round-robin over a shuffled list, newcomers at a random place (SWIM section 4.3): between two probes of a member lie
/// at most twice as many intervals as there are members.
///
/// It says who did not answer; what follows from that is the machine's to decide.
#[derive(Debug, Default)]
pub(super) struct FailureDetector {
    rotation: VecDeque<MemberId>,
    waiting: BTreeMap<ProbeSequence, MemberId>,
    last: ProbeSequence,
}

impl FailureDetector {
    /// The member enters the rotation.
    pub(super) fn watch(&mut self, member: MemberId, rng: &mut Xoshiro256PlusPlus) {
        let place = rng.random_range(0..=self.rotation.len());
        self.rotation.insert(place, member);
    }

    /// The member leaves the rotation; its probes, which are given back, are not judged.
    pub(super) fn forget(&mut self, member: MemberId) -> Vec<ProbeSequence> {
        self.rotation.retain(|other| *other != member);
        self.waiting.extract_if(.., |_, other| *other == member).map(|(sequence, _)| sequence).collect()
    }

    /// There is reason to probe this member before the others.
    pub(super) fn hasten(&mut self, member: MemberId) {
        if self.rotation.contains(&member) {
            self.rotation.retain(|other| *other != member);
            self.rotation.push_front(member);
        }
    }

    /// A sequence for a ping whose answer is not waited for.
    pub(super) const fn sequence(&mut self) -> ProbeSequence {
        self.last.0 += 1;
        self.last
    }

    /// Starts a probe of the next of the watched, if there is any. `fresh` gives them when a round is over.
    pub(super) fn probe(
        &mut self,
        rng: &mut Xoshiro256PlusPlus,
        fresh: impl FnOnce() -> Vec<MemberId>,
    ) -> Option<(ProbeSequence, MemberId)> {
        if self.rotation.is_empty() {
            let mut round = fresh();
            round.shuffle(rng);
            self.rotation = round.into();
        }
        let member = self.rotation.pop_front()?;
        let sequence = self.sequence();
        self.waiting.insert(sequence, member);
        Some((sequence, member))
    }

    /// An answer came; whether it was waited for.
    pub(super) fn answered(&mut self, sequence: ProbeSequence, from: MemberId) -> bool {
        let expected = self.waiting.get(&sequence) == Some(&from);
        expected && self.waiting.remove(&sequence).is_some()
    }

    /// The time of this probe is over; who did not answer it.
    pub(super) fn timed_out(&mut self, sequence: ProbeSequence) -> Option<MemberId> {
        self.waiting.remove(&sequence)
    }

    pub(super) fn watched(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.rotation.iter().chain(self.waiting.values()).copied()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = ProbeSequence> + '_ {
        self.waiting.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn ids(range: core::ops::Range<u128>) -> Vec<MemberId> {
        range.map(MemberId::new).collect()
    }

    #[test]
    fn each_round_probes_everyone_once_in_another_order() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        let mut round = || -> Vec<_> {
            (0..20).filter_map(|_| detector.probe(&mut rng, || ids(0..20))).map(|(_, member)| member).collect()
        };
        let (mut one, mut two) = (round(), round());
        assert_ne!(one, two);
        one.sort_unstable();
        two.sort_unstable();
        assert_eq!((one, two), (ids(0..20), ids(0..20)));
    }

    #[test]
    fn only_the_probed_member_answers_its_probe_and_only_once() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        let (sequence, member) = detector.probe(&mut rng, || ids(7..8)).unwrap();
        assert!(!detector.answered(sequence, MemberId::new(8)));
        assert!(detector.answered(sequence, member));
        assert!(!detector.answered(sequence, member));
        assert_eq!(detector.timed_out(sequence), None);
    }

    #[test]
    fn a_hastened_member_is_next() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        for member in ids(0..9) {
            detector.watch(member, &mut rng);
        }
        detector.hasten(MemberId::new(5));
        let next = detector.probe(&mut rng, Vec::new);
        assert_eq!(next.map(|(_, member)| member), Some(MemberId::new(5)));
    }
}
