//! Prometheus' text format being written: [`Exposition`].
//!
//! Used by whatever shows counters: the log's store, the engine. Names are the caller's, behind one prefix.
//!
//! Source: Prometheus, "Text-based format", version 0.0.4.

use std::fmt::{Display, Write};

/// A text that metrics are added to, one family after the other.
#[derive(Clone, Debug)]
pub struct Exposition {
    prefix: &'static str,
    text: String,
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends with `_total`.
    Counter,
    /// Grows and shrinks.
    Gauge,
}

impl Exposition {
    /// Begins a text whose names all begin with `prefix`.
    pub fn new(prefix: &'static str) -> Exposition {
        Exposition { prefix, text: String::new() }
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Adds a counter.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(name, "", value);
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        self.line(name, "", value);
    }

    /// Adds a value for each label.
    pub fn labelled<L: Display>(
        &mut self,
        (kind, name, help): (Kind, &str, &str),
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.head(name, help, if kind == Kind::Counter { "counter" } else { "gauge" });
        for (of, value) in values {
            self.line(name, format_args!("{{{label}=\"{of}\"}}"), value);
        }
    }

    /// Adds a summary: values at quantiles, and sum and number of all.
    pub fn summary(&mut self, name: &str, help: &str, quantiles: &[(f64, f64)], sum: f64, count: u64) {
        self.head(name, help, "summary");
        for (quantile, value) in quantiles {
            self.line(name, format_args!("{{quantile=\"{quantile}\"}}"), value);
        }
        self.line(name, "_sum", sum);
        self.line(name, "_count", count);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let prefix = self.prefix;
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}");
    }

    fn line(&mut self, name: &str, rest: impl Display, value: impl Display) {
        let _ = writeln!(self.text, "{}_{name}{rest} {value}", self.prefix);
    }
}

/// Reads a text back, series by series.
///
/// # Panics
/// If it is not in the format, or a counter is not called one.
#[cfg(test)]
pub(crate) fn parsed(text: &str) -> std::collections::BTreeMap<String, f64> {
    use std::collections::{BTreeMap, BTreeSet};
    let (mut helped, mut typed, mut values) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_string()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "summary"].contains(&kind) && helped.contains(name), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(typed.insert(name.to_string(), kind).is_none(), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let name = series.split('{').next().unwrap();
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(name.bytes().all(plain), "{line}");
            let family = name.strip_suffix("_sum").or(name.strip_suffix("_count")).unwrap_or(name);
            assert!(typed.contains_key(name) || typed[family] == "summary", "{line}");
            assert!(values.insert(series.to_string(), value).is_none(), "{line}");
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_and_type_and_come_back() {
        let mut text = Exposition::new("x");
        text.counter("sheep_total", "Sheep.", 3);
        text.gauge("height", "Height.", 1.5);
        text.labelled((Kind::Gauge, "level_bytes", "Bytes of a level."), "level", [(0, 7), (1, 8)]);
        text.summary("seconds", "Time.", &[(0.5, 0.25)], 2.5, 4);
        let text = text.into_text();
        assert!(text.starts_with("# HELP x_sheep_total Sheep.\n# TYPE x_sheep_total counter\nx_sheep_total 3\n"));
        let values = parsed(&text);
        assert_eq!(values.len(), 7);
        assert_eq!((values["x_level_bytes{level=\"1\"}"], values["x_seconds{quantile=\"0.5\"}"]), (8.0, 0.25));
        assert_eq!((values["x_seconds_sum"], values["x_seconds_count"]), (2.5, 4.0));
    }
}
