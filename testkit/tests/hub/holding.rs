//! Nodes whose connections stand and carry nothing.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use gristmill::{Evidence, MemberStatus};
use gristmill_testkit::{Link, Observation};

use crate::on_hosts;
use crate::process::PATIENCE;

const HELD: Link = Link { delay: Duration::ZERO, jitter: Duration::ZERO, rate: None, held: true };

/// For how long a fault lasts that must not harm: longer than a suspicion that is confirmed.
const A_WHILE: Duration = Duration::from_secs(5);

// proves FT-2, FT-5, FT-6, FT-7: fault 9, a process that accepts connections and never answers, and that speaks when it
// is gone
#[test]
fn who_accepts_connections_and_never_answers_is_found_by_its_silence_and_what_it_said_then_harms_nobody() {
    on_hosts(3, &["--rejoin"], |cluster| {
        let (zombie, own, held_at) = (cluster.id(3), cluster.own_grain(3), cluster.now());
        let (grain, there) = (cluster.identity(1, 3), cluster.lab.address(3));
        let before = cluster.node(1).ask(&format!("call echo {grain} 5000 hello")).unwrap();
        assert!(before.starts_with(&there), "{before}");
        cluster.lab.hub.set_around(&there, HELD);
        // Sent at once, this one is lost with what it was sent over; the next finds the grain elsewhere.
        let lost = cluster.node(1).ask(&format!("call echo {grain} 3000 hello")).unwrap_err();
        assert!(lost.contains("DeadlineExceeded") || lost.contains("UnknownOutcome"), "{lost}");
        for host in [1, 2] {
            cluster.sees_status(host, zombie, MemberStatus::Dead);
        }
        cluster.sees(3, "it stops to serve", |seen| *seen == Observation::Fenced(zombie));
        cluster.has_stopped(3, &own);
        cluster.agree(&[1, 2]);
        let moved = cluster.node(1).ask(&format!("call echo {grain} 20000 hello")).unwrap();
        assert!(!moved.starts_with(&there), "{moved}");
        let refused = |seen: &Observation| {
            matches!(seen, Observation::Suspected { member, evidence, .. }
            if *member == zombie && *evidence == Evidence::ConnectionRefused)
        };
        assert!(!cluster.history().entries().iter().any(|entry| refused(&entry.seen)));
        // All that was said meanwhile arrives now.
        cluster.lab.hub.set_around(&there, Link::default());
        cluster.rejoins(3, zombie);
        let history = cluster.end(&[1, 2, 3]);
        let others = [cluster.name(1), cluster.name(2)];
        let slowest = history.everybody_knows(others, zombie, held_at, Duration::from_secs(20)).unwrap();
        let ahead = history.was_fenced_before_takeover(zombie).unwrap();
        println!("known to be gone after {slowest:?}, stopped {ahead:?} before the takeover");
        history.nobody_was_buried_alive([1, 2].map(|host| cluster.name(host))).unwrap();
    });
}

// proves FT-3: fault 4, with connections that stand
#[test]
fn one_link_that_carries_nothing_kills_nobody() {
    on_hosts(3, &[], |cluster| {
        for (from, to) in [(1, 2), (2, 1)] {
            cluster.lab.set(from, to, HELD);
            std::thread::sleep(A_WHILE);
        }
        for (from, to) in [(1, 2), (2, 1)] {
            cluster.lab.set(from, to, Link::default());
        }
        assert!(cluster.call(1, 2).is_ok() && cluster.call(2, 1).is_ok());
        let history = cluster.end(&[1, 2, 3]);
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))) {
            panic!("{violation}\n{history}");
        }
    });
}

// proves FT-5: fault 7, a restart on the same port before anybody has noticed
#[test]
fn who_was_connected_to_a_killed_process_meets_its_successor_before_that_one_joins() {
    on_hosts(3, &[], |cluster| {
        let (old, there) = (cluster.id(3), cluster.lab.address(3));
        // Nobody hears of the end of the connections before the successor listens.
        cluster.lab.hub.set_around(&there, HELD);
        cluster.node(3).kill();
        let elsewhere = crate::process::free_address();
        let listens = cluster.lab.listens(3).to_owned();
        let successor = crate::process::Node::spawn(
            "successor",
            &["--secret", "lab", "--listen", &listens, "--advertise", &there, "--seed", &elsewhere],
        );
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&listens).is_err() {
            assert!(Instant::now() < deadline && successor.runs());
            std::thread::sleep(Duration::from_millis(5));
        }
        let released = cluster.now();
        cluster.lab.hub.set_around(&there, Link::default());
        for host in [1, 2] {
            cluster.sees_status(host, old, MemberStatus::Dead);
        }
        let beginning = format!("quarantined {there} ");
        let reasons = [1, 2].map(|host| cluster.node(host).event(&beginning));
        // Nobody has waited for the time of a suspicion.
        assert!(reasons.iter().any(|reason| reason.ends_with("runs at its address")), "{reasons:?}");
        let met = |reason: &String| reason.ends_with("runs at its address") || reason.ends_with("declared it dead");
        assert!(reasons.iter().all(met), "{reasons:?}");
        assert!(!successor.lines().iter().any(|line| line.starts_with("* started")));
        let others = [cluster.name(1), cluster.name(2)];
        let slowest = cluster.history().everybody_knows(others, old, released, PATIENCE).unwrap();
        println!("its end was known to all {slowest:?} after they could meet its successor");
    });
}
