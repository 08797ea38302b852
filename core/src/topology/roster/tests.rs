use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::Incarnation;

use super::*;
use crate::membership::{Config, Effect, Message, Record, Stage, Verdict};
use crate::{MemberStatus, Outbox, membership};

const ME: MemberId = MemberId::new(1);
const B: MemberId = MemberId::new(2);
const C: MemberId = MemberId::new(3);

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn member(id: MemberId) -> Member {
    Member::new(id, alloc::format!("host:{}", id.bits()), [])
}

/// A node, up, that knows two others.
struct Node {
    membership: Membership,
    timer: Option<(Timestamp, membership::TimerEpoch)>,
    roster: Roster,
    held: Vec<MemberId>,
}

impl Node {
    fn new(config: &Config) -> Self {
        let membership = Membership::new(config.clone(), member(ME), 1);
        let mut node = Self { membership, timer: None, roster: Roster::new(config.clone()), held: vec![] };
        node.input(at(0), membership::Input::Start { seeds: vec![] });
        for id in [B, C] {
            node.hears(Record::new(member(id), Incarnation::new(1), Stage::Up));
        }
        node
    }

    fn hears(&mut self, record: Record) {
        let (from, digest) = (record.id(), self.membership.digest());
        let message = Message::Gossip { updates: [Arc::new(record)].into(), digest };
        self.input(at(0), membership::Input::Received { from, message });
    }

    fn input(&mut self, now: Timestamp, input: membership::Input) {
        let mut out = Outbox::new();
        self.membership.handle(now, input, &mut out);
        for effect in out.drain_effects() {
            if let Effect::SetTimer { epoch, after } = effect {
                self.timer = Some((now + after, epoch));
            }
        }
    }

    fn dies(&mut self, member: MemberId) {
        self.input(at(0), membership::Input::Down { member });
        assert_eq!(self.membership.status(member), Some(MemberStatus::Dead));
    }

    /// Who is active, who dead, and who blocked, after all timers up to this time.
    fn refresh(&mut self, now: Timestamp) -> ([Vec<MemberId>; 3], Option<Duration>) {
        while let Some((due, epoch)) = self.timer.take_if(|(due, _)| *due <= now) {
            self.input(due, membership::Input::Timer(epoch));
        }
        let held = &self.held;
        let (input, timer) = self.roster.refresh(now, &self.membership, |id| held.contains(&id));
        let Input::Changed { active, mut dead, mut blocked } = input else { panic!("{input:?}") };
        let mut active: Vec<_> = active.into_iter().map(|member| member.id).collect();
        for list in [&mut active, &mut dead, &mut blocked] {
            list.sort_unstable();
            list.dedup();
        }
        ([active, dead, blocked], timer.map(|timer| timer.after))
    }
}

// proves VA-1.4, as far as a node decides it
#[test]
fn who_is_held_keeps_its_keys_when_the_membership_has_forgotten_it_and_is_blocked_from_its_release_on() {
    // Its probes would end the other member.
    let config = Config { probe_interval: Duration::from_secs(1000), ..Config::lan() };
    let mut node = Node::new(&config);
    node.held = vec![B];
    node.dies(B);
    assert_eq!(node.refresh(at(1)), ([vec![ME, B, C], vec![B], vec![]], None));
    assert_eq!(node.refresh(at(61)), ([vec![ME, B, C], vec![], vec![]], None), "its quarantine is over");
    assert_eq!(node.membership.status(B), Some(MemberStatus::Removed));
    assert_eq!(node.refresh(at(181)), ([vec![ME, B, C], vec![], vec![]], None), "its record is gone");
    assert_eq!(node.membership.status(B), None);
    node.held = vec![];
    let quarantine = Some(Duration::from_secs(60));
    assert_eq!(node.refresh(at(200)), ([vec![ME, C], vec![B], vec![B]], quarantine));
    assert_eq!(node.refresh(at(259)), ([vec![ME, C], vec![B], vec![B]], None));
    assert!(node.roster.fired(TimerEpoch::new(1)) && !node.roster.fired(TimerEpoch::new(1)));
    assert_eq!(node.refresh(at(260)), ([vec![ME, C], vec![], vec![]], None));
}

#[test]
fn who_is_released_within_its_quarantine_is_blocked_no_shorter() {
    let mut node = Node::new(&Config { probe_interval: Duration::from_secs(1000), ..Config::lan() });
    node.held = vec![B];
    node.dies(B);
    node.dies(C);
    assert_eq!(node.refresh(at(1)), ([vec![ME, B], vec![B, C], vec![C]], None), "the other one is nobody's");
    node.held = vec![];
    assert_eq!(node.refresh(at(50)).0, [vec![ME], vec![B, C], vec![B, C]]);
    assert_eq!(node.refresh(at(100)).0, [vec![ME], vec![B], vec![B]]);
    assert_eq!(node.refresh(at(110)).0, [vec![ME], vec![], vec![]]);
}

#[test]
fn who_dies_before_it_is_up_owns_nothing_however_it_stands() {
    let (d, mut node) = (MemberId::new(4), Node::new(&Config::lan()));
    node.hears(Record::new(member(d), Incarnation::new(1), Stage::Joining));
    node.dies(d);
    node.held = vec![d];
    assert_eq!(node.refresh(at(0)).0[0], [ME, B, C]);
}

#[test]
fn who_was_never_dead_after_all_is_not_blocked() {
    let mut node = Node::new(&Config::lan());
    node.held = vec![B];
    node.refresh(at(0));
    node.held = vec![];
    assert_eq!(node.refresh(at(0)), ([vec![ME, B, C], vec![], vec![]], None));
}

// proves MG-4.1
#[test]
fn who_goes_otherwise_than_by_its_own_word_has_died() {
    let mut node = Node::new(&Config { probe_interval: Duration::from_secs(1000), ..Config::lan() });
    node.refresh(at(0));
    node.hears(Record::new(member(B), Incarnation::new(2), Stage::Leaving));
    // Its quarantine is over where this comes from, and begins here.
    node.hears(Record::new(member(C), Incarnation::new(1), Stage::Up).claimed(Verdict::Removed, B));
    assert_eq!(node.membership.status(C), Some(MemberStatus::Dead));
    assert_eq!(node.refresh(at(1)).0, [vec![ME], vec![C], vec![C]]);
    assert_eq!(node.refresh(at(61)).0, [vec![ME], vec![], vec![]]);
}

#[test]
fn the_released_are_bounded() {
    let config = Config { max_quarantined: 1, probe_interval: Duration::from_secs(1000), ..Config::lan() };
    let mut node = Node::new(&config);
    node.held = vec![B, C];
    node.dies(B);
    node.dies(C);
    node.refresh(at(1));
    node.held = vec![C];
    assert_eq!(node.refresh(at(200)).0, [vec![ME, C], vec![B], vec![B]]);
    node.held = vec![];
    assert_eq!(node.refresh(at(201)).0, [vec![ME], vec![C], vec![C]], "the first of them makes room");
}
