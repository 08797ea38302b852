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

// The death of others

const D: MemberId = MemberId::new(4);
const E: MemberId = MemberId::new(5);

/// A node that knows B to E, of whom B lies.
fn among_four() -> Node {
    let mut node = Node::knowing(&[B, C, D, E].map(|id| record(id, 1, Stage::Up)));
    node.membership.agenda.cancel(Task::Probe);
    node
}

impl Node {
    fn ask_about(&mut self, milliseconds: u64, from: MemberId, target: MemberId) {
        let (sequence, digest) = (ProbeSequence::new(77), self.membership.digest());
        let message = Message::PingRequest { sequence, target, refused: false, updates: vec![], digest };
        self.receive(milliseconds, from, message);
    }
}

fn pinged(node: &Node, member: MemberId) -> usize {
    node.sent().into_iter().filter(|(to, message)| *to == member && matches!(message, Message::Ping { .. })).count()
}

// proves MG-3.3
#[test]
fn a_death_that_one_member_claims_is_not_believed_and_the_accused_is_told_and_asked() {
    let mut node = among_four();
    node.gossip(10, B, vec![dead(C, D)]);
    assert_eq!((node.status(C), &node.events), (Some(MemberStatus::Up), &vec![]));
    let accusation = Arc::new(record(C, 1, Stage::Up).claimed(Verdict::Suspect, B));
    let told = node.sent().into_iter().find_map(|(to, message)| match message {
        Message::Ping { updates, .. } if to == C => updates.into_iter().next(),
        _ => None,
    });
    assert_eq!(told, Some(accusation), "by whom it was said, not by whom it names");
    let (sequence, digest) = (asked(&node), node.membership.digest());
    node.receive(20, C, Message::PingAck { sequence, updates: shared([record(C, 2, Stage::Up)]), digest });
    node.gossip(30, D, vec![dead(C, D)]);
    node.run_to(5000);
    assert_eq!(node.status(C), Some(MemberStatus::Up), "what was said of an earlier version is refuted");
    assert_eq!(node.membership.explain(C), None, "and nobody was suspected");
}

#[test]
fn what_is_in_dispute_is_no_reason_to_compare_tables() {
    let mut node = among_four();
    let compares =
        |node: &Node| node.sent().into_iter().filter(|(_, message)| matches!(message, Message::Compare { .. })).count();
    let digest = TableDigest::new(7);
    node.receive(10, B, Message::Gossip { updates: shared([dead(C, B)]), digest });
    assert_eq!(compares(&node), 0);
    node.receive(20, B, Message::Gossip { updates: vec![], digest });
    assert_eq!(compares(&node), 1, "but a lasting difference is");
}

