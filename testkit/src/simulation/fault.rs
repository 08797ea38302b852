//! What is done to a cluster, as data.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use gristmill_core::Timestamp;

use super::network::Host;

/// One thing that goes wrong. What lasts carries its own end, so that leaving out one fault leaves a sound schedule.
///
/// A fault of a host without a process does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The host vanishes with its process: nobody answers for it.
    Crash(Host),
    /// The process is killed; its host refuses connections.
    Kill(Host),
    /// A new process starts on the host, whatever was there before.
    Restart(Host),
    /// The process leaves as it should.
    Leave(Host),
    /// The process stands still: all that comes and all its timers wait for the end.
    Stall(Host, Duration),
    /// The clock runs at this many thousandths of its speed from now on.
    Drift(Host, u32),
    /// The host hears nothing.
    Deaf(Host, Duration),
    /// Nothing is heard of the host.
    Mute(Host, Duration),
    /// Nothing passes from the first to the second.
    Cut(Host, Host, Duration),
    /// These on one side, all others on the other.
    Partition(Vec<Host>, Duration),
    /// This percentage of all messages is lost.
    Loss(u8, Duration),
    /// This percentage of all messages arrives twice.
    Duplicate(u8, Duration),
    /// Up to so much later than usual, each message for itself, so that they overtake each other.
    Delay(Duration, Duration),
    /// This percentage of what the host sends is lost, for ever: a bad card.
    Bad(Host, u8),
    /// The process forges what it says of others.
    Lie(Host, Lie, Duration),
}

/// What a liar says of others, who are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// "They have left", in their own name.
    Left,
    /// "They are as I say, in their newest version", with the greatest incarnation there is.
    Newest,
    /// "I suspect them all."
    Suspect,
    /// "They are dead."
    Dead,
    /// "They have written much since", as much as is believed.
    Ahead,
    /// "They carry as much as all others together", in the version that all know.
    Heavy,
    /// "There are others", who do not exist.
    Invented,
    /// "Those who were dead are forgotten."
    Forgotten,
    /// "They have written this": other values than they have, and keys that they have not, others to each member.
    Written,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Left,
        Self::Newest,
        Self::Suspect,
        Self::Dead,
        Self::Ahead,
        Self::Heavy,
        Self::Invented,
        Self::Forgotten,
        Self::Written,
    ];

    /// Whether it is told in the membership, and not in what members share.
    #[must_use]
    pub const fn is_of_members(self) -> bool {
        !matches!(self, Self::Written)
    }
}

impl Fault {
    /// How long it lasts beyond its beginning.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        match self {
            Self::Crash(_) | Self::Kill(_) | Self::Restart(_) | Self::Leave(_) | Self::Drift(..) | Self::Bad(..) => {
                Duration::ZERO
            }
            Self::Stall(_, lasts)
            | Self::Deaf(_, lasts)
            | Self::Mute(_, lasts)
            | Self::Cut(_, _, lasts)
            | Self::Partition(_, lasts)
            | Self::Loss(_, lasts)
            | Self::Duplicate(_, lasts)
            | Self::Delay(_, lasts)
            | Self::Lie(_, _, lasts) => *lasts,
        }
    }

    pub(crate) fn set_duration(&mut self, shorter: Duration) {
        match self {
            Self::Crash(_) | Self::Kill(_) | Self::Restart(_) | Self::Leave(_) | Self::Drift(..) | Self::Bad(..) => {}
            Self::Stall(_, lasts)
            | Self::Deaf(_, lasts)
            | Self::Mute(_, lasts)
            | Self::Cut(_, _, lasts)
            | Self::Partition(_, lasts)
            | Self::Loss(_, lasts)
            | Self::Duplicate(_, lasts)
            | Self::Delay(_, lasts)
            | Self::Lie(_, _, lasts) => *lasts = shorter,
        }
    }

    /// Whether `core::downing` promises nothing once this has begun: processes that stand still, clocks that run
    /// unequally, messages that are lost inside of a side, lies. P2 holds without.
    pub(crate) const fn excuses(&self) -> bool {
        matches!(
            self,
            Self::Stall(..) | Self::Drift(..) | Self::Loss(..) | Self::Delay(..) | Self::Bad(..) | Self::Lie(..)
        )
    }

    /// The hosts that it names.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        match self {
            Self::Crash(host)
            | Self::Kill(host)
            | Self::Restart(host)
            | Self::Leave(host)
            | Self::Stall(host, _)
            | Self::Drift(host, _)
            | Self::Deaf(host, _)
            | Self::Mute(host, _)
            | Self::Bad(host, _)
            | Self::Lie(host, ..) => vec![*host],
            Self::Cut(from, to, _) => vec![*from, *to],
            Self::Partition(hosts, _) => hosts.clone(),
            Self::Loss(..) | Self::Duplicate(..) | Self::Delay(..) => Vec::new(),
        }
    }
}

/// Faults with their times, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule(pub Vec<(Timestamp, Fault)>);

impl Schedule {
    /// When the last of them is over.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.0.iter().map(|(at, fault)| *at + fault.duration()).max().unwrap_or_default()
    }
}

