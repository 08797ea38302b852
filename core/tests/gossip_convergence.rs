//! Gossip between a few members on one virtual clock: messages are lost, doubled and overtaken, members see each other
//! come and go at different times, and in the end all hold the same.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use gristmill_core::gossip::{
    Config, Delta, DeltaId, Effect, Event, Gossip, GossipEntry, GossipKey, GossipValue, Input, OWN_KEYS, Sequence,
    StateDigest,
};
use gristmill_core::{Outbox, RequestId, Timestamp};
use gristmill_messages::{MemberId, cluster};
use proptest::collection::vec as many;
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Rounds, in the interval of the test profile.
const ROUND: u64 = 10;

#[derive(Debug, Clone, Copy)]
struct Faults {
    lost_percent: u32,
    doubled_percent: u32,
    max_latency: u64,
}

impl Faults {
    const NONE: Self = Self { lost_percent: 0, doubled_percent: 0, max_latency: 3 };
}

struct Node {
    gossip: Gossip,
    /// What its events told: has to be what it holds.
    told: BTreeMap<(MemberId, GossipKey), GossipValue>,
    updates: usize,
}

struct Network {
    nodes: BTreeMap<MemberId, Node>,
    /// What happens when, and to whom; the second number keeps the order of what happens at the same time.
    queue: BTreeMap<(u64, u64), (MemberId, Input)>,
    now: u64,
    events: u64,
    /// Who asked, and the id of the delta.
    requests: BTreeMap<RequestId, MemberId>,
    faults: Faults,
    rng: Xoshiro256PlusPlus,
    messages: usize,
    entries: usize,
}

fn id(n: usize) -> MemberId {
    MemberId::new(n as u128 + 1)
}

impl Network {
    fn new(nodes: usize, config: &Config, seed: u64) -> Self {
        let mut network = Self {
            nodes: BTreeMap::new(),
            queue: BTreeMap::new(),
            now: 0,
            events: 0,
            requests: BTreeMap::new(),
            faults: Faults::NONE,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            messages: 0,
            entries: 0,
        };
        for n in 0..nodes {
            let gossip = Gossip::new(config.clone(), id(n), seed ^ n as u64);
            network.nodes.insert(id(n), Node { gossip, told: BTreeMap::new(), updates: 0 });
            network.tell(n, Input::Start);
        }
        network
    }

    fn everyone_knows_everyone(&mut self) {
        for n in 0..self.nodes.len() {
            self.knows(n, 0..self.nodes.len());
        }
    }

    fn knows(&mut self, node: usize, members: impl IntoIterator<Item = usize>) {
        let members = members.into_iter().filter(|&other| other != node).map(id).collect();
        self.tell(node, Input::MembersChanged { members });
    }

    fn set(&mut self, node: usize, key: &str, value: u64) {
        let data = value.to_string().into();
        self.tell(node, Input::Set { key: key.into(), value: GossipValue { type_name: "test.Text".into(), data } });
    }

    /// A member tells another what a third one never wrote.
    fn lie(&mut self, liar: usize, to: usize, about: usize, key: &str, sequence: u64) {
        let value = match key {
            OWN_KEYS => GossipValue::of(&cluster::GossipKeys { keys: vec!["b".into()] }),
            _ => GossipValue { type_name: "test.Text".into(), data: "lie".into() },
        };
        let value = Some(value);
        let lie = GossipEntry { member: id(about), key: key.into(), sequence: Sequence::new(sequence), value };
        self.deliver(liar, to, vec![lie]);
    }

    /// As if it came from the liar.
    fn deliver(&mut self, liar: usize, to: usize, entries: Vec<GossipEntry>) {
        self.events += 1;
        let (request, digest) = (RequestId::new(self.events), StateDigest::default());
        let delta = Delta { from: id(liar), id: DeltaId::new(u64::MAX), digest, full_state_wanted: false, entries };
        self.tell(to, Input::Requested { request, from: id(liar), delta });
    }

    fn tell(&mut self, node: usize, input: Input) {
        self.handle(id(node), input);
    }

