//! What is measured: each scenario is a cluster, what happens to it, and the figures that follow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gristmill_core::downing::{self, Strategy};
use gristmill_core::membership::{Config, Phase};
use gristmill_core::{MemberStatus, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::engine::{Simulation, SimulationConfig};
use super::fault::{Fault, Lie, Schedule};
use super::history::{End, ProcessId, Totals, percentile};
use super::invariant::Violation;
use super::network::Host;
use super::node::Bug;

/// How many nodes, with which timing, from which seed on, how often.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Nodes at the beginning.
    pub nodes: usize,
    /// The first seed; each further trial takes the next one.
    pub seed: u64,
    /// How often.
    pub trials: u64,
    /// The timing.
    pub membership: Config,
    /// Which part of the messages is lost.
    pub loss: f64,
    /// Who goes on when the cluster splits. Without, the membership is alone; but a partition has keep-majority.
    pub downing: Option<downing::Config>,
    /// What is wrong with every process.
    pub bug: Option<Bug>,
}

impl Setting {
    /// So many nodes with the default timing, once, without loss.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let membership = Config { max_members: 20_000, ..Config::lan() };
        Self { nodes, seed: 1, trials: 1, membership, loss: 0.0, downing: None, bug: None }
    }

    /// So often.
    #[must_use]
    pub fn trials(self, trials: u64) -> Self {
        Self { trials, ..self }
    }

    /// With this loss, 0 to 1.
    #[must_use]
    pub fn loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// With the fast timing of a data centre.
    #[must_use]
    pub fn fast(self) -> Self {
        Self { membership: Config { max_members: 20_000, ..Config::fast_lan() }, ..self }
    }

    fn seeds(&self) -> std::ops::Range<u64> {
        self.seed..self.seed + self.trials
    }

    fn config(&self, seed: u64) -> SimulationConfig {
        let mut config = SimulationConfig::new(self.nodes, seed);
        config.membership = self.membership.clone();
        config.network.loss = self.loss;
        config.downing.clone_from(&self.downing);
        config.bug = self.bug;
        config
    }
}

/// How a node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// With its host.
    Crash,
    /// Its process alone.
    Kill,
    /// As it should.
    Leave,
}

/// When others came to know that one is gone, or is there.
#[derive(Debug, Clone, Default)]
pub struct Detection {
    /// Until the first suspected it, one for each trial.
    pub suspected: Vec<Duration>,
    /// Until the first knew.
    pub first: Vec<Duration>,
    /// Until the last knew.
    pub all: Vec<Duration>,
    /// Until each knew, over all trials.
    pub each: Vec<Duration>,
    /// Until the first that goes on let its keys be taken over, by a decision: of a crash, with downing.
    pub first_released: Vec<Duration>,
    /// Until the last did.
    pub all_released: Vec<Duration>,
    /// Trials in which not all came to know, or let its keys be taken over, within the limit.
    pub incomplete: u64,
    /// Others who were declared dead.
    pub false_deaths: usize,
    /// What the whole run sent.
    pub traffic: Traffic,
    /// What was broken first, if anything: that trial was looked at no further.
    pub violation: Option<Violation>,
}

/// What was sent, by whom, in which time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// The sums.
    pub totals: Totals,
    /// Nodes times seconds.
    pub node_seconds: f64,
    /// Simulated.
    pub simulated: Duration,
    /// Needed for it.
    pub wall: Duration,
}

impl Traffic {
    fn add(&mut self, simulation: &Simulation, since: Timestamp, nodes: usize) {
        let totals = simulation.history().totals;
        let sum = &mut self.totals;
        sum.messages += totals.messages;
        sum.bytes += totals.bytes;
        sum.syncs += totals.syncs;
        sum.lost += totals.lost;
        sum.handled += totals.handled;
        sum.refutations += totals.refutations;
        sum.false_suspicions += totals.false_suspicions;
        sum.false_burials += totals.false_burials;
        let simulated = simulation.now().since(since);
        self.simulated += simulated;
        self.node_seconds += simulated.as_secs_f64() * nodes as f64;
    }

    /// Of each node in each second.
    #[must_use]
    pub fn bytes_rate(&self) -> f64 {
        self.totals.bytes as f64 / self.node_seconds.max(f64::MIN_POSITIVE)
    }