impl FromIterator<(Timestamp, Fault)> for Schedule {
    fn from_iter<I: IntoIterator<Item = (Timestamp, Fault)>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

/// One fault a line, as [`FromStr`] reads it: `@1500ms partition n0,n2 for 3000ms`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(at, fault)| writeln!(f, "@{}ms {fault}", at.since_origin().as_millis()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = self.duration().as_millis();
        match self {
            Self::Crash(host) => write!(f, "crash {host}"),
            Self::Kill(host) => write!(f, "kill {host}"),
            Self::Restart(host) => write!(f, "restart {host}"),
            Self::Leave(host) => write!(f, "leave {host}"),
            Self::Stall(host, _) => write!(f, "stall {host} for {lasts}ms"),
            Self::Drift(host, rate) => write!(f, "drift {host} {rate}"),
            Self::Deaf(host, _) => write!(f, "deaf {host} for {lasts}ms"),
            Self::Mute(host, _) => write!(f, "mute {host} for {lasts}ms"),
            Self::Cut(from, to, _) => write!(f, "cut {from} {to} for {lasts}ms"),
            Self::Partition(hosts, _) => {
                let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                write!(f, "partition {} for {lasts}ms", hosts.join(","))
            }
            Self::Loss(percent, _) => write!(f, "loss {percent} for {lasts}ms"),
            Self::Duplicate(percent, _) => write!(f, "duplicate {percent} for {lasts}ms"),
            Self::Delay(most, _) => write!(f, "delay {}ms for {lasts}ms", most.as_millis()),
            Self::Bad(host, percent) => write!(f, "bad {host} {percent}"),
            Self::Lie(host, lie, _) => write!(f, "lie {host} {lie:?} for {lasts}ms"),
        }
    }
}

/// A line that is no fault: what was written, nothing else was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoFault(pub String);

impl fmt::Display for NoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no fault: {}", self.0)
    }
}

impl std::error::Error for NoFault {}

impl FromStr for Schedule {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| parse(line).ok_or_else(|| NoFault(line.into()))).collect::<Result<_, _>>().map(Self)
    }
}

fn parse(line: &str) -> Option<(Timestamp, Fault)> {
    let mut words = line.split_whitespace();
    let at = milliseconds(words.next()?.strip_prefix('@')?)?;
    let kind = words.next()?;
    let words: Vec<_> = words.collect();
    let host = |place: usize| words.get(place).and_then(|word| self::host(word));
    let lasts = || words.iter().position(|word| *word == "for").and_then(|place| milliseconds(words.get(place + 1)?));
    let percent = |place: usize| words.get(place)?.parse().ok();
    let fault = match kind {
        "crash" => Fault::Crash(host(0)?),
        "kill" => Fault::Kill(host(0)?),
        "restart" => Fault::Restart(host(0)?),
        "leave" => Fault::Leave(host(0)?),
        "stall" => Fault::Stall(host(0)?, lasts()?),
        "drift" => Fault::Drift(host(0)?, words.get(1)?.parse().ok()?),
        "deaf" => Fault::Deaf(host(0)?, lasts()?),
        "mute" => Fault::Mute(host(0)?, lasts()?),
        "cut" => Fault::Cut(host(0)?, host(1)?, lasts()?),
        "partition" => Fault::Partition(words.first()?.split(',').map(self::host).collect::<Option<_>>()?, lasts()?),
        "loss" => Fault::Loss(percent(0)?, lasts()?),
        "duplicate" => Fault::Duplicate(percent(0)?, lasts()?),
        "delay" => Fault::Delay(milliseconds(words.first()?)?, lasts()?),
        "bad" => Fault::Bad(host(0)?, percent(1)?),
        "lie" => {
            let lie = Lie::ALL.into_iter().find(|lie| Some(&format!("{lie:?}").as_str()) == words.get(1))?;
            Fault::Lie(host(0)?, lie, lasts()?)
        }
        _ => return None,
    };
    Some((Timestamp::new(at), fault))
}

fn host(word: &str) -> Option<Host> {
    word.strip_prefix('n')?.parse().ok().map(Host)
}

fn milliseconds(word: &str) -> Option<Duration> {
    word.strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_as_it_was_written() {
        let (one, other, while_) = (Host(1), Host(22), Duration::from_millis(1500));
        let schedule: Schedule = [
            Fault::Crash(one),
            Fault::Kill(one),
            Fault::Restart(one),
            Fault::Leave(one),
            Fault::Stall(one, while_),
            Fault::Drift(one, 1100),
            Fault::Deaf(one, while_),
            Fault::Mute(one, while_),
            Fault::Cut(one, other, while_),
            Fault::Partition(vec![one, other], while_),
            Fault::Loss(20, while_),
            Fault::Duplicate(20, while_),
            Fault::Delay(while_, while_),
            Fault::Bad(one, 80),
            Fault::Lie(one, Lie::Newest, while_),
        ]
        .into_iter()
        .map(|fault| (Timestamp::from_millis(250), fault))
        .collect();
        assert_eq!(schedule.to_string().parse(), Ok(schedule));
        assert_eq!("@1ms explode n1".parse::<Schedule>(), Err(NoFault("@1ms explode n1".into())));
    }
}
