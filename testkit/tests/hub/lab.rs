//! Places for processes on loopback, each behind a relay.

use std::process::Command;

use gristmill_testkit::{Hub, Link};

use crate::process::free_address;

/// Some hosts, numbered from 1, and the hub between them.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) hub: Hub,
    /// Where each is reached, and where its node listens.
    hosts: Vec<(String, String)>,
}

impl Lab {
    /// Sets up so many hosts.
    pub(crate) fn set_up(hosts: usize) -> Self {
        let hub = Hub::new().unwrap();
        let hosts: Vec<_> = (0..hosts).map(|_| (free_address(), free_address())).collect();
        for (advertised, listens) in &hosts {
            hub.relay(advertised, listens).unwrap();
        }
        Self { hub, hosts }
    }

    /// A command that runs a program on a host.
    pub(crate) fn on(&self, _: usize, program: &str) -> Command {
        Command::new(program)
    }

    /// Where the node of a host is reached.
    pub(crate) fn address(&self, host: usize) -> String {
        self.hosts[host - 1].0.clone()
    }

    /// Where it listens, behind the relay.
    pub(crate) fn listens(&self, host: usize) -> &str {
        &self.hosts[host - 1].1
    }

    /// The flags that tell a node where to listen.
    pub(crate) fn listening(&self, host: usize) -> [String; 4] {
        ["--listen".into(), self.listens(host).into(), "--advertise".into(), self.address(host)]
    }

    /// Changes the way from one host to another.
    pub(crate) fn set(&self, from: usize, to: usize, link: Link) {
        self.hub.set(&self.address(from), &self.address(to), link);
    }

    /// How many bytes one host has got from another.
    pub(crate) fn passed(&self, from: usize, to: usize) -> u64 {
        self.hub.passed(&self.address(from), &self.address(to))
    }
}
