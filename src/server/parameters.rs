//! The table of settings: names, sections, accepted values, defaults of those without effect, and one line on each.
//!
//! [`PARAMETERS`] is sorted for people, not for search: lookups happen at start and in `CONFIG`. The texts of refusals are
//! those of Redis 7.0.

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Flag,
    /// A whole number within bounds.
    Number {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A number of bytes, with an optional unit such as `mb`.
    Bytes {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// One of some words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
}

/// When a parameter takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read at start; `CONFIG SET` refuses.
    AtStart,
    /// Changeable while running.
    Live,
    /// Stored and reported, without effect.
    Kept,
    /// Without effect, and only the default is accepted.
    Fixed,
}

/// One setting.
#[derive(Debug)]
pub struct Parameter {
    /// Its name on the command line and in `CONFIG`.
    pub name: &'static str,
    /// Its section in the TOML file.
    pub section: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// When it takes effect.
    pub effect: Effect,
    /// The value shown while nothing else was set; empty where the typed configuration holds it.
    pub default: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
}

impl Parameter {
    /// Finds a parameter by its name, in any case.
    pub fn find(name: &str) -> Option<&'static Parameter> {
        PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
    }

    /// Returns the name used in the TOML file.
    pub fn toml_key(&self) -> &'static str {
        if self.name == "dir" { "data_dir" } else { self.name }
    }

    /// Checks a value and returns it as a number where it is one.
    pub(super) fn check(&self, value: &str) -> Result<i64, String> {
        if self.effect == Effect::Fixed && !value.eq_ignore_ascii_case(self.default) {
            return Err(format!("not supported: only \"{}\" is accepted", self.default));
        }
        match self.kind {
            Kind::Text => Ok(0),
            Kind::Flag if ["yes", "no"].iter().any(|word| value.eq_ignore_ascii_case(word)) => Ok(0),
            Kind::Flag => Err("argument must be 'yes' or 'no'".to_owned()),
            Kind::Word(words) if words.iter().any(|word| value.eq_ignore_ascii_case(word)) => Ok(0),
            Kind::Word(words) => Err(format!("argument(s) must be one of the following: {}", words.join(", "))),
            Kind::Number { min, max } => {
                let number = value.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
                within(number, min, max)
            }
            Kind::Bytes { min, max } => {
                let number = bytes_of(value).ok_or("argument must be a memory value")?;
                within(number, min, max)
            }
        }
    }
}

fn within(number: i64, min: i64, max: i64) -> Result<i64, String> {
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// Reads `512mb`: `k m g` are powers of 1000, `kb mb gb` of 1024.
fn bytes_of(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok()?.checked_mul(unit)
}

const ANY: i64 = i64::MAX;

const fn number(min: i64, max: i64) -> Kind {
    Kind::Number { min, max }
}

const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Bytes { min, max }
}

const fn server(name: &'static str, kind: Kind, effect: Effect, help: &'static str) -> Parameter {
    Parameter { name, section: "server", kind, effect, default: "", help }
}

const fn storage(name: &'static str, kind: Kind, effect: Effect, help: &'static str) -> Parameter {
    Parameter { name, section: "storage", kind, effect, default: "", help }
}

const fn kept(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter { name, section: "compat", kind, effect: Effect::Kept, default, help: "" }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter { name, section: "compat", kind, effect: Effect::Fixed, default, help: "" }
}

