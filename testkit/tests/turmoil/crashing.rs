//! Processes and hosts that end.

use std::collections::BTreeSet;
use std::time::Duration;

use gristmill::MemberStatus;
use gristmill::downing::Side;
use gristmill_testkit::Observation;

use crate::world::{GRAINS, World};

// proves FT-2, FT-5: faults 1 and 7
#[test]
fn who_crashes_and_comes_back_to_its_address_is_another_member() {
    let mut world = World::start(3, 4);
    for silent in [false, true] {
        let (old, crashed) = (world.id(3), world.now());
        if silent {
            world.crash(3)
        } else {
            world.kill(3)
        }
        for node in [1, 2] {
            world.sees_status(node, old, MemberStatus::Dead);
        }
        let others = [1, 2].map(|node| world.name(node));
        let others = others.iter().map(String::as_str);
        let took = world.history().everybody_knows(others, old, crashed, Duration::from_secs(30)).unwrap();
        println!("known to all after {took:?}{}", if silent { ", by silence" } else { "" });
        world.bounce(3);
        world.joins(3);
        assert_ne!(world.id(3), old);
        world.agree(&[1, 2, 3]);
    }
    // Before anybody can have noticed that the process is gone.
    let old = world.id(3);
    world.kill(3);
    world.bounce(3);
    world.joins(3);
    let history = world.end(&[1, 2, 3]);
    assert_ne!(world.id(3), old);
    let names = [1, 2, 3].map(|node| world.name(node));
    history.nobody_was_buried_alive(names.iter().map(String::as_str)).unwrap();
}

// proves FT-4, FT-5, FT-6: fault 1, more than half of the hosts at once
#[test]
fn who_is_left_of_a_minority_stops_and_waits_for_a_new_seed() {
    let mut world = World::start(5, 6);
    // So that the view that it is compared with has settled.
    world.pass(Duration::from_secs(7));
    let left = [1, 2].map(|node| (world.name(node), world.id(node)));
    for node in [3, 4, 5] {
        world.crash(node);
    }
    for (name, id) in &left {
        world.sees(name, "it stops to serve", |seen| *seen == Observation::Fenced(*id));
    }
    for node in [3, 4, 5] {
        world.bounce(node);
    }
    // Who joins again forms no cluster, and who starts anew forms one only if it is a seed.
    world.kill(1);
    world.bounce(1);
    let history = world.end(&[1, 2, 3, 4, 5]);
    assert!(history.entries().iter().all(|entry| entry.seen != Observation::Decided(Side::This)), "nobody took over");
}

// proves FT-2, FT-9: fault 1, under load
#[test]
fn a_killed_member_costs_no_more_than_the_calls_that_it_had() {
    let mut world = World::start(5, 5);
    world.call(true);
    world.pass(Duration::from_secs(3));
    let (victim, killed) = (world.id(4), world.now());
    world.kill(4);
    world.agree(&[1, 2, 3, 5]);
    let known = world.now();
    world.pass(Duration::from_secs(10));
    world.call(false);
    world.pass(Duration::from_secs(1));
    let history = world.end(&[1, 2, 3, 5]);

    let (mut answered, mut failed) = (0, Vec::new());
    let mut grains = BTreeSet::new();
    for entry in history.entries() {
        match &entry.seen {
            Observation::Answered { grain, activation, .. } => {
                answered += 1;
                if entry.at > known {
                    assert!(!activation.starts_with(&victim.to_string()), "{entry}");
                    grains.insert(grain.clone());
                }
            }
            Observation::Failed { .. } => failed.push(entry),
            _ => {}
        }
    }
    println!("{answered} calls answered, {} failed; known to all after {:?}", failed.len(), known - killed);
    assert_eq!(grains.len(), GRAINS, "each grain has answered again");
    assert!(failed.len() <= 5, "each caller may lose the call that it made: {failed:?}");
    world.no_grain_was_active_twice();
}
