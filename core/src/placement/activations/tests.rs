use super::*;
use crate::Member;
use crate::topology::Topology;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec;
use gristmill_messages::TopologyVersion;
use proptest::prelude::*;

const ME: MemberId = MemberId::new(1);
const KIND: &str = "greeter";

fn member(id: u128) -> Member {
    Member::new(MemberId::new(id), alloc::format!("127.0.0.1:{}", 7700 + id), [KindName::from(KIND)])
}

fn rendezvous(version: u64, ids: impl IntoIterator<Item = u128>) -> Arc<Rendezvous> {
    let members = ids.into_iter().map(member).collect();
    Arc::new(Rendezvous::new(Arc::new(Topology::new(TopologyVersion::new(version), members, vec![]))))
}

fn request(id: u64) -> RequestId {
    RequestId::new(id)
}

fn activation(id: u64) -> ActivationId {
    ActivationId::try_from(id).unwrap()
}

fn epoch(version: u64, sequence: u64) -> ActivationEpoch {
    ActivationEpoch { topology: TopologyVersion::new(version), sequence }
}

fn placed(version: u64, id: u64) -> Result<Placed, Refusal> {
    Ok(Placed { activation: activation(id), epoch: epoch(version, id) })
}

fn alice() -> ClusterIdentity {
    ClusterIdentity::new(KIND, "alice")
}

/// The first identity, counted from 0, whose owner among the members is `owner`.
fn owned_by(owner: u128, ids: impl IntoIterator<Item = u128>) -> ClusterIdentity {
    let rendezvous = rendezvous(1, ids);
    let mut identities = (0..).map(|number: u32| ClusterIdentity::new(KIND, number.to_string()));
    identities.find(|identity| rendezvous.owner(identity).unwrap().id == MemberId::new(owner)).unwrap()
}

struct Node {
    activations: Activations,
    now: Timestamp,
    events: Vec<Event>,
}

impl Node {
    fn new() -> Self {
        Self { activations: Activations::new(Config::test(), ME), now: Timestamp::ZERO, events: vec![] }
    }

    /// A node that owns everything.
    fn alone() -> Self {
        let mut node = Self::new();
        assert_eq!(node.topology(1, [1]), []);
        node
    }

    /// The effects of an input without timers.
    fn does(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.all(input);
        effects.retain(|effect| !matches!(effect, Effect::SetTimer(_)));
        effects
    }

    fn all(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Outbox::new();
        self.activations.handle(self.now, input, &mut out);
        self.events.extend(out.drain_events());
        out.drain_effects().collect()
    }

    fn topology(&mut self, version: u64, ids: impl IntoIterator<Item = u128>) -> Vec<Effect> {
        self.does(Input::TopologyChanged { rendezvous: rendezvous(version, ids) })
    }

    fn asked(&mut self, id: u64, identity: ClusterIdentity) -> Vec<Effect> {
        self.does(Input::Requested { request: request(id), identity: Arc::new(identity) })
    }

    fn activated(&mut self, id: u64) -> Vec<Effect> {
        self.does(Input::Activated { activation: activation(id) })
    }

    fn ended(&mut self, id: u64, reason: DeactivationReason) -> Vec<Effect> {
        self.does(Input::Ended { activation: activation(id), reason })
    }

    fn idle(&mut self, id: u64) -> Vec<Effect> {
        self.does(Input::Deactivate { activation: activation(id), reason: DeactivationReason::Idle })
    }

    fn later(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }
}

fn spawn(version: u64, id: u64, identity: ClusterIdentity) -> Effect {
    Effect::Spawn { activation: activation(id), identity: Arc::new(identity), epoch: epoch(version, id) }
}

fn answer(id: u64, answer: Result<Placed, Refusal>) -> Effect {
    Effect::Answer { request: request(id), answer }
}

fn drain(id: u64, reason: DeactivationReason) -> Effect {
    Effect::Drain { activation: activation(id), reason }
}

fn announce(version: u64, id: u64, identity: ClusterIdentity, reason: DeactivationReason) -> Effect {
    let epoch = epoch(version, id);
    Effect::Announce { activation: activation(id), epoch, identity: Arc::new(identity), reason }
}

