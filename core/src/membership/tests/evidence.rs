//! Probes through others, confirmations, refused connections, and a node that does not trust itself.

use super::*;

#[test]
fn who_introduces_itself_at_the_address_of_an_older_member_replaces_it_at_once() {
    let [old, new] = [30, 31].map(MemberId::new);
    let at = |id| Record::new(Member::new(id, "host:30", []), Incarnation::new(1), Stage::Up);
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), at(old)]);
    node.gossip(10, B, vec![at(new)]);
    assert_eq!(node.status(old), Some(MemberStatus::Up), "others do not say it for the new one");
    node.gossip(20, new, vec![at(new)]);
    assert_eq!((node.status(old), node.status(new)), (Some(MemberStatus::Dead), Some(MemberStatus::Up)));
    assert_eq!(node.membership.reason(old), Some(QuarantineReason::Superseded { by: new }));
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), at(new)]);
    node.gossip(10, old, vec![at(old)]);
    assert_eq!(node.status(new), Some(MemberStatus::Up), "not by what the older one said before it ended");
}

const D: MemberId = MemberId::new(4);

fn up(id: MemberId) -> Record {
    record(id, 1, Stage::Up)
}

/// A node that knows these as up.
fn among(others: &[MemberId]) -> Node {
    Node::knowing(&others.iter().map(|id| up(*id)).collect::<Vec<_>>())
}

impl Node {
    fn refused(&mut self, milliseconds: u64, member: MemberId) {
        self.input(milliseconds, Input::Refused { member });
    }

    /// Lets a probe of this member begin now, the time being one at which nothing else is due.
    fn probe_of(&mut self, milliseconds: u64, member: MemberId) -> ProbeSequence {
        self.run_to(milliseconds - 1);
        self.membership.agenda.cancel(Task::Probe);
        let mut out = Outbox::new();
        self.membership.probe_now(at(milliseconds), member, &mut out);
        // Any input sets the timer.
        self.input(milliseconds, Input::Restrain(false));
        self.effects.extend(out.drain_effects());
        let ping = self.sent().into_iter().find_map(|(to, message)| match message {
            Message::Ping { sequence, .. } if to == member => Some(sequence),
            _ => None,
        });
        ping.unwrap()
    }

    fn requests(&self) -> Vec<(MemberId, ProbeSequence, MemberId, bool)> {
        let request = |(to, message)| match message {
            Message::PingRequest { sequence, target, refused, .. } => Some((to, sequence, target, refused)),
            _ => None,
        };
        self.sent().into_iter().filter_map(request).collect()
    }

    fn reports(&self) -> Vec<(MemberId, ProbeSequence, MemberId, PingOutcome)> {
        let report = |(to, message)| match message {
            Message::PingReport { sequence, target, outcome, .. } => Some((to, sequence, target, outcome)),
            _ => None,
        };
        self.sent().into_iter().filter_map(report).collect()
    }

    fn report(&mut self, milliseconds: u64, from: MemberId, about: (ProbeSequence, MemberId), outcome: PingOutcome) {
        let (digest, (sequence, target)) = (self.membership.digest(), about);
        self.receive(milliseconds, from, Message::PingReport { sequence, target, outcome, updates: vec![], digest });
    }

    fn ask(&mut self, milliseconds: u64, from: MemberId, target: MemberId, refused: bool) {
        let (sequence, digest) = (ProbeSequence::new(77), self.membership.digest());
        self.receive(milliseconds, from, Message::PingRequest { sequence, target, refused, updates: vec![], digest });
    }

    fn ack(&mut self, milliseconds: u64, from: MemberId, sequence: ProbeSequence) {
        let digest = self.membership.digest();
        self.receive(milliseconds, from, Message::PingAck { sequence, updates: vec![], digest });
    }

    fn reason(&self, id: MemberId) -> Option<QuarantineReason> {
        self.membership.blocked().into_iter().find(|entry| entry.member.id == id).map(|entry| entry.reason)
    }

    fn suspicion_ends(&self, id: MemberId) -> Option<u128> {
        self.membership.agenda.deadline(Task::Suspicion(id)).map(|at| at.since_origin().as_millis())
    }
}

