//! What was seen, by whom, when; and how much was sent for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gristmill_core::downing::DowningDecision;
use gristmill_core::{MemberStatus, Timestamp};

/// A process by number, in the order of their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

impl ProcessId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// A node holds a member for something else than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// On the simulator's clock.
    pub at: Timestamp,
    /// Who sees.
    pub observer: ProcessId,
    /// Who is seen.
    pub subject: ProcessId,
    /// What it was held for; `None`: not known.
    pub from: Option<MemberStatus>,
    /// What it is held for.
    pub to: MemberStatus,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// With its host.
    Crashed,
    /// Alone.
    Killed,
    /// As it should.
    Left,
    /// It learned that others hold it for dead.
    Evicted,
    /// It saw itself on the losing side of a partition.
    Fenced,
    /// It never came in.
    NotJoined,
}

/// The life of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Life {
    /// When it was started.
    pub started: Timestamp,
    /// When it took part.
    pub joined: Option<Timestamp>,
    /// When and how it ended.
    pub ended: Option<(Timestamp, End)>,
    /// When another suspected it first.
    pub suspected: Option<Timestamp>,
    /// When another held it for dead first.
    pub buried: Option<Timestamp>,
    /// When another held it for dead or gone first although it ran.
    pub given_up: Option<Timestamp>,
    /// When another declared it dead, by its own judgement, although it ran.
    pub falsely_declared: Option<Timestamp>,
}

/// Sums over all nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sent.
    pub messages: u64,
    /// Sent, encoded payloads.
    pub bytes: u64,
    /// Of the messages those that answer comparisons of tables.
    pub syncs: u64,
    /// Of the messages those that did not arrive.
    pub lost: u64,
    /// Inputs of machines.
    pub handled: u64,
    /// A node refuted a suspicion of itself: it was suspected falsely.
    pub refutations: u64,
    /// A node began to suspect one that ran: counted for each observer.
    pub false_suspicions: u64,
    /// A node held one for dead that ran: counted for each observer.
    pub false_burials: u64,
}

/// The keys of one process may be taken over, as one that goes on sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// When.
    pub at: Timestamp,
    /// Who goes on.
    pub by: ProcessId,
    /// Who is out.
    pub subject: ProcessId,
}

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    /// Since the beginning, or since they were last forgotten.
    pub totals: Totals,
    /// Of each process.
    pub lives: Vec<Life>,
    /// How often a node stopped its evictions.
    pub halted: usize,
    /// How often a node took itself for cut off.
    pub isolated: usize,
    /// What was decided about partitions, when and by whom.
    pub decisions: Vec<(Timestamp, ProcessId, DowningDecision)>,
    /// By decisions of those who went on.
    pub released: Vec<Release>,
    /// How many of these nothing excused, so that P2 was looked at.
    pub armed: usize,
    observations: Vec<Observation>,
    /// By subject: when each observer came to know that it is gone.
    gone: BTreeMap<ProcessId, Vec<(ProcessId, Timestamp)>>,
    up: BTreeMap<ProcessId, Vec<(ProcessId, Timestamp)>>,
    /// By subject: who holds it for dead now, or did when it ended itself.
    condemned: BTreeMap<ProcessId, BTreeSet<ProcessId>>,
    pub(crate) keep_observations: bool,
}

