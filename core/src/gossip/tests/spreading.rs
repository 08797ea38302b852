//! What goes out, when, and how much of it.

use super::*;

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
fn a_peer_that_never_answers_is_still_visited_in_its_turn() {
    let mut node = Node::new(&[PEER, THIRD]);
    for _ in 0..50 {
        node.now += 300;
        let (effects, _) = node.handle(Input::Timer(node.epoch));
        let sent = sent(effects);
        assert!(sent.iter().any(|(to, _)| *to == PEER));
        for (to, delta) in sent {
            node.handle(if to == PEER {
                Input::Failed { to, delta: delta.id }
            } else {
                Input::Answered { from: to, ack: ack(delta.id) }
            });
        }
    }
}

#[test]
fn what_is_urgent_overtakes_when_not_everything_fits() {
    let mut node = Node::with(tiny(4), &[PEER]);
    for n in 0..9 {
        node.set(&n.to_string(), "1");
    }
    node.set(TOPOLOGY, "new");
    let keys = |delta: &Delta| delta.entries.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    let first = node.round().remove(0);
    assert_eq!(keys(&first), ["topology", "0", "1", "2"]);
    let second = node.answer(PEER, ack(first.id)).remove(0);
    assert_eq!(keys(&second), ["3", "4", "5", "6"], "it does not overtake twice");
    node.set(HEARTBEAT, "1");
    let third = node.answer(PEER, ack(second.id)).remove(0);
    assert_eq!(keys(&third), ["7", "8", "topology", "heartbeat"], "all that is left fits");
    assert_eq!(node.answer(PEER, ack(third.id)), []);
}

#[test]
fn what_overtook_and_was_lost_overtakes_again() {
    let mut node = Node::with(tiny(4), &[PEER]);
    for n in 0..9 {
        node.set(&n.to_string(), "1");
    }
    node.set(TOPOLOGY, "new");
    let first = node.round().remove(0);
    node.now += 1_000;
    assert_eq!(node.round().remove(0).entries, first.entries);
}

#[test]
fn a_refreshed_value_is_written_again_and_what_is_not_there_is_not() {
    let mut node = Node::new(&[PEER]);
    assert_eq!(node.handle(Input::Refresh { key: "a".into() }), (vec![], vec![]));
    node.set("a", "1");
    assert_eq!(node.handle(Input::Refresh { key: "a".into() }), (vec![], vec![updated(ME, "a", 2, "1")]));
    node.handle(Input::Remove { key: "a".into() });
    assert_eq!(node.handle(Input::Refresh { key: "a".into() }), (vec![], vec![]));
}

#[test]
fn what_overtook_overtakes_again_for_a_peer_that_starts_over() {
    let mut node = Node::with(tiny(4), &[PEER]);
    for n in 0..9 {
        node.set(&n.to_string(), "1");
    }
    node.set(TOPOLOGY, "new");
    let mut sent = node.round().remove(0);
    for _ in 0..2 {
        sent = node.answer(PEER, ack(sent.id)).remove(0);
    }
    node.answer(PEER, ack(sent.id));
    let (_, again, _) = node.receive(Delta { full_state_wanted: true, ..delta(PEER, 1, vec![]) });
    assert_eq!(again[0].entries[0].key.as_str(), TOPOLOGY);
}