// A deadline in the past looked as if this process had not run since: it distrusted itself, gave all others the time
// that it had not missed, and stopped at one voice.
#[test]
fn a_confirmation_that_comes_late_ends_a_suspicion_at_once_and_is_no_stall_of_this_node() {
    let others: Vec<_> = (2..=10).map(MemberId::new).collect();
    let mut node = among(&others);
    node.membership.agenda.cancel(Task::Probe);
    node.gossip(0, C, vec![suspect(B, 1, C)]);
    node.run_to(10_999);
    node.gossip(11_000, C, vec![suspect(D, 1, C)]);
    let ends = node.suspicion_ends(D);
    node.run_to(11_999);
    let claims = others[1..5].iter().map(|by| suspect(B, 1, *by)).collect();
    node.gossip(12_000, MemberId::new(9), claims);
    assert_eq!(node.suspicion_ends(B), Some(12_000));
    node.gossip(12_000, MemberId::new(9), vec![dead(ME, MemberId::new(9))]);
    assert_eq!(node.membership.phase(), Phase::Up, "one voice, to a node that has run all the time");
    node.run_to(12_000);
    assert_eq!(node.status(B), Some(MemberStatus::Dead));
    assert_eq!((node.membership.stats().health, node.suspicion_ends(D)), (1, ends), "1 because it had to refute");
}

#[test]
fn who_hears_nothing_but_that_nobody_listens_any_more_is_not_isolated() {
    let mut node = among(&[B, C]);
    while !node.membership.isolated {
        node.fire(node.membership.agenda.armed().unwrap());
    }
    let begun = node.membership.last_heard.since_origin().as_secs() + 10;
    for second in begun..begun + 40 {
        node.run_to(1000 * second);
        for member in [B, C] {
            node.refused(1000 * second, member);
        }
    }
    assert_eq!([B, C].map(|member| node.status(member)), [Some(MemberStatus::Dead); 2]);
}

// SWIM section 3.1

#[test]
fn a_member_that_does_not_answer_is_tried_through_others_before_it_is_suspected() {
    let mut node = among(&[B, C, D]);
    let sequence = node.probe_of(100, B);
    node.run_to(600);
    let mut asked = node.requests();
    asked.sort_unstable();
    assert_eq!(asked, [(C, sequence, B, false), (D, sequence, B, false)]);
    node.report(700, C, (sequence, B), PingOutcome::Silent);
    node.report(700, D, (sequence, B), PingOutcome::Reached);
    node.run_to(1100);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
    assert_eq!((node.membership.stats().reached_by_others, node.membership.stats().failed), (1, 0));
}

#[test]
fn whom_nobody_reaches_is_suspected_at_the_end_of_the_interval() {
    let mut node = among(&[B, C, D]);
    let sequence = node.probe_of(100, B);
    node.run_to(1099);
    node.report(1099, C, (sequence, B), PingOutcome::Silent);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
    node.run_to(1100);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
}

#[test]
fn a_late_answer_counts_until_the_end_of_the_interval() {
    let mut node = among(&[B, C]);
    let sequence = node.probe_of(100, B);
    node.run_to(1000);
    node.ack(1050, B, sequence);
    node.run_to(1100);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
}

#[test]
fn only_who_was_asked_vouches_for_another() {
    let mut node = among(&[B, C]);
    let sequence = node.probe_of(100, B);
    node.run_to(600);
    node.gossip(600, D, vec![up(D)]);
    node.report(700, D, (sequence, B), PingOutcome::Reached);
    node.run_to(1100);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
}

#[test]
fn who_is_asked_to_ping_says_what_became_of_it() {
    let mut node = among(&[B, C]);
    node.ask(100, B, C, false);
    let pinged = node.sent().into_iter().find_map(|(to, message)| match message {
        Message::Ping { sequence, .. } if to == C => Some(sequence),
        _ => None,
    });
    let sequence = ProbeSequence::new(77);
    node.ack(200, C, pinged.unwrap());
    assert_eq!(node.reports(), [(B, sequence, C, PingOutcome::Reached)]);
    node.ask(300, B, C, false);
    node.run_to(699);
    assert_eq!(node.reports(), []);
    node.run_to(700);
    assert_eq!(node.reports(), [(B, sequence, C, PingOutcome::Silent)]);
    node.ask(800, B, ME, false);
    assert_eq!(node.reports(), [(B, sequence, ME, PingOutcome::Reached)]);
    node.ask(900, B, D, false);
    assert_eq!(node.reports(), [(B, sequence, D, PingOutcome::Silent)], "of whom nothing is known");
}

