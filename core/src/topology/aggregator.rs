use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::Topology;
use crate::{Member, Outbox, Timestamp};

/// How long changes are collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long after a published topology the next one waits for more changes. Default 100 ms, a guess: a tenth of the
    /// probe interval. Longer: fewer recomputations of ownership in a large start. Shorter: nodes differ for less time.
    /// Zero publishes each change at once.
    pub window: Duration,
}

impl Config {
    /// A window beyond this would leave keys with dead owners for no gain.
    pub const MAX_WINDOW: Duration = Duration::from_secs(10);

    /// For members in one data centre: 100 ms.
    #[must_use]
    pub const fn lan() -> Self {
        Self { window: Duration::from_millis(100) }
    }

    /// For members far apart, where one change takes longer to reach everyone: 500 ms.
    #[must_use]
    pub const fn wan() -> Self {
        Self { window: Duration::from_millis(500) }
    }

    /// For tests: 10 ms.
    #[must_use]
    pub const fn test() -> Self {
        Self { window: Duration::from_millis(10) }
    }

    /// Says why this configuration cannot be used.
    ///
    /// # Errors
    /// A window longer than [`Self::MAX_WINDOW`].
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.window > Self::MAX_WINDOW {
            return Err(InvalidConfig::WindowTooLong { window: self.window });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::lan()
    }
}

/// A configuration that cannot be used. The user's mistake; nothing has started, and a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Topologies would be published too late.
    #[error("the topology window is {window:?}, {max:?} at most", max = Config::MAX_WINDOW)]
    WindowTooLong {
        /// What was configured.
        window: Duration,
    },
}

/// Counts the windows of one aggregator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowEpoch(pub(super) u64);

impl fmt::Display for WindowEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an [`Aggregator`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The membership as it now is; may be what it was.
    Changed {
        /// All who own keys.
        active: Vec<Member>,
        /// All who are quarantined, or were released lately. Tells a death from a leave.
        dead: Vec<MemberId>,
        /// All who are blocked.
        blocked: Vec<MemberId>,
    },
    /// The timer of this window has fired.
    Timer(WindowEpoch),
    /// The node stops: nothing is published from here on, and every further input is ignored.
    Stop,
}

/// What an [`Aggregator`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Come back with [`Input::Timer`].
    SetTimer {
        /// After how long.
        after: Duration,
        /// What to come back with.
        epoch: WindowEpoch,
    },
}

/// What an [`Aggregator`] says has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The topology is another one.
    Updated(TopologyUpdated),
}

/// The new topology and what is different from the one before.
///
/// A member that changed its kinds, address or weight has neither joined nor left: it is found by comparing the two
/// topologies, and the hash says that there is something to find.
///
/// Invariant: `joined`, `left` and `dead` have no member in common; all of `joined` and none of `left`, `dead` and
/// `blocked` are members of `topology`. Who has just died may well be in `blocked` too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyUpdated {
    /// What holds from now on.
    pub topology: Arc<Topology>,
    /// Who is new, ascending by id.
    pub joined: Vec<Member>,
    /// Who went by its own word, as it was, ascending by id.
    pub left: Vec<Member>,
    /// Who was declared dead or blocked, as it was, ascending by id.
    pub dead: Vec<Member>,
    /// Everyone who is blocked now, ascending: the whole list, not only what is new in it.
    pub blocked: Vec<MemberId>,
    /// When this node saw the latest of the changes in it.
    pub observed_at: Timestamp,
}

impl TopologyUpdated {
    fn between(old: &Topology, new: Arc<Topology>, declared_dead: &[MemberId], observed_at: Timestamp) -> Self {
        let joined = new.members().iter().filter(|member| old.member(member.id).is_none()).cloned().collect();
        let gone = old.members().iter().filter(|member| new.member(member.id).is_none()).cloned();
        let (dead, left) = gone
            .partition(|member| declared_dead.contains(&member.id) || new.blocked().binary_search(&member.id).is_ok());
        let blocked = new.blocked().to_vec();
        Self { topology: new, joined, left, dead, blocked, observed_at }
    }

    pub(super) fn check_invariants(&self) {
        self.topology.check_invariants();
        assert!(self.joined.iter().all(|member| self.topology.member(member.id).is_some()), "the joined are members");
        let mut gone = self.left.iter().chain(&self.dead);
        assert!(gone.all(|member| self.topology.member(member.id).is_none()), "who is gone is no member");
        assert!(self.left.iter().all(|left| self.dead.iter().all(|dead| left.id != dead.id)), "left or dead, not both");
    }
}

#[derive(Debug)]
struct Waiting {
    topology: Topology,
    dead: Vec<MemberId>,
    observed_at: Timestamp,
}

/// Turns the changes of the membership into as few [`TopologyUpdated`] as the window allows.
#[derive(Debug)]
pub struct Aggregator {
    config: Config,
    published: Arc<Topology>,
    /// The newest content that came while the window was open.
    waiting: Option<Waiting>,
    epoch: WindowEpoch,
    window_open: bool,
    stopped: bool,
}

impl Aggregator {
    /// Starts from the empty topology of version 0, with no window open.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            published: Arc::default(),
            waiting: None,
            epoch: WindowEpoch::default(),
            window_open: false,
            stopped: false,
        }
    }

    /// What was published last.
    #[must_use]
    pub const fn topology(&self) -> &Arc<Topology> {
        &self.published
    }

    /// Takes one input. Never waits, never fails.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Outbox<Effect, Event>) {
        if self.stopped {
            return;
        }
        match input {
            Input::Changed { active, dead, blocked } => {
                let topology = Topology::new(self.published.version().next(), active, blocked);
                self.waiting = Some(Waiting { topology, dead, observed_at: now });
                if !self.window_open {
                    self.publish(out);
                }
            }
            Input::Timer(epoch) if self.window_open && epoch == self.epoch => {
                self.window_open = false;
                self.publish(out);
            }
            Input::Timer(_) => {} // of a window that is over
            Input::Stop => {
                self.stopped = true;
                self.waiting = None;
            }
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// Panics when a promise of this module is broken, which is a defect of it.
    pub fn check_invariants(&self) {
        self.published.check_invariants();
        assert!(self.waiting.is_none() || self.window_open, "a change waits only for the end of a window");
    }

    /// Publishes what has waited, when it is new, and opens the next window.
    fn publish(&mut self, out: &mut Outbox<Effect, Event>) {
        let Some(Waiting { topology, dead, observed_at }) = self.waiting.take() else { return };
        if topology.same_content(&self.published) {
            return;
        }
        let topology = Arc::new(topology);
        let updated = TopologyUpdated::between(&self.published, Arc::clone(&topology), &dead, observed_at);
        if cfg!(debug_assertions) {
            updated.check_invariants();
        }
        self.published = topology;
        out.event(Event::Updated(updated));
        if !self.config.window.is_zero() {
            self.epoch = WindowEpoch(self.epoch.0.saturating_add(1));
            self.window_open = true;
            out.effect(Effect::SetTimer { after: self.config.window, epoch: self.epoch });
        }
    }
}