// proves VA-2.1
#[test]
fn the_first_request_spawns_a_grain_that_knows_its_identity_and_is_answered_when_it_is_active() {
    let mut node = Node::alone();
    assert_eq!(node.asked(1, alice()), [spawn(1, 1, alice())]);
    assert_eq!(node.activated(1), [answer(1, placed(1, 1))]);
    assert_eq!(node.asked(2, alice()), [answer(2, placed(1, 1))]);
    assert_eq!(node.activations.active(&alice()), placed(1, 1).ok());
}

// proves VA-1.2, VA-1.3
#[test]
fn requests_that_meet_share_one_activation() {
    let mut node = Node::alone();
    assert_eq!(node.asked(1, alice()), [spawn(1, 1, alice())]);
    assert_eq!(node.asked(2, alice()), []);
    assert_eq!(node.activated(1), [answer(1, placed(1, 1)), answer(2, placed(1, 1))]);
}

#[test]
fn a_failed_activation_answers_all_who_wait_and_the_next_request_tries_again() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.asked(2, alice());
    let failure = || Err(Refusal::Failed("no disk".into()));
    let failed = Input::ActivationFailed { activation: activation(1), failure: "no disk".into() };
    assert_eq!(node.does(failed), [answer(1, failure()), answer(2, failure())]);
    let event = Event::NotStarted { identity: Arc::new(alice()), activation: activation(1), failure: "no disk".into() };
    assert_eq!(node.events, [event]);
    assert_eq!(node.asked(3, alice()), [spawn(1, 2, alice())]);
}

#[test]
fn a_grain_that_ends_while_it_activates_has_failed() {
    let mut node = Node::alone();
    node.asked(1, alice());
    let failure = Err(Refusal::Failed("it ended before it was active: panicked".into()));
    assert_eq!(node.ended(1, DeactivationReason::Panicked), [answer(1, failure)]);
    assert!(node.activations.is_empty());
}

// proves VA-2.3, VA-4.1
#[test]
fn a_grain_that_ends_is_unregistered_and_announced() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    let reason = DeactivationReason::Panicked;
    assert_eq!(node.ended(1, reason), [announce(1, 1, alice(), reason)]);
    assert!(node.activations.is_empty());
    let identity = Arc::new(alice());
    let (activation, epoch) = (activation(1), epoch(1, 1));
    let started = Event::Started { identity: Arc::clone(&identity), activation, epoch };
    assert_eq!(node.events, [started, Event::Terminated { identity, activation, epoch, reason }]);
}

#[test]
fn a_request_behind_a_draining_grain_waits_for_its_end_and_gets_the_next_one() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    assert_eq!(node.idle(1), [drain(1, DeactivationReason::Idle)]);
    assert_eq!(node.asked(2, alice()), [], "never two at once");
    assert_eq!(node.idle(1), [], "it drains already");
    let ended = node.ended(1, DeactivationReason::Idle);
    assert_eq!(ended, [announce(1, 1, alice(), DeactivationReason::Idle), spawn(1, 2, alice())]);
    assert_eq!(node.activated(2), [answer(2, placed(1, 2))]);
}

#[test]
fn a_later_activation_of_an_identity_has_a_greater_epoch() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    node.ended(1, DeactivationReason::Stopped);
    node.topology(2, [1]);
    assert_eq!(node.asked(2, alice()), [spawn(2, 2, alice())]);
    assert!(epoch(2, 2) > epoch(1, 1));
}

// proves VA-2.2
#[test]
fn an_unknown_kind_is_refused_at_once() {
    let mut node = Node::alone();
    let refusal = Refusal::UnknownKind { kind: "printer".into() };
    assert_eq!(node.asked(1, ClusterIdentity::new("printer", "a")), [answer(1, Err(refusal))]);
    assert!(node.activations.is_empty());
}

#[test]
fn an_identity_of_another_member_is_refused_with_its_owner() {
    let mut node = Node::new();
    node.topology(1, [1, 2]);
    let refusal = Refusal::NotOwner { owner: Some(member(2)) };
    assert_eq!(node.asked(1, owned_by(2, [1, 2])), [answer(1, Err(refusal))]);
    let mine = owned_by(1, [1, 2]);
    assert_eq!(node.asked(2, mine.clone()), [spawn(1, 1, mine)]);
}

