//! A process that stands still for a minute.

use std::time::{Duration, Instant};

use gristmill::MemberStatus;
use gristmill_testkit::Observation;

use crate::on_hosts;

/// How long it sleeps: until the others have forgotten most of what they knew of it.
const A_MINUTE: Duration = Duration::from_secs(60);

// proves FT-2, FT-5, FT-6, FT-8: fault 2, for a minute; its grains have moved when it wakes
#[test]
fn who_wakes_after_a_minute_stops_to_serve_at_once_and_joins_again() {
    on_hosts(3, &["--rejoin"], |cluster| {
        let (sleeper, there) = (cluster.id(3), cluster.lab.address(3));
        let grain = cluster.identity(3, 3);
        let call = |host| cluster.node(host).ask(&format!("call echo {grain} 20000 hello")).unwrap();
        assert_eq!(call(3), format!("{there} 1 hello"));
        cluster.node(3).signal("STOP");
        let asleep = Instant::now();
        for host in [1, 2] {
            cluster.sees_status(host, sleeper, MemberStatus::Dead);
        }
        cluster.agree(&[1, 2]);
        assert!(call(1).ends_with(" 1 hello") && call(2).ends_with(" 2 hello"), "it has moved");
        std::thread::sleep(A_MINUTE.saturating_sub(asleep.elapsed()));
        let woken = cluster.now();
        cluster.node(3).signal("CONT");
        cluster.sees(3, "it stops to serve", |seen| *seen == Observation::Fenced(sleeper));
        let fenced = cluster.eventually("when that was", |history| {
            history.entries().iter().find(|entry| entry.seen == Observation::Fenced(sleeper)).map(|entry| entry.at)
        });
        println!("it stopped to serve {:?} after it woke", fenced - woken);
        cluster.sees(3, "because it was told", |seen| *seen == Observation::Evicted);
        cluster.rejoins(3, sleeper);
        let history = cluster.end(&[1, 2, 3]);
        history.nobody_was_buried_alive([1, 2].map(|host| cluster.name(host))).unwrap();
        // What it remembers of its grain is gone: where it lives now is for all three the same.
        let answers = [1, 2, 3].map(call);
        let member = |answer: &String| answer.split(' ').next().unwrap().to_owned();
        assert!(answers.iter().all(|answer| member(answer) == member(&answers[0])), "{answers:?}");
    });
}
