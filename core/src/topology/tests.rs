use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::num::NonZeroU32;
use core::time::Duration;

use gristmill_messages::{MemberId, TopologyHash, TopologyVersion, cluster};
use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;
use crate::{KindName, Outbox, Timestamp};

fn id(n: u128) -> MemberId {
    MemberId::new(n)
}

fn member(n: u128) -> Member {
    Member::new(id(n), &*format!("10.0.0.{n}:7700"), [KindName::new("greeter")])
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn active(members: impl IntoIterator<Item = u128>) -> Input {
    Input::Changed { active: members.into_iter().map(member).collect(), dead: vec![], blocked: vec![] }
}

struct Harness {
    aggregator: Aggregator,
    timers: Vec<(Duration, WindowEpoch)>,
}

impl Harness {
    fn new() -> Self {
        Self { aggregator: Aggregator::new(Config::lan()), timers: vec![] }
    }

    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<TopologyUpdated> {
        let mut out = Outbox::new();
        self.aggregator.handle(now, input, &mut out);
        self.timers.extend(out.drain_effects().map(|Effect::SetTimer { after, epoch }| (after, epoch)));
        out.drain_events().map(|Event::Updated(updated)| updated).collect()
    }

    fn fire(&mut self, now: Timestamp) -> Vec<TopologyUpdated> {
        let (_, epoch) = self.timers.pop().expect("a timer is set");
        self.handle(now, Input::Timer(epoch))
    }
}

fn ids(members: &[Member]) -> Vec<u128> {
    members.iter().map(|member| member.id.bits()).collect()
}

#[test]
fn golden_hashes_never_change() {
    assert_eq!(Topology::default().hash().to_string(), "cbf29ce484222325");
    let two = Topology::new(TopologyVersion::new(7), vec![member(2), member(1)], vec![id(9)]);
    assert_eq!(two.hash().to_string(), "23ff0cc69c88187d");
    let mut heavy = member(1);
    heavy.weight = NonZeroU32::new(3).expect("not zero");
    heavy.kinds = Arc::new(["b", "a"].map(KindName::new).into());
    assert_eq!(Topology::new(TopologyVersion::new(1), vec![heavy], vec![]).hash().to_string(), "66f3e0f66ede0e3d");
}

#[test]
fn the_hash_is_that_of_the_bytes_written_out_by_hand() {
    let mut bytes = vec![];
    bytes.extend(5_u128.to_be_bytes());
    bytes.extend(13_u64.to_be_bytes());
    bytes.extend(b"10.0.0.5:7700");
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend(7_u64.to_be_bytes());
    bytes.extend(b"greeter");
    bytes.extend(1_u64.to_be_bytes());
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let expected = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    let topology = Topology::new(TopologyVersion::new(1), vec![member(5)], vec![id(9), id(7)]);
    assert_eq!(topology.hash(), TopologyHash::new(expected));
    let mut content = expected.to_be_bytes().to_vec();
    content.extend([7_u128, 9].map(u128::to_be_bytes).as_flattened());
    let expected = content.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    assert_eq!(topology.content_hash(), TopologyHash::new(expected));
}

#[test]
fn who_is_blocked_is_in_the_hash_of_the_content_alone() {
    let blocking = |blocked: &[u128]| {
        let blocked = blocked.iter().copied().map(id).collect();
        Topology::new(TopologyVersion::new(1), vec![member(5)], blocked)
    };
    assert_eq!(blocking(&[]).hash(), blocking(&[7]).hash());
    let hashes = [blocking(&[]), blocking(&[7]), blocking(&[9]), blocking(&[7, 9])].map(|it| it.content_hash());
    assert_eq!(BTreeSet::from(hashes).len(), 4);
}

#[test]
fn every_attribute_of_a_member_is_in_the_hash() {
    let hash = |member: Member| Topology::new(TopologyVersion::new(1), vec![member], vec![]).hash();
    let plain = hash(member(1));
    assert_ne!(plain, hash(member(2)));
    assert_ne!(plain, hash(Member { address: "10.0.0.2:7700".into(), ..member(1) }));
    assert_ne!(plain, hash(Member { kinds: Arc::default(), ..member(1) }));
    assert_ne!(plain, hash(Member { weight: NonZeroU32::new(2).expect("not zero"), ..member(1) }));
    let run_together = Member { kinds: Arc::new(["gree", "ter"].map(KindName::new).into()), ..member(1) };
    assert_ne!(plain, hash(run_together));
}

#[test]
fn a_member_is_found_by_its_id() {
    let topology = Topology::new(TopologyVersion::new(3), vec![member(3), member(1), member(2)], vec![id(9), id(9)]);
    assert_eq!(ids(topology.members()), [1, 2, 3]);
    assert_eq!(topology.member(id(2)), Some(&member(2)));
    assert_eq!(topology.member(id(9)), None);
    assert_eq!(topology.blocked(), [id(9)]);
    assert!(!topology.is_empty());
    assert!(Topology::default().is_empty());
}

#[test]
fn a_blocked_member_is_no_member() {
    let topology = Topology::new(TopologyVersion::new(1), vec![member(1), member(2)], vec![id(2)]);
    assert_eq!(ids(topology.members()), [1]);
}

// proves MG-4.1
#[test]
fn a_join_a_leave_and_a_death_are_told_apart() {
    let mut harness = Harness::new();
    let first = harness.handle(at(1), active([1, 2, 3]));
    let three = Arc::new(Topology::new(TopologyVersion::new(1), vec![member(1), member(2), member(3)], vec![]));
    let expected = TopologyUpdated {
        topology: three,
        joined: vec![member(1), member(2), member(3)],
        left: vec![],
        dead: vec![],
        blocked: vec![],
        observed_at: at(1),
    };
    assert_eq!(first, [expected]);
    assert_eq!(harness.fire(at(101)), []);

    let change = Input::Changed { active: vec![member(4), member(1)], dead: vec![id(3), id(77)], blocked: vec![id(3)] };
    let expected = TopologyUpdated {
        topology: Arc::new(Topology::new(TopologyVersion::new(2), vec![member(1), member(4)], vec![id(3)])),
        joined: vec![member(4)],
        left: vec![member(2)],
        dead: vec![member(3)],
        blocked: vec![id(3)],
        observed_at: at(200),
    };
    let second = harness.handle(at(200), change);
    assert_eq!(harness.aggregator.topology(), &expected.topology);
    assert_eq!(second, [expected]);
}

#[test]
fn the_first_change_after_quiet_is_published_at_once_and_opens_a_window() {
    let mut harness = Harness::new();
    assert_eq!(harness.handle(at(0), active([1])).len(), 1);
    assert_eq!(harness.timers, [(Duration::from_millis(100), WindowEpoch(1))]);
    assert_eq!(harness.fire(at(100)), []);
    assert_eq!(harness.timers, [], "a quiet window is not followed by another");
    assert_eq!(harness.handle(at(500), active([1, 2])).len(), 1);
}

// proves MG-4.1
#[test]
fn several_changes_in_one_window_make_one_event() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1]));
    assert_eq!(harness.handle(at(10), active([1, 2])), []);
    assert_eq!(harness.handle(at(20), active([1, 2, 3])), []);
    let updates = harness.fire(at(100));
    assert_eq!(updates.len(), 1);
    assert_eq!(ids(&updates[0].joined), [2, 3]);
    assert_eq!(updates[0].topology.version(), TopologyVersion::new(2));
    assert_eq!(updates[0].observed_at, at(20));
    assert_eq!(harness.timers, [(Duration::from_millis(100), WindowEpoch(2))], "the next window is open");
}

