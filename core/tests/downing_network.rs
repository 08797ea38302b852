//! Nodes of membership and downing on one virtual clock, cut in all ways: at no moment does a loser serve what a winner
//! has released.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use gristmill_core::downing::{self, Cause, Downing, DowningDecision, Side};
use gristmill_core::membership::{
    self, Config, ContactFailure, Effect, Event, Input, JoinAnswer, Membership, Message, Phase, Record, TimerEpoch,
};
use gristmill_core::{Address, Member, Outbox, RequestId, Timestamp};
use gristmill_messages::MemberId;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const SECOND: Duration = Duration::from_secs(1);

enum Delivery {
    Message { from: usize, to: MemberId, message: Message },
    Timer { host: usize, life: u64, epoch: TimerEpoch },
    Downing { host: usize, life: u64, epoch: downing::TimerEpoch },
    Join { from: usize, to: Address, joiner: Record },
    Answer { to: usize, from: Address, answer: JoinAnswer },
    Rejoin { host: usize },
}

/// One process, which lives again under a new id after a fence or an eviction, as a shell does.
struct Host {
    life: u64,
    membership: Membership,
    downing: Downing,
    serves: bool,
    crashed: bool,
    evicted: u32,
    fenced: u32,
    restrained: bool,
    decisions: Vec<DowningDecision>,
    /// Under which id it was cut off, and from whom.
    cut_off: (MemberId, Vec<MemberId>),
}

struct Net {
    seed: u64,
    strategy: downing::Config,
    config: Config,
    now: Timestamp,
    hosts: Vec<Host>,
    queue: BTreeMap<(Timestamp, u64), Delivery>,
    queued: u64,
    /// Directed: messages from the first to the second are lost.
    cut: BTreeSet<(usize, usize)>,
    rng: Xoshiro256PlusPlus,
    ids: BTreeMap<MemberId, usize>,
    requests: BTreeMap<u64, (usize, Address)>,
    rejoins: bool,
    /// Members that were released by a decision, and by whom.
    released: BTreeMap<MemberId, BTreeSet<MemberId>>,
    log: String,
}

fn address(host: usize) -> Address {
    format!("node:{host}").into()
}

fn host_of(address: &Address) -> usize {
    address.as_str()[5..].parse().unwrap()
}

impl Net {
    fn new(seed: u64, count: usize, strategy: downing::Config) -> Self {
        let mut net = Self {
            seed,
            strategy,
            config: Config { contact_interval: 2 * SECOND, quarantine_ttl: 20 * SECOND, ..Config::lan() },
            now: Timestamp::ZERO,
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            queued: 0,
            cut: BTreeSet::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            ids: BTreeMap::new(),
            requests: BTreeMap::new(),
            rejoins: true,
            released: BTreeMap::new(),
            log: String::new(),
        };
        for host in 0..count {
            let member = Member::new(net.id(host, 0), address(host), []);
            let process = net.process(member, 0);
            net.hosts.push(process);
            net.input(host, Input::Start { seeds: vec![address(0), address(1)] });
        }
        net.run(10 * SECOND);
        assert!(net.all_agree(), "{net:?}");
        net.log.clear();
        // So that the faults fall on any moment of the probes.
        let offset = net.rng.random_range(0..3_000);
        net.run(Duration::from_millis(5_000 + offset));
        net
    }

    /// Later lives have greater ids, as ids begin with the time.
    fn id(&mut self, host: usize, life: u64) -> MemberId {
        let id = MemberId::new((u128::from(life) << 64) + 1 + host as u128);
        self.ids.insert(id, host);
        id
    }

    fn process(&mut self, member: Member, life: u64) -> Host {
        let id = member.id;
        Host {
            life,
            membership: Membership::new(self.config.clone(), member, self.rng.random_range(0..u64::MAX)),
            downing: Downing::new(self.strategy.clone(), self.config.clone(), id),
            serves: true,
            crashed: false,
            evicted: 0,
            fenced: 0,
            restrained: false,
            decisions: Vec::new(),
            cut_off: (id, Vec::new()),
        }
    }

