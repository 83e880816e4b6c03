//! The connection commands: PING ECHO HELLO AUTH QUIT RESET SELECT, and TIME and DEBUG beside them.

use std::time::Duration;

use crate::command::table::{CommandSpec, Id};
use crate::env::Env;
use crate::resp::Protocol;
use crate::server::Server;
use crate::server::session::state::{Flow, Replies, State, integer};
use crate::server::session::{client, command, config, info};

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const SYNTAX: &str = "ERR syntax error";

/// Executes a command that concerns the session or the server rather than the data.
pub(in crate::server) fn execute(
    server: &Server,
    state: &mut State,
    spec: &'static CommandSpec,
    args: &[&[u8]],
) -> Flow {
    match spec.id {
        Id::Ping => ping(state, args),
        Id::Echo => state.out.bulk(args[1]),
        Id::Hello => hello(server, state, args),
        Id::Auth => auth(server, state, args),
        Id::Select => select(server, state, args),
        Id::Client => return client::execute(server, state, spec, args),
        Id::Command => command::execute(state, spec, args),
        Id::Config => config::execute(server, state, spec, args),
        Id::Info => info::execute(server, state, args),
        Id::Debug => return debug(server, state, args),
        Id::Shutdown => return shutdown(server, state, args),
        Id::Time => {
            let micros = server.env.wall().0;
            state.out.array(2);
            state.out.bulk((micros / 1_000_000).to_string().as_bytes());
            state.out.bulk((micros % 1_000_000).to_string().as_bytes());
        }
        Id::Quit => {
            state.out.ok();
            return Flow::Close;
        }
        Id::Reset => {
            let name = |notes: &mut crate::server::clients::Notes| {
                notes.name.clear();
                notes.no_evict = false;
                notes.no_touch = false;
            };
            state.client.notes(name);
            state.db = 0;
            state.replies = Replies::On;
            state.out.protocol = Protocol::Resp2;
            state.authenticated = !server.password_required();
            state.out.simple("RESET");
        }
        _ => state.unknown_command(args),
    }
    Flow::Continue
}

fn ping(state: &mut State, args: &[&[u8]]) {
    match args {
        [_] => state.out.simple("PONG"),
        [_, message] => state.out.bulk(message),
        _ => state.wrong_arity("ping"),
    }
}

fn select(server: &Server, state: &mut State, args: &[&[u8]]) {
    match integer(args[1]) {
        None => state.out.error("ERR value is not an integer or out of range"),
        Some(index) if i32::try_from(index).is_err() => {
            state.out.error(format!("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX))
        }
        Some(index) => match usize::try_from(index).ok().filter(|&index| index < server.databases_len()) {
            None => state.out.error("ERR DB index is out of range"),
            Some(index) => {
                state.db = index;
                state.out.ok();
            }
        },
    }
}

/// Checks a user and a password against `requirepass`, in constant time.
fn authenticate(server: &Server, state: &mut State, user: &[u8], password: &[u8]) -> bool {
    let config = server.config();
    let matches = config.requirepass.is_empty() || config.requirepass.matches(password);
    let granted = matches && user == b"default";
    state.authenticated |= granted;
    granted
}

fn auth(server: &Server, state: &mut State, args: &[&[u8]]) {
    let granted = match args {
        [_, _] if !server.password_required() => {
            return state.out.error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            );
        }
        [_, password] => authenticate(server, state, b"default", password),
        [_, user, password] => authenticate(server, state, user, password),
        _ => return state.out.error(SYNTAX),
    };
    if granted { state.out.ok() } else { state.out.error(WRONG_PASSWORD) }
}

fn hello(server: &Server, state: &mut State, args: &[&[u8]]) {
    let mut protocol = state.out.protocol;
    if let Some(version) = args.get(1) {
        protocol = match integer(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return state.out.error("NOPROTO unsupported protocol version"),
            None => return state.out.error("ERR Protocol version is not an integer or out of range"),
        };
    }
    let mut name = None;
    let mut credentials = None;
    let mut rest = args.get(2..).unwrap_or_default();
    while let [option, tail @ ..] = rest {
        rest = match tail {
            [user, password, tail @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                credentials = Some((*user, *password));
                tail
            }
            [value, tail @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                name = Some(*value);
                tail
            }
            _ => {
                let text = [&b"ERR Syntax error in HELLO option '"[..], option, b"'"].concat();
                return state.out.error(text);
            }
        };
    }
    if let Some((user, password)) = credentials
        && !authenticate(server, state, user, password)
    {
        return state.out.error(WRONG_PASSWORD);
    }
    if !state.authenticated {
        return state.out.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
    }
    if let Some(name) = name
        && !client::set_name(state, name)
    {
        return;
    }
    state.out.protocol = protocol;
    let out = &mut state.out;
    out.map(7);
    for (key, value) in [("server", "redis"), ("version", server.redis_version())] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(i64::try_from(state.client.id).unwrap_or(i64::MAX));
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
}

fn debug(server: &Server, state: &mut State, args: &[&[u8]]) -> Flow {
    let sub = args[1].to_ascii_lowercase();
    match (sub.as_slice(), args.get(2)) {
        (b"sleep", Some(seconds)) if args.len() == 3 => {
            let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            state.out.ok();
            return Flow::Sleep(
                Duration::try_from_secs_f64(seconds).unwrap_or_default().min(Duration::from_secs(3600)),
            );
        }
        (b"set-active-expire", Some(on)) if args.len() == 3 => {
            server.set_active_expire(*on != b"0");
            state.out.ok();
        }
        (b"help", None) => state.help(
            "DEBUG",
            &[
                "SET-ACTIVE-EXPIRE <0|1>",
                "    Setting it to 0 disables expiring keys (and hash-fields) in background.",
                "SLEEP <seconds>",
                "    Stop this connection for <seconds>. Decimals allowed.",
            ],
        ),
        _ => state.out.error(
            [&b"ERR unknown subcommand or wrong number of arguments for '"[..], args[1], b"'. Try DEBUG HELP."]
                .concat(),
        ),
    }
    Flow::Continue
}

fn shutdown(server: &Server, state: &mut State, args: &[&[u8]]) -> Flow {
    let known: [&[u8]; 4] = [b"save", b"nosave", b"now", b"force"];
    if args[1..].iter().any(|option| !known.iter().any(|known| option.eq_ignore_ascii_case(known))) {
        state.out.error(SYNTAX);
        return Flow::Continue;
    }
    // As in Redis, success has no reply: the connection ends.
    server.stop();
    Flow::Close
}