    fn schedule(&mut self, after: u64, to: MemberId, input: Input) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), (to, input));
    }

    /// Delivers after a while, twice, or never.
    fn post(&mut self, to: MemberId, input: Input) {
        let Faults { lost_percent, doubled_percent, max_latency } = self.faults;
        let copies = 1 + usize::from(self.rng.random_ratio(doubled_percent, 100));
        for _ in 0..copies {
            if !self.rng.random_ratio(lost_percent, 100) {
                let latency = self.rng.random_range(1..=max_latency);
                self.schedule(latency, to, input.clone());
            }
        }
    }

    fn handle(&mut self, at: MemberId, input: Input) {
        let mut out = Outbox::new();
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.gossip.handle(Timestamp::from_millis(self.now), input, &mut out);
        for event in out.drain_events() {
            match event {
                Event::Updated { member, key, value, .. } => {
                    node.updates += 1;
                    node.told.insert((member, key), value);
                }
                Event::Removed { member, key, .. } => drop(node.told.remove(&(member, key))),
                Event::Purged { member } => node.told.retain(|(of, _), _| *of != member),
                Event::Refused { .. } | Event::ClaimRefused { .. } => {}
                Event::SetRefused { key, reason } => panic!("{key}: {reason}"),
            }
        }
        for effect in out.drain_effects() {
            match effect {
                Effect::Send { to, delta } => {
                    self.messages += 1;
                    self.entries += delta.entries.len();
                    let wire = cluster::GossipRequest::from(delta.clone());
                    let delta = wire.try_into().expect("what is sent can be read");
                    self.events += 1;
                    let request = RequestId::new(self.events);
                    self.requests.insert(request, at);
                    self.post(to, Input::Requested { request, from: at, delta });
                }
                // A refusal is as good as a loss: the sender sees that no acknowledgement comes.
                Effect::Answer { request, answer } => {
                    if let (Some(&to), Ok(ack)) = (self.requests.get(&request), answer) {
                        self.post(to, Input::Answered { from: at, ack });
                    }
                }
                Effect::SetTimer { after, epoch } => {
                    self.schedule(after.as_millis() as u64, at, Input::Timer(epoch));
                }
            }
        }
    }

    fn run(&mut self, rounds: u64) {
        let end = self.now + rounds * ROUND;
        while let Some((&(at, _), _)) = self.queue.first_key_value()
            && at <= end
        {
            let ((at, _), (to, input)) = self.queue.pop_first().expect("just seen");
            self.now = at;
            self.handle(to, input);
        }
        self.now = end;
    }

    fn agree(&self, nodes: &BTreeSet<usize>) -> bool {
        let digests: BTreeSet<_> = nodes.iter().map(|&n| self.nodes[&id(n)].gossip.digest()).collect();
        digests.len() <= 1
    }

    fn texts(&self, node: usize, key: &str) -> BTreeMap<MemberId, String> {
        let text = |value: &GossipValue| String::from_utf8(value.data.to_vec()).expect("text");
        self.nodes[&id(node)].gossip.get(key).map(|(member, value)| (member, text(value))).collect()
    }
}

fn small_messages() -> Config {
    Config { max_entries_per_message: NonZeroUsize::new(2).expect("not zero"), ..Config::test() }
}

// proves MG-1.3 as far as values go
#[test]
fn a_write_reaches_everyone() {
    let mut network = Network::new(5, &Config::test(), 1);
    network.everyone_knows_everyone();
    network.set(0, "build", 14);
    network.run(4);
    for n in 0..5 {
        assert_eq!(network.texts(n, "build"), [(id(0), "14".to_string())].into());
    }
}

#[test]
fn news_is_everywhere_in_a_logarithmic_number_of_rounds() {
    for (nodes, most) in [(10, 3), (100, 5)] {
        for seed in 0..3 {
            let mut network = Network::new(nodes, &Config::test(), seed);
            network.everyone_knows_everyone();
            network.run(2);
            network.set(0, "a", 1);
            let everywhere = |network: &Network| (0..nodes).all(|n| !network.texts(n, "a").is_empty());
            let rounds = (1..100).find(|_| {
                network.run(1);
                everywhere(&network)
            });
            assert!(rounds.is_some_and(|rounds| rounds <= most), "{rounds:?} rounds at {nodes}");
        }
    }
}

