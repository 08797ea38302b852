//! A member as every machine sees it.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU32;

use gristmill_messages::{InvalidId, MemberId, cluster};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text; a clone shares it.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text! {
    /// Where a member listens, as `host:port`. An attribute of a member, never its identity.
    Address
}
impl Address {
    /// Whether it is `host:port`, with the port as it is written in decimal: so an address is the same after it was
    /// taken apart and put together.
    #[must_use]
    pub fn is_host_and_port(&self) -> bool {
        self.as_str().rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|number| number.to_string() == port)
        })
    }
}

text! {
    /// The name of a kind of grain.
    KindName
}

/// The state of a member, as one node sees it.
///
/// | state | legal next states |
/// | --- | --- |
/// | `Joining` | `Up`, `Leaving`, `Suspect`, `Dead`, `Removed` |
/// | `Up` | `Leaving`, `Suspect`, `Dead`, `Removed` |
/// | `Leaving` | `Suspect`, `Dead`, `Removed` |
/// | `Suspect` | what it was before (refuted), `Leaving`, `Dead`, `Removed` |
/// | `Dead` | `Removed`; what it was before (the verdict stood alone and was withdrawn) |
/// | `Removed` | none |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberStatus {
    /// Its join was accepted; nobody has proven yet that it can be reached.
    Joining,
    /// Proven alive: owns keys.
    Up,
    /// On its way out: serves what it has, owns no keys.
    Leaving,
    /// Did not answer probes; owns its keys until it refutes or is declared dead.
    Suspect,
    /// Declared dead: quarantined, owns nothing. It comes back under this id only when the verdict is withdrawn.
    Dead,
    /// Gone, by its own word or after its quarantine.
    Removed,
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Leaving => "leaving",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Removed => "removed",
        })
    }
}

/// What a topology tells of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub id: MemberId,
    /// Where it listens.
    pub address: Address,
    /// What it hosts.
    pub kinds: Arc<BTreeSet<KindName>>,
    /// Its share of the keys relative to other members.
    pub weight: NonZeroU32,
}

impl Member {
    /// A member of weight 1.
    pub fn new(id: MemberId, address: impl Into<Address>, kinds: impl IntoIterator<Item = KindName>) -> Self {
        Self { id, address: address.into(), kinds: Arc::new(kinds.into_iter().collect()), weight: NonZeroU32::MIN }
    }
}

impl From<&Member> for cluster::Member {
    fn from(member: &Member) -> Self {
        let address = member.address.as_str();
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        Self {
            host: host.into(),
            port: port.parse().unwrap_or(0),
            id: member.id.to_string(),
            kinds: member.kinds.iter().map(ToString::to_string).collect(),
            weight: member.weight.get(),
        }
    }
}

impl TryFrom<cluster::Member> for Member {
    type Error = InvalidId;

    fn try_from(member: cluster::Member) -> Result<Self, InvalidId> {
        Ok(Self {
            id: member.id.parse()?,
            address: alloc::format!("{}:{}", member.host, member.port).into(),
            kinds: Arc::new(member.kinds.into_iter().map(KindName::from).collect()),
            weight: NonZeroU32::new(member.weight).unwrap_or(NonZeroU32::MIN),
        })
    }
}
