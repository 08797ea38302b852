//! Whole nodes as processes of their own, on loopback: what starts, joins, dies and attacks here does so for real.
//!
//! Each node is a `node` of this package (see `src/bin/node.rs`), told by lines what to do and asked what it sees.
//! Nothing here waits for a time: every wait is for a condition, with a deadline that is far above what it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail where it stands

mod attacking;
mod crashing;
mod joining;
mod leaving;
mod process;
mod telling;
mod traffic;

use process::Node;

/// A cluster of `count` members with the grain kind `echo`, all of which see each other.
fn cluster(count: usize, flags: &[&str]) -> Vec<Node> {
    let flags = [&["--kind", "echo"], flags].concat();
    let first = Node::start("node 1", &flags);
    let rest: Vec<Node> = (2..=count)
        .map(|number| Node::spawn(&format!("node {number}"), &[&flags[..], &["--seed", &first.address()]].concat()))
        .collect();
    let nodes: Vec<Node> = std::iter::once(first).chain(rest).collect();
    agree(&nodes.iter().collect::<Vec<_>>());
    nodes
}

/// Waits until these nodes, and no others, are what each of them sees as the topology.
fn agree(nodes: &[&Node]) {
    let mut members: Vec<String> = nodes.iter().map(|node| format!("{}={}", node.address(), node.id())).collect();
    members.sort_unstable();
    let members = members.join(" ");
    let mut hash = None;
    for node in nodes {
        let seen = node.eventually("topology", |seen| seen.split_once(' ').is_some_and(|(_, seen)| seen == members));
        let seen_hash = seen.split_once(' ').unwrap().0.to_owned();
        assert_eq!(*hash.get_or_insert(seen_hash.clone()), seen_hash, "one content, one hash");
    }
}

/// An identity of the kind `echo` that `owner` owns, as `asked` sees it.
fn identity_of(owner: &Node, asked: &Node) -> String {
    identities_of(owner, asked, 1).remove(0)
}

/// `count` such identities.
fn identities_of(owner: &Node, asked: &Node, count: usize) -> Vec<String> {
    let address = owner.address();
    let owned = (0..10_000).map(|number| format!("grain-{number}"));
    let owned = owned.filter(|identity| asked.ask(&format!("where echo {identity}")).unwrap() == address);
    let identities: Vec<String> = owned.take(count).collect();
    assert_eq!(identities.len(), count, "{address} owns too little");
    identities
}