#[test]
fn who_asks_about_the_dead_learns_that_they_are() {
    let mut node = Node::knowing(&[up(B), dead(C, B)]);
    node.ask(100, B, C, false);
    let told = node.sent().into_iter().any(|(to, message)| {
        to == B && matches!(message, Message::PingReport { updates, .. } if updates == shared([dead(C, B)]))
    });
    assert!(told, "{:?}", node.effects);
}

// Lifeguard section IV-B

#[test]
fn each_accuser_brings_the_end_of_a_suspicion_nearer_and_is_passed_on() {
    let others: Vec<_> = (10..19).map(MemberId::new).collect();
    let mut node = among(&others);
    let victim = others[0];
    let mut ends = Vec::new();
    for accuser in &others[1..6] {
        node.membership.news = Dissemination::default();
        node.gossip(1000, *accuser, vec![suspect(victim, 1, *accuser)]);
        ends.push(node.suspicion_ends(victim).unwrap());
        assert_eq!(node.membership.news.is_empty(), ends.len() > 4, "what shortens nothing is no news");
    }
    assert_eq!(ends, [25_000, 15_000, 9150, 5000, 5000]);
    node.gossip(1000, others[7], vec![suspect(victim, 1, others[1])]);
    assert_eq!(node.suspicion_ends(victim), Some(5000));
}

#[test]
fn a_suspicion_that_nobody_confirms_lasts_longest() {
    let mut node = among(&[B, C, D]);
    node.membership.agenda.cancel(Task::Probe);
    node.gossip(0, C, vec![suspect(B, 1, C)]);
    node.ping(23_000, C, vec![]);
    node.run_to(23_999);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    node.run_to(24_000);
    assert_eq!(node.status(B), Some(MemberStatus::Dead));
}

// Lifeguard section IV-A

#[test]
fn a_node_whose_helpers_are_silent_too_probes_more_slowly_and_recovers() {
    let mut node = among(&[B, C, D]);
    let sequence = node.probe_of(1, B);
    node.run_to(900);
    node.report(900, C, (sequence, B), PingOutcome::Silent);
    node.run_to(1001);
    assert_eq!(node.membership.stats().health, 1, "D said nothing");
    let sequence = node.probe_of(2000, C);
    assert_eq!(node.membership.agenda.deadline(Task::ProbeTimeout(sequence)), Some(at(3000)));
    node.ack(2900, C, sequence);
    assert_eq!(node.membership.stats().health, 0);
    assert_eq!(node.membership.stats().round_trip, Some(Duration::from_millis(900)));
}

#[test]
fn who_must_refute_or_was_kept_from_running_trusts_itself_less() {
    let mut node = among(&[B]);
    node.ping(10, B, vec![suspect(ME, 1, C)]);
    assert_eq!(node.membership.stats().health, 1);
    node.input(20, Input::Lag { by: Duration::from_millis(100) });
    assert_eq!(node.membership.stats().health, 1, "what is far below a timeout does not matter");
    node.input(20, Input::Lag { by: Duration::from_millis(1200) });
    assert_eq!(node.membership.stats().health, 4);
    node.input(20, Input::Lag { by: Duration::from_secs(60) });
    assert_eq!(node.membership.stats().health, 8);
}

// Refused connections

#[test]
fn a_refused_connection_accuses_and_asks_others_and_the_refusal_of_one_of_them_kills() {
    let mut node = among(&[B, C, D]);
    node.refused(10, B);
    let suspected = Event::Suspected { member: B, by: ME, evidence: Evidence::ConnectionRefused, observed_at: at(10) };
    assert_eq!(node.events, [changed(B, Some(MemberStatus::Up), MemberStatus::Suspect, 10), suspected]);
    let asked = node.requests();
    let sequence = asked[0].1;
    let mut to: Vec<_> = asked.iter().map(|(to, ..)| *to).collect();
    to.sort_unstable();
    assert_eq!(to, [C, D]);
    assert!(asked.iter().all(|(.., target, refused)| (*target, *refused) == (B, true)));
    node.refused(12, B);
    assert_eq!(node.requests(), [], "once is enough");
    node.report(15, C, (sequence, B), PingOutcome::Refused);
    assert_eq!((node.status(B), node.reason(B)), (Some(MemberStatus::Dead), Some(QuarantineReason::ConnectionRefused)));
}

