//! Figures beside their targets, as a table for people and as JSON for machines.

use std::fmt;
use std::time::Duration;

use super::invariant::Violation;
use super::plot::Plot;

/// One figure.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What was found.
    pub ours: String,
    /// What it must be, if anything.
    pub target: String,
    /// Whether it is.
    pub met: Option<bool>,
    /// The same of foca.
    pub foca: String,
}

impl Row {
    /// A figure without a target.
    pub fn new(name: impl Into<String>, ours: impl fmt::Display) -> Self {
        Self { name: name.into(), ours: ours.to_string(), ..Self::default() }
    }

    /// With what it must be.
    #[must_use]
    pub fn target(self, target: impl fmt::Display, met: bool) -> Self {
        Self { target: target.to_string(), met: Some(met), ..self }
    }

    /// With the same of foca.
    #[must_use]
    pub fn foca(self, foca: impl fmt::Display) -> Self {
        Self { foca: foca.to_string(), ..self }
    }
}

/// What one scenario has found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The scenario and its setting.
    pub title: String,
    /// The figures.
    pub rows: Vec<Row>,
    /// The pictures.
    pub plots: Vec<Plot>,
}

impl Report {
    /// A report without figures.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a figure, and says it: some take minutes.
    pub fn row(&mut self, row: Row) {
        eprintln!("  {} = {} {}", row.name, row.ours, if row.met == Some(false) { "MISSED" } else { "" });
        self.rows.push(row);
    }

    /// Adds what was broken, if anything: whatever else was found is worth nothing then.
    pub fn broken(&mut self, violation: Option<&Violation>) {
        if let Some(violation) = violation {
            self.row(Row::new("broken", violation).target("nothing", false));
        }
    }

    /// Whether no target is missed.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// One object with all figures.
    #[must_use]
    pub fn json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let met = row.met.map_or("null".into(), |met| met.to_string());
                let [name, ours, target, foca] =
                    [&row.name, &row.ours, &row.target, &row.foca].map(|text| quoted(text));
                format!(
                    "    {{\"name\": {name}, \"ours\": {ours}, \"target\": {target}, \"met\": {met}, \"foca\": {foca}}}"
                )
            })
            .collect();
        format!("{{\n  \"title\": {},\n  \"rows\": [\n{}\n  ]\n}}\n", quoted(&self.title), rows.join(",\n"))
    }
}

/// As a table in Markdown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["figure", "ours", "target", "met", "foca"].map(String::from);
        let cells: Vec<[String; 5]> = self
            .rows
            .iter()
            .map(|row| {
                let met = row.met.map_or("", |met| if met { "yes" } else { "NO" });
                [row.name.clone(), row.ours.clone(), row.target.clone(), met.into(), row.foca.clone()]
            })
            .collect();
        let width =
            |column: usize| cells.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0);
        let line = |f: &mut fmt::Formatter<'_>, row: &[String; 5]| {
            let cells: Vec<_> =
                row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column))).collect();
            writeln!(f, "| {} |", cells.join(" | "))
        };
        writeln!(f, "{}\n", self.title)?;
        line(f, &header)?;
        line(f, &std::array::from_fn(|column| "-".repeat(width(column))))?;
        cells.iter().try_for_each(|row| line(f, row))
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Seconds with as many digits as make sense.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

/// Bytes with a unit.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    match bytes {
        small if small < 1000.0 => format!("{small:.0} B"),
        middle if middle < 1e6 => format!("{:.2} kB", middle / 1e3),
        large => format!("{:.1} MB", large / 1e6),
    }
}
