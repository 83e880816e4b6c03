//! Accepting connections: addresses, limits, protected mode.
//!
//! One task for each address. A connection is refused with an error reply where Redis refuses it: too many clients, or a
//! peer from another machine while protected mode is on and no password is set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::config::Config;
use super::{Server, session};
use crate::env::Env;

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const DENIED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect \
from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the \
command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is \
running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this \
change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and \
setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for \
testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. \
NOTE: You only need to do one of the above things in order for the server to start accepting connections from the \
outside.\r\n";

/// Descriptors kept for files beside those of clients.
const FILES_RESERVED: u64 = 512;

/// Binds every address of the configuration.
pub(super) fn bind(config: &Config) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for name in &config.bind {
        let (optional, host) = match name.strip_prefix('-') {
            Some(host) => (true, host),
            None => (false, name.as_str()),
        };
        let hosts: &[&str] = match host {
            "*" => &["0.0.0.0"],
            "::*" => &["::"],
            "localhost" => &["127.0.0.1"],
            host => &[host],
        };
        for host in hosts {
            match bind_one(host, config) {
                Ok(listener) => listeners.push(listener),
                Err(_) if optional => {}
                Err(why) => return Err(why),
            }
        }
    }
    if listeners.is_empty() {
        return Err(format!("none of the addresses {} can be bound; see --bind", config.bind.join(" ")));
    }
    Ok(listeners)
}

fn bind_one(host: &str, config: &Config) -> Result<TcpListener, String> {
    let ip = host.parse().map_err(|_| format!("--bind {host}: not an IP address; for example 127.0.0.1, ::1 or *"))?;
    let address = SocketAddr::new(ip, config.port);
    let attempt = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(config.tcp_backlog)
    };
    attempt().map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is already in use: another server listens there; stop it or choose another --port")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {address}; choose a --port above 1023")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

/// Accepts connections until the server stops.
pub(super) async fn accept(server: Arc<Server>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                server.stats.connections.add(1);
                welcome(&server, stream, peer);
            }
            Err(error) => {
                // Out of descriptors, or the peer left meanwhile: others may still be served.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn welcome(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    let config = server.config();
    if config.protected_mode && !server.password_required() && !is_loopback(peer) {
        return refuse(server, stream, DENIED);
    }
    let local = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let registered = server.clients.register(peer.to_string(), local, server.env.now(), config.maxclients);
    let Some(registration) = registered else { return refuse(server, stream, TOO_MANY) };
    let _ = stream.set_nodelay(true);
    if config.tcp_keepalive_seconds > 0 {
        let every = Duration::from_secs(config.tcp_keepalive_seconds);
        let keepalive =
            socket2::TcpKeepalive::new().with_time(every).with_interval((every / 3).max(Duration::from_secs(1)));
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    }
    if server.stopping.load(Ordering::Acquire) {
        return;
    }
    tokio::spawn(session::serve(server.clone(), registration, stream));
}

fn refuse(server: &Server, stream: TcpStream, why: &'static [u8]) {
    server.stats.rejected.add(1);
    // A fresh socket's buffer holds so little: no need to wait for the peer.
    let _ = stream.try_write(why);
    tokio::spawn(async move {
        let mut stream = stream;
        let _ = stream.shutdown().await;
    });
}

fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Lets the process open as many files as the clients need, as far as the system allows.
pub(super) fn raise_file_limit(clients_max: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = clients_max as u64 + FILES_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let granted = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(granted), maximum: limit.maximum }).is_err()
        || granted < wanted
    {
        tracing::warn!("the system grants {granted} open files, less than maxclients needs ({wanted}); see ulimit -n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_in_all_its_forms() {
        for (peer, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            assert_eq!(is_loopback(peer.parse().unwrap()), expected, "{peer}");
        }
    }
}