#[test]
fn the_refusal_that_one_member_saw_kills_nobody_when_there_is_somebody_to_ask() {
    let mut node = among(&[B, C, D]);
    node.refused(10, B);
    let sequence = node.requests()[0].1;
    node.report(15, C, (sequence, B), PingOutcome::Silent);
    node.report(15, D, (sequence, B), PingOutcome::Silent);
    for milliseconds in [100, 200, 300] {
        node.refused(milliseconds, B);
    }
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    let mut node = among(&[B, C, D]);
    node.ask(10, C, B, true);
    node.ask(10, D, B, true);
    assert_eq!(node.status(B), Some(MemberStatus::Up), "nor what two others saw: this node tries by itself");
}

#[test]
fn who_is_asked_and_is_refused_too_says_so_and_knows_that_the_member_is_gone() {
    let mut node = among(&[B, C, D]);
    node.ask(10, C, B, true);
    assert!(node.sent().iter().any(|(to, message)| *to == B && matches!(message, Message::Ping { .. })));
    node.refused(12, B);
    assert_eq!(node.reports(), [(C, ProbeSequence::new(77), B, PingOutcome::Refused)]);
    assert_eq!(node.reason(B), Some(QuarantineReason::ConnectionRefused));
}

#[test]
fn who_was_refused_before_it_is_asked_answers_at_once() {
    let mut node = among(&[B, C, D]);
    node.refused(10, B);
    node.ask(12, C, B, true);
    assert_eq!(node.reports(), [(C, ProbeSequence::new(77), B, PingOutcome::Refused)]);
    assert_eq!(node.status(B), Some(MemberStatus::Dead));
}

#[test]
fn of_two_members_one_refusal_is_enough() {
    let mut node = among(&[B]);
    node.refused(10, B);
    assert_eq!(node.reason(B), Some(QuarantineReason::ConnectionRefused));
}

#[test]
fn that_all_others_refuse_is_no_confirmation() {
    let mut node = among(&[B, C]);
    node.refused(10, B);
    node.refused(11, C);
    assert_eq!((node.status(B), node.status(C)), (Some(MemberStatus::Suspect), Some(MemberStatus::Suspect)));
    node.run_to(60_000);
    assert_eq!(node.membership.active(), [member(ME)], "but neither is it silence: the suspicions run their time");
}

#[test]
fn who_leaves_and_refuses_is_not_dead_at_once_but_has_left_when_its_last_word_arrives() {
    let mut node = Node::knowing(&[record(B, 2, Stage::Leaving), up(C)]);
    node.refused(10, B);
    node.ask(11, C, B, true);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    node.gossip(400, C, vec![record(B, 3, Stage::Removed)]);
    assert_eq!((node.status(B), node.membership.blocked()), (Some(MemberStatus::Removed), vec![]));
}

#[test]
fn a_refusal_followed_by_proven_life_is_refuted_and_counts_no_more() {
    let mut node = among(&[B, C, D]);
    node.refused(10, B);
    node.gossip(20, B, vec![record(B, 2, Stage::Up)]);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
    node.ask(30, C, B, true);
    assert_eq!(node.reports(), [], "what this node saw was before");
    assert_eq!(node.status(B), Some(MemberStatus::Up));
}

#[test]
fn whom_others_reach_is_not_accused_again_of_refusing_this_node() {
    let mut node = among(&[B, C, D]);
    node.membership.agenda.cancel(Task::Probe);
    node.refused(10, B);
    let sequence = node.requests()[0].1;
    node.report(15, C, (sequence, B), PingOutcome::Reached);
    node.gossip(20, B, vec![record(B, 2, Stage::Up)]);
    node.refused(500, B);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
    let sequence = node.requests()[0].1;
    node.report(510, D, (sequence, B), PingOutcome::Reached);
    node.run_to(3000);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
    node.refused(4000, B);
    node.run_to(5000);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect), "unless they reach it no more");
}

#[test]
fn a_refusal_of_somebody_unknown_or_dead_changes_nothing() {
    let mut node = Node::knowing(&[up(B), dead(C, B)]);
    for member in [ME, C, D] {
        node.refused(10, member);
        assert_eq!((&node.effects, &node.events), (&vec![], &vec![]));
    }
}

// Another process at the address

fn met(node: &mut Node, milliseconds: u64, old: MemberId, by: MemberId) {
    node.input(milliseconds, Input::Superseded { old, by });
}

#[test]
fn whose_address_another_process_has_proven_to_hold_is_dead_before_that_one_joins() {
    let mut node = among(&[B, C]);
    met(&mut node, 10, B, D);
    assert_eq!((node.status(B), node.status(D)), (Some(MemberStatus::Dead), None));
    assert_eq!(node.reason(B), Some(QuarantineReason::Superseded { by: D }));
    let restarted = Record::new(Member::new(D, address(B), []), Incarnation::default(), Stage::Joining);
    assert!(matches!(node.request(20, restarted), JoinAnswer::Accepted { .. }));
}

