//! Faults in an order that a number decides.

use std::time::Duration;

use crate::world::World;

const NODES: usize = 5;

/// How many faults one after the other.
const FAULTS: usize = 6;

/// Schedules, unless the variable `SCHEDULES` says otherwise.
const SCHEDULES: u64 = 2;

// proves FT-1, FT-4, FT-5: whatever has happened, and in whatever order
#[test]
fn after_any_faults_all_agree_again() {
    let schedules = std::env::var("SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    let first = std::env::var("FIRST_SCHEDULE").map_or(1, |number| number.parse().unwrap());
    for number in first..first + schedules {
        // Told now, since a failure does not know it.
        println!("schedule {number}");
        run(number);
    }
}

fn run(number: u64) {
    let mut dice = Dice(number);
    let mut world = World::start(NODES, number);
    let mut down = Vec::new();
    world.call(true);
    // A partition in the first seconds may bring both sides down.
    world.pass(Duration::from_secs(5));
    for _ in 0..FAULTS {
        let node = 1 + dice.below(NODES);
        match dice.below(6) {
            0 => {
                let size = 1 + dice.below(NODES - 1);
                let (these, those): (Vec<_>, Vec<_>) = (1..=NODES).partition(|other| (other + node) % NODES < size);
                println!("{:?}: partition {these:?} {those:?}", world.now());
                world.partition(&these, &those);
            }
            1 => {
                let other = 1 + (node + dice.below(NODES - 1)) % NODES;
                println!("{:?}: cut {node} to {other}", world.now());
                world.cut(node, other);
            }
            2 => {
                println!("{:?}: heal", world.now());
                world.heal();
            }
            fault if !down.contains(&node) && down.len() < NODES - 1 => {
                println!("{:?}: {} {node}", world.now(), if fault == 3 { "crash" } else { "kill" });
                if fault == 3 {
                    world.crash(node)
                } else {
                    world.kill(node)
                }
                down.push(node);
            }
            _ => {
                for node in down.drain(..) {
                    println!("{:?}: start {node}", world.now());
                    world.bounce(node);
                }
            }
        }
        world.pass(Duration::from_millis(500 * dice.below(30) as u64));
    }
    world.heal();
    for node in down.drain(..) {
        world.bounce(node);
    }
    println!("{:?}: no more faults", world.now());
    world.pass(Duration::from_secs(10));
    // Nobody may form a cluster but a seed that starts anew.
    if [1, 2].into_iter().all(|seed| world.waits(seed)) {
        println!("{:?}: start 1 again", world.now());
        world.kill(1);
        world.bounce(1);
    }
    let nodes: Vec<usize> = (1..=NODES).collect();
    world.agree(&nodes);
    world.call(false);
    world.pass(Duration::from_secs(1));
    world.end(&nodes);
    println!("{:?}: all agree", world.now());
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
