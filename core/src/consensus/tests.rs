use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use alloc::{format, vec};

use gristmill_messages::MemberId;
use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;
use crate::gossip::{Config, Delta, DeltaId, GossipEntry, Input, Sequence, StateDigest};
use crate::{Outbox, RequestId, Timestamp};

const ME: u128 = 1;

fn value(n: u8) -> GossipValue {
    GossipValue { type_name: "test.Text".into(), data: vec![n].into() }
}

struct Node {
    gossip: Gossip,
    written: u64,
}

impl Node {
    fn new(others: &[u128]) -> Self {
        let mut node = Self { gossip: Gossip::new(Config::lan(), MemberId::new(ME), 7), written: 0 };
        node.handle(Input::Start);
        node.members(others);
        node
    }

    fn handle(&mut self, input: Input) {
        self.gossip.handle(Timestamp::ZERO, input, &mut Outbox::new());
    }

    fn members(&mut self, others: &[u128]) {
        self.handle(Input::MembersChanged { members: others.iter().map(|&id| MemberId::new(id)).collect() });
    }

    /// A member writes; nothing: it removes.
    fn says(&mut self, member: u128, key: &str, says: Option<u8>) {
        let (key, value) = (GossipKey::new(key), says.map(value));
        if member == ME {
            return self.handle(match value {
                Some(value) => Input::Set { key, value },
                None => Input::Remove { key },
            });
        }
        self.written += 1;
        let member = MemberId::new(member);
        let entries = vec![GossipEntry { member, key, sequence: Sequence::new(self.written), value }];
        let (id, digest) = (DeltaId::new(self.written), StateDigest::default());
        let delta = Delta { from: member, id, digest, full_state_wanted: false, entries };
        self.handle(Input::Requested { request: RequestId::new(self.written), from: member, delta });
    }
}

#[test]
fn nobody_agrees_on_nothing() {
    assert_eq!(agreed::<u8>([]), None);
    assert_eq!(agreed::<u8>([None]), None);
    assert_eq!(agreed([Some(&1), None]), None);
    assert_eq!(agreed([None, Some(&1)]), None);
    assert_eq!(agreed([Some(&1), Some(&2)]), None);
    assert_eq!(agreed([Some(&1), Some(&1)]), Some(&1));
    assert_eq!(Check::new([]).look(&Node::new(&[]).gossip), None);
}

#[test]
fn consensus_is_told_when_it_is_reached_and_when_it_is_lost() {
    let mut node = Node::new(&[2, 3]);
    let mut check = Check::new(["a".into()]);
    let mut look = |node: &Node| check.look(&node.gossip);
    node.says(1, "a", Some(4));
    node.says(2, "a", Some(4));
    assert_eq!(look(&node), None, "one has not spoken");
    node.says(3, "a", Some(4));
    assert_eq!(look(&node), Some(Change::Reached(vec![value(4)])));
    node.says(3, "b", Some(1));
    assert_eq!(look(&node), None, "another key is none of its business");
    node.says(3, "a", Some(5));
    assert_eq!(look(&node), Some(Change::Lost));
    assert_eq!(look(&node), None);
    node.members(&[2]);
    assert_eq!(look(&node), Some(Change::Reached(vec![value(4)])), "who is gone has no say");
    node.members(&[2, 4]);
    assert_eq!(look(&node), Some(Change::Lost), "who has come has");
    node.handle(Input::Stop);
    assert_eq!(look(&node), None);
}

#[test]
fn a_composite_needs_all_of_its_keys_at_once() {
    let mut node = Node::new(&[2]);
    let mut check = Check::new(["a".into(), "b".into()]);
    for member in [1, 2] {
        node.says(member, "a", Some(1));
    }
    assert_eq!(check.look(&node.gossip), None);
    for member in [1, 2] {
        node.says(member, "b", Some(2));
    }
    assert_eq!(check.look(&node.gossip), Some(Change::Reached(vec![value(1), value(2)])));
    assert_eq!(check.current(), Some([value(1), value(2)].as_slice()));
    node.says(2, "a", None);
    assert_eq!(check.look(&node.gossip), Some(Change::Lost));
    assert_eq!(check.current(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Says { member: u128, key: u8, value: Option<u8> },
    Members(Vec<u128>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![1 => Just(None), 4 => (0..2_u8).prop_map(Some)];
    prop_oneof![
        6 => (1..4_u128, 0..2_u8, value).prop_map(|(member, key, value)| Step::Says { member, key, value }),
        1 => proptest::sample::subsequence(vec![2, 3], 0..=2).prop_map(Step::Members),
    ]
}

proptest! {
    // proves MG-2.4 as far as a check goes
    #[test]
    fn a_check_says_what_all_active_members_say_and_nothing_else(steps in many(any_step(), 0..60)) {
        let mut node = Node::new(&[2, 3]);
        let mut checks = [Check::new(["0".into()]), Check::new(["0".into(), "1".into()])];
        let mut others = vec![2, 3];
        let mut said = BTreeMap::<(u128, u8), u8>::new();
        for step in steps {
            match step {
                Step::Says { member, key, value } if member == ME || others.contains(&member) => {
                    node.says(member, &format!("{key}"), value);
                    match value {
                        Some(value) => said.insert((member, key), value),
                        None => said.remove(&(member, key)),
                    };
                }
                Step::Says { .. } => {}
                Step::Members(members) => {
                    node.members(&members);
                    said.retain(|(member, _), _| *member == ME || members.contains(member));
                    others = members;
                }
            }
            for (keys, check) in (1..).zip(&mut checks) {
                let same = |key| {
                    let mine = said.get(&(ME, key))?;
                    others.iter().all(|&other| said.get(&(other, key)) == Some(mine)).then(|| value(*mine))
                };
                let expected = (0..keys).map(same).collect::<Option<Vec<_>>>();
                let before = check.current().map(<[_]>::to_vec);
                let change = check.look(&node.gossip);
                prop_assert_eq!(check.current().map(<[_]>::to_vec), expected.clone());
                let expected_change = (before != expected).then(|| expected.map_or(Change::Lost, Change::Reached));
                prop_assert_eq!(change, expected_change);
            }
        }
    }
}
