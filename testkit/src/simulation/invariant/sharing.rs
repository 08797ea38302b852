//! G1 to G5: what must hold of values and topologies.
//!
//! What is compared is what the machines have told, in events, with what their owners have written, and both with what
//! the machines hold.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_core::Timestamp;
use gristmill_core::gossip::{Event, GossipKey, GossipValue, OWN_KEYS, Sequence, TOPOLOGY};
use gristmill_core::topology::{Topology, TopologyUpdated};
use gristmill_messages::MemberId;

use super::Checker;
use crate::simulation::history::ProcessId;
use crate::simulation::sharing::{ALL_KEYS, Sharing, topology_value};

/// One write of a member, or what is held of it; no value: removed.
type Version = (Sequence, Option<GossipValue>);

/// One step of the gossip of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// When.
    pub(crate) at: Timestamp,
    /// Whose.
    pub(crate) observer: ProcessId,
    /// As a member.
    pub(crate) me: MemberId,
    /// It was the last.
    pub(crate) stops: bool,
    /// The members may be others.
    pub(crate) told: bool,
    /// It was told to write.
    pub(crate) writes: bool,
    /// Somebody has forged values: until the members have contradicted, anything may be held.
    pub(crate) forged: bool,
}

/// What was written, and what each observer was told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Under each of the keys, oldest first.
    written: [BTreeMap<MemberId, Vec<Version>>; ALL_KEYS.len()],
    seen: Vec<Seen>,
    looks: u64,
}

/// Of one observer.
#[derive(Debug, Default)]
struct Seen {
    /// Under each of the keys.
    values: [BTreeMap<MemberId, Version>; ALL_KEYS.len()],
    /// Under others, which nobody writes.
    invented: BTreeSet<(MemberId, GossipKey)>,
    topology: Topology,
}

impl Ledger {
    fn seen(&mut self, observer: ProcessId) -> &mut Seen {
        if self.seen.len() <= observer.index() {
            self.seen.resize_with(observer.index() + 1, Seen::default);
        }
        &mut self.seen[observer.index()]
    }

    /// G1 and G2 of what one step has told.
    fn hear(&mut self, step: &Step, events: &[Event], members: &Topology) -> Result<(), (&'static str, String)> {
        let me = step.me;
        let mut going = BTreeSet::new();
        for event in events {
            let (member, key, version) = match event {
                Event::Updated { member, key, value, sequence } => (*member, key, (*sequence, Some(value.clone()))),
                Event::Removed { member, key, sequence } => (*member, key, (*sequence, None)),
                Event::Purged { member } => {
                    if members.member(*member).is_some() {
                        return Err(("G2", format!("forgets {member}, which is there")));
                    }
                    going.remove(member);
                    let seen = self.seen(step.observer);
                    seen.values.iter_mut().for_each(|values| drop(values.remove(member)));
                    seen.invented.retain(|(of, _)| of != member);
                    continue;
                }
                Event::Refused { .. } | Event::ClaimRefused { .. } | Event::SetRefused { .. } => continue,
            };
            if key.as_str() == OWN_KEYS {
                continue;
            }
            let Some(place) = ALL_KEYS.iter().position(|one| *one == key.as_str()) else {
                let invented = &mut self.seen(step.observer).invented;
                match version.1 {
                    Some(_) => invented.insert((member, key.clone())),
                    None => invented.remove(&(member, key.clone())),
                };
                if step.forged {
                    continue;
                }
                return Err(("G1", format!("holds {key} of {member}, which nobody writes")));
            };
            if member == me {
                let written = self.written[place].entry(member).or_default();
                let last = written.last().and_then(|(_, value)| value.as_ref());
                if !step.writes && version.1.as_ref() != last {
                    return Err(("G1", format!("takes {version:?} for its own {key}, and has written {last:?}")));
                }
                written.push(version.clone());
            }
            let known = self.seen(step.observer).values[place].get(&member);
            if version.1.is_none() && known.is_some_and(|(sequence, value)| *sequence == version.0 && value.is_some()) {
                if step.forged {
                    self.seen(step.observer).values[place].remove(&member);
                } else {
                    going.insert(member);
                }
                continue;
            }
            if let Some(known) = known.filter(|(sequence, _)| version.0 <= *sequence && !step.forged) {
                return Err(("G2", format!("held {known:?} of {member} {key}, and takes {version:?}")));
            }
            let is_written = self.written[place].get(&member).is_some_and(|written| written.contains(&version));
            if !is_written && !step.forged {
                return Err(("G1", format!("holds {version:?} of {member} {key}, which that has not written")));
            }
            self.seen(step.observer).values[place].insert(member, version);
        }
        if let Some(member) = going.first() {
            return Err(("G2", format!("removes what {member} has written, and does not forget it")));
        }
        Ok(())
    }

