//! One timer for many deadlines.
//!
//! A machine that waits for several things asks its `Alarm` for the earliest of them after each input. At most one
//! timer is worth anything at a time: setting a new one makes those before it stale, and a stale one is not an alarm.

use core::fmt;
use core::time::Duration;

use crate::Timestamp;

/// Tells a timer that was set last from those before it.
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

impl fmt::Display for TimerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A timer to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetTimer {
    /// How long from now.
    pub after: Duration,
    /// What the machine wants back when it fires.
    pub epoch: TimerEpoch,
}

/// Remembers which timer of a machine counts.
#[derive(Debug)]
pub(crate) struct Alarm {
    armed: Option<Timestamp>,
    epoch: TimerEpoch,
}

impl Alarm {
    /// No timer is set.
    pub(crate) const fn new() -> Self {
        Self { armed: None, epoch: TimerEpoch(0) }
    }

    /// The timer to set so that the machine wakes at `deadline` at the latest; none when one that is set already will
    /// do. A timer that is set for earlier stays: waking once too often is cheaper than setting a timer per input.
    pub(crate) fn wake_at(&mut self, now: Timestamp, deadline: Option<Timestamp>) -> Option<SetTimer> {
        let deadline = deadline?;
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return None;
        }
        self.armed = Some(deadline);
        self.epoch = TimerEpoch(self.epoch.0.saturating_add(1));
        Some(SetTimer { after: deadline.since(now), epoch: self.epoch })
    }

    /// Whether the timer that fired is the one that counts; it counts once.
    pub(crate) fn fired(&mut self, epoch: TimerEpoch) -> bool {
        epoch == self.epoch && self.armed.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    #[test]
    fn a_later_deadline_needs_no_new_timer_and_an_earlier_one_makes_the_old_stale() {
        let mut alarm = Alarm::new();
        let first = alarm.wake_at(at(0), Some(at(50))).unwrap();
        assert_eq!(first, SetTimer { after: Duration::from_millis(50), epoch: TimerEpoch(1) });
        assert_eq!(alarm.wake_at(at(1), Some(at(60))), None);
        let second = alarm.wake_at(at(2), Some(at(12))).unwrap();
        assert_eq!(second, SetTimer { after: Duration::from_millis(10), epoch: TimerEpoch(2) });
        assert!(!alarm.fired(first.epoch));
        assert!(alarm.fired(second.epoch));
        assert!(!alarm.fired(second.epoch), "a timer counts once");
        assert_eq!(alarm.wake_at(at(12), None), None);
    }

    #[test]
    fn nothing_fires_before_it_was_set() {
        assert!(!Alarm::new().fired(TimerEpoch::default()));
    }
}
