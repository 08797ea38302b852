use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::num::NonZeroUsize;
use core::time::Duration;

use gristmill_messages::cluster;
use proptest::collection::vec as many;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::request::NotDeliveredReason;

const ME: MemberId = MemberId::new(1);
const PEER: MemberId = MemberId::new(2);
const THIRD: MemberId = MemberId::new(3);
const STRANGER: MemberId = MemberId::new(9);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn text(text: &str) -> GossipValue {
    GossipValue { type_name: "test.Text".into(), data: text.to_string().into() }
}

fn entry(member: MemberId, key: &str, sequence: u64, value: impl Into<Option<&'static str>>) -> GossipEntry {
    GossipEntry { member, key: key.into(), sequence: Sequence::new(sequence), value: value.into().map(text) }
}

fn updated(member: MemberId, key: &str, sequence: u64, value: &str) -> Event {
    Event::Updated { member, key: key.into(), value: text(value), sequence: Sequence::new(sequence) }
}

/// The digest of exactly these entries.
fn digest(entries: &[GossipEntry]) -> StateDigest {
    entries.iter().fold(StateDigest::default(), |digest, entry| digest.plus(entry.stable_hash()))
}

fn delta(from: MemberId, id: u64, entries: Vec<GossipEntry>) -> Delta {
    Delta { from, id: DeltaId::new(id), digest: StateDigest::new(77), full_state_wanted: false, entries }
}

fn ack(id: DeltaId) -> DeltaAck {
    DeltaAck { id, digest: StateDigest::new(77), full_state_wanted: false }
}

struct Node {
    gossip: Gossip,
    now: u64,
    epoch: RoundEpoch,
    requests: u64,
}

impl Node {
    fn with(config: Config, members: &[MemberId]) -> Self {
        let mut node = Self { gossip: Gossip::new(config, ME, 7), now: 0, epoch: RoundEpoch(0), requests: 0 };
        node.handle(Input::Start);
        node.members(members);
        node
    }

    fn new(members: &[MemberId]) -> Self {
        Self::with(Config::lan(), members)
    }

    /// Effects without timers, and events.
    fn handle(&mut self, input: Input) -> (Vec<Effect>, Vec<Event>) {
        let mut out = Outbox::new();
        self.gossip.handle(at(self.now), input, &mut out);
        let events = out.drain_events().collect();
        let mut effects: Vec<_> = out.drain_effects().collect();
        effects.retain(|effect| match effect {
            Effect::SetTimer { epoch, .. } => {
                self.epoch = *epoch;
                false
            }
            Effect::Send { .. } | Effect::Answer { .. } => true,
        });
        (effects, events)
    }

    fn members(&mut self, members: &[MemberId]) -> Vec<Event> {
        self.handle(Input::MembersChanged { members: members.to_vec() }).1
    }

    fn set(&mut self, key: &str, value: &str) -> Vec<Event> {
        self.handle(Input::Set { key: key.into(), value: text(value) }).1
    }

    fn round(&mut self) -> Vec<Delta> {
        self.now += 300;
        let (effects, events) = self.handle(Input::Timer(self.epoch));
        assert_eq!(events, []);
        sent(effects).into_iter().map(|(_, delta)| delta).collect()
    }

    fn receive(&mut self, delta: Delta) -> (Result<DeltaAck, Refusal>, Vec<Delta>, Vec<Event>) {
        self.requests += 1;
        let (request, from) = (RequestId::new(self.requests), delta.from);
        let (mut effects, events) = self.handle(Input::Requested { request, from, delta });
        let Effect::Answer { request: answered, answer } = effects.remove(0) else { panic!("no answer") };
        assert_eq!(answered, request);
        (answer, sent(effects).into_iter().map(|(_, delta)| delta).collect(), events)
    }

    /// Events of a delta that is taken.
    fn learn(&mut self, delta: Delta) -> Vec<Event> {
        let (answer, _, events) = self.receive(delta);
        answer.expect("taken");
        events
    }

    fn answer(&mut self, from: MemberId, ack: DeltaAck) -> Vec<Delta> {
        let (effects, events) = self.handle(Input::Answered { from, ack });
        assert_eq!(events, []);
        sent(effects).into_iter().map(|(_, delta)| delta).collect()
    }

    fn texts(&self, key: &str) -> Vec<(MemberId, String)> {
        let read = |value: &GossipValue| String::from_utf8(value.data.to_vec()).expect("text");
        self.gossip.get(key).map(|(member, value)| (member, read(value))).collect()
    }
}