#[test]
fn before_the_first_topology_nothing_has_started() {
    assert_eq!(Node::new().asked(1, alice()), [answer(1, Err(Refusal::NotStarted))]);
}

#[test]
fn an_identity_that_names_nothing_is_refused() {
    let effects = Node::alone().asked(1, ClusterIdentity::new(KIND, ""));
    let failure = "invalid identity: the identity is empty".into();
    assert_eq!(effects, [answer(1, Err(Refusal::Failed(failure)))]);
}

// proves VA-2.4
#[test]
fn a_change_of_the_topology_drains_what_moved_and_leaves_the_rest_alone() {
    let mut node = Node::alone();
    let (moves, stays) = (owned_by(2, [1, 2]), owned_by(1, [1, 2]));
    for (id, identity) in [(1, &moves), (2, &stays)] {
        node.asked(id, identity.clone());
        node.activated(id);
    }
    assert_eq!(node.topology(2, [1, 2]), [drain(1, DeactivationReason::OwnershipMoved)]);
    let refusal = || Err(Refusal::NotOwner { owner: Some(member(2)) });
    assert_eq!(node.asked(3, moves.clone()), [answer(3, refusal())]);
    assert_eq!(node.asked(4, stays), [answer(4, placed(1, 2))]);
    let ended = node.ended(1, DeactivationReason::OwnershipMoved);
    assert_eq!(ended, [announce(1, 1, moves, DeactivationReason::OwnershipMoved)]);
}

#[test]
fn who_waits_for_what_moves_away_is_told_the_new_owner() {
    let mut node = Node::alone();
    let (activating, draining) = (owned_by(2, [1, 2]), owned_by(3, [1, 2, 3]));
    node.asked(1, activating.clone());
    node.asked(2, draining.clone());
    node.activated(2);
    node.idle(2);
    node.asked(3, draining.clone());
    let owner = rendezvous(2, [1, 2, 3]).owner(&activating).cloned();
    let effects = node.topology(2, [1, 2, 3]);
    let refusal = |owner| Err(Refusal::NotOwner { owner });
    let moved = drain(1, DeactivationReason::OwnershipMoved);
    assert_eq!(effects, [answer(1, refusal(owner)), moved, answer(3, refusal(Some(member(3))))]);
    assert_eq!(node.activated(1), [], "too late to serve");
    assert_eq!(node.ended(1, DeactivationReason::OwnershipMoved), [], "nobody ever knew of it");
}

#[test]
fn an_identity_that_comes_back_while_it_drains_is_activated_after_its_end() {
    let mut node = Node::alone();
    let identity = owned_by(2, [1, 2]);
    node.asked(1, identity.clone());
    node.activated(1);
    node.topology(2, [1, 2]);
    assert_eq!(node.topology(3, [1]), []);
    assert_eq!(node.asked(2, identity.clone()), []);
    let reason = DeactivationReason::OwnershipMoved;
    assert_eq!(node.ended(1, reason), [announce(1, 1, identity.clone(), reason), spawn(3, 2, identity)]);
}

// proves VA-1.4 as far as it owns nothing: who is blocked is in no topology
#[test]
fn a_member_that_is_not_in_the_topology_owns_nothing() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    assert_eq!(node.topology(2, [2]), [drain(1, DeactivationReason::OwnershipMoved)]);
    assert_eq!(node.asked(2, alice()), [answer(2, Err(Refusal::NotOwner { owner: Some(member(2)) }))]);
}

#[test]
fn an_old_topology_changes_nothing() {
    let mut node = Node::alone();
    node.topology(5, [1]);
    node.asked(1, alice());
    node.activated(1);
    assert_eq!(node.topology(4, [2]), []);
    assert_eq!(node.topology(5, [2]), []);
    assert_eq!(node.activations.ignored(), 2);
    assert_eq!(node.asked(2, alice()), [answer(2, placed(5, 1))]);
}

