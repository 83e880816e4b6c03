//! What one connection remembers between requests, and the replies that every command may give.

use std::sync::Arc;
use std::time::Duration;

use crate::command::table::CommandSpec;
use crate::resp::{Encoder, Protocol};
use crate::server::clients::Client;

/// Whether replies are sent (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Replies {
    /// All of them.
    On,
    /// None until switched on again.
    Off,
    /// Not the one of the next command.
    SkipNext,
}

/// The state of a session.
#[derive(Debug)]
pub(in crate::server) struct State {
    /// How others see it.
    pub(in crate::server) client: Arc<Client>,
    /// Selected database.
    pub(in crate::server) db: usize,
    /// Whether the password was given, or none was required.
    pub(in crate::server) authenticated: bool,
    /// Whether replies are sent.
    pub(in crate::server) replies: Replies,
    /// Replies not sent yet.
    pub(in crate::server) out: Encoder,
}

/// What a session does after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Flow {
    /// Execute the next one.
    Continue,
    /// Send the replies and close the connection.
    Close,
    /// Send the replies after a pause.
    Sleep(Duration),
}

impl State {
    pub(in crate::server) fn new(client: Arc<Client>, authenticated: bool) -> State {
        State { client, db: 0, authenticated, replies: Replies::On, out: Encoder::new(Protocol::Resp2) }
    }

    /// Replies that the request has a wrong number of arguments; `name` is the command's full name.
    pub(in crate::server) fn wrong_arity(&mut self, name: &str) {
        self.out.error(format!("ERR wrong number of arguments for '{name}' command"));
    }

    /// Replies that no command has the name of this request.
    pub(in crate::server) fn unknown_command(&mut self, args: &[&[u8]]) {
        let mut text = b"ERR unknown command '".to_vec();
        text.extend_from_slice(c_string(args[0], 128));
        text.extend_from_slice(b"', with args beginning with: ");
        let mut shown = Vec::new();
        for argument in &args[1..] {
            if shown.len() >= 128 {
                break;
            }
            let room = 128 - shown.len();
            shown.push(b'\'');
            shown.extend_from_slice(c_string(argument, room));
            shown.extend_from_slice(b"' ");
        }
        text.extend_from_slice(&shown);
        self.out.error(text);
    }

    /// Finds the subcommand that a request to the container `spec` names, or replies why there is none.
    pub(in crate::server) fn subcommand(
        &mut self,
        spec: &'static CommandSpec,
        args: &[&[u8]],
    ) -> Option<&'static CommandSpec> {
        let Some(found) = args.get(1).and_then(|name| spec.subcommand(name)) else {
            let name = c_string(args.get(1).copied().unwrap_or_default(), 128);
            let mut text = b"ERR unknown subcommand '".to_vec();
            text.extend_from_slice(name);
            text.extend_from_slice(format!("'. Try {} HELP.", spec.name.to_uppercase()).as_bytes());
            self.out.error(text);
            return None;
        };
        if !found.accepts(args.len()) {
            self.wrong_arity(found.name);
            return None;
        }
        Some(found)
    }

    /// Replies with the lines of a `HELP` subcommand.
    pub(in crate::server) fn help(&mut self, command: &str, lines: &[&str]) {
        self.out.array(lines.len() + 3);
        self.out.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
        for line in lines {
            self.out.simple(line);
        }
        self.out.simple("HELP");
        self.out.simple("    Prints this help.");
    }
}

/// Shows at most `bytes_max` bytes, up to the first NUL, as C's formatting does.
fn c_string(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(bytes_max)];
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Reads a decimal integer strictly, as Redis does: no plus, no spaces, no leading zeros.
pub(in crate::server) fn integer(text: &[u8]) -> Option<i64> {
    let parsed: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (parsed.to_string().as_bytes() == text).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Mono;
    use crate::server::clients::Clients;

    #[test]
    fn an_unknown_command_is_quoted_within_bounds() {
        let clients = Arc::new(Clients::default());
        let registration = clients.register("p".into(), "l".into(), Mono(0), 1).unwrap();
        let mut state = State::new(registration.client.clone(), true);
        state.unknown_command(&[b"foo", b"a", b"b\r\nc"]);
        assert_eq!(state.out.bytes(), b"-ERR unknown command 'foo', with args beginning with: 'a' 'b  c' \r\n");
        state.out.clear(0);
        let long = [b'x'; 500];
        state.unknown_command(&[&long, &long, &long]);
        assert!(state.out.len() < 400);
        assert_eq!([integer(b"-12"), integer(b"+1"), integer(b"01"), integer(b"")], [Some(-12), None, None, None]);
    }
}
