//! The network between the hosts: what it loses, doubles, delays and cuts.
//!
//! Memory is of the order of the hosts and of the cuts, never of the pairs.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// A machine of the simulated data centre, by number. It has one address for ever, and at most one process at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

impl Host {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// What every link does when no fault touches it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// The shortest way of a message. 200 µs: one data centre.
    pub latency_min: Duration,
    /// The longest; between both all are equally likely, so that messages overtake each other. 2 ms.
    pub latency_max: Duration,
    /// Which part of the messages is lost, 0 to 1. Over TCP loss is delay; here it is loss, which is harder.
    pub loss: f64,
    /// Which part arrives twice.
    pub duplication: f64,
    /// After which time a sender learns that nobody is there: it stands for a connection attempt that runs out. 3 s.
    pub unreachable_after: Duration,
    /// After which time a question (a join) counts as not answered. 2 s.
    pub answer_timeout: Duration,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(200),
            latency_max: Duration::from_millis(2),
            loss: 0.0,
            duplication: 0.0,
            unreachable_after: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(2),
        }
    }
}

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// The way is cut: not even a connection is possible.
    Cut,
    /// Lost on the way.
    Lost,
    /// Arrives after this time.
    Once(Duration),
    /// Arrives after each of these times.
    Twice(Duration, Duration),
}

/// The state of all links. Faults are counted, so that overlapping ones end each at its own time.
#[derive(Debug)]
pub(crate) struct Network {
    config: NetworkConfig,
    rng: Xoshiro256PlusPlus,
    /// Hosts that hear nothing, and hosts of which nothing is heard.
    deaf: Vec<u16>,
    mute: Vec<u16>,
    /// Part of what leaves this host that is lost, in 1/255.
    bad: Vec<u8>,
    cuts: BTreeMap<(Host, Host), u16>,
    /// For each partition that lasts: the side of each host.
    partitions: BTreeMap<usize, Vec<u8>>,
    loss: BTreeMap<usize, f64>,
    duplication: BTreeMap<usize, f64>,
    delay: BTreeMap<usize, Duration>,
}

impl Network {
    /// A network of so many hosts.
    pub(crate) fn new(config: NetworkConfig, hosts: usize, rng: Xoshiro256PlusPlus) -> Self {
        Self {
            config,
            rng,
            deaf: vec![0; hosts],
            mute: vec![0; hosts],
            bad: vec![0; hosts],
            cuts: BTreeMap::new(),
            partitions: BTreeMap::new(),
            loss: BTreeMap::new(),
            duplication: BTreeMap::new(),
            delay: BTreeMap::new(),
        }
    }

    /// What every link does when no fault touches it.
    pub(crate) const fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Whether nothing can pass from one to the other.
    pub(crate) fn is_cut(&self, from: Host, to: Host) -> bool {
        self.mute[from.index()] > 0
            || self.deaf[to.index()] > 0
            || (!self.cuts.is_empty() && self.cuts.contains_key(&(from, to)))
            || self.partitions.values().any(|side| side.get(from.index()) != side.get(to.index()))
    }

    /// Decides on one message with random numbers of its own, so that those of the others stay as they are.
    pub(crate) fn pass_by(&mut self, rng: &mut Xoshiro256PlusPlus, from: Host, to: Host) -> Passage {
        std::mem::swap(&mut self.rng, rng);
        let passage = self.pass(from, to);
        std::mem::swap(&mut self.rng, rng);
        passage
    }

    /// Decides on one message.
    pub(crate) fn pass(&mut self, from: Host, to: Host) -> Passage {
        if self.is_cut(from, to) {
            return Passage::Cut;
        }
        let loss = strongest(self.config.loss, &self.loss);
        let loss = 1.0 - (1.0 - loss) * (1.0 - f64::from(self.bad[from.index()]) / 255.0);
        if loss > 0.0 && self.rng.random::<f64>() < loss {
            return Passage::Lost;
        }
        let duplication = strongest(self.config.duplication, &self.duplication);
        let first = self.latency();
        if duplication > 0.0 && self.rng.random::<f64>() < duplication {
            return Passage::Twice(first, self.latency());
        }
        Passage::Once(first)
    }