    /// Of each node in each second.
    #[must_use]
    pub fn message_rate(&self) -> f64 {
        self.totals.messages as f64 / self.node_seconds.max(f64::MIN_POSITIVE)
    }
}

impl Detection {
    /// Until the last knew: the value that this part of the trials is below.
    #[must_use]
    pub fn all_within(&self, part: f64) -> Duration {
        percentile(&mut self.all.clone(), part)
    }
}

const WARM_UP: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// One node goes; when do the others know?
#[must_use]
pub fn going(setting: &Setting, going: Going) -> Detection {
    let begin = Instant::now();
    let mut detection = Detection::default();
    for seed in setting.seeds() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x676f_696e_6700);
        let victim = Host(rng.random_range(0..u32::try_from(setting.nodes).unwrap_or(1)));
        let at = Timestamp::new(WARM_UP + Duration::from_millis(rng.random_range(0..2000)));
        let fault = match going {
            Going::Crash => Fault::Crash(victim),
            Going::Kill => Fault::Kill(victim),
            Going::Leave => Fault::Leave(victim),
        };
        let mut simulation = Simulation::new(setting.config(seed));
        let subject = simulation.process_on(victim).unwrap_or(ProcessId(0));
        simulation.schedule(&Schedule(vec![(at, fault)]));
        let knows = |simulation: &Simulation| simulation.history().gone(subject).len() + 1 >= setting.nodes;
        let decides = setting.downing.as_ref().is_some_and(|downing| downing.strategy() != Strategy::Off);
        let decides = decides && going == Going::Crash;
        let released = |simulation: &Simulation| -> BTreeMap<ProcessId, Timestamp> {
            let of_subject = simulation.history().released.iter().filter(|release| release.subject == subject);
            of_subject.map(|release| (release.by, release.at)).collect()
        };
        let all_released = |simulation: &Simulation| released(simulation).len() + 1 >= setting.nodes;
        let complete = |simulation: &Simulation| knows(simulation) && (!decides || all_released(simulation));
        let done = |simulation: &Simulation| simulation.now() > at && complete(simulation);
        let broken = run(&mut simulation, at + LIMIT, LOOK, done).err();
        detection.violation = detection.violation.or(broken);
        detection.incomplete += u64::from(!complete(&simulation));
        let released: Vec<_> = released(&simulation).values().map(|released| released.since(at)).collect();
        detection.first_released.extend(released.iter().min());
        detection.all_released.extend(released.iter().max());
        detection.false_deaths += simulation.history().false_deaths().filter(|(id, _)| *id != subject).count();
        let gone: Vec<_> = simulation.history().gone(subject).iter().map(|(_, known)| known.since(at)).collect();
        let life = &simulation.history().lives[subject.index()];
        detection.suspected.extend(life.suspected.map(|suspected| suspected.since(at)));
        detection.first.extend(gone.iter().min());
        detection.all.extend(gone.iter().max());
        detection.each.extend(gone);
        detection.traffic.add(&simulation, Timestamp::ZERO, setting.nodes);
    }
    detection.traffic.wall = begin.elapsed();
    detection
}

/// One node joins; when do the others hold it for up?
#[must_use]
pub fn joining(setting: &Setting) -> Detection {
    let begin = Instant::now();
    let mut detection = Detection::default();
    for seed in setting.seeds() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x6a6f_696e);
        let newcomer = Host(u32::try_from(setting.nodes).unwrap_or(1));
        let at = Timestamp::new(WARM_UP + Duration::from_millis(rng.random_range(0..2000)));
        let mut simulation = Simulation::new(SimulationConfig { spare: 1, ..setting.config(seed) });
        simulation.schedule(&Schedule(vec![(at, Fault::Restart(newcomer))]));
        let up = |simulation: &Simulation| {
            simulation.process_on(newcomer).map_or(0, |newcomer| simulation.history().up(newcomer).len())
        };
        let broken = run(&mut simulation, at + LIMIT, LOOK, |simulation| up(simulation) >= setting.nodes).err();
        detection.violation = detection.violation.or(broken);
        detection.incomplete += u64::from(up(&simulation) < setting.nodes);
        if let Some(subject) = simulation.process_on(newcomer) {
            let known: Vec<_> = simulation.history().up(subject).iter().map(|(_, up)| up.since(at)).collect();
            detection.first.extend(known.iter().min());
            detection.all.extend(known.iter().max());
            detection.each.extend(known);
        }
        detection.false_deaths += simulation.history().false_deaths().count();
        detection.traffic.add(&simulation, Timestamp::ZERO, setting.nodes);
    }
    detection.traffic.wall = begin.elapsed();
    detection
}

