//! The settings of `aikv` from any text: as a TOML file and as a command line. What is accepted can be read back through
//! `CONFIG GET` and set again to the same; what is refused says why.

use super::memory::MemoryEnv;
use aidb::server::config::Config;
use aidb::server::flags::{Invocation, parse};
use aidb::server::parameters::PARAMETERS;
use std::path::Path;

/// Reads `input` as a settings file, and its lines as arguments.
pub fn config(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut config = Config::default();
    match config.apply_toml(text, "aikv.toml") {
        Ok(()) => survives_another_round(&config),
        Err(message) => assert!(message.starts_with("aikv.toml: "), "{message}"),
    }
    let env = MemoryEnv::default();
    env.put(Path::new("aikv.toml"), input.to_vec());
    let arguments: Vec<String> = text.lines().map(str::to_owned).collect();
    let with_file = [vec!["--config".to_owned(), "aikv.toml".to_owned()], arguments.clone()].concat();
    for arguments in [arguments, with_file] {
        match parse(&env, &arguments) {
            Ok(Invocation::Run(config)) => survives_another_round(&config),
            Ok(Invocation::Print(text)) => assert!(text.ends_with('\n')),
            Err(message) => assert!(!message.is_empty()),
        }
    }
}

/// Sets every parameter of a new configuration to what `config` says.
fn survives_another_round(config: &Config) {
    let mut again = Config::default();
    for parameter in PARAMETERS {
        let value = config.get(parameter);
        again.set(parameter.name, &value).unwrap_or_else(|why| panic!("{} {value:?}: {why}", parameter.name));
        assert_eq!(again.get(parameter), value, "{}", parameter.name);
    }
    assert_eq!(again.validate(), config.validate());
    assert!(!config.requirepass.is_empty() || config.requirepass.matches(b""));
    let shown = format!("{config:?}");
    let secret = config.requirepass.reveal();
    assert!(secret.len() < 12 || !shown.contains(secret) || shown.matches(secret).count() == others(config, secret));
}

/// Counts in how many other settings the text of the password stands as well.
fn others(config: &Config, secret: &str) -> usize {
    let mut hidden = config.clone();
    hidden.requirepass = Default::default();
    format!("{hidden:?}").matches(secret).count()
}
