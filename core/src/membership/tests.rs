//! One machine, literal inputs, literal effects.

use alloc::string::ToString;
use alloc::vec;
use core::time::Duration;

use super::table::bucket;
use super::*;
use crate::{Address, RequestId};

mod evidence;
mod inheritance;
mod joining;
mod lies;
mod thrift;

const ME: MemberId = MemberId::new(1);
const B: MemberId = MemberId::new(2);
const C: MemberId = MemberId::new(3);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn address(id: MemberId) -> Address {
    alloc::format!("host:{}", id.bits()).into()
}

fn member(id: MemberId) -> Member {
    Member::new(id, address(id), [])
}

fn record(id: MemberId, incarnation: u64, stage: Stage) -> Record {
    Record::new(member(id), Incarnation::new(incarnation), stage)
}

fn shared(records: impl IntoIterator<Item = Record>) -> Vec<Arc<Record>> {
    records.into_iter().map(Arc::new).collect()
}

fn dead(id: MemberId, by: MemberId) -> Record {
    record(id, 1, Stage::Up).claimed(Verdict::Dead, by)
}

/// The machine with what it said last.
struct Node {
    membership: Membership,
    effects: Vec<Effect>,
    events: Vec<Event>,
}

impl Node {
    fn new() -> Self {
        Self { membership: Membership::new(Config::lan(), member(ME), 1), effects: vec![], events: vec![] }
    }

    /// Up, alone, at time 0.
    fn up() -> Self {
        let mut node = Self::new();
        node.input(0, Input::Start { seeds: vec![] });
        node
    }

    /// Up, with the given others known; their news is spread already.
    fn knowing(records: &[Record]) -> Self {
        let mut node = Self::up();
        for record in records {
            node.gossip(0, record.id(), vec![record.own_part(), record.clone()]);
        }
        node.membership.news = Dissemination::default();
        node
    }

    fn input(&mut self, milliseconds: u64, input: Input) {
        let mut out = Outbox::new();
        self.membership.handle(at(milliseconds), input, &mut out);
        self.effects = out.drain_effects().collect();
        self.events = out.drain_events().collect();
    }

    fn receive(&mut self, milliseconds: u64, from: MemberId, message: Message) {
        self.input(milliseconds, Input::Received { from, message });
    }

    /// Gossip whose sender agrees with this node, so that no comparison of tables follows.
    fn gossip(&mut self, milliseconds: u64, from: MemberId, updates: Vec<Record>) {
        let digest = self.membership.digest();
        self.receive(milliseconds, from, Message::Gossip { updates: shared(updates), digest });
    }

    fn ping(&mut self, milliseconds: u64, from: MemberId, updates: Vec<Record>) {
        let digest = self.membership.digest();
        let (sequence, updates) = (ProbeSequence::new(9), shared(updates));
        self.receive(milliseconds, from, Message::Ping { sequence, updates, digest });
    }

    /// Fires the timer that is set, whenever it was to fire.
    fn fire(&mut self, now: Timestamp) {
        let mut out = Outbox::new();
        let epoch = self.membership.agenda.current();
        self.membership.handle(now, Input::Timer(epoch), &mut out);
        self.effects = out.drain_effects().collect();
        self.events = out.drain_events().collect();
    }

    /// Fires timers at their time, up to this time, and keeps all that was said.
    fn run_to(&mut self, milliseconds: u64) {
        let (mut effects, mut events) = (vec![], vec![]);
        while let Some(due) = self.membership.agenda.armed().filter(|due| *due <= at(milliseconds)) {
            self.fire(due);
            effects.append(&mut self.effects);
            events.append(&mut self.events);
        }
        (self.effects, self.events) = (effects, events);
    }

