use core::time::Duration;

/// Counted since the start of a machine, unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members that were pinged to see whether they live.
    pub probes: u64,
    /// Of these, the pings that were not answered in time.
    pub unanswered: u64,
    /// Of these, the members that others reached.
    pub reached_by_others: u64,
    /// Probes that failed in the end.
    pub failed: u64,
    /// Accusations that this node raised.
    pub accusations: u64,
    /// Suspicions that this node knew of and that were refuted.
    pub refuted: u64,
    /// Suspicions of this node that it refuted.
    pub refuted_by_me: u64,
    /// Records that were not believed: [`Event::TransitionRefused`](super::Event::TransitionRefused), of which only
    /// some are events when there are many.
    pub refused: u64,
    /// Comparisons of tables that this node began.
    pub comparisons: u64,
    /// Of the probe that was answered last.
    pub round_trip: Option<Duration>,
    /// Suspects now.
    pub suspects: usize,
    /// How little this node trusts its own word now: 0 to 8. Its probes take `1 + health` times as long.
    pub health: u32,
}
