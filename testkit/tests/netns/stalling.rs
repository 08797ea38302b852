//! Processes that stand still, and clocks that jump.

use std::path::Path;
use std::time::Duration;

use gristmill::MemberStatus;
use gristmill_testkit::Observation;

use crate::{on_hosts, skip};

// proves FT-3: fault 2, shorter than a suspicion
#[test]
fn who_stands_still_for_two_seconds_lives() {
    on_hosts(3, &[], |cluster| {
        cluster.node(3).signal("STOP");
        std::thread::sleep(Duration::from_secs(2));
        cluster.node(3).signal("CONT");
        assert!(cluster.call(1, 3).unwrap().ends_with(" hello"));
        let history = cluster.end(&[1, 2, 3]);
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
    });
}

// proves FT-2, FT-5: fault 2, longer than a suspicion
#[test]
fn who_stands_still_for_too_long_is_told_when_it_wakes_and_joins_again() {
    on_hosts(3, &["--profile", "fast", "--rejoin"], |cluster| {
        let (sleeper, stopped) = (cluster.id(3), cluster.now());
        cluster.node(3).signal("STOP");
        for host in [1, 2] {
            cluster.sees_status(host, sleeper, MemberStatus::Suspect);
            cluster.sees_status(host, sleeper, MemberStatus::Dead);
        }
        cluster.agree(&[1, 2]);
        cluster.node(3).signal("CONT");
        cluster.sees(3, "it stops to serve", |seen| *seen == Observation::Fenced(sleeper));
        cluster.rejoins(3, sleeper);
        let history = cluster.end(&[1, 2, 3]);
        let others = [cluster.name(1), cluster.name(2)];
        let slowest = history.everybody_knows(others, sleeper, stopped, Duration::from_secs(20)).unwrap();
        println!("a member that stood still was known to be gone after {slowest:?}");
        // Who wakes up takes nobody else for dead.
        history.nobody_was_buried_alive([1, 2].map(|host| cluster.name(host))).unwrap();
        cluster.call(1, 3).unwrap();
    });
}

/// Where libfaketime is.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1"];

// proves FT-3: fault 10
#[test]
fn a_wall_clock_that_jumps_by_an_hour_changes_nothing() {
    let Some(library) = FAKETIME.into_iter().find(|path| Path::new(path).exists()) else {
        return skip("there is no libfaketime");
    };
    on_hosts(3, &["--profile", "fast"], |cluster| {
        let file = std::env::temp_dir().join(format!("gristmill-clock-{}", std::process::id()));
        let turn = |by: &str| std::fs::write(&file, by).unwrap();
        turn("+0");
        let environment = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        cluster.node(3).ask("leave").unwrap();
        cluster.spawn_with(3, &environment, &[]);
        cluster.agree(&[1, 2, 3]);
        let clock = |host| cluster.node(host).ask("clock").unwrap().parse::<i64>().unwrap();
        for (by, seconds) in [("+3600", 3600), ("-3600", -3600), ("+0", 0)] {
            turn(by);
            let ahead = clock(3) - clock(1);
            assert!((ahead - seconds).abs() < 60, "the clock does not jump: {ahead}");
            std::thread::sleep(Duration::from_secs(1));
            assert!(cluster.call(1, 3).is_ok() && cluster.call(3, 1).is_ok());
        }
        std::fs::remove_file(&file).unwrap();
        let history = cluster.end(&[1, 2, 3]);
        history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))).unwrap();
    });
}
