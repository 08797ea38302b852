//! What a member that lies can do, and what it cannot.

use core::num::NonZeroU32;

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
        for milliseconds in [30, 11_000] {
            node.run_to(milliseconds);
            node.gossip(milliseconds, B, vec![record(C, 2, stage)]);
        }
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
fn a_departure_is_believed_when_two_tell_of_it_or_the_host_refuses() {
    let mut node = among_four();
    node.gossip(10, B, vec![record(C, 2, Stage::Leaving)]);
    node.gossip(20, B, vec![record(C, 3, Stage::Removed)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    node.gossip(30, D, vec![record(C, 3, Stage::Removed)]);
    assert_eq!(node.status(C), Some(MemberStatus::Leaving), "as far as both say");
    node.gossip(40, D, vec![record(C, 3, Stage::Removed)]);
    assert_eq!(node.status(C), Some(MemberStatus::Removed));
    let mut node = self::node();
    node.gossip(10, B, vec![record(C, 2, Stage::Removed)]);
    node.input(20, Input::Refused { member: C });
    assert_eq!(node.events, [changed(C, Some(MemberStatus::Up), MemberStatus::Removed, 20)], "and nobody is accused");
}

// Else its grains would be activated elsewhere at once, while it serves.
#[test]
fn a_departure_of_which_one_tells_is_not_believed_for_silence() {
    let mut node = among_four();
    for milliseconds in (0..50).map(|second| 1000 * second) {
        node.run_to(milliseconds);
        node.gossip(milliseconds, B, vec![record(C, 2, Stage::Removed)]);
        if milliseconds == 5_000 {
            node.membership.accuse(at(5_000), C, Evidence::ProbeUnanswered, &mut Outbox::new());
        }
    }
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
}

#[test]
fn a_member_stays_where_it_is_whatever_others_say() {
    let mut node = node();
    let moved = Record::new(Member::new(C, "elsewhere:1", []), Incarnation::new(5), Stage::Up);
    node.gossip(10, B, vec![moved]);
    assert_eq!(node.events, [refused(MemberStatus::Up, Refusal::Forged)]);
    assert_eq!(node.membership.records().find(|known| known.id() == C), Some(&record(C, 1, Stage::Up)));
}

#[test]
fn a_member_stays_what_it_is_whatever_others_say() {
    let heavy = |incarnation| {
        let member = Member { weight: NonZeroU32::MAX, ..member(C) };
        Record::new(member, Incarnation::new(incarnation), Stage::Up)
    };
    let other =
        |incarnation| Record::new(Member::new(C, "host:3", ["k".into()]), Incarnation::new(incarnation), Stage::Up);
    for said in [heavy(1), heavy(2), other(1), other(2)] {
        let mut node = node();
        node.gossip(10, B, vec![said]);
        assert_eq!(node.events, [refused(MemberStatus::Up, Refusal::Forged)]);
        assert_eq!(node.membership.records().find(|known| known.id() == C), Some(&record(C, 1, Stage::Up)));
    }
    // What two have made this node believe the member itself corrects, when it hears of it.
    let mut node = Node::up();
    node.gossip(0, C, vec![heavy(1)]);
    node.gossip(10, C, vec![record(C, 2, Stage::Up)]);
    assert_eq!(node.membership.records().find(|known| known.id() == C), Some(&record(C, 2, Stage::Up)));
    let mut accused = self::node();
    accused.gossip(10, B, vec![Record::new(Member::new(ME, "other:1", []), Incarnation::new(1), Stage::Up)]);
    assert_eq!(accused.membership.me(), &record(ME, 2, Stage::Up));
}

/// The greatest step that is believed of another.
const STEP: u64 = 1 << 10;

#[test]
fn an_incarnation_far_ahead_is_believed_from_the_member_alone_which_is_asked() {
    let mut node = node();
    node.gossip(10, B, vec![record(C, 1 + STEP, Stage::Up)]);
    assert_eq!(node.events, []);
    node.membership.news = Dissemination::default();
    node.gossip(20, B, vec![record(C, 2 + 2 * STEP, Stage::Up)]);
    assert_eq!(node.events, [refused(MemberStatus::Up, Refusal::Implausible)]);
    let (to, asked) = node.sent().remove(0);
    assert!(to == C && matches!(asked, Message::Compare { .. }), "{asked:?}");
    node.gossip(30, C, vec![record(C, 2 + 2 * STEP, Stage::Up)]);
    assert_eq!((node.events.as_slice(), node.status(C)), (&[][..], Some(MemberStatus::Up)));
    node.gossip(40, C, vec![record(C, u64::MAX, Stage::Up)]);
    assert_eq!(node.events, [refused(MemberStatus::Up, Refusal::Implausible)], "not even from itself");
    node.gossip(50, B, vec![record(D, u64::MAX, Stage::Up), record(D, u64::MAX, Stage::Up)]);
    assert_eq!(node.status(D), None);
}

// Whatever others can be made to believe of a member, it writes a version later than that, and has enough of them left.
#[test]
fn a_member_outbids_any_version_that_is_said_of_it_but_climbs_only_so_far_in_an_interval() {
    let said = |incarnation| record(ME, incarnation, Stage::Up).claimed(Verdict::Suspect, B);
    let mut node = node();
    // A small lie does not keep it from outbidding a great one.
    node.gossip(10, B, vec![said(2 + STEP)]);
    assert_eq!(node.membership.me(), &record(ME, 3 + STEP, Stage::Up));
    node.gossip(20, C, vec![said(1 << 41)]);
    let high = (1 << 41) + 1;
    assert_eq!(node.membership.me(), &record(ME, high, Stage::Up));
    node.gossip(30, C, vec![said(high + (1 << 41) + 2 * STEP)]);
    assert_eq!(node.membership.me(), &record(ME, high, Stage::Up), "so far in so short a time nobody is pushed");
    node.gossip(40, C, vec![said(high + STEP)]);
    assert_eq!(node.membership.me(), &record(ME, high + STEP + 1, Stage::Up));
    node.gossip(1010, C, vec![said(high + (1 << 41))]);
    let higher = high + (1 << 41) + 1;
    assert_eq!(node.membership.me(), &record(ME, higher, Stage::Up));
    node.gossip(3000, C, vec![said(u64::MAX), said(1 << 62)]);
    assert_eq!(node.membership.me(), &record(ME, higher, Stage::Up), "nor is what is out of reach");
}

#[test]
fn what_is_refused_is_counted_and_told_only_so_often() {
    let mut node = node();
    let many: Vec<_> = (0..100).map(|_| record(C, 1 << 20, Stage::Up)).collect();
    node.gossip(10, B, many.clone());
    assert_eq!((node.events.len(), node.membership.stats().refused), (16, 100));
    node.gossip(900, B, many.clone());
    assert_eq!(node.events.len(), 0);
    node.gossip(1010, B, many);
    assert_eq!((node.events.len(), node.membership.stats().refused), (16, 300));
}

// Members of whom nothing is known

fn knows_d(node: &Node) -> Option<&Record> {
    node.membership.records().find(|known| known.id() == D)
}

// proves MG-3.3
#[test]
fn one_member_alone_makes_nobody_believe_that_there_is_another() {
    let mut node = node();
    for milliseconds in [10, 20] {
        node.gossip(milliseconds, B, vec![record(D, 1, Stage::Up)]);
        assert_eq!((&node.events, node.status(D)), (&vec![], None));
    }
    let before = node.membership.digest();
    node.run_to(900);
    let says = |(_, message): &(MemberId, Message)| message.contents().0.iter().any(|record| record.id() == D);
    assert!(!node.sent().iter().any(says), "nor does it tell others");
    assert_eq!(node.membership.digest(), before);
    node.gossip(910, C, vec![record(D, 1, Stage::Up)]);
    assert_eq!(node.events, [changed(D, None, MemberStatus::Up, 910)]);
}

#[test]
fn of_a_newcomer_only_that_is_believed_which_both_say() {
    let lies = [record(D, 3, Stage::Leaving), record(D, 3 + STEP, Stage::Up)];
    for lie in lies.map(|lie| lie.claimed(Verdict::Suspect, B)) {
        let mut node = self::node();
        node.gossip(10, B, vec![lie.clone()]);
        node.gossip(20, C, vec![record(D, 2, Stage::Up)]);
        node.gossip(30, B, vec![lie]);
        assert_eq!(knows_d(&node), Some(&record(D, 2, Stage::Up)));
    }
    let mut node = self::node();
    node.gossip(10, B, vec![record(D, 1, Stage::Joining)]);
    node.gossip(20, C, vec![record(D, 2, Stage::Up)]);
    assert_eq!(knows_d(&node), Some(&record(D, 2, Stage::Up)));
    let mut node = self::node();
    node.gossip(10, B, vec![Record::new(Member::new(D, "elsewhere:1", []), Incarnation::new(9), Stage::Up)]);
    node.gossip(20, C, vec![record(D, 2, Stage::Up)]);
    assert_eq!(knows_d(&node), None, "they speak of different ones");
    node.gossip(30, D, vec![record(D, 1, Stage::Up)]);
    assert_eq!(knows_d(&node), Some(&record(D, 1, Stage::Up)), "nothing is left of what was said before");
    let mut node = self::node();
    node.gossip(10, B, vec![dead(D, B)]);
    assert_eq!(knows_d(&node), None, "nor do the dead of one");
    node.gossip(20, C, vec![dead(D, B)]);
    assert_eq!(node.status(D), Some(MemberStatus::Dead));
}

#[test]
fn who_describes_a_newcomer_otherwise_keeps_nobody_from_hearing_of_it() {
    let mut node = among_four();
    let (newcomer, liar) = (MemberId::new(20), E);
    let lie = || vec![Record::new(Member::new(newcomer, "elsewhere:1", []), Incarnation::new(9), Stage::Up)];
    node.gossip(10, liar, lie());
    node.gossip(20, B, vec![record(newcomer, 2, Stage::Up)]);
    node.gossip(30, liar, lie());
    node.gossip(40, C, vec![record(newcomer, 2, Stage::Up)]);
    let known = node.membership.records().find(|known| known.id() == newcomer);
    assert_eq!(known, Some(&record(newcomer, 2, Stage::Up)));
    // Nor is what one has made up believed because the newcomer speaks.
    let mut node = among_four();
    node.gossip(10, liar, lie());
    node.gossip(20, B, vec![record(newcomer, 2, Stage::Up)]);
    node.gossip(30, newcomer, vec![]);
    assert_eq!(node.status(newcomer), None, "they tell of two");
}

#[test]
fn a_voice_about_a_newcomer_does_not_count_for_ever() {
    let mut node = node();
    node.gossip(10, B, vec![record(D, 1, Stage::Up)]);
    node.gossip(10_011, C, vec![record(D, 1, Stage::Up)]);
    assert_eq!(knows_d(&node), None);
}

// So two parts of a cluster that know of each other through one member find each other.
#[test]
fn a_newcomer_of_whom_one_alone_speaks_is_asked_and_believed_when_it_answers() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.gossip(10, B, vec![record(D, 1, Stage::Up), dead(E, B)]);
    node.run_to(1009);
    let asked = |node: &Node| node.sent().into_iter().filter(|(to, _)| [D, E].contains(to)).collect::<Vec<_>>();
    assert_eq!(asked(&node), []);
    node.run_to(2500);
    let asked = asked(&node);
    let [(D, Message::Ping { sequence, updates, .. })] = &*asked else { panic!("D is asked: {asked:?}") };
    assert!(updates.iter().any(|record| record.id() == ME), "it is told by whom");
    let digest = node.membership.digest();
    node.receive(2510, D, Message::PingAck { sequence: *sequence, updates: vec![], digest });
    assert_eq!(node.events, [changed(D, None, MemberStatus::Up, 2510)]);
    node.receive(2520, E, Message::PingAck { sequence: *sequence, updates: vec![], digest });
    assert_eq!(node.events, [Event::SenderUnknown { member: E }], "the dead are not met");
}

#[test]
fn newcomers_that_one_alone_invents_are_bounded_and_forgotten() {
    let mut node = node();
    let invented = |from: u128| (from..from + 500).map(|id| record(MemberId::new(id), 1, Stage::Up)).collect();
    node.gossip(10, B, invented(100));
    assert_eq!(node.membership.hearsay.newcomers().count(), 256);
    for by in 0..6 {
        let by = MemberId::new(10_000 + by);
        node.gossip(10, by, vec![record(by, 1, Stage::Up)]);
        node.gossip(10, by, invented(1000 * by.bits()));
    }
    assert_eq!(node.membership.hearsay.newcomers().count(), 1_024);
    node.gossip(20, D, vec![record(D, 1, Stage::Up)]);
    assert_eq!(node.status(D), Some(MemberStatus::Up), "who introduces itself needs no room");
    node.run_to(5_000);
    assert!(node.sent().len() < 60, "{} messages", node.sent().len());
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.gossip(10, B, (100..200).map(|id| record(MemberId::new(id), 1, Stage::Up)).collect());
    // Members that answer, so that nothing else happens.
    node.run_to(900);
    for second in 1..=13 {
        for other in [B, C] {
            node.gossip(1000 * second - 10, other, vec![]);
        }
        node.run_to(1000 * second + 900);
    }
    assert_eq!(node.membership.hearsay.newcomers().count(), 0);
}

#[test]
fn a_node_tells_many_that_it_has_joined_and_is_known_by_its_own_word() {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    let others = (2..102).map(|id| record(MemberId::new(id), 1, Stage::Up));
    node.input(5, answered("host:2", JoinAnswer::Accepted { records: shared(others) }));
    node.ping(10, B, vec![]);
    let me = record(ME, 1, Stage::Up);
    let greets =
        |(_, message): &(MemberId, Message)| matches!(message, Message::Gossip { updates, .. } if *updates[0] == me);
    assert_eq!(node.sent().iter().filter(|sent| greets(sent)).count(), 40, "four times the root");
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
    assert_eq!(node.status(C), Some(MemberStatus::Suspect));
}

// Else it would keep a dead member alive: with a later version it would end each suspicion, or begin it anew.
#[test]
fn one_that_tells_of_the_life_of_a_silent_member_keeps_nobody_from_burying_it() {
    let mut node = among_four();
    for milliseconds in (0..60).map(|second| 1000 * second) {
        node.run_to(milliseconds);
        if milliseconds == 5_000 {
            node.membership.accuse(at(5_000), C, Evidence::ProbeUnanswered, &mut Outbox::new());
        }
        let known = node.membership.records().find(|known| known.id() == C).unwrap().incarnation().get();
        let lives = record(C, known + 1, Stage::Up);
        let lie = if milliseconds % 2_000 == 0 { lives } else { lives.claimed(Verdict::Suspect, B) };
        node.gossip(milliseconds, B, vec![lie]);
    }
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    // Two are believed, and so is the member.
    for by in [D, C] {
        let mut node = among_four();
        node.membership.accuse(at(10), C, Evidence::ProbeUnanswered, &mut Outbox::new());
        node.gossip(20, B, vec![record(C, 2, Stage::Up)]);
        assert_eq!(node.status(C), Some(MemberStatus::Suspect));
        node.gossip(30, by, vec![record(C, 2, Stage::Up)]);
        assert_eq!(node.status(C), Some(MemberStatus::Up), "{by:?}");
    }
}

#[test]
fn among_three_the_third_is_enough_to_say_that_a_silent_one_lives() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.membership.accuse(at(10), C, Evidence::ProbeUnanswered, &mut Outbox::new());
    node.gossip(20, B, vec![record(C, 2, Stage::Up)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
}

#[test]
fn who_answers_is_not_buried_whatever_others_say() {
    let mut node = among_four();
    let accused = [B, D, E].iter().fold(record(C, 1, Stage::Up), |record, by| record.claimed(Verdict::Suspect, *by));
    node.gossip(10, B, vec![accused]);
    let mut second = 0;
    node.membership.agenda.schedule(Task::Probe, at(20));
    while second < 60 {
        second += 1;
        node.run_to(1000 * second);
        let digest = node.membership.digest();
        let pings: Vec<_> = node.sent();
        for (to, message) in pings {
            if let Message::Ping { sequence, .. } = message {
                node.receive(1000 * second, to, Message::PingAck { sequence, updates: vec![], digest });
            }
        }
    }
    assert_eq!(node.status(C), Some(MemberStatus::Suspect), "it has not refuted either");
}

#[test]
fn a_removal_that_others_claim_of_a_living_member_is_a_death_that_can_be_withdrawn() {
    let mut node = among_four();
    for by in [B, D] {
        node.gossip(10, by, vec![record(C, 1, Stage::Up).claimed(Verdict::Removed, B)]);
    }
    assert_eq!((node.status(C), node.membership.blocked().len()), (Some(MemberStatus::Dead), 1));
    for by in [D, E] {
        node.gossip(20, by, vec![record(C, 2, Stage::Up)]);
    }
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

// A member that holds this one for dead does not answer it either.
#[test]
fn one_that_calls_this_node_dead_and_does_not_answer_it_is_one_voice_as_long_as_another_answers() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.membership.accuse(at(10), B, Evidence::ProbeUnanswered, &mut Outbox::new());
    for milliseconds in [20, 30] {
        told_dead(&mut node, milliseconds, B);
        assert_eq!(node.membership.phase(), Phase::Up);
    }
    node.membership.accuse(at(40), C, Evidence::ProbeUnanswered, &mut Outbox::new());
    told_dead(&mut node, 50, B);
    assert_eq!(node.membership.phase(), Phase::Stopped);
}

#[test]
fn who_called_this_node_dead_and_deals_with_it_again_has_taken_that_back() {
    let mut node = among_four();
    told_dead(&mut node, 10, B);
    node.ping(20, B, vec![]);
    told_dead(&mut node, 30, C);
    assert_eq!(node.membership.phase(), Phase::Up);
    told_dead(&mut node, 40, B);
    assert_eq!(node.membership.phase(), Phase::Stopped);
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
    let known = node.membership.records().find(|known| known.id() == C);
    assert_eq!(known, Some(&record(C, 2, Stage::Up)), "in the version that both say");
}

#[test]
fn who_says_an_impossible_version_of_the_condemned_keeps_it_neither_dead_nor_alive_in_that_one() {
    for far in [2 + STEP, 1 << 50] {
        for order in [[B, D], [D, B]] {
            let mut node = burier();
            for (at, from) in (10..).zip(order) {
                let version = if from == B { far } else { 2 };
                node.gossip(at, from, vec![record(C, version, Stage::Up)]);
            }
            assert_eq!(node.events, withdrawn(11));
        }
    }
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

// The end of a quarantine

#[test]
fn one_member_ends_no_quarantine_before_half_of_it_is_over() {
    let removed = || vec![dead(C, D).claimed(Verdict::Removed, B)];
    let mut node = among_four();
    for by in [B, D] {
        node.gossip(10, by, vec![dead(C, D)]);
    }
    assert_eq!(node.status(C), Some(MemberStatus::Dead));
    node.gossip(20, B, removed());
    node.gossip(30_000, B, removed());
    assert_eq!((node.status(C), node.membership.blocked().len()), (Some(MemberStatus::Dead), 1));
    node.gossip(30_010, B, removed());
    assert_eq!(node.status(C), Some(MemberStatus::Removed), "the clocks of others are not the same");
}

#[test]
fn who_denies_a_verdict_says_nothing_else_of_the_condemned() {
    let mut node = among_four();
    node.input(10, Input::Down { member: C });
    node.gossip(20, B, vec![record(C, 2, Stage::Leaving)]);
    node.gossip(30, D, vec![record(C, 2, Stage::Up)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
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

// proves MG-3.3, FT-8
#[test]
fn two_members_whose_handshakes_refuse_a_node_as_dead_stop_it_and_one_does_not() {
    let mut node = node();
    for milliseconds in [10, 20] {
        node.input(milliseconds, Input::Blocked { by: B });
        assert_eq!((node.membership.phase(), &node.events), (Phase::Up, &vec![]), "however often");
    }
    node.input(30, Input::Blocked { by: MemberId::new(99) });
    assert_eq!(node.membership.phase(), Phase::Up, "a stranger has no voice");
    node.input(40, Input::Blocked { by: C });
    let evicted = [changed(ME, Some(MemberStatus::Up), MemberStatus::Dead, 40), Event::Evicted { by: Some(C) }];
    assert_eq!(node.events, evicted);
}

#[test]
fn a_node_that_one_member_refuses_as_dead_asks_others_what_they_hold_it_for() {
    let mut node = node();
    node.input(10, Input::Blocked { by: B });
    let asked = |node: &Node, to| {
        node.sent().into_iter().any(|(whom, message)| whom == to && matches!(message, Message::Ping { .. }))
    };
    assert!(asked(&node, C));
}
