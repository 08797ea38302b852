//! A grain with a state: a sum that never falls below zero.

use gristmill::{Call, ErrorCode, Grain, GrainContext, GrainError, Kind, Reply};

/// The kind `tally`, to be hosted by a member.
pub(crate) fn kind() -> Kind {
    Kind::new("tally", Tally::default)
}

#[derive(Default)]
struct Tally {
    sum: i64,
}

impl Grain for Tally {
    async fn receive(&mut self, call: Call<'_>, context: &GrainContext) -> Result<Reply, GrainError> {
        let Add { amount } = call.decode()?;
        let sum = self.sum.saturating_add(amount);
        if sum < 0 {
            return Err(GrainError::new(ErrorCode::FailedPrecondition, format!("there are only {}", self.sum)));
        }
        self.sum = sum;
        let total = Total { sum };
        // Whoever listens is told. A grain may call grains, and a topic is one.
        context.cluster().publish(crate::TOPIC, total.clone()).await.map_err(GrainError::internal)?;
        Reply::message(&total)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Add {
    #[prost(int64, tag = "1")]
    pub(crate) amount: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Total {
    #[prost(int64, tag = "1")]
    pub(crate) sum: i64,
}

impl prost::Name for Add {
    const PACKAGE: &'static str = "example";
    const NAME: &'static str = "Add";
}

impl prost::Name for Total {
    const PACKAGE: &'static str = "example";
    const NAME: &'static str = "Total";
}
