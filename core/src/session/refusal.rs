use alloc::string::String;
use core::fmt;

use gristmill_messages::remote;
use gristmill_messages::remote::connect_response;

/// Characters of a refusal's detail that are believed and sent, at most.
const MAX_DETAIL: usize = 256;

/// Why one side does not want the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Refusal {
    /// The reason.
    pub kind: RefusalKind,
    /// For humans; at most 256 characters.
    pub detail: String,
}

/// The reason of a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// No protocol version in common. Permanent.
    Version,
    /// Another cluster. Permanent.
    ClusterName,
    /// Another secret. Permanent.
    Secret,
    /// The member is quarantined or was declared dead: it must come back under a new `MemberId`. Permanent.
    Blocked,
    /// A later process took the member's place. Permanent.
    Superseded,
    /// The frame was not the one expected, or its content makes no sense. Permanent: it is a defect.
    Malformed,
    /// Another member than the expected one answers here, or the node itself. Permanent for this expectation.
    WrongMember,
    /// The node is on its way out. What starts in its place may accept.
    ShuttingDown,
    /// The node has too many connections. Retry with backoff.
    Overloaded,
    /// A reason that this version does not know. Retry with backoff.
    Other,
}

impl RefusalKind {
    /// Whether a retry with the same configuration and the same `MemberId` is pointless.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        !matches!(self, Self::ShuttingDown | Self::Overloaded | Self::Other)
    }
}

impl Refusal {
    /// A refusal with the first 256 characters of `detail`.
    pub fn new(kind: RefusalKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: shortened(detail) }
    }
}

impl fmt::Display for RefusalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "no protocol version in common",
            Self::ClusterName => "another cluster",
            Self::Secret => "another secret",
            Self::Blocked => "blocked",
            Self::Superseded => "superseded",
            Self::Malformed => "malformed handshake",
            Self::WrongMember => "another member",
            Self::ShuttingDown => "shutting down",
            Self::Overloaded => "overloaded",
            Self::Other => "refused",
        })
    }
}

impl From<RefusalKind> for connect_response::Refusal {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Version => Self::Version,
            RefusalKind::ClusterName => Self::ClusterName,
            RefusalKind::Secret => Self::Secret,
            RefusalKind::Blocked => Self::Blocked,
            RefusalKind::Superseded => Self::Superseded,
            RefusalKind::Malformed => Self::Malformed,
            RefusalKind::WrongMember => Self::WrongMember,
            RefusalKind::ShuttingDown => Self::ShuttingDown,
            RefusalKind::Overloaded | RefusalKind::Other => Self::Overloaded,
        }
    }
}

impl From<Refusal> for remote::ConnectResponse {
    fn from(refusal: Refusal) -> Self {
        Self {
            blocked: refusal.kind == RefusalKind::Blocked,
            refusal: connect_response::Refusal::from(refusal.kind).into(),
            detail: refusal.detail,
            ..Self::default()
        }
    }
}

/// What a peer's answer refuses; `None` when it accepts.
pub(super) fn refusal_of(response: &remote::ConnectResponse) -> Option<Refusal> {
    use connect_response::Refusal as Wire;
    let kind = match Wire::try_from(response.refusal) {
        Ok(Wire::None) if response.blocked => RefusalKind::Blocked,
        Ok(Wire::None) => return None,
        Ok(Wire::Version) => RefusalKind::Version,
        Ok(Wire::ClusterName) => RefusalKind::ClusterName,
        Ok(Wire::Secret) => RefusalKind::Secret,
        Ok(Wire::Blocked) => RefusalKind::Blocked,
        Ok(Wire::Superseded) => RefusalKind::Superseded,
        Ok(Wire::Malformed) => RefusalKind::Malformed,
        Ok(Wire::WrongMember) => RefusalKind::WrongMember,
        Ok(Wire::ShuttingDown) => RefusalKind::ShuttingDown,
        Ok(Wire::Overloaded) => RefusalKind::Overloaded,
        Err(_) => RefusalKind::Other,
    };
    Some(Refusal::new(kind, &response.detail))
}

fn shortened(detail: impl fmt::Display) -> String {
    alloc::format!("{detail}").chars().take(MAX_DETAIL).collect()
}