fn sent(effects: Vec<Effect>) -> Vec<(MemberId, Delta)> {
    let sent = |effect| match effect {
        Effect::Send { to, delta } => (to, delta),
        other => panic!("{other:?}"),
    };
    effects.into_iter().map(sent).collect()
}

fn tiny(entries: usize) -> Config {
    Config { max_entries_per_message: NonZeroUsize::new(entries).expect("not zero"), ..Config::lan() }
}

#[test]
fn a_write_is_an_event_and_goes_out_with_the_next_round() {
    let mut node = Node::new(&[PEER]);
    assert_eq!(node.set("build", "1.4"), [updated(ME, "build", 1, "1.4")]);
    let written = entry(ME, "build", 1, "1.4");
    let expected = Delta {
        from: ME,
        id: DeltaId::new(1),
        digest: digest(core::slice::from_ref(&written)),
        full_state_wanted: true,
        entries: vec![written],
    };
    assert_eq!(node.round(), [expected]);
}

// proves MG-5.3
#[test]
fn the_greatest_sequence_wins_for_each_member_and_key() {
    let mut node = Node::new(&[PEER, THIRD]);
    let events = node.learn(delta(PEER, 1, vec![entry(PEER, "a", 2, "new"), entry(THIRD, "a", 1, "third")]));
    assert_eq!(events, [updated(PEER, "a", 2, "new"), updated(THIRD, "a", 1, "third")]);
    let events = node.learn(delta(THIRD, 1, vec![entry(PEER, "a", 1, "old"), entry(PEER, "a", 2, "new")]));
    assert_eq!(events, [], "neither the old nor the same is news");
    node.set("a", "mine");
    let expected = [(ME, "mine"), (PEER, "new"), (THIRD, "third")].map(|(member, text)| (member, text.to_string()));
    assert_eq!(node.texts("a"), expected);
    assert_eq!(node.gossip.value(PEER, "a"), Some(&text("new")));
    assert_eq!(node.gossip.value(PEER, "b"), None);
}

#[test]
fn writing_what_is_written_already_is_no_news() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    assert_eq!(node.set("a", "1"), []);
    assert_eq!(node.set("a", "2"), [updated(ME, "a", 2, "2")]);
}

#[test]
fn a_removed_value_is_removed_everywhere() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    let (_, events) = node.handle(Input::Remove { key: "a".into() });
    let sequence = Sequence::new(2);
    assert_eq!(events, [Event::Removed { member: ME, key: "a".into(), sequence }]);
    assert_eq!(node.gossip.value(ME, "a"), None);
    assert_eq!(node.round()[0].entries, [entry(ME, "a", 2, None)]);
    assert_eq!(node.handle(Input::Remove { key: "a".into() }), (vec![], vec![]));

    node.learn(delta(PEER, 1, vec![entry(PEER, "b", 1, "1")]));
    let events = node.learn(delta(PEER, 2, vec![entry(PEER, "b", 2, None), entry(PEER, "c", 3, None)]));
    assert_eq!(events, [Event::Removed { member: PEER, key: "b".into(), sequence }]);
    assert_eq!(node.texts("b"), []);
}

#[test]
fn only_an_acknowledgement_moves_the_watermark() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    let first = node.round().remove(0);
    assert_eq!(node.round(), [], "it may still be on its way");
    let again = node.round().remove(0);
    assert_eq!(again.entries, first.entries, "lost, and so sent again");
    assert_ne!(again.id, first.id);
    assert_eq!(node.answer(PEER, ack(first.id)), [], "an answer to a delta that was given up moves nothing");
    node.handle(Input::Failed { to: PEER, delta: again.id });
    let third = node.round().remove(0);
    assert_eq!(third.entries, first.entries);
    node.answer(PEER, ack(third.id));
    assert_eq!(node.round()[0].entries, []);
}

#[test]
fn a_failure_of_another_delta_changes_nothing() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    let delta = node.round().remove(0);
    node.handle(Input::Failed { to: PEER, delta: DeltaId::new(99) });
    assert_eq!(node.round(), []);
    node.answer(PEER, ack(delta.id));
    assert_eq!(node.round()[0].entries, []);
}