    /// G2, G3 and G5 of what one observer holds.
    fn look(&self, step: &Step, sharing: &Sharing) -> Result<(), (&'static str, String)> {
        let Some(seen) = self.seen.get(step.observer.index()) else { return Ok(()) };
        for (key, told) in ALL_KEYS.into_iter().zip(&seen.values) {
            let held = || sharing.gossip().get(key);
            let gone = held().find(|(member, _)| *member != step.me && sharing.topology().member(*member).is_none());
            if let Some((gone, _)) = gone {
                return Err(("G3", format!("holds {key} of {gone}, which is no member")));
            }
            let visible = told.iter().filter_map(|(member, (_, value))| Some((*member, value.as_ref()?)));
            if !visible.clone().eq(held()) {
                let held: Vec<_> = held().collect();
                return Err(("G2", format!("holds other values of {key} than it has told: {held:?}")));
            }
            let check = sharing.checks().iter().find(|(of, _)| *of == key);
            let Some((_, check)) = check else { continue };
            let others = sharing.topology().members().iter().map(|member| member.id).filter(|id| *id != step.me);
            let told: BTreeMap<_, _> = visible.collect();
            let mut values = others.chain([step.me]).map(|member| told.get(&member).copied());
            let first = values.next().flatten();
            let agreed = first.filter(|first| values.all(|value| value == Some(first)));
            let said = check.current().and_then(<[_]>::first);
            if said != agreed {
                return Err(("G5", format!("says that all agree on {said:?} of {key}, and holds {agreed:?}")));
            }
        }
        Ok(())
    }
}

impl Checker {
    /// G1, G2, G3 and G5.
    pub(crate) fn shared(&mut self, step: Step, events: &[Event], sharing: &Sharing) {
        let heard = self.ledger.hear(&step, events, sharing.topology());
        if step.stops {
            self.ledger.seen(step.observer).values = Default::default();
            self.ledger.seen(step.observer).invented.clear();
        }
        self.ledger.looks += 1;
        let chosen = !events.is_empty() || step.told || self.ledger.looks.is_multiple_of(8);
        let looked = heard.and_then(|()| if chosen { self.ledger.look(&step, sharing) } else { Ok(()) });
        if let Err((rule, what)) = looked {
            self.broken(step.at, rule, || format!("{} {what}", step.observer));
        }
        if !cfg!(debug_assertions) && self.ledger.looks.is_multiple_of(16) {
            sharing.gossip().check_invariants();
        }
    }

    /// G4. `unsaid`: one of those who have left, though it has never said so.
    pub(crate) fn topology_updated(
        &mut self,
        at: Timestamp,
        observer: ProcessId,
        updated: &TopologyUpdated,
        unsaid: Option<MemberId>,
        held: &Topology,
    ) {
        let before = std::mem::replace(&mut self.ledger.seen(observer).topology, (*updated.topology).clone());
        let now = &updated.topology;
        let [joined, left, dead] = [&updated.joined, &updated.left, &updated.dead]
            .map(|members| members.iter().map(|member| member.id).collect::<BTreeSet<_>>());
        let ids = |topology: &Topology| topology.members().iter().map(|member| member.id).collect::<BTreeSet<_>>();
        let (old, new) = (ids(&before), ids(now));
        let wrong = if now.same_content(&before) {
            Some("nothing has changed")
        } else if now.version() <= before.version() || **now != *held {
            Some("it is not the newest")
        } else if !joined.is_disjoint(&left) || !joined.is_disjoint(&dead) || !left.is_disjoint(&dead) {
            Some("some have joined, left or died at once")
        } else if joined != &new - &old || &left | &dead != &old - &new {
            Some("the differences are not those to the one before")
        } else if unsaid.is_some() {
            Some("who has left has not said so")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.broken(at, "G4", || format!("{observer} tells of a topology, but {wrong}: {updated:?}"));
        }
    }

    /// G3, G4 and G5 of one observer when nothing has happened for long: `members` take part.
    pub(crate) fn rests(
        &self,
        observer: ProcessId,
        sharing: &Sharing,
        members: &BTreeSet<MemberId>,
    ) -> Result<(), String> {
        let topology = sharing.topology();
        if !topology.members().iter().map(|member| &member.id).eq(members) {
            return Err(format!("goes by {} members of {}", topology.members().len(), members.len()));
        }
        // A removal is not told to whom never saw what was removed.
        let visible = |version: &&Version| version.1.is_some();
        let seen = self.ledger.seen.get(observer.index());
        if let Some((member, key)) = seen.and_then(|seen| seen.invented.first()) {
            return Err(format!("holds {key} of {member}, which nobody writes"));
        }
        for (place, key) in ALL_KEYS.into_iter().enumerate() {
            for member in members {
                let newest = self.ledger.written[place].get(member).and_then(|written| written.last());
                let held = seen.and_then(|seen| seen.values[place].get(member));
                if held.filter(visible) != newest.filter(visible) {
                    return Err(format!("holds {held:?} of {member} {key}, and written is {newest:?}"));
                }
            }
        }
        let agreed = sharing.checks().iter().find(|(key, _)| *key == TOPOLOGY).and_then(|(_, check)| check.current());
        if agreed.and_then(<[_]>::first) != Some(&topology_value(topology.hash())) {
            return Err(format!("does not say that all go by {}", topology.hash()));
        }
        Ok(())
    }
}
