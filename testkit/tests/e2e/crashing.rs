//! Nodes that are killed, stopped, and started again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::process::{Node, PATIENCE, free_address};
use crate::traffic::Traffic;
use crate::{agree, cluster, identities_of, identity_of};

// proves MG-2.2, MG-3.1, VA-3.2, VA-3.5
#[test]
fn grains_of_a_killed_member_come_up_elsewhere_and_no_other_grain_moves() {
    let mut nodes = cluster(3, &[]);
    let (victim, stays, caller) = (nodes.remove(2), nodes.remove(1), Arc::new(nodes.remove(0)));
    let (lost, kept) = (identities_of(&victim, &caller, 10), identities_of(&stays, &caller, 10));
    for identity in lost.iter().chain(&kept) {
        let answer = caller.ask(&format!("call echo {identity} 20000 hello")).unwrap();
        assert!(answer.ends_with(" 1 hello"), "{answer}");
    }

    let traffic = Traffic::start(&caller, lost.clone(), 20_000);
    traffic.goes_on_for(10);
    victim.kill();
    // Every one of them again, after the kill.
    traffic.goes_on_for(2 * lost.len());
    let (failures, slowest) = traffic.stop();
    let honest = |failure: &String| failure.contains("UnknownOutcome");
    assert!(failures.iter().all(honest) && failures.len() <= 1, "but for the call under way: {failures:?}");
    assert!(slowest < PATIENCE, "{slowest:?}");

    agree(&[&caller, &stays]);
    for node in [&*caller, &stays] {
        let dead = format!("dead [{}]", victim.address());
        node.line(&dead, |line| line.contains(&dead).then_some(()));
        node.event(&format!("quarantined {}", victim.address()));
    }
    for identity in &lost {
        let answer = caller.ask(&format!("call echo {identity} 20000 hello")).unwrap();
        assert!(!answer.starts_with(&victim.address()), "{answer}");
    }
    for identity in &kept {
        let answer = caller.ask(&format!("call echo {identity} 20000 hello")).unwrap();
        assert_eq!(answer, format!("{} 2 hello", stays.address()), "the same activation, its second turn");
    }
}

// Its host refuses connections: nobody waits for a suspicion, which lasts four seconds at least. Of five kills two may
// fall into a moment in which the machine has other things to do.
#[test]
fn a_killed_process_is_known_to_all_before_a_suspicion_could_end() {
    let mut took: Vec<_> = (0..5).map(|_| kill_one_of_three()).collect();
    println!("known to all after {took:?}");
    took.sort_unstable();
    for (known, reasons) in &took[..3] {
        assert!(*known < Duration::from_secs(3), "{took:?}");
        assert!(reasons.iter().any(|reason| reason.ends_with("its host refuses connections")), "{took:?}");
    }
}

/// How long the others took to know, and why they hold it for dead.
fn kill_one_of_three() -> (Duration, Vec<String>) {
    let mut nodes = cluster(3, &[]);
    let victim = nodes.pop().unwrap();
    let connected = format!("* event PeerConnected {{ peer: MemberId(…{})", &victim.id()[24..]);
    for node in &nodes {
        let mut ways = 0;
        node.line("it has dialed the victim, and was dialed by it", |line| {
            ways += usize::from(line.starts_with(&connected));
            (ways == 2).then_some(())
        });
    }
    let killed = Instant::now();
    victim.kill();
    let status = format!("* saw status {} ", victim.id());
    for node in &nodes {
        node.line(&status, |line| (line.starts_with(&status) && line.ends_with(" dead")).then_some(()));
    }
    let known = killed.elapsed();
    let quarantined = format!("quarantined {} ", victim.address());
    (known, nodes.iter().map(|node| node.event(&quarantined)).collect())
}

