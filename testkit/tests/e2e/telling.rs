//! What nodes tell each other, and their users, of the members.

use crate::process::Node;
use crate::{agree, cluster, identities_of, identity_of};

/// Where the line stands among those that a node has told; waits until it has.
fn position(node: &Node, what: &str, is_it: impl Fn(&str) -> bool) -> usize {
    node.line(what, |line| is_it(line).then_some(()));
    node.lines().iter().position(|line| is_it(line)).expect("it was there a moment ago")
}

// proves MG-5.3, MG-3.1 as far as gossip goes
#[test]
fn what_one_process_sets_another_gets_and_the_last_write_wins() {
    let mut nodes = cluster(3, &[]);
    let values = |of: &[(&Node, &str)]| {
        let mut values: Vec<_> = of.iter().map(|(node, text)| format!("{}={text}", node.id())).collect();
        values.sort_unstable();
        values.join(" ")
    };
    nodes[0].ask("set build 1.4").unwrap();
    nodes[1].ask("set build 1.4").unwrap();
    nodes[0].ask("set build 1.5").unwrap();
    let expected = values(&[(&nodes[0], "1.5"), (&nodes[1], "1.4")]);
    for node in &nodes {
        node.eventually("get build", |seen| seen == expected);
    }
    let victim = nodes.remove(0);
    victim.kill();
    let expected = values(&[(&nodes[0], "1.4")]);
    for node in &nodes {
        node.eventually("get build", |seen| seen == expected);
    }
}

// proves MG-2.4 as far as a node can tell when
#[test]
fn all_agree_on_the_topology_and_fall_out_of_it_when_one_is_killed() {
    let mut nodes = cluster(3, &[]);
    let hash_of = |node: &Node| node.ask("topology").unwrap().split_once(' ').unwrap().0.to_owned();
    let first = hash_of(&nodes[0]);
    for node in &nodes {
        assert_eq!(node.ask("agree").unwrap(), first);
    }
    nodes.pop().unwrap().kill();
    agree(&nodes.iter().collect::<Vec<_>>());
    let second = hash_of(&nodes[0]);
    assert_ne!(first, second);
    for node in &nodes {
        let lost = node.line("they agree again", |line| {
            line.strip_prefix(&format!("* agreed {second} ")).map(|lost| lost.parse::<u64>().unwrap())
        });
        assert!(lost > 0, "in between they did not");
    }
}

// proves MG-5.4, VA-4.3
#[test]
fn heartbeats_say_how_many_grains_each_process_runs() {
    let nodes = cluster(3, &[]);
    for (host, count) in [(1, 2), (2, 3)] {
        for identity in identities_of(&nodes[host], &nodes[0], count) {
            nodes[0].ask(&format!("call echo {identity} 20000 hello")).unwrap();
        }
    }
    let mut expected = [0, 1, 2].map(|node| format!("{}={}", nodes[node].address(), [0, 2, 3][node]));
    expected.sort_unstable();
    for node in &nodes {
        node.eventually("count echo", |seen| seen == expected.join(" "));
    }
}

// proves VA-1.4, VA-4.4, CX-1.2
#[test]
fn a_killed_member_loses_its_keys_then_its_places_in_caches_and_every_topology_says_that_it_is_blocked() {
    let mut nodes = cluster(3, &[]);
    let (victim, caller) = (nodes.pop().unwrap(), &nodes[0]);
    let identities = identities_of(&victim, caller, 5);
    for identity in &identities {
        caller.ask(&format!("call echo {identity} 20000 hello")).unwrap();
    }
    victim.kill();
    let (id, died) = (victim.id(), format!("dead [{}]", victim.address()));
    let blocked = format!("blocked [{id}]");
    let applied = format!("* event applied 1 {blocked}");
    for node in &nodes {
        node.line(&applied, |line| (line == applied).then_some(()));
        let owner = |identity: &String| node.ask(&format!("where echo {identity}")).unwrap();
        assert!(identities.iter().all(|identity| owner(identity) != victim.address()), "it owns nothing any more");
        let told = node.line(&died, |line| line.contains(&died).then(|| line.to_owned()));
        assert!(told.ends_with(&blocked), "{told}");
    }
    let cleared = format!("* event cleared {} of {id}", identities.len());
    let cleared = position(caller, &cleared, |line| line == cleared);
    assert!(cleared < position(caller, &applied, |line| line == applied), "what was remembered of it is gone before");

    let newcomer = Node::start("newcomer", &["--kind", "echo", "--seed", &caller.address()]);
    agree(&[&nodes[0], &nodes[1], &newcomer]);
    let joined = format!("joined [{}]", newcomer.address());
    for node in &nodes {
        let told = node.line(&joined, |line| line.contains(&joined).then(|| line.to_owned()));
        assert!(told.ends_with(&blocked), "the block list is part of each topology: {told}");
    }
}

