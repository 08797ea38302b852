//! What was asked for.

use std::time::Duration;

use gristmill_core::downing;
use gristmill_testkit::simulation::scenario::Setting;

pub(crate) const USAGE: &str = "\
simulate [--scenario NAME] [--nodes N] [--seed N] [--trials N] [--seconds N] [--loss PERCENT]
         [--profile lan|fast] [--downing majority|quorum=N|oldest|all|off] [--liar] [--schedule FILE [--story]] [--without-foca] [--quick] [--only SECTION,…] [--plot FILE.svg] [--json FILE] [--list]

Scenarios:";

/// The command line.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) scenario: String,
    pub(crate) nodes: Option<usize>,
    pub(crate) seed: u64,
    pub(crate) trials: Option<u64>,
    pub(crate) seconds: Option<u64>,
    pub(crate) loss: Option<f64>,
    pub(crate) fast: bool,
    pub(crate) downing: Option<downing::Config>,
    pub(crate) liar: bool,
    pub(crate) schedule: Option<String>,
    pub(crate) story: bool,
    pub(crate) foca: bool,
    pub(crate) quick: bool,
    pub(crate) only: Option<String>,
    pub(crate) plot: Option<String>,
    pub(crate) json: Option<String>,
    pub(crate) list: bool,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            scenario: "crash".into(),
            nodes: None,
            seed: 1,
            trials: None,
            seconds: None,
            loss: None,
            fast: false,
            downing: None,
            liar: false,
            schedule: None,
            story: false,
            foca: true,
            quick: false,
            only: None,
            plot: None,
            json: None,
            list: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--scenario" => options.scenario = value()?,
                "--nodes" => options.nodes = Some(number(&value()?)?),
                "--seed" => options.seed = number(&value()?)?,
                "--trials" => options.trials = Some(number(&value()?)?),
                "--seconds" => options.seconds = Some(number(&value()?)?),
                "--loss" => options.loss = Some(number::<f64>(&value()?)? / 100.0),
                "--profile" => {
                    options.fast = match value()?.as_str() {
                        "lan" => false,
                        "fast" => true,
                        other => return Err(format!("there is no profile {other:?}")),
                    }
                }
                "--downing" => {
                    options.downing = Some(match value()?.as_str() {
                        "majority" => downing::Config::keep_majority(),
                        quorum if quorum.starts_with("quorum=") => {
                            downing::Config::static_quorum(number(quorum.trim_start_matches("quorum="))?)
                        }
                        "oldest" => downing::Config::keep_oldest(),
                        "all" => downing::Config::down_all(),
                        "off" => downing::Config::off(),
                        other => return Err(format!("there is no strategy {other:?}")),
                    });
                }
                "--liar" => options.liar = true,
                "--schedule" => options.schedule = Some(value()?),
                "--story" => options.story = true,
                "--without-foca" => options.foca = false,
                "--only" => options.only = Some(value()?),
                "--quick" => options.quick = true,
                "--plot" => options.plot = Some(value()?),
                "--json" => options.json = Some(value()?),
                "--list" | "--help" => options.list = true,
                other => return Err(format!("what is {other:?}?")),
            }
        }
        Ok(options)
    }

    /// The setting that was asked for, with what the scenario has where nothing was said.
    pub(crate) fn setting(&self, nodes: usize, trials: u64) -> Setting {
        let downing = self.downing.clone();
        let setting = Setting { seed: self.seed, downing, ..Setting::new(self.nodes.unwrap_or(nodes)) };
        let setting = setting.trials(self.trials.unwrap_or(trials)).loss(self.loss.unwrap_or(0.0));
        if self.fast { setting.fast() } else { setting }
    }

    pub(crate) fn lasts(&self, seconds: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(seconds))
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number that fits here"))
}
