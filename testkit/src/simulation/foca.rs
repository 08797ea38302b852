//! The crate `foca` in the same network, to be measured beside the product.
//!
//! foca 2.0 (SWIM with suspicion, no Lifeguard, no connection evidence, no anti-entropy but a periodic announce) with
//! its own `Config::new_lan` for the size of the cluster, whose timing is that of hashicorp/memberlist, as is that of
//! the product's default: probes each second with 500 ms to answer, suspicion of `4 * log10(n)` s, gossip to three each
//! 200 ms. Its messages are datagrams of at most 1,400 bytes, as it is meant to be used. An identity says on the wire
//! what ours says: 16 bytes of id and the address as text. It is renewed when its node learns that it is held for down.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use foca::{Config, Foca, Identity, Member, NoCustomBroadcast, Notification, PostcardCodec, Runtime, Timer};
use gristmill_core::Timestamp;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::engine::address;
use super::fault::{Fault, Schedule};
use super::history::Totals;
use super::network::{Host, Network, NetworkConfig, Passage};
use super::queue::Queue;
use super::scenario::{Detection, Endurance, Traffic};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Identified", from = "Identified")]
struct Name {
    host: u32,
    generation: u32,
}

/// A name on the wire.
#[derive(Serialize, Deserialize)]
struct Identified {
    id: [u8; 16],
    address: String,
}

impl From<Name> for Identified {
    fn from(name: Name) -> Self {
        let bits = u128::from(u64::MAX) << 64 | u128::from(name.generation) << 32 | u128::from(name.host);
        Self { id: bits.to_be_bytes(), address: address(name.host as usize) }
    }
}

impl From<Identified> for Name {
    fn from(Identified { id, .. }: Identified) -> Self {
        let bits = u128::from_be_bytes(id);
        #[expect(clippy::cast_possible_truncation, reason = "each field is cut out of the bits")]
        let (host, generation) = (bits as u32, (bits >> 32) as u32);
        Self { host, generation }
    }
}