impl History {
    /// The last changes of views, oldest first.
    #[must_use]
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }

    /// When each observer came to hold this process for dead or gone.
    #[must_use]
    pub fn gone(&self, subject: ProcessId) -> &[(ProcessId, Timestamp)] {
        self.gone.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// How many others hold this process for dead now, or did when they ended. A verdict that is withdrawn counts no
    /// more.
    #[must_use]
    pub fn condemned_by(&self, subject: ProcessId) -> usize {
        self.condemned.get(&subject).map_or(0, BTreeSet::len)
    }

    /// When each observer came to hold this process for up.
    #[must_use]
    pub fn up(&self, subject: ProcessId) -> &[(ProcessId, Timestamp)] {
        self.up.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// Processes that were declared dead while they ran.
    pub fn false_deaths(&self) -> impl Iterator<Item = (ProcessId, Timestamp)> + '_ {
        self.lives
            .iter()
            .enumerate()
            .filter_map(|(number, life)| Some((ProcessId(u32::try_from(number).ok()?), life.falsely_declared?)))
    }

    /// Processes that ended so.
    #[must_use]
    pub fn ended_so(&self, end: End) -> usize {
        self.lives.iter().filter(|life| life.ended.is_some_and(|(_, how)| how == end)).count()
    }

    pub(crate) fn started(&mut self, process: ProcessId, at: Timestamp) {
        debug_assert_eq!(process.index(), self.lives.len());
        self.lives.push(Life { started: at, ..Life::default() });
    }

    pub(crate) fn began_up(&mut self, process: ProcessId) {
        self.lives[process.index()].joined = Some(Timestamp::ZERO);
    }

    pub(crate) fn joined(&mut self, process: ProcessId, at: Timestamp) {
        self.lives[process.index()].joined.get_or_insert(at);
    }

    pub(crate) fn ended(&mut self, process: ProcessId, at: Timestamp, how: End) {
        self.lives[process.index()].ended.get_or_insert((at, how));
    }

    pub(crate) fn falsely_declared(&mut self, process: ProcessId, at: Timestamp) {
        self.lives[process.index()].falsely_declared.get_or_insert(at);
    }

    pub(crate) fn observed(&mut self, observation: Observation, runs: bool) {
        let Observation { at, observer, subject, from, to } = observation;
        if self.keep_observations {
            self.observations.push(observation);
        }
        if observer == subject {
            return;
        }
        let life = &mut self.lives[subject.index()];
        match to {
            MemberStatus::Suspect => {
                life.suspected.get_or_insert(at);
                self.totals.false_suspicions += u64::from(runs);
            }
            MemberStatus::Dead => {
                life.buried.get_or_insert(at);
                self.totals.false_burials += u64::from(runs);
            }
            _ => {}
        }
        if runs && matches!(to, MemberStatus::Dead | MemberStatus::Removed) {
            life.given_up.get_or_insert(at);
        }
        let condemned = self.condemned.entry(subject).or_default();
        match to {
            MemberStatus::Dead => _ = condemned.insert(observer),
            MemberStatus::Removed => {}
            _ => _ = condemned.remove(&observer),
        }
        let was_gone = matches!(from, Some(MemberStatus::Dead | MemberStatus::Removed));
        if matches!(to, MemberStatus::Dead | MemberStatus::Removed) && !was_gone {
            self.gone.entry(subject).or_default().push((observer, at));
        }
        if to == MemberStatus::Up && from != Some(MemberStatus::Suspect) {
            self.up.entry(subject).or_default().push((observer, at));
        }
    }
}

/// The value below which this part of the sorted values lies.
#[must_use]
pub fn percentile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // small and positive
    let place = (last as f64 * part).ceil() as usize;
    values.get(place.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: ProcessId = ProcessId(0);

    fn seen(history: &mut History, observer: u32, from: MemberStatus, to: MemberStatus) {
        let observer = ProcessId(observer);
        let observation = Observation { at: Timestamp::ZERO, observer, subject: SUBJECT, from: Some(from), to };
        history.observed(observation, true);
    }

    #[test]
    fn a_verdict_that_is_withdrawn_counts_no_more_and_one_that_is_forgotten_does() {
        let mut history = History::default();
        history.started(SUBJECT, Timestamp::ZERO);
        seen(&mut history, 1, MemberStatus::Suspect, MemberStatus::Dead);
        seen(&mut history, 2, MemberStatus::Up, MemberStatus::Dead);
        assert_eq!(history.condemned_by(SUBJECT), 2);
        seen(&mut history, 1, MemberStatus::Dead, MemberStatus::Up);
        seen(&mut history, 2, MemberStatus::Dead, MemberStatus::Removed);
        assert_eq!(history.condemned_by(SUBJECT), 1);
    }
}
