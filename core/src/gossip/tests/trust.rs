//! What a peer may say, and what becomes of the rest.

use super::*;

fn claim_refused(member: MemberId, key: &str, reason: ClaimRefusal) -> Event {
    Event::ClaimRefused { from: PEER, member, key: key.into(), reason }
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
    node.learn(delta(THIRD, 2, vec![entry(THIRD, "b", 3, None)]));
    let (key, sequence) = ("a".into(), Sequence::new(1));
    let gone = [Event::Removed { member: THIRD, key, sequence }, Event::Purged { member: THIRD }];
    assert_eq!(node.members(&[PEER]), gone, "what was removed before is not removed again");
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
    assert_eq!(events, [claim_refused(ME, "a", ClaimRefusal::Ours), updated(ME, "a", 41, "mine")]);
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
fn keys_that_are_invented_for_us_are_answered_by_a_list_of_ours() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "mine");
    node.set("b", "mine");
    node.handle(Input::Remove { key: "b".into() });
    let invented = vec![entry(ME, "left", 7, "forged"), entry(ME, "right", 9, "forged")];
    let events = node.learn(delta(PEER, 1, invented.clone()));
    let refused = |key| claim_refused(ME, key, ClaimRefusal::Ours);
    assert_eq!(events, [refused("left"), refused("right"), told(own_keys(ME, 10, &["a"]))]);
    assert_eq!(node.texts("left"), []);
    assert_eq!(node.learn(delta(PEER, 2, invented)), [], "that is on its way to them");
    assert_eq!(node.round()[0].entries, [entry(ME, "a", 1, "mine"), own_keys(ME, 10, &["a"])]);

    node.set("c", "mine");
    let forged = own_keys(ME, 20, &["left"]);
    let events = node.learn(delta(PEER, 3, vec![forged]));
    assert_eq!(
        events,
        [refused(OWN_KEYS), told(own_keys(ME, 21, &["a", "c"]))],
        "nor does anybody else make such a list"
    );
}

#[test]
fn what_is_not_on_the_list_of_its_member_goes_and_does_not_come_back() {
    let mut node = Node::new(&[PEER, THIRD]);
    let invented = [entry(THIRD, "left", 7, "forged"), entry(THIRD, "right", 9, None), entry(THIRD, "up", 30, "new")];
    node.learn(delta(PEER, 1, invented.to_vec()));
    node.learn(delta(THIRD, 1, vec![entry(THIRD, "a", 1, "1")]));
    let list = own_keys(THIRD, 20, &["a"]);
    let events = node.learn(delta(PEER, 2, vec![list.clone()]));
    let gone = told(GossipEntry { value: None, ..invented[0].clone() });
    assert_eq!(events, [gone, told(list.clone())]);
    assert_eq!(node.learn(delta(PEER, 3, invented.to_vec())), []);
    let held = [entry(THIRD, "a", 1, "1"), list, entry(THIRD, "up", 30, "new")];
    assert_eq!(node.gossip.digest(), digest(&held), "what carries a greater number is newer than the list");
}

#[test]
fn what_is_no_list_of_keys_changes_nothing() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.learn(delta(THIRD, 1, vec![entry(THIRD, "a", 1, "1")]));
    let many: Vec<_> = (0..=Gossip::MAX_KEYS).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let none = [entry(THIRD, OWN_KEYS, 2, "1"), entry(THIRD, OWN_KEYS, 3, None), own_keys(THIRD, 4, &many)];
    for none in none {
        node.learn(delta(PEER, none.sequence.get(), vec![none]));
        assert_eq!(node.texts("a").len(), 1);
    }
}

/// Each step is believed of who has told nothing itself; all together are more than it would follow.
#[test]
fn no_peer_takes_a_member_further_than_it_follows() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.learn(delta(THIRD, 1, vec![entry(THIRD, "a", 5, "1")]));
    let believed = 5 + Sequence::MAX_JUMP;
    node.learn(delta(PEER, 1, vec![entry(THIRD, "a", believed, "forged")]));
    let further = Sequence::new(believed + 1);
    let events = node.learn(delta(PEER, 2, vec![entry(THIRD, "a", further.get(), "forged")]));
    assert_eq!(events, [claim_refused(THIRD, "a", ClaimRefusal::Jump { sequence: further })]);
    node.learn(delta(THIRD, 2, vec![entry(THIRD, "a", believed + 1, "1")]));
    assert_eq!(node.texts("a"), [(THIRD, "1".to_string())]);
}

