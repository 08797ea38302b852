//! Getting in, forming, letting in, and coming back.

use super::*;

#[test]
fn a_node_without_other_seeds_forms_a_cluster_at_once() {
    for seeds in [&[][..], &["host:1"][..]] {
        let mut node = Node::new();
        node.input(0, start(seeds));
        let path = [
            changed(ME, None, MemberStatus::Joining, 0),
            changed(ME, Some(MemberStatus::Joining), MemberStatus::Up, 0),
        ];
        assert_eq!(node.events, [&path[..], &[Event::Joined]].concat());
        assert_eq!(node.membership.phase(), Phase::Up);
    }
}

#[test]
fn the_first_seed_forms_when_one_round_of_the_others_has_no_cluster() {
    let mut node = Node::new();
    node.input(0, start(&["host:1", "host:2", "host:3"]));
    assert_eq!(node.asked(), ["host:2", "host:3"]);
    node.input(1, unreachable("host:2"));
    assert_eq!(node.membership.phase(), Phase::Joining);
    node.input(2, answered("host:3", JoinAnswer::NotReady));
    assert_eq!(node.events.last(), Some(&Event::Joined));
}

#[test]
fn the_first_seed_joins_when_another_has_a_cluster() {
    let mut node = Node::new();
    node.input(0, start(&["host:1", "host:2", "host:3"]));
    node.input(1, answered("host:3", JoinAnswer::Accepted { records: shared([record(C, 1, Stage::Up)]) }));
    node.input(2, unreachable("host:2"));
    assert_eq!(node.membership.phase(), Phase::Joining);
    node.ping(3, C, vec![record(C, 1, Stage::Up)]);
    assert_eq!(node.events.last(), Some(&Event::Joined));
    // C itself and those who let it in know of C.
    let (updates, digest) = (shared([record(ME, 1, Stage::Up)]), node.membership.digest());
    let answer = Message::PingAck { sequence: ProbeSequence::new(9), updates: updates.clone(), digest };
    assert_eq!(node.sent(), [(C, Message::Gossip { updates, digest }), (C, answer)]);
}

#[test]
fn a_later_seed_waits_for_each_seed_before_it() {
    for (seeds, patience) in [(["host:2", "host:1", "host:3"], 5000), (["host:2", "host:3", "host:1"], 10_000)] {
        let mut node = Node::new();
        node.input(0, start(&seeds));
        node.input(1, unreachable("host:2"));
        node.input(1, answered("host:3", JoinAnswer::NotReady));
        node.run_to(patience - 1);
        assert_eq!(node.membership.phase(), Phase::Joining);
        node.run_to(patience);
        assert_eq!(node.membership.phase(), Phase::Up);
    }
}

#[test]
fn a_joiner_is_not_up_before_a_ping_and_an_acceptance_whichever_comes_first() {
    let accepted = || answered("host:2", JoinAnswer::Accepted { records: shared([record(B, 1, Stage::Up)]) });
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    assert_eq!(
        node.effects.first(),
        Some(&Effect::Join { address: "host:2".into(), joiner: record(ME, 0, Stage::Joining) })
    );
    node.input(1, accepted());
    assert_eq!((node.membership.phase(), &node.events), (Phase::Joining, &vec![changed(B, None, MemberStatus::Up, 1)]));
    node.ping(2, B, vec![]);
    assert_eq!(node.membership.phase(), Phase::Up);

    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    node.ping(1, B, vec![record(B, 1, Stage::Up)]);
    assert_eq!(node.membership.phase(), Phase::Joining);
    assert_eq!(node.sent().len(), 1, "a joiner answers pings");
    node.input(2, accepted());
    assert_eq!(node.membership.phase(), Phase::Up);
}

#[test]
fn seeds_are_asked_again_with_growing_pauses() {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    let mut rounds = vec![0];
    while rounds.len() < 6 {
        let due = node.membership.agenda.armed().unwrap();
        node.fire(due);
        if node.asked() == ["host:2"] {
            rounds.push(due.since_origin().as_millis());
        }
    }
    for (index, pause) in rounds.windows(2).map(|pair| pair[1] - pair[0]).enumerate() {
        let full = (100 << index).min(2000);
        assert!((full / 2 - 1..=full + 1).contains(&pause), "pause {index} of {pause} ms");
    }
}