#[test]
fn reports_about_activations_that_are_not_there_are_counted_and_change_nothing() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    let failed = |id| Input::ActivationFailed { activation: activation(id), failure: "?".into() };
    assert_eq!(node.activated(9), []);
    assert_eq!(node.ended(9, DeactivationReason::Panicked), []);
    assert_eq!(node.does(failed(9)), []);
    assert_eq!(node.idle(9), []);
    assert_eq!(node.activated(1), [], "twice");
    assert_eq!(node.does(failed(1)), [], "it is active");
    assert_eq!(node.activations.ignored(), 6);
    assert_eq!(node.asked(2, alice()), [answer(2, placed(1, 1))]);
}

#[test]
fn waiters_and_activations_are_bounded() {
    let config = Config { max_waiters: 1, max_activations: 1, ..Config::test() };
    let mut node = Node::alone();
    node.activations.config = config;
    assert_eq!(node.asked(1, alice()), [spawn(1, 1, alice())]);
    assert_eq!(node.asked(2, alice()), [answer(2, Err(Refusal::Overloaded))]);
    assert_eq!(node.asked(3, ClusterIdentity::new(KIND, "bob")), [answer(3, Err(Refusal::Overloaded))]);
    assert_eq!(node.activated(1), [answer(1, placed(1, 1))]);
}

// proves VA-3.3
#[test]
fn a_withdrawn_request_leaves_nothing_pending() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.asked(2, alice());
    assert_eq!(node.does(Input::Withdrawn { request: request(1), identity: alice() }), []);
    assert_eq!(node.activated(1), [answer(2, placed(1, 1))]);
    node.idle(1);
    node.asked(3, alice());
    assert_eq!(node.does(Input::Withdrawn { request: request(3), identity: alice() }), []);
    let ended = node.ended(1, DeactivationReason::Idle);
    assert_eq!(ended, [announce(1, 1, alice(), DeactivationReason::Idle)], "nobody wants the next");
}

#[test]
fn a_grain_that_does_not_activate_in_time_is_drained_and_then_stopped() {
    let mut node = Node::alone();
    let first = SetTimer { after: Duration::from_millis(500), epoch: TimerEpoch::new(1) };
    let asked = node.all(Input::Requested { request: request(1), identity: Arc::new(alice()) });
    assert_eq!(asked, [spawn(1, 1, alice()), Effect::SetTimer(first)]);
    node.later(500);
    let failure = Refusal::Failed("it was ended while it activated: unresponsive".into());
    let second = SetTimer { after: Duration::from_millis(500), epoch: TimerEpoch::new(2) };
    assert_eq!(
        node.all(Input::TimerFired(first.epoch)),
        [answer(1, Err(failure)), drain(1, DeactivationReason::Unresponsive), Effect::SetTimer(second)]
    );
    assert_eq!(node.asked(2, alice()), [], "it has not ended");
    node.later(500);
    assert_eq!(node.all(Input::TimerFired(second.epoch)), [Effect::Stop { activation: activation(1) }]);
    assert_eq!(node.ended(1, DeactivationReason::Unresponsive), [spawn(1, 2, alice())]);
}

#[test]
fn a_stale_timer_is_ignored() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.later(100);
    let earlier = node.all(Input::ShutDown { grace: Duration::from_millis(200) });
    let epoch = TimerEpoch::new(2);
    assert_eq!(earlier.last(), Some(&Effect::SetTimer(SetTimer { after: Duration::from_millis(200), epoch })));
    node.later(200);
    assert_eq!(node.all(Input::TimerFired(TimerEpoch::new(1))), []);
    assert_eq!(node.activations.len(), 1);
    assert_eq!(node.does(Input::TimerFired(epoch)), [Effect::Stop { activation: activation(1) }]);
}

#[test]
fn an_activation_in_time_costs_one_timer_for_many() {
    let mut node = Node::alone();
    let mut timers = 0;
    for id in 1..=100 {
        let identity = ClusterIdentity::new(KIND, id.to_string());
        let effects = node.all(Input::Requested { request: request(id), identity: Arc::new(identity) });
        timers += effects.iter().filter(|effect| matches!(effect, Effect::SetTimer(_))).count();
        node.activated(id);
        node.later(1);
    }
    assert_eq!(timers, 1);
    assert!(node.activations.activating.is_empty(), "what has arrived is not remembered");
}