    fn sent(&self) -> Vec<(MemberId, Message)> {
        let sent = |effect: &Effect| match effect {
            Effect::Send { to, message, .. } => Some((*to, message.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(sent).collect()
    }

    fn asked(&self) -> Vec<&str> {
        self.effects.iter().filter_map(asked_address).collect()
    }

    fn request(&mut self, milliseconds: u64, joiner: Record) -> JoinAnswer {
        self.input(milliseconds, Input::JoinRequested { request: RequestId::new(5), joiner });
        let answer = self.effects.iter().find_map(|effect| match effect {
            Effect::AnswerJoin { request, answer } => Some((*request, answer.clone())),
            _ => None,
        });
        let (request, answer) = answer.unwrap();
        assert_eq!(request, RequestId::new(5));
        answer
    }

    fn status(&self, id: MemberId) -> Option<MemberStatus> {
        self.membership.status(id)
    }
}

fn asked_address(effect: &Effect) -> Option<&str> {
    if let Effect::Join { address, .. } = effect { Some(address.as_str()) } else { None }
}

fn changed(id: MemberId, from: Option<MemberStatus>, to: MemberStatus, milliseconds: u64) -> Event {
    Event::StatusChanged { member: member(id), from, to, observed_at: at(milliseconds) }
}

fn start(seeds: &[&str]) -> Input {
    Input::Start { seeds: seeds.iter().copied().map(Address::from).collect() }
}

fn unreachable(address: &str) -> Input {
    Input::JoinFailed { address: address.into(), failure: ContactFailure::Unreachable("down".into()) }
}

fn answered(address: &str, answer: JoinAnswer) -> Input {
    Input::JoinAnswered { address: address.into(), answer }
}

// Before the start, after the end

// proves MG-1.2
#[test]
fn before_the_start_and_after_the_end_every_input_is_refused_and_changes_nothing() {
    let inputs = || {
        [
            Input::Discovered { addresses: vec!["host:9".into()] },
            answered("host:9", JoinAnswer::Accepted { records: shared([record(B, 1, Stage::Up)]) }),
            unreachable("host:9"),
            Input::Received {
                from: B,
                message: Message::Sync { records: shared([dead(ME, B)]), complete: Buckets::default() },
            },
            Input::Unreachable { member: B },
            Input::Superseded { old: B, by: C },
            Input::Down { member: B },
            Input::Poll { members: vec![B] },
            Input::Check { members: vec![B, C, ME] },
            Input::Restrain(true),
            Input::Leave,
            Input::Drained,
        ]
    };
    let mut left = Node::knowing(&[record(B, 1, Stage::Up)]);
    left.input(0, Input::Leave);
    left.input(0, Input::Drained);
    left.run_to(5000);
    assert_eq!(left.membership.phase(), Phase::Stopped);
    for mut node in [Node::new(), left] {
        let before: Vec<_> = node.membership.records().cloned().collect();
        for input in inputs() {
            let name = input.name();
            node.input(9000, input);
            assert_eq!((&node.effects, &node.events), (&vec![], &vec![Event::NotStarted { input: name }]));
        }
        assert!(node.membership.records().eq(before.iter()));
    }
}

// proves MG-1.2
#[test]
fn who_wants_to_join_a_node_outside_its_life_is_told() {
    let mut node = Node::new();
    assert_eq!(node.request(0, record(B, 0, Stage::Joining)), JoinAnswer::NotReady);
    assert_eq!(node.events, [Event::NotStarted { input: "JoinRequested" }]);
    let mut node = Node::knowing(&[]);
    node.input(0, Input::Leave);
    assert_eq!(node.request(0, record(B, 0, Stage::Joining)), JoinAnswer::ShuttingDown);
    node.input(0, Input::Drained);
    node.run_to(5000);
    assert_eq!(node.request(5000, record(B, 0, Stage::Joining)), JoinAnswer::ShuttingDown);
    node.input(5000, start(&[]));
    assert_eq!(node.events, [Event::NotStarted { input: "Start" }]);
}

#[test]
fn a_second_start_changes_nothing() {
    let mut node = Node::up();
    node.input(1, start(&["host:9"]));
    assert_eq!((node.effects, node.events), (vec![], vec![Event::AlreadyStarted]));
}

// Probes, suspicion, death

fn suspect(id: MemberId, incarnation: u64, by: MemberId) -> Record {
    record(id, incarnation, Stage::Up).claimed(Verdict::Suspect, by)
}

// proves MG-2.2
#[test]
fn an_unanswered_probe_makes_suspect_and_an_expired_suspicion_dead() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.run_to(1000);
    assert!(matches!(node.sent().as_slice(), [(B, Message::Ping { .. })]));
    node.run_to(1499);
    assert_eq!(node.events, []);
    node.run_to(1500);
    let suspected = Event::Suspected { member: B, by: ME, evidence: Evidence::ProbeUnanswered, observed_at: at(1500) };
    assert_eq!(node.events, [changed(B, Some(MemberStatus::Up), MemberStatus::Suspect, 1500), suspected]);
    assert_eq!(node.membership.active().len(), 2);
    assert_eq!(node.membership.blocked(), []);
    node.run_to(5499);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    node.run_to(5500);
    let (reason, until) = (QuarantineReason::SuspicionExpired, at(65_500));
    let quarantined = Event::Quarantined { member: member(B), reason, observed_at: at(5500), until };
    assert_eq!(node.events, [changed(B, Some(MemberStatus::Suspect), MemberStatus::Dead, 5500), quarantined]);
    assert_eq!(node.membership.active(), [member(ME)]);
    assert_eq!(node.membership.dead(), [member(B)]);
}

#[test]
fn what_a_node_finds_itself_it_tells_at_once() {
    let (d, mut node) = (MemberId::new(4), Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]));
    node.gossip(0, d, vec![record(d, 1, Stage::Up)]);
    node.membership.news = Dissemination::default();
    let says = |node: &mut Node, milliseconds, about, status| {
        node.run_to(milliseconds);
        let says = |(_, message): (MemberId, Message)| {
            let Message::Gossip { updates, .. } = message else { return false };
            updates.iter().any(|update| (update.id(), update.status()) == (about, status))
        };
        node.sent().into_iter().any(says)
    };
    assert!(!says(&mut node, 300, B, MemberStatus::Suspect));
    node.gossip(300, C, vec![suspect(B, 1, C)]);
    assert!(!says(&mut node, 499, B, MemberStatus::Suspect), "what it hears waits for the next round");
    assert!(says(&mut node, 500, B, MemberStatus::Suspect));
    node.input(510, Input::Refused { member: C });
    assert!(says(&mut node, 510, C, MemberStatus::Suspect));
    node.input(520, Input::Down { member: C });
    assert!(says(&mut node, 520, C, MemberStatus::Dead));
}

