//! The laws of the merge, for records that no correct member would write included.

use gristmill_core::Member;
use gristmill_core::MemberStatus::{Dead, Removed, Suspect};
use gristmill_core::membership::{Record, Stage, Verdict};
use gristmill_messages::{Incarnation, MemberId};
use proptest::prelude::*;

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![Just(Stage::Joining), Just(Stage::Up), Just(Stage::Leaving), Just(Stage::Removed)]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![4 => Just(Verdict::Suspect), 1 => Just(Verdict::Dead), 1 => Just(Verdict::Removed)]
}

/// Of a member that lives.
fn living_record() -> impl Strategy<Value = Record> {
    (record(), proptest::bool::ANY).prop_map(|(record, suspected)| {
        let stage = record.stage().min(Stage::Leaving);
        let own = Record::new(record.member().clone(), record.incarnation(), stage);
        if suspected { own.claimed(Verdict::Suspect, MemberId::new(1)) } else { own }
    })
}

/// Few values for each part, so that equal and conflicting parts are common.
fn record() -> impl Strategy<Value = Record> {
    let claim = proptest::option::of((verdict(), proptest::collection::vec(1..8_u128, 1..6)));
    (0..3_u64, stage(), claim, 0..2_u16).prop_map(|(incarnation, stage, claim, port)| {
        let member = Member::new(MemberId::new(9), format!("host:{port}"), []);
        let own = Record::new(member, Incarnation::new(incarnation), stage);
        let (verdict, authors) = claim.unwrap_or((Verdict::Suspect, Vec::new()));
        authors.into_iter().fold(own, |record, by| record.claimed(verdict, MemberId::new(by)))
    })
}

fn merged(one: &Record, other: &Record) -> Record {
    let mut merged = one.clone();
    let changed = merged.merge(other);
    assert_eq!(changed, merged != *one, "merge says whether it changed anything");
    merged
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    // proves MG-2.4
    #[test]
    fn merge_is_commutative(a in record(), b in record()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
    }

    // proves MG-2.4
    #[test]
    fn merge_is_associative(a in record(), b in record(), c in record()) {
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    // proves MG-2.4
    #[test]
    fn merge_is_idempotent(a in record(), b in record()) {
        let both = merged(&a, &b);
        prop_assert_eq!(merged(&a, &a), a);
        prop_assert_eq!(merged(&both, &b), both);
    }

    // proves MG-3.1
    #[test]
    fn death_and_removal_are_final(a in record(), b in record()) {
        let both = merged(&a, &b);
        if a.status() == Removed {
            prop_assert_eq!(both.status(), Removed);
        }
        if a.status() == Dead {
            prop_assert!(matches!(both.status(), Dead | Removed));
        }
    }

    // proves MG-2.3
    #[test]
    fn a_stage_never_goes_back_and_within_a_stage_no_incarnation(a in record(), b in record()) {
        let both = merged(&a, &b);
        prop_assert!((both.stage(), both.incarnation()) >= (a.stage(), a.incarnation()));
    }

    #[test]
    fn accusers_are_counted_once_each_and_kept_by_their_ids(a in record(), b in record()) {
        let both = merged(&a, &b);
        prop_assert!(both.authors().is_sorted_by(|one, next| one < next));
        prop_assert!(both.authors().len() <= Record::MOST_ACCUSERS);
        let of_one_version = (a.stage(), a.incarnation()) == (b.stage(), b.incarnation());
        if of_one_version && a.status() == Suspect && b.status() == Suspect {
            let mut all = [a.authors(), b.authors()].concat();
            all.sort_unstable();
            all.dedup();
            all.truncate(Record::MOST_ACCUSERS);
            prop_assert_eq!(both.authors(), all);
        }
    }

    // proves MG-2.2
    #[test]
    fn what_the_member_writes_next_refutes_every_suspicion(a in living_record(), b in living_record()) {
        let known = merged(&a, &b);
        let refuted = merged(&known, &known.rewritten(known.stage()));
        prop_assert_eq!(refuted.status(), known.stage().into());
    }
}