/// What happens to a cluster that should live undisturbed.
#[derive(Debug, Clone, Default)]
pub struct Endurance {
    /// What was sent and falsely suspected.
    pub traffic: Traffic,
    /// Processes that were declared dead by another although they ran and nothing was wrong with them alone.
    pub healthy_killed: usize,
    /// Processes that something was wrong with, and that were declared dead.
    pub faulty_killed: usize,
    /// Processes that nothing was wrong with, and that some other held for dead or gone.
    pub healthy_given_up: usize,
    /// Processes that learned that they were held for dead.
    pub evicted: usize,
    /// After the end of what was wrong, until all agreed; `None` when they did not within the limit.
    pub healed_after: Option<Duration>,
    /// Times at which some node stopped evictions.
    pub halted: usize,
    /// Who went on, at the end of what was wrong, one for each trial with downing.
    pub splits: Vec<Split>,
    /// What was broken first, if anything: that trial was looked at no further.
    pub violation: Option<Violation>,
    /// Samples: the time, tables that differ, pairs of nodes of which one suspects the other, pairs of whom one holds
    /// the other for dead.
    pub samples: Vec<Sample>,
}

/// How a cluster came apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// Members that run, of those that were cut off and of the others.
    pub serving: [usize; 2],
    /// From the cut until the last loser stopped.
    pub fenced: Option<Duration>,
    /// From the cut until the first winner, and until the last one, let the keys of the losers be taken over.
    pub released: Option<(Duration, Duration)>,
}

impl Split {
    fn of(simulation: &Simulation, cut: Timestamp, part: &[Host]) -> Self {
        let mut serving = [0; 2];
        for (process, _) in simulation.running().filter(|(_, machine)| machine.phase() == Phase::Up) {
            serving[usize::from(!part.contains(&simulation.host_of(process)))] += 1;
        }
        let history = simulation.history();
        let fenced = history.lives.iter().filter_map(|life| life.ended.filter(|(_, how)| *how == End::Fenced));
        let fenced = fenced.map(|(at, _)| at.since(cut)).max();
        let released = || history.released.iter().map(|release| release.at.since(cut));
        Self { serving, fenced, released: released().min().zip(released().max()) }
    }

    /// How many sides go on.
    #[must_use]
    pub fn sides(&self) -> usize {
        self.serving.iter().filter(|serving| **serving > 0).count()
    }
}

/// The views of all nodes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Different tables.
    pub views: usize,
    /// Pairs.
    pub suspected: usize,
    /// Pairs.
    pub dead: usize,
}

impl Endurance {
    /// Of the time that all nodes lived, in hours.
    #[must_use]
    pub fn node_hours(&self) -> f64 {
        self.traffic.node_seconds / 3600.0
    }

    fn add(&mut self, simulation: &Simulation, nodes: usize, faulty: &[Host]) {
        for (process, _) in simulation.history().false_deaths() {
            if faulty.contains(&simulation.host_of(process)) {
                self.faulty_killed += 1;
            } else {
                self.healthy_killed += 1;
            }
        }
        let given_up = (0_u32..).zip(&simulation.history().lives).filter(|(_, life)| life.given_up.is_some());
        let healthy = given_up.filter(|(number, _)| !faulty.contains(&simulation.host_of(ProcessId(*number))));
        self.healthy_given_up += healthy.count();
        self.evicted += simulation.history().ended_so(End::Evicted);
        self.halted += simulation.history().halted;
        self.traffic.add(simulation, Timestamp::ZERO, nodes);
    }
}

