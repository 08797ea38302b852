use super::*;

/// Reads lines `SECOND OBSERVER OBSERVATION`, in which ids are one digit.
fn history(lines: &[&str]) -> History {
    let mut history = History::new();
    for line in lines {
        let (at, rest) = line.split_once(' ').unwrap();
        let (by, seen) = rest.split_once(' ').unwrap();
        let long = |word: &str| match word.split_once('=') {
            Some((id, address)) => format!("{id:0>32}={address}"),
            None if word.len() == 1 && word != "-" => format!("{word:0>32}"),
            None => word.to_owned(),
        };
        let seen = seen.split(' ').map(long).collect::<Vec<_>>().join(" ");
        history.record(Duration::from_secs(at.parse().unwrap()), by, seen.parse().unwrap());
    }
    history
}

fn broken<T: fmt::Debug>(checked: Result<T, Violation>) -> Rule {
    checked.expect_err("must be seen").rule
}

const B: MemberId = MemberId::new(2);

#[test]
fn a_life_as_it_should_be_breaks_no_rule() {
    let history = history(&[
        "0 a started 1",
        "0 a status 2 b:1 - joining",
        "1 a status 2 b:1 joining up",
        "1 a topology 00000000000000aa 1=a:1 2=b:1",
        "2 a suspected 2 1 unanswered",
        "2 a status 2 b:1 up suspect",
        "3 a status 2 b:1 suspect up",
        "4 a status 2 b:1 up suspect",
        "6 a status 2 b:1 suspect dead",
        "6 a topology 00000000000000bb 1=a:1",
        "9 a status 2 b:1 dead removed",
        "9 a topology 00000000000000cc 1=a:1 3=b:1",
    ]);
    assert_eq!(history.is_monotone(Duration::MAX), Ok(()));
    assert_eq!(history.nobody_was_buried_alive(["a"]), Ok(()));
    assert_eq!(history.learned("a", B, Duration::from_secs(2)), Some(Duration::from_secs(6)));
}

#[test]
fn who_comes_back_from_the_dead_is_seen() {
    let dead = "1 a status 2 b:1 up dead";
    for then in ["2 a status 2 b:1 dead up", "2 a status 2 b:1 - joining", "2 a status 2 b:1 suspect removed"] {
        assert_eq!(broken(history(&[dead, then]).is_monotone(Duration::MAX)), Rule::Monotone, "{then}");
    }
    let topologies = ["1 a topology aa 1=a:1 2=b:1", "2 a topology bb 1=a:1", "3 a topology aa 1=a:1 2=b:1"];
    assert_eq!(broken(history(&topologies).is_monotone(Duration::MAX)), Rule::Monotone);
    assert_eq!(broken(history(&["1 a topology aa 1=b:1 2=b:1"]).is_monotone(Duration::MAX)), Rule::Monotone);
}

#[test]
fn another_life_of_a_node_remembers_nothing_of_the_one_before() {
    let dead = "1 a status 2 b:1 up dead";
    let both =
        history(&[dead, "2 a fenced 1", "2 a status 3 c:1 up suspect", "3 a rejoined 1 4", "4 a status 2 b:1 - up"]);
    assert_eq!(both.is_monotone(Duration::MAX), Ok(()));
    let same = history(&["3 a rejoined 1 4", dead, "4 a status 2 b:1 - up"]);
    assert_eq!(broken(same.is_monotone(Duration::MAX)), Rule::Monotone);
}

#[test]
fn who_was_removed_may_be_met_again_when_it_is_forgotten() {
    let met = history(&[
        "1 a topology aa 1=a:1 2=b:1",
        "1 a status 2 b:1 up dead",
        "1 a topology bb 1=a:1",
        "2 a status 2 b:1 dead removed",
        "9 a status 2 b:1 - up",
        "9 a topology aa 1=a:1 2=b:1",
    ]);
    assert_eq!(met.is_monotone(Duration::from_secs(7)), Ok(()));
    assert_eq!(broken(met.is_monotone(Duration::from_secs(8))), Rule::Monotone);
}

#[test]
fn whose_verdict_is_withdrawn_may_come_back_once() {
    let told = ["1 a topology aa 1=a:1 2=b:1", "1 a status 2 b:1 up dead", "1 a topology bb 1=a:1"];
    let back = ["3 a status 2 b:1 dead up", "3 a topology aa 1=a:1 2=b:1"];
    let withdrawn = [told[0], told[1], told[2], "2 a withdrawn 2", back[0], back[1]];
    assert_eq!(history(&withdrawn).is_monotone(Duration::MAX), Ok(()));
    let again = ["4 a status 2 b:1 up dead", "5 a status 2 b:1 dead up"];
    let twice = [&withdrawn[..], &again].concat();
    assert_eq!(broken(history(&twice).is_monotone(Duration::MAX)), Rule::Monotone);
    assert_eq!(broken(history(&[told[0], told[2], back[1]]).is_monotone(Duration::MAX)), Rule::Monotone);
}

