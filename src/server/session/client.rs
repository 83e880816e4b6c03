//! `CLIENT`: names, the list of connections, and ending them.

use crate::command::table::CommandSpec;
use crate::env::Env;
use crate::server::Server;
use crate::server::clients::Client;
use crate::server::session::state::{Flow, Replies, State, integer};

const SYNTAX: &str = "ERR syntax error";

/// Executes `CLIENT <subcommand>`.
pub(in crate::server) fn execute(
    server: &Server,
    state: &mut State,
    spec: &'static CommandSpec,
    args: &[&[u8]],
) -> Flow {
    let Some(sub) = state.subcommand(spec, args) else { return Flow::Continue };
    state.client.notes(|notes| {
        (notes.db, notes.protocol, notes.command, notes.active) =
            (state.db, state.out.protocol, sub.name, server.env.now());
    });
    match sub.name {
        "client|id" => state.out.integer(i64::try_from(state.client.id).unwrap_or(i64::MAX)),
        "client|getname" => match state.client.notes(|notes| notes.name.clone()) {
            name if name.is_empty() => state.out.null(),
            name => state.out.bulk(name.as_bytes()),
        },
        "client|setname" => {
            if set_name(state, args[2]) {
                state.out.ok();
            }
        }
        "client|setinfo" => set_info(state, args),
        "client|info" => {
            let line = state.client.describe(server.env.now()) + "\n";
            state.out.verbatim("txt", line.as_bytes());
        }
        "client|list" => list(server, state, args),
        "client|kill" => return kill(server, state, args),
        "client|no-evict" => switch(state, args[2], |client, on| client.notes(|notes| notes.no_evict = on)),
        "client|no-touch" => switch(state, args[2], |client, on| client.notes(|notes| notes.no_touch = on)),
        "client|reply" => reply(state, args[2]),
        _ => state.help(
            "CLIENT",
            &[
                "GETNAME",
                "    Return the name of the current connection.",
                "ID",
                "    Return the ID of the current connection.",
                "INFO",
                "    Return information about the current client connection.",
                "KILL <ip:port>",
                "    Kill connection made from <ip:port>.",
                "KILL <option> <value> [<option> <value> [...]]",
                "    Kill connections. Options are ADDR, LADDR, TYPE, USER, SKIPME and ID.",
                "LIST [options ...]",
                "    Return information about client connections. Options are TYPE and ID.",
                "NO-EVICT (ON|OFF)",
                "    Protect current client connection from eviction.",
                "NO-TOUCH (ON|OFF)",
                "    Will not touch LRU/LFU stats when this mode is on.",
                "REPLY (ON|OFF|SKIP)",
                "    Control the replies sent to the current connection.",
                "SETINFO <option> <value>",
                "    Set client meta attr. Options are LIB-NAME and LIB-VER.",
                "SETNAME <name>",
                "    Assign the name <name> to the current connection.",
            ],
        ),
    }
    Flow::Continue
}

/// Names the connection, or replies why not.
pub(in crate::server) fn set_name(state: &mut State, name: &[u8]) -> bool {
    let Some(name) = plain(name) else {
        state.out.error("ERR Client names cannot contain spaces, newlines or special characters.");
        return false;
    };
    state.client.notes(|notes| notes.name = name.to_owned());
    true
}

/// Returns the text if it holds printable ASCII without spaces only, as names of clients must.
fn plain(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(text)
}

fn set_info(state: &mut State, args: &[&[u8]]) {
    let option = args[2].to_ascii_lowercase();
    let (is_name, label) = match option.as_slice() {
        b"lib-name" => (true, "lib-name"),
        b"lib-ver" => (false, "lib-ver"),
        _ => return state.out.error([&b"ERR Unrecognized option '"[..], args[2], b"'"].concat()),
    };
    let Some(value) = plain(args[3]) else {
        return state.out.error(format!("ERR {label} cannot contain spaces, newlines or special characters."));
    };
    state.client.notes(|notes| {
        let field = if is_name { &mut notes.lib_name } else { &mut notes.lib_version };
        *field = value.to_owned();
    });
    state.out.ok();
}

fn switch(state: &mut State, word: &[u8], set: impl Fn(&Client, bool)) {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => set(&state.client, true),
        b"off" => set(&state.client, false),
        _ => return state.out.error(SYNTAX),
    }
    state.out.ok();
}