    /// How long one message is on its way.
    pub(crate) fn latency(&mut self) -> Duration {
        let longest = self.config.latency_max.max(self.config.latency_min);
        let base = self.rng.random_range(self.config.latency_min..=longest);
        match self.delay.values().max() {
            None => base,
            Some(most) => base + self.rng.random_range(Duration::ZERO..=*most),
        }
    }

    pub(crate) fn set_deaf(&mut self, host: Host, deaf: bool) {
        count(&mut self.deaf[host.index()], deaf);
    }

    pub(crate) fn set_mute(&mut self, host: Host, mute: bool) {
        count(&mut self.mute[host.index()], mute);
    }

    /// From now on this part of what the host sends is lost.
    pub(crate) fn set_bad(&mut self, host: Host, percent: u8) {
        self.bad[host.index()] = u8::try_from(u16::from(percent.min(100)) * 255 / 100).unwrap_or(u8::MAX);
    }

    pub(crate) fn set_cut(&mut self, from: Host, to: Host, cut: bool) {
        let counter = self.cuts.entry((from, to)).or_default();
        count(counter, cut);
        if *counter == 0 {
            self.cuts.remove(&(from, to));
        }
    }

    /// `side`: those on one side, or `None` when it heals. `key` names the fault.
    pub(crate) fn set_partition(&mut self, key: usize, side: Option<&[Host]>) {
        match side {
            None => {
                self.partitions.remove(&key);
            }
            Some(side) => {
                let mut sides = vec![0; self.deaf.len()];
                for host in side {
                    if let Some(place) = sides.get_mut(host.index()) {
                        *place = 1;
                    }
                }
                self.partitions.insert(key, sides);
            }
        }
    }

    pub(crate) fn set_loss(&mut self, key: usize, percent: Option<u8>) {
        set(&mut self.loss, key, percent.map(|percent| f64::from(percent) / 100.0));
    }

    pub(crate) fn set_duplication(&mut self, key: usize, percent: Option<u8>) {
        set(&mut self.duplication, key, percent.map(|percent| f64::from(percent) / 100.0));
    }

    pub(crate) fn set_delay(&mut self, key: usize, most: Option<Duration>) {
        set(&mut self.delay, key, most);
    }
}

fn strongest(base: f64, faults: &BTreeMap<usize, f64>) -> f64 {
    faults.values().fold(base, |strongest, one| strongest.max(*one))
}

const fn count(counter: &mut u16, up: bool) {
    *counter = if up { counter.saturating_add(1) } else { counter.saturating_sub(1) };
}

fn set<T>(map: &mut BTreeMap<usize, T>, key: usize, value: Option<T>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const A: Host = Host(0);
    const B: Host = Host(1);

    fn network() -> Network {
        Network::new(NetworkConfig::default(), 3, Xoshiro256PlusPlus::seed_from_u64(1))
    }

    #[test]
    fn a_cut_is_of_one_direction_and_overlapping_cuts_end_each_for_itself() {
        let mut network = network();
        network.set_cut(A, B, true);
        network.set_cut(A, B, true);
        assert!(network.is_cut(A, B) && !network.is_cut(B, A));
        network.set_cut(A, B, false);
        assert!(network.is_cut(A, B));
        network.set_cut(A, B, false);
        assert!(!network.is_cut(A, B));
    }

    #[test]
    fn the_deaf_hear_nothing_and_the_mute_say_nothing() {
        let mut network = network();
        network.set_deaf(A, true);
        assert!(network.is_cut(B, A) && !network.is_cut(A, B));
        network.set_deaf(A, false);
        network.set_mute(A, true);
        assert!(!network.is_cut(B, A) && network.is_cut(A, B));
    }

    #[test]
    fn a_partition_keeps_each_side_whole() {
        let mut network = network();
        network.set_partition(7, Some(&[A, B]));
        assert!(!network.is_cut(A, B) && network.is_cut(A, Host(2)) && network.is_cut(Host(2), B));
        network.set_partition(7, None);
        assert!(!network.is_cut(A, Host(2)));
    }

    #[test]
    fn as_much_is_lost_as_was_asked_for() {
        let mut network = network();
        network.set_loss(0, Some(20));
        let lost = (0..10_000).filter(|_| network.pass(A, B) == Passage::Lost).count();
        assert!((1_850..2_150).contains(&lost), "{lost}");
    }
}
