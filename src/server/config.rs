//! The settings of `aikv`: one table for the TOML file, the command line and `CONFIG GET` / `CONFIG SET`.
//!
//! A setting has one name everywhere (`maxclients`: `--maxclients 100`, `[server] maxclients = 100`, `CONFIG SET maxclients
//! 100`; TOML may spell `-` as `_`). All three roads end in [`Config::set`], so a value is checked by the same code and refused
//! with the same words. [`PARAMETERS`] lists every name with its section, its kind and what it is for; `--help` prints it.
//!
//! **Invariants:** a refused change changes nothing (callers set on a copy and swap); the password appears in no `Debug`
//! output, log line or error.
//!
//! Three kinds of settings: those with an effect, read at start or changeable while running; *kept* ones, which shape
//! encodings or heuristics Redis has and AiDb does not, and are stored and reported back because clients and test suites
//! set them; and *fixed* ones, which would promise something absent, and accept only their default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::parameters::{Effect, Kind, PARAMETERS, Parameter};

/// A password: shown by nothing but [`Secret::reveal`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password; the empty one means that none is required.
    pub fn new(password: impl Into<String>) -> Secret {
        Secret(password.into())
    }

    /// Returns true when no password is required.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares with a password from a client in a time that depends on the client's input alone.
    pub fn matches(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut difference = own.len() ^ offered.len();
        for (index, &byte) in offered.iter().enumerate() {
            // Wraps around instead of stopping at the end of the own password.
            let expected = if own.is_empty() { 0 } else { own[index % own.len()] };
            difference |= usize::from(byte ^ expected);
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(redacted)" })
    }
}

/// Where the data lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// On disk, in the LSM engine.
    #[default]
    Aidb,
    /// In memory only: gone when the process ends.
    Memory,
}

/// When a write is synced to the device. Under each of them it is with the operating system before the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendFsync {
    /// Before the reply: survives power loss.
    Always,
    /// Once a second: a power loss may take the last second.
    #[default]
    EverySecond,
    /// When the operating system sees fit.
    No,
}

