//! What a newcomer is told by whoever lets it in.

use super::*;

const D: MemberId = MemberId::new(4);
const GHOST: MemberId = MemberId::new(9);

/// A table like no other.
const OTHER: TableDigest = TableDigest::new(7);

/// A node that B has let in. It has heard of B since, and of these by B's answer alone.
fn newcomer(told: &[Record]) -> Node {
    let mut node = Node::new();
    node.input(0, start(&["host:2"]));
    let records = shared([record(B, 1, Stage::Up)].iter().chain(told).cloned());
    node.input(5, answered("host:2", JoinAnswer::Accepted { records }));
    node.receive(10, B, Message::Ping { sequence: ProbeSequence::new(9), updates: shared([up(B)]), digest: OTHER });
    assert_eq!(node.membership.phase(), Phase::Up);
    node.membership.agenda.cancel(Task::Probe);
    node.membership.news = Dissemination::default();
    node
}

/// One that has been told that C is dead; it has not heard of D since either.
fn told_that_c_is_dead() -> Node {
    newcomer(&[up(D), dead(C, B)])
}

fn up(id: MemberId) -> Record {
    record(id, 1, Stage::Up)
}

impl Node {
    /// Gossip whose sender holds another table.
    fn says(&mut self, milliseconds: u64, from: MemberId, updates: Vec<Record>) {
        self.receive(milliseconds, from, Message::Gossip { updates: shared(updates), digest: OTHER });
    }

    /// Whether it has just said anything of this member to another who is a member.
    fn mentions(&self, member: MemberId) -> bool {
        let speaks = |message: &Message| message.contents().0.iter().any(|record| record.id() == member);
        self.sent().iter().any(|(to, message)| *to != member && speaks(message))
    }

    /// Whether it says anything of this member when it is asked for all that it knows.
    fn tells_of(&mut self, milliseconds: u64, member: MemberId) -> bool {
        self.receive(milliseconds, B, Message::Compare { updates: vec![], buckets: vec![OTHER] });
        self.mentions(member)
    }

    fn knows(&self, member: MemberId) -> Option<&Record> {
        self.membership.records().find(|known| known.id() == member)
    }
}

// proves MG-3.3
// Else a liar and whom it has just let in would be two voices.
#[test]
fn a_newcomer_tells_nobody_of_members_that_it_has_from_one_alone() {
    let mut node = newcomer(&[up(C), up(D), up(GHOST)]);
    assert_eq!(node.status(GHOST), Some(MemberStatus::Up), "but it believes in them");
    assert!(!node.tells_of(20, GHOST));
    let complete = Buckets::new(1, vec![0]).unwrap();
    node.receive(30, B, Message::Sync { records: vec![], complete });
    assert!(!node.mentions(GHOST));
    let JoinAnswer::Accepted { records } = node.request(40, record(MemberId::new(12), 1, Stage::Joining)) else {
        panic!("it lets others in")
    };
    assert!(records.iter().any(|record| record.id() == GHOST), "who joins is told all, and has it from one alone");
    assert!(!node.mentions(GHOST));
    node.says(50, B, vec![record(GHOST, 2, Stage::Up), record(GHOST, 3, Stage::Up).claimed(Verdict::Suspect, B)]);
    node.run_to(900);
    assert!(!node.mentions(GHOST), "whatever else that one says");
    // It does not answer, and is suspected, asked for, and buried.
    node.membership.agenda.schedule(Task::Probe, at(1000));
    for second in 1..60 {
        for other in [B, C, D] {
            node.says(1000 * second, other, vec![]);
            assert!(!node.mentions(GHOST));
        }
        node.run_to(1000 * second + 900);
        assert!(!node.mentions(GHOST));
    }
    assert_eq!(node.status(GHOST), Some(MemberStatus::Dead));
    assert!(!node.tells_of(60_000, GHOST));
    node.run_to(400_000);
    assert_eq!(node.membership.inheritance.members().count(), 0, "nor is anything remembered of whom nothing is known");
}

