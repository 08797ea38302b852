use std::path::{Path, PathBuf};
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

/// For how long the threads of this process's cgroup were stopped in all, where there is one that says so.
fn throttled_time() -> Option<Duration> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    candidates(&own).iter().find_map(|path| parse(&std::fs::read_to_string(path).ok()?))
}

/// Where the counter may be, by what `/proc/self/cgroup` says: of version 2 in this process's own cgroup, then at the
/// root, which in a container is its own; then of version 1 at the root.
fn candidates(own: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).map(|path| root.join(path));
    own.into_iter().chain([root.to_owned(), root.join("cpu")]).map(|group| group.join("cpu.stat")).collect()
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
    fn the_cgroup_of_the_process_is_looked_at_before_the_root() {
        let candidates = |own| candidates(own).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let root = ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"];
        let own = "/sys/fs/cgroup/system.slice/node.service/cpu.stat";
        assert_eq!(candidates("0::/system.slice/node.service\n"), [own, root[0], root[1]]);
        assert_eq!(candidates("4:memory:/a\n1:cpu:/a\n0::/system.slice/node.service\n"), [own, root[0], root[1]]);
        assert_eq!(candidates("0::/\n"), [root[0], root[0], root[1]], "in a container it is the root");
        assert_eq!(candidates("1:cpu:/a\n"), root);
        assert_eq!(candidates(""), root);
    }

    #[test]
    fn both_versions_of_the_throttling_counter_are_read() {
        let version_2 = "usage_usec 900\nnr_periods 4\nnr_throttled 2\nthrottled_usec 2500\n";
        let version_1 = "nr_periods 4\nnr_throttled 2\nthrottled_time 2500000\n";
        assert_eq!(parse(version_2), Some(Duration::from_micros(2500)));
        assert_eq!(parse(version_1), Some(Duration::from_micros(2500)));
        assert_eq!(parse("usage_usec 900\nuser_usec 700\n"), None);
    }
}
