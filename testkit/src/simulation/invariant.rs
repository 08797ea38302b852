//! What must hold, at every step and at rest.
//!
//! | rule | what | looked at |
//! | --- | --- | --- |
//! | M1 | what an observer knows of a member never becomes older, but where somebody lies of the dead, or by as much as is believed of others | after every step, `Checks::states` |
//! | M2 | nobody knows a member that has never been, but who was told of it when it was let in; nor, where nobody lies, a version that the member has not written | after every step, `Checks::states` |
//! | M3 | while all is as well as for M4: nobody is the first to hold a member that it knew for dead because others say so, nor stops because one of several others says so | at every burial and eviction, `Checks::accuracy` |
//! | M4 | nobody declares dead a member that runs and was well for longer than the shortest suspicion and two probe intervals | at every burial, `Checks::accuracy` |
//! | M5 | all views are equal and right, within the bound after the last fault; but one that runs alone may take itself for cut off | at rest |
//! | M6 | who is dead lives again in a view that remembers it only by a version that it wrote after the one that this view condemned, unless this view never held it for living, and who is gone never | at every change of a view |
//! | P2 | nobody serves what another has released by a decision, nor forms a cluster anew beside one from whom it was cut off, until stalls, drift, loss, delay, a bad card or lies have begun | at every release, and when a process has joined, always |
//! | M7 | a false verdict is obeyed, or withdrawn, before its quarantine ends, when all has been as well as for M4 since, the condemned has held its judge for living for as long, and the judge not all others that it holds for living for dead as well | at the end of every quarantine, `Checks::accuracy` |
//! | M8 | who ended long ago is forgotten | at rest |
//! | G1 | nobody holds a value of a member that the member has not written, and of its own only what it was told to write | at every value that is told, if values are shared |
//! | G2 | what an observer holds of a value never becomes older while its member is in its topology, and is what it told | after every step of gossip that tells something, and one of eight others |
//! | G3 | nobody holds a value of who is not in its topology; at rest all hold the same values of exactly those who take part | as G2; at rest |
//! | G4 | a topology is told once for each change: nobody has joined, left and died at once, who has left has said so where nobody lies, and the differences are those to the one before; at rest all have the same | at every topology; at rest |
//! | G5 | a check of consensus says that all agree exactly when this node holds the same value of all members | as G2; at rest all agree on the topology |
//! | machine | the machines' own invariants | in debug builds after every step; else those of a membership after one step of eight, with `Checks::states`, of gossip after one of sixteen, of downing and topology never |

mod sharing;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gristmill_core::membership::Config;
use gristmill_core::{MemberStatus, Timestamp};
use gristmill_messages::Incarnation;

use super::engine::Simulation;
use super::history::{Observation, ProcessId};
use super::node::Belief;

use sharing::Ledger;
pub(super) use sharing::Step;

/// What is checked on the way. M6 and P2 always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    /// All beliefs after every step: for small clusters.
    pub states: bool,
    /// That a false death is a failure. Else they are counted.
    pub accuracy: bool,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub rule: &'static str,
    /// Who and what.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at {:?}: {}", self.rule, self.at, self.what)
    }
}

impl std::error::Error for Violation {}

/// Looks on.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    checks: Checks,
    violation: Option<Violation>,
    /// Observers and whom they have known to be gone, and until when they must remember it.
    gone: BTreeMap<(ProcessId, ProcessId), Timestamp>,
    /// Observers and whom they hold for dead having held them for living, in which version.
    condemned: BTreeMap<(ProcessId, ProcessId), Incarnation>,
    /// How long it is remembered that one has left.
    memory: Duration,
    /// How long it is remembered that one is dead.
    memory_of_dead: Duration,
    /// By observer: what it believed last.
    believed: Vec<Vec<Belief>>,
    /// What was written and seen of values and topologies.
    ledger: Ledger,
    looks: u64,
}

impl Checker {
    /// Nine tenths of what the machine promises to remember: clocks may be wrong by as much.
    pub(crate) fn new(checks: Checks, config: &Config) -> Self {
        let memory = config.tombstone_ttl.mul_f64(1.35);
        let memory_of_dead = memory + config.quarantine_ttl.mul_f64(0.9);
        Self { checks, memory, memory_of_dead, ..Self::default() }
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.clone()
    }