#[test]
fn who_is_buried_alive_is_seen() {
    let both = ["0 a started 1", "0 b started 2"];
    for then in ["1 a status 2 b:1 suspect dead", "1 b evicted", "1 b fenced 2"] {
        let buried = history(&[both[0], both[1], then]);
        assert_eq!(broken(buried.nobody_was_buried_alive(["b"])), Rule::Accurate, "{then}");
        assert_eq!(buried.nobody_was_buried_alive(["a"]), Ok(()));
    }
    assert_eq!(broken(history(&both).nobody_was_buried_alive(["c"])), Rule::Accurate, "it has never started");
}

#[test]
fn who_was_buried_alive_and_has_joined_again_is_seen() {
    let lives = ["0 a started 1", "0 b started 2", "1 a status 2 b:1 suspect dead", "2 b rejoined 2 4"];
    assert_eq!(broken(history(&lives).nobody_was_buried_alive(["a", "b"])), Rule::Accurate);
    let second = ["0 b started 2", "2 b rejoined 2 4", "3 a status 4 b:1 suspect dead"];
    assert_eq!(broken(history(&second).nobody_was_buried_alive(["b"])), Rule::Accurate);
    // One that was killed, and the process that was started in its place.
    let successor = ["0 b started 2", "1 a status 2 b:1 suspect dead", "2 b' started 4"];
    assert_eq!(history(&successor).nobody_was_buried_alive(["b'"]), Ok(()));
}

#[test]
fn who_does_not_know_of_a_death_is_seen() {
    let history = history(&["3 a status 2 b:1 suspect dead", "4 c topology aa 1=a:1"]);
    let knows = |observers: &[&'static str], seconds| {
        history.everybody_knows(observers.iter().copied(), B, Duration::from_secs(2), Duration::from_secs(seconds))
    };
    assert_eq!(knows(&["a", "c"], 2), Ok(Duration::from_secs(2)));
    assert_eq!(broken(knows(&["a", "c"], 1)), Rule::Complete, "too late");
    assert_eq!(broken(knows(&["a", "d"], 9)), Rule::Complete, "never");
}

#[test]
fn who_does_not_agree_at_the_end_is_seen() {
    let one = ["1 a topology aa 1=a:1 2=b:1", "1 b topology aa 1=a:1 2=b:1"];
    assert_eq!(history(&one).all_agree(["a", "b"]), Ok(()));
    assert_eq!(broken(history(&one).all_agree(["a", "c"])), Rule::Agreement);
    let later = [one[0], one[1], "2 b topology bb 2=b:1"];
    assert_eq!(broken(history(&later).all_agree(["a", "b"])), Rule::Agreement);
    let other_hash = [one[0], "1 b topology ab 1=a:1 2=b:1"];
    assert_eq!(broken(history(&other_hash).all_agree(["a", "b"])), Rule::Agreement);
}

#[test]
fn who_takes_over_too_early_is_seen() {
    let both = "1 a topology aa 1=a:1 2=b:1";
    let alone = |at| format!("{at} a topology bb 1=a:1");
    let ahead = |at| history(&[both, "5 b fenced 2", &alone(at)]).was_fenced_before_takeover(B);
    assert_eq!(ahead(7), Ok(Duration::from_secs(2)));
    assert_eq!(broken(history(&[both, &alone(4), "5 b fenced 2"]).was_fenced_before_takeover(B)), Rule::Fenced);
    assert_eq!(broken(history(&[both, &alone(7)]).was_fenced_before_takeover(B)), Rule::Fenced, "never");
    let own = history(&["1 b topology aa 1=a:1 2=b:1", "2 b topology bb 1=a:1", "5 b fenced 2"]);
    assert_eq!(own.was_fenced_before_takeover(B), Ok(Duration::MAX), "nobody took over");
}

#[test]
fn a_turn_that_is_answered_twice_or_out_of_order_is_seen() {
    let turns = ["1 a answered g/1 x/1 1", "2 a answered g/1 x/1 2"];
    assert_eq!(history(&turns).no_turn_was_answered_twice(), Ok(()));
    for then in ["3 b answered g/1 x/1 2", "3 a answered g/1 x/1 1"] {
        assert_eq!(broken(history(&[turns[0], turns[1], then]).no_turn_was_answered_twice()), Rule::Once, "{then}");
    }
}

#[test]
fn every_line_is_read_as_it_was_written() {
    let id = "0123456789abcdef0123456789abcdef";
    for line in [
        format!("started {id}"),
        format!("status {id} 10.0.0.1:70 - joining"),
        format!("status {id} 10.0.0.1:70 suspect dead"),
        format!("suspected {id} {id} refused"),
        format!("refuted {id}"),
        format!("withdrawn {id}"),
        format!("topology 00000000000000ff {id}=10.0.0.1:70"),
        "topology 00000000000000ff".into(),
        "halted 4".into(),
        "resumed 0".into(),
        "isolated".into(),
        "connected".into(),
        "evicted".into(),
        "decided other".into(),
        format!("fenced {id}"),
        format!("rejoined {id} {id}"),
        "ended".into(),
        "answered echo/a x/1 3".into(),
        "failed echo/a no way".into(),
    ] {
        assert_eq!(line.parse::<Observation>().map(|seen| seen.to_string()), Ok(line));
    }
    for line in ["", "dead", "started", "started 12", "evicted now", "status a b c d"] {
        assert!(line.parse::<Observation>().is_err(), "{line}");
    }
}