#[test]
fn a_lost_delta_is_sent_again() {
    let mut network = Network::new(2, &Config::test(), 1);
    network.everyone_knows_everyone();
    network.run(10);
    network.faults.lost_percent = 100;
    network.set(0, "a", 1);
    network.run(20);
    assert_eq!(network.texts(1, "a"), [].into());
    network.faults = Faults::NONE;
    network.run(5);
    assert_eq!(network.texts(1, "a"), [(id(0), "1".to_string())].into());
}

#[test]
fn a_newcomer_gets_the_whole_state_in_bounded_messages_without_waiting_for_as_many_rounds() {
    let mut network = Network::new(4, &small_messages(), 1);
    for n in 0..3 {
        network.knows(n, 0..3);
        for key in 0..20 {
            network.set(n, &key.to_string(), key);
        }
    }
    network.run(20);
    network.everyone_knows_everyone();
    network.run(6);
    assert!(network.agree(&(0..4).collect()));
    assert_eq!(network.texts(3, "19").len(), 3);
}

#[test]
fn when_all_agree_only_empty_messages_are_left() {
    let mut network = Network::new(5, &Config::test(), 1);
    network.everyone_knows_everyone();
    for n in 0..5 {
        network.set(n, "a", 1);
    }
    network.run(20);
    let (messages, entries) = (network.messages, network.entries);
    network.run(100);
    assert_eq!(network.entries, entries);
    assert!(network.messages - messages <= 5 * 3 * 101, "the fan-out of each member in each round");
}

#[test]
fn news_goes_at_most_once_each_way_between_two_members_and_never_back() {
    let mut network = Network::new(5, &Config::test(), 1);
    network.everyone_knows_everyone();
    network.run(20);
    let before = network.entries;
    network.set(0, "a", 1);
    network.run(20);
    let ways = 5 * 4 - 4; // four learn it, and do not tell who told them
    assert!(network.entries - before <= ways, "{} copies", network.entries - before);
}

#[test]
fn who_forgot_a_member_and_knows_it_again_gets_its_values_back() {
    for seed in 0..20 {
        let mut network = Network::new(3, &Config::test(), seed);
        network.everyone_knows_everyone();
        network.set(2, "a", 1);
        network.run(20);
        // Nothing ever changes again, and only one of the three has lost something.
        network.knows(0, [1]);
        assert_eq!(network.texts(0, "a"), [].into());
        network.run(3);
        network.knows(0, [1, 2]);
        network.run(4);
        assert_eq!(network.texts(0, "a"), [(id(2), "1".to_string())].into(), "seed {seed}");
    }
}

// proves MG-2.4
#[test]
fn what_was_dropped_before_its_member_was_known_is_found_missing_by_the_digests() {
    let mut network = Network::new(3, &Config::test(), 1);
    network.knows(0, [1, 2]);
    network.knows(1, [0]);
    network.knows(2, [0]);
    network.set(2, "a", 1);
    network.run(20);
    // Node 1 has acknowledged what it dropped, and its owner is not there to tell it again.
    network.tell(2, Input::Stop);
    network.knows(1, [0, 2]);
    network.run(20);
    assert_eq!(network.texts(1, "a"), [(id(2), "1".to_string())].into());
}

#[test]
fn a_member_that_left_is_forgotten_although_the_others_forget_it_at_different_times() {
    let mut network = Network::new(4, &Config::test(), 1);
    network.everyone_knows_everyone();
    network.set(3, "a", 1);
    network.run(20);
    network.tell(3, Input::Stop);
    for n in 0..3 {
        network.knows(n, 0..3);
        network.run(5);
    }
    network.run(20);
    assert!(network.agree(&(0..3).collect()));
    for n in 0..3 {
        assert_eq!(network.texts(n, "a"), [].into());
    }
}

