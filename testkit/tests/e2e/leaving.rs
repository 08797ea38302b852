//! Nodes that leave in order.

use std::sync::Arc;

use crate::process::{Node, is_free};
use crate::traffic::Traffic;
use crate::{agree, cluster, identities_of};

// proves CX-2.3, MG-2.3, MG-4.1, VA-2.4, VA-3.5
#[test]
fn a_member_that_leaves_takes_no_call_with_it() {
    let mut nodes = cluster(3, &[]);
    let (leaver, stays, caller) = (nodes.remove(2), nodes.remove(1), Arc::new(nodes.remove(0)));
    let identities = identities_of(&leaver, &caller, 10);
    let traffic = Traffic::start(&caller, identities.clone(), 20_000);
    traffic.goes_on_for(20);

    leaver.ask("leave").unwrap();
    assert!(is_free(&leaver.address()), "its port is free when the leave is over");
    agree(&[&caller, &stays]);
    traffic.goes_on_for(20);
    let (failures, _) = traffic.stop();
    assert_eq!(failures, Vec::<String>::new());

    leaver.event(&format!("status {} up leaving", leaver.address()));
    leaver.event(&format!("status {} leaving removed", leaver.address()));
    leaver.event("Shutdown");
    assert!(leaver.close().success());
    let own = leaver.address();
    let mut topologies = leaver.lines().into_iter().filter(|line| line.contains("event topology"));
    assert!(topologies.all(|line| !line.contains(&format!("left [{own}]"))), "no topology while it stops");
    for node in [&*caller, &stays] {
        let told = node.line("the leaver has left", |line| {
            (line.contains("event topology") && line.contains(&format!("left [{}]", leaver.address())))
                .then(|| line.to_owned())
        });
        assert!(told.contains("dead []"), "{told}");
        // Pieces of news may overtake each other, so that the others need not have seen each step.
        let (status, removed) = (format!("status {} ", leaver.address()), " removed");
        node.line(removed, |line| (line.contains(&status) && line.ends_with(removed)).then_some(()));
        let quarantined = format!("quarantined {}", leaver.address());
        assert!(!node.lines().iter().any(|line| line.contains(&quarantined)), "who leaves is not blamed");
    }
    for identity in &identities {
        let host = caller.ask(&format!("call echo {identity} 5000 hello")).unwrap();
        assert!(host.starts_with(&caller.address()) || host.starts_with(&stays.address()), "{host}");
    }
}

// proves VA-2.5
#[test]
fn a_leaving_member_finishes_the_call_that_runs() {
    let nodes = cluster(2, &[]);
    let (caller, leaver) = (&nodes[0], &nodes[1]);
    let identity = identities_of(leaver, caller, 1).remove(0);
    assert!(caller.ask(&format!("call echo {identity} 5000 wake")).is_ok());
    let nap = caller.begin(&format!("nap echo {identity} 20000 500"));
    let napping = format!("* napping {identity}");
    leaver.line(&napping, |line| (line == napping).then_some(()));
    leaver.ask("leave").unwrap();
    assert!(caller.answer(&nap).unwrap().ends_with(" slept"));
}

#[test]
fn who_is_told_to_leave_twice_leaves_once() {
    let member = Node::start("member", &[]);
    let client = Node::start("client", &["--client", "--seed", &member.address()]);
    for node in [client, member] {
        for _ in 0..2 {
            node.ask("leave").unwrap();
        }
        node.event("Shutdown");
        assert!(node.close().success());
        assert_eq!(node.lines().iter().filter(|line| *line == "* event Shutdown").count(), 1);
        assert!(!node.lines().iter().any(|line| line.starts_with("stderr:")), "nothing panicked");
    }
}

#[test]
fn a_member_that_has_left_can_start_again_on_its_port() {
    let nodes = cluster(2, &[]);
    let (stays, leaver) = (&nodes[0], &nodes[1]);
    leaver.ask("leave").unwrap();
    agree(&[stays]);
    let again = Node::start("again", &["--listen", &leaver.address(), "--seed", &stays.address()]);
    assert_ne!(again.id(), leaver.id());
    agree(&[stays, &again]);
}

// proves CX-4.2
#[test]
fn what_is_published_on_any_node_reaches_the_subscribers_on_all() {
    let mut nodes = cluster(3, &[]);
    nodes.push(Node::start("client", &["--client", "--seed", &nodes[0].address()]));
    for node in &nodes {
        node.ask("subscribe news").unwrap();
    }
    for (number, node) in nodes.iter().enumerate() {
        let text = format!("from {number}");
        assert_eq!(node.ask(&format!("publish news {text}")).unwrap(), "4 4");
        for subscriber in &nodes {
            let line = format!("* message news {text}");
            subscriber.line(&line, |seen| (seen == line).then_some(()));
        }
    }
    for node in &nodes {
        let messages = node.lines().iter().filter(|line| line.starts_with("* message")).count();
        assert_eq!(messages, 4, "each once");
    }
    let silent = &nodes[0];
    assert_eq!(silent.ask("publish empty hello").unwrap(), "0 0", "nobody to deliver to is a result");
}