/// Every setting, with its value.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; a leading `-` marks one that may be missing.
    pub bind: Vec<String>,
    /// TCP port; 0 lets the system choose.
    pub port: u16,
    /// Whether clients from other machines are refused while no password is set.
    pub protected_mode: bool,
    /// Most clients at a time.
    pub maxclients: usize,
    /// Password of the user `default`.
    pub requirepass: Secret,
    /// Seconds after which an idle client is disconnected; 0 is never.
    pub timeout_seconds: u64,
    /// Seconds between keep-alive probes; 0 is never.
    pub tcp_keepalive_seconds: u64,
    /// Connections the system holds that were not accepted yet.
    pub tcp_backlog: u32,
    /// Threads that execute commands; 0 is one for each core.
    pub threads: usize,
    /// Where the data lives.
    pub engine: EngineKind,
    /// Directory of the data.
    pub data_dir: PathBuf,
    /// Number of databases that `SELECT` reaches.
    pub databases: usize,
    /// When a write is synced.
    pub appendfsync: AppendFsync,
    /// Longest argument in bytes.
    pub proto_max_bulk_len: i64,
    /// Most bytes that one client may have sent without their being executed.
    pub query_buffer_bytes_max: u64,
    /// Verbosity of the log: `debug`, `verbose`, `notice` or `warning`.
    pub loglevel: String,
    /// Bytes of a memtable of the engine.
    pub memtable_bytes: usize,
    /// Bytes of the engine's block cache.
    pub block_cache_bytes: usize,
    /// Settings without effect, by name.
    kept: BTreeMap<&'static str, String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bind: vec!["127.0.0.1".to_owned()],
            port: 6379,
            protected_mode: true,
            maxclients: 10_000,
            requirepass: Secret::default(),
            timeout_seconds: 0,
            tcp_keepalive_seconds: 300,
            tcp_backlog: 511,
            threads: 0,
            engine: EngineKind::Aidb,
            data_dir: PathBuf::from("data"),
            databases: 16,
            appendfsync: AppendFsync::EverySecond,
            proto_max_bulk_len: 512 << 20,
            query_buffer_bytes_max: 1 << 30,
            loglevel: "notice".to_owned(),
            memtable_bytes: 64 << 20,
            block_cache_bytes: 256 << 20,
            kept: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Sets parameter `name` to `value`, whichever road it came by.
    ///
    /// # Errors
    /// There is no such parameter, or the value is refused; the text says what is accepted.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let parameter = Parameter::find(name).ok_or_else(|| unknown(name))?;
        let number = parameter.check(value)?;
        let number_usize = || usize::try_from(number).expect("the table bounds it");
        match parameter.name {
            "bind" => self.bind = value.split_whitespace().map(str::to_owned).collect(),
            "port" => self.port = u16::try_from(number).expect("the table bounds it"),
            "protected-mode" => self.protected_mode = is_yes(value),
            "maxclients" => self.maxclients = number_usize(),
            "requirepass" => self.requirepass = Secret::new(value),
            "timeout" => self.timeout_seconds = number.unsigned_abs(),
            "tcp-keepalive" => self.tcp_keepalive_seconds = number.unsigned_abs(),
            "tcp-backlog" => self.tcp_backlog = u32::try_from(number).expect("the table bounds it"),
            "threads" => self.threads = number_usize(),
            "engine" => self.engine = if is(value, "memory") { EngineKind::Memory } else { EngineKind::Aidb },
            "dir" => self.data_dir = PathBuf::from(value),
            "databases" => self.databases = number_usize(),
            "appendfsync" => {
                self.appendfsync = match value.to_ascii_lowercase().as_str() {
                    "always" => AppendFsync::Always,
                    "no" => AppendFsync::No,
                    _ => AppendFsync::EverySecond,
                }
            }
            "proto-max-bulk-len" => self.proto_max_bulk_len = number,
            "client-query-buffer-limit" => self.query_buffer_bytes_max = number.unsigned_abs(),
            "loglevel" => self.loglevel = value.to_ascii_lowercase(),
            "memtable-bytes" => self.memtable_bytes = number_usize(),
            "block-cache-bytes" => self.block_cache_bytes = number_usize(),
            name => {
                let value = if parameter.is_numeric() { number.to_string() } else { value.to_owned() };
                self.kept.insert(name, value);
            }
        }
        Ok(())
    }

    /// Returns the value of `parameter` as `CONFIG GET` shows it.
    pub fn get(&self, parameter: &Parameter) -> String {
        match parameter.name {
            "bind" => self.bind.join(" "),
            "port" => self.port.to_string(),
            "protected-mode" => yes_no(self.protected_mode),
            "maxclients" => self.maxclients.to_string(),
            "requirepass" => self.requirepass.reveal().to_owned(),
            "timeout" => self.timeout_seconds.to_string(),
            "tcp-keepalive" => self.tcp_keepalive_seconds.to_string(),
            "tcp-backlog" => self.tcp_backlog.to_string(),
            "threads" => self.threads.to_string(),
            "engine" => self.engine_name().to_owned(),
            "dir" => self.data_dir.display().to_string(),
            "databases" => self.databases.to_string(),
            "appendfsync" => match self.appendfsync {
                AppendFsync::Always => "always".to_owned(),
                AppendFsync::EverySecond => "everysec".to_owned(),
                AppendFsync::No => "no".to_owned(),
            },
            "appendonly" => self.kept.get("appendonly").cloned().unwrap_or(yes_no(self.engine == EngineKind::Aidb)),
            "proto-max-bulk-len" => self.proto_max_bulk_len.to_string(),
            "client-query-buffer-limit" => self.query_buffer_bytes_max.to_string(),
            "loglevel" => self.loglevel.clone(),
            "memtable-bytes" => self.memtable_bytes.to_string(),
            "block-cache-bytes" => self.block_cache_bytes.to_string(),
            name => self.kept.get(name).cloned().unwrap_or(parameter.default.to_owned()),
        }
    }

    /// Returns the name of the storage engine.
    pub fn engine_name(&self) -> &'static str {
        match self.engine {
            EngineKind::Aidb => "aidb",
            EngineKind::Memory => "memory",
        }
    }

    /// Checks what no single setting can check.
    ///
    /// # Errors
    /// Two settings contradict each other.
    pub fn validate(&self) -> Result<(), String> {
        if self.bind.is_empty() {
            return Err("bind: no address given; for example --bind 127.0.0.1".to_owned());
        }
        if self.engine == EngineKind::Memory && self.kept.get("appendonly").is_some_and(|value| is_yes(value)) {
            return Err("appendonly yes: the memory engine keeps nothing on disk; use --engine aidb".to_owned());
        }
        Ok(())
    }

    /// Applies a TOML document; `origin` names it in errors.
    ///
    /// # Errors
    /// The text is not TOML, or has an unknown section or key, or a refused value. The message names it.
    pub fn apply_toml(&mut self, text: &str, origin: &str) -> Result<(), String> {
        let document: toml::Table = text.parse().map_err(|error| format!("{origin}: {error}"))?;
        for (section, value) in &document {
            let names = || {
                let in_section = PARAMETERS.iter().filter(|parameter| parameter.section == section);
                in_section.map(|parameter| parameter.toml_key()).collect::<Vec<_>>()
            };
            let known = names();
            let toml::Value::Table(table) = value else {
                return Err(format!(
                    "{origin}: \"{section}\" stands outside a section; put it under [server] or [storage]"
                ));
            };
            if known.is_empty() {
                return Err(format!(
                    "{origin}: unknown section [{section}]; there are [server], [storage] and [compat]"
                ));
            }
            for (key, value) in table {
                let found = PARAMETERS.iter().find(|parameter| {
                    parameter.section == section && parameter.toml_key().replace('_', "-") == key.replace('_', "-")
                });
                let parameter = found.ok_or_else(|| {
                    let hint =
                        nearest(key, &known).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
                    format!("{origin}: unknown key \"{key}\" in [{section}]{hint} Keys there: {}", known.join(", "))
                })?;
                let value =
                    toml_text(value).ok_or(format!("{origin}: [{section}] {key}: a plain value is expected"))?;
                self.set(parameter.name, &value).map_err(|why| format!("{origin}: [{section}] {key}: {why}"))?;
            }
        }
        Ok(())
    }

    /// Applies several changes to a running server, or none: the new settings, or the name refused and why.
    ///
    /// # Errors
    /// The first parameter that is unknown (`None`), immutable, repeated or refused.
    pub fn changed(&self, changes: &[(&str, &str)]) -> Result<Config, (String, Option<String>)> {
        let mut next = self.clone();
        for (index, &(name, value)) in changes.iter().enumerate() {
            let refuse = |why: &str| Err((name.to_owned(), Some(why.to_owned())));
            let Some(parameter) = Parameter::find(name) else { return Err((name.to_owned(), None)) };
            if changes[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return refuse("duplicate parameter");
            }
            if parameter.effect == Effect::AtStart {
                return refuse("can't set immutable config");
            }
            next.set(name, value).map_err(|why| (name.to_owned(), Some(why)))?;
        }
        next.validate().map_err(|why| (changes[0].0.to_owned(), Some(why)))?;
        Ok(next)
    }
}

fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(value) => Some(yes_no(*value)),
        toml::Value::Array(items) => {
            items.iter().map(toml_text).collect::<Option<Vec<_>>>().map(|items| items.join(" "))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// Says that there is no parameter `name`, and which one may have been meant.
pub(super) fn unknown(name: &str) -> String {
    let names: Vec<&str> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
    match nearest(name, &names) {
        Some(near) => format!("there is no setting \"{name}\"; did you mean \"{near}\"?"),
        None => format!("there is no setting \"{name}\"; --help lists them all"),
    }
}

/// Finds the name most like `wrong`, if one is close enough to be meant.
pub(super) fn nearest<'n>(wrong: &str, names: &[&'n str]) -> Option<&'n str> {
    let best = names.iter().map(|name| (edits(wrong.as_bytes(), name.as_bytes()), *name)).min()?;
    (best.0 <= 1 + wrong.len().min(12) / 4).then_some(best.1)
}

/// Counts the insertions, deletions and replacements that lead from `a` to `b` (Levenshtein).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn is(value: &str, word: &str) -> bool {
    value.eq_ignore_ascii_case(word)
}

fn is_yes(value: &str) -> bool {
    is(value, "yes")
}

fn yes_no(value: bool) -> String {
    (if value { "yes" } else { "no" }).to_owned()
}