#[test]
fn each_peer_has_its_own_watermark() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.set("a", "1");
    node.now += 300;
    let (effects, _) = node.handle(Input::Timer(node.epoch));
    for (to, delta) in sent(effects) {
        match to {
            PEER => drop(node.answer(PEER, ack(delta.id))),
            _ => drop(node.handle(Input::Failed { to, delta: delta.id })),
        }
    }
    node.now += 300;
    let (effects, _) = node.handle(Input::Timer(node.epoch));
    let entries: BTreeMap<_, _> = sent(effects).into_iter().map(|(to, delta)| (to, delta.entries.len())).collect();
    assert_eq!(entries, [(PEER, 0), (THIRD, 1)].into());
}

#[test]
fn news_is_passed_on_but_not_back_to_who_told_it() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.learn(delta(PEER, 1, vec![entry(PEER, "a", 1, "1")]));
    node.now += 300;
    let (effects, _) = node.handle(Input::Timer(node.epoch));
    let entries: BTreeMap<_, _> = sent(effects).into_iter().map(|(to, delta)| (to, delta.entries.len())).collect();
    assert_eq!(entries, [(PEER, 0), (THIRD, 1)].into());
}

#[test]
fn a_message_is_bounded_and_the_oldest_news_goes_first() {
    let mut node = Node::with(tiny(2), &[PEER]);
    for key in ["a", "b", "c", "d", "e"] {
        node.set(key, "1");
    }
    node.set("a", "2");
    let keys = |delta: &Delta| delta.entries.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    let first = node.round().remove(0);
    assert_eq!(keys(&first), ["b", "c"]);
    let second = node.answer(PEER, ack(first.id)).remove(0);
    assert_eq!(keys(&second), ["d", "e"], "the rest follows the acknowledgement at once");
    let third = node.answer(PEER, ack(second.id)).remove(0);
    assert_eq!(keys(&third), ["a"], "what was written last comes last");
    assert_eq!(node.answer(PEER, ack(third.id)), []);
}

#[test]
fn a_message_never_has_more_bytes_than_it_may() {
    let config = Config { max_bytes_per_message: Delta::MIN_BYTES, ..Config::lan() };
    assert_eq!(config.validate(), Ok(()));
    let mut node = Node::with(config.clone(), &[PEER]);
    let longest_key = "k".repeat(GossipKey::MAX_BYTES);
    let largest = GossipValue { type_name: "t".repeat(100), data: vec![1; GossipValue::MAX_BYTES - 100].into() };
    node.handle(Input::Set { key: longest_key.as_str().into(), value: largest });
    for n in 0..200 {
        let value = GossipValue { type_name: "t".into(), data: vec![1; n * n].into() };
        node.handle(Input::Set { key: format!("{n}").as_str().into(), value });
    }
    let (mut delta, mut messages, mut entries) = (node.round().pop(), 0, 0);
    while let Some(sent) = delta {
        let id = sent.id;
        entries += sent.entries.len();
        messages += 1;
        let bytes = cluster::GossipRequest::from(sent).encoded_len();
        assert!(bytes <= config.max_bytes_per_message, "{bytes} bytes");
        delta = node.answer(PEER, ack(id)).pop();
    }
    assert_eq!(entries, 201);
    assert!(messages > 10);
}

#[test]
fn a_peer_with_our_digest_is_told_nothing_that_it_knows_already() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    let all = [entry(ME, "a", 1, "1"), entry(PEER, "b", 1, "1")];
    let same = Delta { digest: digest(&all), ..delta(PEER, 1, vec![all[1].clone()]) };
    node.learn(same);
    assert_eq!(node.round()[0].entries, []);

    node.set("c", "1");
    let sent = node.now;
    node.now = sent + 1_000;
    let mut told = node.round().remove(0);
    node.set("d", "1");
    let all = [all.as_slice(), &[entry(ME, "c", 2, "1"), entry(ME, "d", 3, "1")]].concat();
    let same = DeltaAck { digest: digest(&all), ..ack(told.id) };
    node.answer(PEER, same);
    told = node.round().remove(0);
    assert_eq!(told.entries, []);
}

