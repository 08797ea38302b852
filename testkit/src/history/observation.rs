use std::collections::BTreeMap;
use std::fmt;
use std::str::{FromStr, SplitWhitespace};

use gristmill::downing::Side;
use gristmill::{ClusterEvent, Evidence, MemberId, MemberStatus, TopologyHash};

/// Something that one node has seen, or that a caller on it has.
///
/// Its line: the word in the table, then the values with a space before each; `-` where there is none.
///
/// | word | values |
/// | --- | --- |
/// | `started` | id |
/// | `status` | id, address, status before, status |
/// | `suspected` | id, the accuser's id, evidence |
/// | `refuted`, `withdrawn` | id |
/// | `topology` | hash, then `id=address` of each member |
/// | `halted`, `resumed` | how many are suspected |
/// | `isolated`, `connected`, `evicted`, `ended` | none |
/// | `decided` | `this`, `other` or `none`: which side goes on |
/// | `fenced` | id |
/// | `rejoined` | id before, id |
/// | `answered` | grain, activation, turn |
/// | `failed` | grain, and why |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// It serves, under this id. A new life of the node.
    Started(MemberId),
    /// A member's state has changed.
    Status {
        /// Who.
        member: MemberId,
        /// Where it listens.
        address: String,
        /// Before; none when it was unknown.
        from: Option<MemberStatus>,
        /// Now.
        to: MemberStatus,
    },
    /// Why a member has become suspect.
    Suspected {
        /// Who.
        member: MemberId,
        /// Who accuses it.
        by: MemberId,
        /// What the accusation rests on.
        evidence: Evidence,
    },
    /// A suspected member has shown that it lives.
    Refuted(MemberId),
    /// A verdict of its death is taken back: whatever follows, it lives.
    Withdrawn(MemberId),
    /// The topology has changed.
    Topology {
        /// The hash of its content.
        hash: TopologyHash,
        /// Who is in it, and where.
        members: BTreeMap<MemberId, String>,
    },
    /// So many are suspected that nobody is declared dead.
    Halted(usize),
    /// That is over.
    Resumed(usize),
    /// It hears nobody.
    Isolated,
    /// It hears somebody again.
    Connected,
    /// The others have declared it dead.
    Evicted,
    /// It was decided which side of a partition goes on.
    Decided(Side),
    /// It must not serve any more under this id.
    Fenced(MemberId),
    /// It has joined again: a new life.
    Rejoined {
        /// Its id before.
        old: MemberId,
        /// Its id from now on.
        new: MemberId,
    },
    /// It has shut down, in whatever way, or did not start.
    Ended,
    /// A grain has answered a call.
    Answered {
        /// Which grain, without spaces.
        grain: String,
        /// Which activation of it, unique in the cluster, without spaces.
        activation: String,
        /// How many calls the activation has handled, this one included.
        turn: u64,
    },
    /// A call has failed.
    Failed {
        /// Of which grain, without spaces.
        grain: String,
        /// Why.
        reason: String,
    },
}

