//! A simulation of some hosts with one node each, and their common history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gristmill::{ClusterActor, ClusterConfig, ClusterContext, EventStream, MemberId, MemberStatus, OnEviction, Timing};
use gristmill_testkit::{History, Observation, Probe, Said, Say, TurmoilNetwork};
use turmoil::Sim;

/// Simulated time for a condition to come true: far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(600);

const PORT: u16 = 7000;

const TICK: Duration = Duration::from_millis(5);

/// Hosts `node1`, `node2`, …, each of which runs a node.
pub(crate) struct World {
    simulation: Sim<'static>,
    network: TurmoilNetwork,
    shared: Arc<Shared>,
    probe: Probe,
}

#[derive(Default)]
struct Shared {
    history: Mutex<History>,
    /// What runs, by the name of its host.
    running: Mutex<BTreeMap<String, Running>>,
    /// Whether grains are called.
    calling: Mutex<bool>,
}

#[derive(Clone)]
struct Running {
    /// What the process is called in the history.
    name: String,
    context: ClusterContext,
}

impl World {
    /// Starts so many nodes at the same time, and waits until all agree. The first two hosts are the seeds.
    pub(crate) fn start(nodes: usize, seed: u64) -> Self {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .enable_random_order()
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(1 << 14);
        let (shared, network, probe) = (Arc::<Shared>::default(), TurmoilNetwork::new(), Probe::new());
        let mut simulation = builder.build();
        for number in 1..=nodes {
            let (shared, network, probe) = (Arc::clone(&shared), network.clone(), probe.clone());
            let starts = std::cell::Cell::new(0);
            simulation.host(host(number), move || {
                let name = format!("{}{}", host(number), "'".repeat(starts.get()));
                starts.set(starts.get() + 1);
                run(number, name, Arc::clone(&shared), network.clone(), probe.clone())
            });
        }
        let mut world = Self { simulation, network, shared, probe };
        world.agree(&(1..=nodes).collect::<Vec<_>>());
        world
    }

    /// Cuts both directions between each of these and each of those.
    pub(crate) fn partition(&self, these: &[usize], those: &[usize]) {
        let names = |hosts: &[usize]| hosts.iter().map(|number| host(*number)).collect::<Vec<_>>();
        let (these, those) = (names(these), names(those));
        let [these, those] = [&these, &those].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        self.network.partition(&self.simulation, &these, &those);
    }