// A node that distrusts itself waits long; what did not answer when it began is another member by then.
#[test]
fn a_probe_that_fails_says_nothing_of_a_later_version() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.membership.detector.hasten(B);
    node.run_to(1000);
    node.gossip(1100, C, vec![suspect(B, 1, C)]);
    node.gossip(1200, B, vec![record(B, 2, Stage::Up)]);
    node.membership.agenda.cancel(Task::Probe);
    node.run_to(2900);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
}

#[test]
fn an_answered_probe_suspects_nobody() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.run_to(1000);
    let Some((B, Message::Ping { sequence, digest, .. })) = node.sent().pop() else { panic!("{:?}", node.effects) };
    node.receive(1400, B, Message::PingAck { sequence, updates: vec![], digest });
    node.run_to(1999);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
}

#[test]
fn a_suspect_is_told_first_of_all_so_that_it_can_refute() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.run_to(1500);
    node.run_to(2000);
    let first = node.sent().into_iter().find_map(|(_, message)| match message {
        Message::Ping { updates, .. } => updates.into_iter().next(),
        _ => None,
    });
    assert_eq!(first, Some(Arc::new(suspect(B, 1, ME))));
}

// proves MG-2.2
#[test]
fn only_a_refutation_clears_a_suspicion() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), suspect(B, 1, C)]);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    node.ping(100, B, vec![record(B, 1, Stage::Up)]);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    node.gossip(200, B, vec![record(B, 2, Stage::Up)]);
    let (incarnation, observed_at) = (Incarnation::new(2), at(200));
    let refuted = Event::SuspicionRefuted { member: B, incarnation, observed_at };
    assert_eq!(node.events, [changed(B, Some(MemberStatus::Suspect), MemberStatus::Up, 200), refuted]);
    node.gossip(300, B, vec![suspect(B, 1, C)]);
    assert_eq!(node.status(B), Some(MemberStatus::Up), "an old suspicion is void");
}

