//! `sim trace`: every event of a run, for eyes or programs.

use super::{Common, case_of};
use aidb_sim::TraceEvent;
use clap::{Args, ValueEnum};
use std::fmt::Write;

/// Print every event of a run
#[derive(Args)]
pub(crate) struct Command {
    /// The seed
    #[arg(long, short, conflicts_with = "file", required_unless_present = "file")]
    seed: Option<u64>,
    /// A .simcase file
    file: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One line for each event
    Text,
    /// One JSON object for each event; `sim diff` reads it
    Jsonl,
    /// A page with one column for each thread
    Html,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let text = self.seed.map_or_else(|| self.file.clone().unwrap_or_default(), |seed| seed.to_string());
        let mut case = case_of(&text, &self.common)?;
        case.world.record_trace = true;
        let outcome = case.profile()?.run(&case).outcome;
        let mut out = String::new();
        match self.format {
            Format::Text => {
                for event in &outcome.trace {
                    let _ = writeln!(out, "{event}");
                }
            }
            Format::Jsonl => {
                for event in &outcome.trace {
                    let line =
                        serde_json::to_string(event).map_err(|error| format!("cannot encode an event: {error}"))?;
                    out.push_str(&line);
                    out.push('\n');
                }
            }
            Format::Html => out = html(&text, &outcome.trace, outcome.violation.as_ref().map(ToString::to_string)),
        }
        // A closed pipe (`| head`) is no failure.
        let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), out.as_bytes());
        match &outcome.violation {
            Some(violation) => eprintln!("VIOLATION: {violation}"),
            None => eprintln!("no violation; hash {:016x}, {} events", outcome.hash, outcome.events),
        }
        Ok(outcome.violation.is_none())
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn html(title: &str, trace: &[TraceEvent], violation: Option<String>) -> String {
    let fibers = trace.iter().filter_map(|event| event.fiber).max().map_or(0, |last| last as usize + 1);
    let mut out = format!(
        "<!doctype html><meta charset=utf-8><title>sim trace {title}</title><style>\
         body{{font:12px monospace}}table{{border-collapse:collapse}}td{{padding:0 6px;white-space:nowrap}}\
         tr:nth-child(even){{background:#f4f4f4}}td.w{{color:#a00}}th{{position:sticky;top:0;background:#fff}}</style>\
         <h1>sim trace {}</h1><p>{}</p><table><tr><th>event<th>us",
        escape(title),
        escape(&violation.unwrap_or_else(|| "no violation".into()))
    );
    let _ = write!(out, "<th>world");
    for fiber in 0..fibers {
        let _ = write!(out, "<th>{fiber}");
    }
    for event in trace {
        let column = event.fiber.map_or(0, |fiber| fiber as usize + 1);
        let _ = write!(out, "<tr><td>{}<td>{:.3}", event.index, event.ns as f64 / 1e3);
        (0..column).for_each(|_| out.push_str("<td>"));
        let class = if column == 0 { " class=w" } else { "" };
        let _ = write!(out, "<td{class}>{:?} {} {} {}", event.event, event.a, event.b, escape(&event.note));
        (column..fibers).for_each(|_| out.push_str("<td>"));
        out.push('\n');
    }
    out + "</table>\n"
}
