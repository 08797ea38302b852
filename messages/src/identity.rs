use alloc::string::String;
use core::fmt;

use crate::{ClusterIdentity, StableHasher};

/// A [`ClusterIdentity`] that names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The kind is empty.
    #[error("the kind is empty")]
    EmptyKind,
    /// The identity is empty.
    #[error("the identity is empty")]
    EmptyIdentity,
    /// Kind and identity together exceed [`ClusterIdentity::MAX_BYTES`].
    #[error("kind and identity have {0} bytes, {max} at most", max = ClusterIdentity::MAX_BYTES)]
    TooLong(usize),
}

impl ClusterIdentity {
    /// Bytes of kind and identity together, at most.
    pub const MAX_BYTES: usize = 1024;

    /// Names the grain `identity` of `kind`.
    pub fn new(kind: impl Into<String>, identity: impl Into<String>) -> Self {
        Self { kind: kind.into(), identity: identity.into() }
    }

    /// Says why this names no grain.
    ///
    /// # Errors
    /// An empty kind, an empty identity, or more than [`Self::MAX_BYTES`].
    pub const fn validate(&self) -> Result<(), InvalidIdentity> {
        let bytes = self.kind.len().saturating_add(self.identity.len());
        if self.kind.is_empty() {
            Err(InvalidIdentity::EmptyKind)
        } else if self.identity.is_empty() {
            Err(InvalidIdentity::EmptyIdentity)
        } else if bytes > Self::MAX_BYTES {
            Err(InvalidIdentity::TooLong(bytes))
        } else {
            Ok(())
        }
    }

    /// FNV-1a 64 of kind and identity, each preceded by its length: the key of placement, equal on every member.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        StableHasher::new().field(self.kind.as_bytes()).field(self.identity.as_bytes()).finish()
    }
}

impl<K: Into<String>, I: Into<String>> From<(K, I)> for ClusterIdentity {
    fn from((kind, identity): (K, I)) -> Self {
        Self::new(kind, identity)
    }
}

impl From<&Self> for ClusterIdentity {
    fn from(identity: &Self) -> Self {
        identity.clone()
    }
}

impl fmt::Display for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_names_nothing_is_refused() {
        assert_eq!(ClusterIdentity::new("", "a").validate(), Err(InvalidIdentity::EmptyKind));
        assert_eq!(ClusterIdentity::new("a", "").validate(), Err(InvalidIdentity::EmptyIdentity));
        let long = "x".repeat(ClusterIdentity::MAX_BYTES);
        assert_eq!(ClusterIdentity::new("k", long).validate(), Err(InvalidIdentity::TooLong(1025)));
        assert_eq!(ClusterIdentity::new("greeter", "alice").validate(), Ok(()));
    }

    #[test]
    fn dots_and_slashes_do_not_make_two_identities_one() {
        assert_ne!(ClusterIdentity::new("a.b", "c").stable_hash(), ClusterIdentity::new("a", "b.c").stable_hash());
        assert_ne!(ClusterIdentity::new("a/b", "c").stable_hash(), ClusterIdentity::new("a", "b/c").stable_hash());
    }
}