#[test]
fn a_refusal_for_good_ends_the_start_at_once() {
    let mut node = Node::new();
    node.input(0, start(&["host:2", "host:3"]));
    let failure = ContactFailure::Refused("another cluster".into());
    node.input(1, Input::JoinFailed { address: "host:2".into(), failure });
    let error = JoinError::Refused { address: "host:2".into(), reason: "another cluster".into() };
    assert_eq!((node.effects, node.events), (vec![], vec![Event::JoinFailed(error)]));
    assert_eq!(node.membership.phase(), Phase::Stopped);
}

// It asks all addresses where members were, and at one of them somebody else may be by now.
#[test]
fn who_comes_back_goes_on_when_one_refuses_it() {
    let mut node = come_back(&[1, 2], 2);
    let failure = ContactFailure::Refused("another cluster".into());
    node.input(1, Input::JoinFailed { address: "host:3".into(), failure });
    let (reason, retry_after) = ("dead".into(), Duration::from_secs(7));
    node.input(2, answered("host:3", JoinAnswer::Blocked { reason, retry_after }));
    assert_eq!(node.membership.phase(), Phase::Joining);
    node.input(3, returning(2, &[1, 2]));
    assert_eq!(node.membership.phase(), Phase::Up);
}

// Else it would be a second cluster, which the first one meets only a while later.
#[test]
fn the_first_seed_forms_no_cluster_beside_one_that_only_admits_nobody_now() {
    let mut node = Node::new();
    node.input(0, start(&["host:1", "host:2"]));
    node.input(1, answered("host:2", JoinAnswer::Undecided));
    assert_eq!(node.membership.phase(), Phase::Joining);
    node.input(2, answered("host:2", JoinAnswer::NotReady));
    assert_eq!(node.membership.phase(), Phase::Up);
}

#[test]
fn a_joiner_that_is_declared_dead_has_not_joined() {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    let known = shared([record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.input(1, answered("host:2", JoinAnswer::Accepted { records: known }));
    node.gossip(2, B, vec![dead(ME, B)]);
    node.gossip(3, C, vec![dead(ME, B)]);
    assert_eq!(node.events, [Event::JoinFailed(JoinError::NotReached)]);
}

// proves MG-3.2
#[test]
fn a_blocked_joiner_learns_why_and_until_when() {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    let retry_after = Duration::from_secs(7);
    node.input(1, answered("host:2", JoinAnswer::Blocked { reason: "dead".into(), retry_after }));
    let error = JoinError::Blocked { address: "host:2".into(), reason: "dead".into(), retry_after };
    assert_eq!(error.to_string(), "host:2 blocks this node: dead; retry after 7s");
    assert_eq!(node.events, [Event::JoinFailed(error)]);
}

#[test]
fn a_node_that_gives_up_names_the_last_answer_of_each_seed() {
    let mut node = Node::new();
    node.input(0, start(&["host:2", "host:3", "host:4"]));
    node.input(1, unreachable("host:2"));
    node.input(2, answered("host:2", JoinAnswer::NotReady));
    node.input(3, unreachable("host:3"));
    node.run_to(10_000);
    let Some(Event::JoinFailed(error)) = node.events.last() else { panic!("{:?}", node.events) };
    let text = "no seed accepted the join: host:2 (not ready), host:3 (unreachable: down), host:4 (no answer)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_joiner_that_no_member_reaches_gives_up() {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    node.input(1, answered("host:2", JoinAnswer::Accepted { records: shared([record(B, 1, Stage::Up)]) }));
    node.run_to(10_000);
    assert_eq!(node.events.last(), Some(&Event::JoinFailed(JoinError::NotReached)));
}

#[test]
fn a_discovered_address_of_which_nothing_is_known_is_contacted() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), dead(C, B)]);
    let addresses = ["host:1", "host:2", "host:3", "host:4"].map(Address::from).to_vec();
    node.input(0, Input::Discovered { addresses });
    assert_eq!(node.asked(), ["host:4"]);
    node.input(1, unreachable("host:4"));
    assert_eq!((node.membership.phase(), &node.events), (Phase::Up, &vec![]));
    node.membership.agenda.cancel(Task::Probe);
    node.run_to(30_000);
    assert_eq!(node.asked(), ["host:4", "host:3"], "and again after the contact interval, and the dead one too");
}

