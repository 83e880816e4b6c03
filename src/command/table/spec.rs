//! What the server knows of a command before it runs: the row types of the command table.
//!
//! Built in constants by the sibling files, read by dispatch (arity, flags, keys) and by `COMMAND` (everything else).
//! Plain data: no row decides by code.

/// Names a command for dispatch. Subcommands carry the id of their container.
#[expect(missing_docs, reason = "each is the command of that name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    Append,
    Auth,
    Client,
    Command,
    Config,
    Copy,
    DbSize,
    Debug,
    Decr,
    DecrBy,
    Del,
    Echo,
    Exists,
    Expire,
    ExpireAt,
    ExpireTime,
    FlushAll,
    FlushDb,
    Get,
    GetDel,
    GetEx,
    GetRange,
    GetSet,
    Hello,
    Incr,
    IncrBy,
    IncrByFloat,
    Info,
    Keys,
    Lcs,
    MGet,
    Move,
    MSet,
    MSetNx,
    Object,
    Persist,
    PExpire,
    PExpireAt,
    PExpireTime,
    Ping,
    PSetEx,
    PTtl,
    Quit,
    RandomKey,
    Rename,
    RenameNx,
    Reset,
    Scan,
    Select,
    Set,
    SetEx,
    SetNx,
    SetRange,
    Shutdown,
    StrLen,
    SubStr,
    SwapDb,
    Time,
    Touch,
    Ttl,
    Type,
    Unlink,
}

/// The family under which `COMMAND DOCS` files a command.
#[expect(missing_docs, reason = "each is the family of that name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    String,
    Generic,
    Connection,
    Server,
}

impl Group {
    /// Returns the name that clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Group::String => "string",
            Group::Generic => "generic",
            Group::Connection => "connection",
            Group::Server => "server",
        }
    }
}

/// A set of command flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

#[expect(missing_docs, reason = "each is the flag of that name in Redis' documentation of COMMAND")]
impl Flags {
    pub const WRITE: Flags = Flags(1);
    pub const READONLY: Flags = Flags(1 << 1);
    pub const DENYOOM: Flags = Flags(1 << 2);
    pub const ADMIN: Flags = Flags(1 << 3);
    pub const NOSCRIPT: Flags = Flags(1 << 4);
    pub const LOADING: Flags = Flags(1 << 5);
    pub const STALE: Flags = Flags(1 << 6);
    pub const FAST: Flags = Flags(1 << 7);
    pub const NO_AUTH: Flags = Flags(1 << 8);
    pub const ALLOW_BUSY: Flags = Flags(1 << 9);
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
    pub const NO_ASYNC_LOADING: Flags = Flags(1 << 11);
    pub const MOVABLEKEYS: Flags = Flags(1 << 12);
    pub const NO_MULTI: Flags = Flags(1 << 13);
}

/// Flag names in the order in which `COMMAND` lists them.
const FLAG_NAMES: &[(Flags, &str)] = &[
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::MOVABLEKEYS, "movablekeys"),
    (Flags::NO_ASYNC_LOADING, "no_async_loading"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

impl Flags {
    /// Returns true if every flag of `wanted` is set.
    pub const fn contains(self, wanted: Flags) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Lists the names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FLAG_NAMES.iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| *name)
    }
}

/// Where a command's keys are, in the detailed form of `COMMAND INFO`: begin at an index, then a range.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// What the command does with these keys (`RW`, `RO`, `access`, ...).
    pub flags: &'static [&'static str],
    /// Position of the first key.
    pub begin: i32,
    /// Position of the last key counted from the first one; negative: from the end.
    pub last: i32,
    /// Distance between keys.
    pub step: i32,
    /// A remark, or empty.
    pub notes: &'static str,
}

impl KeySpec {
    pub(super) const fn new(flags: &'static [&'static str], begin: i32, last: i32, step: i32) -> KeySpec {
        KeySpec { flags, begin, last, step, notes: "" }
    }

    pub(super) const fn notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = notes;
        self
    }
}

/// The type of an argument in `COMMAND DOCS`.
#[expect(missing_docs, reason = "each is the type of that name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgumentKind {
    /// Returns the name that clients see.
    pub const fn name(self) -> &'static str {
        match self {
            ArgumentKind::String => "string",
            ArgumentKind::Integer => "integer",
            ArgumentKind::Double => "double",
            ArgumentKind::Key => "key",
            ArgumentKind::Pattern => "pattern",
            ArgumentKind::UnixTime => "unix-time",
            ArgumentKind::PureToken => "pure-token",
            ArgumentKind::OneOf => "oneof",
            ArgumentKind::Block => "block",
        }
    }
}

/// One argument of a command as `COMMAND DOCS` describes it.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ArgumentKind,
    /// The word that introduces it, or empty.
    pub token: &'static str,
    /// The version that brought it, or empty if the command's first.
    pub since: &'static str,
    /// The version that deprecated it, or empty.
    pub deprecated_since: &'static str,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// May be repeated, each time with its token.
    pub multiple_token: bool,
    /// What a `OneOf` or a `Block` consists of.
    pub arguments: &'static [Argument],
}

impl Argument {
    pub(super) const fn new(name: &'static str, kind: ArgumentKind) -> Argument {
        Argument {
            name,
            kind,
            token: "",
            since: "",
            deprecated_since: "",
            optional: false,
            multiple: false,
            multiple_token: false,
            arguments: &[],
        }
    }

    pub(super) const fn token(mut self, token: &'static str) -> Argument {
        self.token = token;
        self
    }

    pub(super) const fn since(mut self, since: &'static str) -> Argument {
        self.since = since;
        self
    }

    pub(super) const fn deprecated_since(mut self, since: &'static str) -> Argument {
        self.deprecated_since = since;
        self
    }

