//! One history from beginning to rest, and the smallest schedule that still breaks it.

use std::time::Duration;

use gristmill_core::Timestamp;
use gristmill_core::downing::{DowningDecision, Side};
use gristmill_core::membership::Config;
use gristmill_core::{downing, gossip, topology};
use gristmill_messages::MemberId;

use super::engine::{Simulation, SimulationConfig};
use super::fault::Schedule;
use super::history::{End, Life, ProcessId, Totals};
use super::invariant::{Checks, Violation};
use super::network::NetworkConfig;
use super::node::Bug;
use super::panics::caught;
use super::schedule::{SPARE, lie, random, splits};
use super::sharing::SharingConfig;

/// One random history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Of everything that is random.
    pub seed: u64,
    /// Hosts at the beginning.
    pub hosts: usize,
    /// What goes wrong.
    pub schedule: Schedule,
    /// What is wrong with the processes.
    pub bug: Option<Bug>,
    /// Who goes on when the cluster splits.
    pub downing: downing::Config,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was broken, if anything.
    pub violation: Option<Violation>,
    /// How long after the last fault all views were equal and right.
    pub settled_after: Option<Duration>,
    /// How long after that all values and topologies were, too.
    pub shared_after: Option<Duration>,
    /// Over all that happened.
    pub trace: u64,
    /// What was sent.
    pub totals: Totals,
    /// How many processes learned that they were held for dead.
    pub evicted: usize,
    /// How many releases by a decision P2 was looked at for.
    pub armed: usize,
}

/// When all was equal and right.
#[derive(Debug, Default)]
struct Settled {
    views: Option<Duration>,
    values: Option<Duration>,
}

impl Trial {
    /// The history of this seed.
    #[must_use]
    pub fn random(seed: u64, most_hosts: usize) -> Self {
        Self::of(seed, random(seed, most_hosts, &Self::timing()))
    }

    /// The history of this seed from kinds of faults of which partitions are always one, and without those that excuse
    /// whoever serves what another has released: no stalls, drift, loss or delay.
    #[must_use]
    pub fn splits(seed: u64, most_hosts: usize) -> Self {
        Self::of(seed, splits(seed, most_hosts, &Self::timing()))
    }

    fn of(seed: u64, (hosts, schedule): (usize, Schedule)) -> Self {
        Self { seed, hosts, schedule, bug: None, downing: downing::Config::keep_majority() }
    }

    /// The same with one of the hosts lying for a while: every other time it says that others are dead, else any
    /// [`Lie`](super::Lie).
    #[must_use]
    pub fn with_liar(mut self) -> Self {
        self.schedule.0.push(lie(self.seed, self.hosts, &Self::timing()));
        self
    }

    /// The profile of all trials: the fast one, so that forgetting is part of the history.
    fn timing() -> Config {
        Config::test()
    }

    /// How long it may take after the last fault until all agree, C(N): a suspicion at its longest, whatever halves of
    /// a partition must forget of each other, two rounds of contacts, and forming anew by the last of the seeds.
    #[must_use]
    pub fn bound(&self) -> Duration {
        let config = Self::timing();
        let hosts = u32::try_from(self.hosts + SPARE).unwrap_or(u32::MAX);
        let suspicion = config.probe_interval * config.suspicion_multiplier * 6;
        let memory = config.quarantine_ttl + config.tombstone_ttl * 3 / 2;
        config.probe_interval * hosts
            + suspicion
            + memory
            + config.contact_interval * 2
            + config.form_after * hosts
            + config.join_timeout
    }

    /// How long it may take until all hold the same values when they know the same members: as long as `core::downing`
    /// leaves their keys to the dead, by clocks that are wrong by a tenth and in clusters of more than ten; a delta
    /// that is lost, a demand for the whole state, and two turns through all peers.
    fn sharing_bound(&self) -> Duration {
        let (config, gossip) = (Self::timing(), self.sharing().gossip);
        let stable = Duration::from_millis(500);
        let released = config.probe_interval * (config.suspicion_multiplier + 1) + stable + config.probe_timeout * 3;
        let turn = u32::try_from((self.hosts + SPARE).div_ceil(gossip.fanout.get())).unwrap_or(u32::MAX);
        released * 5 / 4 + gossip.request_timeout + gossip.full_state_interval + gossip.interval * turn * 2
    }

    /// Gossip at the pace of the probes: what matters is in which order things meet, not how often.
    fn sharing(&self) -> SharingConfig {
        let interval = Self::timing().probe_interval;
        let gossip = gossip::Config {
            interval,
            request_timeout: interval / 2,
            full_state_interval: interval * 2,
            ..gossip::Config::test()
        };
        SharingConfig {
            gossip,
            topology: topology::Config::test(),
            write_every: interval * 4,
            write_until: self.schedule.end(),
        }
    }