    fn enqueue(&mut self, after: Duration, delivery: Delivery) {
        self.queued += 1;
        self.queue.insert((self.now + after, self.queued), delivery);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.random_range(200..2_000))
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            let delivery = entry.remove();
            self.deliver(delivery);
        }
        self.now = end;
    }

    fn cut(&mut self, these: &[usize], those: &[usize]) {
        self.cut_one_way(these, those);
        self.cut_one_way(those, these);
    }

    /// Nothing gets from these to those.
    fn cut_one_way(&mut self, these: &[usize], those: &[usize]) {
        for one in these {
            self.cut.extend(those.iter().map(|other| (*one, *other)));
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Message { from, to, message } => {
                let host = self.ids[&to];
                let runs = self.hosts[host].membership.me().id() == to && !self.hosts[host].crashed;
                if runs && !self.cut.contains(&(from, host)) {
                    // A message of a former life comes from nobody any more.
                    let sender = self.hosts[from].membership.me().id();
                    if let Some(heard) = downing::hear(&self.hosts[host].membership, sender, &message) {
                        self.judge(host, heard);
                    }
                    self.input(host, Input::Received { from: sender, message });
                }
            }
            Delivery::Timer { host, life, epoch } if self.hosts[host].life == life => {
                self.input(host, Input::Timer(epoch));
            }
            Delivery::Downing { host, life, epoch } if self.hosts[host].life == life => {
                self.judge(host, downing::Input::Timer(epoch));
                self.settle(host);
            }
            Delivery::Timer { .. } | Delivery::Downing { .. } => {}
            Delivery::Join { from, to, joiner } => {
                let host = host_of(&to);
                let ways = [(from, host), (host, from)];
                if self.hosts[host].crashed || ways.iter().any(|way| self.cut.contains(way)) {
                    let failure = ContactFailure::Unreachable("cut".into());
                    return self.input(from, Input::JoinFailed { address: to, failure });
                }
                self.queued += 1;
                let request = RequestId::new(self.queued);
                self.requests.insert(self.queued, (from, to));
                self.input(host, Input::JoinRequested { request, joiner });
            }
            Delivery::Answer { to, from, answer } => {
                self.input(to, Input::JoinAnswered { address: from, answer });
            }
            Delivery::Rejoin { host } => {
                let life = self.hosts[host].life + 1;
                // As a shell does: through everybody it knows, and never by forming a cluster of its own.
                let through = (0..self.hosts.len()).map(address).collect();
                let (was, settled) = self.hosts[host].cut_off.clone();
                let enough = self.strategy.enough_to_form(settled.len());
                let member = Member::new(self.id(host, life), address(host), []);
                let (evicted, fenced) = (self.hosts[host].evicted, self.hosts[host].fenced);
                let decisions = std::mem::take(&mut self.hosts[host].decisions);
                let process = self.process(member, life);
                self.hosts[host] =
                    Host { serves: false, evicted, fenced, decisions, cut_off: (was, settled.clone()), ..process };
                self.input(host, Input::Return { through, was, settled, enough });
            }
        }
    }

    fn input(&mut self, host: usize, input: Input) {
        if self.hosts[host].crashed {
            return;
        }
        let mut out: Outbox<Effect, Event> = Outbox::new();
        self.hosts[host].membership.handle(self.now, input, &mut out);
        for effect in out.drain_effects() {
            self.perform(host, effect);
        }
        for event in out.drain_events() {
            self.happened(host, event);
        }
        self.settle(host);
    }

    fn perform(&mut self, host: usize, effect: Effect) {
        let latency = self.latency();
        let life = self.hosts[host].life;
        match effect {
            Effect::Send { to, message, .. } => self.enqueue(latency, Delivery::Message { from: host, to, message }),
            Effect::SetTimer { epoch, after } => self.enqueue(after, Delivery::Timer { host, life, epoch }),
            Effect::Join { address, joiner } => {
                self.enqueue(latency, Delivery::Join { from: host, to: address, joiner });
            }
            Effect::AnswerJoin { request, answer } => {
                let (to, from) = self.requests.remove(&request.get()).unwrap();
                self.enqueue(latency, Delivery::Answer { to, from, answer });
            }
        }
    }

    fn happened(&mut self, host: usize, event: Event) {
        match event {
            Event::Joined => self.hosts[host].serves = true,
            Event::Evicted { .. } => {
                self.hosts[host].evicted += 1;
                self.note(host, "is evicted");
                self.stop(host);
            }
            Event::JoinFailed(_) => self.enqueue(SECOND, Delivery::Rejoin { host }),
            Event::StatusChanged { member, from, to, .. } => {
                let line = format!("sees {} go from {from:?} to {to}", member.id.bits());
                self.note(host, &line);
            }
            _ => {}
        }
    }

    fn stop(&mut self, host: usize) {
        let id = self.hosts[host].membership.me().id();
        let decision = self.hosts[host].decisions.last().filter(|decision| decision.fences(id));
        self.hosts[host].cut_off = (id, decision.map_or_else(Vec::new, |decision| decision.counted(id)));
        self.hosts[host].serves = false;
        self.hosts[host].membership = Membership::new(
            self.config.clone(),
            Member::new(MemberId::new(u128::MAX - host as u128), address(host), []),
            0,
        );
        if self.rejoins {
            self.enqueue(4 * SECOND, Delivery::Rejoin { host });
        }
    }

    /// Tells the downing of a change in the membership, and looks whether the promise holds.
    fn settle(&mut self, host: usize) {
        if self.hosts[host].membership.phase() == Phase::Up {
            let observed = downing::observe(&self.hosts[host].membership);
            self.judge(host, downing::Input::Observed(observed));
        }
        for (released, by) in &self.released {
            let both_serve = self.serves(*released) && by.iter().any(|by| self.serves(*by));
            assert!(!both_serve, "{} is released and serves\n{self:?}", released.bits());
        }
    }

    fn judge(&mut self, host: usize, input: downing::Input) {
        if self.hosts[host].crashed || self.hosts[host].membership.phase() != Phase::Up {
            return;
        }
        let mut out = Outbox::new();
        self.hosts[host].downing.handle(self.now, input, &mut out);
        let life = self.hosts[host].life;
        let me = self.hosts[host].membership.me().id();
        let mut decided = false;
        for downing::Event::Decided(decision) in out.drain_events() {
            decided = true;
            self.note(host, &format!("{decision}"));
            self.hosts[host].decisions.push(decision);
        }
        let effects: Vec<_> = out.drain_effects().collect();
        for effect in effects {
            match effect {
                downing::Effect::SetTimer(timer) => {
                    self.enqueue(timer.after, Delivery::Downing { host, life, epoch: timer.epoch });
                }
                downing::Effect::Poll { members } => self.input(host, Input::Poll { members }),
                downing::Effect::Check { members } => self.input(host, Input::Check { members }),
                downing::Effect::Restrain(on) => {
                    self.hosts[host].restrained = on;
                    self.note(host, if on { "is losing" } else { "is losing no more" });
                    self.input(host, Input::Restrain(on));
                }
                downing::Effect::Fence => {
                    self.hosts[host].fenced += 1;
                    self.note(host, "is fenced");
                    self.stop(host);
                }
                downing::Effect::Release { members } => {
                    for member in members {
                        // Without a decision it was dead before this node came.
                        if decided {
                            self.released.entry(member).or_default().insert(me);
                        }
                        if self.hosts[host]
                            .membership
                            .status(member)
                            .is_some_and(|status| status < gristmill_core::MemberStatus::Dead)
                        {
                            self.input(host, Input::Down { member });
                        }
                    }
                }
            }
        }
    }

    fn note(&mut self, host: usize, what: &str) {
        let id = self.hosts[host].membership.me().id().bits();
        writeln!(self.log, "{:?} host {host} ({id}) {what}", self.now).unwrap();
    }

    fn serves(&self, member: MemberId) -> bool {
        let host = &self.hosts[self.ids[&member]];
        host.serves && !host.crashed && host.membership.me().id() == member
    }

    fn serving(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].serves && !self.hosts[*host].crashed).collect()
    }

    /// Whether all that serve see exactly each other.
    fn all_agree(&self) -> bool {
        let mut serving: Vec<_> = self.serving().iter().map(|host| self.hosts[*host].membership.me().id()).collect();
        serving.sort_unstable();
        let sees =
            |host: &usize| self.hosts[*host].membership.active().iter().map(|member| member.id).collect::<Vec<_>>();
        !serving.is_empty() && self.serving().iter().all(|host| sees(host) == serving)
    }

    fn chosen(&self, host: usize) -> Vec<(Cause, Side)> {
        self.hosts[host].decisions.iter().map(|decision| (decision.cause, decision.chosen)).collect()
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} at {:?}, serving {:?}\n{}", self.seed, self.now, self.serving(), self.log)?;
        for (host, process) in self.hosts.iter().enumerate() {
            let records: Vec<_> =
                process.membership.records().map(|record| (record.id().bits(), record.status())).collect();
            writeln!(f, "{host} {:?} {records:?}", process.membership.phase())?;
        }
        Ok(())
    }
}

