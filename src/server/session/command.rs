//! `COMMAND`: the command table as clients read it, in the layout of Redis 7.0.

use crate::command::table::{self, Argument, ArgumentKind, CommandSpec, KeySpec};
use crate::resp::Encoder;
use crate::server::session::state::State;

/// Executes `COMMAND [<subcommand>]`.
pub(in crate::server) fn execute(state: &mut State, spec: &'static CommandSpec, args: &[&[u8]]) {
    if args.len() == 1 {
        state.out.array(table::all().count());
        table::all().for_each(|spec| describe(&mut state.out, spec));
        return;
    }
    let Some(sub) = state.subcommand(spec, args) else { return };
    match sub.name {
        "command|count" => state.out.integer(i64::try_from(table::all().count()).unwrap_or(i64::MAX)),
        "command|info" => info(&mut state.out, &args[2..]),
        "command|docs" => docs(&mut state.out, &args[2..]),
        "command|list" => list(state, &args[2..]),
        "command|getkeys" => get_keys(state, &args[2..]),
        _ => state.help(
            "COMMAND",
            &[
                "(no subcommand)",
                "    Return details about all Redis commands.",
                "COUNT",
                "    Return the total number of commands in this Redis server.",
                "LIST",
                "    Return a list of all commands in this Redis server.",
                "INFO [<command-name> ...]",
                "    Return details about multiple Redis commands.",
                "    If no command names are given, documentation details for all",
                "    commands are returned.",
                "DOCS [<command-name> ...]",
                "    Return documentation details about multiple Redis commands.",
                "    If no command names are given, documentation details for all",
                "    commands are returned.",
                "GETKEYS <full-command>",
                "    Return the keys from a full Redis command.",
            ],
        ),
    }
}

/// Finds a command, or a subcommand by its full name (`client|list`).
fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(bar) => table::lookup(&name[..bar])?.subcommand(&name[bar + 1..]),
        None => table::lookup(name),
    }
}

fn info(out: &mut Encoder, names: &[&[u8]]) {
    if names.is_empty() {
        out.array(table::all().count());
        table::all().for_each(|spec| describe(out, spec));
        return;
    }
    out.array(names.len());
    for name in names {
        match find(name) {
            Some(spec) => describe(out, spec),
            None => out.null(),
        }
    }
}

fn describe(out: &mut Encoder, spec: &CommandSpec) {
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.integer(spec.arity.into());
    out.set(spec.flags.names().count());
    spec.flags.names().for_each(|name| out.simple(name));
    for position in [spec.first_key, spec.last_key, spec.key_step] {
        out.integer(position.into());
    }
    out.set(spec.categories.len());
    spec.categories.iter().for_each(|category| out.simple(category));
    out.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| out.bulk(tip.as_bytes()));
    out.set(spec.key_specs.len());
    spec.key_specs.iter().for_each(|keys| describe_keys(out, keys));
    if spec.subcommands.is_empty() {
        out.set(0);
    } else {
        out.array(spec.subcommands.len());
        spec.subcommands.iter().for_each(|sub| describe(out, sub));
    }
}

fn describe_keys(out: &mut Encoder, keys: &KeySpec) {
    out.map(3 + usize::from(!keys.notes.is_empty()));
    if !keys.notes.is_empty() {
        pair(out, "notes", keys.notes);
    }
    out.bulk(b"flags");
    out.set(keys.flags.len());
    keys.flags.iter().for_each(|flag| out.simple(flag));
    out.bulk(b"begin_search");
    out.map(2);
    pair(out, "type", "index");
    out.bulk(b"spec");
    out.map(1);
    number(out, "index", keys.begin);
    out.bulk(b"find_keys");
    out.map(2);
    pair(out, "type", "range");
    out.bulk(b"spec");
    out.map(3);
    number(out, "lastkey", keys.last);
    number(out, "keystep", keys.step);
    number(out, "limit", 0);
}

fn docs(out: &mut Encoder, names: &[&[u8]]) {
    let chosen: Vec<&CommandSpec> =
        if names.is_empty() { table::all().collect() } else { names.iter().filter_map(|name| find(name)).collect() };
    out.map(chosen.len());
    for spec in chosen {
        document(out, spec);
    }
}

