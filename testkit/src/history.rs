//! What the nodes of a cluster have seen, one after the other, and what must hold of it.
//!
//! The same [`History`] is written from nodes in a simulated network and from real processes, which print what they see
//! as lines: an [`Observation`] is written and read as one line. Each check is named after what it shows, and says what
//! is wrong when it fails. A check that a test does not call is not made.
//!
//! What is checked of each node by itself holds whatever happens to the network ([`History::is_monotone`]); what is
//! said of several nodes holds at the end, or within the time that the test gives ([`History::all_agree`],
//! [`History::everybody_knows`]).
//!
//! ```
//! use std::time::Duration;
//! use gristmill_testkit::History;
//!
//! let mut history = History::new();
//! for (second, by, line) in [
//!     (0, "a", "started 00000000000000000000000000000001"),
//!     (0, "b", "started 00000000000000000000000000000002"),
//!     (3, "a", "status 00000000000000000000000000000002 b:1 suspect dead"),
//! ] {
//!     history.record(Duration::from_secs(second), by, line.parse().unwrap());
//! }
//! history.is_monotone(Duration::MAX).unwrap();
//! history.nobody_was_buried_alive(["a"]).unwrap();
//! assert!(history.nobody_was_buried_alive(["b"]).is_err());
//! ```

mod observation;

pub use observation::{InvalidObservation, Observation};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use gristmill::{MemberId, MemberStatus};

/// What was seen, by whom and when, in the order in which it was recorded.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: Vec<Entry>,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, on a clock that is common to all observers.
    pub at: Duration,
    /// The name of the process that saw it.
    pub by: String,
    /// What.
    pub seen: Observation,
}

impl History {
    /// One in which nothing has happened.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds what a process has seen. What one process sees has to be recorded in its order.
    pub fn record(&mut self, at: Duration, by: impl Into<String>, seen: Observation) {
        self.entries.push(Entry { at, by: by.into(), seen });
    }