#[test]
fn of_too_many_discovered_addresses_those_are_asked_that_were_found_last() {
    let mut node = Node::up();
    let places = |range: core::ops::Range<u32>| range.map(|port| Address::from(alloc::format!("far:{port}"))).collect();
    node.input(0, Input::Discovered { addresses: places(0..200) });
    node.input(1, Input::Discovered { addresses: places(100..101) });
    node.input(2, Input::Discovered { addresses: places(200..400) });
    let asked = node.asked();
    assert_eq!(asked.len(), 256);
    assert!(asked.contains(&"far:399") && asked.contains(&"far:100") && !asked.contains(&"far:144"), "{asked:?}");
}

#[test]
fn a_peer_keeps_nobody_from_asking_for_longer_than_a_dead_member_is_remembered() {
    let mut node = Node::up();
    node.input(0, Input::Discovered { addresses: vec!["host:4".into()] });
    let blocked = JoinAnswer::Blocked { reason: "no".into(), retry_after: Duration::MAX };
    node.input(1, answered("host:4", blocked));
    node.run_to(240_000);
    assert_eq!(node.asked(), [""; 0]);
    node.run_to(300_000);
    assert_eq!(node.asked()[0], "host:4");
}

/// Values as long as they may be overflow nowhere.
#[test]
fn the_longest_times_can_be_added() {
    let longest = Config::LONGEST;
    let config = Config { quarantine_ttl: longest, tombstone_ttl: longest, suspicion_stretch: 1_000, ..Config::lan() };
    let mut node = Node { membership: Membership::new(config, member(ME), 1), effects: vec![], events: vec![] };
    node.input(0, start(&[]));
    node.gossip(0, B, vec![record(B, 1, Stage::Up)]);
    node.input(10, Input::Down { member: B });
    let JoinAnswer::Blocked { retry_after, .. } = node.request(20, record(B, 0, Stage::Joining)) else { panic!() };
    assert_eq!(retry_after, longest * 5 / 2 - Duration::from_millis(10));
}

// Admission

// proves MG-2.1
#[test]
fn an_accepted_joiner_is_registered_told_all_and_pinged_at_once() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    let joiner = record(C, 0, Stage::Joining);
    let answer = node.request(10, joiner.clone());
    let records = shared([record(ME, 1, Stage::Up), record(B, 1, Stage::Up), joiner.clone()]);
    assert_eq!(answer, JoinAnswer::Accepted { records });
    assert_eq!(node.events, [changed(C, None, MemberStatus::Joining, 10)]);
    let updates = shared([record(ME, 1, Stage::Up), joiner]);
    let digest = node.membership.digest();
    assert_eq!(node.sent(), [(C, Message::Ping { sequence: ProbeSequence::new(1), updates, digest })]);
    assert!(node.membership.active().iter().all(|member| member.id != C), "a joiner owns no keys");
    node.gossip(20, C, vec![record(C, 1, Stage::Up)]);
    assert_eq!(node.events, [changed(C, Some(MemberStatus::Joining), MemberStatus::Up, 20)]);
}

// proves MG-3.2
#[test]
fn a_quarantined_id_is_refused_until_it_is_forgotten_and_then_joins() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.input(0, Input::Down { member: B });
    let blocked = |seconds, reason: &str| JoinAnswer::Blocked {
        reason: reason.into(),
        retry_after: Duration::from_secs(seconds),
    };
    let ask = |node: &mut Node, seconds: u64| {
        node.run_to(seconds * 1000);
        node.request(seconds * 1000, record(B, 9, Stage::Joining))
    };
    assert_eq!(ask(&mut node, 10), blocked(50 + 120 + 60, "it was decided"));
    assert_eq!(ask(&mut node, 70), blocked(110 + 60, "it was removed"));
    assert_eq!(ask(&mut node, 200), blocked(40, "it was removed"));
    assert!(matches!(ask(&mut node, 240), JoinAnswer::Accepted { .. }));
    assert_eq!(node.status(B), Some(MemberStatus::Joining));
}

// protoactor-dotnet #1447, #2143
#[test]
fn a_new_process_at_a_known_address_joins_and_its_predecessor_is_dead() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    let restarted = Record::new(Member::new(C, address(B), []), Incarnation::default(), Stage::Joining);
    assert!(matches!(node.request(10, restarted), JoinAnswer::Accepted { .. }));
    let reason = QuarantineReason::Superseded { by: C };
    let quarantine = Quarantine { member: member(B), reason, until: at(60_010) };
    assert_eq!(node.membership.blocked(), [quarantine]);
    assert_eq!(node.status(C), Some(MemberStatus::Joining));
}