// proves MG-2.4
#[test]
fn digests_that_differ_without_news_make_both_sides_start_over() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    node.learn(delta(PEER, 1, vec![entry(PEER, "b", 1, "1")]));
    let sent = node.round().remove(0);
    node.answer(PEER, ack(sent.id));

    let (answer, sent, _) = node.receive(delta(PEER, 2, vec![]));
    assert!(answer.expect("taken").full_state_wanted);
    assert_eq!(sent[0].entries, [entry(ME, "a", 1, "1"), entry(PEER, "b", 1, "1")], "also what it told us itself");

    node.answer(PEER, ack(sent[0].id));
    let (answer, sent, _) = node.receive(delta(PEER, 3, vec![]));
    assert!(!answer.expect("taken").full_state_wanted, "not twice within the interval");
    assert_eq!(sent, []);
    node.now += 5_000;
    let (answer, _, _) = node.receive(delta(PEER, 4, vec![]));
    assert!(answer.expect("taken").full_state_wanted);
}

#[test]
fn digests_that_differ_while_there_is_news_mean_nothing() {
    let mut node = Node::new(&[PEER]);
    let (answer, ..) = node.receive(delta(PEER, 1, vec![entry(PEER, "b", 1, "1")]));
    assert!(!answer.expect("taken").full_state_wanted, "the sender may have more");
    node.set("a", "1");
    let (answer, ..) = node.receive(delta(PEER, 2, vec![]));
    assert!(!answer.expect("taken").full_state_wanted, "we have more");
}

#[test]
fn a_peer_that_wants_everything_gets_everything_at_once() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    let sent = node.round().remove(0);
    node.answer(PEER, ack(sent.id));
    let (_, sent, _) = node.receive(Delta { full_state_wanted: true, ..delta(PEER, 1, vec![]) });
    assert_eq!(sent[0].entries, [entry(ME, "a", 1, "1")]);
    let sent = node.answer(PEER, DeltaAck { full_state_wanted: true, ..ack(sent[0].id) });
    assert_eq!(sent[0].entries, [entry(ME, "a", 1, "1")]);
}

#[test]
fn a_peer_that_wants_everything_while_a_delta_is_on_its_way_gets_it_after_the_answer() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    let first = node.round().remove(0);
    node.answer(PEER, ack(first.id));
    node.set("b", "1");
    let second = node.round().remove(0);
    let (_, sent, _) = node.receive(Delta { full_state_wanted: true, ..delta(PEER, 1, vec![]) });
    assert_eq!(sent, [], "one at a time");
    let third = node.answer(PEER, ack(second.id)).remove(0);
    assert_eq!(third.entries, [entry(ME, "a", 1, "1"), entry(ME, "b", 2, "1")]);
}

#[test]
fn a_member_that_comes_into_view_is_asked_for_everything_until_it_answers() {
    let mut node = Node::new(&[PEER]);
    let first = node.round().remove(0);
    assert!(first.full_state_wanted);
    node.handle(Input::Failed { to: PEER, delta: first.id });
    let second = node.round().remove(0);
    assert!(second.full_state_wanted);
    node.answer(PEER, ack(second.id));
    assert!(!node.round()[0].full_state_wanted);
}

#[test]
fn two_that_ask_each_other_for_everything_at_once_come_to_rest() {
    let mut nodes = [(ME, PEER), (PEER, ME)].map(|(me, other)| {
        let mut gossip = Gossip::new(tiny(1), me, 7);
        let mut out = Outbox::new();
        gossip.handle(at(0), Input::Start, &mut out);
        // Each knows a third member that the other does not, so that their digests never meet.
        let third = MemberId::new(10 + me.bits());
        gossip.handle(at(0), Input::MembersChanged { members: vec![other, third] }, &mut out);
        for key in ["a", "b", "c"] {
            gossip.handle(at(0), Input::Set { key: key.into(), value: text("1") }, &mut out);
        }
        let entries = vec![entry(third, "a", 1, "1")];
        let input = Input::Requested { request: RequestId::new(0), from: third, delta: delta(third, 1, entries) };
        gossip.handle(at(0), input, &mut out);
        out.drain_effects().for_each(drop);
        gossip
    });
    // Both rounds start before either delta arrives; deltas then travel faster than answers.
    let (mut deltas, mut acks, mut total) = (Vec::new(), Vec::new(), 0);
    let mut out = Outbox::new();
    for gossip in &mut nodes {
        let epoch = gossip.epoch;
        gossip.handle(at(300), Input::Timer(epoch), &mut out);
        deltas.extend(out.drain_effects().filter_map(|effect| match effect {
            Effect::Send { to, delta } if to.bits() < 10 => Some((to, delta)),
            _ => None,
        }));
    }
    while let Some(input) =
        deltas.pop().map(|(to, delta): (MemberId, Delta)| (to, delta.from, Err(delta))).or_else(|| acks.pop())
    {
        let (to, from, message) = input;
        let input = match message {
            Ok(ack) => Input::Answered { from, ack },
            Err(delta) => Input::Requested { request: RequestId::new(0), from, delta },
        };
        nodes[to.bits() as usize - 1].handle(at(301), input, &mut out);
        for effect in out.drain_effects() {
            match effect {
                Effect::Send { to, delta } => deltas.push((to, delta)),
                Effect::Answer { answer, .. } => acks.push((from, to, Ok(answer.expect("known")))),
                Effect::SetTimer { .. } => {}
            }
        }
        total += 1;
        assert!(total < 100, "they never come to rest");
    }
    for node in &nodes {
        assert_eq!(node.get("c").count(), 2);
    }
}