    fn broken(&mut self, at: Timestamp, rule: &'static str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, rule, what: what() });
        }
    }

    pub(crate) fn accuracy(&mut self, at: Timestamp, what: impl FnOnce() -> String) {
        if self.checks.accuracy {
            self.broken(at, "M4", what);
        }
    }

    /// M3.
    pub(crate) fn hearsay(&mut self, at: Timestamp, what: impl FnOnce() -> String) {
        if self.checks.accuracy {
            self.broken(at, "M3", what);
        }
    }

    /// M7.
    pub(crate) fn unsettled(&mut self, at: Timestamp, what: impl FnOnce() -> String) {
        if self.checks.accuracy {
            self.broken(at, "M7", what);
        }
    }

    /// P2.
    pub(crate) fn split(&mut self, at: Timestamp, what: impl FnOnce() -> String) {
        self.broken(at, "P2", what);
    }

    /// M6. Whose end was forgotten may be believed in again, until it is found out again. `version` is the one that the
    /// observer knows now; that it was written is M2.
    pub(crate) fn observed(&mut self, observation: &Observation, version: Option<Incarnation>) {
        let Observation { at, observer, subject, from, to } = *observation;
        let is_end = |status: &MemberStatus| matches!(status, MemberStatus::Dead | MemberStatus::Removed);
        let key = (observer, subject);
        let condemned = self.condemned.remove(&key);
        if to == MemberStatus::Dead && from.is_some() {
            self.condemned.extend(version.map(|version| (key, version)));
        }
        let withdrawn = from == Some(MemberStatus::Dead) && condemned.is_none_or(|condemned| version > Some(condemned));
        if withdrawn && !is_end(&to) {
            self.gone.remove(&key);
        } else if from.is_some_and(|from| is_end(&from)) && !is_end(&to) {
            self.broken(at, "M6", || format!("{observer} holds {subject} for {to}, no longer for gone"));
        } else if to == MemberStatus::Dead {
            self.gone.insert(key, at + self.memory_of_dead);
        } else if to == MemberStatus::Removed {
            self.gone.insert(key, at + self.memory);
        } else if let Some(until) = self.gone.get(&key).filter(|until| at < **until) {
            let early = until.since(at);
            self.broken(at, "M6", || {
                format!("{observer} holds {subject} for {to}, {early:?} too early to have forgotten its end")
            });
        }
    }

    /// M1, M2 and the machine's own.
    pub(crate) fn look(&mut self, simulation: &Simulation, observer: ProcessId) {
        let Some(node) = &simulation.processes[observer.index()].node else { return };
        let now = simulation.now();
        self.looks += 1;
        if !cfg!(debug_assertions) && self.looks.is_multiple_of(8) {
            node.machine().check_invariants();
        }
        let beliefs = node.beliefs();
        if self.believed.len() <= observer.index() {
            self.believed.resize(observer.index() + 1, Vec::new());
        }
        let before = std::mem::take(&mut self.believed[observer.index()]);
        for (place, belief) in beliefs.iter().enumerate() {
            let known = before.get(place).filter(|known| known.member == belief.member);
            let known = known.or_else(|| before.iter().find(|known| known.member == belief.member));
            if known == Some(belief) {
                continue;
            }
            let subject = simulation.process_of(belief.member);
            let condemned = subject.is_some_and(|subject| self.condemned.contains_key(&(observer, subject)));
            let ahead = |known: &&Belief| known.incarnation.get().saturating_sub(belief.incarnation.get());
            let are_dead = |known: &Belief| known.status == MemberStatus::Dead && belief.status == MemberStatus::Dead;
            let known = known.filter(|known| !simulation.has_lied || (ahead(known) < 1 << 10 && !are_dead(known)));
            if let Some(known) = known.filter(|known| is_older(belief, known, condemned)) {
                self.broken(now, "M1", || format!("{}: {known:?} became {belief:?}", simulation.name(observer)));
            }
            let written = simulation.process_of(belief.member).map(|id| simulation.processes[id.index()].incarnation);
            let misled = simulation.processes[observer.index()].misled;
            let unwritten = |written| belief.incarnation > written && !simulation.has_lied;
            if written.map_or(!misled, unwritten) {
                self.broken(now, "M2", || {
                    format!("{} knows {belief:?}: written is {written:?}", simulation.name(observer))
                });
            }
        }
        self.believed[observer.index()] = beliefs;
    }

    /// M8, when nobody has ended or started for longer than anything is remembered.
    pub(crate) fn rest(&self, simulation: &Simulation) -> Result<(), Violation> {
        for (observer, node) in simulation.running_nodes().filter(|(_, node)| !node.machine().is_isolated()) {
            let lives = |member| simulation.process_of(member).is_some_and(|id| simulation.is_running(id));
            if let Some(leak) = node.beliefs().into_iter().find(|belief| !lives(belief.member)) {
                let what = format!("{} still remembers {leak:?}", simulation.name(observer));
                return Err(Violation { at: simulation.now(), rule: "M8", what });
            }
        }
        Ok(())
    }
}

/// `condemned`: no event has taken the verdict back, which M6 looks at.
fn is_older(belief: &Belief, known: &Belief, condemned: bool) -> bool {
    let is_final = |belief: &Belief| matches!(belief.status, MemberStatus::Dead | MemberStatus::Removed);
    let revived = is_final(known) && !is_final(belief);
    let withdrawn = known.status == MemberStatus::Dead && !condemned;
    (belief.stage, belief.incarnation) < (known.stage, known.incarnation) || (revived && !withdrawn)
}
