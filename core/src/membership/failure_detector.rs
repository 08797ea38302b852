//! Whom to probe next, and which probes wait for an answer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use gristmill_messages::{Incarnation, MemberId};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::Timestamp;

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

/// A ping that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) member: MemberId,
    /// Which version of it was known when the probe began.
    pub(super) version: Incarnation,
    pub(super) started: Timestamp,
    /// Whether others were asked to try.
    pub(super) indirect: bool,
    /// Those of them that have not reported.
    pub(super) silent: Vec<MemberId>,
}

/// A ping that was sent for another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relay {
    pub(super) target: MemberId,
    /// Who asked for it.
    pub(super) origin: MemberId,
    /// Under which name.
    pub(super) sequence: ProbeSequence,
}

/// Round-robin over the places of the table, in each round in another order (SWIM section 4.3), with those in front of
/// whom there is reason to suspect something.
///
/// The order of a round is `i -> (step * i + offset) mod places` with a random step that has no divisor in common with
/// the number of places: it takes no memory. While nobody comes or goes, between two probes of a member lie less than
/// two rounds. A newcomer is probed by the next round at the latest; who moves to another place because somebody came
/// or went may miss one round.
///
/// Every second probe at least is one of the round, however many reasons there are: else those who cannot be reached,
/// or one that lies of others, would keep this node from probing anybody else, and so from hearing of anybody.
///
/// Who has pinged this node a moment ago is passed over in a round: it lives. In a small cluster that leaves more of
/// the probes for those of whom nothing was heard.
///
/// It says who did not answer; what follows from that is the machine's to decide.
#[derive(Debug, Default)]
pub(super) struct FailureDetector {
    round: Round,
    hastened: VecDeque<MemberId>,
    /// Whether the last probe was of one of these.
    was_hastened: bool,
    /// Who has pinged this node, and when, the latest last.
    heard: VecDeque<(MemberId, Timestamp)>,
    probes: BTreeMap<ProbeSequence, Probe>,
    relays: BTreeMap<ProbeSequence, Relay>,
    last: ProbeSequence,
}

#[derive(Debug, Default)]
struct Round {
    places: u64,
    step: u64,
    offset: u64,
    next: u64,
}

impl Round {
    fn next(&mut self, places: usize, rng: &mut Xoshiro256PlusPlus) -> Option<usize> {
        if self.next >= self.places {
            *self = Self::new(places as u64, rng)?;
        }
        let place = (self.step * self.next + self.offset) % self.places;
        self.next += 1;
        usize::try_from(place).ok()
    }

    fn new(places: u64, rng: &mut Xoshiro256PlusPlus) -> Option<Self> {
        if places == 0 {
            return None;
        }
        let mut step = rng.random_range(1..=places);
        while greatest_common_divisor(step, places) != 1 {
            step = rng.random_range(1..=places);
        }
        Some(Self { places, step, offset: rng.random_range(0..places), next: 0 })
    }
}

const fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

impl FailureDetector {
    /// Members that wait to be probed before the others; more are left to the round.
    const MOST_HASTENED: usize = 32;
    /// Members that are remembered to have pinged this node.
    const MOST_HEARD: usize = 8;
    /// Probe intervals for which they are.
    pub(super) const HEARD_COUNTS_FOR: u32 = 4;
    /// Pings for others that wait for an answer; what is asked beyond them is not done.
    const MOST_RELAYS: usize = 256;

    /// There is reason to probe this member before the others.
    pub(super) fn hasten(&mut self, member: MemberId) {
        if self.hastened.len() < Self::MOST_HASTENED && !self.hastened.contains(&member) {
            self.hastened.push_back(member);
        }
    }

    /// This member has pinged this node.
    pub(super) fn heard(&mut self, now: Timestamp, member: MemberId) {
        self.heard.retain(|(other, _)| *other != member);
        if self.heard.len() >= Self::MOST_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((member, now));
    }

    /// A sequence for a ping whose answer is not waited for.
    pub(super) const fn sequence(&mut self) -> ProbeSequence {
        self.last.0 += 1;
        self.last
    }

    /// Whom to probe next: the first of the hastened, else, or after one of them, of the round, at whose place `living`
    /// finds somebody to probe that has not pinged this node `since`.
    pub(super) fn next(
        &mut self,
        rng: &mut Xoshiro256PlusPlus,
        places: usize,
        since: Timestamp,
        is_living: impl Fn(MemberId) -> bool,
        living: impl Fn(usize) -> Option<MemberId>,
    ) -> Option<MemberId> {
        if !core::mem::take(&mut self.was_hastened) {
            while let Some(member) = self.hastened.pop_front() {
                if is_living(member) {
                    self.was_hastened = true;
                    return Some(member);
                }
            }
        }
        self.heard.retain(|(_, at)| *at >= since);
        // So that some are left: what is heard from one side only proves nothing of the other direction.
        while self.heard.len() > places / 2 {
            self.heard.pop_front();
        }
        let heard = &self.heard;
        let unheard = |member: &MemberId| heard.iter().all(|(other, _)| other != member);
        // Two rounds: what is left of this one, and a whole one.
        let round = &mut self.round;
        (0..2 * places)
            .find_map(|_| living(round.next(places, rng)?).filter(unheard))
            .or_else(|| heard.iter().map(|(member, _)| *member).find(|member| is_living(*member)))
    }