#[test]
fn a_death_that_two_members_claim_is_believed_and_one_that_one_claims_twice_is_not() {
    let mut node = among_four();
    node.gossip(10, B, vec![dead(C, B)]);
    node.gossip(20, B, vec![dead(C, D)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    node.gossip(30, D, vec![dead(C, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    assert_eq!(node.membership.reason(C), Some(QuarantineReason::Declared { by: B }));
}

#[test]
fn the_second_voice_counts_only_soon_after_the_first() {
    let mut node = among_four();
    node.gossip(10, B, vec![dead(C, B)]);
    let (sequence, digest) = (asked(&node), node.membership.digest());
    node.receive(20, C, Message::PingAck { sequence, updates: vec![], digest });
    node.gossip(10_011, D, vec![dead(C, D)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
}

#[test]
fn a_death_that_one_member_claims_is_believed_by_whom_the_accused_does_not_answer() {
    let mut node = among_four();
    node.gossip(10, B, vec![dead(C, B)]);
    node.run_to(1009);
    assert_eq!(node.status(C), Some(MemberStatus::Up), "others are asked first whether they reach it");
    node.run_to(1010);
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    let mut node = among_four();
    node.gossip(10, B, vec![dead(C, B)]);
    node.input(20, Input::Refused { member: C });
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
}

#[test]
fn whom_this_node_accuses_for_what_it_has_seen_is_dead_at_the_first_claim_but_not_whom_others_accuse() {
    let mut node = among_four();
    node.membership.accuse(at(10), C, Evidence::ProbeUnanswered, &mut Outbox::new());
    node.gossip(20, B, vec![dead(C, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    let mut node = among_four();
    let accused = [B, C, D, E].iter().fold(record(C, 1, Stage::Up), |record, by| record.claimed(Verdict::Suspect, *by));
    node.gossip(10, B, vec![accused.clone()]);
    node.gossip(20, B, vec![dead(C, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Suspect));
    // Of a version that was not there when this node saw it fail.
    let mut node = among_four();
    node.membership.accuse(at(10), C, Evidence::ProbeUnanswered, &mut Outbox::new());
    node.gossip(20, D, vec![record(C, 2, Stage::Up)]);
    node.gossip(30, B, vec![record(C, 2, Stage::Up).claimed(Verdict::Dead, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
}

#[test]
fn a_liar_that_repeats_itself_costs_one_ping_in_ten_seconds() {
    let mut node = among_four();
    let mut pings = 0;
    for second in 0..20 {
        node.run_to(1000 * second);
        node.gossip(1000 * second, B, vec![dead(C, B)]);
        pings += pinged(&node, C);
        if pinged(&node, C) > 0 {
            let (sequence, digest) = (asked(&node), node.membership.digest());
            node.receive(1000 * second + 1, C, Message::PingAck { sequence, updates: vec![], digest });
        }
    }
    assert_eq!((pings, node.status(C)), (2, Some(MemberStatus::Up)));
}

#[test]
fn a_node_that_distrusts_itself_believes_two_voices_only() {
    let mut node = among_four();
    node.input(0, Input::Restrain(true));
    node.gossip(10, B, vec![dead(C, B)]);
    node.run_to(2000);
    assert_eq!(node.status(C), Some(MemberStatus::Suspect));
    node.gossip(2010, D, vec![dead(C, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
}

#[test]
fn claims_of_death_are_remembered_of_so_many_members_only() {
    let others: Vec<_> = (10..400).map(|id| record(MemberId::new(id), 1, Stage::Up)).collect();
    let mut node = Node::knowing(&[&[record(B, 1, Stage::Up), record(D, 1, Stage::Up)], &others[..]].concat());
    node.membership.agenda.cancel(Task::Probe);
    let dead: Vec<_> = others.iter().map(|record| record.claimed(Verdict::Dead, B)).collect();
    node.gossip(10, B, dead.clone());
    node.gossip(20, D, dead);
    assert_eq!(node.membership.dead().len(), 256);
}

// The death of this node

fn told_dead(node: &mut Node, milliseconds: u64, from: MemberId) {
    node.gossip(milliseconds, from, vec![dead(ME, B)]);
}

// proves MG-3.3
#[test]
fn a_node_that_one_member_calls_dead_refutes_and_asks_others_at_once() {
    let mut node = among_four();
    told_dead(&mut node, 10, B);
    assert_eq!((node.membership.phase(), node.membership.me()), (Phase::Up, &record(ME, 2, Stage::Up)));
    let refuted = Event::SuspicionRefuted { member: ME, incarnation: Incarnation::new(2), observed_at: at(10) };
    assert_eq!(node.events, [refuted]);
    let asked: Vec<_> =
        node.sent().into_iter().filter(|(_, message)| matches!(message, Message::Ping { .. })).collect();
    assert_eq!(asked.len(), 4);
    for (_, message) in asked {
        let Message::Ping { updates, .. } = message else { unreachable!() };
        assert!(updates.contains(&Arc::new(record(ME, 2, Stage::Up))), "{updates:?}");
    }
    for repeated in 2..20 {
        told_dead(&mut node, repeated * 10, B);
        assert_eq!(node.sent(), [], "nothing new to say to it");
    }
    assert_eq!(node.membership.me(), &record(ME, 2, Stage::Up));
}

// proves MG-3.3
#[test]
fn a_node_that_two_members_call_dead_stops() {
    let mut node = among_four();
    told_dead(&mut node, 10, B);
    told_dead(&mut node, 20, C);
    assert_eq!((node.membership.phase(), node.events.last()), (Phase::Stopped, Some(&Event::Evicted { by: Some(B) })));
    let mut node = among_four();
    told_dead(&mut node, 10, B);
    // Else it would have stood still.
    [Task::Probe, Task::Gossip].into_iter().for_each(|task| node.membership.agenda.cancel(task));
    told_dead(&mut node, 10_011, C);
    assert_eq!(node.membership.phase(), Phase::Up, "the one has not said it for long");
}

#[test]
fn where_no_second_member_can_say_so_one_voice_is_enough() {
    let mut node = node();
    told_dead(&mut node, 10, B);
    assert_eq!(node.membership.phase(), Phase::Up, "of two, C has not said it");
    let mut node = self::node();
    node.membership.accuse(at(10), C, Evidence::ProbeUnanswered, &mut Outbox::new());
    told_dead(&mut node, 20, B);
    assert_eq!(node.membership.phase(), Phase::Stopped, "C cannot be heard");
    let mut node = self::node();
    node.gossip(10, B, vec![record(C, 1, Stage::Up).claimed(Verdict::Suspect, B), dead(ME, B)]);
    assert_eq!(node.membership.phase(), Phase::Up, "which is not for B to say");
}

#[test]
fn who_stood_still_for_as_long_as_a_suspicion_lasts_stops_at_the_first_voice() {
    let after = |by| {
        let mut node = among_four();
        node.membership.handle(at(5), Input::Lag { by: Duration::from_secs(by) }, &mut Outbox::new());
        told_dead(&mut node, 10, B);
        node.membership.phase()
    };
    assert_eq!([1, 5].map(after), [Phase::Up, Phase::Stopped]);
}

// Back from the dead

/// A node that holds C for dead in version 1, and knows B, D and E.
fn burier() -> Node {
    let mut node =
        Node::knowing(&[record(B, 1, Stage::Up), dead(C, B), record(D, 1, Stage::Up), record(E, 1, Stage::Up)]);
    node.membership.agenda.cancel(Task::Probe);
    node
}

fn withdrawn(milliseconds: u64) -> Vec<Event> {
    let observed_at = at(milliseconds);
    vec![
        Event::VerdictWithdrawn { member: C, incarnation: Incarnation::new(2), observed_at },
        changed(C, Some(MemberStatus::Dead), MemberStatus::Up, milliseconds),
        Event::QuarantineEnded { member: member(C), observed_at },
    ]
}

#[test]
fn a_verdict_that_two_members_deny_with_a_later_version_is_withdrawn() {
    let mut node = burier();
    node.gossip(10, B, vec![record(C, 2, Stage::Up)]);
    let (from, reason) = (Some(MemberStatus::Dead), Refusal::Final);
    assert_eq!(node.events, [Event::TransitionRefused { member: C, from, to: MemberStatus::Up, reason }]);
    node.gossip(20, B, vec![record(C, 2, Stage::Up)]);
    assert_eq!((node.status(C), &node.events), (Some(MemberStatus::Dead), &vec![]));
    node.gossip(30, D, vec![record(C, 2, Stage::Up)]);
    assert_eq!(node.events, withdrawn(30));
    assert_eq!((node.membership.blocked(), node.membership.dead()), (vec![], vec![]));
    let same =
        table(record(ME, 1, Stage::Up), &[(B, 1), (C, 2), (D, 1), (E, 1)].map(|(id, n)| record(id, n, Stage::Up)));
    assert_eq!(node.membership.digest(), same.digest());
    node.gossip(40, B, vec![dead(C, B)]);
    node.gossip(50, D, vec![dead(C, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up), "the verdict was on an earlier version");
    node.run_to(70_000);
    assert_eq!(node.status(C), Some(MemberStatus::Up), "nor is it forgotten as if it were dead");
}

#[test]
fn the_condemned_speaks_for_itself_but_not_alone() {
    let mut node = burier();
    node.ping(10, C, vec![record(C, 2, Stage::Up)]);
    node.ping(20, C, vec![record(C, 3, Stage::Up)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    node.gossip(30, B, vec![record(C, 2, Stage::Up)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    assert_eq!(node.membership.records().find(|known| known.id() == C), Some(&record(C, 3, Stage::Up)));
}

// proves MG-3.1
#[test]
fn no_number_of_voices_brings_back_what_was_condemned_nor_what_is_suspected_nor_what_is_removed() {
    let mut node = burier();
    for from in [B, D, E] {
        node.gossip(10, from, vec![record(C, 1, Stage::Up)]);
        node.gossip(20, from, vec![record(C, 2, Stage::Up).claimed(Verdict::Suspect, B)]);
    }
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    node.run_to(60_000);
    assert_eq!(node.status(C), Some(MemberStatus::Removed));
    for from in [B, D, E] {
        node.gossip(60_010, from, vec![record(C, 2, Stage::Up)]);
    }
    assert_eq!(node.status(C), Some(MemberStatus::Removed));
}

// What a newcomer is told

/// A node that has been told by B, when it came, that C is dead; it knows B and D.
fn newcomer() -> Node {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(D, 1, Stage::Up)]);
    node.membership.agenda.cancel(Task::Probe);
    node.gossip(10, B, vec![dead(C, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    node
}

/// Whether it says anything of C to D, who asks for all that it knows.
fn tells_of_c(node: &mut Node, milliseconds: u64) -> bool {
    node.receive(milliseconds, D, Message::Compare { updates: vec![], buckets: vec![TableDigest::new(7)] });
    node.sent().iter().any(|(_, message)| message.contents().0.iter().any(|record| record.id() == C))
}

// Else a liar and whom it has just let in would be two voices.
#[test]
fn a_newcomer_is_no_voice_for_the_death_of_whom_it_has_never_known() {
    let mut node = newcomer();
    node.run_to(1000);
    let spreads = |(_, message): &(MemberId, Message)| message.contents().0.iter().any(|record| record.id() == C);
    assert!(!node.sent().iter().any(spreads));
    assert!(!tells_of_c(&mut node, 1010));
    node.ask_about(1020, D, C);
    assert!(!node.sent().iter().any(spreads));
    node.gossip(1030, B, vec![record(C, 2, Stage::Up).claimed(Verdict::Dead, B)]);
    node.run_to(1035);
    assert!(!node.sent().iter().any(spreads));
    assert!(!tells_of_c(&mut node, 1040), "B has said so before");
    node.gossip(1050, D, vec![dead(C, B)]);
    assert!(tells_of_c(&mut node, 1060));
}

#[test]
fn a_newcomer_gives_up_such_a_death_when_another_denies_it_or_the_dead_one_speaks() {
    let mut node = newcomer();
    node.gossip(20, D, vec![record(C, 1, Stage::Up)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    let mut node = newcomer();
    node.ping(20, C, vec![]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    assert!(matches!(node.sent().as_slice(), [.., (C, Message::PingAck { .. })]), "{:?}", node.sent());
    let mut node = newcomer();
    node.gossip(20, D, vec![dead(C, B)]);
    node.gossip(30, D, vec![record(C, 1, Stage::Up)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead), "two have said so");
}

// A decision from outside

#[test]
fn a_member_that_is_declared_dead_by_decision_is_told_at_once() {
    let mut node = among_four();
    node.input(10, Input::Down { member: C });
    let digest = node.membership.digest();
    assert_eq!(node.sent(), [(C, Message::Gossip { updates: shared([dead(C, ME)]), digest })]);
}

#[test]
fn a_decision_that_all_others_deny_is_withdrawn_too() {
    let mut node = among_four();
    node.input(10, Input::Down { member: C });
    node.gossip(20, B, vec![record(C, 2, Stage::Up)]);
    node.gossip(30, D, vec![record(C, 2, Stage::Up)]);
    assert_eq!(node.events, withdrawn(30));
}
