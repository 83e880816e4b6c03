//! Rows of the command table: the connection commands, as Redis 7.0.15 describes them to `COMMAND`.
//!
//! Read by `super`, which joins the families; nothing here decides anything at run time beyond arity, flags and keys.

use super::spec::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("auth", Id::Auth, -2)
        .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::FAST, Flags::NO_AUTH, Flags::ALLOW_BUSY])
        .docs(
            Group::Connection,
            "1.0.0",
            "O(N) where N is the number of passwords defined for the user",
            "Authenticate to the server",
        )
        .categories(&["@fast", "@connection"])
        .history(&[("6.0.0", "Added ACL style (username and password).")])
        .arguments(&[
            Argument::new("username", ArgumentKind::String).optional().since("6.0.0"),
            Argument::new("password", ArgumentKind::String),
        ]),
    CommandSpec::new("client", Id::Client, -2)
        .docs(Group::Connection, "2.4.0", "Depends on subcommand.", "A container for client connection commands")
        .categories(&["@slow"])
        .subcommands(&[
            CommandSpec::new("client|getname", Id::Client, 2)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "2.6.9", "O(1)", "Get the current connection name")
                .categories(&["@slow", "@connection"]),
            CommandSpec::new("client|help", Id::Client, 2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "5.0.0", "O(1)", "Show helpful text about the different subcommands")
                .categories(&["@slow", "@connection"]),
            CommandSpec::new("client|id", Id::Client, 2)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "5.0.0", "O(1)", "Returns the client ID for the current connection")
                .categories(&["@slow", "@connection"]),
            CommandSpec::new("client|info", Id::Client, 2)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "6.2.0", "O(1)", "Returns information about the current client connection.")
                .categories(&["@slow", "@connection"])
                .tips(&["nondeterministic_output"]),
            CommandSpec::new("client|kill", Id::Client, -3)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Connection,
                    "2.4.0",
                    "O(N) where N is the number of client connections",
                    "Kill the connection of a client",
                )
                .categories(&["@admin", "@slow", "@dangerous", "@connection"])
                .history(&[
                    ("2.8.12", "Added new filter format."),
                    ("2.8.12", "`ID` option."),
                    ("3.2.0", "Added `master` type in for `TYPE` option."),
                    (
                        "5.0.0",
                        "Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility.",
                    ),
                    ("6.2.0", "`LADDR` option."),
                ])
                .arguments(&[Argument::new("filter", ArgumentKind::OneOf).of(&[
                    Argument::new("ip:port", ArgumentKind::String).deprecated_since("2.8.12"),
                    Argument::new("new-format", ArgumentKind::OneOf).multiple().of(&[
                        Argument::new("client-id", ArgumentKind::Integer).token("ID").optional().since("2.8.12"),
                        Argument::new("normal_master_slave_pubsub", ArgumentKind::OneOf)
                            .token("TYPE")
                            .optional()
                            .since("2.8.12")
                            .of(&[
                                Argument::new("normal", ArgumentKind::PureToken).token("NORMAL"),
                                Argument::new("master", ArgumentKind::PureToken).token("MASTER").since("3.2.0"),
                                Argument::new("slave", ArgumentKind::PureToken).token("SLAVE"),
                                Argument::new("replica", ArgumentKind::PureToken).token("REPLICA").since("5.0.0"),
                                Argument::new("pubsub", ArgumentKind::PureToken).token("PUBSUB"),
                            ]),
                        Argument::new("username", ArgumentKind::String).token("USER").optional(),
                        Argument::new("ip:port", ArgumentKind::String).token("ADDR").optional(),
                        Argument::new("ip:port", ArgumentKind::String).token("LADDR").optional().since("6.2.0"),
                        Argument::new("yes/no", ArgumentKind::String).token("SKIPME").optional(),
                    ]),
                ])]),
            CommandSpec::new("client|no-touch", Id::Client, 3)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Connection,
                    "7.2.0",
                    "O(1)",
                    "Controls whether commands alter the last access time of keys",
                )
                .categories(&["@slow", "@connection"])
                .arguments(&[Argument::new("enabled", ArgumentKind::OneOf).of(&[
                    Argument::new("on", ArgumentKind::PureToken).token("ON"),
                    Argument::new("off", ArgumentKind::PureToken).token("OFF"),
                ])]),
            CommandSpec::new("client|reply", Id::Client, 3)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "3.2.0", "O(1)", "Instruct the server whether to reply to commands")
                .categories(&["@slow", "@connection"])
                .arguments(&[Argument::new("on_off_skip", ArgumentKind::OneOf).of(&[
                    Argument::new("on", ArgumentKind::PureToken).token("ON"),
                    Argument::new("off", ArgumentKind::PureToken).token("OFF"),
                    Argument::new("skip", ArgumentKind::PureToken).token("SKIP"),
                ])]),
            CommandSpec::new("client|list", Id::Client, -2)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Connection,
                    "2.4.0",
                    "O(N) where N is the number of client connections",
                    "Get the list of client connections",
                )
                .categories(&["@admin", "@slow", "@dangerous", "@connection"])
                .tips(&["nondeterministic_output"])
                .history(&[
                    ("2.8.12", "Added unique client `id` field."),
                    ("5.0.0", "Added optional `TYPE` filter."),
                    ("6.0.0", "Added `user` field."),
                    (
                        "6.2.0",
                        "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the \
        optional `ID` filter.",
                    ),
                    ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
                    ("7.0.3", "Added `ssub` field."),
                ])
                .arguments(&[
                    Argument::new("normal_master_replica_pubsub", ArgumentKind::OneOf)
                        .token("TYPE")
                        .optional()
                        .since("5.0.0")
                        .of(&[
                            Argument::new("normal", ArgumentKind::PureToken).token("NORMAL"),
                            Argument::new("master", ArgumentKind::PureToken).token("MASTER"),
                            Argument::new("replica", ArgumentKind::PureToken).token("REPLICA"),
                            Argument::new("pubsub", ArgumentKind::PureToken).token("PUBSUB"),
                        ]),
                    Argument::new("id", ArgumentKind::Block)
                        .token("ID")
                        .optional()
                        .since("6.2.0")
                        .of(&[Argument::new("client-id", ArgumentKind::Integer).multiple()]),
                ]),
            CommandSpec::new("client|no-evict", Id::Client, 3)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "7.0.0", "O(1)", "Set client eviction mode for the current connection")
                .categories(&["@admin", "@slow", "@dangerous", "@connection"])
                .arguments(&[Argument::new("enabled", ArgumentKind::OneOf).of(&[
                    Argument::new("on", ArgumentKind::PureToken).token("ON"),
                    Argument::new("off", ArgumentKind::PureToken).token("OFF"),
                ])]),
            CommandSpec::new("client|setinfo", Id::Client, 4)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "7.2.0", "O(1)", "Set client or connection specific info")
                .categories(&["@slow", "@connection"])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandSpec::new("client|setname", Id::Client, 3)
                .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Connection, "2.6.9", "O(1)", "Set the current connection name")
                .categories(&["@slow", "@connection"])
                .arguments(&[Argument::new("connection-name", ArgumentKind::String)]),
        ]),
    CommandSpec::new("echo", Id::Echo, 2)
        .flags(&[Flags::LOADING, Flags::STALE, Flags::FAST])
        .docs(Group::Connection, "1.0.0", "O(1)", "Echo the given string")
        .categories(&["@fast", "@connection"])
        .arguments(&[Argument::new("message", ArgumentKind::String)]),
    CommandSpec::new("hello", Id::Hello, -1)
        .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::FAST, Flags::NO_AUTH, Flags::ALLOW_BUSY])
        .docs(Group::Connection, "6.0.0", "O(1)", "Handshake with Redis")
        .categories(&["@fast", "@connection"])
        .history(&[(
            "6.2.0",
            "`protover` made optional; when called without arguments the command \
        reports the current connection's context.",
        )])
        .arguments(&[Argument::new("arguments", ArgumentKind::Block).optional().of(&[
            Argument::new("protover", ArgumentKind::Integer),
            Argument::new("username_password", ArgumentKind::Block).token("AUTH").optional().of(&[
                Argument::new("username", ArgumentKind::String),
                Argument::new("password", ArgumentKind::String),
            ]),
            Argument::new("clientname", ArgumentKind::String).token("SETNAME").optional(),
        ])]),
    CommandSpec::new("ping", Id::Ping, -1)
        .flags(&[Flags::FAST])
        .docs(Group::Connection, "1.0.0", "O(1)", "Ping the server")
        .categories(&["@fast", "@connection"])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .arguments(&[Argument::new("message", ArgumentKind::String).optional()]),
    CommandSpec::new("quit", Id::Quit, -1)
        .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::FAST, Flags::NO_AUTH, Flags::ALLOW_BUSY])
        .docs(Group::Connection, "1.0.0", "O(1)", "Close the connection")
        .categories(&["@fast", "@connection"]),
    CommandSpec::new("reset", Id::Reset, 1)
        .flags(&[Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::FAST, Flags::NO_AUTH, Flags::ALLOW_BUSY])
        .docs(Group::Connection, "6.2.0", "O(1)", "Reset the connection")
        .categories(&["@fast", "@connection"]),
    CommandSpec::new("select", Id::Select, 2)
        .flags(&[Flags::LOADING, Flags::STALE, Flags::FAST])
        .docs(Group::Connection, "1.0.0", "O(1)", "Change the selected database for the current connection")
        .categories(&["@fast", "@connection"])
        .arguments(&[Argument::new("index", ArgumentKind::Integer)]),
];