fn without(count: usize, host: usize) -> Vec<usize> {
    (0..count).filter(|other| *other != host).collect()
}

fn hosts(range: std::ops::Range<usize>) -> Vec<usize> {
    range.collect()
}

/// Cuts as `cut` says for a minute, then heals. While cut exactly `survivors` go on; afterwards all do.
fn partition(seed: u64, count: usize, strategy: downing::Config, cut: impl Fn(&mut Net), survivors: &[usize]) {
    let mut net = Net::new(seed, count, strategy);
    cut(&mut net);
    net.run(60 * SECOND);
    assert_eq!(net.serving(), survivors, "seed {seed}\n{net:?}");
    assert!(net.all_agree(), "seed {seed}\n{net:?}");
    let losers = (0..count).filter(|host| !survivors.contains(host)).map(|host| MemberId::new(1 + host as u128));
    assert_eq!(
        net.released.keys().copied().collect::<Vec<_>>(),
        losers.collect::<Vec<_>>(),
        "their keys are taken over"
    );
    net.cut.clear();
    net.run(60 * SECOND);
    assert_eq!(net.serving(), hosts(0..count), "seed {seed}, after the heal\n{net:?}");
    assert!(net.all_agree(), "seed {seed}, after the heal\n{net:?}");
    for host in 0..count {
        let lives = net.hosts[host].life + 1;
        assert_eq!(lives > 1, !survivors.contains(&host), "only losers have a new id: {net:?}");
    }
}