// Else two newcomers that were told the same would vouch for it to each other.
#[test]
fn a_newcomer_shows_no_digest_of_what_it_has_from_one_alone() {
    let mut node = newcomer(&[up(C), up(GHOST)]);
    let told = table(node.membership.me().clone(), &[up(B)]);
    node.receive(20, B, Message::Ping { sequence: ProbeSequence::new(9), updates: vec![], digest: OTHER });
    let sent = node.sent();
    let [(B, Message::PingAck { digest, .. }), (_, Message::Compare { buckets, .. })] = &*sent else {
        panic!("it answers, and compares: {sent:?}")
    };
    assert_eq!((*digest, buckets), (told.digest(), &told.buckets(buckets.len())));
    assert_ne!(*digest, node.membership.digest());
    for by in [B, C] {
        node.gossip(30, by, vec![]);
    }
    node.ping(40, B, vec![]);
    let [(B, Message::PingAck { digest, .. })] = &*node.sent() else { panic!("it answers") };
    assert_eq!(*digest, node.membership.digest());
}

#[test]
fn what_two_say_a_newcomer_says_too() {
    let mut node = newcomer(&[up(C), up(D)]);
    node.says(20, B, vec![up(C)]);
    node.says(30, B, vec![up(C)]);
    assert!(!node.tells_of(40, C), "one voice, however often");
    node.says(50, D, vec![up(C)]);
    assert!(node.tells_of(60, C));
    assert!(!node.tells_of(70, D), "that it speaks is not what it says of itself");
    node.says(80, D, vec![up(D)]);
    assert!(node.tells_of(90, D));
}

#[test]
fn who_shows_the_same_table_says_all_that_is_in_it() {
    let mut node = newcomer(&[up(C), up(D)]);
    node.gossip(20, B, vec![]);
    assert!(!node.tells_of(30, C));
    node.gossip(40, D, vec![]);
    assert!(node.tells_of(50, C) && node.tells_of(60, D));

    let mut node = newcomer(&[up(C), up(D)]);
    for by in [B, D] {
        let mut buckets = node.membership.table.buckets(4);
        assert_ne!(bucket(C, 4), bucket(GHOST, 4));
        buckets[bucket(GHOST, 4)] = OTHER;
        node.receive(20, by, Message::Compare { updates: vec![], buckets });
    }
    assert!(node.tells_of(30, C), "in the part that is the same");
}

#[test]
fn what_two_say_or_the_member_itself_replaces_what_one_has_told_a_newcomer() {
    let lies = [
        Record::new(Member::new(C, "elsewhere:1", []), Incarnation::new(1), Stage::Up),
        record(C, 1 << 50, Stage::Up),
        record(C, 1 << 50, Stage::Up).claimed(Verdict::Dead, B),
    ];
    for lie in lies {
        let mut node = newcomer(&[up(D), lie.clone()]);
        node.says(20, B, vec![up(C)]);
        node.says(30, D, vec![up(C)]);
        assert_eq!(node.knows(C), Some(&up(C)), "{lie:?}");
        assert!(node.tells_of(40, C));

        let mut node = newcomer(&[up(D), lie.clone()]);
        node.says(20, C, vec![up(C)]);
        assert_eq!(node.knows(C), Some(&up(C)), "{lie:?}");
        assert!(node.tells_of(30, C));
    }
    // It has been found not to answer at the address where it never was.
    let lie = Record::new(Member::new(C, "elsewhere:1", []), Incarnation::new(1), Stage::Up);
    let mut node = newcomer(core::slice::from_ref(&lie));
    node.says(20, B, vec![lie.claimed(Verdict::Suspect, B)]);
    assert_eq!(node.status(C), Some(MemberStatus::Suspect));
    node.says(30, C, vec![up(C)]);
    let refuted = Event::SuspicionRefuted { member: C, incarnation: Incarnation::new(1), observed_at: at(30) };
    assert_eq!(node.events, [changed(C, Some(MemberStatus::Suspect), MemberStatus::Up, 30), refuted]);
}

