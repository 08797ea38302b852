//! What was lost for good is found missing, and told again.

use super::*;

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