#[test]
fn nobody_joins_with_the_address_or_the_id_of_this_node() {
    let mut node = Node::up();
    let same_address = Record::new(Member::new(B, address(ME), []), Incarnation::default(), Stage::Joining);
    assert!(matches!(node.request(0, same_address), JoinAnswer::Blocked { .. }));
    assert_eq!(node.request(0, record(ME, 7, Stage::Joining)), JoinAnswer::NotReady);
    assert_eq!(node.membership.records().count(), 1);
}

#[test]
fn a_full_table_blocks_newcomers() {
    let config = Config { max_members: 2, ..Config::lan() };
    let mut node = Node { membership: Membership::new(config, member(ME), 1), effects: vec![], events: vec![] };
    node.input(0, start(&[]));
    assert!(matches!(node.request(0, record(B, 0, Stage::Joining)), JoinAnswer::Accepted { .. }));
    assert!(matches!(node.request(0, record(C, 0, Stage::Joining)), JoinAnswer::Blocked { .. }));
    node.gossip(0, C, vec![record(C, 1, Stage::Up)]);
    let (from, to, reason) = (None, MemberStatus::Up, Refusal::TableFull);
    assert_eq!(node.events, [Event::TransitionRefused { member: C, from, to, reason }]);
}

// Coming back

/// This node was member 1 of those.
fn come_back(settled: &[u128], enough: usize) -> Node {
    let mut node = Node::new();
    let through = ["host:1", "host:2", "host:3"].map(Address::from).to_vec();
    let settled = settled.iter().copied().map(MemberId::new).collect();
    node.input(0, Input::Return { through, was: MemberId::new(1), settled, enough });
    node
}

/// Says the process at the address of that number.
fn returning(was: u128, settled: &[u128]) -> Input {
    returning_at(&alloc::format!("host:{was}"), was, settled)
}

fn returning_at(address: &str, was: u128, settled: &[u128]) -> Input {
    let settled = settled.iter().copied().map(MemberId::new).collect();
    answered(address, JoinAnswer::Returning { was: MemberId::new(was), settled })
}

const FIVE: [u128; 5] = [1, 2, 3, 4, 5];

#[test]
fn the_oldest_of_those_who_were_cut_off_forms_a_cluster_when_enough_have_said_that_they_were() {
    let mut node = come_back(&FIVE, 3);
    assert_eq!(node.asked(), ["host:2", "host:3"]);
    node.input(1, returning(2, &FIVE));
    node.input(2, returning(1, &FIVE));
    node.input(3, returning(9, &FIVE));
    node.input(4, returning(3, &FIVE[..4]));
    node.input(5, answered("host:3", JoinAnswer::NotReady));
    node.input(6, unreachable("host:2"));
    assert_eq!(node.membership.phase(), Phase::Joining, "two of five, a stranger, and one with other members");
    node.input(7, returning(3, &FIVE));
    assert_eq!(node.events.last(), Some(&Event::Joined));

    let mut node = come_back(&[0, 1, 2], 2);
    node.input(1, returning(0, &[0, 1, 2]));
    node.input(2, returning(2, &[0, 1, 2]));
    assert_eq!(node.membership.phase(), Phase::Joining, "0 will");
    let mut node = come_back(&[2, 3], 1);
    node.input(1, returning(2, &[2, 3]));
    assert_eq!(node.membership.phase(), Phase::Joining, "it had not settled");
}

// Else two would do so at once, each of which has not heard the other yet.
#[test]
fn an_older_one_is_waited_for_before_another_forms_a_cluster() {
    let three = [0, 1, 2];
    let mut node = come_back(&three, 2);
    for at in [1, 2000, 3999] {
        node.input(at, returning(2, &three));
        assert_eq!(node.membership.phase(), Phase::Joining, "0 may be about to, at {at}");
    }
    node.input(4000, returning(2, &three));
    assert_eq!(node.membership.phase(), Phase::Up, "it has been silent for two rounds");

    let mut node = come_back(&three, 2);
    node.input(1, returning(2, &three));
    node.input(3000, returning(0, &three));
    node.input(7000, returning(2, &three));
    assert_eq!(node.membership.phase(), Phase::Joining, "0 will");
    node.input(7001, returning(2, &three));
    assert_eq!(node.membership.phase(), Phase::Up, "it has been silent for two rounds since");
}