impl Observation {
    /// What an event tells, if it is one of these.
    #[must_use]
    pub fn of(event: &ClusterEvent) -> Option<Self> {
        Some(match event {
            ClusterEvent::Started { member } => Self::Started(*member),
            ClusterEvent::MemberStatusChanged { member, from, to, .. } => {
                Self::Status { member: member.id, address: member.address.to_string(), from: *from, to: *to }
            }
            ClusterEvent::MemberSuspected { member, by, evidence } => {
                Self::Suspected { member: *member, by: *by, evidence: *evidence }
            }
            ClusterEvent::SuspicionRefuted { member } => Self::Refuted(*member),
            ClusterEvent::VerdictWithdrawn { member } => Self::Withdrawn(*member),
            ClusterEvent::TopologyUpdated(updated) => {
                let members = updated.topology.members().iter();
                let members = members.map(|member| (member.id, member.address.to_string())).collect();
                Self::Topology { hash: updated.topology.hash(), members }
            }
            ClusterEvent::EvictionsHalted { suspects } => Self::Halted(*suspects),
            ClusterEvent::EvictionsResumed { suspects } => Self::Resumed(*suspects),
            ClusterEvent::Isolated => Self::Isolated,
            ClusterEvent::IsolationEnded => Self::Connected,
            ClusterEvent::Evicted => Self::Evicted,
            ClusterEvent::DowningDecided(decision) => Self::Decided(decision.chosen),
            ClusterEvent::Fenced { member } => Self::Fenced(*member),
            ClusterEvent::Rejoined { old, new } => Self::Rejoined { old: *old, new: *new },
            ClusterEvent::Shutdown | ClusterEvent::ShutdownFailed { .. } | ClusterEvent::StartupFailed { .. } => {
                Self::Ended
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(id) => write!(f, "started {id}"),
            Self::Status { member, address, from, to } => match from {
                Some(from) => write!(f, "status {member} {address} {from} {to}"),
                None => write!(f, "status {member} {address} - {to}"),
            },
            Self::Suspected { member, by, evidence } => {
                write!(f, "suspected {member} {by} {}", name_of(*evidence))
            }
            Self::Refuted(id) => write!(f, "refuted {id}"),
            Self::Withdrawn(id) => write!(f, "withdrawn {id}"),
            Self::Topology { hash, members } => {
                write!(f, "topology {:016x}", hash.get())?;
                members.iter().try_for_each(|(id, address)| write!(f, " {id}={address}"))
            }
            Self::Halted(suspects) => write!(f, "halted {suspects}"),
            Self::Resumed(suspects) => write!(f, "resumed {suspects}"),
            Self::Isolated => f.write_str("isolated"),
            Self::Connected => f.write_str("connected"),
            Self::Evicted => f.write_str("evicted"),
            Self::Decided(side) => write!(f, "decided {}", name_of_side(*side)),
            Self::Fenced(id) => write!(f, "fenced {id}"),
            Self::Rejoined { old, new } => write!(f, "rejoined {old} {new}"),
            Self::Ended => f.write_str("ended"),
            Self::Answered { grain, activation, turn } => write!(f, "answered {grain} {activation} {turn}"),
            Self::Failed { grain, reason } => write!(f, "failed {grain} {reason}"),
        }
    }
}

impl FromStr for Observation {
    type Err = InvalidObservation;

    fn from_str(line: &str) -> Result<Self, InvalidObservation> {
        parse(line).ok_or_else(|| InvalidObservation(line.to_owned()))
    }
}

fn parse(line: &str) -> Option<Observation> {
    let mut words = line.split_whitespace();
    let read = match words.next()? {
        "started" => Observation::Started(next(&mut words)?),
        "status" => Observation::Status {
            member: next(&mut words)?,
            address: next(&mut words)?,
            from: match words.next()? {
                "-" => None,
                from => Some(status(from)?),
            },
            to: status(words.next()?)?,
        },
        "suspected" => Observation::Suspected {
            member: next(&mut words)?,
            by: next(&mut words)?,
            evidence: words.next().and_then(evidence)?,
        },
        "refuted" => Observation::Refuted(next(&mut words)?),
        "withdrawn" => Observation::Withdrawn(next(&mut words)?),
        "topology" => {
            let hash = TopologyHash::new(u64::from_str_radix(words.next()?, 16).ok()?);
            let member = |word: &str| word.split_once('=').and_then(|(id, at)| Some((id.parse().ok()?, at.to_owned())));
            Observation::Topology { hash, members: words.by_ref().map(member).collect::<Option<_>>()? }
        }
        "halted" => Observation::Halted(next(&mut words)?),
        "resumed" => Observation::Resumed(next(&mut words)?),
        "isolated" => Observation::Isolated,
        "connected" => Observation::Connected,
        "evicted" => Observation::Evicted,
        "decided" => Observation::Decided(words.next().and_then(side)?),
        "fenced" => Observation::Fenced(next(&mut words)?),
        "rejoined" => Observation::Rejoined { old: next(&mut words)?, new: next(&mut words)? },
        "ended" => Observation::Ended,
        "answered" => {
            Observation::Answered { grain: next(&mut words)?, activation: next(&mut words)?, turn: next(&mut words)? }
        }
        "failed" => {
            Observation::Failed { grain: next(&mut words)?, reason: words.by_ref().collect::<Vec<_>>().join(" ") }
        }
        _ => return None,
    };
    words.next().is_none().then_some(read)
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn status(name: &str) -> Option<MemberStatus> {
    use MemberStatus::{Dead, Joining, Leaving, Removed, Suspect, Up};
    [Joining, Up, Leaving, Suspect, Dead, Removed].into_iter().find(|status| status.to_string() == name)
}

const fn name_of(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::ProbeUnanswered => "unanswered",
        Evidence::ConnectionRefused => "refused",
        Evidence::Reported => "reported",
    }
}

fn evidence(name: &str) -> Option<Evidence> {
    use Evidence::{ConnectionRefused, ProbeUnanswered, Reported};
    [ProbeUnanswered, ConnectionRefused, Reported].into_iter().find(|evidence| name_of(*evidence) == name)
}

const fn name_of_side(side: Side) -> &'static str {
    match side {
        Side::This => "this",
        Side::Other => "other",
        Side::Nobody => "none",
    }
}

fn side(name: &str) -> Option<Side> {
    [Side::This, Side::Other, Side::Nobody].into_iter().find(|side| name_of_side(*side) == name)
}

/// A line that is no [`Observation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidObservation(String);

impl fmt::Display for InvalidObservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no observation", self.0)
    }
}

impl std::error::Error for InvalidObservation {}