fn reply(state: &mut State, word: &[u8]) {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => {
            state.replies = Replies::On;
            state.out.ok();
        }
        b"off" => state.replies = Replies::Off,
        b"skip" if state.replies == Replies::Off => {}
        b"skip" => state.replies = Replies::SkipNext,
        _ => state.out.error(SYNTAX),
    }
}

/// Says whether `word` is a type of client, and whether ours (all are normal ones) are of it.
fn is_type(word: &[u8]) -> Option<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Some(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Some(false),
        _ => None,
    }
}

fn unknown_type(state: &mut State, word: &[u8]) {
    state.out.error([&b"ERR Unknown client type '"[..], word, b"'"].concat());
}

fn list(server: &Server, state: &mut State, args: &[&[u8]]) {
    let mut wanted: Option<Vec<u64>> = None;
    match &args[2..] {
        [] => {}
        [option, word] if option.eq_ignore_ascii_case(b"type") => match is_type(word) {
            Some(true) => {}
            Some(false) => wanted = Some(Vec::new()),
            None => return unknown_type(state, word),
        },
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let ids = ids.iter().map(|id| integer(id).and_then(|id| u64::try_from(id).ok()));
            match ids.collect::<Option<Vec<u64>>>() {
                Some(ids) => wanted = Some(ids),
                None => return state.out.error("ERR Invalid client ID"),
            }
        }
        _ => return state.out.error(SYNTAX),
    }
    let now = server.env.now();
    let mut text = String::new();
    for client in server.clients.all() {
        if wanted.as_ref().is_none_or(|ids| ids.contains(&client.id)) {
            text += &client.describe(now);
            text.push('\n');
        }
    }
    state.out.verbatim("txt", text.as_bytes());
}

#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    other_type: bool,
    spare_me: bool,
}

fn kill(server: &Server, state: &mut State, args: &[&[u8]]) -> Flow {
    if let [_, _, addr] = args {
        let found = server.clients.all().into_iter().find(|client| client.peer.as_bytes() == *addr);
        let Some(client) = found else {
            state.out.error("ERR No such client");
            return Flow::Continue;
        };
        state.out.ok();
        return end(state, &client);
    }
    let mut filter = Filter { spare_me: true, ..Filter::default() };
    let pairs = args[2..].chunks(2);
    for pair in pairs {
        let [option, value] = pair else {
            state.out.error(SYNTAX);
            return Flow::Continue;
        };
        match option.to_ascii_lowercase().as_slice() {
            b"id" => match integer(value).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0) {
                Some(id) => filter.id = Some(id),
                None => {
                    state.out.error("ERR client-id should be greater than 0");
                    return Flow::Continue;
                }
            },
            b"addr" => filter.addr = Some(value),
            b"laddr" => filter.laddr = Some(value),
            b"type" => match is_type(value) {
                Some(ours) => filter.other_type = !ours,
                None => {
                    unknown_type(state, value);
                    return Flow::Continue;
                }
            },
            b"user" if *value == b"default" => {}
            b"user" => {
                state.out.error([&b"ERR No such user '"[..], value, b"'"].concat());
                return Flow::Continue;
            }
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.spare_me = true,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.spare_me = false,
            _ => {
                state.out.error(SYNTAX);
                return Flow::Continue;
            }
        }
    }
    let mut count = 0;
    let mut flow = Flow::Continue;
    for client in server.clients.all() {
        let chosen = filter.id.is_none_or(|id| id == client.id)
            && filter.addr.is_none_or(|addr| addr == client.peer.as_bytes())
            && filter.laddr.is_none_or(|laddr| laddr == client.local.as_bytes())
            && !(filter.spare_me && client.id == state.client.id)
            && !filter.other_type;
        if chosen {
            count += 1;
            if end(state, &client) == Flow::Close {
                flow = Flow::Close;
            }
        }
    }
    state.out.integer(count);
    flow
}

/// Ends a client: another one at once, the own connection once the reply is sent.
fn end(state: &State, client: &Client) -> Flow {
    if client.id == state.client.id {
        return Flow::Close;
    }
    client.kill();
    Flow::Continue
}