impl Identity for Name {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation + 1, ..*self })
    }

    fn addr(&self) -> u32 {
        self.host
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

type Machine = Foca<Name, PostcardCodec, Xoshiro256PlusPlus, NoCustomBroadcast>;

enum Happening {
    Data { to: usize, data: Vec<u8> },
    Timer { node: usize, timer: Timer<Name> },
    Fault { index: usize, begins: bool },
}

/// What one call of the machine asked for.
#[derive(Default)]
struct Asked {
    sent: Vec<(Name, Vec<u8>)>,
    timers: Vec<(Timer<Name>, Duration)>,
    down: Vec<Name>,
    defunct: bool,
}

impl Runtime<Name> for Asked {
    fn notify(&mut self, notification: Notification<'_, Name>) {
        match notification {
            Notification::MemberDown(name) => self.down.push(*name),
            Notification::Defunct | Notification::Rejoin(_) => self.defunct = true,
            _ => {}
        }
    }

    fn send_to(&mut self, to: Name, data: &[u8]) {
        self.sent.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Name>, after: Duration) {
        self.timers.push((event, after));
    }
}

struct Node {
    machine: Machine,
    runs: bool,
    stalled_until: Timestamp,
}

struct Cluster {
    now: Timestamp,
    nodes: Vec<Node>,
    network: Network,
    queue: Queue<Happening>,
    faults: Vec<Fault>,
    totals: Totals,
    /// Who came to hold whom for down, when.
    down: Vec<(Timestamp, usize, Name)>,
    false_deaths: std::collections::BTreeSet<(u32, u32)>,
    renewed: usize,
}

impl Cluster {
    fn new(count: usize, seed: u64, loss: f64, profile: Profile) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let network = Network::new(NetworkConfig { loss, ..NetworkConfig::default() }, count, rng);
        let mut offsets = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x666f_6361);
        let config = profile.config(count);
        let name = |host: usize| Name { host: u32::try_from(host).unwrap_or(0), generation: 0 };
        let mut cluster = Self {
            now: Timestamp::ZERO,
            nodes: Vec::new(),
            network,
            queue: Queue::default(),
            faults: Vec::new(),
            totals: Totals::default(),
            down: Vec::new(),
            false_deaths: std::collections::BTreeSet::new(),
            renewed: 0,
        };
        let members: Vec<_> = (0..count).map(|host| Member::alive(name(host))).collect();
        for host in 0..count {
            let rng = Xoshiro256PlusPlus::seed_from_u64(offsets.random());
            let mut machine = Foca::new(name(host), config.clone(), rng, PostcardCodec);
            let mut asked = Asked::default();
            let others = members.iter().filter(|member| member.id().host != name(host).host).cloned();
            let _ = machine.apply_many(others, false, &mut asked);
            cluster.nodes.push(Node { machine, runs: true, stalled_until: Timestamp::ZERO });
            // All begin at once: their first timers are spread over a period.
            let offset = offsets.random_range(Duration::ZERO..config.probe_period);
            for (timer, after) in asked.timers {
                cluster.queue.push(Timestamp::new(offset + after), Happening::Timer { node: host, timer });
            }
        }
        cluster
    }

    fn schedule(&mut self, schedule: &Schedule) {
        for (at, fault) in &schedule.0 {
            let index = self.faults.len();
            self.faults.push(fault.clone());
            self.queue.push(*at, Happening::Fault { index, begins: true });
            self.queue.push(*at + fault.duration(), Happening::Fault { index, begins: false });
        }
    }

    fn run_until(&mut self, until: Timestamp) {
        while self.queue.next_at().is_some_and(|at| at <= until) {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = at;
            self.step(happening);
        }
        self.now = until;
    }

    fn step(&mut self, happening: Happening) {
        let node = match &happening {
            Happening::Data { to, .. } => *to,
            Happening::Timer { node, .. } => *node,
            Happening::Fault { index, begins } => return self.fault(*index, *begins),
        };
        if !self.nodes[node].runs {
            return;
        }
        if self.nodes[node].stalled_until > self.now {
            self.queue.push(self.nodes[node].stalled_until, happening);
            return;
        }
        let mut asked = Asked::default();
        let machine = &mut self.nodes[node].machine;
        // What it refuses it has ignored.
        let _ = match happening {
            Happening::Data { data, .. } => machine.handle_data(&data, &mut asked),
            Happening::Timer { timer, .. } => machine.handle_timer(timer, &mut asked),
            Happening::Fault { .. } => Ok(()),
        };
        self.totals.handled += 1;
        self.perform(node, asked);
    }

    fn perform(&mut self, node: usize, asked: Asked) {
        let here = Host(u32::try_from(node).unwrap_or(0));
        self.renewed += usize::from(asked.defunct);
        for name in asked.down {
            let there = name.host as usize;
            if self.nodes[there].runs && self.nodes[there].machine.identity().generation == name.generation {
                self.false_deaths.insert((name.host, name.generation));
                self.totals.false_burials += 1;
            }
            self.down.push((self.now, node, name));
        }
        for (timer, after) in asked.timers {
            self.queue.push(self.now + after, Happening::Timer { node, timer });
        }
        for (to, data) in asked.sent {
            self.totals.messages += 1;
            self.totals.bytes += data.len() as u64;
            let to = to.host as usize;
            match self.network.pass(here, Host(u32::try_from(to).unwrap_or(0))) {
                Passage::Cut | Passage::Lost => self.totals.lost += 1,
                Passage::Once(after) => self.queue.push(self.now + after, Happening::Data { to, data }),
                Passage::Twice(after, again) => {
                    self.queue.push(self.now + after, Happening::Data { to, data: data.clone() });
                    self.queue.push(self.now + again, Happening::Data { to, data });
                }
            }
        }
    }

    fn fault(&mut self, index: usize, begins: bool) {
        match &self.faults[index] {
            Fault::Crash(host) | Fault::Kill(host) => self.nodes[host.index()].runs = false,
            Fault::Stall(host, lasts) if begins => {
                let until = self.now + *lasts;
                let node = &mut self.nodes[host.index()];
                node.stalled_until = node.stalled_until.max(until);
            }
            Fault::Leave(host) if begins => {
                let node = host.index();
                let mut asked = Asked::default();
                let _ = self.nodes[node].machine.leave_cluster(&mut asked);
                self.perform(node, asked);
            }
            Fault::Deaf(host, _) => self.network.set_deaf(*host, begins),
            Fault::Partition(hosts, _) => self.network.set_partition(index, begins.then_some(hosts)),
            _ => {}
        }
    }
}

