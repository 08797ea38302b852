//! What is due when, behind one timer.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use crate::Timestamp;

/// Names one setting of the machine's only timer; later is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerEpoch(u64);

impl TimerEpoch {
    /// Wraps the number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Tasks with their deadlines. A task is listed once: scheduling it again moves it, cancelling it is exact.
///
/// The outside sees one timer. It is set again only when a deadline comes up earlier than the one it is set for; when
/// it fires with nothing due it is simply set again.
#[derive(Debug)]
pub(super) struct Agenda<Task> {
    by_task: BTreeMap<Task, Timestamp>,
    by_time: BTreeSet<(Timestamp, Task)>,
    armed: Option<Timestamp>,
    epoch: TimerEpoch,
}

impl<Task: Ord + Copy> Agenda<Task> {
    pub(super) const fn new() -> Self {
        Self { by_task: BTreeMap::new(), by_time: BTreeSet::new(), armed: None, epoch: TimerEpoch(0) }
    }

    pub(super) fn schedule(&mut self, task: Task, at: Timestamp) {
        self.cancel(task);
        self.by_task.insert(task, at);
        self.by_time.insert((at, task));
    }

    pub(super) fn cancel(&mut self, task: Task) {
        if let Some(at) = self.by_task.remove(&task) {
            self.by_time.remove(&(at, task));
        }
    }

    #[cfg(test)]
    pub(super) const fn current(&self) -> TimerEpoch {
        self.epoch
    }

    #[cfg(test)]
    pub(super) const fn armed(&self) -> Option<Timestamp> {
        self.armed
    }

    /// Cancels all of it; the timer that is still set becomes stale.
    pub(super) fn clear(&mut self) {
        self.by_task.clear();
        self.by_time.clear();
        self.armed = None;
        self.epoch.0 += 1;
    }

    pub(super) fn deadline(&self, task: Task) -> Option<Timestamp> {
        self.by_task.get(&task).copied()
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = Task> + '_ {
        self.by_task.keys().copied()
    }

    /// Whether the timer of this epoch is the one that is set; if so it has now fired.
    pub(super) fn fired(&mut self, epoch: TimerEpoch) -> bool {
        let current = self.armed.is_some() && epoch == self.epoch;
        if current {
            self.armed = None;
        }
        current
    }

    /// Takes out the earliest task, if it is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Task> {
        let (at, task) = self.by_time.first().copied().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, task));
        self.by_task.remove(&task);
        Some(task)
    }

    /// How long ago the earliest task was due.
    pub(super) fn lateness(&self, now: Timestamp) -> Duration {
        self.by_time.first().map_or(Duration::ZERO, |(at, _)| now.since(*at))
    }

    /// Moves the chosen tasks into the future.
    pub(super) fn postpone(&mut self, by: Duration, chosen: impl Fn(&Task) -> bool) {
        let moved: alloc::vec::Vec<_> =
            self.by_task.iter().filter(|(task, _)| chosen(task)).map(|(task, at)| (*task, *at)).collect();
        for (task, at) in moved {
            self.schedule(task, at + by);
        }
    }

    /// The timer to set now, if it has to be set.
    pub(super) fn arm(&mut self, now: Timestamp) -> Option<(TimerEpoch, Duration)> {
        let earliest = self.by_time.first().map(|(at, _)| *at)?;
        if self.armed.is_some_and(|armed| armed <= earliest) {
            return None;
        }
        self.armed = Some(earliest);
        self.epoch.0 += 1;
        Some((self.epoch, earliest.since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    #[test]
    fn the_timer_is_set_again_only_for_an_earlier_deadline() {
        let mut agenda = Agenda::new();
        agenda.schedule('a', at(100));
        assert_eq!(agenda.arm(at(0)), Some((TimerEpoch(1), Duration::from_millis(100))));
        agenda.schedule('b', at(200));
        assert_eq!(agenda.arm(at(0)), None);
        agenda.schedule('c', at(50));
        assert_eq!(agenda.arm(at(10)), Some((TimerEpoch(2), Duration::from_millis(40))));
    }

    #[test]
    fn a_timer_of_an_older_epoch_is_stale() {
        let mut agenda = Agenda::new();
        agenda.schedule('a', at(100));
        agenda.arm(at(0));
        agenda.schedule('b', at(50));
        agenda.arm(at(0));
        assert!(!agenda.fired(TimerEpoch(1)));
        assert!(agenda.fired(TimerEpoch(2)));
        assert!(!agenda.fired(TimerEpoch(2)));
    }

    #[test]
    fn a_cancelled_task_is_never_due_and_a_moved_one_once() {
        let mut agenda = Agenda::new();
        agenda.schedule('a', at(10));
        agenda.schedule('b', at(20));
        agenda.schedule('b', at(30));
        agenda.cancel('a');
        assert_eq!(agenda.pop_due(at(29)), None);
        assert_eq!(agenda.pop_due(at(30)), Some('b'));
        assert_eq!(agenda.pop_due(at(30)), None);
    }

    #[test]
    fn only_the_chosen_tasks_are_postponed() {
        let mut agenda = Agenda::new();
        agenda.schedule('a', at(10));
        agenda.schedule('b', at(20));
        agenda.postpone(Duration::from_millis(100), |task| *task == 'a');
        assert_eq!(agenda.deadline('a'), Some(at(110)));
        assert_eq!(agenda.deadline('b'), Some(at(20)));
    }
}
