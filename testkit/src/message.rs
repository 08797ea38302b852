//! What a [`TestGrain`](crate::TestGrain) understands, and answers.

use prost::Message;

/// Add to the grain's sum; the answer is a [`Total`].
#[derive(Clone, PartialEq, Message)]
pub struct Add {
    /// How much.
    #[prost(int64, tag = "1")]
    pub amount: i64,
}

/// The sum of what was [`Add`]ed to this activation.
#[derive(Clone, PartialEq, Message)]
pub struct Total {
    /// The sum.
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// Say it again; the answer is what was [`Said`]. Also what tests publish.
#[derive(Clone, PartialEq, Message)]
pub struct Say {
    /// What.
    #[prost(string, tag = "1")]
    pub text: String,
}

impl Say {
    /// To say `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

/// What a grain has said, and who it was.
#[derive(Clone, PartialEq, Message)]
pub struct Said {
    /// What it was told to say.
    #[prost(string, tag = "1")]
    pub text: String,
    /// The member that it runs on.
    #[prost(string, tag = "2")]
    pub member: String,
    /// Its activation.
    #[prost(string, tag = "3")]
    pub activation: String,
    /// Messages that this activation has handled, this one included.
    #[prost(uint64, tag = "4")]
    pub turn: u64,
}

/// Wait for [`Probe::release`](crate::Probe::release); the answer is empty text [`Said`].
#[derive(Clone, PartialEq, Message)]
pub struct Wait {}

/// Refuse, with [`FailedPrecondition`](gristmill::ErrorCode::FailedPrecondition) and this text.
#[derive(Clone, PartialEq, Message)]
pub struct Fail {
    /// The error's message.
    #[prost(string, tag = "1")]
    pub text: String,
}

/// Panic.
#[derive(Clone, PartialEq, Message)]
pub struct Panic {}

/// Stop this activation; the answer is empty text [`Said`].
#[derive(Clone, PartialEq, Message)]
pub struct Stop {}

/// Ask another grain to [`Say`] it; the answer is what that one [`Said`].
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// The kind of the other.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// The name of the other.
    #[prost(string, tag = "2")]
    pub identity: String,
    /// What.
    #[prost(string, tag = "3")]
    pub text: String,
}

macro_rules! named {
    ($($message:ident),*) => {
        $(impl prost::Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "gristmill.testkit";
        })*
    };
}

named!(Add, Total, Say, Said, Wait, Fail, Panic, Stop, Forward);