#[test]
fn a_member_that_comes_and_goes_within_a_window_is_never_reported() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1]));
    harness.handle(at(10), active([1, 2]));
    harness.handle(at(20), active([1]));
    assert_eq!(harness.fire(at(100)), []);
    assert_eq!(harness.timers, []);
}

#[test]
fn a_member_that_goes_and_comes_back_within_a_window_is_never_reported() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1, 2]));
    harness.handle(at(10), active([1]));
    harness.handle(at(20), active([2, 1]));
    assert_eq!(harness.fire(at(100)), []);
}

// proves MG-4.1
#[test]
fn equal_content_is_no_event() {
    let mut harness = Harness::new();
    assert_eq!(harness.handle(at(0), active([])), [], "nothing is what there was");
    harness.handle(at(0), active([1, 2]));
    harness.fire(at(100));
    assert_eq!(harness.handle(at(200), active([2, 1, 1])), []);
    let dead_long_ago = Input::Changed { active: vec![member(1), member(2)], dead: vec![id(8)], blocked: vec![] };
    assert_eq!(harness.handle(at(300), dead_long_ago), []);
    assert_eq!(harness.timers, []);
}

// proves CX-2.2
#[test]
fn a_member_that_changes_its_kinds_is_an_update_without_a_join_or_leave() {
    let mut harness = Harness::new();
    let before = harness.handle(at(0), active([1])).remove(0);
    harness.fire(at(100));
    let changed = Member { kinds: Arc::new([KindName::new("account")].into()), ..member(1) };
    let input = Input::Changed { active: vec![changed.clone()], dead: vec![], blocked: vec![] };
    let after = harness.handle(at(200), input).remove(0);
    assert_ne!(before.topology.hash(), after.topology.hash());
    assert_eq!((after.joined, after.left, after.dead), (vec![], vec![], vec![]));
    assert_eq!(after.topology.members(), [changed]);
}