#[test]
fn nobody_is_superseded_by_who_is_gone_or_runs_elsewhere_nor_by_itself() {
    let there = |id, stage| Record::new(Member::new(id, address(B), []), Incarnation::new(1), stage);
    let mut node = Node::up();
    let known = [up(B), up(C), there(D, Stage::Up).claimed(Verdict::Dead, C)];
    node.input(0, answered("host:9", JoinAnswer::Accepted { records: shared(known) }));
    for by in [C, D, B, ME] {
        met(&mut node, 10, B, by);
        assert_eq!((node.status(B), &node.events), (Some(MemberStatus::Up), &vec![]), "by {by}");
    }
    for unknown in [ME, MemberId::new(99)] {
        met(&mut node, 10, unknown, MemberId::new(50));
        assert_eq!(node.events, []);
    }
}

#[test]
fn who_leaves_and_is_superseded_has_left_when_its_last_word_arrives() {
    let mut node = Node::knowing(&[record(B, 2, Stage::Leaving), up(C)]);
    met(&mut node, 10, B, D);
    assert_eq!(node.status(B), Some(MemberStatus::Leaving));
    node.gossip(400, C, vec![record(B, 3, Stage::Removed)]);
    met(&mut node, 410, B, D);
    node.run_to(1000);
    assert_eq!((node.status(B), node.membership.blocked()), (Some(MemberStatus::Removed), vec![]));
}

// A storm, and silence

#[test]
fn a_storm_of_suspicions_evicts_nobody_until_it_calms() {
    let others: Vec<_> = (10..19).map(MemberId::new).collect();
    let mut node = among(&others);
    node.membership.agenda.cancel(Task::Probe);
    let accusers = &others[5..9];
    let accused = |victim| accusers.iter().fold(up(victim), |record, by| record.claimed(Verdict::Suspect, *by));
    node.gossip(1000, others[8], others[..4].iter().map(|victim| accused(*victim)).collect());
    assert!(node.events.contains(&Event::EvictionsHalted { suspects: 4, observed_at: at(1000) }), "{:?}", node.events);
    for second in 2..9 {
        node.run_to(second * 1000);
        node.ping(second * 1000, others[8], vec![]);
    }
    assert_eq!(node.membership.dead(), [], "though their time was over at 5 s");
    assert!(node.membership.are_evictions_halted());
    node.run_to(9000);
    assert!(!node.membership.are_evictions_halted());
    assert_eq!(node.membership.dead().len(), 4, "who has not refuted is dead after all");
    assert!(node.events.contains(&Event::EvictionsResumed { suspects: 4, observed_at: at(9000) }), "{:?}", node.events);
}

#[test]
fn a_storm_does_not_keep_those_alive_whose_hosts_say_that_they_are_gone() {
    let others: Vec<_> = (10..19).map(MemberId::new).collect();
    let mut node = among(&others);
    node.gossip(1000, others[8], others[..4].iter().map(|id| suspect(*id, 1, others[8])).collect());
    node.ask(1010, others[8], others[0], true);
    node.refused(1020, others[0]);
    assert_eq!(node.status(others[0]), Some(MemberStatus::Dead));
}

#[test]
fn a_node_that_hears_nobody_declares_nobody_dead_and_gives_all_their_time_when_it_hears_again() {
    let mut node = among(&[B, C, D]);
    node.run_to(60_000);
    assert_eq!(node.events.iter().filter(|event| matches!(event, Event::Isolated { .. })).count(), 1);
    assert_eq!((node.membership.is_isolated(), node.membership.dead()), (true, vec![]));
    assert_eq!(node.membership.phase(), Phase::Up);
    node.gossip(60_500, C, vec![record(C, 2, Stage::Up)]);
    assert!(node.events.contains(&Event::IsolationEnded { observed_at: at(60_500) }));
    assert!(node.suspicion_ends(B) >= Some(64_500), "{:?}", node.suspicion_ends(B));
    let told = node.sent().into_iter().any(|(to, message)| match message {
        Message::Ping { updates, .. } => to == B && updates[0].authors() == [ME] && updates[1].id() == ME,
        _ => false,
    });
    assert!(told, "a suspect is told at once, by whom it may not know any more: {:?}", node.effects);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
}

