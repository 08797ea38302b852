use alloc::string::String;
use core::fmt;

use prost::Name;

/// The full name of a prost message, as `package.Name`: from this process's code, or from the wire.
///
/// A typed call on this node compares and carries it without allocating.
#[derive(Debug, Clone)]
pub enum MessageName {
    /// A type of this process.
    Known {
        /// Its package, may be empty.
        package: &'static str,
        /// Its name, with `.` between nested types.
        name: &'static str,
    },
    /// What a peer sent.
    Received(String),
}

impl MessageName {
    /// The name of `M`.
    #[must_use]
    pub const fn of<M: Name>() -> Self {
        Self::Known { package: M::PACKAGE, name: M::NAME }
    }

    /// Whether this is the name of `M`.
    #[must_use]
    pub fn is<M: Name>(&self) -> bool {
        match self {
            Self::Known { package, name } => same(name, M::NAME) && same(package, M::PACKAGE),
            Self::Received(full) => {
                let rest = if M::PACKAGE.is_empty() {
                    Some(full.as_str())
                } else {
                    full.strip_prefix(M::PACKAGE).and_then(|rest| rest.strip_prefix('.'))
                };
                rest == Some(M::NAME)
            }
        }
    }

    /// The full name as it is sent.
    #[must_use]
    pub fn into_full(self) -> String {
        match self {
            Self::Known { package: "", name } => name.into(),
            Self::Known { package, name } => {
                let mut full = String::with_capacity(package.len() + 1 + name.len());
                full.push_str(package);
                full.push('.');
                full.push_str(name);
                full
            }
            Self::Received(full) => full,
        }
    }
}

/// Mostly they are the same constant.
fn same(one: &'static str, other: &'static str) -> bool {
    core::ptr::eq(one, other) || one == other
}

impl fmt::Display for MessageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { package: "", name } => f.write_str(name),
            Self::Known { package, name } => write!(f, "{package}.{name}"),
            Self::Received(full) => f.write_str(full),
        }
    }
}

impl From<String> for MessageName {
    fn from(full: String) -> Self {
        Self::Received(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ActivationRequest, ActivationResponse};
    use alloc::string::ToString;

    #[test]
    fn a_known_and_a_received_name_are_recognised_alike() {
        let known = MessageName::of::<ActivationRequest>();
        let received = MessageName::from(ActivationRequest::full_name());
        for name in [&known, &received] {
            assert!(name.is::<ActivationRequest>());
            assert!(!name.is::<ActivationResponse>());
            assert_eq!(name.to_string(), "cluster.ActivationRequest");
        }
        assert_eq!(known.into_full(), ActivationRequest::full_name());
    }
}
