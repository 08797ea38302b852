//! Where a machine leaves its decisions.

use alloc::vec::Vec;
use core::fmt;

/// What a machine wants done, in order, and what it says has happened.
///
/// The shell empties it after each `handle`, performs every effect in one exhaustive `match`, and publishes the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox<Effect, Event> {
    effects: Vec<Effect>,
    events: Vec<Event>,
}

impl<Effect, Event> Outbox<Effect, Event> {
    /// An empty one; the shell keeps it and so its memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { effects: Vec::new(), events: Vec::new() }
    }

    /// Adds an effect.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Takes the effects out, oldest first.
    pub fn drain_effects(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.effects.drain(..)
    }

    /// Takes the events out, oldest first.
    pub fn drain_events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }

    /// Whether nothing is left to do or say.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.events.is_empty()
    }
}

impl<Effect, Event> Default for Outbox<Effect, Event> {
    fn default() -> Self {
        Self::new()
    }
}

/// Names a request that waits for an answer. The shell draws it and maps it to its reply port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// Wraps a number that is unique among the shell's open requests.
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

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
