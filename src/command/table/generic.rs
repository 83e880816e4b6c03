//! Rows of the command table: the keyspace commands, as Redis 7.0.15 describes them to `COMMAND`.
//!
//! Read by `super`, which joins the families; nothing here decides anything at run time beyond arity, flags and keys.

use super::spec::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("copy", Id::Copy, -3)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, 2, 1)
        .docs(
            Group::Generic,
            "6.2.0",
            "O(N) worst case for collections, where N is the number of nested \
        items. O(1) for string values.",
            "Copy a key",
        )
        .categories(&["@keyspace", "@write", "@slow"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1), KeySpec::new(&["OW", "update"], 2, 0, 1)])
        .arguments(&[
            Argument::new("source", ArgumentKind::Key),
            Argument::new("destination", ArgumentKind::Key),
            Argument::new("destination-db", ArgumentKind::Integer).token("DB").optional(),
            Argument::new("replace", ArgumentKind::PureToken).token("REPLACE").optional(),
        ]),
    CommandSpec::new("del", Id::Del, -2)
        .flags(&[Flags::WRITE])
        .keys(1, -1, 1)
        .docs(
            Group::Generic,
            "1.0.0",
            "O(N) where N is the number of keys that will be removed. When a key \
        to remove holds a value other than a string, the individual \
        complexity for this key is O(M) where M is the number of elements \
        in the list, set, sorted set or hash. Removing a single key that \
        holds a string value is O(1).",
            "Delete a key",
        )
        .categories(&["@keyspace", "@write", "@slow"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .key_specs(&[KeySpec::new(&["RM", "delete"], 1, -1, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key).multiple()]),
    CommandSpec::new("exists", Id::Exists, -2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, -1, 1)
        .docs(Group::Generic, "1.0.0", "O(N) where N is the number of keys to check.", "Determine if a key exists")
        .categories(&["@keyspace", "@read", "@fast"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .key_specs(&[KeySpec::new(&["RO"], 1, -1, 1)])
        .history(&[("3.0.3", "Accepts multiple `key` arguments.")])
        .arguments(&[Argument::new("key", ArgumentKind::Key).multiple()]),
    CommandSpec::new("expire", Id::Expire, -3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "1.0.0", "O(1)", "Set a key's time to live in seconds")
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "update"], 1, 0, 1)])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("seconds", ArgumentKind::Integer),
            Argument::new("condition", ArgumentKind::OneOf).optional().since("7.0.0").of(&[
                Argument::new("nx", ArgumentKind::PureToken).token("NX"),
                Argument::new("xx", ArgumentKind::PureToken).token("XX"),
                Argument::new("gt", ArgumentKind::PureToken).token("GT"),
                Argument::new("lt", ArgumentKind::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("expireat", Id::ExpireAt, -3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "1.2.0", "O(1)", "Set the expiration for a key as a UNIX timestamp")
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "update"], 1, 0, 1)])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("unix-time-seconds", ArgumentKind::UnixTime),
            Argument::new("condition", ArgumentKind::OneOf).optional().since("7.0.0").of(&[
                Argument::new("nx", ArgumentKind::PureToken).token("NX"),
                Argument::new("xx", ArgumentKind::PureToken).token("XX"),
                Argument::new("gt", ArgumentKind::PureToken).token("GT"),
                Argument::new("lt", ArgumentKind::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("expiretime", Id::ExpireTime, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "7.0.0", "O(1)", "Get the expiration Unix timestamp for a key")
        .categories(&["@keyspace", "@read", "@fast"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("keys", Id::Keys, 2)
        .flags(&[Flags::READONLY])
        .docs(
            Group::Generic,
            "1.0.0",
            "O(N) with N being the number of keys in the database, under the \
        assumption that the key names in the database and the given pattern \
        have limited length.",
            "Find all keys matching the given pattern",
        )
        .categories(&["@keyspace", "@read", "@slow", "@dangerous"])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .arguments(&[Argument::new("pattern", ArgumentKind::Pattern)]),
    CommandSpec::new("move", Id::Move, 3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "1.0.0", "O(1)", "Move a key to another database")
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("db", ArgumentKind::Integer)]),
    CommandSpec::new("object", Id::Object, -2)
        .docs(Group::Generic, "2.2.3", "Depends on subcommand.", "A container for object introspection commands")
        .categories(&["@slow"])
        .subcommands(&[
            CommandSpec::new("object|encoding", Id::Object, 3)
                .flags(&[Flags::READONLY])
                .keys(2, 2, 1)
                .docs(Group::Generic, "2.2.3", "O(1)", "Inspect the internal encoding of a Redis object")
                .categories(&["@keyspace", "@read", "@slow"])
                .tips(&["nondeterministic_output"])
                .key_specs(&[KeySpec::new(&["RO"], 2, 0, 1)])
                .arguments(&[Argument::new("key", ArgumentKind::Key)]),
            CommandSpec::new("object|freq", Id::Object, 3)
                .flags(&[Flags::READONLY])
                .keys(2, 2, 1)
                .docs(Group::Generic, "4.0.0", "O(1)", "Get the logarithmic access frequency counter of a Redis object")
                .categories(&["@keyspace", "@read", "@slow"])
                .tips(&["nondeterministic_output"])
                .key_specs(&[KeySpec::new(&["RO"], 2, 0, 1)])
                .arguments(&[Argument::new("key", ArgumentKind::Key)]),
            CommandSpec::new("object|help", Id::Object, 2)
                .flags(&[Flags::LOADING, Flags::STALE])
                .docs(Group::Generic, "6.2.0", "O(1)", "Show helpful text about the different subcommands")
                .categories(&["@keyspace", "@slow"]),
            CommandSpec::new("object|idletime", Id::Object, 3)
                .flags(&[Flags::READONLY])
                .keys(2, 2, 1)
                .docs(Group::Generic, "2.2.3", "O(1)", "Get the time since a Redis object was last accessed")
                .categories(&["@keyspace", "@read", "@slow"])
                .tips(&["nondeterministic_output"])
                .key_specs(&[KeySpec::new(&["RO"], 2, 0, 1)])
                .arguments(&[Argument::new("key", ArgumentKind::Key)]),
            CommandSpec::new("object|refcount", Id::Object, 3)
                .flags(&[Flags::READONLY])
                .keys(2, 2, 1)
                .docs(Group::Generic, "2.2.3", "O(1)", "Get the number of references to the value of the key")
                .categories(&["@keyspace", "@read", "@slow"])
                .tips(&["nondeterministic_output"])
                .key_specs(&[KeySpec::new(&["RO"], 2, 0, 1)])
                .arguments(&[Argument::new("key", ArgumentKind::Key)]),
        ]),
    CommandSpec::new("persist", Id::Persist, 2)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "2.2.0", "O(1)", "Remove the expiration from a key")
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("pexpire", Id::PExpire, -3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "2.6.0", "O(1)", "Set a key's time to live in milliseconds")
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "update"], 1, 0, 1)])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("milliseconds", ArgumentKind::Integer),
            Argument::new("condition", ArgumentKind::OneOf).optional().since("7.0.0").of(&[
                Argument::new("nx", ArgumentKind::PureToken).token("NX"),
                Argument::new("xx", ArgumentKind::PureToken).token("XX"),
                Argument::new("gt", ArgumentKind::PureToken).token("GT"),
                Argument::new("lt", ArgumentKind::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("pexpireat", Id::PExpireAt, -3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(
            Group::Generic,
            "2.6.0",
            "O(1)",
            "Set the expiration for a key as a UNIX timestamp specified in \
        milliseconds",
        )
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "update"], 1, 0, 1)])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("unix-time-milliseconds", ArgumentKind::UnixTime),
            Argument::new("condition", ArgumentKind::OneOf).optional().since("7.0.0").of(&[
                Argument::new("nx", ArgumentKind::PureToken).token("NX"),
                Argument::new("xx", ArgumentKind::PureToken).token("XX"),
                Argument::new("gt", ArgumentKind::PureToken).token("GT"),
                Argument::new("lt", ArgumentKind::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("pexpiretime", Id::PExpireTime, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "7.0.0", "O(1)", "Get the expiration Unix timestamp for a key in milliseconds")
        .categories(&["@keyspace", "@read", "@fast"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("pttl", Id::PTtl, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "2.6.0", "O(1)", "Get the time to live for a key in milliseconds")
        .categories(&["@keyspace", "@read", "@fast"])
        .tips(&["nondeterministic_output"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .history(&[("2.8.0", "Added the -2 reply.")])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("randomkey", Id::RandomKey, 1)
        .flags(&[Flags::READONLY])
        .docs(Group::Generic, "1.0.0", "O(1)", "Return a random key from the keyspace")
        .categories(&["@keyspace", "@read", "@slow"])
        .tips(&["request_policy:all_shards", "nondeterministic_output"]),
    CommandSpec::new("rename", Id::Rename, 3)
        .flags(&[Flags::WRITE])
        .keys(1, 2, 1)
        .docs(Group::Generic, "1.0.0", "O(1)", "Rename a key")
        .categories(&["@keyspace", "@write", "@slow"])
        .key_specs(&[KeySpec::new(&["RW", "access", "delete"], 1, 0, 1), KeySpec::new(&["OW", "update"], 2, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("newkey", ArgumentKind::Key)]),
    CommandSpec::new("renamenx", Id::RenameNx, 3)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 2, 1)
        .docs(Group::Generic, "1.0.0", "O(1)", "Rename a key, only if the new key does not exist")
        .categories(&["@keyspace", "@write", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "delete"], 1, 0, 1), KeySpec::new(&["OW", "insert"], 2, 0, 1)])
        .history(&[(
            "3.2.0",
            "The command no longer returns an error when source and destination \
        names are the same.",
        )])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("newkey", ArgumentKind::Key)]),
    CommandSpec::new("scan", Id::Scan, -2)
        .flags(&[Flags::READONLY])
        .docs(
            Group::Generic,
            "2.8.0",
            "O(1) for every call. O(N) for a complete iteration, including \
        enough command calls for the cursor to return back to 0. N is the \
        number of elements inside the collection.",
            "Incrementally iterate the keys space",
        )
        .categories(&["@keyspace", "@read", "@slow"])
        .tips(&["nondeterministic_output", "request_policy:special"])
        .history(&[("6.0.0", "Added the `TYPE` subcommand.")])
        .arguments(&[
            Argument::new("cursor", ArgumentKind::Integer),
            Argument::new("pattern", ArgumentKind::Pattern).token("MATCH").optional(),
            Argument::new("count", ArgumentKind::Integer).token("COUNT").optional(),
            Argument::new("type", ArgumentKind::String).token("TYPE").optional().since("6.0.0"),
        ]),
    CommandSpec::new("touch", Id::Touch, -2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, -1, 1)
        .docs(
            Group::Generic,
            "3.2.1",
            "O(N) where N is the number of keys that will be touched.",
            "Alters the last access time of a key(s). Returns the number of \
        existing keys specified.",
        )
        .categories(&["@keyspace", "@read", "@fast"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .key_specs(&[KeySpec::new(&["RO"], 1, -1, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key).multiple()]),
    CommandSpec::new("ttl", Id::Ttl, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "1.0.0", "O(1)", "Get the time to live for a key in seconds")
        .categories(&["@keyspace", "@read", "@fast"])
        .tips(&["nondeterministic_output"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .history(&[("2.8.0", "Added the -2 reply.")])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("type", Id::Type, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::Generic, "1.0.0", "O(1)", "Determine the type stored at key")
        .categories(&["@keyspace", "@read", "@fast"])
        .key_specs(&[KeySpec::new(&["RO"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("unlink", Id::Unlink, -2)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, -1, 1)
        .docs(
            Group::Generic,
            "4.0.0",
            "O(1) for each key removed regardless of its size. Then the command \
        does O(N) work in a different thread in order to reclaim memory, \
        where N is the number of allocations the deleted objects where \
        composed of.",
            "Delete a key asynchronously in another thread. Otherwise it is just \
        as DEL, but non blocking.",
        )
        .categories(&["@keyspace", "@write", "@fast"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .key_specs(&[KeySpec::new(&["RM", "delete"], 1, -1, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key).multiple()]),
];
