//! Processes and hosts that are gone from one moment to the next.

use std::time::Duration;

use gristmill::{Evidence, MemberStatus};
use gristmill_testkit::Observation;

use crate::on_hosts;

/// How often a process is killed.
const KILLS: usize = 5;

// proves FT-2, FT-5: faults 1 and 7. What a reset and a refused connection tell does not wait for a suspicion to expire
#[test]
fn a_killed_process_is_known_at_once_and_its_successor_joins() {
    on_hosts(3, &[], |cluster| {
        let mut took = Vec::new();
        for _ in 0..KILLS {
            let (victim, killed) = (cluster.id(3), cluster.now());
            cluster.node(3).kill();
            for host in [1, 2] {
                cluster.sees_status(host, victim, MemberStatus::Dead);
            }
            let others = [cluster.name(1), cluster.name(2)];
            let limit = Duration::from_secs(20);
            took.push(cluster.history().everybody_knows(others, victim, killed, limit).unwrap());
            cluster.spawn(3);
            cluster.agree(&[1, 2, 3]);
        }
        took.sort_unstable();
        println!("known to all after {took:?}");
        // Two may fall into a moment in which the machine has other things to do. A suspicion lasts four seconds.
        assert!(took[KILLS / 2] < Duration::from_secs(3), "{took:?}");
        let history = cluster.end(&[1, 2, 3]);
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
        let refused = history
            .entries()
            .iter()
            .filter(|entry| matches!(entry.seen, Observation::Suspected { evidence: Evidence::ConnectionRefused, .. }));
        assert!(refused.count() > 0, "somebody was refused, and says so");
    });
}

// proves FT-5: fault 7
#[test]
fn a_process_that_starts_again_at_once_on_its_port_supersedes_the_one_that_was_killed() {
    on_hosts(3, &[], |cluster| {
        let old = cluster.id(3);
        cluster.node(3).kill();
        cluster.spawn(3);
        let history = cluster.end(&[1, 2, 3]);
        assert_ne!(cluster.id(3), old);
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
        assert!(cluster.call(1, 3).is_ok());
    });
}

// proves FT-2: fault 12, half-open connections, and a stranger who takes over the port
#[test]
fn a_host_that_vanishes_is_noticed_and_a_stranger_at_its_address_is_not_taken_for_it() {
    on_hosts(3, &["--profile", "fast"], |cluster| {
        let (victim, vanished) = (cluster.id(3), cluster.now());
        cluster.lab.unplug(3);
        // Nobody is told: the connections of the others stay half open.
        cluster.node(3).kill();
        cluster.agree(&[1, 2]);
        for host in [1, 2] {
            cluster.sees_status(host, victim, MemberStatus::Dead);
            cluster.sees(host, "not by its word, but by its silence", |seen| {
                matches!(seen, Observation::Suspected { member, evidence, .. }
                    if *member == victim && *evidence != Evidence::ConnectionRefused)
            });
        }
        let there = cluster.lab.address(3);
        cluster.spawn_with(3, &[], &["--cluster", "another", "--seed", &there]);
        cluster.lab.plug(3);
        // It listens, and has asked the seed, which does not take it for one of its own.
        cluster.node(1).event("ConnectionRefused");
        cluster.agree(&[1, 2]);
        cluster.node(3).kill();
        cluster.spawn(3);
        let history = cluster.end(&[1, 2, 3]);
        let others = [cluster.name(1), cluster.name(2)];
        let slowest = history.everybody_knows(others, victim, vanished, Duration::from_secs(20)).unwrap();
        println!("a host that vanished was known to be gone after {slowest:?}");
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
    });
}