#[test]
fn our_numbers_cannot_be_used_up_by_another() {
    let mut node = Node::new(&[PEER]);
    node.set("a", "mine");
    let highest = Sequence::MAX;
    let events = node.learn(delta(PEER, 1, vec![entry(ME, "a", highest.get(), "forged")]));
    assert_eq!(events, [claim_refused(ME, "a", ClaimRefusal::Jump { sequence: highest })]);
    assert_eq!(node.set("b", "1"), [updated(ME, "b", 2, "1")]);

    let believed = 2 + Sequence::MAX_JUMP;
    let events = node.learn(delta(PEER, 2, vec![entry(ME, "a", believed, "forged")]));
    assert_eq!(events, [claim_refused(ME, "a", ClaimRefusal::Ours), updated(ME, "a", believed + 1, "mine")]);
}

// proves MG-3.1 as far as gossip goes
#[test]
fn a_relayed_number_is_believed_up_to_a_bound_and_the_members_own_word_always() {
    let mut node = Node::new(&[PEER, THIRD]);
    let jump = Sequence::MAX_JUMP;
    assert_eq!(node.learn(delta(PEER, 1, vec![entry(THIRD, "a", jump, "1")])), [updated(THIRD, "a", jump, "1")]);
    let events = node.learn(delta(PEER, 2, vec![entry(THIRD, "b", 2 * jump + 1, "forged"), entry(PEER, "b", 1, "1")]));
    let refused = claim_refused(THIRD, "b", ClaimRefusal::Jump { sequence: Sequence::new(2 * jump + 1) });
    assert_eq!(events, [refused, updated(PEER, "b", 1, "1")], "the rest is taken");
    let own = delta(THIRD, 1, vec![entry(THIRD, "b", 3 * jump, "2")]);
    assert_eq!(node.learn(own), [updated(THIRD, "b", 3 * jump, "2")]);
    let events = node.learn(delta(PEER, 3, vec![entry(THIRD, "a", 3 * jump + 9, "3")]));
    assert_eq!(events, [updated(THIRD, "a", 3 * jump + 9, "3")], "the bound goes with what is known");
}

#[test]
fn nobody_can_give_a_member_more_keys_than_it_may_have() {
    let mut node = Node::new(&[PEER, THIRD]);
    let invented = |member, count| (1..=count).map(|n| entry(member, &n.to_string(), n, "1")).collect();
    node.learn(delta(PEER, 1, invented(THIRD, 600)));
    assert_eq!(node.gossip.state.size().0, Gossip::MAX_KEYS);
    assert_eq!((node.texts("344").len(), node.texts("345").len()), (0, 1), "those that were written last");
    node.learn(delta(PEER, 2, invented(PEER, 600)));
    assert_eq!(node.gossip.state.size().0, 2 * Gossip::MAX_KEYS);
    node.learn(delta(PEER, 3, invented(ME, 600)));
    assert_eq!(node.gossip.state.size().0, 2 * Gossip::MAX_KEYS + 1, "one list answers them all");
}

#[test]
fn the_keys_of_a_member_cannot_be_used_up_by_another() {
    let mut node = Node::new(&[PEER, THIRD]);
    let invented = |member| (1..=300).map(|n| entry(member, &format!("invented {n}"), n, "1")).collect();
    node.learn(delta(PEER, 1, invented(THIRD)));
    let keys: Vec<_> = (1..=256).map(|n| n.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let mut own: Vec<_> = (1..).zip(&keys).map(|(n, key)| entry(THIRD, key, n, "1")).collect();
    own.push(own_keys(THIRD, 301, &keys));
    node.learn(delta(THIRD, 1, own.clone()));
    node.learn(delta(THIRD, 2, own.clone()));
    assert_eq!(node.gossip.digest(), digest(&own), "at the latest when they are told once more");

    node.learn(delta(PEER, 2, invented(ME)));
    assert_eq!(node.set("invented 1", "mine").len(), 1, "a key that was invented before it was used is ours now");
    for n in 1..Gossip::MAX_KEYS {
        assert_eq!(node.set(&n.to_string(), "1").len(), 1, "key {n}");
    }
    let reason = SetRefusal::TooManyKeys;
    assert_eq!(node.set("one more", "1"), [Event::SetRefused { key: "one more".into(), reason }]);
    let refused = Event::SetRefused { key: "invented 2".into(), reason };
    assert_eq!(node.set("invented 2", "1"), [refused], "nor one that was invented");
}