    /// Starts a probe of this member.
    pub(super) fn start(&mut self, now: Timestamp, member: MemberId, version: Incarnation) -> ProbeSequence {
        let sequence = self.sequence();
        self.probes.insert(sequence, Probe { member, version, started: now, indirect: false, silent: Vec::new() });
        sequence
    }

    pub(super) fn probe(&self, sequence: ProbeSequence) -> Option<&Probe> {
        self.probes.get(&sequence)
    }

    /// These were asked to try.
    pub(super) fn asked(&mut self, sequence: ProbeSequence, others: &[MemberId]) {
        if let Some(probe) = self.probes.get_mut(&sequence) {
            probe.indirect = true;
            probe.silent.extend_from_slice(others);
        }
    }

    /// Whether this one was asked to try, and has not reported yet.
    pub(super) fn awaits(&self, sequence: ProbeSequence, member: MemberId, by: MemberId) -> bool {
        let probe = self.probes.get(&sequence).filter(|probe| probe.member == member);
        probe.is_some_and(|probe| probe.silent.contains(&by))
    }

    /// One of those who were asked has reported; whether it was, and of this member.
    pub(super) fn reported(&mut self, sequence: ProbeSequence, member: MemberId, by: MemberId) -> bool {
        let Some(probe) = self.probes.get_mut(&sequence).filter(|probe| probe.member == member) else { return false };
        let place = probe.silent.iter().position(|asked| *asked == by);
        place.map(|place| probe.silent.swap_remove(place)).is_some()
    }

    /// An answer of the member came; to which probe, if it was waited for.
    pub(super) fn answered(&mut self, sequence: ProbeSequence, member: MemberId) -> Option<Probe> {
        self.probes.get(&sequence).filter(|probe| probe.member == member)?;
        self.probes.remove(&sequence)
    }

    /// The time of this probe is over; which it was.
    pub(super) fn ended(&mut self, sequence: ProbeSequence) -> Option<Probe> {
        self.probes.remove(&sequence)
    }

    /// Whether a probe of this member waits for its answer.
    pub(super) fn is_probing(&self, member: MemberId) -> bool {
        self.probes.values().any(|probe| probe.member == member)
    }

    /// Whether others are trying to reach this member for this node.
    pub(super) fn is_asking(&self, member: MemberId) -> bool {
        self.probes.values().any(|probe| probe.member == member && probe.indirect)
    }

    /// Starts a ping for another; `None` when there are too many.
    pub(super) fn relay(&mut self, relay: Relay) -> Option<ProbeSequence> {
        if self.relays.len() >= Self::MOST_RELAYS {
            return None;
        }
        let sequence = self.sequence();
        self.relays.insert(sequence, relay);
        Some(sequence)
    }

    /// A ping for another was answered by its target, or its time is over if `by` is `None`.
    pub(super) fn relayed(&mut self, sequence: ProbeSequence, by: Option<MemberId>) -> Option<Relay> {
        let relay = self.relays.get(&sequence).filter(|relay| by.is_none_or(|by| by == relay.target))?;
        let relay = *relay;
        self.relays.remove(&sequence);
        Some(relay)
    }

    /// Takes out all pings of this member for others.
    pub(super) fn relays_to(&mut self, member: MemberId) -> Vec<(ProbeSequence, Relay)> {
        self.relays.extract_if(.., |_, relay| relay.target == member).collect()
    }

    /// Takes out the probes of this member: they are not judged. With `direct_only` those stay that others help with.
    pub(super) fn probes_of(&mut self, member: MemberId, direct_only: bool) -> Vec<ProbeSequence> {
        let chosen = |probe: &Probe| probe.member == member && !(direct_only && probe.indirect);
        self.probes.extract_if(.., |_, probe| chosen(probe)).map(|(sequence, _)| sequence).collect()
    }