#[test]
fn a_stranger_is_refused_before_anything_is_merged() {
    let mut node = Node::new(&[PEER]);
    let before = node.gossip.digest();
    let refusal = Refusal::UnknownSender;
    let (answer, sent, events) = node.receive(delta(STRANGER, 1, vec![entry(PEER, "a", 1, "forged")]));
    assert_eq!((answer, sent), (Err(refusal), vec![]));
    assert_eq!(events, [Event::Refused { from: STRANGER, reason: refusal }]);
    assert_eq!(node.gossip.digest(), before);
    assert_eq!(node.handle(Input::Answered { from: STRANGER, ack: ack(DeltaId::new(1)) }), (vec![], vec![]));
}

#[test]
fn a_member_that_calls_itself_another_is_refused() {
    let mut node = Node::new(&[PEER, THIRD]);
    let request = RequestId::new(5);
    let forged = delta(THIRD, 1, vec![entry(THIRD, "a", 1, "forged")]);
    let (effects, events) = node.handle(Input::Requested { request, from: PEER, delta: forged });
    let refusal = Refusal::WrongSender { claimed: THIRD };
    assert_eq!(effects, [Effect::Answer { request, answer: Err(refusal) }]);
    assert_eq!(events, [Event::Refused { from: PEER, reason: refusal }]);
    assert_eq!(node.texts("a"), []);
    assert_eq!(NotDeliveredReason::from(refusal), NotDeliveredReason::Unauthorized);
}

#[test]
fn a_member_that_claims_to_be_us_is_refused() {
    let mut node = Node::new(&[PEER]);
    assert_eq!(node.receive(delta(ME, 1, vec![])).0, Err(Refusal::UnknownSender));
    assert_eq!(node.members(&[PEER, ME]), []);
    assert_eq!(node.receive(delta(ME, 2, vec![])).0, Err(Refusal::UnknownSender), "even if we are listed as a peer");
}

#[test]
fn the_values_of_who_is_no_member_are_dropped() {
    let mut node = Node::new(&[PEER]);
    let entries = vec![entry(STRANGER, "a", 1, "1"), entry(PEER, "a", 1, "1")];
    let (answer, _, events) = node.receive(delta(PEER, 1, entries));
    assert_eq!(answer.expect("taken").digest, digest(&[entry(PEER, "a", 1, "1")]));
    assert_eq!(events, [updated(PEER, "a", 1, "1")]);
    assert_eq!(node.members(&[PEER, STRANGER]), []);
    assert_eq!(node.texts("a").len(), 1);
}

#[test]
fn the_state_of_a_departed_member_goes_and_does_not_come_back_by_hearsay() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.learn(delta(THIRD, 1, vec![entry(THIRD, "a", 1, "1"), entry(THIRD, "b", 2, "1")]));
    assert_eq!(node.members(&[PEER]), [Event::Purged { member: THIRD }]);
    assert_eq!(node.gossip.digest(), StateDigest::default());
    node.learn(delta(PEER, 1, vec![entry(THIRD, "a", 9, "zombie")]));
    assert_eq!(node.texts("a"), []);
    assert_eq!(node.round()[0].entries, []);
    assert_eq!(node.members(&[PEER]), [], "and is purged once");
}

#[test]
fn churn_leaves_nothing_behind() {
    let mut node = Node::new(&[PEER]);
    for n in 100..1_100 {
        let member = MemberId::new(n);
        node.members(&[PEER, member]);
        node.learn(delta(member, 1, vec![entry(member, "a", 1, "1")]));
        node.round();
    }
    node.members(&[PEER]);
    assert_eq!(node.gossip.digest(), StateDigest::default());
    assert_eq!(node.gossip.state.size(), (0, 0));
    assert_eq!(node.gossip.peers.ids().count(), 1);
}

