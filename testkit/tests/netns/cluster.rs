//! Nodes on the hosts of a lab, whichever that is, and their common history.

use std::time::{Duration, Instant};

use gristmill::{MemberId, MemberStatus};
use gristmill_testkit::{History, Observation};

use crate::lab::Lab;
use crate::process::{Node, PATIENCE, PROGRAM};

/// Processes that have run, in the order of their start; the last one of a host is what runs there.
pub(crate) struct Cluster {
    pub(crate) flags: Vec<String>,
    /// Before the lab, so that the processes end first.
    processes: Vec<Process>,
    pub(crate) lab: Lab,
    begun: Instant,
}

struct Process {
    name: String,
    host: usize,
    node: Node,
}

/// Between two looks at the history.
const PAUSE: Duration = Duration::from_millis(10);

impl Cluster {
    /// Starts a node on each of these hosts, of which the first is the seed, and waits until all agree.
    pub(crate) fn start(lab: Lab, hosts: usize, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut cluster = Self { flags, processes: Vec::new(), lab, begun: Instant::now() };
        for host in 1..=hosts {
            cluster.spawn(host);
        }
        cluster.agree(&(1..=hosts).collect::<Vec<_>>());
        cluster
    }

    /// Starts a process on a host, and does not wait for it to join.
    pub(crate) fn spawn(&mut self, host: usize) -> &Node {
        self.spawn_with(host, &[], &[])
    }

    /// The same, with variables of its environment, and flags that the others do not have.
    pub(crate) fn spawn_with(&mut self, host: usize, environment: &[(&str, &str)], more: &[&str]) -> &Node {
        let count = self.processes.iter().filter(|process| process.host == host).count();
        let name = format!("host{host}{}", "'".repeat(count));
        let (listening, seed) = (self.lab.listening(host), self.lab.address(1));
        let mut flags = vec!["--kind", "echo", "--secret", "lab", "--seed", &seed];
        flags.extend(listening.iter().map(String::as_str));
        // Who starts again on the first host finds the others by the second.
        let second = self.lab.address(2);
        if host == 1 && count > 0 {
            flags.extend(["--seed", &second]);
        }
        flags.extend(self.flags.iter().map(String::as_str));
        flags.extend(more);
        let mut command = self.lab.on(host, PROGRAM);
        command.envs(environment.iter().copied());
        let node = Node::launch(&name, command, &flags);
        self.processes.push(Process { name, host, node });
        self.node(host)
    }

    /// What runs on a host.
    pub(crate) fn node(&self, host: usize) -> &Node {
        &self.process(host).node
    }

    /// What the process on a host is called in the history.
    pub(crate) fn name(&self, host: usize) -> &str {
        &self.process(host).name
    }

    fn process(&self, host: usize) -> &Process {
        self.processes.iter().rev().find(|process| process.host == host).expect("a process was started there")
    }

    /// The member id of the process on a host, as it is now.
    pub(crate) fn id(&self, host: usize) -> MemberId {
        let first = self.node(host).id().parse().unwrap();
        let history = self.history();
        let renewed = history.of(self.name(host)).rev().find_map(|entry| match entry.seen {
            Observation::Rejoined { new, .. } => Some(new),
            _ => None,
        });
        renewed.unwrap_or(first)
    }

    /// Waits until the process on a host, which was `old`, has joined again.
    pub(crate) fn rejoins(&self, host: usize, old: MemberId) {
        self.sees(
            host,
            "it has joined again",
            |seen| matches!(seen, Observation::Rejoined { old: before, .. } if *before == old),
        );
    }

    /// How long ago this cluster has begun: the time of its history.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What all processes have seen until now.
    pub(crate) fn history(&self) -> History {
        let mut entries = Vec::new();
        for process in &self.processes {
            for (came, line) in process.node.timed_lines() {
                if let Some(seen) = line.strip_prefix("* saw ") {
                    entries.push((came - self.begun, process.name.as_str(), seen.parse().unwrap()));
                }
            }
        }
        entries.sort_by_key(|(at, ..)| *at);
        let mut history = History::new();
        for (at, by, seen) in entries {
            history.record(at, by, seen);
        }
        history
    }