/// Built with `DOWNING_SEEDS=200` for a long run.
fn seeds() -> std::ops::Range<u64> {
    0..option_env!("DOWNING_SEEDS").and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}

// proves FT-6, FT-7
#[test]
fn the_minority_stops_before_the_majority_takes_over() {
    for seed in seeds() {
        let majority = downing::Config::keep_majority;
        partition(seed, 3, majority(), |net| net.cut(&[0], &[1, 2]), &[1, 2]);
        partition(seed, 5, majority(), |net| net.cut(&[0, 1], &[2, 3, 4]), &[2, 3, 4]);
        partition(seed, 10, majority(), |net| net.cut(&[0, 1, 2], &hosts(3..10)), &hosts(3..10));
        partition(seed, 10, majority(), |net| net.cut(&[9], &hosts(0..9)), &hosts(0..9));
    }
}

// Its probes alone would take it fifteen intervals to suspect half of the others.
#[test]
fn a_lone_member_of_many_notices_in_time_that_it_is_alone() {
    partition(1, 30, downing::Config::keep_majority(), |net| net.cut(&[7], &without(30, 7)), &without(30, 7));
}

#[test]
fn of_two_halves_the_one_with_the_lowest_member_goes_on() {
    for seed in seeds() {
        partition(seed, 4, downing::Config::keep_majority(), |net| net.cut(&[0, 3], &[1, 2]), &[0, 3]);
        partition(seed, 10, downing::Config::keep_majority(), |net| net.cut(&hosts(0..5), &hosts(5..10)), &hosts(0..5));
    }
}