    /// Those to whom a ping is on its way.
    pub(super) fn watched(&self) -> impl Iterator<Item = MemberId> + '_ {
        let relayed = self.relays.values().map(|relay| relay.target);
        self.probes.values().map(|probe| probe.member).chain(relayed)
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = ProbeSequence> + '_ {
        self.probes.keys().copied()
    }

    pub(super) fn relaying(&self) -> impl Iterator<Item = ProbeSequence> + '_ {
        self.relays.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn id(place: usize) -> MemberId {
        MemberId::new(place as u128)
    }

    fn round(detector: &mut FailureDetector, rng: &mut Xoshiro256PlusPlus, places: usize) -> Vec<MemberId> {
        (0..places)
            .filter_map(|_| detector.next(rng, places, Timestamp::ZERO, |_| true, |place| Some(id(place))))
            .collect()
    }

    #[test]
    fn each_round_probes_everyone_once_in_another_order() {
        for places in [1, 2, 3, 20, 97, 1000] {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
            let mut detector = FailureDetector::default();
            let (mut one, mut two) = (round(&mut detector, &mut rng, places), round(&mut detector, &mut rng, places));
            assert!(places < 20 || one != two);
            one.sort_unstable();
            two.sort_unstable();
            let all: Vec<_> = (0..places).map(id).collect();
            assert_eq!((&one, &two), (&all, &all));
        }
    }

    #[test]
    fn where_nobody_is_to_be_probed_the_next_one_is() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        for _ in 0..40 {
            let next =
                detector.next(&mut rng, 20, Timestamp::ZERO, |_| true, |place| Some(id(place)).filter(|_| place == 7));
            assert_eq!(next, Some(id(7)));
        }
        assert_eq!(detector.next(&mut rng, 20, Timestamp::ZERO, |_| true, |_| None), None);
        assert_eq!(detector.next(&mut rng, 0, Timestamp::ZERO, |_| true, |_| None), None);
    }

    #[test]
    fn only_the_probed_member_answers_its_probe_and_only_once() {
        let mut detector = FailureDetector::default();
        let sequence = detector.start(Timestamp::ZERO, id(7), Incarnation::default());
        assert_eq!(detector.answered(sequence, id(8)), None);
        assert!(detector.answered(sequence, id(7)).is_some());
        assert_eq!(detector.answered(sequence, id(7)), None);
        assert_eq!(detector.ended(sequence), None);
    }

    #[test]
    fn only_who_was_asked_reports_and_only_once() {
        let mut detector = FailureDetector::default();
        let sequence = detector.start(Timestamp::ZERO, id(7), Incarnation::default());
        detector.asked(sequence, &[id(1), id(2)]);
        assert!(!detector.reported(sequence, id(7), id(3)));
        assert!(!detector.reported(sequence, id(8), id(1)));
        assert!(detector.reported(sequence, id(7), id(1)));
        assert!(!detector.reported(sequence, id(7), id(1)));
        assert_eq!(detector.ended(sequence).map(|probe| probe.silent), Some([id(2)].into()));
    }

    #[test]
    fn a_relay_is_answered_by_its_target_alone_and_they_are_bounded() {
        let mut detector = FailureDetector::default();
        let relay = Relay { target: id(7), origin: id(2), sequence: ProbeSequence::new(5) };
        let sequences: Vec<_> = (0..300).filter_map(|_| detector.relay(relay)).collect();
        assert_eq!(sequences.len(), FailureDetector::MOST_RELAYS);
        assert_eq!(detector.relayed(sequences[0], Some(id(8))), None);
        assert_eq!(detector.relayed(sequences[0], Some(id(7))), Some(relay));
        assert_eq!(detector.relayed(sequences[0], None), None);
    }

    #[test]
    fn who_has_pinged_this_node_is_passed_over_for_a_while() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        for place in 0..4 {
            detector.heard(Timestamp::from_millis(1000), id(place));
        }
        let mut probed = |since| -> Vec<_> {
            let since = Timestamp::from_millis(since);
            (0..16).filter_map(|_| detector.next(&mut rng, 8, since, |_| true, |place| Some(id(place)))).collect()
        };
        assert!(probed(1000).iter().all(|member| (id(4)..id(8)).contains(member)));
        assert!(probed(1001).contains(&id(1)));
    }

    #[test]
    fn where_only_those_live_who_have_pinged_this_node_they_are_probed() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        detector.heard(Timestamp::ZERO, id(1));
        let living = |place| Some(id(place)).filter(|_| place == 1);
        assert_eq!(detector.next(&mut rng, 3, Timestamp::ZERO, |member| member == id(1), living), Some(id(1)));
    }

    #[test]
    fn a_hastened_member_is_next_if_it_lives() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        detector.hasten(id(3));
        detector.hasten(id(5));
        let next = detector.next(&mut rng, 9, Timestamp::ZERO, |member| member != id(3), |place| Some(id(place)));
        assert_eq!(next, Some(id(5)));
    }

    #[test]
    fn who_is_hastened_again_and_again_gets_every_second_probe_and_the_round_the_others() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut detector = FailureDetector::default();
        let mut probed = [0; 9];
        for _ in 0..36 {
            detector.hasten(id(3));
            let next = detector.next(&mut rng, 9, Timestamp::ZERO, |_| true, |place| Some(id(place)));
            probed[usize::try_from(next.unwrap().bits()).unwrap()] += 1;
        }
        assert_eq!(probed, [2, 2, 2, 20, 2, 2, 2, 2, 2]);
    }
}