// proves CX-1.2
#[test]
fn a_change_of_the_block_list_alone_is_an_event_and_every_event_carries_the_list() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1, 2]));
    harness.fire(at(100));
    let blocked = vec![id(8), id(7)];
    let input = Input::Changed { active: vec![member(1), member(2)], dead: vec![], blocked: blocked.clone() };
    let update = harness.handle(at(200), input).remove(0);
    assert_eq!(update.blocked, [id(7), id(8)]);
    harness.fire(at(300));
    let input = Input::Changed { active: vec![member(1)], dead: vec![], blocked };
    let update = harness.handle(at(400), input).remove(0);
    assert_eq!((update.blocked, ids(&update.left)), (vec![id(7), id(8)], vec![2]));
}

#[test]
fn a_member_that_is_blocked_is_gone_as_dead_even_if_still_listed_as_active() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1, 2]));
    harness.fire(at(100));
    let input = Input::Changed { active: vec![member(1), member(2)], dead: vec![], blocked: vec![id(2)] };
    let update = harness.handle(at(200), input).remove(0);
    assert_eq!((ids(&update.dead), ids(&update.left)), (vec![2], vec![]));
    assert_eq!(ids(update.topology.members()), [1]);
}

#[test]
fn a_stale_timer_is_ignored() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1]));
    let (_, first) = harness.timers[0];
    harness.fire(at(100));
    harness.handle(at(200), active([1, 2]));
    harness.handle(at(210), active([1, 2, 3]));
    assert_eq!(harness.handle(at(220), Input::Timer(first)), []);
    assert_eq!(ids(&harness.fire(at(300))[0].joined), [3]);
}

#[test]
fn nothing_is_published_after_the_stop() {
    let mut harness = Harness::new();
    harness.handle(at(0), active([1]));
    harness.handle(at(10), active([1, 2]));
    harness.handle(at(20), Input::Stop);
    assert_eq!(harness.fire(at(100)), []);
    assert_eq!(harness.handle(at(200), active([1, 3])), []);
    assert_eq!(harness.handle(at(300), Input::Stop), []);
    assert_eq!(harness.timers, []);
}

#[test]
fn a_window_of_zero_publishes_each_change_at_once() {
    let mut harness = Harness { aggregator: Aggregator::new(Config { window: Duration::ZERO }), timers: vec![] };
    assert_eq!(harness.handle(at(0), active([1])).len(), 1);
    assert_eq!(harness.handle(at(0), active([1, 2])).len(), 1);
    assert_eq!(harness.timers, []);
}

#[test]
fn a_window_that_is_too_long_is_no_configuration() {
    for config in [Config::lan(), Config::wan(), Config::test(), Config::default()] {
        assert_eq!(config.validate(), Ok(()));
    }
    let window = Duration::from_secs(11);
    let error = Config { window }.validate().expect_err("too long");
    assert_eq!(error, InvalidConfig::WindowTooLong { window });
    assert_eq!(error.to_string(), "the topology window is 11s, 10s at most");
}

#[test]
fn a_topology_survives_the_wire() {
    let topology = Topology::new(TopologyVersion::new(7), vec![member(2), member(1)], vec![id(9)]);
    let wire = cluster::ClusterTopology::from(&topology);
    assert_eq!(wire.topology_hash, topology.hash().get());
    assert_eq!(Topology::try_from(wire), Ok(topology));
}