#[test]
fn of_three_parts_at_most_the_one_with_the_majority_goes_on() {
    let three = |sizes: [usize; 3]| {
        move |net: &mut Net| {
            let [one, two, _] = sizes;
            let (a, b, c) = (hosts(0..one), hosts(one..one + two), hosts(one + two..net.hosts.len()));
            net.cut(&a, &b);
            net.cut(&b, &c);
            net.cut(&a, &c);
        }
    };
    for seed in seeds() {
        partition(seed, 10, downing::Config::keep_majority(), three([2, 6, 2]), &hosts(2..8));
        partition(seed, 5, downing::Config::keep_majority(), three([1, 1, 3]), &hosts(2..5));
        let mut net = Net::new(seed, 9, downing::Config::keep_majority());
        three([3, 3, 3])(&mut net);
        net.run(60 * SECOND);
        assert_eq!(net.serving(), [0; 0], "nobody has more than half: {net:?}");
        net.cut.clear();
        net.run(30 * SECOND);
        assert_eq!(net.serving(), hosts(0..9), "and all of them form a cluster anew: {net:?}");
        assert!(net.all_agree(), "{net:?}");
    }
}

#[test]
fn those_who_were_all_cut_off_form_a_cluster_anew_when_a_majority_of_them_meet_and_not_before() {
    for seed in seeds() {
        let mut net = Net::new(seed, 5, downing::Config::keep_majority());
        for host in 0..5 {
            net.cut(&[host], &without(5, host));
        }
        net.run(30 * SECOND);
        assert_eq!(net.serving(), [0; 0], "{net:?}");
        net.cut.retain(|(from, to)| !(*from > 2 && *to > 2));
        net.run(60 * SECOND);
        assert_eq!(net.serving(), [0; 0], "two of five do not know what the others do: {net:?}");
        net.cut.retain(|(from, to)| !(*from > 1 && *to > 1));
        net.run(30 * SECOND);
        assert_eq!(net.serving(), [2, 3, 4], "seed {seed} {net:?}");
        net.cut.clear();
        net.run(30 * SECOND);
        assert_eq!(net.serving(), hosts(0..5), "seed {seed} {net:?}");
        assert!(net.all_agree(), "seed {seed} {net:?}");
    }
}

#[test]
fn losers_do_not_form_a_cluster_beside_a_winner_whom_they_cannot_reach() {
    for seed in seeds() {
        let mut net = Net::new(seed, 5, downing::Config::keep_majority());
        net.cut(&[3, 4], &hosts(0..3));
        net.run(60 * SECOND);
        // Now the third one is cut off from the rest of the winners, and reaches the losers: three of the five.
        net.cut(&[2], &[0, 1]);
        net.cut.retain(|(from, to)| !(*from > 1 && *to > 1));
        net.run(60 * SECOND);
        assert_eq!(net.serving(), [0, 1], "seed {seed} {net:?}");
    }
}