    /// All of it.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What one process has seen.
    pub fn of<'a>(&'a self, observer: &'a str) -> impl DoubleEndedIterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.by == observer)
    }

    /// FT-1, FT-5: on each node a member only moves on. Nobody is joining again, who is dead or removed stays so, and
    /// who is gone from a node's topology never comes back to it under the same id, unless the node has said that it
    /// withdraws the verdict. No topology has two members at one address. Where both sides of a partition go on they
    /// meet again when each has forgotten the other:
    /// `forgotten_after` its removal at the earliest.
    ///
    /// # Errors
    /// The first entry that breaks this.
    pub fn is_monotone(&self, forgotten_after: Duration) -> Result<(), Violation> {
        // None between two lives, when parts of both may have something to tell.
        let mut views = BTreeMap::<&str, Option<View>>::new();
        for entry in &self.entries {
            let view = views.entry(&entry.by).or_insert_with(|| Some(View::default()));
            match entry.seen {
                Observation::Started(_) | Observation::Rejoined { .. } => *view = Some(View::default()),
                Observation::Fenced(_) | Observation::Ended => *view = None,
                _ => {}
            }
            let broken = view.as_mut().map_or(Ok(()), |view| view.follow(entry, forgotten_after));
            broken.map_err(|what| Violation::new(Rule::Monotone, format!("{what}: {entry}")))?;
        }
        Ok(())
    }

    /// When `observer` has first known, from `since` on, that a member is no more: it called it dead or removed, or its
    /// topology was without it.
    #[must_use]
    pub fn learned(&self, observer: &str, member: MemberId, since: Duration) -> Option<Duration> {
        let knows = |seen: &Observation| match seen {
            Observation::Status { member: other, to, .. } => *other == member && is_over(*to),
            Observation::Topology { members, .. } => !members.contains_key(&member),
            _ => false,
        };
        self.of(observer).find(|entry| entry.at >= since && knows(&entry.seen)).map(|entry| entry.at)
    }

    /// FT-2: all of these observers know within `limit` that a member is no more, which it is from `since` on. Says how
    /// long the last one took.
    ///
    /// # Errors
    /// An observer that does not.
    pub fn everybody_knows<'a>(
        &self,
        observers: impl IntoIterator<Item = &'a str>,
        member: MemberId,
        since: Duration,
        limit: Duration,
    ) -> Result<Duration, Violation> {
        let mut slowest = Duration::ZERO;
        for observer in observers {
            let fail =
                |what| Err(Violation::new(Rule::Complete, format!("{observer} {what} that {member} is no more")));
            match self.learned(observer, member, since) {
                None => return fail("does not know".to_owned()),
                Some(at) if at - since > limit => return fail(format!("knows only after {:?}", at - since)),
                Some(at) => slowest = slowest.max(at - since),
            }
        }
        Ok(slowest)
    }

    /// FT-3: none of these processes was ever called dead, or told so, in whichever of its lives. Who joins again after
    /// a false verdict was buried alive all the same.
    ///
    /// # Errors
    /// The first entry that does, or a process that has never started.
    pub fn nobody_was_buried_alive<'a>(&self, healthy: impl IntoIterator<Item = &'a str>) -> Result<(), Violation> {
        let fail = |what| Err(Violation::new(Rule::Accurate, what));
        let healthy: BTreeSet<&str> = healthy.into_iter().collect();
        let mut ids = BTreeSet::new();
        for name in &healthy {
            let before = ids.len();
            ids.extend(self.of(name).filter_map(|entry| match entry.seen {
                Observation::Started(id) | Observation::Rejoined { new: id, .. } => Some(id),
                _ => None,
            }));
            if ids.len() == before {
                return fail(format!("{name} has never started"));
            }
        }
        for entry in &self.entries {
            let buried = match &entry.seen {
                Observation::Status { member, to: MemberStatus::Dead, .. } => ids.contains(member),
                Observation::Fenced(id) => ids.contains(id),
                Observation::Evicted => healthy.contains(entry.by.as_str()),
                _ => false,
            };
            if buried {
                return fail(entry.to_string());
            }
        }
        Ok(())
    }

    /// FT-4: the last topology of each of these observers has the same members, and one hash.
    ///
    /// # Errors
    /// Two that differ, or one that has seen none.
    pub fn all_agree<'a>(&self, observers: impl IntoIterator<Item = &'a str>) -> Result<(), Violation> {
        let mut first: Option<&Entry> = None;
        for observer in observers {
            let is_topology = |entry: &&Entry| matches!(entry.seen, Observation::Topology { .. });
            let Some(last) = self.of(observer).rev().find(is_topology) else {
                return Err(Violation::new(Rule::Agreement, format!("{observer} has seen no topology")));
            };
            match first {
                Some(other) if other.seen != last.seen => {
                    return Err(Violation::new(Rule::Agreement, format!("{other}, but {last}")));
                }
                _ => first = Some(last),
            }
        }
        Ok(())
    }

    /// FT-6, FT-7: a member stopped to serve before anybody else took over what it owned. Says by how much.
    ///
    /// # Errors
    /// It has not stopped, or the first topology without it was earlier.
    pub fn was_fenced_before_takeover(&self, member: MemberId) -> Result<Duration, Violation> {
        let fail = |what: &dyn fmt::Display| Err(Violation::new(Rule::Fenced, format!("{member}: {what}")));
        let Some(fenced) = self.entries.iter().find(|entry| entry.seen == Observation::Fenced(member)) else {
            return fail(&"was never fenced");
        };
        let mut owners = BTreeSet::new();
        for entry in self.entries.iter().filter(|entry| entry.by != fenced.by) {
            if let Observation::Topology { members, .. } = &entry.seen {
                if members.contains_key(&member) {
                    owners.insert(&entry.by);
                } else if owners.contains(&entry.by) {
                    let Some(ahead) = entry.at.checked_sub(fenced.at) else { return fail(entry) };
                    return Ok(ahead);
                }
            }
        }
        Ok(Duration::MAX)
    }

    /// FT-9: no activation has answered two calls with the same turn, and none that one caller made later with an
    /// earlier one. Each caller has to make one call after the other.
    ///
    /// # Errors
    /// The first answer that breaks this.
    pub fn no_turn_was_answered_twice(&self) -> Result<(), Violation> {
        let mut turns = BTreeSet::new();
        let mut last = BTreeMap::new();
        for entry in &self.entries {
            if let Observation::Answered { activation, turn, .. } = &entry.seen {
                let later = last.insert((&entry.by, activation), *turn).is_none_or(|last| last < *turn);
                if !later || !turns.insert((activation, *turn)) {
                    return Err(Violation::new(Rule::Once, entry.to_string()));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} {}: {}", self.at.as_secs_f64(), self.by, self.seen)
    }
}

/// What one node has made of the others so far, in one life.
#[derive(Debug, Default)]
struct View {
    statuses: BTreeMap<MemberId, (Duration, MemberStatus)>,
    present: BTreeSet<MemberId>,
    gone: BTreeSet<MemberId>,
    /// Held for dead still, as the next change of their status says.
    withdrawn: BTreeSet<MemberId>,
}

impl View {
    fn follow(&mut self, entry: &Entry, forgotten_after: Duration) -> Result<(), &'static str> {
        match &entry.seen {
            Observation::Status { member, from, to, .. } => {
                let mut last = self.statuses.insert(*member, (entry.at, *to));
                let is_forgotten = |(since, last): (Duration, MemberStatus)| {
                    last == MemberStatus::Removed && from.is_none() && entry.at.saturating_sub(since) >= forgotten_after
                };
                if last.is_some_and(is_forgotten) {
                    self.gone.remove(member);
                    last = None;
                }
                match (last.map(|(_, last)| last), to) {
                    (Some(MemberStatus::Removed), _) => Err("who was removed has changed"),
                    (Some(MemberStatus::Dead), to)
                        if *to != MemberStatus::Removed && !self.withdrawn.remove(member) =>
                    {
                        Err("who was dead is back")
                    }
                    (Some(_), MemberStatus::Joining) => Err("who was known is joining again"),
                    (Some(last), _) if *from != Some(last) => Err("a change was not told"),
                    _ => Ok(()),
                }
            }
            Observation::Topology { members, .. } => {
                let addresses: BTreeSet<&String> = members.values().collect();
                if addresses.len() < members.len() {
                    return Err("two members at one address");
                }
                let now: BTreeSet<MemberId> = members.keys().copied().collect();
                self.gone.extend(self.present.difference(&now));
                let back = now.intersection(&self.gone).next().is_some();
                self.present = now;
                if back { Err("who was gone is back") } else { Ok(()) }
            }
            Observation::Withdrawn(member) => {
                self.withdrawn.insert(*member);
                self.gone.remove(member);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

const fn is_over(status: MemberStatus) -> bool {
    matches!(status, MemberStatus::Dead | MemberStatus::Removed)
}

/// A rule that a [`History`] breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// What breaks it.
    pub what: String,
}

/// What must hold of a [`History`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// See [`History::is_monotone`].
    Monotone,
    /// See [`History::everybody_knows`].
    Complete,
    /// See [`History::nobody_was_buried_alive`].
    Accurate,
    /// See [`History::all_agree`].
    Agreement,
    /// See [`History::was_fenced_before_takeover`].
    Fenced,
    /// See [`History::no_turn_was_answered_twice`].
    Once,
}

impl Violation {
    fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests;
