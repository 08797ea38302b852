//! Ways that are cut, or lose what is sent.

use std::time::Duration;

use gristmill::{Evidence, MemberStatus};
use gristmill_testkit::Observation;

use crate::on_hosts;

/// For how long a fault lasts that must not harm: longer than a suspicion that is confirmed.
const A_WHILE: Duration = Duration::from_secs(5);

// proves M3, M5, M6: fault 3, a partition of three into two and one
#[test]
fn who_is_cut_off_goes_and_the_majority_goes_on() {
    on_hosts(3, &["--profile", "fast"], |cluster| {
        let (lonely, cut_at) = (cluster.id(3), cluster.now());
        cluster.lab.partition(&[3], &[1, 2]);
        for host in [1, 2] {
            cluster.sees(host, "who suspects it, and why", |seen| {
                matches!(seen, Observation::Suspected { member, evidence, .. }
                    if *member == lonely && *evidence != Evidence::ConnectionRefused)
            });
            cluster.sees_status(host, lonely, MemberStatus::Dead);
        }
        cluster.agree(&[1, 2]);
        cluster.sees(3, "it hears nobody", |seen| *seen == Observation::Isolated);
        assert!(cluster.call(1, 2).is_ok());
        assert!(cluster.lab.dropped() > 0);

        cluster.lab.heal();
        cluster.sees(3, "it is told that it is dead", |seen| *seen == Observation::Evicted);
        cluster.sees(3, "it stops", |seen| *seen == Observation::Ended);
        cluster.agree(&[1, 2]);

        let again = cluster.spawn(3).id();
        let history = cluster.end(&[1, 2, 3]);
        assert_ne!(again, lonely.to_string());
        let others = [cluster.name(1), cluster.name(2)];
        let slowest = history.everybody_knows(others, lonely, cut_at, Duration::from_secs(20)).unwrap();
        println!("a member that was cut off was known to be gone after {slowest:?}");
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.id(host))).unwrap();
    });
}

// proves M4: fault 4, two members that cannot hear each other, in one direction or both
#[test]
fn one_broken_link_kills_nobody() {
    on_hosts(3, &["--profile", "fast"], |cluster| {
        cluster.lab.cut(1, 2);
        std::thread::sleep(A_WHILE);
        cluster.lab.cut(2, 1);
        std::thread::sleep(A_WHILE);
        assert!(cluster.lab.dropped() > 0);
        cluster.lab.heal();
        let history = cluster.end(&[1, 2, 3]);
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.id(host))) {
            panic!("{violation}\n{history}");
        }
    });
}

// proves M3, M5: fault 4, a member that hears but is not heard, and one that is heard but does not hear
#[test]
fn who_is_mute_or_deaf_goes_and_nobody_else() {
    on_hosts(4, &["--profile", "fast"], |cluster| {
        let (mute, healthy) = (cluster.id(4), [1, 2, 3].map(|host| cluster.id(host)));
        for host in 1..=3 {
            cluster.lab.cut(4, host);
        }
        cluster.agree(&[1, 2, 3]);
        cluster.lab.heal();
        cluster.sees(4, "it is told", |seen| *seen == Observation::Evicted);
        let deaf = {
            cluster.spawn(4);
            cluster.agree(&[1, 2, 3, 4]);
            cluster.id(4)
        };
        for host in 1..=3 {
            cluster.lab.cut(host, 4);
        }
        cluster.agree(&[1, 2, 3]);
        cluster.lab.heal();
        cluster.sees(4, "it is told", |seen| *seen == Observation::Evicted);
        let history = cluster.end(&[1, 2, 3]);
        for gone in [mute, deaf] {
            history
                .everybody_knows([1, 2, 3].map(|host| cluster.name(host)), gone, Duration::ZERO, A_WHILE * 20)
                .unwrap();
        }
        history.nobody_was_buried_alive(healthy).unwrap();
    });
}

// proves M4: fault 5, loss
#[test]
fn a_network_that_loses_a_fifth_of_all_packets_costs_nobody_its_life() {
    on_hosts(3, &[], |cluster| {
        cluster.lab.lose(20);
        let end = cluster.now() + 2 * A_WHILE;
        let mut calls = 0;
        while cluster.now() < end {
            // Grains answer meanwhile, if slowly.
            for (caller, owner) in [(1, 2), (2, 3), (3, 1)] {
                cluster.call(caller, owner).unwrap();
                calls += 1;
            }
        }
        assert!(cluster.lab.dropped() > 0);
        println!("{calls} calls, {} packets lost", cluster.lab.dropped());
        cluster.lab.heal();
        let history = cluster.end(&[1, 2, 3]);
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.id(host))) {
            panic!("{violation}\n{history}");
        }
    });
}