#[test]
fn a_cut_in_one_direction_has_the_same_winner() {
    let majority = downing::Config::keep_majority;
    for seed in seeds() {
        partition(seed, 3, majority(), |net| net.cut_one_way(&[0], &[1, 2]), &[1, 2]);
        partition(seed, 3, majority(), |net| net.cut_one_way(&[1, 2], &[0]), &[1, 2]);
        partition(seed, 10, majority(), |net| net.cut_one_way(&hosts(0..3), &hosts(3..10)), &hosts(3..10));
        partition(seed, 10, majority(), |net| net.cut_one_way(&hosts(3..10), &hosts(0..3)), &hosts(3..10));
        // So long that the losers' suspicions end before they are fenced: their verdicts would reach the winners.
        let slow = majority().stable_after(8 * SECOND);
        partition(seed, 5, slow, |net| net.cut_one_way(&hosts(2..5), &hosts(0..2)), &hosts(2..5));
    }
}

#[test]
fn the_other_strategies_keep_whom_they_name() {
    for seed in seeds() {
        let cut = |net: &mut Net| net.cut(&[0, 1], &[2, 3, 4]);
        partition(seed, 5, downing::Config::static_quorum(3), cut, &[2, 3, 4]);
        partition(seed, 5, downing::Config::keep_oldest(), cut, &[0, 1]);
        partition(seed, 5, downing::Config::keep_oldest(), |net| net.cut(&[0], &hosts(1..5)), &hosts(1..5));
        let mut net = Net::new(seed, 5, downing::Config::down_all());
        net.rejoins = false;
        cut(&mut net);
        net.run(60 * SECOND);
        assert_eq!(net.serving(), [0; 0], "{net:?}");
    }
}

#[test]
fn one_broken_link_downs_nobody() {
    for seed in seeds() {
        let mut net = Net::new(seed, 5, downing::Config::keep_majority());
        net.cut(&[0], &[1]);
        net.run(60 * SECOND);
        assert_eq!(net.serving(), hosts(0..5), "seed {seed} {net:?}");
        assert!(net.hosts.iter().all(|host| host.life == 0 && host.decisions.is_empty()), "seed {seed} {net:?}");
    }
}

#[test]
fn a_silent_crash_is_taken_over_after_suspicion_stability_and_margin() {
    for seed in seeds() {
        let mut net = Net::new(seed, 3, downing::Config::keep_majority());
        let crashed = net.now;
        net.hosts[1].crashed = true;
        net.run(30 * SECOND);
        for host in [0, 2] {
            assert_eq!(net.chosen(host), [(Cause::Stable, Side::This)], "{net:?}");
            let taken = net.hosts[host].decisions[0].at.since(crashed);
            let bound = Duration::from_millis(8_500)..Duration::from_millis(8_500 + 4_000);
            assert!(bound.contains(&taken), "{taken:?} {net:?}");
        }
    }
}

#[test]
fn the_survivor_of_two_silent_crashes_fences_and_that_of_two_proven_ones_goes_on() {
    for seed in seeds() {
        let mut net = Net::new(seed, 3, downing::Config::keep_majority());
        net.rejoins = false;
        net.hosts[1].crashed = true;
        net.hosts[2].crashed = true;
        net.run(30 * SECOND);
        assert_eq!(net.chosen(0), [(Cause::Losing, Side::Other)], "{net:?}");

        let mut net = Net::new(seed, 3, downing::Config::keep_majority());
        for dead in [1, 2] {
            net.hosts[dead].crashed = true;
            let member = net.hosts[dead].membership.me().id();
            net.judge(0, downing::Input::Refused { member });
        }
        net.run(30 * SECOND);
        assert_eq!((net.serving(), net.chosen(0)), (vec![0], vec![]), "{net:?}");
        assert!(!net.hosts[0].restrained);
    }
}

#[test]
fn of_two_members_the_older_goes_on_and_the_younger_stops() {
    for seed in seeds() {
        let majority = downing::Config::keep_majority;
        partition(seed, 2, majority(), |net| net.cut(&[0], &[1]), &[0]);
        partition(seed, 2, majority(), |net| net.cut_one_way(&[0], &[1]), &[0]);
        partition(seed, 2, majority(), |net| net.cut_one_way(&[1], &[0]), &[0]);
    }
}