#[test]
fn a_suspicion_of_a_later_incarnation_runs_its_full_time() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), suspect(B, 1, C)]);
    node.membership.agenda.cancel(Task::Probe);
    node.gossip(3000, B, vec![suspect(B, 2, C)]);
    node.run_to(6999);
    assert_eq!(node.status(B), Some(MemberStatus::Suspect));
    node.run_to(7000);
    assert_eq!(node.status(B), Some(MemberStatus::Dead));
}

// proves MG-3.3
#[test]
fn a_suspected_node_refutes_in_its_next_words() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.ping(10, B, vec![suspect(ME, 1, C)]);
    assert_eq!(node.membership.me(), &record(ME, 2, Stage::Up));
    let (incarnation, observed_at) = (Incarnation::new(2), at(10));
    assert_eq!(node.events, [Event::SuspicionRefuted { member: ME, incarnation, observed_at }]);
    let answer = node.sent().pop();
    let Some((B, Message::PingAck { updates, .. })) = answer else { panic!("{answer:?}") };
    assert_eq!(updates, shared([record(ME, 2, Stage::Up)]));
}

#[test]
fn a_node_that_hears_that_it_is_dead_stops_and_says_by_whom() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.ping(10, B, vec![dead(ME, C)]);
    let evicted = [changed(ME, Some(MemberStatus::Up), MemberStatus::Dead, 10), Event::Evicted { by: Some(C) }];
    assert_eq!((node.effects.as_slice(), node.events.as_slice()), (&[][..], &evicted[..]));
    assert_eq!(node.membership.phase(), Phase::Stopped);
}

// protoactor-dotnet #1588, chitchat #155
#[test]
fn a_dead_member_that_speaks_is_told_and_nothing_of_it_is_believed() {
    let mut node = Node::knowing(&[dead(B, C)]);
    node.ping(10, B, vec![record(B, 9, Stage::Up), dead(C, B)]);
    let message = Message::Gossip { updates: shared([dead(B, C)]), digest: node.membership.digest() };
    assert_eq!(node.sent(), [(B, message)]);
    assert_eq!((node.status(B), node.status(C)), (Some(MemberStatus::Dead), None));
    node.gossip(20, B, vec![]);
    assert_eq!(node.effects, [], "two who hold each other for dead do not talk for ever");
}

// proves MG-2.3, MG-3.1
#[test]
fn an_attempt_to_come_back_from_the_dead_is_refused_and_reported_and_stale_news_only_ignored() {
    let mut node = Node::knowing(&[record(C, 1, Stage::Up), dead(B, C)]);
    node.gossip(10, C, vec![record(B, 1, Stage::Up), record(B, 0, Stage::Joining)]);
    assert_eq!(node.events, []);
    node.gossip(20, C, vec![record(B, 2, Stage::Up)]);
    let (from, to, reason) = (Some(MemberStatus::Dead), MemberStatus::Up, Refusal::Final);
    assert_eq!(node.events, [Event::TransitionRefused { member: B, from, to, reason }]);
    assert_eq!(node.status(B), Some(MemberStatus::Dead));
}

// proves MG-2.3
#[test]
fn a_decision_that_cannot_be_carried_out_is_refused_with_its_reason() {
    let mut node = Node::knowing(&[dead(B, C)]);
    let refused =
        |member, from, reason| vec![Event::TransitionRefused { member, from, to: MemberStatus::Dead, reason }];
    node.input(0, Input::Down { member: ME });
    assert_eq!(node.events, refused(ME, Some(MemberStatus::Up), Refusal::Oneself));
    node.input(0, Input::Down { member: B });
    assert_eq!(node.events, refused(B, Some(MemberStatus::Dead), Refusal::Final));
    node.input(0, Input::Down { member: C });
    assert_eq!(node.events, refused(C, None, Refusal::UnknownMember));
}