// proves MG-5.2, MG-5.1 as far as counting goes
#[test]
fn members_are_counted_by_state_and_it_is_told_who_suspected_a_killed_one_and_why() {
    let mut nodes = cluster(3, &[]);
    for node in &nodes {
        node.eventually("metrics", |seen| seen.contains(" up_members: 3, ") && seen.contains(" dead_members: 0, "));
    }
    let victim = nodes.pop().unwrap();
    victim.kill();
    agree(&nodes.iter().collect::<Vec<_>>());
    let accusers = nodes.iter().map(|node| format!("{}=", node.id())).collect::<Vec<_>>();
    let mut refused = 0;
    for node in &nodes {
        node.eventually("metrics", |seen| seen.contains(" up_members: 2, ") && seen.contains(" dead_members: 1, "));
        node.event(&format!("quarantined {} ", victim.address()));
        let steps = [" suspect", " dead"].map(|to| {
            let step = format!("* event status {} ", victim.address());
            position(node, &step, |line| line.starts_with(&step) && line.ends_with(to))
        });
        assert!(steps[0] < steps[1], "{steps:?}");
        let explanation = node.ask(&format!("explain {}", victim.id())).unwrap();
        let mut words = explanation.split(' ');
        assert_eq!(words.next(), Some("dead"), "{explanation}");
        let accusations: Vec<&str> = words.collect();
        assert!(!accusations.is_empty(), "{explanation}");
        for accusation in accusations {
            assert!(accusers.iter().any(|accuser| accusation.starts_with(accuser)), "{explanation}");
            refused += usize::from(accusation == format!("{}=ConnectionRefused", node.id()));
        }
    }
    assert!(refused > 0, "somebody's connection was refused, and that is why");
}

// proves TG-1: the caller hears of it, and it is counted
#[test]
fn what_cannot_be_sent_is_an_error_for_whoever_sends_it_and_is_counted() {
    let nodes = cluster(3, &[]);
    let (caller, witness, victim) = (&nodes[0], &nodes[1], &nodes[2]);
    let identity = identity_of(victim, caller);
    // Nobody confirms the death, so that the victim keeps its keys.
    witness.signal("STOP");
    victim.kill();
    let error = caller.ask(&format!("call echo {identity} 500 hello")).unwrap_err();
    witness.signal("CONT");
    assert!(error.starts_with("NotDelivered"), "{error}");
    caller.eventually("metrics", |seen| !seen.contains(" failed_sends: 0, "));
    agree(&[caller, witness]);
    assert!(caller.ask(&format!("call echo {identity} 20000 hello")).is_ok());
}

// proves TG-2: gossip stops and starts again, in one process
#[test]
fn gossip_begins_anew_in_the_next_life_of_a_process() {
    let mut nodes = cluster(3, &["--profile", "fast", "--rejoin"]);
    let sleeper = nodes.pop().unwrap();
    sleeper.ask("set life first").unwrap();
    let expected = format!("{}=first", sleeper.id());
    nodes[0].eventually("get life", |seen| seen == expected);
    sleeper.signal("STOP");
    agree(&nodes.iter().collect::<Vec<_>>());
    sleeper.signal("CONT");
    let rejoined = format!("* saw rejoined {} ", sleeper.id());
    let id = sleeper.line(&rejoined, |line| line.strip_prefix(&rejoined).map(str::to_owned));
    sleeper.ask("set life second").unwrap();
    nodes[0].ask("set other well met").unwrap();
    let expected = format!("{id}=second");
    nodes[1].eventually("get life", |seen| seen == expected);
    let expected = format!("{}=well met", nodes[0].id());
    sleeper.eventually("get other", |seen| seen == expected);
}