#[test]
fn a_cluster_that_has_shrunk_to_two_is_decided_as_any_other() {
    for seed in seeds() {
        let mut net = Net::new(seed, 3, downing::Config::keep_majority());
        net.hosts[0].crashed = true;
        net.run(30 * SECOND);
        assert_eq!(net.serving(), [1, 2], "seed {seed} {net:?}");
        net.cut(&[1], &[2]);
        net.run(60 * SECOND);
        assert_eq!(net.serving(), [1], "seed {seed} {net:?}");
        assert_eq!(net.released.len(), 2, "seed {seed} {net:?}");
    }
}

#[test]
fn a_disturbance_that_heals_before_anything_is_decided_costs_nobody_its_membership() {
    for seed in seeds() {
        let mut net = Net::new(seed, 5, downing::Config::keep_majority());
        net.cut(&[0, 1], &[2, 3, 4]);
        net.run(Duration::from_millis(3_000));
        net.cut.clear();
        net.run(30 * SECOND);
        assert_eq!(net.serving(), hosts(0..5), "seed {seed} {net:?}");
        assert!(net.hosts.iter().all(|host| host.life == 0 && !host.restrained), "seed {seed} {net:?}");
        assert!(net.all_agree());
    }
}

#[test]
fn a_member_that_reaches_the_others_only_through_a_third_is_no_minority() {
    for seed in seeds() {
        let mut net = Net::new(seed, 5, downing::Config::keep_majority());
        net.cut(&[0], &[1, 2, 3]);
        net.run(60 * SECOND);
        assert_eq!(net.serving(), hosts(0..5), "seed {seed} {net:?}");
        assert!(net.hosts.iter().all(|host| host.decisions.is_empty()), "seed {seed} {net:?}");
    }
}

/// Cuts of any kind at any time, of which some heal early: whoever is released serves no more, and after the last heal
/// all agree.
#[test]
fn random_cuts_never_leave_a_loser_serving() {
    let mut outages = Vec::new();
    // In the last four those who were all cut off knew different members for settled.
    for seed in (0..16 * seeds().end).chain([167, 413, 491, 506]) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let count = [3, 4, 5, 7, 10][rng.random_range(0..5)];
        let mut net = Net::new(seed, count, downing::Config::keep_majority());
        for _ in 0..rng.random_range(1..4) {
            let side: Vec<_> = (0..count).filter(|_| rng.random_range(0..2) == 0).collect();
            let other: Vec<_> = (0..count).filter(|host| !side.contains(host)).collect();
            match rng.random_range(0..3) {
                0 => net.cut_one_way(&side, &other),
                _ => net.cut(&side, &other),
            }
            net.run(Duration::from_millis(rng.random_range(500..30_000)));
            if rng.random_range(0..3) > 0 {
                net.cut.clear();
                net.run(Duration::from_millis(rng.random_range(0..20_000)));
            }
        }
        net.cut.clear();
        net.run(120 * SECOND);
        if net.serving().is_empty() {
            outages.push(seed);
        } else {
            assert!(net.all_agree(), "seed {seed} {net:?}");
        }
    }
    // Where every side has stopped, those who return must find each other.
    assert_eq!(outages, [0; 0], "after two minutes without a cut nobody serves");
}

#[test]
fn a_node_that_formed_a_cluster_is_observed_as_up() {
    let me = Member::new(MemberId::new(1), "a:1", []);
    let mut machine = Membership::new(membership::Config::lan(), me, 1);
    let mut out = Outbox::new();
    machine.handle(Timestamp::ZERO, Input::Start { seeds: vec![] }, &mut out);
    let seen = downing::observe(&machine);
    assert_eq!(seen, [downing::Observed { id: MemberId::new(1), standing: downing::Standing::Up }]);
}
