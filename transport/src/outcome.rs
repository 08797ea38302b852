use std::collections::BTreeMap;

use bytes::Bytes;
use gristmill_messages::MessageName;
use gristmill_messages::cluster::{GrainErrorResponse, GrainResponse};
use gristmill_messages::remote::{self, not_delivered::Reason, response};

/// What the receiving side says of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It ran, and this is its answer.
    Response {
        /// The type of the answer.
        message: MessageName,
        /// The answer, encoded.
        data: Bytes,
    },
    /// It ran, and this is its "no". A retry would meet the same.
    Rejected {
        /// The grain's own code.
        code: String,
        /// For humans.
        message: String,
        /// The grain's own details; with code and message 64 KiB at most.
        details: BTreeMap<String, String>,
    },
    /// It surely did not run, nothing changed. A retry is safe; whether it helps depends on the reason.
    NotDelivered {
        /// Why.
        reason: Reason,
        /// For humans.
        detail: String,
    },
    /// It may have run. A retry is safe only when running twice is.
    UnknownOutcome {
        /// For humans.
        detail: String,
    },
}

impl Outcome {
    /// It surely did not run.
    pub fn not_delivered(reason: Reason, detail: impl Into<String>) -> Self {
        Self::NotDelivered { reason, detail: detail.into() }
    }

    /// It may have run.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self::UnknownOutcome { detail: detail.into() }
    }
}

impl From<Outcome> for response::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Response { message, data } => {
                Self::Response(GrainResponse { message_data: data, message_type_name: message.into_full() })
            }
            Outcome::Rejected { code, message, details } => {
                Self::Rejected(GrainErrorResponse { reason: code, message, metadata: details })
            }
            Outcome::NotDelivered { reason, detail } => {
                Self::NotDelivered(remote::NotDelivered { reason: reason.into(), detail })
            }
            Outcome::UnknownOutcome { detail } => Self::UnknownOutcome(remote::UnknownOutcome { detail }),
        }
    }
}

impl From<response::Outcome> for Outcome {
    fn from(outcome: response::Outcome) -> Self {
        match outcome {
            response::Outcome::Response(GrainResponse { message_data, message_type_name }) => {
                Self::Response { message: message_type_name.into(), data: message_data }
            }
            response::Outcome::Rejected(GrainErrorResponse { reason, message, metadata }) => {
                Self::Rejected { code: reason, message, details: metadata }
            }
            response::Outcome::NotDelivered(remote::NotDelivered { reason, detail }) => {
                Self::NotDelivered { reason: Reason::try_from(reason).unwrap_or_default(), detail }
            }
            response::Outcome::UnknownOutcome(remote::UnknownOutcome { detail }) => Self::UnknownOutcome { detail },
        }
    }
}

impl From<Option<response::Outcome>> for Outcome {
    /// A response of no known kind says that the request arrived, and nothing else.
    fn from(outcome: Option<response::Outcome>) -> Self {
        outcome.map_or_else(|| Self::unknown("the peer's answer is of no known kind"), Self::from)
    }
}
