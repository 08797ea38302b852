//! Hosts of their own on one machine: network namespaces, joined by a bridge whose packets can be dropped.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all namespaces of these tests are called, before the process that made them.
const PREFIX: &str = "gristmill-";

/// Some hosts, numbered from 1, and the switch between them. Dropped, they are gone.
#[derive(Debug)]
pub(crate) struct Lab {
    /// What its namespaces have in common; no other lab has it.
    name: String,
    hosts: usize,
}

impl Lab {
    /// Sets up so many hosts, or says why this machine does not let us.
    pub(crate) fn set_up(hosts: usize) -> Result<Self, String> {
        static LABS: AtomicUsize = AtomicUsize::new(0);
        clean_up();
        let name = format!("{PREFIX}{}-{}-", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, hosts };
        lab.connect()?;
        Ok(lab)
    }

    fn connect(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for host in 1..=self.hosts {
            let (port, host_name, address) = (port(host), self.host(host), format!("{}/24", address(host)));
            ip(&["netns", "add", &host_name])?;
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", &host_name];
            ip(&[&["-n", &switch, "link", "add", &port][..], &pair].concat())?;
            ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &host_name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &host_name, "link", "set", "lo", "up"])?;
            ip(&["-n", &host_name, "link", "set", "eth0", "up"])?;
        }
        self.filter(
            "add table bridge faults
             add set bridge faults cut { type ipv4_addr . ipv4_addr; }
             add chain bridge faults cuts { type filter hook forward priority 0; }
             add rule bridge faults cuts ip saddr . ip daddr @cut counter drop
             add chain bridge faults losses { type filter hook forward priority 1; }",
        )
    }

    /// A command that runs a program on a host.
    pub(crate) fn on(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host), program]);
        command
    }

    /// Where the node of a host listens.
    pub(crate) fn address(&self, host: usize) -> String {
        format!("{}:7000", address(host))
    }

    /// The flags that tell a node where to listen.
    pub(crate) fn listening(&self, host: usize) -> [String; 2] {
        ["--listen".into(), self.address(host)]
    }

    /// Drops what one host sends to another from now on.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.must(&format!("add element bridge faults cut {{ {} . {} }}", address(from), address(to)));
    }

    /// Cuts both directions between each of these and each of those.
    pub(crate) fn partition(&self, these: &[usize], those: &[usize]) {
        let mut cuts = String::new();
        for (one, other) in these.iter().flat_map(|one| those.iter().map(move |other| (address(*one), address(*other))))
        {
            write!(cuts, "{one} . {other}, {other} . {one}, ").unwrap();
        }
        self.must(&format!("add element bridge faults cut {{ {cuts} }}"));
    }

    /// Drops so many of a hundred packets, whoever sends them.
    pub(crate) fn lose(&self, percent: usize) {
        self.must(&format!(
            "add rule bridge faults losses meta protocol ip numgen random mod 100 < {percent} counter drop"
        ));
    }

    /// Lets everything through again.
    pub(crate) fn heal(&self) {
        self.must("flush set bridge faults cut");
        self.must("flush chain bridge faults losses");
    }

    /// How many packets were dropped. A cut that drops nothing shows nothing.
    pub(crate) fn dropped(&self) -> u64 {
        let listed = run(self.nft().arg("list").arg("table").arg("bridge").arg("faults")).expect("nft lists the table");
        let mut words = listed.split_whitespace();
        let mut dropped = 0;
        while words.any(|word| word == "packets") {
            dropped += words.next().and_then(|count| count.parse::<u64>().ok()).expect("a number of packets");
        }
        dropped
    }

    /// Pulls a host's cable: nothing reaches it, nothing comes from it, and nobody is told.
    pub(crate) fn unplug(&self, host: usize) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "down"]).unwrap();
    }

    /// Puts it back.
    pub(crate) fn plug(&self, host: usize) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "up"]).unwrap();
    }

    fn must(&self, commands: &str) {
        self.filter(commands).unwrap();
    }

    fn filter(&self, commands: &str) -> Result<(), String> {
        let mut nft = self.nft();
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = nft.spawn().map_err(|error| format!("nft: {error}"))?;
        let mut stdin = child.stdin.take().expect("it was asked for");
        // A program that has ended already says why by its status.
        drop(stdin.write_all(commands.as_bytes()));
        drop(stdin);
        judge("nft", child.wait_with_output().map_err(|error| format!("nft: {error}"))?).map(drop)
    }

    fn nft(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.switch(), "nft"]);
        command
    }

    fn switch(&self) -> String {
        format!("{}switch", self.name)
    }

    fn host(&self, host: usize) -> String {
        assert!((1..=self.hosts).contains(&host), "there is no host {host}");
        format!("{}{host}", self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(|name| name.starts_with(&self.name));
    }
}

/// Where a host is reached.
fn address(host: usize) -> String {
    format!("10.77.0.{host}")
}

fn port(host: usize) -> String {
    format!("port{host}")
}

/// Removes what labs of processes have left that could not: they were killed.
fn clean_up() {
    let is_left = |name: &str| {
        let owner = name.strip_prefix(PREFIX).and_then(|name| name.split('-').next());
        owner.is_some_and(|owner| !std::path::Path::new("/proc").join(owner).exists())
    };
    remove(is_left);
}

fn remove(which: impl Fn(&str) -> bool) {
    let Ok(listed) = ip(&["netns", "list"]) else { return };
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| which(name)) {
        // Another process may remove what is left at the same time.
        drop(ip(&["netns", "del", name]));
    }
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    judge(&name, command.output().map_err(|error| format!("{name}: {error}"))?)
}

fn judge(name: &str, output: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(format!("{name}: {}", text(&output.stderr))) }
}
