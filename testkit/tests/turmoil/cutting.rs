//! Ways that are cut.

use std::time::Duration;

use gristmill_testkit::Observation;

use crate::world::World;

// proves FT-2, FT-4, FT-5, FT-6, FT-7: fault 3, a partition of five into three and two, under a load of calls
#[test]
fn the_smaller_side_of_a_partition_stops_first_and_joins_again() {
    let mut world = World::start(5, 1);
    let (lonely, names) = ([4, 5].map(|node| world.id(node)), [4, 5].map(|node| world.name(node)));
    world.call(true);
    // So that the view that it is compared with has settled.
    world.pass(Duration::from_secs(7));
    let cut_at = world.now();
    world.partition(&[1, 2, 3], &[4, 5]);
    for (name, id) in names.iter().zip(lonely) {
        world.sees(name, "it stops to serve", |seen| *seen == Observation::Fenced(id));
    }
    world.agree(&[1, 2, 3]);
    world.pass(Duration::from_secs(10));
    // Later, while grains move back, two may overlap.
    world.no_grain_was_active_twice();
    world.heal();
    for (name, id) in names.iter().zip(lonely) {
        let rejoined = |seen: &Observation| matches!(seen, Observation::Rejoined { old, .. } if *old == id);
        world.sees(name, "it has joined again", rejoined);
    }
    world.agree(&[1, 2, 3, 4, 5]);
    world.pass(Duration::from_secs(5));
    world.call(false);
    let history = world.end(&[1, 2, 3, 4, 5]);
    for id in lonely {
        let others = [1, 2, 3].map(|node| world.name(node));
        let slowest = history.everybody_knows(others.iter().map(String::as_str), id, cut_at, Duration::from_secs(30));
        let ahead = history.was_fenced_before_takeover(id).unwrap();
        println!("known to be gone after {:?}, stopped {ahead:?} before the takeover", slowest.unwrap());
    }
}

// proves FT-3: fault 4, two that cannot hear each other in one direction, then in both
#[test]
fn one_broken_link_kills_nobody() {
    let mut world = World::start(4, 2);
    let healthy = [1, 2, 3, 4].map(|node| world.name(node));
    world.cut(1, 2);
    world.pass(Duration::from_secs(30));
    world.cut(2, 1);
    world.pass(Duration::from_secs(30));
    world.heal();
    let history = world.end(&[1, 2, 3, 4]);
    if let Err(violation) = history.nobody_was_buried_alive(healthy.iter().map(String::as_str)) {
        panic!("{violation}\n{history}");
    }
}

// proves FT-3, FT-4
#[test]
fn ten_nodes_that_start_at_once_agree_and_go_on_agreeing() {
    let mut world = World::start(10, 3);
    let nodes: Vec<usize> = (1..=10).collect();
    world.pass(Duration::from_secs(10));
    let history = world.end(&nodes);
    let names: Vec<_> = nodes.iter().map(|node| world.name(*node)).collect();
    history.nobody_was_buried_alive(names.iter().map(String::as_str)).unwrap();
}
