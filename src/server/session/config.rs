//! `CONFIG GET`, `SET`, `RESETSTAT` and `REWRITE`.

use crate::command::table::CommandSpec;
use crate::server::Server;
use crate::server::parameters::{PARAMETERS, Parameter};
use crate::server::session::state::State;

/// Executes `CONFIG <subcommand>`.
pub(in crate::server) fn execute(server: &Server, state: &mut State, spec: &'static CommandSpec, args: &[&[u8]]) {
    let Some(sub) = state.subcommand(spec, args) else { return };
    match sub.name {
        "config|get" => get(server, state, &args[2..]),
        "config|set" => set(server, state, &args[2..]),
        "config|resetstat" => {
            server.stats.reset();
            state.out.ok();
        }
        "config|rewrite" => state.out.error("ERR The server is running without a config file"),
        _ => state.help(
            "CONFIG",
            &[
                "GET <pattern>",
                "    Return parameters matching the glob-like <pattern> and their values.",
                "SET <directive> <value>",
                "    Set the configuration <directive> to <value>.",
                "RESETSTAT",
                "    Reset statistics reported by the INFO command.",
                "REWRITE",
                "    Rewrite the configuration file.",
            ],
        ),
    }
}

fn get(server: &Server, state: &mut State, patterns: &[&[u8]]) {
    let config = server.config();
    let matches = |parameter: &&Parameter| {
        patterns
            .iter()
            .any(|pattern| crate::command::glob::matches(&pattern.to_ascii_lowercase(), parameter.name.as_bytes()))
    };
    let chosen: Vec<&Parameter> = PARAMETERS.iter().filter(matches).collect();
    state.out.map(chosen.len());
    for parameter in chosen {
        state.out.bulk(parameter.name.as_bytes());
        state.out.bulk(config.get(parameter).as_bytes());
    }
}

fn set(server: &Server, state: &mut State, args: &[&[u8]]) {
    if !args.len().is_multiple_of(2) {
        return state.out.error("ERR syntax error");
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let changes: Vec<(String, String)> = args.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))).collect();
    let changes: Vec<(&str, &str)> = changes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    match server.change_config(&changes) {
        Ok(()) => state.out.ok(),
        Err((name, None)) => {
            state.out.error(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
        }
        Err((name, Some(why))) => {
            state.out.error(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"));
        }
    }
}
