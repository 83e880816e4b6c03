//! The command line of `aikv`: Redis-style flags over the table of settings.
//!
//! `--name value` and `--name=value` for every setting; a value may be several words (`--bind 127.0.0.1 -::1`, `--save 900 1`),
//! up to the next `--`. `--config FILE` (or a file name as the first argument, as `redis-server` takes it) is read first,
//! wherever it stands, so that flags win over the file.

use std::fmt::Write as _;
use std::path::Path;

use super::config::{Config, nearest, unknown};
use super::parameters::{Effect, PARAMETERS, Parameter};
use crate::env::{Env, read_file};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run with these settings.
    Run(Box<Config>),
    /// Print this and exit with 0.
    Print(String),
}

/// Reads the command line, without the program's name, and the file it names.
///
/// # Errors
/// A flag, a value or a key of the file is wrong; the message names it and the way out.
pub fn parse<E: Env>(env: &E, arguments: &[String]) -> Result<Invocation, String> {
    let mut settings: Vec<(&str, String)> = Vec::new();
    let mut file: Option<String> = None;
    let mut rest = arguments.iter().map(String::as_str).peekable();
    if let Some(first) = rest.next_if(|first| !first.starts_with('-')) {
        file = Some(first.to_owned());
    }
    while let Some(argument) = rest.next() {
        match argument {
            "-h" | "--help" => return Ok(Invocation::Print(help())),
            "-v" | "-V" | "--version" => return Ok(Invocation::Print(version())),
            _ => {}
        }
        let Some(flag) = argument.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            return Err(format!("unexpected argument \"{argument}\": settings are given as --name value; see --help"));
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => {
                let words: Vec<&str> = std::iter::from_fn(|| rest.next_if(|word| !word.starts_with("--"))).collect();
                (flag, (!words.is_empty()).then(|| words.join(" ")))
            }
        };
        if name != "config" && Parameter::find(name).is_none() {
            let mut names: Vec<&str> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
            names.extend(["config", "help", "version"]);
            return Err(match nearest(name, &names) {
                Some(near) => format!("unknown flag --{name}; did you mean --{near}? See --help"),
                None => format!("unknown flag --{name}: {}", unknown(name)),
            });
        }
        let value = value.ok_or_else(|| format!("--{name} needs a value, as in --{name} VALUE; see --help"))?;
        if name == "config" {
            file = Some(value);
        } else {
            settings.push((name, value));
        }
    }
    let mut config = Config::default();
    if let Some(file) = file {
        let text = read_file(env.disk(), Path::new(&file))
            .map_err(|error| format!("--config: cannot read {file}: {error}"))?;
        let text = String::from_utf8(text).map_err(|_| format!("--config: {file} is not UTF-8 text"))?;
        config.apply_toml(&text, &file)?;
    }
    for (name, value) in settings {
        config.set(name, &value).map_err(|why| format!("--{name}: {why}"))?;
    }
    config.validate()?;
    Ok(Invocation::Run(Box::new(config)))
}

fn version() -> String {
    format!("aikv {}\n", env!("CARGO_PKG_VERSION"))
}

fn help() -> String {
    let mut text =
        "aikv: a Redis-compatible server on AiDb\n\nUsage: aikv [--config FILE] [--NAME VALUE]...\n\n".to_owned();
    text += "  --config FILE               settings in TOML; flags win over the file\n";
    text += "  --help, --version\n";
    for section in ["server", "storage"] {
        let _ = writeln!(text, "\n[{section}] in the file, or as flags:");
        for parameter in PARAMETERS.iter().filter(|parameter| parameter.section == section) {
            let _ = writeln!(text, "  --{:<25} {}", parameter.name, parameter.help);
        }
    }
    let others = PARAMETERS.iter().filter(|parameter| matches!(parameter.effect, Effect::Kept | Effect::Fixed));
    let others: Vec<&str> = others.filter(|other| other.help.is_empty()).map(|other| other.name).collect();
    text += "\n[compat], accepted for Redis' sake and without effect:\n ";
    let mut column = 1;
    for name in others {
        if column + name.len() > 110 {
            text += "\n ";
            column = 1;
        }
        let _ = write!(text, " {name}");
        column += name.len() + 1;
    }
    text += "\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::StdEnv;

    fn parsed(line: &[&str]) -> Result<Config, String> {
        let arguments: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        match parse(&StdEnv, &arguments)? {
            Invocation::Run(config) => Ok(*config),
            Invocation::Print(text) => Err(text),
        }
    }

    #[test]
    fn both_spellings_and_several_words() {
        let config =
            parsed(&["--port", "7000", "--maxclients=9", "--bind", "127.0.0.1", "-::1", "--save", ""]).unwrap();
        assert_eq!((config.port, config.maxclients), (7000, 9));
        assert_eq!(config.bind, ["127.0.0.1", "-::1"]);
        assert_eq!(parsed(&["--save", "900", "1"]).unwrap().get(Parameter::find("save").unwrap()), "900 1");
    }

    #[test]
    fn wrong_flags_are_named() {
        let refusal = |line: &[&str]| parsed(line).unwrap_err();
        assert_eq!(refusal(&["--prot", "1"]), "unknown flag --prot; did you mean --port? See --help");
        assert!(refusal(&["--port"]).contains("--port needs a value"));
        assert!(refusal(&["--port", "seven"]).contains("--port: argument couldn't be parsed into an integer"));
        assert!(refusal(&["--port", "1", "2", "--x"]).contains("--x"));
        assert!(refusal(&["--config", "/nonexistent.toml"]).contains("/nonexistent.toml"));
        assert!(refusal(&["-p", "1"]).contains("unexpected argument \"-p\""));
        assert!(refusal(&["--engine", "memory", "--appendonly", "yes"]).contains("--engine aidb"));
    }

    #[test]
    fn help_names_every_flag() {
        let text = parsed(&["--help"]).unwrap_err();
        for parameter in PARAMETERS {
            assert!(text.contains(parameter.name), "{}", parameter.name);
        }
        assert!(parsed(&["--version"]).unwrap_err().starts_with("aikv "));
    }
}
