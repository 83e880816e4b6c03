//! Rows of the command table: the server commands, as Redis 7.0.15 describes them to `COMMAND`.
//!
//! Read by `super`, which joins the families; nothing here decides anything at run time beyond arity, flags and keys.

use super::spec::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("command", Id::Command, -1)
        .flags(&[Flags::LOADING, Flags::STALE])
        .docs(
            Group::Server,
            "2.8.13",
            "O(N) where N is the total number of Redis commands",
            "Get array of Redis command details",
        )
        .categories(&["@slow", "@connection"])
        .tips(&["nondeterministic_output_order"])
        .subcommands(&[
            CommandSpec::new("command|count", Id::Command, 2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(Group::Server, "2.8.13", "O(1)", "Get total number of Redis commands")
                .categories(&["@slow", "@connection"]),
            CommandSpec::new("command|docs", Id::Command, -2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Server,
                    "7.0.0",
                    "O(N) where N is the number of commands to look up",
                    "Get array of specific Redis command documentation",
                )
                .categories(&["@slow", "@connection"])
                .tips(&["nondeterministic_output_order"])
                .arguments(&[Argument::new("command-name", ArgumentKind::String).optional().multiple()]),
            CommandSpec::new("command|getkeys", Id::Command, -4)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Server,
                    "2.8.13",
                    "O(N) where N is the number of arguments to the command",
                    "Extract keys given a full Redis command",
                )
                .categories(&["@slow", "@connection"]),
            CommandSpec::new("command|help", Id::Command, 2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(Group::Server, "5.0.0", "O(1)", "Show helpful text about the different subcommands")
                .categories(&["@slow", "@connection"]),
            CommandSpec::new("command|info", Id::Command, -2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Server,
                    "2.8.13",
                    "O(N) where N is the number of commands to look up",
                    "Get array of specific Redis command details, or all when no \
        argument is given.",
                )
                .categories(&["@slow", "@connection"])
                .tips(&["nondeterministic_output_order"])
                .history(&[("7.0.0", "Allowed to be called with no argument to get info on all commands.")])
                .arguments(&[Argument::new("command-name", ArgumentKind::String).optional().multiple()]),
            CommandSpec::new("command|list", Id::Command, -2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Server,
                    "7.0.0",
                    "O(N) where N is the total number of Redis commands",
                    "Get an array of Redis command names",
                )
                .categories(&["@slow", "@connection"])
                .tips(&["nondeterministic_output_order"])
                .arguments(&[Argument::new("filterby", ArgumentKind::OneOf).token("FILTERBY").optional().of(&[
                    Argument::new("module-name", ArgumentKind::String).token("MODULE"),
                    Argument::new("category", ArgumentKind::String).token("ACLCAT"),
                    Argument::new("pattern", ArgumentKind::Pattern).token("PATTERN"),
                ])]),
        ]),
    CommandSpec::new("config", Id::Config, -2)
        .docs(Group::Server, "2.0.0", "Depends on subcommand.", "A container for server configuration commands")
        .categories(&["@slow"])
        .subcommands(&[
            CommandSpec::new("config|get", Id::Config, -3)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Server,
                    "2.0.0",
                    "O(N) when N is the number of configuration parameters provided",
                    "Get the values of configuration parameters",
                )
                .categories(&["@admin", "@slow", "@dangerous"])
                .history(&[("7.0.0", "Added the ability to pass multiple pattern parameters in one call")])
                .arguments(&[Argument::new("parameter", ArgumentKind::Block)
                    .multiple()
                    .of(&[Argument::new("parameter", ArgumentKind::String)])]),
            CommandSpec::new("config|help", Id::Config, 2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(Group::Server, "5.0.0", "O(1)", "Show helpful text about the different subcommands")
                .categories(&["@slow"]),
            CommandSpec::new("config|resetstat", Id::Config, 2)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Server, "2.0.0", "O(1)", "Reset the stats returned by INFO")
                .categories(&["@admin", "@slow", "@dangerous"]),
            CommandSpec::new("config|rewrite", Id::Config, 2)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(Group::Server, "2.8.0", "O(1)", "Rewrite the configuration file with the in memory configuration")
                .categories(&["@admin", "@slow", "@dangerous"]),
            CommandSpec::new("config|set", Id::Config, -4)
                .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
                .docs(
                    Group::Server,
                    "2.0.0",
                    "O(N) when N is the number of configuration parameters provided",
                    "Set configuration parameters to the given values",
                )
                .categories(&["@admin", "@slow", "@dangerous"])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .history(&[("7.0.0", "Added the ability to set multiple parameters in one call.")])
                .arguments(&[Argument::new("parameter_value", ArgumentKind::Block).multiple().of(&[
                    Argument::new("parameter", ArgumentKind::String),
                    Argument::new("value", ArgumentKind::String),
                ])]),
        ]),
    CommandSpec::new("dbsize", Id::DbSize, 1)
        .flags(&[Flags::READONLY, Flags::FAST])
        .docs(Group::Server, "1.0.0", "O(1)", "Return the number of keys in the selected database")
        .categories(&["@keyspace", "@read", "@fast"])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    CommandSpec::new("debug", Id::Debug, -2)
        .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE])
        .docs(Group::Server, "1.0.0", "Depends on subcommand.", "A container for debugging commands")
        .categories(&["@admin", "@slow", "@dangerous"])
        .syscmd(),
    CommandSpec::new("flushall", Id::FlushAll, -1)
        .flags(&[Flags::WRITE])
        .docs(
            Group::Server,
            "1.0.0",
            "O(N) where N is the total number of keys in all databases",
            "Remove all keys from all databases",
        )
        .categories(&["@keyspace", "@write", "@slow", "@dangerous"])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .history(&[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ])
        .arguments(&[Argument::new("async", ArgumentKind::OneOf).optional().of(&[
            Argument::new("async", ArgumentKind::PureToken).token("ASYNC").since("4.0.0"),
            Argument::new("sync", ArgumentKind::PureToken).token("SYNC").since("6.2.0"),
        ])]),
    CommandSpec::new("flushdb", Id::FlushDb, -1)
        .flags(&[Flags::WRITE])
        .docs(
            Group::Server,
            "1.0.0",
            "O(N) where N is the number of keys in the selected database",
            "Remove all keys from the current database",
        )
        .categories(&["@keyspace", "@write", "@slow", "@dangerous"])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .history(&[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ])
        .arguments(&[Argument::new("async", ArgumentKind::OneOf).optional().of(&[
            Argument::new("async", ArgumentKind::PureToken).token("ASYNC").since("4.0.0"),
            Argument::new("sync", ArgumentKind::PureToken).token("SYNC").since("6.2.0"),
        ])]),
    CommandSpec::new("info", Id::Info, -1)
        .flags(&[Flags::LOADING, Flags::STALE])
        .docs(Group::Server, "1.0.0", "O(1)", "Get information and statistics about the server")
        .categories(&["@slow", "@dangerous"])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .history(&[("7.0.0", "Added support for taking multiple section arguments.")])
        .arguments(&[Argument::new("section", ArgumentKind::String).optional().multiple()]),
    CommandSpec::new("shutdown", Id::Shutdown, -1)
        .flags(&[Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::NO_MULTI, Flags::ALLOW_BUSY])
        .docs(
            Group::Server,
            "1.0.0",
            "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
            "Synchronously save the dataset to disk and then shut down the server",
        )
        .categories(&["@admin", "@slow", "@dangerous"])
        .history(&[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")])
        .arguments(&[
            Argument::new("nosave_save", ArgumentKind::OneOf).optional().of(&[
                Argument::new("nosave", ArgumentKind::PureToken).token("NOSAVE"),
                Argument::new("save", ArgumentKind::PureToken).token("SAVE"),
            ]),
            Argument::new("now", ArgumentKind::PureToken).token("NOW").optional().since("7.0.0"),
            Argument::new("force", ArgumentKind::PureToken).token("FORCE").optional().since("7.0.0"),
            Argument::new("abort", ArgumentKind::PureToken).token("ABORT").optional().since("7.0.0"),
        ]),
    CommandSpec::new("swapdb", Id::SwapDb, 3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .docs(
            Group::Server,
            "4.0.0",
            "O(N) where N is the count of clients watching or blocking on keys \
        from both databases.",
            "Swaps two Redis databases",
        )
        .categories(&["@keyspace", "@write", "@fast", "@dangerous"])
        .arguments(&[Argument::new("index1", ArgumentKind::Integer), Argument::new("index2", ArgumentKind::Integer)]),
    CommandSpec::new("time", Id::Time, 1)
        .flags(&[Flags::LOADING, Flags::STALE, Flags::FAST])
        .docs(Group::Server, "2.6.0", "O(1)", "Return the current server time")
        .categories(&["@fast"])
        .tips(&["nondeterministic_output"]),
];
