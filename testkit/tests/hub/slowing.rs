//! Ways that are long, and ways that are narrow.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use gristmill_testkit::{Link, Observation};

use crate::on_hosts;

/// For how long a fault lasts that must not harm: longer than a suspicion that is confirmed.
const A_WHILE: Duration = Duration::from_secs(5);

// proves FT-3: fault 5, delay and jitter
#[test]
fn a_network_on_which_everything_takes_long_costs_nobody_its_life() {
    on_hosts(3, &[], |cluster| {
        let delay = Duration::from_millis(100);
        cluster.lab.hub.set_all(Link { delay, jitter: delay, ..Link::default() });
        let (end, mut took) = (cluster.now() + 2 * A_WHILE, Vec::new());
        while cluster.now() < end {
            for (caller, owner) in [(1, 2), (2, 3), (3, 1)] {
                let begun = Instant::now();
                cluster.call(caller, owner).unwrap();
                took.push(begun.elapsed());
            }
        }
        took.sort_unstable();
        println!("{} calls took {:?} to {:?}", took.len(), took[0], took[took.len() - 1]);
        assert!(took[0] > 2 * delay, "there and back");
        let history = cluster.end(&[1, 2, 3]);
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))) {
            panic!("{violation}\n{history}");
        }
    });
}

/// Bytes in a second that fit through a narrow way.
const NARROW: u64 = 1 << 20;

/// Bytes of a large message.
const LARGE: usize = 1 << 20;

// proves FT-3: fault 13, bulk on a way that is too narrow for it
#[test]
fn bulk_that_fills_a_way_delays_neither_probes_nor_joins() {
    on_hosts(3, &[], |cluster| {
        cluster.lab.hub.set_all(Link { rate: NonZeroU64::new(NARROW), ..Link::default() });
        let (fast, begun, before) = (cluster.identity(1, 2), cluster.now(), cluster.lab.passed(1, 2));
        let fill = || cluster.node(1).begin(&format!("fill echo {fast} 30000 {LARGE}"));
        let mut under_way: std::collections::VecDeque<_> = (0..4).map(|_| fill()).collect();
        while cluster.now() < begun + 2 * A_WHILE {
            let oldest = under_way.pop_front().unwrap();
            let answer = cluster.node(1).answer(&oldest).unwrap();
            assert!(answer.ends_with(&format!(" {LARGE}")), "{answer}");
            under_way.push_back(fill());
        }
        // Something always waited for the way. Relays that get little time to run let less through than would fit.
        let (passed, took) = (cluster.lab.passed(1, 2) - before, cluster.now() - begun);
        println!("{passed} bytes in {took:?}");
        assert!(passed as f64 > 0.3 * took.as_secs_f64() * NARROW as f64, "{passed} bytes in {took:?}");
        // A leave and a join while it is.
        cluster.node(3).ask("leave").unwrap();
        cluster.agree(&[1, 2]);
        let left = cluster.now();
        cluster.spawn(3);
        cluster.agree(&[1, 2, 3]);
        println!("joined after {:?}", cluster.now() - left);
        for answer in under_way {
            cluster.node(1).answer(&answer).unwrap();
        }
        let history = cluster.end(&[1, 2, 3]);
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
        // Probes behind bulk would bring one every few seconds, a machine that stands still for a moment one or two.
        let suspected = history.entries().iter().filter(|entry| matches!(entry.seen, Observation::Suspected { .. }));
        assert!(suspected.count() <= 2, "\n{history}");
    });
}
