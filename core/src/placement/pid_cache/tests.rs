use super::*;
use crate::KindName;
use crate::topology::Topology;
use alloc::vec;
use gristmill_messages::ActivationEpoch;

const OWNER: MemberId = MemberId::new(1);

fn owner() -> Member {
    Member::new(OWNER, "127.0.0.1:7701", [KindName::from("greeter")])
}

fn alice() -> ClusterIdentity {
    ClusterIdentity::new("greeter", "alice")
}

fn location() -> Location {
    let epoch = ActivationEpoch { topology: TopologyVersion::new(1), sequence: 1 };
    Location { member: OWNER, activation: ActivationId::try_from(1).unwrap(), epoch }
}

fn handle(lookups: &mut Lookups, input: Input) -> Vec<Effect> {
    let mut out = Outbox::new();
    lookups.handle(Timestamp::ZERO, input, &mut out);
    out.drain_effects().collect()
}

fn miss(lookups: &mut Lookups, request: u64, identity: ClusterIdentity) -> Vec<Effect> {
    handle(lookups, Input::Miss { request: RequestId::new(request), identity })
}

fn started(config: Config) -> Lookups {
    let mut lookups = Lookups::new(config);
    let topology = Topology::new(TopologyVersion::new(1), vec![owner()], vec![]);
    let rendezvous = Arc::new(Rendezvous::new(Arc::new(topology)));
    assert_eq!(handle(&mut lookups, Input::TopologyChanged { rendezvous }), []);
    lookups
}

fn resolve(id: u64) -> Effect {
    Effect::Resolve { lookup: LookupId(id), identity: Arc::new(alice()), owner: owner() }
}

fn answer(request: u64, answer: Result<Location, LookupError>) -> Effect {
    Effect::Answer { request: RequestId::new(request), answer }
}

// proves VA-3.1
#[test]
fn misses_that_meet_make_one_lookup() {
    let mut lookups = started(Config::default());
    assert_eq!(miss(&mut lookups, 1, alice()), [resolve(1)]);
    assert_eq!(miss(&mut lookups, 2, alice()), []);
    let resolved = Input::Resolved { lookup: LookupId(1), identity: alice(), location: location() };
    let insert = Effect::Insert { identity: Arc::new(alice()), location: location() };
    assert_eq!(handle(&mut lookups, resolved), [insert, answer(1, Ok(location())), answer(2, Ok(location()))]);
    assert!(lookups.is_empty());
}

// proves VA-3.4
#[test]
fn what_cannot_be_resolved_says_why_and_whether_to_ask_again() {
    let kind = KindName::from("printer");
    let unknown = LookupError::from(Refusal::UnknownKind { kind });
    assert!(!unknown.is_transient());
    let mut lookups = started(Config::default());
    assert_eq!(miss(&mut lookups, 1, ClusterIdentity::new("printer", "a")), [answer(1, Err(unknown))]);

    let not_started = LookupError::from(Refusal::NotStarted);
    assert!(not_started.is_transient());
    assert_eq!(miss(&mut Lookups::new(Config::default()), 1, alice()), [answer(1, Err(not_started))]);
}

#[test]
fn a_failed_lookup_answers_all_and_the_next_miss_makes_another() {
    let mut lookups = started(Config::default());
    miss(&mut lookups, 1, alice());
    miss(&mut lookups, 2, alice());
    let error = LookupError::Unreachable("refused".into());
    let failed = Input::Failed { lookup: LookupId(1), identity: alice(), error: error.clone() };
    assert_eq!(handle(&mut lookups, failed), [answer(1, Err(error.clone())), answer(2, Err(error))]);
    assert_eq!(miss(&mut lookups, 3, alice()), [resolve(2)]);
}

// proves VA-3.5
#[test]
fn a_member_that_goes_fails_its_lookups_and_empties_its_part_of_the_cache() {
    let mut lookups = started(Config::default());
    miss(&mut lookups, 1, alice());
    let gone = LookupError::OwnerGone(OWNER);
    assert!(gone.is_transient());
    let effects = handle(&mut lookups, Input::MemberGone(OWNER));
    assert_eq!(effects, [Effect::InvalidateMember(OWNER), answer(1, Err(gone))]);
    let late = Input::Resolved { lookup: LookupId(1), identity: alice(), location: location() };
    assert_eq!(handle(&mut lookups, late.clone()), [], "the cache never holds what a member said that is gone");
    miss(&mut lookups, 2, alice());
    assert_eq!(handle(&mut lookups, late), [], "the answer to another lookup");
    assert_eq!(lookups.len(), 1);
}

#[test]
fn the_departure_of_another_member_disturbs_no_lookup() {
    let mut lookups = started(Config::default());
    miss(&mut lookups, 1, alice());
    let other = MemberId::new(9);
    assert_eq!(handle(&mut lookups, Input::MemberGone(other)), [Effect::InvalidateMember(other)]);
    assert_eq!(lookups.len(), 1);
}

#[test]
fn an_activation_that_is_no_more_is_forgotten_alone() {
    let mut lookups = started(Config::default());
    let (activation, member, identity) = (location().activation, OWNER, alice());
    let terminated = Input::Terminated { activation, member, identity: identity.clone() };
    assert_eq!(handle(&mut lookups, terminated), [Effect::Invalidate { identity, activation, member }]);
}

// proves VA-3.3
#[test]
fn a_withdrawn_miss_is_not_answered() {
    let mut lookups = started(Config::default());
    miss(&mut lookups, 1, alice());
    assert_eq!(handle(&mut lookups, Input::Withdrawn { request: RequestId::new(1), identity: alice() }), []);
    let resolved = Input::Resolved { lookup: LookupId(1), identity: alice(), location: location() };
    let insert = Effect::Insert { identity: Arc::new(alice()), location: location() };
    assert_eq!(handle(&mut lookups, resolved), [insert]);
}

#[test]
fn waiters_and_lookups_are_bounded() {
    let mut lookups = started(Config { max_waiters: 1, max_lookups: 1 });
    let overloaded = || Err(Refusal::Overloaded.into());
    miss(&mut lookups, 1, alice());
    assert_eq!(miss(&mut lookups, 2, alice()), [answer(2, overloaded())]);
    assert_eq!(miss(&mut lookups, 3, ClusterIdentity::new("greeter", "bob")), [answer(3, overloaded())]);
}
