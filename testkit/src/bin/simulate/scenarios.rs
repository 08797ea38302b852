//! The scenarios by name: each runs one setting and reports on it.

use std::time::{Duration, Instant};

use gristmill_core::Timestamp;
use gristmill_testkit::simulation::foca::{self, Profile};
use gristmill_testkit::simulation::plot::{Line, Plot, distribution};
use gristmill_testkit::simulation::report::{Report, Row, bytes, seconds};
use gristmill_testkit::simulation::scenario::{self, Detection, Endurance, Going, Setting, Traffic};
use gristmill_testkit::simulation::{Campaign, Fault, Host, Lie, Planted, Schedule, Trial, percentile};

use crate::options::Options;
use crate::targets;

type Scenario = fn(&Options) -> Report;

pub(crate) const ALL: [(&str, &str, Scenario); 16] = [
    ("crash", "a host vanishes with its process: when do all know?", crash),
    ("kill", "a process is killed and its host refuses connections: when do all know?", kill),
    ("leave", "a node leaves as it should: when do all know?", leave),
    ("join", "a node joins: when do all hold it for up?", join),
    ("steady", "nothing happens: what is sent?", steady),
    ("loss", "messages are lost: who is suspected, who dies?", loss),
    ("stall", "8 of 128 nodes stand still for 16 s", stall),
    ("partition", "half of the nodes are cut off for a minute", partition),
    ("deaf", "one node of a hundred hears nothing", deaf),
    ("bad", "one node of a hundred loses 80 % of what it sends", bad),
    ("liar", "one node forges what it says of others", liar),
    ("cliff", "more is suspected than can be told", cliff),
    ("chaos", "random schedules of all faults, checked at each step", chaos),
    ("splits", "the same with partitions and without what excuses whoever serves on after one", splits),
    ("scale", "a large cluster loses one node of a hundred at once", scale),
    (
        "report",
        "all figures beside their targets; takes long (--quick: a tenth; --only killed,crashed,changed,steady,stalled,cut,lied,planted,scaled,beyond,chaos,accuracy)",
        targets::report,
    ),
];

fn title(name: &str, setting: &Setting) -> String {
    format!(
        "{name}: {} nodes, {} trials from seed {}, {} % loss",
        setting.nodes,
        setting.trials,
        setting.seed,
        setting.loss * 100.0
    )
}

fn crash(options: &Options) -> Report {
    gone("crash", options, Going::Crash)
}

fn kill(options: &Options) -> Report {
    gone("kill", options, Going::Kill)
}

fn leave(options: &Options) -> Report {
    gone("leave", options, Going::Leave)
}

fn gone(name: &str, options: &Options, going: Going) -> Report {
    let setting = options.setting(100, 100);
    let mut report = Report::new(title(name, &setting));
    let ours = scenario::going(&setting, going);
    let profile = if options.fast { Profile::Fast } else { Profile::Lan };
    let seeds = setting.seed..setting.seed + setting.trials;
    let leaves = going == Going::Leave;
    let foca = options.foca.then(|| foca::going(setting.nodes, seeds, setting.loss, profile, leaves));
    detection_rows(&mut report, &ours, foca.as_ref());
    traffic_rows(&mut report, &ours.traffic, foca.as_ref().map(|foca| &foca.traffic));
    let line = |name: &str, values: &[Duration]| distribution(name, values.iter().map(Duration::as_secs_f64));
    let mut lines = vec![
        line("first suspicion", &ours.suspected),
        line("first to know", &ours.first),
        line("each node", &ours.each),
        line("all know", &ours.all),
    ];
    lines.extend(foca.map(|foca| line("all know (foca)", &foca.all)));
    report.plots.push(Plot { title: report.title.clone(), x: "seconds".into(), y: "part".into(), lines });
    report
}

