//! Ways that are cut.

use std::time::Duration;

use gristmill::MemberStatus;
use gristmill_testkit::Observation;

use crate::world::World;

// proves M3, M5, M6: fault 3, a partition of five into three and two
#[test]
fn the_smaller_side_of_a_partition_goes_and_joins_again() {
    let mut world = World::start(5, 1);
    let lonely = [4, 5].map(|node| world.id(node));
    let (cut_at, names) = (world.now(), [4, 5].map(|node| world.name(node)));
    world.partition(&[1, 2, 3], &[4, 5]);
    for node in 1..=3 {
        for member in lonely {
            world.sees_status(node, member, MemberStatus::Dead);
        }
    }
    world.agree(&[1, 2, 3]);
    world.heal();
    for name in &names {
        world.sees(name, "it stops", |seen| *seen == Observation::Ended);
    }
    for node in [4, 5] {
        world.kill(node);
        world.bounce(node);
    }
    let history = world.end(&[1, 2, 3, 4, 5]);
    for member in lonely {
        let others = [1, 2, 3].map(|node| world.name(node));
        let others = others.iter().map(String::as_str);
        history.everybody_knows(others, member, cut_at, Duration::from_secs(30)).unwrap();
    }
}

// proves M4: fault 4, two that cannot hear each other in one direction, then in both
#[test]
fn one_broken_link_kills_nobody() {
    let mut world = World::start(4, 2);
    let healthy = [1, 2, 3, 4].map(|node| world.id(node));
    world.cut(1, 2);
    world.pass(Duration::from_secs(30));
    world.cut(2, 1);
    world.pass(Duration::from_secs(30));
    world.heal();
    let history = world.end(&[1, 2, 3, 4]);
    if let Err(violation) = history.nobody_was_buried_alive(healthy) {
        panic!("{violation}\n{history}");
    }
}

// proves M4, M5
#[test]
fn ten_nodes_that_start_at_once_agree_and_go_on_agreeing() {
    let mut world = World::start(10, 3);
    let nodes: Vec<usize> = (1..=10).collect();
    world.pass(Duration::from_secs(10));
    let history = world.end(&nodes);
    history.nobody_was_buried_alive(nodes.iter().map(|node| world.id(*node))).unwrap();
}