impl Parameter {
    /// Returns true when the value is a number (and is shown as one).
    fn is_numeric(&self) -> bool {
        matches!(self.kind, Kind::Number { .. } | Kind::Bytes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_by_three_roads() {
        let mut config = Config::default();
        config
            .apply_toml(
                "[server]\nport = 7000\nprotected_mode = false\n[storage]\ndata_dir = \"x\"\nengine = \"memory\"",
                "f",
            )
            .unwrap();
        assert_eq!((config.port, config.protected_mode, config.engine), (7000, false, EngineKind::Memory));
        assert_eq!(config.data_dir, PathBuf::from("x"));
        config.set("maxclients", "5").unwrap();
        assert_eq!(config.changed(&[("maxclients", "6"), ("timeout", "1")]).unwrap().maxclients, 6);
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_the_way_out() {
        let refusal = |text: &str| Config::default().apply_toml(text, "aikv.toml").unwrap_err();
        assert!(refusal("[server]\nprot = 1").contains("unknown key \"prot\" in [server]; did you mean \"port\"?"));
        assert!(refusal("[serve]\nport = 1").contains("unknown section [serve]"));
        assert!(refusal("port = 1").contains("outside a section"));
        assert!(refusal("[server]\nport = 70000").contains("port: argument must be between 0 and 65535 inclusive"));
        assert!(refusal("[server\n").contains("aikv.toml"));
        assert!(refusal("[storage]\nengine = \"rocks\"").contains("aidb, memory"));
        assert!(Config::default().set("prot", "1").unwrap_err().contains("did you mean \"port\""));
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let config = Config::default();
        let refusal = |changes: &[(&str, &str)]| config.changed(changes).unwrap_err();
        assert_eq!(refusal(&[("port", "1")]).1.unwrap(), "can't set immutable config");
        assert_eq!(refusal(&[("timeout", "1"), ("TIMEOUT", "2")]).1.unwrap(), "duplicate parameter");
        assert_eq!(refusal(&[("nonsense", "1")]), ("nonsense".to_owned(), None));
        assert!(refusal(&[("maxmemory", "100mb")]).1.unwrap().contains("not supported"));
        assert!(config.changed(&[("maxmemory", "0")]).is_ok());
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = Config { requirepass: Secret::new("hunter2"), ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(config.requirepass.matches(b"hunter2"));
        for wrong in [&b""[..], b"hunter", b"hunter22", b"hunter2hunter2", b"Hunter2"] {
            assert!(!config.requirepass.matches(wrong));
        }
    }

    #[test]
    fn every_default_is_accepted_and_reported() {
        let config = Config::default();
        for parameter in PARAMETERS {
            let shown = config.get(parameter);
            Config::default().set(parameter.name, &shown).unwrap_or_else(|why| panic!("{}: {why}", parameter.name));
        }
    }
}