#[test]
fn a_departure_of_which_only_the_answer_tells_is_doubted() {
    let told = || {
        let mut node = Node::new();
        node.input(0, start(&["host:2"]));
        let records = shared([up(B), record(C, 2, Stage::Leaving)]);
        node.input(5, answered("host:2", JoinAnswer::Accepted { records }));
        let sent = node.sent();
        let [(C, Message::Ping { sequence, updates, .. })] = &*sent else { panic!("C is asked: {sent:?}") };
        assert_eq!((node.status(C), updates[0].id()), (Some(MemberStatus::Up), ME));
        (node, *sequence)
    };
    let (mut node, sequence) = told();
    node.receive(10, C, Message::PingAck { sequence, updates: vec![], digest: OTHER });
    node.run_to(1000);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    let (mut node, _) = told();
    node.says(20, C, vec![record(C, 2, Stage::Leaving)]);
    assert_eq!(node.status(C), Some(MemberStatus::Leaving), "it says so itself");
}

#[test]
fn what_a_newcomer_has_found_itself_it_tells_when_the_member_is_known_to_exist() {
    let mut node = newcomer(&[up(C), up(D)]);
    node.input(20, Input::Down { member: C });
    assert!(!node.tells_of(30, C));
    node.says(40, B, vec![up(C)]);
    node.says(50, D, vec![up(C)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead), "they have not written later");
    assert!(node.tells_of(60, C));
}

#[test]
fn a_newcomer_is_no_voice_for_the_death_of_whom_it_has_never_known() {
    let mut node = told_that_c_is_dead();
    node.run_to(1000);
    assert!(!node.mentions(C));
    assert!(!node.tells_of(1010, C));
    let (sequence, digest) = (ProbeSequence::new(77), OTHER);
    let about = Message::PingRequest { sequence, target: C, refused: false, updates: vec![], digest };
    node.receive(1020, D, about);
    assert!(!node.mentions(C));
    node.says(1030, B, vec![record(C, 2, Stage::Up).claimed(Verdict::Dead, B)]);
    node.run_to(1035);
    assert!(!node.mentions(C));
    assert!(!node.tells_of(1040, C), "B has said so before");
    node.says(1050, D, vec![dead(C, B)]);
    assert!(node.tells_of(1060, C));
}

// Two who have been told of the same ghost would be two voices for its end.
#[test]
fn an_equal_digest_says_nothing_of_whom_it_does_not_count() {
    let mut node = newcomer(&[up(D), dead(GHOST, B)]);
    node.membership.agenda.schedule(Task::Expire(GHOST), at(20));
    node.fire(at(20));
    assert_eq!(node.status(GHOST), Some(MemberStatus::Removed));
    let digest = node.membership.digest();
    for (now, by) in [(30, B), (40, D)] {
        node.receive(now, by, Message::Gossip { updates: vec![], digest });
        assert!(!node.mentions(GHOST));
    }
    assert!(!node.tells_of(50, GHOST));

    for by in [B, D] {
        node.says(60, by, vec![record(GHOST, 2, Stage::Up)]);
    }
    node.says(70, GHOST, vec![]);
    assert_eq!(node.status(GHOST), Some(MemberStatus::Removed), "and who is removed stays so");
}

#[test]
fn a_newcomer_gives_up_such_a_death_when_another_denies_it_or_the_dead_one_speaks() {
    let mut node = told_that_c_is_dead();
    node.says(20, D, vec![up(C)]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    node.run_to(900);
    assert!(!node.mentions(C), "nor is it a second voice for its life");
    assert!(!node.tells_of(910, C));
    let mut node = told_that_c_is_dead();
    node.says(20, C, vec![]);
    assert_eq!(node.status(C), Some(MemberStatus::Up));
    let mut node = told_that_c_is_dead();
    node.ping(20, C, vec![]);
    assert!(matches!(node.sent().as_slice(), [(C, Message::PingAck { .. }), ..]), "{:?}", node.sent());
    let mut node = newcomer(&[up(D), record(C, 2, Stage::Up).claimed(Verdict::Dead, B)]);
    for by in [B, D] {
        node.says(20, by, vec![up(C)]);
    }
    assert_eq!(node.status(C), Some(MemberStatus::Dead), "they say so of an earlier version");
    assert!(!node.tells_of(30, C));
    let mut node = told_that_c_is_dead();
    for by in [B, D] {
        node.says(20, by, vec![dead(C, B)]);
    }
    node.says(30, D, vec![up(C)]);
    assert_eq!(node.status(C), Some(MemberStatus::Dead), "two have said so");
}