// proves VA-2.5
#[test]
fn a_shutdown_refuses_requests_drains_everything_and_says_when_it_is_done() {
    let mut node = Node::alone();
    let bob = || ClusterIdentity::new(KIND, "bob");
    let carol = || ClusterIdentity::new(KIND, "carol");
    for (id, identity) in [(1, alice()), (2, bob()), (3, carol())] {
        node.asked(id, identity);
    }
    node.activated(1);
    node.activated(2);
    node.idle(2);
    node.asked(4, bob());
    node.events.clear();
    let refused = |id| answer(id, Err(Refusal::ShuttingDown));
    let reason = DeactivationReason::ShuttingDown;
    let effects = node.does(Input::ShutDown { grace: Duration::from_secs(1) });
    assert_eq!(effects, [drain(1, reason), refused(4), refused(3), drain(3, reason)]);
    assert_eq!(node.asked(5, alice()), [refused(5)]);
    assert_eq!(node.does(Input::ShutDown { grace: Duration::ZERO }), [], "once is enough");
    assert_eq!(node.topology(2, [2]), []);
    node.ended(1, reason);
    node.ended(3, reason);
    assert!(!node.events.contains(&Event::Drained { abandoned: 0 }));
    node.ended(2, DeactivationReason::Idle);
    assert_eq!(node.events.last(), Some(&Event::Drained { abandoned: 0 }));
    assert_eq!(node.asked(6, alice()), [refused(6)]);
}

// proves VA-2.5
#[test]
fn a_shutdown_gives_up_what_is_left_at_its_deadline() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    node.events.clear();
    node.does(Input::ShutDown { grace: Duration::from_millis(100) });
    node.later(100);
    let reason = DeactivationReason::ShuttingDown;
    let effects = node.does(Input::TimerFired(TimerEpoch::new(2)));
    assert_eq!(effects, [Effect::Stop { activation: activation(1) }, announce(1, 1, alice(), reason)]);
    assert_eq!(node.events.last(), Some(&Event::Drained { abandoned: 1 }));
    assert_eq!(node.ended(1, reason), [], "late");
    assert_eq!(node.activations.ignored(), 1);
}

#[test]
fn a_halt_refuses_requests_stops_everything_and_tells_nobody_of_a_failure() {
    let mut node = Node::alone();
    let bob = || ClusterIdentity::new(KIND, "bob");
    let carol = || ClusterIdentity::new(KIND, "carol");
    for (id, identity) in [(1, alice()), (2, bob()), (3, carol())] {
        node.asked(id, identity);
    }
    node.activated(1);
    node.activated(2);
    node.idle(2);
    node.asked(4, bob());
    let refused = |id| answer(id, Err(Refusal::ShuttingDown));
    let stop = |id| Effect::Stop { activation: activation(id) };
    assert_eq!(node.does(Input::Halt), [stop(1), refused(4), stop(2), refused(3), stop(3)]);
    assert_eq!(node.asked(5, alice()), [refused(5)]);
    assert_eq!(node.topology(2, [1]), []);
    let cut_off = DeactivationReason::Unresponsive;
    assert_eq!(node.ended(1, cut_off), [announce(1, 1, alice(), cut_off)]);
    assert_eq!(node.does(Input::ActivationFailed { activation: activation(3), failure: "cut".into() }), []);
    assert_eq!(node.asked(6, carol()), [refused(6)]);
    // Nobody has to hurry, but a shutdown still waits for what is left.
    assert_eq!(node.does(Input::ShutDown { grace: Duration::from_secs(1) }), []);
    assert!(!node.events.contains(&Event::Drained { abandoned: 0 }));
    node.ended(2, cut_off);
    assert_eq!(node.events.last(), Some(&Event::Drained { abandoned: 0 }));
}

#[test]
fn a_halt_cuts_a_shutdown_short() {
    let mut node = Node::alone();
    node.asked(1, alice());
    node.activated(1);
    node.does(Input::ShutDown { grace: Duration::from_secs(1) });
    assert_eq!(node.does(Input::Halt), [Effect::Stop { activation: activation(1) }]);
    node.ended(1, DeactivationReason::Unresponsive);
    assert_eq!(node.events.last(), Some(&Event::Drained { abandoned: 0 }));
    assert_eq!(node.does(Input::Halt), []);
}