/// Which timing it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Its own for a local network.
    Lan,
    /// That with the probe and gossip times of the product's fast profile.
    Fast,
}

impl Profile {
    fn config(self, count: usize) -> Config {
        let mut config = Config::new_lan(NonZeroU32::new(u32::try_from(count).unwrap_or(1)).unwrap_or(NonZeroU32::MIN));
        if self == Self::Fast {
            config.probe_period = Duration::from_millis(300);
            config.probe_rtt = Duration::from_millis(150);
            config.suspect_to_down_after = config.suspect_to_down_after * 3 / 10;
            if let Some(gossip) = &mut config.periodic_gossip {
                gossip.frequency = Duration::from_millis(100);
            }
        }
        config
    }
}

/// One node crashes, or leaves; when do the others know?
#[must_use]
pub fn going(count: usize, seeds: std::ops::Range<u64>, loss: f64, profile: Profile, leaves: bool) -> Detection {
    let begin = Instant::now();
    let mut detection = Detection::default();
    for seed in seeds {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x676f_696e_6700);
        let victim = Host(rng.random_range(0..u32::try_from(count).unwrap_or(1)));
        let at = Timestamp::from_millis(3000 + rng.random_range(0..2000));
        let mut cluster = Cluster::new(count, seed, loss, profile);
        let fault = if leaves { Fault::Leave(victim) } else { Fault::Crash(victim) };
        cluster.schedule(&Schedule(vec![(at, fault)]));
        let known = |cluster: &Cluster| {
            let mut known: Vec<_> = cluster.down.iter().filter(|(_, _, name)| name.host == victim.0).copied().collect();
            known.sort_by_key(|(at, observer, _)| (*observer, *at));
            known.dedup_by_key(|(_, observer, _)| *observer);
            known
        };
        let limit = at + Duration::from_secs(120);
        while cluster.now < limit && known(&cluster).len() + 1 < count {
            cluster.run_until(cluster.now + Duration::from_millis(100));
        }
        let known: Vec<_> = known(&cluster).into_iter().map(|(known, _, _)| known.since(at)).collect();
        detection.incomplete += u64::from(known.len() + 1 < count);
        detection.false_deaths += cluster.false_deaths.iter().filter(|(host, _)| *host != victim.0).count();
        detection.first.extend(known.iter().min());
        detection.all.extend(known.iter().max());
        detection.each.extend(known);
        add(&mut detection.traffic, &cluster, count);
    }
    detection.traffic.wall = begin.elapsed();
    detection
}

/// A schedule, or nothing but loss, for so long; `faulty` are those that something is wrong with.
#[must_use]
pub fn endure(
    count: usize,
    seeds: std::ops::Range<u64>,
    loss: f64,
    lasts: Duration,
    schedule: &Schedule,
    faulty: &[Host],
) -> Endurance {
    let begin = Instant::now();
    let mut endurance = Endurance::default();
    for seed in seeds {
        let mut cluster = Cluster::new(count, seed, loss, Profile::Lan);
        cluster.schedule(schedule);
        cluster.run_until(Timestamp::new(lasts));
        for (host, _) in &cluster.false_deaths {
            if faulty.contains(&Host(*host)) {
                endurance.faulty_killed += 1;
            } else {
                endurance.healthy_killed += 1;
            }
        }
        endurance.evicted += cluster.renewed;
        add(&mut endurance.traffic, &cluster, count);
    }
    endurance.traffic.wall = begin.elapsed();
    endurance
}

fn add(traffic: &mut Traffic, cluster: &Cluster, count: usize) {
    let (sum, totals) = (&mut traffic.totals, &cluster.totals);
    sum.messages += totals.messages;
    sum.bytes += totals.bytes;
    sum.lost += totals.lost;
    sum.handled += totals.handled;
    sum.false_burials += totals.false_burials;
    let simulated = cluster.now.since(Timestamp::ZERO);
    traffic.simulated += simulated;
    traffic.node_seconds += simulated.as_secs_f64() * count as f64;
}
