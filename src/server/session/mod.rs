//! One connection: read what is there, execute all of it together, send all replies at once.
//!
//! [`serve`] runs as one task for each connection on the runtime's threads. It takes any byte stream, so that a test or a
//! simulated network can host it.
//!
//! ```text
//! read -> parse every complete request -> execute in order -> (appendfsync always: wait for the sync) -> one write -> read
//! ```
//!
//! **Invariants:** replies leave in the order of their requests; output is flushed before more input is executed, so a peer
//! that does not read stops being served and memory stays bounded; a batch of requests ends at [`BATCH_BYTES_MAX`] of
//! input or output, so that one connection cannot hold a thread for long; no device is waited for on these threads.

pub(super) mod client;
pub(super) mod command;
pub(super) mod config;
pub(super) mod connection;
mod execute;
pub(super) use execute::Request;
pub(super) mod info;
pub(super) mod state;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Server;
use super::clients::Registration;
use crate::env::Env;
use crate::resp::{Limits, Parser};
use execute::Executor;
use state::{Flow, State};

/// Input or output after which a batch of requests ends, in bytes.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// Requests in one batch.
const BATCH_REQUESTS_MAX: usize = 4096;
/// First and largest size of a read; grows while the peer fills it.
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Memory that an idle connection keeps for input, and for output.
const IDLE_BYTES_MAX: usize = 64 << 10;

/// Serves the connection `io` until either side ends it.
pub(super) async fn serve<IO>(server: Arc<Server>, registration: Registration, mut io: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let state = State::new(registration.client.clone(), !server.password_required());
    let mut session = Session {
        server,
        state,
        executor: Executor::default(),
        parser: Parser::new(Limits::default()),
        input: Vec::new(),
        read_bytes: READ_BYTES_MIN,
    };
    session.run(&mut io).await;
    // The peer may be gone already.
    let _ = io.shutdown().await;
}

struct Session {
    server: Arc<Server>,
    state: State,
    executor: Executor,
    parser: Parser,
    input: Vec<u8>,
    read_bytes: usize,
}

impl Session {
    async fn run<IO: AsyncRead + AsyncWrite + Unpin>(&mut self, io: &mut IO) {
        loop {
            if !self.read(io).await {
                return;
            }
            loop {
                self.parser.limits = Limits {
                    bulk_bytes_max: self.server.bulk_bytes_max(),
                    unauthenticated: !self.state.authenticated,
                    ..Limits::default()
                };
                // Bounds for strangers end with the request that authenticates: look at one request at a time.
                let requests_max = if self.state.authenticated { BATCH_REQUESTS_MAX } else { 1 };
                let outcome = self.parser.parse(&mut self.input, requests_max, BATCH_BYTES_MAX);
                let more = !self.parser.is_empty();
                if more && !self.execute(io).await {
                    return;
                }
                self.consume();
                if let Err((_, error)) = outcome {
                    self.state.out.error(format!("ERR {error}"));
                    self.server.stats.errors.add(1);
                    self.flush(io).await;
                    tracing::debug!("client {}: {error}", self.state.client.id);
                    return;
                }
                if !more {
                    break;
                }
            }
            if self.state.client.is_ending() {
                return;
            }
        }
    }

    /// Appends what the peer sent to the input; false when there is no more to come.
    async fn read<IO: AsyncRead + AsyncWrite + Unpin>(&mut self, io: &mut IO) -> bool {
        let spare = self.input.capacity() - self.input.len();
        let missing = self.parser.missing(self.input.len());
        if missing > self.read_bytes && spare < missing {
            // A long argument: grow with what has arrived, not with what was announced.
            self.input.reserve_exact(missing.min(self.input.len().max(1 << 20)));
        } else if spare < self.read_bytes / 2 {
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let received = tokio::select! {
            biased;
            () = self.state.client.draining() => return false,
            received = io.read_buf(&mut self.input) => received,
        };
        let received = match received {
            Ok(0) | Err(_) => return false,
            Ok(received) => received,
        };
        if received == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        self.server.stats.input_bytes.add(received as u64);
        let held = self.input.len() + self.parser.memory();
        if held as u64 > self.server.query_buffer_bytes_max() {
            tracing::warn!(
                "client {} closed: its unexecuted input exceeds the query buffer limit",
                self.state.client.id
            );
            return false;
        }
        true
    }

    /// Executes the parsed requests and sends their replies; false when the connection is to end.
    async fn execute<IO: AsyncRead + AsyncWrite + Unpin>(&mut self, io: &mut IO) -> bool {
        let mut from = 0;
        while from < self.parser.len() {
            let done = self.executor.execute(&self.server, &mut self.state, &self.parser, &self.input, from);
            from = done.next;
            if done.sync
                && let Err(error) = self.server.syncer.synced().await
            {
                self.executor.deny_writes(&self.server, &mut self.state, &error);
            }
            if let Flow::Sleep(pause) = done.flow {
                tokio::time::sleep(pause).await;
            }
            if !self.flush(io).await || done.flow == Flow::Close {
                return false;
            }
        }
        let (now, input_bytes) = (self.server.env.now(), self.input.len());
        let state = &self.state;
        let buffer_bytes = self.input.capacity() - input_bytes + state.out.capacity();
        let command = self.executor.last_command;
        state.client.notes(|notes| {
            notes.db = state.db;
            notes.protocol = state.out.protocol;
            notes.active = now;
            notes.input_bytes = input_bytes;
            notes.buffer_bytes = buffer_bytes;
            notes.command = command;
        });
        true
    }

    /// Sends the replies; false when the peer is gone or the session was killed.
    async fn flush<IO: AsyncRead + AsyncWrite + Unpin>(&mut self, io: &mut IO) -> bool {
        if self.state.out.is_empty() {
            return true;
        }
        let sent = tokio::select! {
            biased;
            sent = io.write_all(self.state.out.bytes()) => sent.is_ok(),
            () = self.state.client.killed() => false,
        };
        self.server.stats.output_bytes.add(self.state.out.len() as u64);
        self.state.out.clear(IDLE_BYTES_MAX);
        sent
    }

    /// Drops executed requests from the input.
    fn consume(&mut self) {
        let consumed = self.parser.consume();
        if consumed == self.input.len() {
            self.input.clear();
            if self.input.capacity() > READ_BYTES_MAX.max(IDLE_BYTES_MAX) {
                self.input.shrink_to(READ_BYTES_MIN);
            }
        } else if consumed > 0 {
            self.input.drain(..consumed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Config;

    /// No socket involved: whatever can be read and written can carry a session, a simulated network too.
    #[tokio::test]
    async fn any_stream_can_carry_a_session() {
        let mut config = Config::default();
        config.set("engine", "memory").unwrap();
        config.set("port", "0").unwrap();
        let server = Server::start(config).unwrap();
        let registration = server.clients.register("peer".into(), "here".into(), server.env.now(), 10).unwrap();
        let (mut ours, theirs) = tokio::io::duplex(7);
        let session = tokio::spawn(serve(server.clone(), registration, theirs));
        ours.write_all(b"PING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\nQUIT\r\n").await.unwrap();
        let mut replies = Vec::new();
        ours.read_to_end(&mut replies).await.unwrap();
        assert_eq!(replies, b"+PONG\r\n$5\r\nhello\r\n+OK\r\n");
        session.await.unwrap();
        assert!(server.clients.is_empty());
        server.stop();
        server.stopped().await;
    }
}
