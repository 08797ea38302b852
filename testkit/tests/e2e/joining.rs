//! Starts, joins, and starts that fail.

use std::time::{Duration, Instant};

use crate::process::{Node, free_address, is_free};
use crate::{agree, cluster, identity_of};

// proves CX-2.1, CX-2.2, MG-2.1, TG-3
#[test]
fn a_node_joins_by_its_seed_and_each_calls_grains_of_the_other() {
    let first = Node::start("first", &["--kind", "echo", "--kind", "only-here"]);
    let second = Node::start("second", &["--kind", "echo", "--seed", &first.address()]);
    // The start has returned, so the joiner knows the member that let it in.
    assert!(second.ask("topology").unwrap().contains(&first.address()));
    agree(&[&first, &second]);

    first.event(&format!("status {} unknown joining", second.address()));
    first.event(&format!("status {} joining up", second.address()));
    second.event("Started");
    assert_eq!(second.ask(&format!("kinds {}", first.address())).unwrap(), "echo only-here topic");
    assert_eq!(first.ask(&format!("kinds {}", second.address())).unwrap(), "echo topic");

    for (caller, host) in [(&first, &second), (&second, &first)] {
        let identity = identity_of(host, caller);
        let answer = caller.ask(&format!("call echo {identity} 5000 well met")).unwrap();
        assert_eq!(answer, format!("{} 1 well met", host.address()));
        let count = format!("{}=1", host.address());
        caller.eventually("count echo", |counts| counts.contains(&count));
    }
}

// proves VA-2.2
#[test]
fn a_kind_that_nobody_hosts_is_told_at_once() {
    let node = Node::start("node", &["--kind", "echo"]);
    let begun = Instant::now();
    assert_eq!(node.ask("call nowhere x 20000 hello").unwrap_err(), "UnknownKind { kind: KindName(\"nowhere\") }");
    assert!(begun.elapsed() < Duration::from_secs(10), "not after the deadline, but at once");
}

// proves CX-2.1
#[test]
fn nodes_that_join_at_the_same_time_become_one_cluster() {
    let nodes = cluster(5, &[]);
    let up = |node: &Node| node.ask("members").unwrap().split(' ').filter(|member| member.contains("=up=")).count();
    assert!(nodes.iter().all(|node| up(node) == 5));
}

#[test]
fn seeds_that_start_at_the_same_time_form_one_cluster() {
    let (one, other) = (free_address(), free_address());
    let seeds = ["--seed", &one, "--seed", &other];
    let first = Node::spawn("first seed", &[&["--listen", &one][..], &seeds].concat());
    let second = Node::spawn("second seed", &[&["--listen", &other][..], &seeds].concat());
    agree(&[&first, &second]);
}

#[test]
fn a_node_waits_for_its_seed_to_start() {
    let seed = free_address();
    let early = Node::spawn("early", &["--seed", &seed]);
    // It has asked, and found nobody.
    early.event("status 127.0.0.1:");
    let late = Node::start("seed", &["--listen", &seed]);
    agree(&[&early, &late]);
}

// proves CX-2.1: a client joins nothing, but finds every grain
#[test]
fn a_client_calls_grains_of_every_member_and_is_no_member() {
    let nodes = cluster(2, &[]);
    let client = Node::start("client", &["--client", "--seed", &nodes[0].address()]);
    for host in &nodes {
        // It follows the topology, which the second member may have joined a moment ago.
        let members = nodes.iter().map(Node::address).collect::<Vec<_>>();
        client.eventually("topology", |seen| members.iter().all(|member| seen.contains(member)));
        let identity = identity_of(host, &client);
        let answer = client.ask(&format!("call echo {identity} 5000 hello")).unwrap();
        assert_eq!(answer, format!("{} 1 hello", host.address()));
    }
    agree(&nodes.iter().collect::<Vec<_>>());
    client.ask("leave").unwrap();
    assert!(client.close().success());
    agree(&nodes.iter().collect::<Vec<_>>());
}

/// A start that failed has left nothing: no port, and events that end with the failure.
fn is_rolled_back(node: &Node, address: &str) {
    assert!(is_free(address), "{address} is still listened on");
    node.event("StartupFailed");
    assert!(!node.lines().iter().any(|line| line.contains("Started {") || line.contains("event topology")));
    assert!(node.runs(), "it waits for its stdin to end");
    assert!(node.close().success());
}

// proves CX-2.4
#[test]
fn a_start_fails_when_no_seed_can_be_reached() {
    let (seed, listen) = (free_address(), free_address());
    let begun = Instant::now();
    let node = Node::spawn("node", &["--listen", &listen, "--seed", &seed, "--profile", "test"]);
    let failure = node.failure();
    assert!(failure.starts_with("did not join: no seed accepted the join: "), "{failure}");
    assert!(failure.contains(&seed) && failure.contains("cannot be reached"), "{failure}");
    // The join timeout of this profile is 2 s.
    assert!(begun.elapsed() < Duration::from_secs(15));
    is_rolled_back(&node, &listen);
}

// proves CX-2.4
#[test]
fn a_client_fails_when_no_member_can_be_reached() {
    let seed = free_address();
    let client = Node::spawn("client", &["--client", "--seed", &seed, "--profile", "test"]);
    let failure = client.failure();
    assert!(failure.starts_with("no member answered: ") && failure.contains(&seed), "{failure}");
}

// proves CX-2.4
#[test]
fn a_start_fails_at_once_when_the_cluster_has_another_name() {
    let (seed, listen) = (Node::start("seed", &[]), free_address());
    let node = Node::spawn("stranger", &["--cluster", "other", "--listen", &listen, "--seed", &seed.address()]);
    let failure = node.failure();
    assert!(failure.starts_with("did not join: ") && failure.contains("refused"), "{failure}");
    assert!(failure.contains("cluster"), "{failure}");
    seed.event("ConnectionRefused");
    is_rolled_back(&node, &listen);
    agree(&[&seed]);
}

// proves CX-2.4
#[test]
fn a_start_fails_at_once_when_the_secret_is_another() {
    let (seed, listen) = (Node::start("seed", &["--secret", "right"]), free_address());
    let others: [&[&str]; 2] = [&["--secret", "wrong"], &[]];
    for secret in others {
        let node = Node::spawn("stranger", &[secret, &["--listen", &listen, "--seed", &seed.address()]].concat());
        let failure = node.failure();
        assert!(failure.starts_with("did not join: ") && failure.contains("secret"), "{failure}");
        is_rolled_back(&node, &listen);
    }
    seed.event("ConnectionRefused");
    let friend = Node::start("friend", &["--secret", "right", "--seed", &seed.address()]);
    agree(&[&seed, &friend]);
}

// proves CX-2.4
#[test]
fn a_start_fails_when_the_port_is_in_use() {
    let first = Node::start("first", &[]);
    let second = Node::spawn("second", &["--listen", &first.address()]);
    let failure = second.failure();
    assert!(failure.starts_with(&format!("cannot listen on {}: ", first.address())), "{failure}");
    assert!(second.close().success());
    agree(&[&first]);
}