#[test]
fn a_failed_send_hastens_the_probe_and_kills_nobody() {
    let others = [B, C, MemberId::new(4), MemberId::new(5)];
    for unlucky in others {
        let mut node = Node::knowing(&others.map(|id| record(id, 1, Stage::Up)));
        node.input(500, Input::Unreachable { member: unlucky });
        assert_eq!((&node.effects, &node.events), (&vec![], &vec![]));
        node.run_to(1000);
        assert_eq!(node.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [unlucky]);
    }
}

// Else two that live would hear nothing of each other as long as one is gone, take themselves for isolated, and bury it
// never.
#[test]
fn who_cannot_be_sent_to_keeps_nobody_else_from_being_probed() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    let mut probed = vec![];
    for interval in 1..=8 {
        node.input(1000 * interval - 1, Input::Unreachable { member: B });
        node.run_to(1000 * interval);
        let pinged = |(to, message)| matches!(message, Message::Ping { .. }).then_some(to);
        probed.extend(node.sent().into_iter().filter_map(pinged));
    }
    assert!([B, C].iter().all(|member| probed.contains(member)), "{probed:?}");
}

// consul #5567
#[test]
fn a_node_that_stood_still_gives_others_the_time_that_it_missed() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up), suspect(C, 1, B)]);
    node.run_to(1000);
    node.fire(at(9000));
    assert!(node.events.is_empty(), "nobody is judged for what waited in its queues: {:?}", node.events);
    assert_eq!((node.status(B), node.status(C)), (Some(MemberStatus::Up), Some(MemberStatus::Suspect)));
    node.run_to(13_000);
    assert_eq!(node.status(C), Some(MemberStatus::Dead), "but not for ever");
}

#[test]
fn a_timer_of_an_older_epoch_changes_nothing() {
    let mut node = Node::up();
    node.run_to(300);
    let stale = node.membership.agenda.current();
    node.request(400, record(B, 0, Stage::Joining));
    assert_ne!(node.membership.agenda.current(), stale);
    node.input(5000, Input::Timer(stale));
    assert_eq!((node.effects, node.events), (vec![], vec![]));
}

#[test]
fn a_quarantine_ends_and_says_so() {
    let mut node = Node::knowing(&[dead(B, C)]);
    node.run_to(60_000);
    let removed = changed(B, Some(MemberStatus::Dead), MemberStatus::Removed, 60_000);
    assert_eq!(node.events, [removed, Event::QuarantineEnded { member: member(B), observed_at: at(60_000) }]);
    assert_eq!(node.membership.blocked(), []);
    node.run_to(180_000);
    assert_eq!(node.status(B), None);
}

// Spreading and comparing

#[test]
fn what_a_stranger_says_is_not_believed_unless_it_introduces_itself() {
    let mut node = Node::up();
    node.gossip(10, B, vec![record(C, 1, Stage::Up)]);
    assert_eq!((&node.events, node.status(C)), (&vec![Event::SenderUnknown { member: B }], None));
    node.gossip(10, B, vec![record(B, 1, Stage::Up), record(B, 2, Stage::Up)]);
    assert_eq!(node.status(B), Some(MemberStatus::Up));
}

#[test]
fn news_of_one_member_reach_third_members() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    node.gossip(0, B, vec![record(B, 2, Stage::Leaving)]);
    node.run_to(300);
    let told: Vec<_> = node.sent().into_iter().map(|(to, _)| to).collect();
    assert!(told.contains(&C));
    assert!(node.sent().iter().all(
        |(_, message)| matches!(message, Message::Gossip { updates, .. } if *updates == shared([record(B, 2, Stage::Leaving)]))
    ));
}

#[test]
fn without_news_nothing_is_gossiped() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.run_to(999);
    assert_eq!(node.effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count(), 0);
}

/// Compares tables with a peer of this one: what the peer sends back.
fn compared(node: &mut Node, at: u64, theirs: &Table) -> Vec<Message> {
    let buckets = theirs.buckets(64);
    node.receive(at, B, Message::Compare { updates: vec![], buckets });
    node.sent().into_iter().map(|(to, message)| if to == B { message } else { panic!("{to}: {message:?}") }).collect()
}

fn table(me: Record, others: &[Record]) -> Table {
    let mut table = Table::new(me, 1000);
    for record in others {
        table.merge(&record.clone().into());
    }
    table
}

