//! Random schedules: which faults meet, and when.

use std::time::Duration;

use gristmill_core::Timestamp;
use gristmill_core::membership::Config;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::fault::{Fault, Lie, Schedule};
use super::network::Host;

/// A kind of fault that a random schedule may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Crash,
    Kill,
    Bounce,
    Leave,
    Join,
    Stall,
    Drift,
    Deaf,
    Mute,
    Cut,
    Partition,
    Loss,
    Duplicate,
    Delay,
}

const KINDS: [Kind; 14] = [
    Kind::Crash,
    Kind::Kill,
    Kind::Bounce,
    Kind::Leave,
    Kind::Join,
    Kind::Stall,
    Kind::Drift,
    Kind::Deaf,
    Kind::Mute,
    Kind::Cut,
    Kind::Partition,
    Kind::Loss,
    Kind::Duplicate,
    Kind::Delay,
];

/// The size of a cluster and what happens to it, from one seed.
///
/// Swarm testing (Groce et al., ISSTA 2012): each schedule draws from a random subset of the kinds of faults, because
/// some failures need that others are absent. Times are in probe intervals, so that a schedule means the same to every
/// profile. Of what ends, two thirds come back on the same host.
pub(super) fn random(seed: u64, most_hosts: usize, config: &Config) -> (usize, Schedule) {
    drawn(seed, most_hosts, config, |_| {})
}

/// The same without all that excuses P2, and with partitions among what is drawn from.
pub(super) fn splits(seed: u64, most_hosts: usize, config: &Config) -> (usize, Schedule) {
    drawn(seed, most_hosts, config, |kinds| {
        kinds.retain(|kind| !matches!(kind, Kind::Stall | Kind::Drift | Kind::Loss | Kind::Delay | Kind::Partition));
        kinds.push(Kind::Partition);
    })
}

fn drawn(seed: u64, most_hosts: usize, config: &Config, choose: impl FnOnce(&mut Vec<Kind>)) -> (usize, Schedule) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x7363_6865_6475_6c65);
    let hosts = rng.random_range(2..=most_hosts.max(2));
    let mut enabled: Vec<_> = KINDS.into_iter().filter(|_| rng.random::<bool>()).collect();
    choose(&mut enabled);
    let unit = config.probe_interval;
    let count = rng.random_range(1..=12);
    let mut schedule = Schedule::default();
    for _ in 0..count {
        let Some(kind) = enabled.choose(&mut rng).copied() else { break };
        let at = Timestamp::new(round(unit.mul_f64(rng.random_range(1.0..40.0))));
        let lasts = round(unit.mul_f64(rng.random_range(0.5_f64..5.0).powi(2)));
        let mut draw = || Host(u32::try_from(rng.random_range(0..hosts)).unwrap_or(0));
        let (one, other) = (draw(), draw());
        let again = at + lasts;
        let returns = rng.random_range(0..3) < 2;
        let mut add = |at, fault| schedule.0.push((at, fault));
        match kind {
            Kind::Crash => {
                add(at, Fault::Crash(one));
                if returns {
                    add(again, Fault::Restart(one));
                }
            }
            Kind::Kill => {
                add(at, Fault::Kill(one));
                if returns {
                    add(again, Fault::Restart(one));
                }
            }
            Kind::Bounce => add(at, Fault::Restart(one)),
            Kind::Leave => {
                add(at, Fault::Leave(one));
                if returns {
                    add(again, Fault::Restart(one));
                }
            }
            Kind::Join => {
                let spare = Host(u32::try_from(hosts + usize::from(returns)).unwrap_or(0));
                add(at, Fault::Restart(spare));
            }
            Kind::Stall => add(at, Fault::Stall(one, lasts)),
            Kind::Drift => add(at, Fault::Drift(one, rng.random_range(900..=1100))),
            Kind::Deaf => add(at, Fault::Deaf(one, lasts)),
            Kind::Mute => add(at, Fault::Mute(one, lasts)),
            Kind::Cut if one == other => {}
            Kind::Cut => add(at, Fault::Cut(one, other, lasts)),
            Kind::Partition => {
                let side: Vec<_> = (0..hosts).filter(|_| rng.random()).collect();
                let side: Vec<_> = side.into_iter().map(|host| Host(u32::try_from(host).unwrap_or(0))).collect();
                if !side.is_empty() && side.len() < hosts {
                    add(at, Fault::Partition(side, lasts));
                }
            }
            Kind::Loss => add(at, Fault::Loss(rng.random_range(1..=40), lasts)),
            Kind::Duplicate => add(at, Fault::Duplicate(rng.random_range(1..=50), lasts)),
            Kind::Delay => add(at, Fault::Delay(round(unit.mul_f64(rng.random_range(0.05..0.5))), lasts)),
        }
    }
    schedule.0.sort_by_key(|(at, _)| *at);
    (hosts, schedule)
}

/// A host that lies for a while, from random numbers of its own: what else happens at this seed stays as it is.
pub(super) fn lie(seed: u64, hosts: usize, config: &Config) -> (Timestamp, Fault) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x6c69_6172_0000_0000);
    let host = Host(u32::try_from(rng.random_range(0..hosts)).unwrap_or(0));
    let mut units = |from, to| round(config.probe_interval.mul_f64(rng.random_range(from..to)));
    let (at, lasts) = (Timestamp::new(units(1.0, 40.0)), units(5.0, 40.0));
    // Half of them say the worst.
    let lie = Lie::ALL.choose(&mut rng).copied().filter(|_| rng.random()).unwrap_or(Lie::Dead);
    (at, Fault::Lie(host, lie, lasts))
}

/// Hosts beyond the first ones that a random schedule may start.
pub(super) const SPARE: usize = 2;

/// To milliseconds, so that what is printed is what was run.
fn round(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_it_survives_printing() {
        for seed in 0..200 {
            let (hosts, schedule) = random(seed, 12, &Config::test());
            assert_eq!(random(seed, 12, &Config::test()), (hosts, schedule.clone()));
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }
    }
}
