//! How many say the same.

use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::MemberId;

use crate::Timestamp;

/// Members that have said the same thing, each in a message of its own: up to two different ones, and when they said it
/// last. Whom a record names as its author says nothing, for that is easily forged; a connection proves who speaks.
#[derive(Debug, Default)]
pub(super) struct Voices(Vec<(MemberId, Timestamp)>);

impl Voices {
    /// So many are believed.
    pub(super) const ENOUGH: usize = 2;

    /// Says it, or says it again; whether it is new from this one. What was said longer ago than `within` is dropped.
    pub(super) fn add(&mut self, by: MemberId, now: Timestamp, within: Duration) -> bool {
        self.0.retain(|(_, at)| now.since(*at) <= within);
        if let Some((_, at)) = self.0.iter_mut().find(|(voice, _)| *voice == by) {
            *at = now;
            return false;
        }
        let room = self.0.len() < Self::ENOUGH;
        if room {
            self.0.push((by, now));
        }
        room
    }

    /// This one says something else now.
    pub(super) fn remove(&mut self, by: MemberId) {
        self.0.retain(|(voice, _)| *voice != by);
    }

    /// Whether this one has said it, and is remembered.
    pub(super) fn contains(&self, by: MemberId) -> bool {
        self.0.iter().any(|(voice, _)| *voice == by)
    }

    /// How many have said it since.
    pub(super) fn count(&self, now: Timestamp, within: Duration) -> usize {
        self.0.iter().filter(|(_, at)| now.since(*at) <= within).count()
    }

    /// Who said it first of those that are remembered.
    pub(super) fn first(&self) -> Option<MemberId> {
        self.0.first().map(|(voice, _)| *voice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[test]
    fn one_voice_counts_once_however_often_it_speaks_and_not_for_ever() {
        let at = |seconds: u64| Timestamp::from_millis(1000 * seconds);
        let (one, other, third) = (MemberId::new(1), MemberId::new(2), MemberId::new(3));
        let mut voices = Voices::default();
        assert_eq!((voices.add(one, at(0), WITHIN), voices.add(one, at(4), WITHIN)), (true, false));
        assert_eq!(voices.count(at(4), WITHIN), 1);
        assert!(voices.add(other, at(9), WITHIN));
        assert!(!voices.add(third, at(9), WITHIN), "two are enough");
        assert_eq!([9, 14, 15, 20].map(|seconds| voices.count(at(seconds), WITHIN)), [2, 2, 1, 0]);
    }
}