#[test]
fn what_a_liar_says_of_others_is_undone_by_those_it_lies_about() {
    let mut network = Network::new(5, &Config::test(), 1);
    network.everyone_knows_everyone();
    network.set(0, "a", 1);
    network.run(20);
    // Node 4 lies to node 1 about node 0: a little above the truth, as far as is believed, and beyond.
    for (lie, sequence) in [2, Sequence::MAX_JUMP, Sequence::MAX.get()].into_iter().enumerate() {
        for key in ["a", "invented"] {
            network.lie(4, 1, 0, key, sequence);
        }
        network.run(20);
        assert!(network.agree(&(0..5).collect()), "lie {lie}");
        for n in 0..5 {
            assert_eq!(network.texts(n, "a"), [(id(0), "1".to_string())].into(), "lie {lie} at node {n}");
            assert_eq!(network.texts(n, "invented"), [].into(), "lie {lie} at node {n}");
        }
    }
    network.set(0, "a", 2);
    network.run(20);
    for n in 0..5 {
        assert_eq!(network.texts(n, "a"), [(id(0), "2".to_string())].into());
    }
}

/// More keys than a member may have, other ones for each; and the member has as many itself as it may.
#[test]
fn different_inventions_for_each_member_are_undone_at_once() {
    let mut network = Network::new(5, &Config::test(), 2);
    network.everyone_knows_everyone();
    for key in 0..Gossip::MAX_KEYS {
        network.set(0, &key.to_string(), 1);
    }
    network.run(20);
    for round in 1..=3_u64 {
        for to in 1..4 {
            let value = Some(GossipValue { type_name: "test.Text".into(), data: "lie".into() });
            let invented = |n| GossipEntry {
                member: id(0),
                key: format!("{round} {to} {n}").as_str().into(),
                sequence: Sequence::new(round * 10_000 + n),
                value: value.clone(),
            };
            network.deliver(4, to, (1..=300).map(invented).collect());
        }
        network.run(2);
    }
    network.run(40);
    assert!(network.agree(&(0..5).collect()));
    for n in 0..5 {
        let told = network.nodes[&id(n)].told.keys().filter(|(member, _)| *member == id(0));
        assert_eq!(told.count(), Gossip::MAX_KEYS + 1, "its keys and the list of them");
        for key in 0..Gossip::MAX_KEYS {
            assert_eq!(network.texts(n, &key.to_string()), [(id(0), "1".to_string())].into());
        }
    }
}

/// While all write all the time, so that no two are ever done with telling each other the rest.
#[test]
fn what_inventions_have_displaced_comes_back_though_there_is_always_news() {
    let mut network = Network::new(5, &Config::test(), 3);
    network.everyone_knows_everyone();
    network.set(0, "a", 1);
    network.run(20);
    let value = Some(GossipValue { type_name: "test.Text".into(), data: "lie".into() });
    for to in 1..4 {
        let invented = |n: u64| GossipEntry {
            member: id(0),
            key: format!("{to} {n}").as_str().into(),
            sequence: Sequence::new(1_000 + n),
            value: value.clone(),
        };
        network.deliver(4, to, (1..=300).map(invented).collect());
        assert_eq!(network.texts(to, "a"), [].into());
    }
    for beat in 0..100 {
        for n in 0..5 {
            network.set(n, "beat", beat);
        }
        network.run(1);
    }
    for n in 0..5 {
        assert_eq!(network.texts(n, "a"), [(id(0), "1".to_string())].into(), "node {n}");
    }
}