    /// Drops what one sends to the other.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.network.cut(&self.simulation, &host(from), &host(to));
    }

    pub(crate) fn heal(&self) {
        self.network.heal(&self.simulation);
    }

    /// Ends a process; its host refuses connections.
    pub(crate) fn kill(&mut self, number: usize) {
        self.shared.running.lock().unwrap().remove(&host(number));
        self.network.kill(&mut self.simulation, &host(number));
    }

    /// Ends a process and its host.
    pub(crate) fn crash(&mut self, number: usize) {
        self.shared.running.lock().unwrap().remove(&host(number));
        self.network.crash(&mut self.simulation, &host(number));
    }

    /// Starts a process anew on the same address, and does not wait for it to join.
    pub(crate) fn bounce(&mut self, number: usize) {
        self.network.bounce(&mut self.simulation, &host(number));
    }

    /// Lets time pass until the process on a host has joined.
    pub(crate) fn joins(&mut self, number: usize) {
        self.eventually("it has joined", |world| world.runs(number).then_some(()));
    }

    /// From now on, or not any more, every node calls grains, one after the other.
    pub(crate) fn call(&self, calling: bool) {
        *self.shared.calling.lock().unwrap() = calling;
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.simulation.step().unwrap();
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.simulation.elapsed()
    }

    pub(crate) fn history(&self) -> History {
        self.shared.history.lock().unwrap().clone()
    }

    fn running(&self, number: usize) -> Running {
        self.shared.running.lock().unwrap().get(&host(number)).expect("it runs").clone()
    }

    fn runs(&self, number: usize) -> bool {
        self.shared.running.lock().unwrap().contains_key(&host(number))
    }

    pub(crate) fn context(&self, number: usize) -> ClusterContext {
        self.running(number).context
    }

    pub(crate) fn id(&self, number: usize) -> MemberId {
        self.context(number).id()
    }

    /// What the process on a host is called in the history.
    pub(crate) fn name(&self, number: usize) -> String {
        self.running(number).name
    }

    /// Lets time pass until it is so.
    pub(crate) fn eventually<T>(&mut self, what: &str, condition: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = self.now() + PATIENCE;
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            assert!(self.now() < deadline, "never happened: {what}\n{}", self.history());
            self.simulation.step().unwrap();
        }
    }

    /// Lets time pass until the process of this name has seen this.
    pub(crate) fn sees(&mut self, name: &str, what: &str, is_it: impl Fn(&Observation) -> bool) {
        self.eventually(&format!("{name} sees: {what}"), |world| {
            let history = world.shared.history.lock().unwrap();
            history.of(name).any(|entry| is_it(&entry.seen)).then_some(())
        });
    }

    /// Lets time pass until the process on a host has seen this status of a member.
    pub(crate) fn sees_status(&mut self, number: usize, of: MemberId, status: MemberStatus) {
        let name = self.name(number);
        self.sees(
            &name,
            &format!("{of} is {status}"),
            |seen| matches!(seen, Observation::Status { member, to, .. } if *member == of && *to == status),
        );
    }

    /// Whether the process on a host runs, serves nothing, and waits for others to join them again.
    pub(crate) fn waits(&self, number: usize) -> bool {
        let is_turn = |seen: &Observation| {
            matches!(seen, Observation::Fenced(_) | Observation::Started(_) | Observation::Rejoined { .. })
        };
        self.runs(number) && {
            let (name, history) = (self.name(number), self.shared.history.lock().unwrap());
            let last = history.of(&name).rev().find(|entry| is_turn(&entry.seen));
            last.is_some_and(|entry| matches!(entry.seen, Observation::Fenced(_)))
        }
    }

    /// Lets time pass until these, and no others, are what each of them sees and has told as the topology.
    pub(crate) fn agree(&mut self, numbers: &[usize]) {
        self.eventually(&format!("{numbers:?} agree"), |world| {
            if !numbers.iter().all(|number| world.runs(*number)) {
                return None;
            }
            let members: std::collections::BTreeSet<_> = numbers.iter().map(|number| world.id(*number)).collect();
            let names: Vec<_> = numbers.iter().map(|number| world.name(*number)).collect();
            let agrees = |number: &usize| {
                let topology = world.context(*number).topology();
                topology.members().iter().map(|member| member.id).eq(members.iter().copied())
            };
            let told = || world.shared.history.lock().unwrap().all_agree(names.iter().map(String::as_str)).is_ok();
            (numbers.iter().all(agrees) && told()).then_some(())
        });
    }

    /// FT-7: of each grain that was called there was never more than one activation at once, and it was called.
    pub(crate) fn no_grain_was_active_twice(&self) {
        for number in 0..GRAINS {
            let most = self.probe.most_alive(("test", format!("grain-{number}").as_str()));
            assert_eq!(most, 1, "activations of grain-{number} at once");
        }
    }

    /// Lets time pass until these agree, and checks what must hold of every history.
    pub(crate) fn end(&mut self, numbers: &[usize]) -> History {
        self.agree(numbers);
        let history = self.history();
        let forgotten_after = Timing::lan().membership.tombstone_ttl;
        for checked in [history.is_monotone(forgotten_after), history.no_turn_was_answered_twice()] {
            if let Err(violation) = checked {
                panic!("{violation}\n{history}");
            }
        }
        history
    }
}

fn host(number: usize) -> String {
    format!("node{number}")
}

/// One life of a host.
async fn run(
    number: usize,
    name: String,
    shared: Arc<Shared>,
    network: TurmoilNetwork,
    probe: Probe,
) -> turmoil::Result {
    let host = host(number);
    let address = |number| format!("{}:{PORT}", self::host(number));
    let mut timing = Timing::lan();
    timing.membership.contact_interval = Duration::from_secs(5);
    // It goes on until the host is crashed.
    let (_cluster, context) = loop {
        let config = ClusterConfig::builder("turmoil")
            .listen(format!("{host}:{PORT}"))
            .seeds([address(1), address(2)])
            .network(Arc::new(network.host(&host)))
            .timing(timing.clone())
            .on_eviction(OnEviction::Rejoin)
            .kind(probe.kind("test"))
            .build()?;
        tokio::spawn(record(config.events(), name.clone(), Arc::clone(&shared)));
        if let Ok(started) = ClusterActor::start_member(config).await {
            break started;
        }
        // As what supervises a process would do when it has found nobody.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    shared.running.lock().unwrap().insert(host, Running { name: name.clone(), context: context.clone() });
    let mut turn = 0_usize;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if !*shared.calling.lock().unwrap() {
            continue;
        }
        // Each node walks through the same grains by steps of its own.
        turn += number;
        let grain = format!("grain-{}", turn % GRAINS);
        let called = context.request::<_, Said>(("test", grain.as_str()), Say::new("hello")).await;
        let seen = match called {
            Ok(said) => Observation::Answered {
                grain,
                activation: format!("{}/{}", said.member, said.activation),
                turn: said.turn,
            },
            Err(error) => Observation::Failed { grain, reason: error.to_string() },
        };
        see(&shared, &name, seen);
    }
}

/// How many grains are called.
pub(crate) const GRAINS: usize = 50;

async fn record(mut events: EventStream, name: String, shared: Arc<Shared>) {
    while let Some(event) = events.next().await {
        if let Some(seen) = Observation::of(&event) {
            see(&shared, &name, seen);
        }
    }
}

fn see(shared: &Shared, name: &str, seen: Observation) {
    let at = turmoil::sim_elapsed().expect("within the simulation");
    shared.history.lock().unwrap().record(at, name, seen);
}