fn join(options: &Options) -> Report {
    let setting = options.setting(100, 100);
    let mut report = Report::new(title("join", &setting));
    let ours = scenario::joining(&setting);
    detection_rows(&mut report, &ours, None);
    let rounds = ours.all_within(0.99).as_secs_f64() / setting.membership.gossip_interval.as_secs_f64();
    report.row(Row::new("gossip rounds until all know, p99", format!("{rounds:.1}")));
    let line = |name: &str, values: &[Duration]| distribution(name, values.iter().map(Duration::as_secs_f64));
    let lines = vec![line("each node", &ours.each), line("all know", &ours.all)];
    report.plots.push(Plot { title: report.title.clone(), x: "seconds".into(), y: "part".into(), lines });
    report
}

fn detection_rows(report: &mut Report, ours: &Detection, foca: Option<&Detection>) {
    report.broken(ours.violation.as_ref());
    let mut quantiles = |name: &str, values: &[Duration], others: Option<&[Duration]>| {
        for (which, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let of = |values: &[Duration]| seconds(percentile(&mut values.to_vec(), part));
            report.row(Row::new(format!("{name}, {which}"), of(values)).foca(others.map(of).unwrap_or_default()));
        }
    };
    if !ours.suspected.is_empty() {
        quantiles("first suspicion", &ours.suspected, None);
    }
    quantiles("first knows", &ours.first, foca.map(|foca| &*foca.first));
    quantiles("all know", &ours.all, foca.map(|foca| &*foca.all));
    if !ours.first_released.is_empty() {
        quantiles("first releases it", &ours.first_released, None);
        quantiles("all release it", &ours.all_released, None);
    }
    let theirs = |of: fn(&Detection) -> String| foca.map(of).unwrap_or_default();
    report
        .row(Row::new("not all within two minutes", ours.incomplete).foca(theirs(|foca| foca.incomplete.to_string())));
    report.row(Row::new("false deaths", ours.false_deaths).foca(theirs(|foca| foca.false_deaths.to_string())));
}

fn traffic_rows(report: &mut Report, ours: &Traffic, foca: Option<&Traffic>) {
    let theirs = |of: fn(&Traffic) -> String| foca.map(of).unwrap_or_default();
    let messages = |traffic: &Traffic| format!("{:.2}", traffic.message_rate());
    let rate = |traffic: &Traffic| bytes(traffic.bytes_rate());
    report.row(Row::new("messages per node and second", messages(ours)).foca(theirs(messages)));
    report.row(Row::new("bytes per node and second", rate(ours)).foca(theirs(rate)));
    report.row(Row::new("false suspicions (refuted by the accused)", ours.totals.refutations));
    let speed = ours.simulated.as_secs_f64() / ours.wall.as_secs_f64();
    let steps = ours.totals.handled as f64 / ours.wall.as_secs_f64() / 1e6;
    report.row(Row::new(
        "simulated",
        format!(
            "{} in {}: {speed:.1} times real time, {steps:.2} M steps/s",
            seconds(ours.simulated),
            seconds(ours.wall)
        ),
    ));
}

fn endurance_rows(report: &mut Report, ours: &Endurance, foca: Option<&Endurance>) {
    report.broken(ours.violation.as_ref());
    let theirs = |of: fn(&Endurance) -> usize| foca.map(|foca| of(foca).to_string()).unwrap_or_default();
    report.row(Row::new("node-hours", format!("{:.1}", ours.node_hours())));
    report.row(Row::new("healthy nodes killed", ours.healthy_killed).foca(theirs(|one| one.healthy_killed)));
    report.row(Row::new("faulty nodes killed", ours.faulty_killed).foca(theirs(|one| one.faulty_killed)));
    report.row(Row::new("processes evicted", ours.evicted).foca(theirs(|one| one.evicted)));
    report.row(Row::new("times that a node halted evictions", ours.halted));
    traffic_rows(report, &ours.traffic, foca.map(|foca| &foca.traffic));
    let line = |name: &str, of: fn(&scenario::Sample) -> usize| Line {
        name: name.into(),
        points: ours.samples.iter().map(|sample| (sample.at.since_origin().as_secs_f64(), of(sample) as f64)).collect(),
    };
    let plot = |title: &str, y: &str, lines| Plot { title: title.into(), x: "seconds".into(), y: y.into(), lines };
    report.plots.push(plot(&report.title, "different tables", vec![line("views", |sample| sample.views)]));
    let pairs = vec![line("suspected", |sample| sample.suspected), line("held for dead", |sample| sample.dead)];
    report.plots.push(plot("what nodes believe of each other", "pairs", pairs));
}