    fn config(&self) -> SimulationConfig {
        let membership = Self::timing();
        SimulationConfig {
            spare: SPARE,
            network: NetworkConfig {
                unreachable_after: membership.probe_interval * 3,
                answer_timeout: membership.probe_interval * 2,
                ..NetworkConfig::default()
            },
            rejoin: Some(membership.probe_interval * 5),
            seeds: self.hosts + SPARE,
            checks: Checks { states: true, accuracy: true },
            bug: self.bug,
            downing: Some(self.downing.clone()),
            sharing: Some(self.sharing()),
            membership,
            ..SimulationConfig::new(self.hosts, self.seed)
        }
    }

    /// Runs it. A machine that panics has broken its own invariants.
    #[must_use]
    pub fn run(&self) -> Outcome {
        caught(|| self.run_uncaught()).unwrap_or_else(|what| Outcome {
            violation: Some(Violation { at: Timestamp::ZERO, rule: "machine", what }),
            settled_after: None,
            shared_after: None,
            trace: 0,
            totals: Totals::default(),
            evicted: 0,
            armed: 0,
        })
    }

    /// What was seen in it, a line for each change of a view, start and end.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        let mut simulation = Simulation::new(self.config());
        simulation.keep_observations();
        simulation.schedule(&self.schedule);
        let broken =
            self.drive(&mut simulation, &mut Settled::default()).err().map(|broken| (broken.at, broken.to_string()));
        let mut lines: Vec<(Timestamp, String)> = Vec::new();
        for (number, life) in (0_u32..).zip(&simulation.history().lives) {
            let name = simulation.name(ProcessId(number));
            lines.push((life.started, format!("{name} starts")));
            lines.extend(life.joined.map(|at| (at, format!("{name} has joined"))));
            lines.extend(life.ended.map(|(at, how)| (at, format!("{name} ends: {how:?}"))));
        }
        for seen in simulation.history().observations() {
            let from = seen.from.map_or_else(String::new, |from| format!(", no longer {from}"));
            let (observer, subject) = (simulation.name(seen.observer), simulation.name(seen.subject));
            lines.push((seen.at, format!("{observer} holds {subject} for {}{from}", seen.to)));
        }
        for (at, by, decision) in &simulation.history().decisions {
            let name =
                |member: &MemberId| simulation.process_of(*member).map_or_else(String::new, |id| simulation.name(id));
            let names = |members: &[MemberId]| members.iter().map(name).collect::<Vec<_>>().join(" ");
            let of = [&decision.baseline, &decision.latest, &decision.reachable].map(|members| names(members));
            let [settled, latest, here] = of;
            lines.push((
                *at,
                format!("{}: {decision}; settled {settled}; latest {latest}; here {here}", simulation.name(*by)),
            ));
        }
        lines.extend(self.schedule.0.iter().map(|(at, fault)| (*at, format!("fault: {fault}"))));
        lines.extend(broken);
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(at, line)| format!("{:>9.3} {line}", at.since_origin().as_secs_f64())).collect()
    }

    fn run_uncaught(&self) -> Outcome {
        let mut simulation = Simulation::new(self.config());
        simulation.schedule(&self.schedule);
        let mut settled = Settled::default();
        let violation = self.drive(&mut simulation, &mut settled).err();
        Outcome {
            violation,
            settled_after: settled.views,
            shared_after: settled.values,
            trace: simulation.trace_hash(),
            totals: simulation.history().totals,
            evicted: simulation.history().ended_so(End::Evicted),
            armed: simulation.history().armed,
        }
    }

    fn drive(&self, simulation: &mut Simulation, settled: &mut Settled) -> Result<(), Violation> {
        let config = Self::timing();
        let end = self.schedule.end();
        simulation.run_until(end)?;
        let agreed = simulation.run_until_agreed(end + self.bound(), config.gossip_interval)?;
        let Some(agreed) = agreed else {
            let what = simulation.agreed().err().unwrap_or_default();
            return Err(Violation { at: simulation.now(), rule: "M5", what });
        };
        settled.views = Some(agreed.since(end));
        // Nothing may stir any more, and after the longest memory nothing may be left. But where no side goes on, all
        // agree on who is missing, go down because of it, and come back.
        let forgotten = config.quarantine_ttl + config.tombstone_ttl * 2;
        let rest = simulation.now() + forgotten;
        let mut since = agreed;
        let shared = loop {
            let now = simulation.now();
            let goes_down = |decision: &DowningDecision| decision.chosen != Side::This;
            match simulation.sharing_agreed() {
                Ok(()) => break now.since(since),
                Err(what) if now >= since + self.sharing_bound() => {
                    let decisions = &simulation.history().decisions;
                    if !decisions.iter().any(|(at, _, decision)| *at >= since && goes_down(decision)) {
                        return Err(Violation { at: now, rule: "G3", what });
                    }
                    let Some(again) = simulation.run_until_agreed(now + self.bound(), config.gossip_interval)? else {
                        let what = simulation.agreed().err().unwrap_or_default();
                        return Err(Violation { at: simulation.now(), rule: "M5", what });
                    };
                    since = again;
                }
                Err(_) => simulation.run_until(simulation.now() + config.gossip_interval)?,
            }
        };
        settled.values = Some(shared);
        simulation.run_until(rest)?;
        let fenced = |life: &Life| life.ended.is_some_and(|(at, how)| how == End::Fenced && at > agreed);
        if simulation.history().lives.iter().any(fenced) {
            let rest = simulation.now() + forgotten;
            simulation.run_until(rest)?;
        }
        if let Err(what) = simulation.agreed() {
            return Err(Violation { at: simulation.now(), rule: "M5", what: format!("no longer: {what}") });
        }
        if let Err(what) = simulation.sharing_agreed() {
            return Err(Violation { at: simulation.now(), rule: "G3", what: format!("no longer: {what}") });
        }
        simulation.check_rest()
    }

    /// The smallest trial found that breaks the same rule: with fewer faults, shorter ones, fewer hosts.
    #[must_use]
    pub fn shrink(&self) -> Self {
        let Some(violation) = self.run().violation else { return self.clone() };
        let mut best = self.clone();
        loop {
            let smaller =
                best.smaller().find(|trial| trial.run().violation.is_some_and(|one| one.rule == violation.rule));
            match smaller {
                Some(smaller) => best = smaller,
                None => return best,
            }
        }
    }

    fn smaller(&self) -> impl Iterator<Item = Self> + '_ {
        let with = |schedule: Schedule| Self { schedule, ..self.clone() };
        let count = self.schedule.0.len();
        let halves = [0..count / 2, count / 2..count].into_iter().filter(move |_| count > 3);
        let without_half = halves.map(move |half| {
            let kept = self.schedule.0.iter().enumerate().filter(|(place, _)| !half.contains(place));
            with(kept.map(|(_, fault)| fault.clone()).collect())
        });
        let without_one = (0..count).map(move |place| {
            let mut schedule = self.schedule.clone();
            schedule.0.remove(place);
            with(schedule)
        });
        let shorter = (0..count).filter_map(move |place| {
            let mut schedule = self.schedule.clone();
            let (_, fault) = schedule.0.get_mut(place)?;
            let half = Duration::from_millis(u64::try_from(fault.duration().as_millis() / 2).ok()?);
            fault.set_duration(half);
            (half > Self::timing().probe_timeout).then(|| with(schedule))
        });
        let highest = self.schedule.0.iter().flat_map(|(_, fault)| fault.hosts()).max().map_or(0, |host| host.index());
        let fewer =
            (self.hosts > 2 && highest + 1 < self.hosts).then(|| Self { hosts: self.hosts - 1, ..self.clone() });
        without_half.chain(without_one).chain(fewer).chain(shorter)
    }
}

/// How many histories of a range of seeds went how.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Histories run.
    pub trials: u64,
    /// What was broken, by seed.
    pub failures: Vec<(u64, Violation)>,
    /// How long agreement took.
    pub settled: Vec<Duration>,
    /// How long after that all values and topologies agreed.
    pub shared: Vec<Duration>,
    /// Processes that were evicted.
    pub evicted: u64,
    /// Histories in which P2 was looked at.
    pub armed: u64,
}

impl Campaign {
    /// Runs the histories of these seeds, and calls `each` after each, which says whether to go on.
    pub fn run(seeds: std::ops::Range<u64>, trial: impl Fn(u64) -> Trial, mut each: impl FnMut(&Self) -> bool) -> Self {
        let mut campaign = Self::default();
        for seed in seeds {
            let outcome = trial(seed).run();
            campaign.trials += 1;
            campaign.evicted += outcome.evicted as u64;
            campaign.armed += u64::from(outcome.armed > 0);
            campaign.settled.extend(outcome.settled_after);
            campaign.shared.extend(outcome.shared_after);
            if let Some(violation) = outcome.violation {
                campaign.failures.push((seed, violation));
            }
            if !each(&campaign) {
                break;
            }
        }
        campaign
    }
}