#[test]
fn a_greater_number_for_our_own_value_makes_us_write_above_it() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "mine");
    let events = node.learn(delta(PEER, 1, vec![entry(ME, "a", 40, "forged")]));
    assert_eq!(events, [updated(ME, "a", 41, "mine")]);
    assert_eq!(node.round()[0].entries, [entry(ME, "a", 41, "mine")]);
    assert_eq!(node.set("b", "1"), [updated(ME, "b", 42, "1")]);
}

#[test]
fn our_own_word_that_comes_back_late_is_no_claim() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    node.set("a", "2");
    let events = node.learn(delta(PEER, 1, vec![entry(ME, "a", 1, "1"), entry(ME, "a", 2, "2")]));
    assert_eq!(events, []);
    assert_eq!(node.set("a", "3"), [updated(ME, "a", 3, "3")]);
}

#[test]
fn an_invented_value_of_ours_is_removed_everywhere() {
    let mut node = Node::new(&[PEER]);
    let events = node.learn(delta(PEER, 1, vec![entry(ME, "left", 7, "forged")]));
    assert_eq!(events, []);
    assert_eq!(node.texts("left"), []);
    assert_eq!(node.round()[0].entries, [entry(ME, "left", 8, None)]);
}

#[test]
fn the_greatest_number_there_is_cannot_make_us_overflow() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "mine");
    node.learn(delta(PEER, 1, vec![entry(ME, "a", Sequence::MAX.get(), "forged")]));
    node.learn(delta(PEER, 2, vec![entry(ME, "a", Sequence::MAX.get(), "forged")]));
    assert_eq!(node.gossip.value(ME, "a"), Some(&text("mine")));
    node.set("b", "1");
    assert_eq!(node.gossip.value(ME, "b"), Some(&text("1")));
}

// proves MG-1.2 as far as gossip goes
#[test]
fn before_the_start_and_after_the_stop_everything_is_refused_as_not_started() {
    let stopped = {
        let mut node = Node::new(&[PEER]);
        node.set("a", "1");
        node.handle(Input::Stop);
        node
    };
    let never = Node { gossip: Gossip::new(Config::lan(), ME, 7), now: 0, epoch: RoundEpoch(1), requests: 0 };
    for mut node in [stopped, never] {
        let refused = |key: &str| vec![Event::SetRefused { key: key.into(), reason: SetRefusal::NotStarted }];
        assert_eq!(node.set("b", "1"), refused("b"));
        assert_eq!(node.handle(Input::Remove { key: "a".into() }), (vec![], refused("a")));
        let reason = Refusal::NotStarted;
        assert_eq!(node.members(&[PEER]), [Event::Refused { from: ME, reason }]);
        let (answer, sent, events) = node.receive(delta(PEER, 1, vec![entry(PEER, "a", 1, "1")]));
        assert_eq!((answer, sent, events), (Err(reason), vec![], vec![Event::Refused { from: PEER, reason }]));
        assert_eq!(node.round(), []);
        assert_eq!(node.handle(Input::Answered { from: PEER, ack: ack(DeltaId::new(1)) }), (vec![], vec![]));
        assert_eq!(node.handle(Input::Failed { to: PEER, delta: DeltaId::new(1) }), (vec![], vec![]));
        assert_eq!(node.handle(Input::Stop), (vec![], vec![]));
        assert_eq!(node.gossip.digest(), StateDigest::default());
    }
}

#[test]
fn a_second_life_writes_above_the_first() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "1");
    node.handle(Input::Stop);
    node.handle(Input::Start);
    node.members(&[PEER]);
    assert_eq!(node.texts("a"), []);
    assert_eq!(node.set("a", "2"), [updated(ME, "a", 2, "2")]);
}

#[test]
fn a_timer_of_an_earlier_life_is_ignored() {
    let mut node = Node::new(&[PEER]);
    let stale = node.epoch;
    node.handle(Input::Stop);
    node.handle(Input::Start);
    node.members(&[PEER]);
    assert_eq!(node.handle(Input::Timer(stale)), (vec![], vec![]));
    assert_eq!(node.round().len(), 1);
}

#[test]
fn a_second_start_starts_no_second_timer() {
    let mut node = Node::new(&[PEER]);
    let mut out = Outbox::new();
    node.gossip.handle(at(0), Input::Start, &mut out);
    assert!(out.is_empty());
}

