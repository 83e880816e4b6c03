//! Requests of one read batch, executed in order: runs of data commands as one engine batch each.
//!
//! A request is a *session* command (about the connection or the server), a *data* command, or refused (unknown, wrong
//! number of arguments, not authenticated). Consecutive data commands form a run: their keys are locked together, each sees
//! what those before it did, and all their changes reach the engine as one batch before any of their replies is sent.
//!
//! **When the storage refuses a batch**, nothing of it is stored, and every reply of the run that is then untrue becomes an
//! error. When only the sync fails (under `appendfsync always`), the replies to writes are replaced by the error: nothing
//! is acknowledged that may be lost.

use std::ops::Range;

use crate::base::Error;
use crate::command::Context;
use crate::command::table::{self, CommandSpec, Flags};
use crate::env::Env;
use crate::resp::{Encoder, Parser};
use crate::server::Server;
use crate::server::backend::{Run, Scratch};
use crate::server::session::BATCH_BYTES_MAX;
use crate::server::session::connection;
use crate::server::session::state::{Flow, Replies, State};

/// Room for arguments that is kept between batches: 128 KiB.
const ARGS_KEPT_MAX: usize = 8192;

/// A request as the executor sees it.
#[derive(Clone, Debug)]
pub(in crate::server) struct Request {
    /// The command, unless there is none of that name.
    pub(in crate::server) spec: Option<&'static CommandSpec>,
    /// Its arguments, as a range of the flat list.
    pub(in crate::server) args: Range<usize>,
}

impl Request {
    fn is_data(&self) -> bool {
        self.spec.is_some_and(|spec| !spec.is_session() && spec.accepts(self.args.len()))
    }
}

/// What has been done when [`Executor::execute`] returns.
pub(super) struct Done {
    /// The first request not executed.
    pub(super) next: usize,
    /// What the session does now.
    pub(super) flow: Flow,
    /// Whether a sync must precede the replies.
    pub(super) sync: bool,
}

/// Executes requests for one session; keeps its memory between batches.
#[derive(Default)]
pub(super) struct Executor {
    requests: Vec<Request>,
    /// Where in the output the replies to writes are, while they wait for a sync.
    writes: Vec<Range<usize>>,
    /// An empty list whose memory the next batch's arguments use.
    spare: Vec<&'static [u8]>,
    scratch: Option<Scratch>,
    pub(super) last_command: &'static str,
}

impl Executor {
    /// Executes the parsed requests from number `from`, until all are done, much output waits, or the flow changes.
    pub(super) fn execute(
        &mut self,
        server: &Server,
        state: &mut State,
        parser: &Parser,
        input: &[u8],
        from: usize,
    ) -> Done {
        let mut args = recycle(std::mem::take(&mut self.spare));
        let mut requests = std::mem::take(&mut self.requests);
        for index in from..parser.len() {
            let start = args.len();
            args.extend(parser.request(index, input).iter());
            requests.push(Request { spec: table::lookup(args[start]), args: start..args.len() });
        }
        self.writes.clear();
        let mut done = Done { next: 0, flow: Flow::Continue, sync: false };
        let errors = state.out.errors();
        while done.next < requests.len() && done.flow == Flow::Continue && state.out.len() < BATCH_BYTES_MAX {
            let rest = &requests[done.next..];
            let silent = state.replies != Replies::On;
            let start = state.out.len();
            let mut data =
                if state.authenticated { rest.iter().take_while(|request| request.is_data()).count() } else { 0 };
            if silent {
                data = data.min(1);
            }
            if data > 0 {
                done.next += self.run(server, state, &rest[..data], &args, &mut done.sync);
            } else {
                done.flow = self.single(server, state, &rest[0], &args);
                done.next += 1;
            }
            if silent {
                silence(state, start);
                self.writes.retain(|reply| reply.end <= start);
            }
        }
        if let Some(spec) = requests[done.next - 1].spec {
            self.last_command = spec.name;
        }
        server.stats.commands.add(done.next as u64);
        server.stats.batches.add(1);
        server.stats.errors.add(state.out.errors() - errors);
        done.next += from;
        requests.clear();
        self.requests = requests;
        if args.capacity() <= ARGS_KEPT_MAX {
            self.spare = recycle(args);
        }
        done
    }