    /// Waits until the history has it.
    pub(crate) fn eventually<T>(&self, what: &str, mut condition: impl FnMut(&History) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let history = self.history();
            if let Some(found) = condition(&history) {
                return found;
            }
            assert!(Instant::now() < deadline, "never happened: {what}\n{history}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the process on a host has seen this.
    pub(crate) fn sees(&self, host: usize, what: &str, mut is_it: impl FnMut(&Observation) -> bool) {
        let name = self.name(host);
        self.eventually(&format!("{name} sees: {what}"), |history| {
            history.of(name).find(|entry| is_it(&entry.seen)).map(drop)
        });
    }

    /// Waits until the process on a host has seen this status of a member.
    pub(crate) fn sees_status(&self, host: usize, of: MemberId, status: MemberStatus) {
        self.sees(
            host,
            &format!("{of} is {status}"),
            |seen| matches!(seen, Observation::Status { member, to, .. } if *member == of && *to == status),
        );
    }

    /// Waits until all count each other, so that a partition is decided as promised.
    pub(crate) fn settled(&self) {
        let all = format!(" settled_members: {}, ", self.processes.len());
        for process in &self.processes {
            process.node.eventually("metrics", |seen| seen.contains(&all));
        }
    }

    /// Waits until what runs on these hosts is the topology that each of them sees.
    pub(crate) fn agree(&self, hosts: &[usize]) {
        let mut members: Vec<String> =
            hosts.iter().map(|host| format!("{}={}", self.lab.address(*host), self.id(*host))).collect();
        members.sort_unstable();
        let members = members.join(" ");
        for host in hosts {
            self.node(*host)
                .eventually("topology", |seen| seen.split_once(' ').is_some_and(|(_, seen)| seen == members));
        }
    }

    /// Waits until these agree, and checks what must hold of every history.
    pub(crate) fn end(&self, hosts: &[usize]) -> History {
        self.agree(hosts);
        let names: Vec<&str> = hosts.iter().map(|host| self.name(*host)).collect();
        // What is asked for may be ahead of what is told.
        let history = self.eventually("all have told that they agree", |history| {
            history.all_agree(names.iter().copied()).is_ok().then(|| history.clone())
        });
        if let Err(violation) = history.is_monotone(Duration::MAX) {
            panic!("{violation}\n{history}");
        }
        history
    }

    /// A call from one host to a grain that another one owns, and its answer.
    pub(crate) fn call(&self, caller: usize, owner: usize) -> Result<String, String> {
        let identity = self.identity(caller, owner);
        self.node(caller).ask(&format!("call echo {identity} 10000 hello"))
    }

    /// A grain of the process on a host, which has answered it.
    pub(crate) fn own_grain(&self, host: usize) -> String {
        let grain = self.identity(host, host);
        let answer = self.node(host).ask(&format!("call echo {grain} 5000 hello")).unwrap();
        assert!(answer.starts_with(&self.lab.address(host)), "{answer}");
        grain
    }

    /// Checks that the activation of [`own_grain`](Self::own_grain) answers the process on its host no more.
    pub(crate) fn has_stopped(&self, host: usize, grain: &str) {
        let here = self.lab.address(host);
        match self.node(host).ask(&format!("call echo {grain} 1000 hello")) {
            Ok(answer) => assert!(!answer.starts_with(&here) || answer == format!("{here} 1 hello"), "{answer}"),
            Err(error) => println!("not answered where it was: {error}"),
        }
    }

    /// A grain of the one host, as the other sees it.
    pub(crate) fn identity(&self, asked: usize, owner: usize) -> String {
        let (node, owner) = (self.node(asked), self.lab.address(owner));
        let mut grains = (0..10_000).map(|number| format!("grain-{number}"));
        grains.find(|grain| node.ask(&format!("where echo {grain}")).unwrap() == owner).expect("it owns one")
    }
}