    pub(super) const fn optional(mut self) -> Argument {
        self.optional = true;
        self
    }

    pub(super) const fn multiple(mut self) -> Argument {
        self.multiple = true;
        self
    }

    pub(super) const fn of(mut self, arguments: &'static [Argument]) -> Argument {
        self.arguments = arguments;
        self
    }
}

/// One row: a command or, below a container, a subcommand (`"client|setname"`).
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// Lower-case name.
    pub name: &'static str,
    /// What to dispatch on.
    pub id: Id,
    /// Exact number of arguments with the name; negative: at least so many.
    pub arity: i32,
    /// What the command does and when it may run.
    pub flags: Flags,
    /// Position of the first key, 0 without keys.
    pub first_key: i32,
    /// Position of the last key; negative: from the end.
    pub last_key: i32,
    /// Distance between keys.
    pub key_step: i32,
    /// Family.
    pub group: Group,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// Cost in time.
    pub complexity: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// ACL categories, with their `@`.
    pub categories: &'static [&'static str],
    /// Hints for clients and proxies.
    pub tips: &'static [&'static str],
    /// Key positions in detail.
    pub key_specs: &'static [KeySpec],
    /// The version that deprecated it and what replaces it, or empty.
    pub deprecated: (&'static str, &'static str),
    /// Marked as of no use to applications.
    pub syscmd: bool,
    /// Changes by version.
    pub history: &'static [(&'static str, &'static str)],
    /// Arguments for documentation.
    pub arguments: &'static [Argument],
    /// Subcommands of a container.
    pub subcommands: &'static [CommandSpec],
}

impl CommandSpec {
    pub(super) const fn new(name: &'static str, id: Id, arity: i32) -> CommandSpec {
        CommandSpec {
            name,
            id,
            arity,
            flags: Flags(0),
            first_key: 0,
            last_key: 0,
            key_step: 0,
            group: Group::Generic,
            since: "",
            complexity: "",
            summary: "",
            categories: &[],
            tips: &[],
            key_specs: &[],
            deprecated: ("", ""),
            syscmd: false,
            history: &[],
            arguments: &[],
            subcommands: &[],
        }
    }

    pub(super) const fn flags(mut self, flags: &[Flags]) -> CommandSpec {
        let mut at = 0;
        while at < flags.len() {
            self.flags.0 |= flags[at].0;
            at += 1;
        }
        self
    }

    pub(super) const fn keys(mut self, first: i32, last: i32, step: i32) -> CommandSpec {
        self.first_key = first;
        self.last_key = last;
        self.key_step = step;
        self
    }

    pub(super) const fn docs(
        mut self,
        group: Group,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> CommandSpec {
        self.group = group;
        self.since = since;
        self.complexity = complexity;
        self.summary = summary;
        self
    }

    pub(super) const fn categories(mut self, categories: &'static [&'static str]) -> CommandSpec {
        self.categories = categories;
        self
    }

    pub(super) const fn tips(mut self, tips: &'static [&'static str]) -> CommandSpec {
        self.tips = tips;
        self
    }

    pub(super) const fn key_specs(mut self, key_specs: &'static [KeySpec]) -> CommandSpec {
        self.key_specs = key_specs;
        self
    }

    pub(super) const fn deprecated(mut self, since: &'static str, replaced_by: &'static str) -> CommandSpec {
        self.deprecated = (since, replaced_by);
        self
    }

    pub(super) const fn syscmd(mut self) -> CommandSpec {
        self.syscmd = true;
        self
    }

    pub(super) const fn history(mut self, history: &'static [(&'static str, &'static str)]) -> CommandSpec {
        self.history = history;
        self
    }

    pub(super) const fn arguments(mut self, arguments: &'static [Argument]) -> CommandSpec {
        self.arguments = arguments;
        self
    }

    pub(super) const fn subcommands(mut self, subcommands: &'static [CommandSpec]) -> CommandSpec {
        self.subcommands = subcommands;
        self
    }

    /// Tells whether a request of `args` arguments, its name included, has the right number.
    #[inline]
    pub const fn accepts(&self, args: usize) -> bool {
        if self.arity < 0 { args >= self.arity.unsigned_abs() as usize } else { args == self.arity as usize }
    }

    /// Returns the error for a request that [`accepts`](Self::accepts) refuses.
    pub fn arity_error(&self) -> String {
        format!("ERR wrong number of arguments for '{}' command", self.name)
    }

    /// Lists the positions of the keys in a request of `args` arguments that [`accepts`](Self::accepts) allows.
    #[inline]
    pub fn key_positions(&self, args: usize) -> impl Iterator<Item = usize> + use<> {
        let last = if self.last_key < 0 {
            args.saturating_sub(self.last_key.unsigned_abs() as usize)
        } else {
            self.last_key as usize
        };
        let first = self.first_key as usize;
        let end = if first == 0 { 0 } else { (last + 1).min(args) };
        (first..end).step_by(self.key_step.max(1) as usize)
    }

    /// Finds a subcommand of a container by its own name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let skip = self.name.len() + 1;
        self.subcommands.iter().find(|spec| spec.name.as_bytes()[skip..].eq_ignore_ascii_case(name))
    }

    /// Tells whether the session answers the command itself; the others go to [`Batch::execute`](crate::command::Batch).
    pub const fn is_session(&self) -> bool {
        matches!(
            self.id,
            Id::Auth
                | Id::Client
                | Id::Command
                | Id::Config
                | Id::Debug
                | Id::Echo
                | Id::Hello
                | Id::Info
                | Id::Ping
                | Id::Quit
                | Id::Reset
                | Id::Select
                | Id::Shutdown
                | Id::Time
        )
    }
}
