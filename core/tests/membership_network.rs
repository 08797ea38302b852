//! Several machines on one virtual clock and one virtual network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod membership_network {
    pub(crate) mod network;
}

use std::time::Duration;

use gristmill_core::MemberStatus::{Dead, Joining, Leaving, Removed, Suspect, Up};
use gristmill_core::membership::{Config, Event, Input, JoinError, Phase, QuarantineReason, SeedFailure};
use proptest::prelude::*;

use membership_network::network::{Faults, Network, address, id};

const SECOND: Duration = Duration::from_secs(1);

/// Nodes 1 to `count`, of which the first two are seeds, all up.
fn cluster(count: u128) -> Network {
    seeded_cluster(1, count)
}

fn seeded_cluster(seed: u64, count: u128) -> Network {
    let mut network = Network::new(seed);
    for node in 1..=count {
        network.spawn(node, node, &[1, 2]);
    }
    assert!(network.run_until(5 * SECOND, Network::is_converged), "{network:?}");
    network
}

// proves MG-2.1
#[test]
fn a_joiner_is_joining_then_up_on_every_node() {
    let mut network = cluster(3);
    network.spawn(4, 4, &[1, 2]);
    assert!(network.run_until(SECOND, |network| network.is_converged() && network.live().count() == 4));
    for node in 1..=3 {
        let path = network.statuses_seen(node, 4);
        assert_eq!(path.last(), Some(&Up));
        assert!(path == [Joining, Up] || path == [Up], "node {node} saw {path:?}");
    }
    assert_eq!(network.statuses_seen(1, 4), [Joining, Up]);
}

#[test]
fn a_join_takes_round_trips_and_not_a_probe_interval() {
    let mut network = cluster(2);
    let started = network.now();
    network.spawn(3, 3, &[1, 2]);
    assert!(network.run_until(SECOND, |network| network.phase(3) == Phase::Up));
    assert!(network.now().since(started) <= Duration::from_millis(20), "{:?}", network.now().since(started));
}

#[test]
fn nodes_that_join_at_the_same_time_find_each_other() {
    let mut network = Network::new(3);
    for node in 1..=5 {
        network.spawn(node, node, &[1, 2, 3]);
    }
    assert!(network.run_until(3 * SECOND, |network| network.is_converged() && network.all_up()), "{network:?}");
    assert_eq!(network.islands(), 1);
}

// proves MG-2.2, MG-3.1, MG-5.2
#[test]
fn a_crashed_member_is_suspected_then_dead_everywhere_then_forgotten() {
    let mut network = cluster(4);
    network.crash(3);
    assert!(network.run_until(5 * SECOND, |network| network.all_see(3, Some(Dead))), "{network:?}");
    for node in [1, 2, 4] {
        assert!(network.statuses_seen(node, 3).ends_with(&[Up, Suspect, Dead]), "seen by {node}");
        assert_eq!(network.member(node).blocked().len(), 1);
        assert!(network.member(node).active().iter().all(|member| member.id != id(3)));
    }
    let sent = network.sent_to(3);
    assert!(network.run_until(5 * SECOND, |network| network.all_see(3, Some(Removed))));
    let told = network.sent_to(3) - sent;
    assert!(told <= 20, "the dead are only told now and then that they are: {told} times in 60 probes");
    let sent = network.sent_to(3);
    assert!(network.run_until(5 * SECOND, |network| network.all_see(3, None)));
    assert_eq!(network.sent_to(3), sent, "the removed are not sent to");
    assert!(network.is_converged());
}

// proves MG-2.2, MG-3.3
#[test]
fn a_member_that_was_cut_off_for_a_moment_refutes_its_suspicion() {
    let mut network = cluster(3);
    network.cut(&[3], &[1, 2]);
    assert!(network.run_until(SECOND, |network| network.sees(1, 3) == Some(Suspect)));
    assert!(network.member(1).blocked().is_empty(), "a suspicion is no quarantine");
    assert!(network.member(1).active().iter().any(|member| member.id == id(3)), "a suspect keeps its keys");
    network.heal();
    assert!(network.run_until(SECOND, |network| network.is_converged() && network.all_see(3, Some(Up))));
    assert!(
        network
            .events(3)
            .iter()
            .any(|event| matches!(event, Event::SuspicionRefuted { member, .. } if *member == id(3)))
    );
    assert!(network.run_until(SECOND, |network| network.all_see(1, Some(Up)) && network.all_see(2, Some(Up))));
    assert_eq!(network.count(|event| matches!(event, Event::Quarantined { .. })), 0);
}