/// The list of a member's keys and what comes after it travel in one message, which keeps no order.
#[test]
fn keys_that_come_and_go_take_the_place_of_no_other() {
    let mut network = Network::new(3, &Config::test(), 4);
    network.everyone_knows_everyone();
    network.set(0, "a", 1);
    network.run(20);
    for n in 0..600 {
        let key = format!("j{n}");
        network.set(0, &key, 1);
        network.run(2);
        network.tell(0, Input::Remove { key: key.as_str().into() });
        for peer in 1..3 {
            assert_eq!(network.texts(peer, "a").len(), 1, "node {peer} after {n} keys");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set {
        node: usize,
        key: usize,
        value: u64,
    },
    Remove {
        node: usize,
        key: usize,
    },
    /// One node's view: bit n says whether it knows node n.
    View {
        node: usize,
        members: u8,
    },
    Restart {
        node: usize,
    },
    /// Somebody tells somebody what a third one never wrote.
    Lie {
        liar: usize,
        to: usize,
        about: usize,
        key: usize,
        sequence: u64,
    },
    Wait {
        milliseconds: u64,
    },
}

fn any_step(nodes: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..nodes, 0..3_usize, 0..5_u64).prop_map(|(node, key, value)| Step::Set { node, key, value }),
        1 => (0..nodes, 0..3_usize).prop_map(|(node, key)| Step::Remove { node, key }),
        2 => (0..nodes, any::<u8>()).prop_map(|(node, members)| Step::View { node, members }),
        1 => (0..nodes).prop_map(|node| Step::Restart { node }),
        2 => (0..nodes, 0..nodes, 0..nodes, 0..KEYS.len(), prop_oneof![1..20_u64, any::<u64>()])
            .prop_map(|(liar, to, about, key, sequence)| Step::Lie { liar, to, about, key, sequence }),
        4 => (1..60_u64).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

/// The last one only in lies.
const KEYS: [&str; 4] = ["a", "b", "c", OWN_KEYS];

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    // proves MG-2.4
    #[test]
    fn after_the_last_change_everyone_holds_the_same_whatever_went_wrong_before(
        nodes in 3..=5_usize,
        steps in many(any_step(5), 1..60),
        lost_percent in 0..70_u32,
        doubled_percent in 0..40_u32,
        max_latency in 1..80_u64,
        small in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let config = if small { small_messages() } else { Config::test() };
        let mut network = Network::new(nodes, &config, seed);
        network.everyone_knows_everyone();
        network.faults = Faults { lost_percent, doubled_percent, max_latency };
        let mut last: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set { node, key, value } => {
                    network.set(node % nodes, KEYS[key], value);
                    last.insert((node % nodes, key), value);
                }
                Step::Remove { node, key } => {
                    network.tell(node % nodes, Input::Remove { key: KEYS[key].into() });
                    last.remove(&(node % nodes, key));
                }
                Step::View { node, members } => {
                    network.knows(node % nodes, (0..nodes).filter(|n| members & (1 << n) != 0));
                }
                Step::Restart { node } => {
                    let node = node % nodes;
                    network.tell(node, Input::Stop);
                    network.nodes.get_mut(&id(node)).expect("there").told.clear();
                    network.tell(node, Input::Start);
                    last.retain(|(of, _), _| *of != node);
                }
                Step::Lie { liar, to, about, key, sequence } => {
                    let (liar, to, about) = (liar % nodes, to % nodes, about % nodes);
                    // What a member says of itself is true.
                    if liar != about && liar != to {
                        let sequence = (sequence % Sequence::MAX.get()).max(1);
                        network.lie(liar, to, about, KEYS[key], sequence);
                    }
                }
                Step::Wait { milliseconds } => {
                    let end = network.now + milliseconds;
                    while network.now + ROUND <= end {
                        network.run(1);
                    }
                }
            }
        }
        network.faults = Faults::NONE;
        network.everyone_knows_everyone();
        network.run(60);

        let all: BTreeSet<usize> = (0..nodes).collect();
        prop_assert!(network.agree(&all));
        for n in all {
            for (number, key) in KEYS.iter().enumerate().take(3) {
                let written = last.iter().filter(|((_, of), _)| *of == number);
                let expected: BTreeMap<_, _> =
                    written.map(|(&(node, _), value)| (id(node), value.to_string())).collect();
                prop_assert_eq!(network.texts(n, key), expected);
            }
            let node = &network.nodes[&id(n)];
            let held = KEYS.iter().flat_map(|key| node.gossip.get(key).map(move |(member, value)| {
                ((member, GossipKey::new(key)), value.clone())
            }));
            prop_assert_eq!(&held.collect::<BTreeMap<_, _>>(), &node.told);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let story = |seed| {
        let mut network = Network::new(5, &small_messages(), seed);
        network.faults = Faults { lost_percent: 30, doubled_percent: 20, max_latency: 30 };
        network.everyone_knows_everyone();
        for n in 0..5 {
            network.set(n, "a", seed);
            network.run(3);
        }
        (network.events, network.messages, network.entries, network.nodes[&id(0)].gossip.digest())
    };
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}
