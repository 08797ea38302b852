//! What happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gristmill_core::Timestamp;

/// Things with their times; of two at the same time the one that was put in first comes out first.
///
/// The heap moves small keys only: what happens lies in a slab beside it.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Timestamp, u64, u32)>>,
    slab: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slab: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<T> Queue<T> {
    /// `thing` happens at this time.
    pub(super) fn push(&mut self, at: Timestamp, thing: T) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = Some(thing);
                slot
            }
            None => {
                self.slab.push(Some(thing));
                u32::try_from(self.slab.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, slot)));
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next thing.
    pub(super) fn pop(&mut self) -> Option<(Timestamp, T)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        self.slab[slot as usize].take().map(|thing| (at, thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_out_by_time_and_then_in_the_order_they_came_in() {
        let mut queue = Queue::default();
        for (at, thing) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(Timestamp::from_millis(at), thing);
        }
        let out: String = std::iter::from_fn(|| queue.pop()).map(|(_, thing)| thing).collect();
        assert_eq!(out, "abcd");
    }
}
