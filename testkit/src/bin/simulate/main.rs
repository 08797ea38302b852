//! Simulates clusters, and says what came of it.
//!
//! ```text
//! cargo run --release -p gristmill-testkit --bin simulate -- --list
//! cargo run --release -p gristmill-testkit --bin simulate -- --scenario crash --nodes 100 --trials 50 --plot crash.svg
//! cargo run --release -p gristmill-testkit --bin simulate -- --scenario chaos --seed 0 --trials 10000
//! cargo run --release -p gristmill-testkit --bin simulate -- --scenario report
//! ```
//!
//! It ends with 1 when a target was missed or an invariant broken, with 2 when it was called wrongly.

mod options;
mod scenarios;
mod targets;

use std::process::ExitCode;

use gristmill_testkit::simulation::plot;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    if options.list {
        println!("{}", options::USAGE);
        for (name, what, _) in scenarios::ALL {
            println!("  {name:<10} {what}");
        }
        return ExitCode::SUCCESS;
    }
    let Some((_, _, scenario)) = scenarios::ALL.iter().find(|(name, ..)| *name == options.scenario) else {
        eprintln!("there is no scenario {:?}: see --list", options.scenario);
        return ExitCode::from(2);
    };
    let report = scenario(&options);
    println!("{report}");
    for (path, text) in [(&options.plot, plot::svg(&report.plots)), (&options.json, report.json())] {
        if let Some(path) = path
            && let Err(error) = std::fs::write(path, text)
        {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    }
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