// proves MG-2.4
#[test]
fn a_different_digest_leads_to_a_comparison_of_tables_once_in_an_interval() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    let differing = || Message::Gossip { updates: vec![], digest: TableDigest::new(7) };
    node.receive(10, B, differing());
    let updates = shared([record(ME, 1, Stage::Up)]);
    let buckets = table(record(ME, 1, Stage::Up), &[record(B, 1, Stage::Up)]).buckets(4);
    assert_eq!(node.sent(), [(B, Message::Compare { updates, buckets })]);
    node.receive(500, B, differing());
    assert_eq!(node.sent(), []);
    node.receive(1010, B, differing());
    assert_eq!(node.sent().len(), 1);
}

#[test]
fn who_has_news_to_tell_waits_with_comparisons_but_not_for_ever() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    let differing = || Message::Gossip { updates: vec![], digest: TableDigest::new(7) };
    let compares = |node: &mut Node| {
        node.sent().into_iter().filter(|(_, message)| matches!(message, Message::Compare { .. })).count()
    };
    node.gossip(10, C, vec![record(C, 2, Stage::Up)]);
    node.receive(20, B, differing());
    assert_eq!(compares(&mut node), 0);
    let mut compared = Vec::new();
    for incarnation in 3..40 {
        node.gossip(200 * incarnation, C, vec![record(C, incarnation, Stage::Up)]);
        node.receive(200 * incarnation + 10, B, differing());
        compared.extend((compares(&mut node) > 0).then_some(200 * incarnation + 10));
    }
    assert_eq!(compared, [5010]);
}

// proves MG-2.4
#[test]
fn a_comparison_is_answered_with_the_buckets_that_differ_tombstones_included() {
    let gone = record(MemberId::new(4), 3, Stage::Removed);
    let known = record(MemberId::new(4), 1, Stage::Up);
    let mine = [record(B, 1, Stage::Up), record(C, 2, Stage::Up), known.clone()];
    let mut node = Node::knowing(&mine);
    node.gossip(0, gone.id(), vec![gone.clone()]);
    let (me, c, tomb) = (bucket(ME, 64), bucket(C, 64), bucket(gone.id(), 64));
    assert!(me != c && me != tomb && c != tomb, "or the test shows less: {me} {c} {tomb}");
    let theirs = table(record(B, 1, Stage::Up), &[record(ME, 1, Stage::Up), record(C, 1, Stage::Up), known]);
    let [Message::Sync { records, complete }] = &compared(&mut node, 10, &theirs)[..] else { panic!() };
    let mut differing = vec![c, tomb];
    differing.sort_unstable();
    assert_eq!(*complete, Buckets::new(64, differing).unwrap());
    for expected in [record(C, 2, Stage::Up), gone] {
        assert!(records.iter().any(|record| **record == expected), "{expected:?} in {records:?}");
    }
    assert!(records.iter().all(|record| complete.numbers().contains(&bucket(record.id(), 64))));
    let same = table(record(B, 1, Stage::Up), &[record(ME, 1, Stage::Up), record(C, 2, Stage::Up)]);
    assert_eq!(compared(&mut node, 20, &same), [], "equal tables need no answer");
}

// proves MG-2.4
#[test]
fn the_answer_to_buckets_is_what_the_other_knows_less_of_in_them() {
    let gone = record(MemberId::new(4), 3, Stage::Removed);
    let known = record(MemberId::new(4), 1, Stage::Up);
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 2, Stage::Up), known.clone()]);
    node.gossip(0, gone.id(), vec![gone.clone()]);
    let mut sync = |at, theirs: Vec<Record>, numbers| {
        let complete = Buckets::new(4, numbers).unwrap();
        node.receive(at, B, Message::Sync { records: shared(theirs), complete });
        node.sent()
    };
    let answer = |records: Vec<Record>| [(B, Message::Sync { records: shared(records), complete: Buckets::default() })];
    let theirs = vec![record(B, 1, Stage::Up), record(C, 1, Stage::Up), record(ME, 1, Stage::Up), known];
    assert_eq!(sync(10, theirs, vec![0, 1, 2, 3]), answer(vec![record(C, 2, Stage::Up), gone]));
    assert_eq!(sync(20, vec![], vec![bucket(C, 4)]), answer(vec![record(C, 2, Stage::Up)]), "not of other buckets");
    assert_eq!(sync(30, vec![record(C, 2, Stage::Up)], vec![bucket(C, 4)]), []);
}

