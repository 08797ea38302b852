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
