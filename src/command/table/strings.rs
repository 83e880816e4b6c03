//! Rows of the command table: the string commands, as Redis 7.0.15 describes them to `COMMAND`.
//!
//! Read by `super`, which joins the families; nothing here decides anything at run time beyond arity, flags and keys.

use super::spec::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("append", Id::Append, 3)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(
            Group::String,
            "2.0.0",
            "O(1). The amortized time complexity is O(1) assuming the appended \
        value is small and the already present value is of any size, since \
        the dynamic string library used by Redis will double the free space \
        available on every reallocation.",
            "Append a value to a key",
        )
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "insert"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("value", ArgumentKind::String)]),
    CommandSpec::new("decr", Id::Decr, 2)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Decrement the integer value of a key by one")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("decrby", Id::DecrBy, 3)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Decrement the integer value of a key by the given number")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("decrement", ArgumentKind::Integer)]),
    CommandSpec::new("get", Id::Get, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Get the value of a key")
        .categories(&["@read", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("getdel", Id::GetDel, 2)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "6.2.0", "O(1)", "Get the value of a key and delete the key")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "delete"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("getex", Id::GetEx, -2)
        .flags(&[Flags::WRITE, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "6.2.0", "O(1)", "Get the value of a key and optionally set its expiration")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[
            KeySpec::new(&["RW", "access", "update"], 1, 0, 1).notes("RW and UPDATE because it changes the TTL")
        ])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("expiration", ArgumentKind::OneOf).optional().of(&[
                Argument::new("seconds", ArgumentKind::Integer).token("EX"),
                Argument::new("milliseconds", ArgumentKind::Integer).token("PX"),
                Argument::new("unix-time-seconds", ArgumentKind::UnixTime).token("EXAT"),
                Argument::new("unix-time-milliseconds", ArgumentKind::UnixTime).token("PXAT"),
                Argument::new("persist", ArgumentKind::PureToken).token("PERSIST"),
            ]),
        ]),
    CommandSpec::new("getrange", Id::GetRange, 4)
        .flags(&[Flags::READONLY])
        .keys(1, 1, 1)
        .docs(
            Group::String,
            "2.4.0",
            "O(N) where N is the length of the returned string. The complexity \
        is ultimately determined by the returned length, but because \
        creating a substring from an existing string is very cheap, it can \
        be considered O(1) for small strings.",
            "Get a substring of the string stored at a key",
        )
        .categories(&["@read", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("start", ArgumentKind::Integer),
            Argument::new("end", ArgumentKind::Integer),
        ]),
    CommandSpec::new("getset", Id::GetSet, 3)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Set the string value of a key and return its old value")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .deprecated("6.2.0", "`SET` with the `!GET` argument")
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("value", ArgumentKind::String)]),
    CommandSpec::new("incr", Id::Incr, 2)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Increment the integer value of a key by one")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("incrby", Id::IncrBy, 3)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Increment the integer value of a key by the given amount")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("increment", ArgumentKind::Integer)]),
    CommandSpec::new("incrbyfloat", Id::IncrByFloat, 3)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "2.6.0", "O(1)", "Increment the float value of a key by the given amount")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("increment", ArgumentKind::Double)]),
    CommandSpec::new("lcs", Id::Lcs, -3)
        .flags(&[Flags::READONLY])
        .keys(1, 2, 1)
        .docs(
            Group::String,
            "7.0.0",
            "O(N*M) where N and M are the lengths of s1 and s2, respectively",
            "Find longest common substring",
        )
        .categories(&["@read", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 1, 1)])
        .arguments(&[
            Argument::new("key1", ArgumentKind::Key),
            Argument::new("key2", ArgumentKind::Key),
            Argument::new("len", ArgumentKind::PureToken).token("LEN").optional(),
            Argument::new("idx", ArgumentKind::PureToken).token("IDX").optional(),
            Argument::new("len", ArgumentKind::Integer).token("MINMATCHLEN").optional(),
            Argument::new("withmatchlen", ArgumentKind::PureToken).token("WITHMATCHLEN").optional(),
        ]),
    CommandSpec::new("mget", Id::MGet, -2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, -1, 1)
        .docs(
            Group::String,
            "1.0.0",
            "O(N) where N is the number of keys to retrieve.",
            "Get the values of all the given keys",
        )
        .categories(&["@read", "@string", "@fast"])
        .tips(&["request_policy:multi_shard"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, -1, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key).multiple()]),
    CommandSpec::new("mset", Id::MSet, -3)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, -1, 2)
        .docs(
            Group::String,
            "1.0.1",
            "O(N) where N is the number of keys to set.",
            "Set multiple keys to multiple values",
        )
        .categories(&["@write", "@string", "@slow"])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .key_specs(&[KeySpec::new(&["OW", "update"], 1, -1, 2)])
        .arguments(&[Argument::new("key_value", ArgumentKind::Block)
            .multiple()
            .of(&[Argument::new("key", ArgumentKind::Key), Argument::new("value", ArgumentKind::String)])]),
    CommandSpec::new("msetnx", Id::MSetNx, -3)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, -1, 2)
        .docs(
            Group::String,
            "1.0.1",
            "O(N) where N is the number of keys to set.",
            "Set multiple keys to multiple values, only if none of the keys exist",
        )
        .categories(&["@write", "@string", "@slow"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .key_specs(&[KeySpec::new(&["OW", "insert"], 1, -1, 2)])
        .arguments(&[Argument::new("key_value", ArgumentKind::Block)
            .multiple()
            .of(&[Argument::new("key", ArgumentKind::Key), Argument::new("value", ArgumentKind::String)])]),
    CommandSpec::new("psetex", Id::PSetEx, 4)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, 1, 1)
        .docs(Group::String, "2.6.0", "O(1)", "Set the value and expiration in milliseconds of a key")
        .categories(&["@write", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["OW", "update"], 1, 0, 1)])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("milliseconds", ArgumentKind::Integer),
            Argument::new("value", ArgumentKind::String),
        ]),
    CommandSpec::new("set", Id::Set, -3)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Set the string value of a key")
        .categories(&["@write", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["RW", "access", "update", "variable_flags"], 1, 0, 1)
            .notes("RW and ACCESS due to the optional `GET` argument")])
        .history(&[
            ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
            ("6.0.0", "Added the `KEEPTTL` option."),
            ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
            ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("value", ArgumentKind::String),
            Argument::new("condition", ArgumentKind::OneOf).optional().since("2.6.12").of(&[
                Argument::new("nx", ArgumentKind::PureToken).token("NX"),
                Argument::new("xx", ArgumentKind::PureToken).token("XX"),
            ]),
            Argument::new("get", ArgumentKind::PureToken).token("GET").optional().since("6.2.0"),
            Argument::new("expiration", ArgumentKind::OneOf).optional().of(&[
                Argument::new("seconds", ArgumentKind::Integer).token("EX").since("2.6.12"),
                Argument::new("milliseconds", ArgumentKind::Integer).token("PX").since("2.6.12"),
                Argument::new("unix-time-seconds", ArgumentKind::UnixTime).token("EXAT").since("6.2.0"),
                Argument::new("unix-time-milliseconds", ArgumentKind::UnixTime).token("PXAT").since("6.2.0"),
                Argument::new("keepttl", ArgumentKind::PureToken).token("KEEPTTL").since("6.0.0"),
            ]),
        ]),
    CommandSpec::new("setex", Id::SetEx, 4)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, 1, 1)
        .docs(Group::String, "2.0.0", "O(1)", "Set the value and expiration of a key")
        .categories(&["@write", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["OW", "update"], 1, 0, 1)])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("seconds", ArgumentKind::Integer),
            Argument::new("value", ArgumentKind::String),
        ]),
    CommandSpec::new("setnx", Id::SetNx, 3)
        .flags(&[Flags::WRITE, Flags::DENYOOM, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "1.0.0", "O(1)", "Set the value of a key, only if the key does not exist")
        .categories(&["@write", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["OW", "insert"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key), Argument::new("value", ArgumentKind::String)]),
    CommandSpec::new("setrange", Id::SetRange, 4)
        .flags(&[Flags::WRITE, Flags::DENYOOM])
        .keys(1, 1, 1)
        .docs(
            Group::String,
            "2.2.0",
            "O(1), not counting the time taken to copy the new string in place. \
        Usually, this string is very small so the amortized complexity is \
        O(1). Otherwise, complexity is O(M) with M being the length of the \
        value argument.",
            "Overwrite part of a string at key starting at the specified offset",
        )
        .categories(&["@write", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["RW", "update"], 1, 0, 1)])
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("offset", ArgumentKind::Integer),
            Argument::new("value", ArgumentKind::String),
        ]),
    CommandSpec::new("strlen", Id::StrLen, 2)
        .flags(&[Flags::READONLY, Flags::FAST])
        .keys(1, 1, 1)
        .docs(Group::String, "2.2.0", "O(1)", "Get the length of the value stored in a key")
        .categories(&["@read", "@string", "@fast"])
        .key_specs(&[KeySpec::new(&["RO"], 1, 0, 1)])
        .arguments(&[Argument::new("key", ArgumentKind::Key)]),
    CommandSpec::new("substr", Id::SubStr, 4)
        .flags(&[Flags::READONLY])
        .keys(1, 1, 1)
        .docs(
            Group::String,
            "1.0.0",
            "O(N) where N is the length of the returned string. The complexity \
        is ultimately determined by the returned length, but because \
        creating a substring from an existing string is very cheap, it can \
        be considered O(1) for small strings.",
            "Get a substring of the string stored at a key",
        )
        .categories(&["@read", "@string", "@slow"])
        .key_specs(&[KeySpec::new(&["RO", "access"], 1, 0, 1)])
        .deprecated("2.0.0", "`GETRANGE`")
        .arguments(&[
            Argument::new("key", ArgumentKind::Key),
            Argument::new("start", ArgumentKind::Integer),
            Argument::new("end", ArgumentKind::Integer),
        ]),
];
