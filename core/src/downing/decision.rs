//! Which side goes on: a pure function of what a node knows, and the record of its result.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use gristmill_messages::MemberId;

use super::Strategy;
use crate::Timestamp;

/// Who goes on serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side of the node that decides: who has been unreachable for long enough is released.
    This,
    /// Another side: the node fences itself.
    Other,
    /// No side: every node fences itself.
    Nobody,
}

/// Why it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Some have been unreachable for suspicion, `stable_after` and `margin`.
    Stable,
    /// This node has seen itself on a losing side for `stable_after`.
    Losing,
    /// There have been unreachable members for longer than `down_all_when_unstable` allows.
    Unstable,
}

/// One decision, with everything that it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DowningDecision {
    /// When, on this node's clock.
    pub at: Timestamp,
    /// By which rule.
    pub strategy: Strategy,
    /// What led to it.
    pub cause: Cause,
    /// Who goes on.
    pub chosen: Side,
    /// The settled members: those that had been there for a while when all were reachable, and count still, or who runs
    /// in their place; ascending.
    pub baseline: Vec<MemberId>,
    /// The members of the last fully reachable view that count still, of which some may have been too young to be
    /// settled; ascending.
    pub latest: Vec<MemberId>,
    /// Members this node counted to its own side, itself among them; ascending.
    pub reachable: Vec<MemberId>,
    /// Members that are suspected and do not answer this node, or dead without proof; ascending.
    pub unreachable: Vec<MemberId>,
    /// Members that nobody suspects, as far as known here, but that do not answer this node; ascending.
    pub silent: Vec<MemberId>,
    /// Members that do not answer this node, but that others reach. They count as
    /// reachable. Ascending.
    pub indirectly_connected: Vec<MemberId>,
    /// Members that have left, or are known to have ended: they are no partition, and count nowhere. Ascending.
    pub gone: Vec<MemberId>,
    /// Since when there have been unreachable members.
    pub since: Option<Timestamp>,
}

impl DowningDecision {
    /// Whether it has fenced this node under this id, and not under a former one.
    #[must_use]
    pub fn fences(&self, member: MemberId) -> bool {
        self.chosen != Side::This && self.reachable.contains(&member)
    }

    /// Those among whom it was made by the one or the other view, for a member that was fenced by it and joins again
    /// ([`Input::Return`](crate::membership::Input::Return)): others may go on by either. The member itself is among
    /// them only if it had settled.
    #[must_use]
    pub fn counted(&self, member: MemberId) -> Vec<MemberId> {
        let counted: BTreeSet<_> = self.baseline.iter().chain(&self.latest).copied().collect();
        let is_meant = |id: &MemberId| *id != member || self.baseline.contains(id);
        counted.into_iter().filter(is_meant).collect()
    }
}

impl fmt::Display for DowningDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = match self.chosen {
            Side::This => "this side goes on",
            Side::Other => "another side goes on",
            Side::Nobody => "no side goes on",
        };
        let (reachable, baseline) = (self.reachable.len(), self.baseline.len());
        write!(f, "{chosen}: {:?}, {reachable} of {baseline} reachable, {:?}", self.strategy, self.cause)
    }
}

