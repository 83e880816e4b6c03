//! Floor 5: the Redis-compatible server: sockets, sessions, settings, and the commands about them.
//!
//! `src/bin/aikv.rs` calls [`run`]; tests and embedders call [`Server::start`] inside a tokio runtime of their own. Data
//! commands live in `command`; the wire format in `resp`.
//!
//! ```text
//! listener --accepts--> session (a task each) --batches of data commands--> backend --> command::db over aidb or memory
//!                        |  parser, encoder           `-- appendfsync always: waits for --> syncer (a thread)
//! housekeeping (a task): expire cycle, everysec sync, idle clients, rates
//! ```
//!
//! **Invariants:** session threads never wait for a device; a write is with the operating system before its reply, under
//! `always` on the device; [`Server::stop`] lets sessions send what they owe, then syncs and closes the data.
//!
//! **API boundary:** nothing below this floor knows of tokio.

mod backend;
pub mod clients;
pub mod config;
pub mod flags;
mod housekeeping;
mod listener;
pub mod parameters;
mod session;
pub mod stats;
mod syncer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::Error;
use crate::env::{Env, Mono, Mutex, StdEnv};
use backend::Backend;
use clients::Clients;
use config::{AppendFsync, Config, EngineKind};
use stats::Stats;
use syncer::Syncer;

/// The version of Redis whose behaviour clients may expect.
const REDIS_VERSION: &str = "7.0.15";
/// How long the orderly end waits for peers that do not take their replies.
const DRAIN_SECONDS_MAX: u64 = 5;

/// A running server.
pub struct Server {
    env: StdEnv,
    config: Mutex<StdEnv, Arc<Config>>,
    backend: Backend,
    syncer: Arc<Syncer>,
    clients: Arc<Clients>,
    stats: Stats,
    addresses: Vec<SocketAddr>,
    since: Mono,
    started_seconds: u64,
    run_id: String,
    /// Copies of settings that every batch reads.
    fast: FastSettings,
    stopping: AtomicBool,
    stop: Notify,
    stopped: Notify,
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct FastSettings {
    password_required: AtomicBool,
    syncs_always: AtomicBool,
    appendfsync: AtomicU8,
    bulk_bytes_max: AtomicI64,
    query_buffer_bytes_max: AtomicU64,
    active_expire: AtomicBool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).field("clients", &self.clients.len()).finish()
    }
}

impl Server {
    /// Opens the data, binds the addresses and serves, in the background of the current tokio runtime.
    ///
    /// # Errors
    /// An address is taken or the data cannot be opened; the message names which.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: Config) -> Result<Arc<Server>, String> {
        let env = StdEnv;
        listener::raise_file_limit(config.maxclients);
        let listeners = listener::bind(&config)?;
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let backend = Backend::open(env, &config)?;
        let syncing = backend.clone();
        let syncer =
            Syncer::start(&env, move || syncing.sync()).map_err(|error| format!("cannot start a thread: {error}"))?;
        let run_id = (0..3).map(|_| format!("{:016x}", env.rand_u64())).collect::<String>()[..40].to_owned();
        let server = Arc::new(Server {
            env,
            backend,
            syncer,
            clients: Arc::new(Clients::default()),
            stats: Stats::default(),
            addresses,
            since: env.now(),
            started_seconds: env.wall().0 / 1_000_000,
            run_id,
            fast: FastSettings::default(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            stopped: Notify::new(),
            is_stopped: AtomicBool::new(false),
            config: Mutex::<StdEnv, _>::new(Arc::new(Config::default())),
        });
        server.fast.active_expire.store(true, Ordering::Relaxed);
        server.adopt(config);
        for listener in listeners {
            tokio::spawn(listener::accept(server.clone(), listener));
        }
        tokio::spawn(housekeeping::run(server.clone()));
        tokio::spawn(end_orderly(server.clone()));
        Ok(server)
    }

    /// Returns the addresses listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Begins the orderly end: no new connections, sessions send what they owe, the data is synced and closed.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    /// Completes when the server has ended and its data is closed.
    pub async fn stopped(&self) {
        let stopped = self.stopped.notified();
        tokio::pin!(stopped);
        stopped.as_mut().enable();
        if !self.is_stopped.load(Ordering::Acquire) {
            stopped.await;
        }
    }

    /// Completes when the orderly end begins.
    async fn stopping(&self) {
        let stop = self.stop.notified();
        tokio::pin!(stop);
        stop.as_mut().enable();
        if !self.stopping.load(Ordering::Acquire) {
            stop.await;
        }
    }

    fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }

    /// Changes settings, all or none; see [`Config::changed`].
    fn change_config(&self, changes: &[(&str, &str)]) -> Result<(), (String, Option<String>)> {
        let next = self.config().changed(changes)?;
        self.adopt(next);
        Ok(())
    }

    fn adopt(&self, config: Config) {
        let always = config.engine == EngineKind::Aidb && config.appendfsync == AppendFsync::Always;
        let fast = &self.fast;
        fast.password_required.store(!config.requirepass.is_empty(), Ordering::Relaxed);
        fast.syncs_always.store(always, Ordering::Relaxed);
        fast.appendfsync.store(config.appendfsync as u8, Ordering::Relaxed);
        fast.bulk_bytes_max.store(config.proto_max_bulk_len, Ordering::Relaxed);
        fast.query_buffer_bytes_max.store(config.query_buffer_bytes_max, Ordering::Relaxed);
        *self.config.lock() = Arc::new(config);
    }

    fn password_required(&self) -> bool {
        self.fast.password_required.load(Ordering::Relaxed)
    }

    /// Whether replies to writes wait for a sync.
    fn syncs_always(&self) -> bool {
        self.fast.syncs_always.load(Ordering::Relaxed)
    }

    fn syncs_every_second(&self) -> bool {
        self.fast.appendfsync.load(Ordering::Relaxed) == AppendFsync::EverySecond as u8
    }

    fn bulk_bytes_max(&self) -> i64 {
        self.fast.bulk_bytes_max.load(Ordering::Relaxed)
    }

    fn query_buffer_bytes_max(&self) -> u64 {
        self.fast.query_buffer_bytes_max.load(Ordering::Relaxed)
    }

    fn set_active_expire(&self, on: bool) {
        self.fast.active_expire.store(on, Ordering::Relaxed);
    }

    fn active_expire(&self) -> bool {
        self.fast.active_expire.load(Ordering::Relaxed)
    }

    fn databases_len(&self) -> usize {
        self.config.lock().databases
    }

    fn redis_version(&self) -> &'static str {
        REDIS_VERSION
    }

    fn run_id(&self) -> &str {
        &self.run_id
    }

    fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    fn uptime(&self) -> Duration {
        self.env.now().since(self.since)
    }

    fn started_seconds(&self) -> u64 {
        self.started_seconds
    }

    /// Counts and logs a write that the storage refused; the first of a row only, to keep a full disk from filling the log.
    fn write_failed(&self, error: &Error) {
        if self.stats.write_failures.get() == 0 {
            tracing::error!("the storage refuses writes, reads go on: {error}");
        }
        self.stats.write_failures.add(1);
    }
}

/// Waits for [`Server::stop`] and carries it out.
async fn end_orderly(server: Arc<Server>) {
    server.stopping().await;
    server.clients.all().iter().for_each(|client| client.drain());
    let drained = async {
        while !server.clients.is_empty() {
            // A connection may have been accepted while the others were told.
            server.clients.all().iter().for_each(|client| client.drain());
            let _ = tokio::time::timeout(Duration::from_millis(50), server.clients.left()).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS_MAX), drained).await.is_err() {
        tracing::warn!("{} clients did not take their replies in time", server.clients.len());
        server.clients.all().iter().for_each(|client| client.kill());
    }
    let closing = server.clone();
    let closed = tokio::task::spawn_blocking(move || {
        closing.syncer.stop();
        closing.backend.close()
    });
    match closed.await {
        Ok(Ok(())) => tracing::info!("data synced and closed"),
        Ok(Err(error)) => tracing::error!("cannot close the data: {error}"),
        Err(error) => tracing::error!("closing the data failed: {error}"),
    }
    server.is_stopped.store(true, Ordering::Release);
    server.stopped.notify_waiters();
}

/// Runs the server until it is told to stop by a signal or `SHUTDOWN`; prints where it listens and how to connect.
///
/// # Errors
/// It could not start; the message names why and the way out.
pub fn run(config: Config) -> Result<(), String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        builder.worker_threads(config.threads);
    }
    let runtime = builder.enable_all().thread_name("aikv").build().map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let place = match config.engine {
            EngineKind::Memory => "in memory only: it is gone when the server ends".to_owned(),
            EngineKind::Aidb => {
                let dir = std::path::absolute(&config.data_dir).unwrap_or(config.data_dir.clone());
                format!("in {}", dir.display())
            }
        };
        let mut signals = Signals::listen()?;
        let server = Server::start(config)?;
        let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
        println!("aikv {} listens on {}", env!("CARGO_PKG_VERSION"), addresses.join(" and "));
        println!("data {place}");
        println!("connect with: {}", connect_line(server.addresses()));
        tokio::select! {
            () = signals.received() => {
                tracing::info!("told to stop");
                server.stop();
            }
            () = server.stopping() => {}
        }
        server.stopped().await;
        Ok(())
    })
}

fn connect_line(addresses: &[SocketAddr]) -> String {
    let Some(address) = addresses.first() else { return "redis-cli".to_owned() };
    let host = match address.ip() {
        ip if ip.is_unspecified() || ip.to_string() == "127.0.0.1" => String::new(),
        ip => format!(" -h {ip}"),
    };
    format!("redis-cli{host} -p {}", address.port())
}

/// The signals that ask for an orderly end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Signals, String> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Sends the log of this process to the standard error, at one of the levels of the setting `loglevel`.
pub fn log_to_stderr(level: &str) {
    let level = match level {
        "debug" => tracing::Level::TRACE,
        "verbose" => tracing::Level::DEBUG,
        "notice" => tracing::Level::INFO,
        "warning" => tracing::Level::WARN,
        _ => tracing::Level::ERROR,
    };
    let _ = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).try_init();
}
