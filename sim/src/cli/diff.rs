//! `sim diff`: where two runs part.

use super::{Common, case_of};
use aidb_sim::TraceEvent;
use clap::Args;

/// Show the first event at which two runs differ
#[derive(Args)]
pub(crate) struct Command {
    /// A seed, a .simcase file, or a .jsonl trace
    a: String,
    /// The other one
    b: String,
    /// How many common events to show before the first difference
    #[arg(long, default_value_t = 5)]
    context: usize,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(crate) fn run(self) -> Result<bool, String> {
        let (a, b) = (self.events(&self.a)?, self.events(&self.b)?);
        let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        if common == a.len() && common == b.len() {
            println!("the runs are the same: {common} events");
            return Ok(true);
        }
        for event in &a[common.saturating_sub(self.context)..common] {
            println!("  {event}");
        }
        let show = |event: Option<&TraceEvent>| event.map_or("the run has ended".into(), ToString::to_string);
        println!("A {}\nB {}", show(a.get(common)), show(b.get(common)));
        println!("{common} events are the same; A has {} and B {}", a.len(), b.len());
        Ok(false)
    }

    #[expect(clippy::disallowed_methods, reason = "a file of the tool, outside the simulated world")]
    fn events(&self, text: &str) -> Result<Vec<TraceEvent>, String> {
        if text.ends_with(".jsonl") {
            let lines = std::fs::read_to_string(text).map_err(|error| format!("cannot read {text}: {error}"))?;
            let event = |(at, line)| {
                serde_json::from_str(line).map_err(|error| format!("{text}:{}: not an event: {error}", at + 1))
            };
            return lines.lines().enumerate().map(event).collect();
        }
        let mut case = case_of(text, &self.common)?;
        case.world.record_trace = true;
        Ok(case.profile()?.run(&case).outcome.trace)
    }
}