/// Nothing happens but the loss of the setting.
#[must_use]
pub fn steady(setting: &Setting, lasts: Duration) -> Endurance {
    let begin = Instant::now();
    let mut endurance = Endurance::default();
    for seed in setting.seeds() {
        let mut simulation = Simulation::new(SimulationConfig { rejoin: None, ..setting.config(seed) });
        let broken = sampled(&mut simulation, Timestamp::new(lasts), &mut endurance.samples).err();
        endurance.violation = endurance.violation.or(broken);
        endurance.add(&simulation, setting.nodes, &[]);
    }
    endurance.traffic.wall = begin.elapsed();
    endurance
}

/// Some nodes stand still for `lasts`, then run for `awake`, again and again; at last they are left alone.
#[must_use]
pub fn stalls(setting: &Setting, stalled: usize, lasts: Duration, awake: Duration, times: u32) -> Endurance {
    let hosts = picked(setting, stalled);
    let mut schedule = Schedule::default();
    for time in 0..times {
        let at = Timestamp::new(WARM_UP + (lasts + awake) * time);
        schedule.0.extend(hosts.iter().map(|host| (at, Fault::Stall(*host, lasts))));
    }
    disturbed(setting, &schedule, &hosts)
}

/// Part of the nodes are cut off from the others, and come back.
#[must_use]
pub fn partition(setting: &Setting, part: usize, lasts: Duration) -> Endurance {
    let hosts = picked(setting, part);
    let schedule = Schedule(vec![(Timestamp::new(WARM_UP), Fault::Partition(hosts.clone(), lasts))]);
    let downing = setting.downing.clone().unwrap_or_default();
    disturbed(&Setting { downing: Some(downing), ..setting.clone() }, &schedule, &hosts)
}

/// Some nodes hear nothing.
#[must_use]
pub fn deaf(setting: &Setting, count: usize, lasts: Duration) -> Endurance {
    let hosts = picked(setting, count);
    let schedule = hosts.iter().map(|host| (Timestamp::new(WARM_UP), Fault::Deaf(*host, lasts))).collect();
    disturbed(setting, &schedule, &hosts)
}

/// Some nodes lose 80 % of what they send.
#[must_use]
pub fn bad_cards(setting: &Setting, count: usize, lasts: Duration) -> Endurance {
    let hosts = picked(setting, count);
    let at = Timestamp::new(WARM_UP);
    let mut schedule: Schedule = hosts.iter().map(|host| (at, Fault::Bad(*host, 80))).collect();
    schedule.0.extend(hosts.iter().map(|host| (at + lasts, Fault::Bad(*host, 0))));
    disturbed(setting, &schedule, &hosts)
}

/// One node forges what it says of others.
#[must_use]
pub fn liar(setting: &Setting, lie: Lie, lasts: Duration) -> Endurance {
    let hosts = picked(setting, 1);
    let schedule = hosts.iter().map(|host| (Timestamp::new(WARM_UP), Fault::Lie(*host, lie, lasts))).collect();
    disturbed(setting, &schedule, &hosts)
}

/// This schedule, and then rest until all agree; `faulty` are those that may be killed.
#[must_use]
pub fn disturbed(setting: &Setting, schedule: &Schedule, faulty: &[Host]) -> Endurance {
    let begin = Instant::now();
    let mut endurance = Endurance::default();
    for seed in setting.seeds() {
        let mut simulation = Simulation::new(setting.config(seed));
        simulation.schedule(schedule);
        let end = schedule.end();
        let broken = sampled(&mut simulation, end, &mut endurance.samples).err();
        if setting.downing.is_some() {
            endurance.splits.push(Split::of(&simulation, Timestamp::new(WARM_UP), faulty));
        }
        let limit = end + Duration::from_secs(600);
        let look = setting.membership.gossip_interval;
        let agreed = loop {
            match simulation.run_until_agreed((simulation.now() + look * 10).min(limit), look) {
                Ok(None) if simulation.now() < limit => sample(&simulation, &mut endurance.samples),
                outcome => break outcome,
            }
        };
        endurance.violation = endurance.violation.or(broken).or_else(|| agreed.as_ref().err().cloned());
        let healed = agreed.ok().flatten().map(|at| at.since(end));
        endurance.healed_after = match (endurance.healed_after, healed) {
            (Some(most), Some(healed)) => Some(most.max(healed)),
            (None, healed) if seed == setting.seed => healed,
            _ => None,
        };
        endurance.add(&simulation, setting.nodes, faulty);
    }
    endurance.traffic.wall = begin.elapsed();
    endurance
}

