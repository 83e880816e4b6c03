//! What a child measured, medians, goals, and how numbers are written in the tables.

use std::collections::BTreeMap;

/// The head of a table of [`Goal`]s.
pub const GOALS_HEAD: &str = "| goal | bound | here | |\n|---|--:|--:|---|";

/// What one run, or the median of several, gave: numbers by name.
#[derive(Clone, Debug)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads `name value` lines.
    pub fn parse(lines: &str) -> Figures {
        let pairs = lines.lines().filter_map(|line| line.split_once(' '));
        Figures(pairs.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect())
    }

    /// Returns the figure of that name.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
    }

    /// Returns the records a second.
    pub fn rate(&self) -> f64 {
        self.get("records").unwrap_or(0.0) / self.get("seconds").unwrap_or(1.0).max(1e-9)
    }
}

/// Returns the run with the median rate.
///
/// # Panics
/// If there is none.
pub fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    runs.swap_remove(runs.len() / 2)
}

/// Writes a rate.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e5 => format!("{:.0}k", v / 1e3),
        v if v >= 1e3 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// Writes the size of a record.
pub fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

/// Writes what may be missing.
pub fn or_dash(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".into(), text)
}

/// A bound and what was measured; printed only if it was.
pub struct Goal {
    /// What is bounded.
    pub what: String,
    /// What it came to.
    pub value: Option<f64>,
    /// Whether `bound` is the least value that meets the goal, or the greatest.
    pub least: bool,
    /// The bound.
    pub bound: f64,
}

impl Goal {
    /// Prints a line of the table.
    pub fn print(&self) {
        let Some(value) = self.value else { return };
        let met = if self.least { value >= self.bound } else { value <= self.bound };
        let sign = if self.least { ">=" } else { "<=" };
        let text = |value: f64| if value >= 1e5 { number(value) } else { format!("{value:.3}") };
        println!(
            "| {} | {sign} {} | {} | {} |",
            self.what,
            text(self.bound),
            text(value),
            if met { "met" } else { "**not met**" }
        );
    }
}
