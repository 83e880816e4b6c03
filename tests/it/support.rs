//! What the tests share: a server in this process, the `aikv` program as a process of its own, and a client of raw bytes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aidb::server::Server;
use aidb::server::config::Config;

/// Longest wait for anything: only a failing test takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in this process, over memory unless the settings say otherwise.
pub(crate) struct InProcess {
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) server: Arc<Server>,
}

impl InProcess {
    /// Starts a server on a free port with `settings`, pairs of name and value.
    pub(crate) fn start(settings: &[(&str, &str)]) -> InProcess {
        let mut config = Config::default();
        for (name, value) in [("port", "0"), ("engine", "memory")].iter().chain(settings) {
            config.set(name, value).expect("a setting that exists");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = runtime.block_on(async { Server::start(config) }).expect("the server starts");
        InProcess { runtime: Some(runtime), server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address())
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.server.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.server.stopped());
            runtime.shutdown_background();
        }
    }
}

/// A client that speaks bytes.
pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Raw { stream }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends what the server may refuse to take to the end.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads exactly as many bytes as `expected` has, and compares.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let got = self.read(expected.len());
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
    }

    /// Sends a line and compares the reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str, expected: &str) {
        self.send(format!("{line}\r\n"));
        self.expect(expected);
    }

    #[track_caller]
    pub(crate) fn read(&mut self, len: usize) -> Vec<u8> {
        let mut got = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.stream.read(&mut got[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got[..filled])),
            }
        }
        got.truncate(filled);
        got
    }

    /// Reads one line, with its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let byte = self.read(1);
            if byte.is_empty() {
                break;
            }
            line.extend(byte);
        }
        String::from_utf8(line).expect("text")
    }

    /// Sends a line and reads one; empty when the server closed the connection.
    pub(crate) fn line_after(&mut self, line: &str) -> String {
        self.try_send(format!("{line}\r\n"));
        self.line()
    }

    /// Reads a string reply.
    pub(crate) fn bulk(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let len = line.strip_prefix('$').unwrap_or_else(|| panic!("a string, not {line:?}"));
        let len: i64 = len.trim_end().parse().expect("a length");
        let len = usize::try_from(len).ok()?;
        let mut bytes = self.read(len + 2);
        bytes.truncate(len);
        Some(bytes)
    }

    /// Reads until the server closes the connection and returns what came.
    pub(crate) fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end as well: the server closed while unread input was on its way.
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Encodes a request.
pub(crate) fn request(arguments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    bytes
}

/// The program `aikv` in a process of its own, killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts it on a free port with its data in `dir`, and waits until it listens.
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Process {
        let mut child = command(dir, flags).stdout(Stdio::piped()).spawn().expect("aikv starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next().expect("aikv says where it listens").expect("text");
            if let Some((_, address)) = line.split_once("listens on ") {
                break address.parse().expect("one address");
            }
        };
        // Keeps the pipe open: its other end must not fail to print.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, address }
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Sends it SIGTERM and returns the code it exits with.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("it ends").code()
    }

    /// Waits for its end and returns the code it exits with.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that starts `aikv` on a free port with its data in `dir`.
pub(crate) fn command(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aikv"));
    command.args(["--port", "0", "--loglevel", "warning", "--dir"]).arg(dir).args(flags);
    command
}