/// Which side goes on when of these members those are lost.
///
/// Two sides never both get [`Side::This`] if they know the same members, whatever else each of them knows to be gone
/// on its own side; except with [`Strategy::Off`].
pub(super) fn choose(strategy: Strategy, members: &BTreeSet<MemberId>, lost: &BTreeSet<MemberId>) -> Side {
    let all = members.len();
    let is_here = |member: &&MemberId| !lost.contains(*member);
    let here = members.iter().filter(is_here).count();
    if here == all {
        return Side::This;
    }
    let lowest_is_here = members.first().is_some_and(|lowest| !lost.contains(lowest));
    let this_if = |wins| if wins { Side::This } else { Side::Other };
    match strategy {
        Strategy::Off => Side::This,
        Strategy::KeepMajority => this_if(2 * here > all || (2 * here == all && lowest_is_here)),
        Strategy::StaticQuorum(quorum) if all >= 2 * quorum => Side::Nobody,
        Strategy::StaticQuorum(quorum) => this_if(here >= quorum),
        Strategy::KeepOldest { down_if_alone: true } if all >= 3 && lowest_is_here && here == 1 => Side::Other,
        Strategy::KeepOldest { down_if_alone: true } if all >= 3 && !lowest_is_here && here == all - 1 => Side::This,
        Strategy::KeepOldest { .. } => this_if(lowest_is_here),
        Strategy::DownAll => Side::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, any, prop_assert, prop_oneof, proptest};
    use proptest::strategy::Strategy as _;

    fn ids(values: impl IntoIterator<Item = u128>) -> BTreeSet<MemberId> {
        values.into_iter().map(MemberId::new).collect()
    }

    fn of_five(strategy: Strategy, lost: &[u128]) -> Side {
        choose(strategy, &ids(1..=5), &ids(lost.iter().copied()))
    }

    #[test]
    fn the_majority_goes_on_and_of_two_halves_the_one_with_the_lowest_member() {
        let strategy = Strategy::KeepMajority;
        assert_eq!(of_five(strategy, &[1, 2]), Side::This);
        assert_eq!(of_five(strategy, &[3, 4, 5]), Side::Other);
        assert_eq!(choose(strategy, &ids(1..=4), &ids([3, 4])), Side::This);
        assert_eq!(choose(strategy, &ids(1..=4), &ids([1, 2])), Side::Other);
        assert_eq!(choose(strategy, &ids(1..=2), &ids([2])), Side::This);
        assert_eq!(choose(strategy, &ids(1..=2), &ids([1])), Side::Other, "two members are two halves");
    }

    #[test]
    fn a_quorum_goes_on_and_none_does_where_two_could_have_it() {
        assert_eq!(of_five(Strategy::StaticQuorum(3), &[1, 2]), Side::This);
        assert_eq!(of_five(Strategy::StaticQuorum(3), &[1, 2, 3]), Side::Other);
        assert_eq!(of_five(Strategy::StaticQuorum(2), &[1]), Side::Nobody);
    }

    #[test]
    fn the_side_of_the_oldest_goes_on_unless_it_is_alone() {
        let kept = Strategy::KeepOldest { down_if_alone: true };
        assert_eq!(of_five(kept, &[3, 4, 5]), Side::This);
        assert_eq!(of_five(kept, &[1, 2]), Side::Other);
        assert_eq!(of_five(kept, &[1]), Side::This);
        assert_eq!(of_five(kept, &[2, 3, 4, 5]), Side::Other);
        assert_eq!(choose(kept, &ids(1..=2), &ids([2])), Side::This);
        assert_eq!(choose(kept, &ids(1..=2), &ids([1])), Side::Other);
        let always = Strategy::KeepOldest { down_if_alone: false };
        assert_eq!(of_five(always, &[2, 3, 4, 5]), Side::This);
        assert_eq!(of_five(always, &[1]), Side::Other);
    }

    #[test]
    fn down_all_keeps_nobody_and_off_keeps_everybody() {
        assert_eq!(of_five(Strategy::DownAll, &[5]), Side::Nobody);
        assert_eq!(of_five(Strategy::DownAll, &[]), Side::This);
        assert_eq!(of_five(Strategy::Off, &[2, 3, 4, 5]), Side::This);
    }

    fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
        prop_oneof![
            Just(Strategy::KeepMajority),
            (1_usize..12).prop_map(Strategy::StaticQuorum),
            any::<bool>().prop_map(|down_if_alone| Strategy::KeepOldest { down_if_alone }),
            Just(Strategy::DownAll),
        ]
    }

    proptest! {
        /// Each member is on one of the sides, and may have left so that only its own side has heard of it.
        #[test]
        fn at_most_one_side_of_a_partition_goes_on(
            strategy in strategies(),
            sides in proptest::collection::vec((0_usize..3, proptest::bool::weighted(0.2)), 2..12),
        ) {
            let everyone: Vec<_> = sides.iter().enumerate().map(|(index, (side, gone))| {
                (MemberId::new(index as u128 + 1), *side, *gone)
            }).collect();
            let chosen = |side: usize| {
                let gone = |(_, of, gone): &&(MemberId, usize, bool)| *gone && *of == side;
                let members: BTreeSet<_> =
                    everyone.iter().filter(|member| !gone(member)).map(|(id, ..)| *id).collect();
                let lost: BTreeSet<_> = everyone.iter().filter(|(_, of, _)| *of != side).map(|(id, ..)| *id).collect();
                let lives = everyone.iter().any(|(_, of, gone)| *of == side && !*gone);
                lives.then(|| choose(strategy, &members, &lost))
            };
            let winners = (0..3).filter(|side| chosen(*side) == Some(Side::This)).count();
            prop_assert!(winners <= 1, "{winners} sides go on");
        }
    }
}