// proves MG-2.3
#[test]
fn a_leaving_member_is_leaving_then_removed_everywhere_and_nobody_suspects_it() {
    let mut network = cluster(4);
    network.input(3, Input::Leave);
    assert!(network.run_until(SECOND, |network| network.all_see(3, Some(Leaving))));
    assert!(network.member(1).active().iter().all(|member| member.id != id(3)));
    network.input(3, Input::Drained);
    assert!(network.run_until(SECOND, |network| network.phase(3) == Phase::Stopped));
    assert_eq!(network.events(3).last(), Some(&Event::Left));
    assert!(network.run_until(SECOND, |network| [1, 2, 4].iter().all(|node| network.sees(*node, 3) == Some(Removed))));
    network.run(2 * SECOND);
    for node in [1, 2, 4] {
        assert!(network.statuses_seen(node, 3).ends_with(&[Up, Leaving, Removed]), "seen by {node}");
    }
    assert!(network.is_converged());
}

#[test]
fn a_leave_ends_in_time_though_nobody_answers() {
    let mut network = cluster(3);
    network.cut(&[3], &[1, 2]);
    network.input(3, Input::Leave);
    let limit = Config::test().drain_timeout + Config::test().leave_linger;
    network.run(limit + Duration::from_millis(1));
    assert_eq!(network.phase(3), Phase::Stopped);
    assert_eq!(network.events(3).last(), Some(&Event::Left));
}

#[test]
fn a_restart_on_the_same_address_joins_at_once_and_supersedes_its_predecessor() {
    let mut network = cluster(3);
    network.crash(3);
    network.spawn(13, 3, &[1, 2]);
    assert!(network.run_until(Duration::from_millis(20), |network| network.phase(13) == Phase::Up));
    assert!(network.run_until(SECOND, |network| network.is_converged() && network.all_see(3, Some(Dead))));
    let superseded = QuarantineReason::Superseded { by: id(13) };
    assert!([1, 2].iter().any(|node| network.member(*node).blocked().iter().any(|entry| entry.reason == superseded)));
    assert!(network.all_see(13, Some(Up)));
}

// Orleans #7160
#[test]
fn a_whole_cluster_that_was_killed_forms_again_on_the_same_addresses() {
    let mut network = cluster(4);
    for node in 1..=4 {
        network.crash(node);
    }
    network.run(SECOND);
    for node in 1..=4 {
        network.spawn(10 + node, node, &[1, 2]);
    }
    assert!(network.run_until(3 * SECOND, |network| network.is_converged() && network.all_up()), "{network:?}");
    assert_eq!((network.islands(), network.live().count()), (1, 4));
}

#[test]
fn the_second_seed_forms_a_cluster_when_the_first_is_absent_and_others_wait_for_it() {
    let mut network = Network::new(5);
    network.spawn(2, 2, &[1, 2]);
    network.spawn(3, 3, &[1, 2]);
    assert!(network.run_until(2 * SECOND, |network| network.is_converged() && network.all_up()), "{network:?}");
    network.spawn(1, 1, &[1, 2]);
    assert!(network.run_until(SECOND, |network| network.is_converged() && network.all_up()));
    assert_eq!(network.islands(), 1);
}

#[test]
fn a_node_that_is_no_seed_gives_up_after_the_join_timeout_and_says_why() {
    let mut network = Network::new(5);
    network.spawn(3, 3, &[1, 2]);
    network.run(Config::test().join_timeout + Duration::from_millis(1));
    let failures = [1, 2].map(|seed| (address(seed), SeedFailure::Unreachable("nobody there".into())));
    let error = JoinError::NoSeedAnswered { failures: failures.into() };
    assert_eq!(network.events(3).last(), Some(&Event::JoinFailed(error)));
    assert_eq!(network.phase(3), Phase::Stopped);
}