#[test]
fn an_empty_node_is_drained_at_once() {
    for mut node in [Node::new(), Node::alone()] {
        assert_eq!(node.all(Input::ShutDown { grace: Duration::from_secs(1) }), []);
        assert_eq!(node.events, [Event::Drained { abandoned: 0 }]);
    }
}

// proves VA-4.3
#[test]
fn the_count_of_a_kind_is_that_of_its_started_grains() {
    let mut node = Node::alone();
    let count = |node: &Node| node.activations.started().map(|(_, count)| count).sum::<usize>();
    node.asked(1, alice());
    assert_eq!(count(&node), 0);
    node.activated(1);
    assert_eq!(count(&node), 1);
    node.idle(1);
    assert_eq!(count(&node), 1);
    node.ended(1, DeactivationReason::Idle);
    assert_eq!(count(&node), 0);
}

#[test]
fn a_slot_is_as_small_as_the_documentation_says() {
    assert_eq!(size_of::<Slot>(), 72);
}

#[test]
fn a_bound_or_time_of_zero_is_no_configuration() {
    assert_eq!(Config::lan().validate(), Ok(()));
    assert_eq!(Config::test().validate(), Ok(()));
    let invalid = Config { max_waiters: 0, ..Config::lan() };
    assert_eq!(invalid.validate(), Err(InvalidConfig { field: "max_waiters" }));
    let invalid = Config { drain_timeout: Duration::ZERO, ..Config::lan() };
    assert_eq!(invalid.validate(), Err(InvalidConfig { field: "drain_timeout" }));
}

/// What the world outside may do; numbers choose among what exists.
#[derive(Debug, Clone)]
enum Step {
    Topology(u8),
    Request(u8),
    Withdraw(u8),
    Activated(u8),
    Failed(u8),
    Ended(u8),
    Deactivate(u8),
    Later(u16),
    Junk(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0_u8..16).prop_map(Step::Topology),
        8 => (0_u8..6).prop_map(Step::Request),
        1 => any::<u8>().prop_map(Step::Withdraw),
        4 => any::<u8>().prop_map(Step::Activated),
        1 => any::<u8>().prop_map(Step::Failed),
        3 => any::<u8>().prop_map(Step::Ended),
        2 => any::<u8>().prop_map(Step::Deactivate),
        1 => (0_u16..700).prop_map(Step::Later),
        1 => any::<u64>().prop_map(Step::Junk),
    ]
}

/// The world: which grains really live, who really waits.
#[derive(Default)]
struct World {
    now: Timestamp,
    requests: BTreeMap<RequestId, ClusterIdentity>,
    /// Identity and whether it has activated.
    grains: BTreeMap<ActivationId, (Arc<ClusterIdentity>, bool)>,
    timer: Option<(Timestamp, TimerEpoch)>,
    started: BTreeSet<ActivationId>,
    terminated: BTreeSet<ActivationId>,
    drained: usize,
}

impl World {
    fn feed(&mut self, activations: &mut Activations, input: Input) {
        let mut out = Outbox::new();
        activations.handle(self.now, input, &mut out);
        for effect in out.drain_effects() {
            match effect {
                Effect::Spawn { activation, identity, .. } => {
                    assert!(self.grains.values().all(|(alive, _)| *alive != identity), "{identity} lives already");
                    assert!(self.grains.insert(activation, (identity, false)).is_none(), "{activation} is used twice");
                }
                Effect::Answer { request, answer } => {
                    let identity = self.requests.remove(&request).expect("answered once");
                    if let Ok(placed) = answer {
                        assert_eq!(self.grains.get(&placed.activation), Some(&(Arc::new(identity), true)));
                    }
                }
                Effect::Drain { activation, .. } | Effect::Stop { activation } => {
                    assert!(self.grains.contains_key(&activation), "told to end {activation}, which is gone");
                }
                Effect::Announce { activation, .. } => assert!(self.started.contains(&activation)),
                Effect::SetTimer(timer) => self.timer = Some((self.now + timer.after, timer.epoch)),
            }
        }
        for event in out.drain_events() {
            match event {
                Event::Started { activation, .. } => assert!(self.started.insert(activation)),
                Event::Terminated { activation, .. } => assert!(self.terminated.insert(activation)),
                Event::NotStarted { activation, .. } => assert!(!self.started.contains(&activation)),
                Event::Drained { .. } => self.drained += 1,
            }
        }
        assert!(activations.len() >= self.grains.len() || self.drained > 0, "a grain without a slot");
    }

