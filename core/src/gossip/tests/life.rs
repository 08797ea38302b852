//! Start, stop, and what is left of an earlier life.

use super::*;

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