/// Every setting.
pub const PARAMETERS: &[Parameter] = &[
    server("port", number(0, 65535), Effect::AtStart, "TCP port, 0 for any free one [6379]"),
    server("bind", Kind::Text, Effect::AtStart, "addresses to listen on, - before one that may be missing [127.0.0.1]"),
    server("protected-mode", Kind::Flag, Effect::Live, "refuse other machines while no password is set [yes]"),
    server("requirepass", Kind::Text, Effect::Live, "password that clients must give [none]"),
    server("maxclients", number(1, 1_000_000), Effect::Live, "most clients at a time [10000]"),
    server(
        "timeout",
        number(0, i32::MAX as i64),
        Effect::Live,
        "seconds until an idle client is closed, 0 = never [0]",
    ),
    server(
        "tcp-keepalive",
        number(0, i32::MAX as i64),
        Effect::Live,
        "seconds between keep-alive probes, 0 = none [300]",
    ),
    server("tcp-backlog", number(1, 65535), Effect::AtStart, "connections waiting to be accepted [511]"),
    server("threads", number(0, 1024), Effect::AtStart, "threads executing commands, 0 = one a core [0]"),
    server("proto-max-bulk-len", bytes(1 << 20, 512 << 20), Effect::Live, "longest argument [512mb]"),
    server(
        "client-query-buffer-limit",
        bytes(1 << 20, 1 << 30),
        Effect::Live,
        "most unexecuted input of a client [1gb]",
    ),
    server(
        "loglevel",
        Kind::Word(&["debug", "verbose", "notice", "warning", "nothing"]),
        Effect::AtStart,
        "debug, verbose, notice or warning [notice]",
    ),
    storage("engine", Kind::Word(&["aidb", "memory"]), Effect::AtStart, "aidb (on disk) or memory [aidb]"),
    storage("dir", Kind::Text, Effect::AtStart, "directory of the data [./data]"),
    storage("databases", number(1, 1 << 16), Effect::AtStart, "databases that SELECT reaches [16]"),
    storage(
        "appendfsync",
        Kind::Word(&["everysec", "always", "no"]),
        Effect::Live,
        "when a write is on the device: always (before the reply), everysec or no [everysec]",
    ),
    storage("memtable-bytes", bytes(64 << 10, 4 << 30), Effect::AtStart, "memory a memtable may take [64mb]"),
    storage("block-cache-bytes", bytes(0, 1 << 40), Effect::AtStart, "memory of the block cache [256mb]"),
    Parameter {
        name: "appendonly",
        section: "storage",
        kind: Kind::Flag,
        effect: Effect::Kept,
        default: "",
        help: "accepted for Redis' sake: the aidb engine always logs writes, the memory engine never does",
    },
    Parameter {
        name: "save",
        section: "storage",
        kind: Kind::Text,
        effect: Effect::Kept,
        default: "",
        help: "accepted for Redis' sake: the aidb engine saves continually",
    },
    fixed("maxmemory", bytes(0, ANY), "0"),
    kept("maxmemory-policy", Kind::Text, "noeviction"),
    kept("maxmemory-samples", number(1, 64), "5"),
    fixed("notify-keyspace-events", Kind::Text, ""),
    fixed("cluster-enabled", Kind::Flag, "no"),
    fixed("activedefrag", Kind::Flag, "no"),
    fixed("tls-port", number(0, 65535), "0"),
    fixed("unixsocket", Kind::Text, ""),
    fixed("daemonize", Kind::Flag, "no"),
    fixed("replicaof", Kind::Text, ""),
    kept("replica-read-only", Kind::Flag, "yes"),
    kept("replica-serve-stale-data", Kind::Flag, "yes"),
    kept("repl-diskless-sync", Kind::Flag, "yes"),
    kept("repl-diskless-sync-delay", number(0, ANY), "5"),
    kept("repl-ping-replica-period", number(1, ANY), "10"),
    kept("repl-timeout", number(1, ANY), "60"),
    kept("repl-backlog-size", bytes(1, ANY), "1048576"),
    kept("min-replicas-to-write", number(0, 0), "0"),
    kept("min-replicas-max-lag", number(0, ANY), "10"),
    kept("hz", number(1, 500), "10"),
    kept("dynamic-hz", Kind::Flag, "yes"),
    kept("active-expire-effort", number(1, 10), "1"),
    kept("lazyfree-lazy-eviction", Kind::Flag, "no"),
    kept("lazyfree-lazy-expire", Kind::Flag, "no"),
    kept("lazyfree-lazy-server-del", Kind::Flag, "no"),
    kept("lazyfree-lazy-user-del", Kind::Flag, "no"),
    kept("lazyfree-lazy-user-flush", Kind::Flag, "no"),
    kept("list-max-listpack-size", number(-5, ANY), "-2"),
    kept("list-max-ziplist-size", number(-5, ANY), "-2"),
    kept("list-compress-depth", number(0, ANY), "0"),
    kept("hash-max-listpack-entries", number(0, ANY), "512"),
    kept("hash-max-listpack-value", number(0, ANY), "64"),
    kept("hash-max-ziplist-entries", number(0, ANY), "512"),
    kept("hash-max-ziplist-value", number(0, ANY), "64"),
    kept("set-max-intset-entries", number(0, ANY), "512"),
    kept("zset-max-listpack-entries", number(0, ANY), "128"),
    kept("zset-max-listpack-value", number(0, ANY), "64"),
    kept("zset-max-ziplist-entries", number(0, ANY), "128"),
    kept("zset-max-ziplist-value", number(0, ANY), "64"),
    kept("stream-node-max-bytes", bytes(0, ANY), "4096"),
    kept("stream-node-max-entries", number(0, ANY), "100"),
    kept("hll-sparse-max-bytes", bytes(0, ANY), "3000"),
    kept("slowlog-log-slower-than", number(-1, ANY), "10000"),
    kept("slowlog-max-len", number(0, ANY), "128"),
    kept("latency-monitor-threshold", number(0, ANY), "0"),
    kept("latency-tracking", Kind::Flag, "no"),
    kept("lua-time-limit", number(0, ANY), "5000"),
    kept("busy-reply-threshold", number(0, ANY), "5000"),
    kept("dbfilename", Kind::Text, "dump.rdb"),
    kept("appendfilename", Kind::Text, "appendonly.aof"),
    kept("appenddirname", Kind::Text, "appendonlydir"),
    kept("rdbcompression", Kind::Flag, "yes"),
    kept("rdbchecksum", Kind::Flag, "yes"),
    kept("rdb-key-save-delay", number(i32::MIN as i64, i32::MAX as i64), "0"),
    kept("key-load-delay", number(i32::MIN as i64, i32::MAX as i64), "0"),
    kept("stop-writes-on-bgsave-error", Kind::Flag, "yes"),
    kept("aof-use-rdb-preamble", Kind::Flag, "yes"),
    kept("aof-load-truncated", Kind::Flag, "yes"),
    kept("aof-timestamp-enabled", Kind::Flag, "no"),
    kept("no-appendfsync-on-rewrite", Kind::Flag, "no"),
    kept("auto-aof-rewrite-percentage", number(0, ANY), "100"),
    kept("auto-aof-rewrite-min-size", bytes(0, ANY), "67108864"),
    kept("activerehashing", Kind::Flag, "yes"),
    kept("tracking-table-max-keys", number(0, ANY), "1000000"),
    kept(
        "client-output-buffer-limit",
        Kind::Text,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    ),
    kept("enable-debug-command", Kind::Text, "local"),
    kept("enable-protected-configs", Kind::Text, "no"),
    kept("supervised", Kind::Text, "no"),
    kept("logfile", Kind::Text, ""),
    kept("pidfile", Kind::Text, ""),
    kept("syslog-enabled", Kind::Flag, "no"),
    kept("crash-log-enabled", Kind::Flag, "yes"),
    kept("crash-memcheck-enabled", Kind::Flag, "yes"),
    kept("io-threads", number(1, 128), "1"),
    kept("always-show-logo", Kind::Flag, "no"),
    kept("set-proc-title", Kind::Flag, "yes"),
    kept("proc-title-template", Kind::Text, "{title} {listen-addr} {server-mode}"),
];