#[test]
fn no_message_of_a_comparison_carries_a_whole_large_table() {
    let others: Vec<_> = (10..1010).map(|id| record(MemberId::new(id), 1, Stage::Up)).collect();
    let mut all = vec![record(B, 1, Stage::Up)];
    all.extend(others.iter().cloned());
    let mut node = Node::knowing(&all);
    let buckets = vec![TableDigest::new(7); 128];
    node.receive(10, B, Message::Compare { updates: vec![], buckets });
    let (mut told, mut numbers) = (0, Vec::new());
    for (_, message) in node.sent() {
        let Message::Sync { records, complete } = message else { panic!("{message:?}") };
        assert!(records.len() <= 256, "{}", records.len());
        told += records.len();
        numbers.extend_from_slice(complete.numbers());
    }
    assert_eq!((told, numbers), (1002, (0..128).collect()));
    node.receive(20, B, Message::Sync { records: vec![], complete: Buckets::new(1, vec![0]).unwrap() });
    let answer = node.sent();
    assert_eq!(answer.len(), 4);
}

#[test]
fn a_message_carries_no_more_updates_than_configured() {
    let others: Vec<_> = (10..100).map(|id| record(MemberId::new(id), 1, Stage::Up)).collect();
    let mut node = Node::up();
    for voice in &others[..3] {
        node.gossip(0, voice.id(), [vec![voice.clone()], others.clone()].concat());
    }
    assert_eq!(node.membership.active().len(), 91);
    node.run_to(3000);
    assert!(node.sent().len() > 20);
    for (_, message) in node.sent() {
        if let Message::Ping { updates, .. } | Message::Gossip { updates, .. } = message {
            assert!(updates.len() <= 32);
        }
    }
}

// Leaving

// proves MG-2.3
#[test]
fn a_leave_is_said_to_all_at_once_and_again_when_it_is_complete() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), record(C, 1, Stage::Up)]);
    let told = |node: &Node, expected: &Record| {
        let mut to: Vec<_> = node.sent().iter().map(|(to, _)| *to).collect();
        to.sort_unstable();
        let tells = |message: &Message| matches!(message, Message::Gossip { updates, .. } if *updates[0] == *expected);
        to == [B, C] && node.sent().iter().all(|(_, message)| tells(message))
    };
    node.input(100, Input::Leave);
    assert!(told(&node, &record(ME, 2, Stage::Leaving)), "{:?}", node.effects);
    assert_eq!(node.membership.active(), [member(B), member(C)], "who leaves owns no keys");
    node.input(200, Input::Leave);
    assert_eq!((&node.effects, &node.events), (&vec![], &vec![]));
    node.input(300, Input::Drained);
    assert!(told(&node, &record(ME, 3, Stage::Removed)), "{:?}", node.effects);
    node.run_to(1299);
    assert_eq!(node.membership.phase(), Phase::Leaving);
    node.run_to(1300);
    assert_eq!(node.events.last(), Some(&Event::Left));
    assert_eq!(node.membership.phase(), Phase::Stopped);
}

#[test]
fn a_leave_that_is_never_drained_ends_by_itself() {
    let mut node = Node::knowing(&[]);
    node.input(0, Input::Leave);
    node.run_to(11_000);
    assert_eq!(node.events.last(), Some(&Event::Left));
}

#[test]
fn a_node_that_leaves_answers_pings_with_its_leave() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.input(0, Input::Leave);
    node.input(0, Input::Drained);
    node.membership.news = Dissemination::default();
    node.ping(10, B, vec![dead(ME, B)]);
    let Some((B, Message::PingAck { updates, .. })) = node.sent().pop() else { panic!("{:?}", node.effects) };
    assert_eq!(updates, shared([record(ME, 3, Stage::Removed)]), "and does not mind being called dead");
}