#[test]
fn who_was_cut_off_says_so_and_from_whom() {
    let answer = come_back(&[3, 1, 2], 2).request(1, record(MemberId::new(9), 0, Stage::Joining));
    let settled = [1, 2, 3].map(MemberId::new).to_vec();
    assert_eq!(answer, JoinAnswer::Returning { was: MemberId::new(1), settled });
}

// Their views differ because one cut followed another.
#[test]
fn where_views_differ_the_oldest_forms_a_cluster_when_all_of_them_have_said_that_they_were_cut_off() {
    let mut node = come_back(&[1, 2, 3], 2);
    node.input(1, returning(2, &[1, 2, 3, 4]));
    assert_eq!(node.membership.phase(), Phase::Joining, "3 and 4 may go on");
    node.input(2, returning(4, &[4, 5]));
    node.input(3, returning_at("host:3", 9, &[1, 3]));
    node.input(4, returning_at("host:5", 5, &[5]));
    assert_eq!(node.membership.phase(), Phase::Joining, "3 may go on");
    node.input(5, returning_at("host:7", 7, &[6, 7]));
    node.input(6, returning_at("host:3", 3, &[1, 3]));
    assert_eq!(node.membership.phase(), Phase::Up, "who was never with them does not matter");

    let mut node = come_back(&[1, 2], 2);
    node.input(1, returning(0, &[0, 1, 2]));
    node.input(2, returning(2, &[1, 2, 3]));
    node.input(3, returning(3, &[2, 3]));
    assert_eq!(node.membership.phase(), Phase::Joining, "0 will");
    let mut node = come_back(&[1, 2], 2);
    node.input(1, returning(0, &[1, 2]));
    node.input(2, returning(2, &[0, 2]));
    assert_eq!(node.membership.phase(), Phase::Up, "0 had not settled itself");
}

#[test]
fn one_process_speaks_for_one_that_was_cut_off_and_its_latest_word_counts() {
    let mut node = come_back(&FIVE, 3);
    node.input(1, returning_at("host:2", 2, &FIVE));
    node.input(2, returning_at("host:2", 3, &FIVE));
    node.input(3, returning_at("host:3", 3, &FIVE));
    assert_eq!(node.membership.phase(), Phase::Joining, "two voices for one");
    node.input(4, returning_at("host:2", 2, &FIVE[..4]));
    node.input(5, returning_at("host:1", 4, &FIVE));
    assert_eq!(node.events.last(), Some(&Event::Joined), "two others, of two addresses");

    let mut node = come_back(&FIVE, 3);
    node.input(1, returning_at("host:2", 2, &FIVE));
    node.input(2, returning_at("host:2", 2, &FIVE[..4]));
    node.input(3, returning_at("host:3", 3, &FIVE));
    assert_eq!(node.membership.phase(), Phase::Joining, "it knew other members, as it says now");
}

#[test]
fn what_was_said_two_rounds_ago_or_beside_a_cluster_forms_none() {
    let mut node = come_back(&FIVE, 3);
    node.input(0, returning(2, &FIVE));
    node.input(4_001, returning(3, &FIVE));
    assert_eq!(node.membership.phase(), Phase::Joining);
    let mut node = come_back(&FIVE, 3);
    node.input(0, answered("host:3", JoinAnswer::Accepted { records: shared([record(C, 1, Stage::Up)]) }));
    node.input(1, returning(2, &FIVE));
    node.input(2, returning(4, &FIVE));
    assert_eq!(node.membership.phase(), Phase::Joining);
}

#[test]
fn one_that_was_cut_off_gives_up_when_nobody_answers() {
    let mut node = come_back(&FIVE, 3);
    node.run_to(10_000);
    assert!(matches!(node.events.last(), Some(Event::JoinFailed(JoinError::NoSeedAnswered { .. }))));
}

#[test]
fn the_addresses_of_a_few_dead_members_are_asked_now_and_then_and_those_of_who_left_are_not() {
    let mut records: Vec<_> = (2..=6).map(|id| dead(MemberId::new(id), B)).collect();
    records.push(record(MemberId::new(7), 1, Stage::Removed));
    let mut node = Node::knowing(&records);
    node.effects.clear();
    node.run_to(30_000);
    let asked = node.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|address| ("host:2"..="host:6").contains(address)), "{asked:?}");
}