#[test]
fn a_round_visits_as_many_peers_as_the_fanout_says_and_all_in_turn() {
    let others: Vec<_> = (2..=10).map(MemberId::new).collect();
    let mut node = Node::new(&others);
    for _ in 0..20 {
        let mut visited = Vec::new();
        for _ in 0..3 {
            node.now += 600;
            let (effects, _) = node.handle(Input::Timer(node.epoch));
            let sent = sent(effects);
            assert_eq!(sent.len(), 3);
            visited.extend(sent.into_iter().map(|(to, _)| to));
        }
        visited.sort_unstable();
        assert_eq!(visited, others);
    }
}

#[test]
fn what_cannot_be_sent_is_not_written() {
    let mut node = Node::new(&[PEER]);
    let mut refused =
        |key: &str, value: GossipValue| match node.handle(Input::Set { key: key.into(), value }).1.remove(0) {
            Event::SetRefused { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
    assert_eq!(refused("", text("1")), SetRefusal::KeyLength { bytes: 0 });
    assert_eq!(refused(&"k".repeat(257), text("1")), SetRefusal::KeyLength { bytes: 257 });
    let large = GossipValue { type_name: "t".into(), data: vec![0; GossipValue::MAX_BYTES].into() };
    assert_eq!(refused("k", large), SetRefusal::ValueTooLarge { bytes: GossipValue::MAX_BYTES + 1 });
    assert_eq!(node.gossip.digest(), StateDigest::default());

    for n in 0..Gossip::MAX_KEYS {
        node.set(&n.to_string(), "1");
    }
    let reason = SetRefusal::TooManyKeys;
    assert_eq!(node.set("one more", "1"), [Event::SetRefused { key: "one more".into(), reason }]);
    assert_eq!(node.set("0", "2").len(), 1, "what is there can still be changed");
    assert_eq!(reason.to_string(), "256 keys at most");
}

#[test]
fn a_peer_cannot_give_a_member_more_keys_than_it_may_have() {
    let mut node = Node::new(&[PEER]);
    let entries = (1..=300).map(|n| entry(PEER, &n.to_string(), n, "1")).collect();
    node.learn(delta(PEER, 1, entries));
    assert_eq!(node.gossip.state.size().0, Gossip::MAX_KEYS);
    let entries = (1..=300).map(|n| entry(ME, &n.to_string(), n, "1")).collect();
    node.learn(delta(PEER, 2, entries));
    assert_eq!(node.gossip.state.size().0, 2 * Gossip::MAX_KEYS);
}

// proves MG-2.4
#[test]
fn consensus_is_when_all_members_have_the_same_value() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.learn(delta(PEER, 1, vec![entry(PEER, "topology", 1, "x")]));
    node.learn(delta(THIRD, 1, vec![entry(THIRD, "topology", 5, "x")]));
    assert_eq!(node.gossip.consensus("topology"), None, "we have not said ours");
    node.set("topology", "x");
    assert_eq!(node.gossip.consensus("topology"), Some(&text("x")));
    node.learn(delta(THIRD, 2, vec![entry(THIRD, "topology", 6, "y")]));
    assert_eq!(node.gossip.consensus("topology"), None);
    node.members(&[PEER]);
    assert_eq!(node.gossip.consensus("topology"), Some(&text("x")), "who is gone has no say");
}

// proves MG-5.4
#[test]
fn a_heartbeat_tells_how_many_grains_of_each_kind_a_member_runs() {
    let counts = [("greeter".to_string(), 3_i64), ("account".to_string(), 40)];
    let heartbeat =
        cluster::MemberHeartbeat { actor_statistics: Some(cluster::ActorStatistics { actor_count: counts.into() }) };
    let mut node = Node::new(&[PEER]);
    let value = GossipValue::of(&heartbeat);
    let told = GossipEntry { member: PEER, key: HEARTBEAT.into(), sequence: Sequence::new(1), value: Some(value) };
    let wire = cluster::GossipRequest::from(delta(PEER, 1, vec![told]));
    node.learn(Delta::try_from(wire).expect("valid"));
    let (member, value) = node.gossip.get(HEARTBEAT).next().expect("told");
    assert_eq!(member, PEER);
    assert_eq!(value.decode::<cluster::MemberHeartbeat>(), Some(Ok(heartbeat)));
    assert!(value.decode::<cluster::GossipState>().is_none());
}

#[test]
fn golden_digests_never_change() {
    assert_eq!(digest(&[entry(ME, "build", 1, "1.4")]).get(), 0x11a2_ee63_d3df_5e8f);
    assert_eq!(digest(&[entry(ME, "build", 1, None)]).get(), 0x5833_88cc_8fb5_e97d);
    let both = digest(&[entry(ME, "build", 1, "1.4"), entry(PEER, "build", 1, None)]);
    assert_eq!(both, digest(&[entry(PEER, "build", 1, None), entry(ME, "build", 1, "1.4")]));
}

#[test]
fn a_delta_and_its_acknowledgement_survive_the_wire() {
    let entries = vec![entry(ME, "a", 3, "1"), entry(ME, "b", 4, None), entry(PEER, "a", i64::MAX as u64, "")];
    let delta = Delta { full_state_wanted: true, ..delta(ME, 5, entries) };
    let bytes = cluster::GossipRequest::from(delta.clone()).encode_to_vec();
    let wire = cluster::GossipRequest::decode(bytes.as_slice()).expect("decodes");
    let state = wire.state.as_ref().expect("a state");
    let any = state.members[&ME.to_string()].values["a"].value.as_ref().expect("a value");
    assert_eq!(any.type_url, "type.googleapis.com/test.Text");
    assert_eq!(Delta::try_from(wire), Ok(delta));

    let ack = DeltaAck { full_state_wanted: true, ..ack(DeltaId::new(5)) };
    assert_eq!(DeltaAck::from(&cluster::GossipResponse::from(ack)), ack);
}

#[test]
fn what_is_no_delta_is_refused_with_the_reason() {
    type Spoil = fn(&mut BTreeMap<String, cluster::GossipKeyValue>);
    let spoilt = |spoil: Spoil| {
        let mut wire = cluster::GossipRequest::from(delta(ME, 5, vec![entry(ME, "a", 3, "1")]));
        let members = &mut wire.state.as_mut().expect("a state").members;
        spoil(&mut members.get_mut(&ME.to_string()).expect("mine").values);
        Delta::try_from(wire).expect_err("spoilt")
    };
    assert_eq!(spoilt(|values| values.get_mut("a").expect("there").sequence_number = 0), InvalidGossip::Sequence(0));
    assert_eq!(spoilt(|values| values.get_mut("a").expect("there").sequence_number = -1), InvalidGossip::Sequence(-1));
    assert_eq!(
        spoilt(|values| drop(values.insert(String::new(), Default::default()))),
        InvalidGossip::KeyLength { bytes: 0 }
    );
    assert_eq!(
        spoilt(|values| drop(values.insert("k".repeat(257), values["a"].clone()))),
        InvalidGossip::KeyLength { bytes: 257 }
    );
    assert_eq!(
        spoilt(|values| {
            let any = values.get_mut("a").expect("there").value.as_mut().expect("a value");
            any.value = vec![0; GossipValue::MAX_BYTES];
        }),
        InvalidGossip::ValueTooLarge { bytes: GossipValue::MAX_BYTES + "test.Text".len() }
    );
    assert_eq!(
        spoilt(|values| {
            let value = values["a"].clone();
            values.extend((0..Delta::MAX_ENTRIES).map(|n| (n.to_string(), value.clone())));
        }),
        InvalidGossip::TooManyEntries { count: Delta::MAX_ENTRIES + 1 }
    );
    let mut wire = cluster::GossipRequest::from(delta(ME, 5, vec![]));
    wire.member_id.pop();
    assert!(matches!(Delta::try_from(wire), Err(InvalidGossip::Id(_))));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    for config in [Config::lan(), Config::wan(), Config::test(), Config::default()] {
        assert_eq!(config.validate(), Ok(()));
    }
    let lan = Config::lan();
    let error = Config { interval: Duration::ZERO, ..lan.clone() }.validate();
    assert_eq!(error, Err(InvalidConfig::Zero { field: "interval" }));
    let error = Config { request_timeout: Duration::ZERO, ..lan.clone() }.validate();
    assert_eq!(error, Err(InvalidConfig::Zero { field: "request_timeout" }));
    assert_eq!(tiny(10_001).validate(), Err(InvalidConfig::TooManyEntries { entries: 10_001 }));
    let bytes = Delta::MIN_BYTES - 1;
    let error = Config { max_bytes_per_message: bytes, ..lan }.validate();
    assert_eq!(error, Err(InvalidConfig::TooFewBytes { bytes }));
}

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
