use std::path::Path;
use std::time::Duration;

use gristmill_core::membership::Input;
use ractor::ActorRef;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::member_list::MemberListMessage;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(100);

/// Looks once in so many ticks at what the cgroup says.
const TICKS_PER_LOOK: u32 = 10;

/// Tells the membership when this process was kept from running: by a runtime that was busy, a host that was, or a
/// limit of its cgroup. Ends when dropped.
#[derive(Debug)]
pub(super) struct LagWatch(AbortHandle);

impl LagWatch {
    /// `shortest`: what is shorter is not told.
    pub(super) fn start(list: ActorRef<MemberListMessage>, shortest: Duration) -> Self {
        Self(tokio::spawn(watch(list, shortest)).abort_handle())
    }
}

impl Drop for LagWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(list: ActorRef<MemberListMessage>, shortest: Duration) {
    let mut throttled = throttled_time();
    for tick in 1_u32.. {
        let started = Instant::now();
        tokio::time::sleep(TICK).await;
        let mut lag = started.elapsed().saturating_sub(TICK);
        if tick % TICKS_PER_LOOK == 0 {
            let now = throttled_time();
            let stopped = now.zip(throttled).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
            throttled = now;
            // Of a second with some threads stopped the others may have had their share: what the runtime itself has
            // not noticed is no more than that.
            lag = lag.max(stopped.min(TICK * TICKS_PER_LOOK));
        }
        if lag >= shortest && list.cast(MemberListMessage::Membership(Input::Lag { by: lag })).is_err() {
            return;
        }
    }
}

/// For how long the threads of this cgroup were stopped in all, where there is one that says so: version 2, then 1.
fn throttled_time() -> Option<Duration> {
    ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"]
        .iter()
        .find_map(|path| parse(&std::fs::read_to_string(Path::new(path)).ok()?))
}

fn parse(cpu_stat: &str) -> Option<Duration> {
    cpu_stat.lines().find_map(|line| match line.split_once(' ')? {
        ("throttled_usec", value) => value.parse().ok().map(Duration::from_micros),
        ("throttled_time", value) => value.parse().ok().map(Duration::from_nanos),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_throttling_counter_are_read() {
        let version_2 = "usage_usec 900\nnr_periods 4\nnr_throttled 2\nthrottled_usec 2500\n";
        let version_1 = "nr_periods 4\nnr_throttled 2\nthrottled_time 2500000\n";
        assert_eq!(parse(version_2), Some(Duration::from_micros(2500)));
        assert_eq!(parse(version_1), Some(Duration::from_micros(2500)));
        assert_eq!(parse("usage_usec 900\nuser_usec 700\n"), None);
    }
}