// proves MG-3.2: a restart on the same address joins at once and supersedes its predecessor
#[test]
fn a_killed_member_starts_again_on_its_port_at_once() {
    let mut nodes = cluster(2, &[]);
    let (old, stays) = (nodes.remove(1), nodes.remove(0));
    let (address, identity) = (old.address(), identity_of(&old, &stays));
    assert!(stays.ask(&format!("call echo {identity} 5000 hello")).is_ok());
    old.kill();
    let new = Node::start("new", &["--kind", "echo", "--listen", &address, "--seed", &stays.address()]);
    assert_ne!(new.id(), old.id());
    agree(&[&stays, &new]);
    let up = format!("{address}=up={}", new.id());
    stays.eventually("members", |members| members.contains(&up) && !members.contains(&format!("=up={}", old.id())));
    let answer = stays.ask(&format!("call echo {identity} 20000 hello")).unwrap();
    assert!(answer.ends_with(" 1 hello"), "what the old process knew is gone: {answer}");
}

#[test]
fn a_cluster_that_was_killed_forms_again_on_the_same_addresses() {
    let addresses = [free_address(), free_address(), free_address()];
    let seeds: Vec<&str> = addresses.iter().flat_map(|address| ["--seed", address]).collect();
    let start = || -> Vec<Node> {
        let spawn = |address: &String| {
            let flags = [&["--kind", "echo", "--listen", address][..], &seeds].concat();
            Node::spawn("node", &flags)
        };
        addresses.iter().map(spawn).collect()
    };
    for _ in 0..2 {
        let nodes = start();
        agree(&nodes.iter().collect::<Vec<_>>());
        let identity = identity_of(&nodes[2], &nodes[0]);
        assert!(nodes[0].ask(&format!("call echo {identity} 20000 hello")).is_ok());
        nodes.iter().for_each(Node::kill);
    }
}

// proves MG-2.2: who was declared dead while it stood still is told, and stops serving
#[test]
fn a_member_that_stood_still_for_too_long_learns_that_it_was_declared_dead() {
    let mut nodes = cluster(3, &["--profile", "fast"]);
    let (sleeper, host, caller) = (nodes.remove(2), nodes.remove(1), Arc::new(nodes.remove(0)));
    // Calls between the others are not its business.
    let traffic = Traffic::start(&caller, identities_of(&host, &caller, 3), 10_000);
    traffic.goes_on_for(10);
    sleeper.signal("STOP");
    agree(&[&caller, &host]);
    traffic.goes_on_for(10);
    assert_eq!(traffic.stop().0, Vec::<String>::new());
    sleeper.signal("CONT");
    sleeper.event("Evicted");
    sleeper.event("Shutdown");
    assert_eq!(sleeper.ask("call echo x 1000 hello").unwrap_err(), "NotRunning");
    agree(&[&caller, &host]);
}

// proves MG-3.3: a short stall is suspected at most, and refuted
#[test]
fn a_member_that_stands_still_for_a_moment_stays() {
    let nodes = cluster(3, &[]);
    nodes[2].signal("STOP");
    let suspected = format!("status {} up suspect", nodes[2].address());
    // Either of the others notices, at the latest two probe intervals and one probe timeout later.
    nodes[0].event(&suspected);
    nodes[2].signal("CONT");
    nodes[0].event("SuspicionRefuted");
    let identity = identity_of(&nodes[2], &nodes[0]);
    let answer = nodes[0].ask(&format!("call echo {identity} 20000 hello")).unwrap();
    assert!(answer.starts_with(&nodes[2].address()), "{answer}");
    agree(&nodes.iter().collect::<Vec<_>>());
    assert!(!nodes[2].lines().iter().any(|line| line.contains("Evicted")));
}

// Some of them tell the dead that they are, and so meet their hosts, before the time of a takeover has passed.
#[test]
fn newcomers_give_up_the_dead_of_whom_they_were_told_whether_their_hosts_refuse_them_or_not() {
    let mut nodes = cluster(3, &[]);
    nodes.pop().unwrap().kill();
    agree(&nodes.iter().collect::<Vec<_>>());
    let seed = nodes[0].address();
    nodes.extend((0..4).map(|number| Node::spawn(&format!("newcomer {number}"), &["--seed", &seed])));
    agree(&nodes.iter().collect::<Vec<_>>());
}
