use std::sync::Arc;
use std::time::Duration;

use gristmill_core::session::LocalPeer;

use crate::frame::PREFIX;

/// Limits and timers of all connections of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportConfig {
    /// Bytes of a frame, at most; the same on all members. Larger ones fail at the sender. Default 16 MiB (between
    /// gRPC's 4 MiB and what still passes a lane in a fraction of a second).
    pub frame_limit: usize,
    /// Requests waiting in one connection's send queue, at most. Default 8,192 (measured: more only adds latency).
    pub queue_frames: usize,
    /// Bytes of requests waiting in one connection's send queue, at most, and of responses before requests of the peer
    /// are refused. Default 16 MiB.
    pub queue_bytes: usize,
    /// Calls of one side of a connection that wait for their response, at most. The same on all members: the receiving
    /// side refuses what is over its own. Default 16,384 (throughput is flat from 1,000 on; the rest is for grains that
    /// take their time, and for calls that wait for calls back).
    pub window: usize,
    /// A peer that takes no byte for so long while something is to be sent loses the connection. Default 10 s (guess:
    /// longer than a stall of the peer that membership forgives, shorter than its memory matters). Over TCP on Linux
    /// the system gives up after 5 s already.
    pub stall_timeout: Duration,
    /// How long connecting and the handshake may take together. Default 5 s.
    pub handshake_timeout: Duration,
    /// Accepted sockets whose peer has not proven itself, at most. More wait in the system's backlog. Default 1,024.
    pub max_handshakes: usize,
    /// Accepted connections, at most; more are refused as overloaded. Default 16,384 (two lanes of 1,000 members, and
    /// 14,000 clients).
    pub max_connections: usize,
    /// How long a closing connection tries to send what is queued. Default 1 s (guess).
    pub linger: Duration,
    /// How late the end of a deadline may be noticed. Default 10 ms (costs one wake-up per interval and connection with
    /// open calls).
    pub sweep_interval: Duration,
}

impl TransportConfig {
    /// For members in one data centre: the defaults.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            frame_limit: 16 * 1024 * 1024,
            queue_frames: 8192,
            queue_bytes: 16 * 1024 * 1024,
            window: 16 * 1024,
            stall_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            max_handshakes: 1024,
            max_connections: 16 * 1024,
            linger: Duration::from_secs(1),
            sweep_interval: Duration::from_millis(10),
        }
    }

    /// For members far apart: more patience, and a window for a larger product of bandwidth and delay.
    #[must_use]
    pub const fn wan() -> Self {
        Self {
            window: 64 * 1024,
            stall_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(3),
            ..Self::lan()
        }
    }

    /// For tests: gives up fast.
    #[must_use]
    pub const fn test() -> Self {
        Self {
            stall_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(1),
            linger: Duration::from_millis(200),
            sweep_interval: Duration::from_millis(5),
            ..Self::lan()
        }
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let sizes = [
            ("frame_limit", self.frame_limit, 4096, MAX_SIZE - PREFIX),
            ("queue_frames", self.queue_frames, 1, MAX_SIZE),
            ("queue_bytes", self.queue_bytes, self.queue_frames, MAX_SIZE),
            ("window", self.window, 1, MAX_SIZE),
            ("max_handshakes", self.max_handshakes, 1, MAX_SIZE),
            ("max_connections", self.max_connections, 1, MAX_SIZE),
        ];
        for (field, value, least, most) in sizes {
            if !(least..=most).contains(&value) {
                return Err(InvalidConfig::Size { field, value, least, most });
            }
        }
        let timers = [
            ("stall_timeout", self.stall_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("sweep_interval", self.sweep_interval),
        ];
        match timers.into_iter().find(|(_, value)| value.is_zero()) {
            Some((field, _)) => Err(InvalidConfig::Zero { field }),
            None => Ok(()),
        }
    }
}

/// 512 MiB: what a tokio semaphore counts on every platform.
const MAX_SIZE: usize = 512 * 1024 * 1024;

impl Default for TransportConfig {
    fn default() -> Self {
        Self::lan()
    }
}

/// A [`TransportConfig`] that cannot work. The caller's fault; nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// A size out of its range.
    #[error("{field} is {value}, {least} to {most} would do")]
    Size {
        /// Which.
        field: &'static str,
        /// What it is.
        value: usize,
        /// The least that works.
        least: usize,
        /// The most that works.
        most: usize,
    },
    /// A timer that may not be zero.
    #[error("{field} is zero")]
    Zero {
        /// Which.
        field: &'static str,
    },
}

/// A node, as its connections need to know it. A clone shares it.
#[derive(Debug, Clone)]
pub struct Local(Arc<(LocalPeer, TransportConfig)>);

impl Local {
    /// What the node tells of itself, and its limits.
    ///
    /// # Errors
    /// What [`TransportConfig::validate`] says.
    pub fn new(peer: LocalPeer, config: TransportConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self(Arc::new((peer, config))))
    }

    /// What the node tells of itself.
    #[must_use]
    pub fn peer(&self) -> &LocalPeer {
        &self.0.0
    }

    /// Its limits.
    #[must_use]
    pub fn config(&self) -> &TransportConfig {
        &self.0.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_works() {
        for config in [TransportConfig::lan(), TransportConfig::wan(), TransportConfig::test()] {
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let config = TransportConfig { window: 0, ..TransportConfig::lan() };
        let error = InvalidConfig::Size { field: "window", value: 0, least: 1, most: MAX_SIZE };
        assert_eq!(config.validate(), Err(error));
        let config = TransportConfig { sweep_interval: Duration::ZERO, ..TransportConfig::lan() };
        assert_eq!(config.validate(), Err(InvalidConfig::Zero { field: "sweep_interval" }));
    }
}