#[test]
fn what_is_no_topology_is_refused_with_the_reason() {
    let good = cluster::ClusterTopology::from(&Topology::new(TopologyVersion::new(7), vec![member(1)], vec![id(9)]));

    let mut wire = good.clone();
    wire.members = vec![wire.members[0].clone(); Topology::MAX_MEMBERS + 1];
    assert_eq!(Topology::try_from(wire), Err(InvalidTopology::TooManyMembers { count: 65_537 }));

    let mut wire = good.clone();
    wire.blocked = vec![wire.blocked[0].clone(); Topology::MAX_BLOCKED + 1];
    assert_eq!(Topology::try_from(wire), Err(InvalidTopology::TooManyBlocked { count: 65_537 }));

    let mut wire = good.clone();
    wire.members[0].kinds = vec!["k".to_string(); Topology::MAX_KINDS + 1];
    assert_eq!(Topology::try_from(wire), Err(InvalidTopology::TooManyKinds { member: id(1), count: 1025 }));

    for spoil in [
        (|wire: &mut cluster::ClusterTopology| wire.members[0].id.push('x')) as fn(&mut cluster::ClusterTopology),
        |wire| wire.blocked[0].clear(),
    ] {
        let mut wire = good.clone();
        spoil(&mut wire);
        assert!(matches!(Topology::try_from(wire), Err(InvalidTopology::Id(_))));
    }

    let mut wire = good.clone();
    wire.members[0].weight = 2;
    let refused = Topology::try_from(wire);
    assert!(matches!(refused, Err(InvalidTopology::HashMismatch { stated, .. }) if stated.get() == good.topology_hash));
}

fn any_change() -> impl Strategy<Value = Input> {
    let ids = || many(1..7_u128, 0..6);
    (ids(), ids(), ids(), 1..3_u32).prop_map(|(active, dead, blocked, weight)| Input::Changed {
        active: active
            .into_iter()
            .map(|n| Member { weight: NonZeroU32::new(weight).expect("not zero"), ..member(n) })
            .collect(),
        dead: dead.into_iter().map(id).collect(),
        blocked: blocked.into_iter().map(id).collect(),
    })
}

proptest! {
    // proves VA-1.1 as far as the topology goes: members that see the same content compute from the same value.
    #[test]
    fn the_order_of_the_members_is_of_no_account(mut numbers in many(1..50_u128, 0..20), swaps in any::<u64>()) {
        let ordered = Topology::new(TopologyVersion::new(1), numbers.iter().copied().map(member).collect(), vec![]);
        let len = numbers.len().max(1);
        for n in 0..numbers.len() {
            numbers.swap(n, (swaps >> (n % 60)) as usize % len);
        }
        let shuffled = Topology::new(TopologyVersion::new(1), numbers.into_iter().map(member).collect(), vec![]);
        prop_assert_eq!(ordered, shuffled);
    }

    // The steps lead from the empty topology to the newest, none is empty, and at the end of the last window what is
    // published is what came last.
    #[test]
    fn following_the_events_gives_the_newest_topology(inputs in many(prop_oneof![2 => any_change().prop_map(Some), 1 => Just(None)], 1..40)) {
        let mut harness = Harness::new();
        let mut followed: BTreeSet<u128> = Default::default();
        let mut before = Arc::<Topology>::default();
        let mut last = None;
        let rest = [None, None]; // the ends of the windows that are still open
        for (step, input) in inputs.into_iter().chain(rest).enumerate() {
            let now = at(step as u64);
            let updates = match input {
                Some(input) => {
                    last = Some(input.clone());
                    harness.handle(now, input)
                }
                None if harness.timers.is_empty() => vec![],
                None => harness.fire(now),
            };
            for update in updates {
                update.check_invariants();
                prop_assert!(!update.topology.same_content(&before));
                prop_assert_eq!(update.topology.version(), before.version().next());
                for gone in update.left.iter().chain(&update.dead) {
                    prop_assert!(followed.remove(&gone.id.bits()));
                }
                for joined in &update.joined {
                    prop_assert!(followed.insert(joined.id.bits()));
                }
                prop_assert!(followed.iter().copied().eq(ids(update.topology.members())));
                before = update.topology;
            }
        }
        if let Some(Input::Changed { active, blocked, .. }) = last {
            prop_assert!(Topology::new(before.version(), active, blocked).same_content(&before));
        }
    }
}