fn steady(options: &Options) -> Report {
    let setting = options.setting(1000, 1);
    endured("steady", &setting, options, options.lasts(60))
}

fn loss(options: &Options) -> Report {
    let setting = options.setting(200, 1);
    let setting = setting.clone().loss(options.loss.unwrap_or(0.05));
    endured("loss", &setting, options, options.lasts(600))
}

fn endured(name: &str, setting: &Setting, options: &Options, lasts: Duration) -> Report {
    let mut report = Report::new(title(name, setting));
    let ours = scenario::steady(setting, lasts);
    let seeds = setting.seed..setting.seed + setting.trials;
    let nothing = Schedule::default();
    let foca = options.foca.then(|| foca::endure(setting.nodes, seeds, setting.loss, lasts, &nothing, &[]));
    endurance_rows(&mut report, &ours, foca.as_ref());
    report
}

fn healed(report: &mut Report, ours: &Endurance) {
    let healed = ours.healed_after.map_or("never (10 min)".into(), seconds);
    report.row(Row::new("all agree again, after the end of it", healed));
}

fn stall(options: &Options) -> Report {
    let setting = options.setting(128, 1);
    let mut report = Report::new(title("stall", &setting));
    let lasts = options.lasts(16);
    let stalled = (setting.nodes / 16).max(1);
    let ours = scenario::stalls(&setting, stalled, lasts, Duration::from_millis(1), 1);
    let hosts: Vec<_> = (0..u32::try_from(stalled).unwrap_or(0)).map(Host).collect();
    let at = Timestamp::from_millis(3000);
    let schedule: Schedule = hosts.iter().map(|host| (at, Fault::Stall(*host, lasts))).collect();
    let seeds = setting.seed..setting.seed + setting.trials;
    let until = lasts + Duration::from_secs(60);
    let foca = options.foca.then(|| foca::endure(setting.nodes, seeds, setting.loss, until, &schedule, &hosts));
    endurance_rows(&mut report, &ours, foca.as_ref());
    healed(&mut report, &ours);
    report
}

fn partition(options: &Options) -> Report {
    let setting = options.setting(10, 1);
    let mut report = Report::new(title("partition", &setting));
    let ours = scenario::partition(&setting, setting.nodes / 2, options.lasts(60));
    endurance_rows(&mut report, &ours, None);
    split_rows(&mut report, &ours);
    healed(&mut report, &ours);
    report
}

pub(crate) fn split_rows(report: &mut Report, ours: &scenario::Endurance) {
    for split in &ours.splits {
        let [part, rest] = split.serving;
        let met = split.sides() == 1;
        report.row(
            Row::new("  serving at the end of the cut", format!("{part} of the part, {rest} of the rest"))
                .target("one side", met),
        );
        let fenced = split.fenced.map_or("nobody".into(), seconds);
        let released = split
            .released
            .map_or("never".into(), |(first, last)| format!("first {}, last {}", seconds(first), seconds(last)));
        let met = split.fenced.zip(split.released).is_some_and(|(fenced, (first, _))| fenced < first);
        report.row(Row::new("  the last loser stops", fenced));
        report.row(Row::new("  its keys are taken over", released).target("after that", met));
    }
}