    /// Executes one request that is not a data command, or says why it is none.
    fn single(&mut self, server: &Server, state: &mut State, request: &Request, args: &[&[u8]]) -> Flow {
        let args = &args[request.args.clone()];
        match request.spec {
            // A browser made to speak to us by a hostile page: end it before it says more.
            None if [&b"post"[..], b"host:"].iter().any(|word| args[0].eq_ignore_ascii_case(word)) => {
                tracing::warn!("client {} speaks HTTP: connection closed", state.client.id);
                state.out.truncate(0);
                return Flow::Close;
            }
            None => state.unknown_command(args),
            Some(spec) if !spec.accepts(args.len()) => state.wrong_arity(spec.name),
            Some(spec) if !state.authenticated && !spec.flags.contains(Flags::NO_AUTH) => {
                state.out.error("NOAUTH Authentication required.");
            }
            Some(spec) => return connection::execute(server, state, spec, args),
        }
        Flow::Continue
    }

    /// Executes consecutive data commands as one engine batch; returns how many of them.
    fn run(
        &mut self,
        server: &Server,
        state: &mut State,
        requests: &[Request],
        args: &[&[u8]],
        sync: &mut bool,
    ) -> usize {
        let context = Context { now_ms: server.env.wall().millis(), seed: server.env.rand_u64() };
        let always = server.syncs_always();
        let writes = always.then_some(&mut self.writes);
        let scratch = self.scratch.get_or_insert_with(|| server.backend.scratch());
        let ran =
            server.backend.execute(scratch, Run { requests, args, db: state.db, context, writes }, &mut state.out);
        *sync |= ran.wrote && always;
        if let Some(error) = &ran.failure {
            server.write_failed(error);
        }
        ran.requests
    }

    /// Replaces the waiting replies to writes by an error: their sync failed.
    pub(super) fn deny_writes(&mut self, server: &Server, state: &mut State, error: &Error) {
        server.write_failed(error);
        replace(&mut state.out, &self.writes, &refusal(error));
        self.writes.clear();
    }
}

/// Replaces the replies at `places`, which ascend, by the error `text`.
fn replace(out: &mut Encoder, places: &[Range<usize>], text: &str) {
    let replies = out.bytes().to_vec();
    out.truncate(0);
    let mut kept = 0;
    for place in places {
        out.raw(&replies[kept..place.start]);
        out.error(text);
        kept = place.end;
    }
    out.raw(&replies[kept..]);
}

/// The error reply to a write that the storage refused.
fn refusal(error: &Error) -> String {
    format!("MISCONF Errors writing to storage: {error}")
}

/// Takes the reply back of a command before which replies were switched off, unless it switched them on.
fn silence(state: &mut State, start: usize) {
    match state.replies {
        Replies::On => {}
        Replies::Off => state.out.truncate(start),
        Replies::SkipNext => {
            state.out.truncate(start);
            state.replies = Replies::On;
        }
    }
}

/// Reuses the memory of a list of slices for slices of another lifetime.
fn recycle<'b>(mut list: Vec<&[u8]>) -> Vec<&'b [u8]> {
    list.clear();
    list.into_iter().map(|_| -> &'b [u8] { unreachable!("the list is empty") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Protocol;

    #[test]
    fn only_the_replies_to_writes_are_replaced() {
        let mut out = Encoder::new(Protocol::Resp2);
        let mut places = Vec::new();
        for reply in ["+OK\r\n", "$1\r\na\r\n", ":12\r\n", "+PONG\r\n"] {
            let start = out.len();
            out.raw(reply.as_bytes());
            if reply != "$1\r\na\r\n" && reply != "+PONG\r\n" {
                places.push(start..out.len());
            }
        }
        replace(&mut out, &places, "MISCONF no");
        assert_eq!(out.bytes(), b"-MISCONF no\r\n$1\r\na\r\n-MISCONF no\r\n+PONG\r\n");
    }
}