#[test]
fn a_leave_while_joining_ends_the_start() {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    node.input(1, Input::Leave);
    node.run_to(2000);
    assert_eq!(node.events.last(), Some(&Event::Left));
    assert_eq!(node.asked(), Vec::<&str>::new());
}

#[test]
fn a_later_life_under_the_same_id_is_told_apart() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up)]);
    node.gossip(10, B, vec![record(ME, 7, Stage::Up)]);
    assert_eq!(node.membership.me(), &record(ME, 8, Stage::Up), "this node writes its record, nobody else");
    node.gossip(20, B, vec![record(ME, 9, Stage::Leaving)]);
    let (from, to, reason) = (Some(MemberStatus::Up), MemberStatus::Leaving, Refusal::Forged);
    assert_eq!(node.events, [Event::TransitionRefused { member: ME, from, to, reason }]);
    assert_eq!(node.membership.me(), &record(ME, 8, Stage::Up));
}

// Asked by downing

#[test]
fn a_poll_asks_the_living_carries_no_news_and_is_judged_by_nobody() {
    let mut node = Node::knowing(&[record(B, 1, Stage::Up), dead(C, B)]);
    node.membership.news.enqueue(C, super::dissemination::Urgency::First);
    node.input(10, Input::Poll { members: vec![B, C] });
    let sent: Vec<_> = node.effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).collect();
    let message = Message::Ping {
        sequence: ProbeSequence::POLL,
        updates: vec![node.membership.me().clone().into()],
        digest: node.membership.digest(),
    };
    assert_eq!(sent, [&Effect::Send { to: B, address: address(B), message }]);
    // Nor do two that poll each other while they differ compare their tables.
    let ack = Message::PingAck { sequence: ProbeSequence::POLL, updates: vec![], digest: TableDigest::new(7) };
    node.receive(20, B, ack);
    assert!(!node.effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "{:?}", node.effects);
}

#[test]
fn whom_a_check_finds_unreached_by_others_is_suspected_after_one_interval_and_who_is_reached_is_not() {
    let others = [record(B, 1, Stage::Up), record(C, 1, Stage::Up)];
    let mut node = Node::knowing(&others);
    node.input(10, Input::Check { members: vec![B, B] });
    let asked = |effect: &Effect| match effect {
        Effect::Send { to, message: Message::PingRequest { sequence, target: B, .. }, .. } => Some((*to, *sequence)),
        _ => None,
    };
    let asked: Vec<_> = node.effects.iter().filter_map(asked).collect();
    assert_eq!(asked.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [C], "once");
    node.run_to(1_009);
    assert_eq!(node.membership.status(B), Some(MemberStatus::Up));
    node.run_to(1_010);
    assert_eq!(node.membership.status(B), Some(MemberStatus::Suspect));

    let mut node = Node::knowing(&others);
    node.input(10, Input::Check { members: vec![B] });
    let sequence = asked[0].1;
    let (outcome, digest) = (PingOutcome::Reached, node.membership.digest());
    node.receive(20, C, Message::PingReport { sequence, target: B, outcome, updates: vec![], digest });
    node.run_to(1_010);
    assert_eq!(node.membership.status(B), Some(MemberStatus::Up));
}

#[test]
fn a_restrained_node_declares_nobody_dead_and_admits_nobody() {
    let suspect = record(B, 1, Stage::Up).claimed(Verdict::Suspect, C);
    let mut node = Node::knowing(&[suspect, record(C, 1, Stage::Up)]);
    node.input(10, Input::Restrain(true));
    node.run_to(20_000);
    assert_eq!(node.membership.status(B), Some(MemberStatus::Suspect));
    assert_eq!(node.request(20_000, record(MemberId::new(9), 0, Stage::Joining)), JoinAnswer::Undecided);
    node.input(20_000, Input::Restrain(false));
    // It is not alone.
    for now in 0..20 {
        node.gossip(20_001 + now * 500, C, vec![]);
        node.run_to(20_500 + now * 500);
    }
    assert_eq!(node.membership.status(B), Some(MemberStatus::Dead));
}