fn deaf(options: &Options) -> Report {
    let setting = options.setting(100, 1);
    let mut report = Report::new(title("deaf", &setting));
    let ours = scenario::deaf(&setting, (setting.nodes / 100).max(1), options.lasts(120));
    endurance_rows(&mut report, &ours, None);
    healed(&mut report, &ours);
    report
}

fn bad(options: &Options) -> Report {
    let setting = options.setting(200, 1);
    let mut report = Report::new(title("bad", &setting));
    let ours = scenario::bad_cards(&setting, (setting.nodes / 100).max(1), options.lasts(300));
    endurance_rows(&mut report, &ours, None);
    healed(&mut report, &ours);
    report
}

fn liar(options: &Options) -> Report {
    let setting = options.setting(10, 1);
    let mut report = Report::new(title("liar", &setting));
    for lie in Lie::ALL.into_iter().filter(|lie| lie.is_of_members()) {
        let ours = scenario::liar(&setting, lie, options.lasts(20));
        report.broken(ours.violation.as_ref());
        report.row(Row::new(format!("{lie:?}: honest processes held for dead or gone"), ours.healthy_given_up));
        report.row(Row::new(format!("{lie:?}: honest processes evicted"), ours.evicted));
        report.row(Row::new(
            format!("{lie:?}: all agree again after"),
            ours.healed_after.map_or("never (10 min)".into(), seconds),
        ));
    }
    report
}

fn cliff(options: &Options) -> Report {
    let setting = options.setting(1000, 1);
    let setting = setting.clone().loss(options.loss.unwrap_or(0.25));
    let mut report = endured("cliff", &setting, options, options.lasts(60));
    let killed = report.rows.iter().find(|row| row.name == "healthy nodes killed").map_or("0", |row| &row.ours);
    let part = killed.parse::<f64>().unwrap_or(0.0) / setting.nodes as f64;
    report.row(
        Row::new("part of the nodes killed", format!("{:.1} %", part * 100.0)).target("at most 5 %", part <= 0.05),
    );
    report
}

fn chaos(options: &Options) -> Report {
    campaign("chaos", options, Trial::random)
}

fn splits(options: &Options) -> Report {
    campaign("splits", options, Trial::splits)
}

/// Runs random histories, and shrinks the first ones that break something.
fn campaign(name: &str, options: &Options, random: fn(u64, usize) -> Trial) -> Report {
    let most = options.nodes.unwrap_or(12);
    if let Some(path) = &options.schedule {
        return replay(options, most, path);
    }
    let trials = options.trials.unwrap_or(1000);
    let mut report =
        Report::new(format!("{name}: {trials} random schedules of at most {most} hosts from seed {}", options.seed));
    let begin = Instant::now();
    let downing = options.downing.clone().unwrap_or_default();
    let trial = |seed| {
        let trial = Trial { downing: downing.clone(), ..random(seed, most) };
        if options.liar { trial.with_liar() } else { trial }
    };
    let campaign = Campaign::run(options.seed..options.seed + trials, trial, |campaign| {
        if campaign.trials % 1000 == 0 {
            eprintln!(
                "  {} schedules, {} broken, {}",
                campaign.trials,
                campaign.failures.len(),
                seconds(begin.elapsed())
            );
        }
        true
    });
    chaos_rows(&mut report, &campaign);
    for (seed, violation) in campaign.failures.iter().take(if options.quick { 0 } else { 3 }) {
        let trial = trial(*seed);
        println!("seed {seed} of at most {most} hosts ({} hosts): {violation}", trial.hosts);
        let small = trial.shrink();
        println!(
            "smallest: {} hosts, {}\n{}",
            small.hosts,
            small.run().violation.map_or_else(String::new, |one| one.to_string()),
            small.schedule
        );
    }
    let seeds: Vec<_> =
        campaign.failures.iter().map(|(seed, violation)| format!("{seed}:{}", violation.rule)).collect();
    if !seeds.is_empty() {
        println!("broken: {}", seeds.join(" "));
    }
    report.row(Row::new("needed", seconds(begin.elapsed())));
    let lines = vec![distribution("schedules", campaign.settled.iter().map(Duration::as_secs_f64))];
    report.plots.push(Plot {
        title: "until all agree, after the last fault".into(),
        x: "seconds".into(),
        y: "part".into(),
        lines,
    });
    report
}