    fn grain(&self, choice: u8) -> Option<ActivationId> {
        self.grains.keys().nth(usize::from(choice) % self.grains.len().max(1)).copied()
    }

    fn later(&mut self, activations: &mut Activations, by: Duration) {
        let until = self.now + by;
        while let Some((at, epoch)) = self.timer.filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.timer = None;
            self.feed(activations, Input::TimerFired(epoch));
        }
        self.now = until;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn never_two_alive_of_one_identity_and_each_request_is_answered_once(
        steps in proptest::collection::vec(step(), 1..120), halts_before in 1_u64..240, patient in any::<bool>(),
    ) {
        let config = Config { max_waiters: 3, max_activations: 5, ..Config::test() };
        let (mut activations, mut world) = (Activations::new(config, ME), World::default());
        let mut drawn = 0_u64;
        for (version, step) in (1..).zip(steps) {
            if version == halts_before {
                world.feed(&mut activations, Input::Halt);
                prop_assert!(world.requests.is_empty(), "{:?} wait for what never comes", world.requests);
            }
            let input = match step {
                Step::Topology(members) => {
                    let ids = (0..4_u128).filter(|bit| members >> bit & 1 == 1).map(|bit| bit + 1);
                    Input::TopologyChanged { rendezvous: rendezvous(version, ids) }
                }
                Step::Request(name) => {
                    drawn += 1;
                    let (request, identity) = (request(drawn), ClusterIdentity::new(KIND, name.to_string()));
                    world.requests.insert(request, identity.clone());
                    Input::Requested { request, identity: Arc::new(identity) }
                }
                Step::Withdraw(choice) => {
                    let waiting = world.requests.len().max(1);
                    let Some(request) = world.requests.keys().nth(usize::from(choice) % waiting).copied() else { continue };
                    let identity = world.requests.remove(&request).unwrap();
                    Input::Withdrawn { request, identity }
                }
                Step::Activated(choice) => {
                    let Some(activation) = world.grain(choice) else { continue };
                    if let Some(grain) = world.grains.get_mut(&activation) {
                        grain.1 = true;
                    }
                    Input::Activated { activation }
                }
                Step::Failed(choice) => {
                    let Some(activation) = world.grain(choice) else { continue };
                    // A cell reports this only of a grain that has not activated.
                    if world.grains.get(&activation).is_none_or(|grain| grain.1) { continue }
                    world.grains.remove(&activation);
                    Input::ActivationFailed { activation, failure: "?".into() }
                }
                Step::Ended(choice) => {
                    let Some(activation) = world.grain(choice) else { continue };
                    world.grains.remove(&activation);
                    Input::Ended { activation, reason: DeactivationReason::Stopped }
                }
                Step::Deactivate(choice) => {
                    let Some(activation) = world.grain(choice) else { continue };
                    Input::Deactivate { activation, reason: DeactivationReason::Idle }
                }
                Step::Later(milliseconds) => {
                    world.later(&mut activations, Duration::from_millis(milliseconds.into()));
                    continue;
                }
                Step::Junk(id) => match ActivationId::try_from(id | 1 << 40) {
                    Ok(activation) if id % 2 == 0 => Input::Ended { activation, reason: DeactivationReason::Panicked },
                    Ok(activation) => Input::Activated { activation },
                    Err(_) => continue,
                },
            };
            world.feed(&mut activations, input);
        }
        world.feed(&mut activations, Input::ShutDown { grace: Duration::from_secs(1) });
        prop_assert!(world.requests.is_empty(), "{:?} were never answered", world.requests);
        while let Some(activation) = world.grain(0).filter(|_| patient) {
            world.grains.remove(&activation);
            world.feed(&mut activations, Input::Ended { activation, reason: DeactivationReason::ShuttingDown });
        }
        world.later(&mut activations, Duration::from_secs(1));
        prop_assert_eq!(world.drained, 1);
        prop_assert!(activations.is_empty());
        prop_assert_eq!(&world.started, &world.terminated, "each start has its end");
    }
}