#[test]
fn one_of_two_does_not_take_itself_for_cut_off() {
    let mut node = among(&[B]);
    node.run_to(20_000);
    assert_eq!(node.status(B), Some(MemberStatus::Dead));
}

// What is told

#[test]
fn a_suspicion_can_be_explained() {
    let mut node = among(&[B, C, D]);
    assert_eq!(node.membership.explain(B), None);
    node.refused(10, B);
    node.gossip(20, C, vec![suspect(B, 1, C)]);
    let accusation = |by, milliseconds, evidence| Accusation { by, at: at(milliseconds), evidence };
    let accusations = vec![accusation(ME, 10, Evidence::ConnectionRefused), accusation(C, 20, Evidence::Reported)];
    let mut expected = Explanation { accusations, outcome: None, refuted_before: 0 };
    assert_eq!(node.membership.explain(B), Some(&expected));
    node.gossip(30, B, vec![record(B, 2, Stage::Up)]);
    expected.outcome = Some(SuspicionOutcome::Refuted { incarnation: Incarnation::new(2), at: at(30) });
    assert_eq!(node.membership.explain(B), Some(&expected));
    node.gossip(40, C, vec![record(B, 2, Stage::Up).claimed(Verdict::Suspect, D)]);
    node.gossip(45, D, vec![record(B, 2, Stage::Up).claimed(Verdict::Dead, C)]);
    node.gossip(50, C, vec![record(B, 2, Stage::Up).claimed(Verdict::Dead, C)]);
    let reason = QuarantineReason::Declared { by: C };
    let explanation = node.membership.explain(B).unwrap();
    assert_eq!(explanation.refuted_before, 1);
    assert_eq!(explanation.outcome, Some(SuspicionOutcome::Dead { by: Some(C), reason, at: at(50) }));
}

#[test]
fn the_dead_are_told_now_and_then_that_they_are() {
    let mut node = Node::knowing(&[dead(C, B)]);
    node.run_to(59_000);
    let told: Vec<_> = node.sent().into_iter().filter(|(to, _)| *to == C).map(|(_, message)| message).collect();
    assert!((1..=20).contains(&told.len()), "{} times in 59 probes", told.len());
    for message in told {
        let Message::Gossip { updates, .. } = message else { panic!("{message:?}") };
        assert_eq!(updates, shared([dead(C, B)]));
    }
}

#[test]
fn a_node_that_all_know_does_not_introduce_itself_in_every_ping() {
    let mut node = among(&[B]);
    node.ping(10, B, vec![]);
    node.run_to(1000);
    let pings: Vec<_> =
        node.sent().into_iter().filter(|(_, message)| matches!(message, Message::Ping { .. })).collect();
    assert!(matches!(pings.as_slice(), [(B, Message::Ping { updates, .. })] if updates.is_empty()), "{pings:?}");
}

#[test]
fn the_quarantine_of_the_oldest_ends_when_there_are_too_many() {
    let config = Config { max_quarantined: 2, ..Config::lan() };
    let mut node = Node { membership: Membership::new(config, member(ME), 1), effects: vec![], events: vec![] };
    node.input(0, start(&[]));
    for (milliseconds, id) in [(0, B), (10, C), (20, D)] {
        node.gossip(milliseconds, id, vec![up(id)]);
        node.input(milliseconds, Input::Down { member: id });
    }
    assert_eq!(node.membership.dead(), [member(C), member(D)]);
    assert_eq!(node.status(B), Some(MemberStatus::Removed));
    assert!(node.events.contains(&Event::QuarantineEnded { member: member(B), observed_at: at(20) }));
}

#[test]
fn nobody_else_is_asked_to_try_a_suspect_whom_enough_accuse() {
    let accused =
        |by: &[u128]| by.iter().fold(up(B), |record, by| record.claimed(Verdict::Suspect, MemberId::new(*by)));
    let e = MemberId::new(5);
    for (others, accusers, asked) in [
        (&[B, C, D, e][..], &[3, 4, 5][..], true),
        (&[B, C, D, e], &[3, 4, 5, 6], false),
        (&[B, C, D], &[3, 4], true),
        (&[B, C, D], &[1, 3, 4], false),
    ] {
        let mut node = among(others);
        node.gossip(1, C, vec![accused(accusers)]);
        node.probe_of(10, B);
        node.run_to(600);
        assert_eq!(!node.requests().is_empty(), asked, "{accusers:?}");
        assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    }
}
