//! What holds for any values.

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;

fn any_entry() -> impl Strategy<Value = GossipEntry> {
    (2..5_u128, "[ab]", 1..6_u64, proptest::option::of("[xy]")).prop_map(|(member, key, sequence, value)| GossipEntry {
        member: MemberId::new(member),
        key: key.as_str().into(),
        sequence: Sequence::new(sequence),
        value: value.as_deref().map(text),
    })
}

/// With what its member says its keys are, or not: of what has a lower number one of the keys.
fn any_list() -> impl Strategy<Value = GossipEntry> {
    (2..5_u128, 1..7_u64, any::<bool>())
        .prop_map(|(member, sequence, a)| own_keys(MemberId::new(member), sequence, if a { &["a"] } else { &["b"] }))
}

fn merged(entries: impl IntoIterator<Item = GossipEntry>) -> State {
    let mut state = State::default();
    for entry in entries {
        state.offer(entry, None);
        state.check_invariants(|_| true);
    }
    state
}

proptest! {
    #[test]
    fn a_merge_is_commutative_associative_and_idempotent(
        entries in many(any_entry(), 0..30),
        order in any::<u64>(),
        repeated in many(any::<proptest::sample::Index>(), 0..20),
    ) {
        let once = merged(entries.clone());
        let mut shuffled = entries.clone();
        if !entries.is_empty() {
            shuffled.extend(repeated.iter().map(|index| index.get(&entries).clone()));
        }
        shuffled.sort_by_key(|entry| entry.stable_hash() ^ order);
        let other = merged(shuffled);
        prop_assert_eq!(once.digest(), other.digest());
        for entry in &entries {
            let greatest = entries.iter()
                .filter(|other| (other.member, &other.key) == (entry.member, &entry.key))
                .map(|entry| (entry.sequence, entry.value.as_ref()))
                .max();
            prop_assert_eq!(once.held(entry.member, entry.key.as_str()), greatest);
            prop_assert_eq!(other.held(entry.member, entry.key.as_str()), greatest);
        }
    }

    // One list of each member: several may say of one write that it is its member's and that it is not.
    #[test]
    fn a_merge_with_a_list_of_keys_does_not_depend_on_the_order(
        entries in many(any_entry(), 0..30),
        lists in many(any_list(), 0..3),
        order in any::<u64>(),
    ) {
        let lists: BTreeMap<_, _> = lists.into_iter().map(|list| (list.member, list)).collect();
        let all: Vec<_> = entries.into_iter().chain(lists.into_values()).collect();
        let mut shuffled = all.clone();
        shuffled.sort_by_key(|entry| entry.stable_hash() ^ order);
        prop_assert_eq!(merged(all).digest(), merged(shuffled).digest());
    }

    #[test]
    fn which_of_too_many_keys_are_held_does_not_depend_on_the_order(
        sequences in many(1..400_u64, 250..400),
        order in any::<u64>(),
    ) {
        let keyed = |(n, sequence): (usize, &u64)| entry(PEER, &n.to_string(), *sequence, "1");
        let entries: Vec<_> = sequences.iter().enumerate().map(keyed).collect();
        let mut shuffled = entries.clone();
        shuffled.sort_by_key(|entry| entry.stable_hash() ^ order);
        let offered = |entries: Vec<GossipEntry>| {
            let mut state = State::default();
            for entry in entries {
                state.offer(entry, None);
            }
            state.check_invariants(|_| true);
            state.digest()
        };
        prop_assert_eq!(offered(entries), offered(shuffled));
    }

    // The digest says "equal" for equal content and, with these few values, for nothing else.
    #[test]
    fn digests_differ_where_the_content_differs(one in many(any_entry(), 0..10), other in many(any_entry(), 0..10)) {
        let (one_state, other_state) = (merged(one.clone()), merged(other.clone()));
        let same = one.iter().chain(&other).all(|entry| {
            one_state.held(entry.member, entry.key.as_str()) == other_state.held(entry.member, entry.key.as_str())
        });
        prop_assert_eq!(one_state.digest() == other_state.digest(), same);
    }

    #[test]
    fn junk_from_the_wire_is_an_error_or_a_delta_that_survives(bytes in many(any::<u8>(), 0..200)) {
        if let Ok(wire) = cluster::GossipRequest::decode(bytes.as_slice())
            && let Ok(delta) = Delta::try_from(wire)
        {
            prop_assert_eq!(Delta::try_from(cluster::GossipRequest::from(delta.clone())), Ok(delta));
        }
    }
}
