use std::collections::BTreeMap;
use std::fmt;

use crate::grain::DecodeError;

/// What kind of "no" a grain says. The names are gRPC's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The grain does not know the message.
    Unimplemented,
    /// The message does not decode, or asks for something that makes no sense.
    InvalidArgument,
    /// The grain's state does not allow it.
    FailedPrecondition,
    /// What was asked for does not exist.
    NotFound,
    /// The grain failed.
    Internal,
    /// The grain panicked while it handled the message; part of it may have been done.
    Panicked,
    /// A code of the user's own.
    Other(String),
}

impl ErrorCode {
    /// The code as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::NotFound => "NOT_FOUND",
            Self::Internal => "INTERNAL",
            Self::Panicked => "PANICKED",
            Self::Other(code) => code,
        }
    }
}

impl From<String> for ErrorCode {
    fn from(code: String) -> Self {
        [
            Self::Unimplemented,
            Self::InvalidArgument,
            Self::FailedPrecondition,
            Self::NotFound,
            Self::Internal,
            Self::Panicked,
        ]
        .into_iter()
        .find(|known| known.as_str() == code)
        .unwrap_or(Self::Other(code))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A grain's own error: its answer to the caller, never retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct GrainError {
    /// What kind of error.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: BTreeMap<String, String>,
}

impl GrainError {
    /// An error without details.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: BTreeMap::new() }
    }

    /// [`ErrorCode::Internal`], with what `cause` says.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, cause.to_string())
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.insert(key.into(), value.into());
        self
    }
}

impl From<DecodeError> for GrainError {
    fn from(error: DecodeError) -> Self {
        let code = match error {
            DecodeError::OtherMessage { .. } => ErrorCode::Unimplemented,
            DecodeError::Malformed { .. } => ErrorCode::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}