pub(crate) fn chaos_rows(report: &mut Report, campaign: &Campaign) {
    let broken = campaign.failures.len();
    report.row(
        Row::new("schedules that broke an invariant", format!("{broken} of {}", campaign.trials))
            .target("0", broken == 0),
    );
    for (which, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let settled = percentile(&mut campaign.settled.clone(), part);
        report.row(Row::new(format!("all agree, after the last fault, {which}"), seconds(settled)));
    }
    for (which, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let shared = percentile(&mut campaign.shared.clone(), part);
        report.row(Row::new(format!("all values agree, after that, {which}"), seconds(shared)));
    }
    report.row(Row::new("processes evicted", campaign.evicted));
    report.row(Row::new("schedules in which P2 was looked at", campaign.armed));
}

/// How many seeds each planted defect lives.
pub(crate) fn planted(report: &mut Report) {
    let found = Planted::search(&Planted::ALL, |_| 0..Planted::LIMIT);
    for (planted, seed) in Planted::ALL.iter().zip(found) {
        let needed = seed.map_or_else(|| "not found".into(), |seed| format!("{} seeds", seed + 1));
        let name = format!("planted: {:?}, found by {}", planted.bug, planted.rule);
        report.row(Row::new(name, needed).target(format!("within {} seeds", Planted::LIMIT), seed.is_some()));
    }
}

/// One schedule from a file.
fn replay(options: &Options, hosts: usize, path: &str) -> Report {
    let mut report = Report::new(format!("chaos: {path} on {hosts} hosts, seed {}", options.seed));
    let schedule = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let schedule = schedule.and_then(|text| text.parse::<Schedule>().map_err(|error| error.to_string()));
    match schedule {
        Err(why) => report.row(Row::new("not read", why).target("a schedule", false)),
        Ok(schedule) => {
            let downing = options.downing.clone().unwrap_or_default();
            let trial = Trial { seed: options.seed, hosts, schedule, bug: None, downing };
            let outcome = trial.run();
            if options.story {
                trial.story().iter().for_each(|line| println!("{line}"));
            }
            let broken = outcome.violation.as_ref().map_or("nothing".into(), ToString::to_string);
            report.row(Row::new("broken", broken).target("nothing", outcome.violation.is_none()));
            report.row(Row::new("all agree after", outcome.settled_after.map_or("never".into(), seconds)));
            report.row(Row::new("trace", format!("{:016x}", outcome.trace)));
        }
    }
    report
}

fn scale(options: &Options) -> Report {
    let setting = options.setting(5000, 1).loss(options.loss.unwrap_or(0.02));
    let mut report = Report::new(title("scale", &setting));
    let ours = scenario::scale(&setting, options.lasts(60));
    report.broken(ours.violation.as_ref());
    report.row(Row::new("built in", seconds(ours.built)));
    report.row(Row::new("answers of comparisons", ours.traffic.totals.syncs));
    report.row(Row::new("pairs that do not know after it", ours.unknown));
    report.row(Row::new("false deaths", ours.false_deaths));
    traffic_rows(&mut report, &ours.traffic, None);
    let speed = ours.traffic.simulated.as_secs_f64() / ours.cpu.as_secs_f64();
    if setting.nodes <= 5000 {
        report.row(Row::new("times real time", format!("{speed:.2}")).target("1 or more", speed >= 1.0));
    }
    let fits = ours.resident < 2_000_000_000;
    report.row(Row::new("memory at its most", bytes(ours.resident as f64)).target("below 2 GB", fits));
    report
}