/// A large cluster in which one node of a hundred crashes at once.
#[derive(Debug, Clone, Default)]
pub struct Scale {
    /// Time to build the cluster.
    pub built: Duration,
    /// Processor time that it took, which says more than the time that passed where others compute too.
    pub cpu: Duration,
    /// What was sent.
    pub traffic: Traffic,
    /// Pairs of a node that runs and a crashed one that it does not hold for gone.
    pub unknown: usize,
    /// Others who were declared dead.
    pub false_deaths: usize,
    /// The most memory that the process has used so far, in bytes.
    pub resident: u64,
    /// What was broken, if anything.
    pub violation: Option<Violation>,
}

/// Runs it for so long.
#[must_use]
pub fn scale(setting: &Setting, lasts: Duration) -> Scale {
    let begin = Instant::now();
    let mut simulation = Simulation::new(SimulationConfig { rejoin: None, ..setting.config(setting.seed) });
    let built = begin.elapsed();
    let (begin, cpu) = (Instant::now(), cpu_time());
    let crashed: Vec<_> = (0..setting.nodes).step_by(100).map(|host| Host(u32::try_from(host).unwrap_or(0))).collect();
    let subjects: Vec<_> = crashed.iter().filter_map(|host| simulation.process_on(*host)).collect();
    simulation.schedule(&crashed.iter().map(|host| (Timestamp::new(WARM_UP), Fault::Crash(*host))).collect());
    let violation = simulation.run_until(Timestamp::new(lasts)).err();
    let observers = setting.nodes - crashed.len();
    let known: usize = subjects.iter().map(|subject| simulation.history().gone(*subject).len()).sum();
    let mut traffic = Traffic::default();
    traffic.add(&simulation, Timestamp::ZERO, setting.nodes);
    traffic.wall = begin.elapsed();
    let cpu = cpu_time().zip(cpu).map_or(traffic.wall, |(after, before)| after.saturating_sub(before));
    let false_deaths = simulation.history().false_deaths().count();
    Scale {
        built,
        cpu,
        traffic,
        unknown: (observers * subjects.len()).saturating_sub(known),
        false_deaths,
        resident: resident(),
        violation,
    }
}

/// The time that this thread has computed, where the system tells.
fn cpu_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    statistics.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The most memory that this process has used, where the system tells.
#[must_use]
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

fn picked(setting: &Setting, count: usize) -> Vec<Host> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(setting.seed ^ 0x7069_636b);
    let mut hosts: Vec<_> = (0..u32::try_from(setting.nodes).unwrap_or(0)).map(Host).collect();
    let (picked, _) = hosts.partial_shuffle(&mut rng, count);
    picked.to_vec()
}

fn run(
    simulation: &mut Simulation,
    limit: Timestamp,
    look: Duration,
    done: impl Fn(&Simulation) -> bool,
) -> Result<(), Violation> {
    while simulation.now() < limit && !done(simulation) {
        simulation.run_until((simulation.now() + look).min(limit))?;
    }
    Ok(())
}

fn sampled(simulation: &mut Simulation, until: Timestamp, samples: &mut Vec<Sample>) -> Result<(), Violation> {
    let step = (until.since_origin() / 400).max(Duration::from_millis(50));
    while simulation.now() < until {
        simulation.run_until((simulation.now() + step).min(until))?;
        sample(simulation, samples);
    }
    Ok(())
}

fn sample(simulation: &Simulation, samples: &mut Vec<Sample>) {
    let nodes = simulation.running().count();
    let pairs = |status| {
        let count = |(_, machine): (_, &gristmill_core::membership::Membership)| {
            machine.records().filter(|record| record.status() == status).count()
        };
        if nodes > 300 { 0 } else { simulation.running().map(count).sum() }
    };
    samples.push(Sample {
        at: simulation.now(),
        views: simulation.views(),
        suspected: pairs(MemberStatus::Suspect),
        dead: pairs(MemberStatus::Dead),
    });
}