#[test]
fn islands_that_formed_apart_merge_when_they_can_reach_each_other() {
    let mut network = Network::new(7);
    network.cut(&[1, 3], &[2, 4]);
    for node in 1..=4 {
        network.spawn(node, node, &[1, 2]);
    }
    assert!(network.run_until(2 * SECOND, |network| network.all_up() && network.is_converged()));
    assert_eq!(network.islands(), 2);
    network.heal();
    assert!(network.run_until(3 * SECOND, |network| network.is_converged() && network.islands() == 1), "{network:?}");
    assert_eq!(network.count(|event| matches!(event, Event::Quarantined { .. } | Event::Evicted { .. })), 0);
}

#[test]
fn the_halves_of_a_long_partition_merge_after_they_have_forgotten_each_other() {
    for seed in 1..=20 {
        let mut network = seeded_cluster(seed, 4);
        // Until all have heard of all: who has joined just now is no witness of what it was told.
        network.run(SECOND);
        network.cut(&[1, 3], &[2, 4]);
        let apart = [(1, 2), (1, 4), (3, 2), (3, 4)];
        let all_dead = |network: &Network| {
            let dead = |(one, other)| network.sees(one, other) == Some(Dead) && network.sees(other, one) == Some(Dead);
            apart.into_iter().all(dead)
        };
        assert!(network.run_until(5 * SECOND, all_dead), "{seed} {network:?}");
        network.heal();
        assert!(
            network.run_until(20 * SECOND, |network| network.islands() == 1 && network.is_converged()),
            "{network:?}"
        );
        assert_eq!(network.count(|event| matches!(event, Event::Evicted { .. })), 0);
        assert_eq!(network.live().count(), 4);
    }
}

// proves MG-2.4
#[test]
fn what_was_said_while_a_member_was_cut_off_reaches_it_afterwards() {
    let mut network = cluster(4);
    network.cut(&[3], &[1, 2]);
    network.crash(4);
    network.input(1, Input::Down { member: id(4) });
    network.run(Duration::from_millis(150));
    assert!(network.sees(2, 4) == Some(Dead) && network.sees(3, 4) != Some(Dead));
    network.heal();
    // Its own verdict would take a probe timeout and a suspicion: 450 ms from the crash.
    assert!(network.run_until(Duration::from_millis(200), |network| network.sees(3, 4) == Some(Dead)), "{network:?}");
}

// proves MG-3.1
#[test]
fn a_process_that_stood_still_too_long_learns_that_it_is_dead() {
    let mut network = cluster(3);
    network.freeze(3);
    assert!(network.run_until(5 * SECOND, |network| network.all_see(3, Some(Dead))));
    network.thaw(3);
    assert!(network.run_until(SECOND, |network| network.phase(3) == Phase::Stopped), "{network:?}");
    assert!(matches!(network.events(3).last(), Some(Event::Evicted { by: Some(_) })));
    network.run(SECOND);
    for node in [1, 2] {
        assert!(network.statuses_seen(node, 3).ends_with(&[Suspect, Dead]), "it accused nobody and was not revived");
        assert_eq!(network.phase(node), Phase::Up);
    }
    assert_eq!(network.count(|event| matches!(event, Event::Quarantined { .. })), 2);
}

#[test]
fn a_process_that_stood_still_for_a_moment_accuses_nobody_to_death() {
    let mut network = cluster(5);
    network.freeze(3);
    network.run(Duration::from_millis(350));
    network.thaw(3);
    network.run(2 * SECOND);
    assert_eq!(network.count(|event| matches!(event, Event::Quarantined { .. } | Event::Evicted { .. })), 0);
    assert!(network.is_converged() && network.all_up());
}

// proves MG-3.3
#[test]
fn a_member_that_one_alone_declares_dead_refutes_and_the_verdict_is_withdrawn() {
    for seed in 1..=20 {
        for count in [3, 5] {
            let mut network = seeded_cluster(seed, count);
            network.input(1, Input::Down { member: id(3) });
            assert_eq!(network.sees(1, 3), Some(Dead));
            let agreed = |network: &Network| network.is_converged() && network.all_see(3, Some(Up));
            assert!(network.run_until(SECOND, agreed), "{network:?}");
            let withdrawn = |event: &Event| matches!(event, Event::VerdictWithdrawn { .. });
            assert_eq!(network.count(withdrawn), 1);
            assert_eq!(network.count(|event| matches!(event, Event::Quarantined { .. })), 1, "by the one");
            assert_eq!(network.live().count(), usize::try_from(count).unwrap());
        }
    }
}

