//! Ways that are cut, or lose what is sent.

use std::time::Duration;

use gristmill::downing::Side;
use gristmill::{Evidence, MemberStatus};
use gristmill_testkit::Observation;

use crate::on_hosts;

/// For how long a fault lasts that must not harm: longer than a suspicion that is confirmed.
const A_WHILE: Duration = Duration::from_secs(5);

// proves FT-2, FT-4, FT-5, FT-6, FT-7: fault 3, a partition of three into two and one
#[test]
fn who_is_cut_off_stops_before_the_majority_takes_over_and_its_successor_joins() {
    on_hosts(3, &["--profile", "fast"], |cluster| {
        let (lonely, grain, cut_at) = (cluster.id(3), cluster.own_grain(3), cluster.now());
        cluster.lab.partition(&[3], &[1, 2]);
        cluster.sees(3, "the others go on", |seen| *seen == Observation::Decided(Side::Other));
        cluster.sees(3, "it stops to serve", |seen| *seen == Observation::Fenced(lonely));
        cluster.has_stopped(3, &grain);
        cluster.sees(3, "it ends", |seen| *seen == Observation::Ended);
        for host in [1, 2] {
            cluster.sees(host, "who suspects it, and why", |seen| {
                matches!(seen, Observation::Suspected { member, evidence, .. }
                    if *member == lonely && *evidence != Evidence::ConnectionRefused)
            });
            cluster.sees_status(host, lonely, MemberStatus::Dead);
            cluster.sees(host, "its own side goes on", |seen| *seen == Observation::Decided(Side::This));
        }
        cluster.agree(&[1, 2]);
        cluster.call(1, 2).unwrap();
        assert!(cluster.lab.dropped() > 0);
        cluster.lab.heal();
        cluster.spawn(3);
        let history = cluster.end(&[1, 2, 3]);
        assert_ne!(cluster.id(3), lonely);
        let others = [cluster.name(1), cluster.name(2)];
        let slowest = history.everybody_knows(others, lonely, cut_at, Duration::from_secs(20)).unwrap();
        let ahead = history.was_fenced_before_takeover(lonely).unwrap();
        println!(
            "a member that was cut off was known to be gone after {slowest:?}, and stopped {ahead:?} before the takeover"
        );
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
    });
}

// proves FT-4, FT-5, FT-6: fault 3, three parts of which one has the majority
#[test]
fn parts_without_a_majority_stop_and_join_again_after_the_heal() {
    on_hosts(5, &["--profile", "fast", "--rejoin"], |cluster| {
        let lonely = [4, 5].map(|host| cluster.id(host));
        let grains = [4, 5].map(|host| cluster.own_grain(host));
        cluster.lab.partition(&[4], &[1, 2, 3, 5]);
        cluster.lab.partition(&[5], &[1, 2, 3]);
        cluster.agree(&[1, 2, 3]);
        for (host, id, grain) in [(4, lonely[0], &grains[0]), (5, lonely[1], &grains[1])] {
            cluster.sees(host, "it stops to serve", |seen| *seen == Observation::Fenced(id));
            cluster.has_stopped(host, grain);
        }
        cluster.lab.heal();
        for (host, id) in [(4, lonely[0]), (5, lonely[1])] {
            cluster.rejoins(host, id);
        }
        let history = cluster.end(&[1, 2, 3, 4, 5]);
        for id in lonely {
            let ahead = history.was_fenced_before_takeover(id).unwrap();
            println!("stopped {ahead:?} before the takeover");
        }
        cluster.call(1, 4).unwrap();
        cluster.call(5, 1).unwrap();
    });
}

// proves FT-3: fault 4, two members that cannot hear each other, in one direction or both
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
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))) {
            panic!("{violation}\n{history}");
        }
    });
}

// proves FT-2, FT-4, FT-6: fault 4, a member that hears but is not heard, and one that is heard but does not hear
#[test]
fn who_is_mute_or_deaf_goes_and_nobody_else() {
    on_hosts(4, &["--profile", "fast", "--rejoin"], |cluster| {
        for deaf in [false, true] {
            let (faulty, grain) = (cluster.id(4), cluster.own_grain(4));
            for host in 1..=3 {
                let (from, to) = if deaf { (host, 4) } else { (4, host) };
                cluster.lab.cut(from, to);
            }
            cluster.agree(&[1, 2, 3]);
            cluster.sees(4, "it stops to serve", |seen| *seen == Observation::Fenced(faulty));
            cluster.has_stopped(4, &grain);
            cluster.lab.heal();
            cluster.rejoins(4, faulty);
            cluster.agree(&[1, 2, 3, 4]);
            let ahead = cluster.history().was_fenced_before_takeover(faulty).unwrap();
            println!("{} stopped {ahead:?} before the takeover", if deaf { "deaf: " } else { "mute: " });
        }
        let history = cluster.end(&[1, 2, 3, 4]);
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
    });
}

// proves FT-3: fault 5, loss
#[test]
fn a_network_that_loses_a_fifth_of_all_packets_costs_nobody_its_life() {
    on_hosts(3, &[], |cluster| {
        let pairs = [(1, 2), (2, 3), (3, 1)];
        for (caller, owner) in pairs {
            cluster.call(caller, owner).unwrap();
        }
        cluster.lab.lose(20);
        let end = cluster.now() + 2 * A_WHILE;
        let (mut answered, mut lost) = (0, 0);
        while cluster.now() < end {
            // Grains answer meanwhile, if slowly. A connection of which nothing arrives for 5 s takes with it what is
            // on its way, and the next one may need several attempts.
            for (caller, owner) in pairs {
                match cluster.call(caller, owner) {
                    Ok(_) => answered += 1,
                    Err(error) if ["Rejected", "UnexpectedReply"].iter().any(|kind| error.starts_with(kind)) => {
                        panic!("{error}")
                    }
                    Err(_) => lost += 1,
                }
            }
        }
        assert!(cluster.lab.dropped() > 0);
        println!("{answered} calls answered, {lost} lost, {} packets lost", cluster.lab.dropped());
        assert!(answered > 0, "{lost} calls were lost");
        cluster.lab.heal();
        let history = cluster.end(&[1, 2, 3]);
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))) {
            panic!("{violation}\n{history}");
        }
    });
}
