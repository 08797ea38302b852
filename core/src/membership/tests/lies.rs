//! What a member that lies can do, and what it cannot.

use super::*;

/// A node that knows B and C, of whom B lies about C.
fn node() -> Node {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.membership.agenda.cancel(Task::Probe);
    node
}

fn refused(to: MemberStatus, reason: Refusal) -> Event {
    Event::TransitionRefused { member: C, from: Some(MemberStatus::Up), to, reason }
}

fn asked(node: &Node) -> ProbeSequence {
    let ping = |(to, message)| match message {
        Message::Ping { sequence, .. } if to == C => Some(sequence),
        _ => None,
    };
    node.sent().into_iter().find_map(ping).unwrap()
}

#[test]
fn a_departure_that_the_member_denies_is_not_believed() {
    for stage in [Stage::Leaving, Stage::Removed] {
        let mut node = node();
        node.gossip(10, B, vec![record(C, 2, stage).claimed(Verdict::Suspect, B)]);
        assert_eq!((node.status(C), &node.events), (Some(MemberStatus::Up), &vec![]));
        let (sequence, digest) = (asked(&node), node.membership.digest());
        node.receive(20, C, Message::PingAck { sequence, updates: vec![], digest });
        assert_eq!(node.events, [refused(stage.into(), Refusal::Forged)]);
        node.run_to(2000);
        assert_eq!(node.status(C), Some(MemberStatus::Up));
    }
}

#[test]
fn a_departure_is_believed_from_the_member_itself_and_when_it_confirms_it() {
    let mut node = node();
    node.gossip(10, C, vec![record(C, 2, Stage::Leaving)]);
    assert_eq!(node.status(C), Some(MemberStatus::Leaving));
    let mut node = self::node();
    node.gossip(10, B, vec![record(C, 2, Stage::Leaving)]);
    let (sequence, digest) = (asked(&node), node.membership.digest());
    let updates = shared([record(C, 2, Stage::Leaving)]);
    node.receive(20, C, Message::PingAck { sequence, updates, digest });
    assert_eq!(node.events, [changed(C, Some(MemberStatus::Up), MemberStatus::Leaving, 20)]);
}

#[test]
fn a_departure_is_believed_when_the_member_is_not_there_to_deny_it() {
    let mut node = node();
    node.gossip(10, B, vec![record(C, 2, Stage::Removed)]);
    node.run_to(509);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    node.run_to(510);
    assert_eq!(node.status(C), Some(MemberStatus::Removed));
    let mut node = self::node();
    node.gossip(10, B, vec![record(C, 2, Stage::Removed)]);
    node.input(20, Input::Refused { member: C });
    assert_eq!(node.events, [changed(C, Some(MemberStatus::Up), MemberStatus::Removed, 20)], "and nobody is accused");
}

#[test]
fn a_member_stays_where_it_is_whatever_others_say() {
    let mut node = node();
    let moved = Record::new(Member::new(C, "elsewhere:1", []), Incarnation::new(5), Stage::Up);
    node.gossip(10, B, vec![moved]);
    assert_eq!(node.events, [refused(MemberStatus::Up, Refusal::Forged)]);
    assert_eq!(node.membership.records().find(|known| known.id() == C), Some(&record(C, 1, Stage::Up)));
}

// An incarnation at the end of its range could never be refuted.
#[test]
fn an_incarnation_far_ahead_is_no_step_of_a_member() {
    for incarnation in [2 + (1 << 20), u64::MAX] {
        let mut node = node();
        node.gossip(10, B, vec![record(C, incarnation, Stage::Up), record(ME, incarnation, Stage::Up)]);
        assert_eq!(node.events[0], refused(MemberStatus::Up, Refusal::Implausible));
        assert_eq!(node.membership.me(), &record(ME, 1, Stage::Up));
    }
    let mut node = node();
    node.gossip(10, B, vec![record(MemberId::new(9), u64::MAX, Stage::Up)]);
    assert_eq!(node.status(MemberId::new(9)), None);
}

#[test]
fn what_is_said_in_the_name_of_this_node_is_overwritten() {
    let mut node = node();
    node.gossip(10, B, vec![record(ME, 700, Stage::Up)]);
    assert_eq!(node.membership.me(), &record(ME, 701, Stage::Up));
    node.gossip(20, B, vec![record(ME, 800, Stage::Removed)]);
    assert_eq!(node.membership.phase(), Phase::Up);
}