// proves MG-2.2
#[test]
fn a_member_that_two_declare_dead_soon_after_each_other_stops_and_is_dead_for_all() {
    for seed in 1..=20 {
        let mut network = seeded_cluster(seed, 5);
        network.input(1, Input::Down { member: id(3) });
        // Before the first has heard that the others deny it.
        network.run(Duration::from_millis(1));
        network.input(2, Input::Down { member: id(3) });
        assert!(network.run_until(SECOND / 10, |network| network.phase(3) == Phase::Stopped), "{network:?}");
        assert!(matches!(network.events(3).last(), Some(Event::Evicted { .. })));
        network.run(5 * SECOND);
        assert!(network.is_converged() && network.sees(4, 3) != Some(Up), "{network:?}");
    }
}

#[test]
fn memory_of_those_who_come_and_go_is_bounded() {
    let mut network = cluster(2);
    for node in 100..130 {
        network.spawn(node, node, &[1, 2]);
        network.run(Duration::from_millis(200));
        if node % 2 == 0 {
            network.crash(node);
        } else {
            network.input(node, Input::Leave);
            network.input(node, Input::Drained);
        }
    }
    network.run(10 * SECOND);
    assert_eq!(network.member(1).records().count(), 2);
    assert!(network.is_converged());
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut network = Network::new(seed);
        network.faults = Faults { lost: 10, duplicated: 10, reordered: true };
        for node in 1..=4 {
            network.spawn(node, node, &[1, 2]);
        }
        network.run(3 * SECOND);
        format!("{network:?}")
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1), history(2));
}

#[derive(Debug, Clone)]
enum Step {
    Spawn,
    Crash(usize),
    Leave(usize),
    Cut(usize),
    Heal,
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Spawn),
        1 => (0..8_usize).prop_map(Step::Crash),
        1 => (0..8_usize).prop_map(Step::Leave),
        1 => (0..8_usize).prop_map(Step::Cut),
        1 => Just(Step::Heal),
        4 => (1..600_u64).prop_map(Step::Run),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    // proves MG-1.3, MG-2.4
    #[test]
    fn after_the_last_change_all_agree_whatever_was_lost_duplicated_or_reordered(
        seed in any::<u64>(),
        lost in 0..30_u32,
        duplicated in 0..30_u32,
        steps in proptest::collection::vec(step(), 1..12),
    ) {
        let mut network = Network::new(seed);
        network.faults = Faults { lost, duplicated, reordered: true };
        for node in 1..=3 {
            network.spawn(node, node, &[1, 2]);
        }
        let mut next = 4;
        for step in steps {
            let chosen = |index: usize| network.live().nth(index);
            match step {
                Step::Spawn => {
                    network.spawn(next, next, &[1, 2]);
                    next += 1;
                }
                Step::Crash(index) => {
                    if let Some(node) = chosen(index) {
                        network.crash(node);
                    }
                }
                Step::Leave(index) => {
                    if let Some(node) = chosen(index) {
                        network.input(node, Input::Leave);
                    }
                }
                Step::Cut(index) => {
                    if let Some(node) = chosen(index) {
                        let others: Vec<_> = network.live().filter(|other| *other != node).collect();
                        network.cut(&[node], &others);
                    }
                }
                Step::Heal => network.heal(),
                Step::Run(milliseconds) => network.run(Duration::from_millis(milliseconds)),
            }
        }
        network.heal();
        network.faults = Faults::default();
        network.run(20 * SECOND);
        prop_assert!(network.is_converged(), "{network:?}");
        prop_assert!(network.all_up(), "{network:?}");
        // Islands can only find each other through a seed that still runs.
        if network.live().any(|node| node <= 2) {
            prop_assert_eq!(network.islands(), 1, "{:?}", network);
        }
    }
}