fn document(out: &mut Encoder, spec: &CommandSpec) {
    out.bulk(spec.name.as_bytes());
    let doc_flags = [(!spec.deprecated.0.is_empty(), "deprecated"), (spec.syscmd, "syscmd")];
    let doc_flags: Vec<&str> = doc_flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let (deprecated_since, replaced_by) = spec.deprecated;
    let texts = [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group.name()),
        ("complexity", spec.complexity),
    ];
    let fields = texts.iter().filter(|(_, text)| !text.is_empty()).count()
        + usize::from(!doc_flags.is_empty())
        + usize::from(!deprecated_since.is_empty())
        + usize::from(!replaced_by.is_empty())
        + usize::from(!spec.history.is_empty())
        + usize::from(!spec.arguments.is_empty())
        + usize::from(!spec.subcommands.is_empty());
    out.map(fields);
    for (key, text) in texts {
        if !text.is_empty() {
            pair(out, key, text);
        }
    }
    if !doc_flags.is_empty() {
        out.bulk(b"doc_flags");
        out.set(doc_flags.len());
        doc_flags.iter().for_each(|flag| out.simple(flag));
    }
    for (key, text) in [("deprecated_since", deprecated_since), ("replaced_by", replaced_by)] {
        if !text.is_empty() {
            pair(out, key, text);
        }
    }
    if !spec.history.is_empty() {
        out.bulk(b"history");
        out.set(spec.history.len());
        for (since, change) in spec.history {
            out.array(2);
            out.bulk(since.as_bytes());
            out.bulk(change.as_bytes());
        }
    }
    if !spec.arguments.is_empty() {
        out.bulk(b"arguments");
        arguments(out, spec.arguments, &mut 0, spec.key_specs.len());
    }
    if !spec.subcommands.is_empty() {
        out.bulk(b"subcommands");
        out.map(spec.subcommands.len());
        spec.subcommands.iter().for_each(|sub| document(out, sub));
    }
}

/// Writes arguments; `keys` counts the key arguments so far, of which the n-th belongs to the n-th of `key_specs` places.
fn arguments(out: &mut Encoder, list: &[Argument], keys: &mut usize, key_specs: usize) {
    out.array(list.len());
    for argument in list {
        let flags = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        let flags: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let is_key = argument.kind == ArgumentKind::Key && key_specs > 0;
        let texts =
            [("token", argument.token), ("since", argument.since), ("deprecated_since", argument.deprecated_since)];
        let fields = 2
            + usize::from(is_key)
            + texts.iter().filter(|(_, text)| !text.is_empty()).count()
            + usize::from(!flags.is_empty())
            + usize::from(!argument.arguments.is_empty());
        out.map(fields);
        pair(out, "name", argument.name);
        pair(out, "type", argument.kind.name());
        if is_key {
            number(out, "key_spec_index", i32::try_from((*keys).min(key_specs - 1)).unwrap_or(0));
            *keys += 1;
        }
        for (key, text) in texts {
            if !text.is_empty() {
                pair(out, key, text);
            }
        }
        if !flags.is_empty() {
            out.bulk(b"flags");
            out.set(flags.len());
            flags.iter().for_each(|flag| out.simple(flag));
        }
        if !argument.arguments.is_empty() {
            out.bulk(b"arguments");
            arguments(out, argument.arguments, keys, key_specs);
        }
    }
}

fn list(state: &mut State, filter: &[&[u8]]) {
    let chosen: Vec<&CommandSpec> = match filter {
        [] => table::all().collect(),
        [by, kind, value] if by.eq_ignore_ascii_case(b"filterby") => match kind.to_ascii_lowercase().as_slice() {
            b"module" => Vec::new(),
            b"aclcat" => {
                let category = [b"@", &value.to_ascii_lowercase()[..]].concat();
                table::all().filter(|spec| spec.categories.iter().any(|own| own.as_bytes() == category)).collect()
            }
            b"pattern" => {
                let pattern = value.to_ascii_lowercase();
                table::all().filter(|spec| crate::command::glob::matches(&pattern, spec.name.as_bytes())).collect()
            }
            _ => return state.out.error("ERR syntax error"),
        },
        _ => return state.out.error("ERR syntax error"),
    };
    state.out.set(chosen.len());
    chosen.iter().for_each(|spec| state.out.bulk(spec.name.as_bytes()));
}

fn get_keys(state: &mut State, request: &[&[u8]]) {
    let Some(spec) = table::lookup(request[0]) else { return state.out.error("ERR Invalid command specified") };
    let spec = request.get(1).and_then(|name| spec.subcommand(name)).unwrap_or(spec);
    if spec.first_key == 0 {
        return state.out.error("ERR The command has no key arguments");
    }
    if !spec.accepts(request.len()) {
        return state.out.error("ERR Invalid number of arguments specified for command");
    }
    let keys: Vec<&[u8]> = spec.key_positions(request.len()).map(|position| request[position]).collect();
    state.out.array(keys.len());
    keys.iter().for_each(|key| state.out.bulk(key));
}

fn pair(out: &mut Encoder, key: &str, value: &str) {
    out.bulk(key.as_bytes());
    out.bulk(value.as_bytes());
}

fn number(out: &mut Encoder, key: &str, value: i32) {
    out.bulk(key.as_bytes());
    out.integer(value.into());
}
