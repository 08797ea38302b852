//! All that membership must reach, in one table.

use std::time::Duration;

use gristmill_core::Timestamp;
use gristmill_testkit::simulation::foca::{self, Profile};
use gristmill_testkit::simulation::report::{Report, Row, bytes, seconds};
use gristmill_testkit::simulation::scenario::{self, Going, Setting};
use gristmill_testkit::simulation::{Campaign, Fault, Host, Lie, Schedule, Trial};

use crate::options::Options;
use crate::scenarios::{chaos_rows, planted, split_rows};

pub(crate) fn report(options: &Options) -> Report {
    let part = if options.quick { 10 } else { 1 };
    let mut report = Report::new(format!(
        "What membership must reach{} (seeds from {})",
        if options.quick { ", a tenth of the trials" } else { "" },
        options.seed
    ));
    let setting =
        |nodes, trials: u64| Setting { seed: options.seed, ..Setting::new(nodes).trials((trials / part).max(1)) };
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name));
    for (name, section) in SECTIONS {
        if wanted(name) {
            eprintln!("{name}:");
            section(&mut report, options, &setting);
        }
    }
    report
}

type Settings<'a> = dyn Fn(usize, u64) -> Setting + 'a;
type Section = fn(&mut Report, &Options, &Settings<'_>);

/// In the order of their cost.
const SECTIONS: [(&str, Section); 12] = [
    ("killed", |report, _, setting| killed(report, setting)),
    ("crashed", crashed),
    ("changed", left_and_joined),
    ("steady", steady),
    ("stalled", stalled),
    ("cut", cut),
    ("lied", |report, _, setting| lied(report, setting)),
    ("planted", |report, _, _| planted(report)),
    ("scaled", |report, options, _| scaled(report, options)),
    ("beyond", |report, _, setting| beyond(report, setting)),
    ("chaos", |report, options, _| random_histories(report, options)),
    ("accuracy", |report, options, _| accuracy(report, options)),
];

fn killed(report: &mut Report, setting: &Settings<'_>) {
    for (nodes, trials) in [(3, 300), (10, 300), (100, 100)] {
        let ours = scenario::going(&setting(nodes, trials), Going::Kill);
        report.broken(ours.violation.as_ref());
        let p99 = ours.all_within(0.99);
        let met = p99 <= Duration::from_secs(1) && ours.incomplete == 0 && ours.violation.is_none();
        report
            .row(Row::new(format!("killed process known to all, {nodes} nodes, p99"), seconds(p99)).target("1 s", met));
    }
}

fn crashed(report: &mut Report, options: &Options, setting: &Settings<'_>) {
    let lan = [(3, 300, 9.0), (10, 300, 9.0), (100, 200, 14.0), (1000, 30, 16.0)];
    let fast = [(10, 300, 3.0), (100, 200, 4.5), (1000, 30, 5.5)];
    let all = lan.map(|row| (row, false)).into_iter().chain(fast.map(|row| (row, true)));
    for ((nodes, trials, target), is_fast) in all {
        let setting = if is_fast { setting(nodes, trials).fast() } else { setting(nodes, trials) };
        let ours = scenario::going(&setting, Going::Crash);
        report.broken(ours.violation.as_ref());
        let p99 = ours.all_within(0.99);
        let name = if is_fast { ", fast profile" } else { "" };
        let p50 = seconds(ours.all_within(0.5));
        let met =
            p99.as_secs_f64() <= target && ours.incomplete == 0 && ours.false_deaths == 0 && ours.violation.is_none();
        let mut row = Row::new(
            format!("silent crash known to all, {nodes} nodes{name}, p99 (p50)"),
            format!("{} ({p50})", seconds(p99)),
        )
        .target(format!("{target} s"), met);
        if options.foca {
            let profile = if is_fast { Profile::Fast } else { Profile::Lan };
            let foca = foca::going(nodes, setting.seed..setting.seed + setting.trials, 0.0, profile, false);
            row = row.foca(format!("{} ({})", seconds(foca.all_within(0.99)), seconds(foca.all_within(0.5))));
        }
        report.row(row);
    }
}

fn left_and_joined(report: &mut Report, options: &Options, setting: &Settings<'_>) {
    let ours = scenario::going(&setting(100, 200), Going::Leave);
    report.broken(ours.violation.as_ref());
    let p99 = ours.all_within(0.99);
    let met = p99 <= Duration::from_secs(1) && ours.incomplete == 0 && ours.violation.is_none();
    let mut row = Row::new("leave known to all, 100 nodes, p99", seconds(p99)).target("1 s", met);
    if options.foca {
        let foca = foca::going(100, options.seed..options.seed + 20, 0.0, Profile::Lan, true);
        row = row.foca(seconds(foca.all_within(0.99)));
    }
    report.row(row);
    for (nodes, trials) in [(10, 200), (100, 100), (1000, 20)] {
        let setting = setting(nodes, trials);
        let ours = scenario::joining(&setting);
        report.broken(ours.violation.as_ref());
        let rounds = ours.all_within(0.99).as_secs_f64() / setting.membership.gossip_interval.as_secs_f64();
        let target = (0.7 * (nodes as f64).log2()).ceil() + 2.0;
        let met = rounds <= target && ours.incomplete == 0 && ours.violation.is_none();
        let row = Row::new(format!("join known to all, {nodes} nodes, gossip rounds, p99"), format!("{rounds:.1}"));
        report.row(row.target(format!("{target:.0}"), met));
    }
}

fn steady(report: &mut Report, options: &Options, setting: &Settings<'_>) {
    let ours = scenario::steady(&setting(1000, 1), Duration::from_secs(60));
    report.broken(ours.violation.as_ref());
    let rate = ours.traffic.bytes_rate();
    let name = "bytes per node and second, nothing happens, 1000 nodes";
    let mut row = Row::new(name, bytes(rate)).target("3.1 kB", rate <= 3100.0 && ours.violation.is_none());
    if options.foca {
        let seeds = options.seed..options.seed + 1;
        let foca = foca::endure(1000, seeds, 0.0, Duration::from_secs(60), &Schedule::default(), &[]);
        row = row.foca(bytes(foca.traffic.bytes_rate()));
    }
    report.row(row);
}

fn random_histories(report: &mut Report, options: &Options) {
    let count = if options.quick { 1_000 } else { 10_000 };
    let downing = options.downing.clone().unwrap_or_default();
    let trial = |seed| Trial { downing: downing.clone(), ..Trial::random(seed, 12) };
    let campaign = Campaign::run(options.seed..options.seed + count, trial, |_| true);
    chaos_rows(report, &campaign);
}

/// No false death in so many node-hours.
fn accuracy(report: &mut Report, options: &Options) {
    let part = if options.quick { 10_u32 } else { 1 };
    // Nodes, hours of each, loss: together 10,000 node-hours at 5 % and 1,000 at 10 %.
    let runs = [(1000, 5.0, 0.05), (200, 15.0, 0.05), (50, 40.0, 0.05), (1000, 0.5, 0.1), (100, 5.0, 0.1)];
    for loss in [0.05, 0.1] {
        let (mut hours, mut deaths, mut suspicions) = (0.0, 0, 0);
        for (nodes, each, _) in runs.into_iter().filter(|(_, _, of)| *of == loss) {
            let setting = Setting { seed: options.seed, ..Setting::new(nodes).loss(loss) };
            let ours = scenario::steady(&setting, Duration::from_secs_f64(each * 3600.0 / f64::from(part)));
            report.broken(ours.violation.as_ref());
            hours += ours.node_hours();
            deaths += ours.healthy_killed;
            suspicions += ours.traffic.totals.refutations;
        }
        let name = format!("false deaths at {} % loss, {hours:.0} node-hours", loss * 100.0);
        let mut row = Row::new(name, format!("{deaths} ({suspicions} suspicions refuted)")).target("0", deaths == 0);
        if options.foca {
            let lasts = Duration::from_secs(600);
            let foca = foca::endure(200, options.seed..options.seed + 1, loss, lasts, &Schedule::default(), &[]);
            row = row.foca(format!("{} in {:.0} node-hours (200 nodes)", foca.healthy_killed, foca.node_hours()));
        }
        report.row(row);
    }
    for loss in [0.01, 0.2, 0.3, 0.4] {
        let setting = Setting { seed: options.seed, ..Setting::new(200).loss(loss) };
        let lasts = Duration::from_secs(600);
        let ours = scenario::steady(&setting, lasts);
        report.broken(ours.violation.as_ref());
        let rate = ours.healthy_killed as f64 / ours.node_hours();
        let mut row = Row::new(
            format!("false deaths at {:.0} % loss, 200 nodes, 10 min", loss * 100.0),
            format!("{} ({rate:.2} per node-hour)", ours.healthy_killed),
        );
        if loss == 0.2 {
            row = row.target("0.1 per node-hour", rate <= 0.1);
        }
        if options.foca {
            let foca = foca::endure(200, options.seed..options.seed + 1, loss, lasts, &Schedule::default(), &[]);
            row = row.foca(foca.healthy_killed);
        }
        report.row(row);
    }
}

fn stalled(report: &mut Report, options: &Options, setting: &Settings<'_>) {
    let stall = Duration::from_secs(16);
    for (name, times) in [("once for 16 s", 1), ("16 s again and again for 5 min", 19)] {
        let ours = scenario::stalls(&setting(128, 1), 8, stall, Duration::from_millis(1), times);
        report.broken(ours.violation.as_ref());
        let healed = ours.healed_after.map_or("never".into(), seconds);
        let found =
            format!("{} (stalled ones killed: {}; all agree after {healed})", ours.healthy_killed, ours.faulty_killed);
        let met = ours.healthy_killed == 0 && ours.healed_after.is_some() && ours.violation.is_none();
        let mut row =
            Row::new(format!("8 of 128 stalled {name}: healthy killed"), found).target("0, and all rejoin", met);
        if options.foca {
            let hosts: Vec<_> = (0..8).map(Host).collect();
            let mut schedule = Schedule::default();
            for time in 0..times {
                let at = Timestamp::new(Duration::from_secs(3) + (stall + Duration::from_millis(1)) * time);
                schedule.0.extend(hosts.iter().map(|host| (at, Fault::Stall(*host, stall))));
            }
            let lasts = schedule.end().since_origin() + Duration::from_secs(60);
            let foca = foca::endure(128, options.seed..options.seed + 1, 0.0, lasts, &schedule, &hosts);
            row = row.foca(format!("{} (stalled: {})", foca.healthy_killed, foca.faulty_killed));
        }
        report.row(row);
    }
}

fn cut(report: &mut Report, options: &Options, setting: &Settings<'_>) {
    let sizes: &[usize] = if options.quick { &[10, 100] } else { &[10, 100, 1000] };
    for (&nodes, percent) in sizes.iter().flat_map(|nodes| [(nodes, 50), (nodes, 30)]) {
        let ours = scenario::partition(&setting(nodes, 1), nodes * percent / 100, Duration::from_secs(60));
        report.broken(ours.violation.as_ref());
        let healed = ours.healed_after.map_or("never (10 min)".into(), seconds);
        let healed_in_time = ours.healed_after.is_some_and(|healed| healed <= Duration::from_secs(30));
        let met = healed_in_time && ours.violation.is_none();
        let name = format!("{percent} % of {nodes} nodes cut off for 60 s: all agree after the heal");
        report.row(Row::new(name, healed).target("30 s", met));
        split_rows(report, &ours);
    }
    let ours = scenario::deaf(&setting(100, 1), 1, Duration::from_secs(120));
    report.broken(ours.violation.as_ref());
    let name = "one deaf node of 100: healthy nodes killed";
    let healed = ours.healed_after.map_or("never".into(), seconds);
    report.row(
        Row::new(name, format!("{}; all agree after {healed}", ours.healthy_killed))
            .target("0", ours.healthy_killed == 0 && ours.violation.is_none()),
    );
    for nodes in if options.quick { vec![200] } else { vec![200, 1000] } {
        let ours = scenario::bad_cards(&setting(nodes, 1), nodes / 100, Duration::from_secs(300));
        report.broken(ours.violation.as_ref());
        let name = format!("80 % of what 1 % of {nodes} nodes send is lost, 5 min: healthy killed");
        let most = (nodes as f64 / 1000.0).ceil() as usize;
        let found = format!("{} (faulty: {})", ours.healthy_killed, ours.faulty_killed);
        report.row(
            Row::new(name, found)
                .target(format!("at most {most}"), ours.healthy_killed <= most && ours.violation.is_none()),
        );
    }
}

fn lied(report: &mut Report, setting: &Settings<'_>) {
    for lie in Lie::ALL.into_iter().filter(|lie| lie.is_of_members()) {
        let ours = scenario::liar(&setting(10, 1), lie, Duration::from_secs(20));
        report.broken(ours.violation.as_ref());
        let found = format!("{} given up, {} evicted", ours.healthy_given_up, ours.evicted);
        let met =
            ours.healthy_given_up == 0 && ours.evicted == 0 && ours.healed_after.is_some() && ours.violation.is_none();
        report.row(
            Row::new(format!("a liar among 10 says {lie:?} of others: honest nodes"), found)
                .target("0, and all agree", met),
        );
    }
}

fn beyond(report: &mut Report, setting: &Settings<'_>) {
    for (nodes, loss) in [(1000, 0.25), (2000, 0.15)] {
        let ours = scenario::steady(&setting(nodes, 1).loss(loss), Duration::from_secs(60));
        report.broken(ours.violation.as_ref());
        let part = ours.healthy_killed as f64 / nodes as f64;
        let name = format!("beyond the cliff, {nodes} nodes, {:.0} % loss, 60 s: killed", loss * 100.0);
        let found = format!("{:.1} %, {} halts", part * 100.0, ours.halted);
        let met = part <= 0.05 && ours.halted > 0 && ours.violation.is_none();
        report.row(Row::new(name, found).target("at most 5 %, with an event", met));
    }
}

fn scaled(report: &mut Report, options: &Options) {
    for (nodes, lasts) in [(5_000, 60), (10_000, 30)] {
        let setting = Setting { seed: options.seed, ..Setting::new(nodes).loss(0.02) };
        let ours = scenario::scale(&setting, Duration::from_secs(lasts));
        report.broken(ours.violation.as_ref());
        let speed = ours.traffic.simulated.as_secs_f64() / ours.cpu.as_secs_f64();
        if nodes == 5_000 {
            report.row(
                Row::new("5000 nodes: times real time on one core", format!("{speed:.2}")).target("1", speed >= 1.0),
            );
        } else {
            let fits = ours.resident < 2_000_000_000;
            report.row(Row::new("10000 nodes: memory at its most", bytes(ours.resident as f64)).target("2 GB", fits));
        }
        let found = format!("{} false deaths, {} pairs do not know", ours.false_deaths, ours.unknown);
        report.row(Row::new(format!("{nodes} nodes, 1 % crash at once, after {lasts} s"), found));
    }
}
