//! `INFO`: the server's figures in the fields that monitoring tools read.
//!
//! Fields that describe something AiDb does not have are left out, except where a common client or tool insists on them
//! (`loading`, `role`, `aof_enabled`, ...). What is ours is prefixed `aidb_`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::env::{Disk, DiskFile, Env, OpenMode};
use crate::server::Server;
use crate::server::config::AppendFsync;
use crate::server::session::state::State;

type Section = (&'static str, fn(&Server, &mut String));

const SECTIONS: &[Section] = &[
    ("Server", server_section),
    ("Clients", clients_section),
    ("Memory", memory_section),
    ("Persistence", persistence_section),
    ("Stats", stats_section),
    ("Replication", replication_section),
    ("CPU", cpu_section),
    ("Modules", |_, _| {}),
    ("Errorstats", |_, _| {}),
    ("Cluster", |_, text| text.push_str("cluster_enabled:0\r\n")),
    ("Keyspace", keyspace_section),
    ("AiDb", aidb_section),
];

/// Executes `INFO [<section> ...]`.
pub(in crate::server) fn execute(server: &Server, state: &mut State, args: &[&[u8]]) {
    let text = text(server, &args[1..]);
    state.out.verbatim("txt", text.as_bytes());
}

fn text(server: &Server, wanted: &[&[u8]]) -> String {
    let all = wanted.is_empty()
        || wanted
            .iter()
            .any(|name| ["all", "default", "everything"].iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes())));
    let mut text = String::with_capacity(4096);
    for (name, write) in SECTIONS {
        if all || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes())) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {name}\r\n");
            write(server, &mut text);
        }
    }
    text
}

fn field(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(text, "{name}:{value}\r\n");
}

fn server_section(server: &Server, text: &mut String) {
    let uptime = server.uptime().as_secs();
    field(text, "redis_version", server.redis_version());
    field(text, "redis_git_sha1", "00000000");
    field(text, "redis_git_dirty", 0);
    field(text, "redis_mode", "standalone");
    field(text, "aidb_version", env!("CARGO_PKG_VERSION"));
    field(text, "os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    field(text, "arch_bits", usize::BITS);
    field(text, "multiplexing_api", "tokio");
    field(text, "process_id", std::process::id());
    field(text, "run_id", server.run_id());
    field(text, "tcp_port", server.port());
    field(text, "server_time_usec", server.env.wall().0);
    field(text, "uptime_in_seconds", uptime);
    field(text, "uptime_in_days", uptime / 86_400);
    field(text, "hz", 10);
    field(text, "configured_hz", 10);
    field(text, "config_file", "");
}

fn clients_section(server: &Server, text: &mut String) {
    field(text, "connected_clients", server.clients.len());
    field(text, "cluster_connections", 0);
    field(text, "maxclients", server.config().maxclients);
    field(text, "blocked_clients", 0);
    field(text, "tracking_clients", 0);
    field(text, "clients_in_timeout_table", 0);
}

fn memory_section(server: &Server, text: &mut String) {
    let resident = resident_bytes(server).unwrap_or(0);
    field(text, "used_memory", resident);
    field(text, "used_memory_human", human(resident));
    field(text, "used_memory_rss", resident);
    field(text, "used_memory_rss_human", human(resident));
    field(text, "used_memory_peak", resident);
    field(text, "maxmemory", 0);
    field(text, "maxmemory_human", "0B");
    field(text, "maxmemory_policy", "noeviction");
    field(text, "mem_fragmentation_ratio", "1.00");
    field(text, "mem_allocator", "system");
}

fn persistence_section(server: &Server, text: &mut String) {
    let failures = server.syncer.counts().1 + server.stats.write_failures.get();
    field(text, "loading", 0);
    field(text, "async_loading", 0);
    field(text, "rdb_changes_since_last_save", server.backend.stats().changes.load(Ordering::Relaxed));
    field(text, "rdb_bgsave_in_progress", 0);
    field(text, "rdb_last_save_time", server.started_seconds());
    field(text, "rdb_last_bgsave_status", "ok");
    field(text, "aof_enabled", u8::from(server.config().engine_name() == "aidb"));
    field(text, "aof_rewrite_in_progress", 0);
    field(text, "aof_rewrite_scheduled", 0);
    field(text, "aof_last_bgrewrite_status", "ok");
    field(text, "aof_last_write_status", if failures == 0 { "ok" } else { "err" });
}

fn stats_section(server: &Server, text: &mut String) {
    let stats = &server.stats;
    field(text, "total_connections_received", stats.connections.get());
    field(text, "total_commands_processed", stats.commands.get());
    field(text, "instantaneous_ops_per_sec", stats.commands_per_second.get());
    field(text, "total_net_input_bytes", stats.input_bytes.get());
    field(text, "total_net_output_bytes", stats.output_bytes.get());
    field(text, "rejected_connections", stats.rejected.get());
    field(text, "expired_keys", server.backend.stats().expired_keys.load(Ordering::Relaxed));
    field(text, "evicted_keys", 0);
    field(text, "keyspace_hits", server.backend.stats().keyspace_hits.load(Ordering::Relaxed));
    field(text, "keyspace_misses", server.backend.stats().keyspace_misses.load(Ordering::Relaxed));
    field(text, "pubsub_channels", 0);
    field(text, "pubsub_patterns", 0);
    field(text, "latest_fork_usec", 0);
    field(text, "total_error_replies", stats.errors.get());
}

fn replication_section(server: &Server, text: &mut String) {
    field(text, "role", "master");
    field(text, "connected_slaves", 0);
    field(text, "master_failover_state", "no-failover");
    field(text, "master_replid", server.run_id());
    field(text, "master_repl_offset", 0);
}

fn cpu_section(server: &Server, text: &mut String) {
    let (user, system) = cpu_seconds(server).unwrap_or((0.0, 0.0));
    field(text, "used_cpu_sys", format_args!("{system:.6}"));
    field(text, "used_cpu_user", format_args!("{user:.6}"));
}

fn keyspace_section(server: &Server, text: &mut String) {
    for (index, (keys, expires)) in server.backend.keyspace().into_iter().enumerate() {
        if keys > 0 {
            field(text, &format!("db{index}"), format_args!("keys={keys},expires={expires},avg_ttl=0"));
        }
    }
}

fn aidb_section(server: &Server, text: &mut String) {
    let config = server.config();
    let (syncs, failures) = server.syncer.counts();
    field(text, "aidb_engine", config.engine_name());
    field(text, "aidb_data_dir", config.data_dir.display());
    field(
        text,
        "aidb_appendfsync",
        match config.appendfsync {
            AppendFsync::Always => "always",
            AppendFsync::EverySecond => "everysec",
            AppendFsync::No => "no",
        },
    );
    field(text, "aidb_batches", server.stats.batches.get());
    field(text, "aidb_write_failures", server.stats.write_failures.get());
    field(text, "aidb_syncs", syncs);
    field(text, "aidb_sync_failures", failures);
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.2}K", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2}G", bytes as f64 / 1_073_741_824.0),
    }
}

/// Reads the beginning of a file of `/proc`, whose length is unknown before it is read.
fn proc_text(server: &Server, path: &str) -> Option<String> {
    let file = server.env.disk().open(Path::new(path), OpenMode::Read).ok()?;
    let mut bytes = [0; 512];
    let read = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..read].to_vec()).ok()
}

fn resident_bytes(server: &Server) -> Option<u64> {
    let pages: u64 = proc_text(server, "/proc/self/statm")?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Returns the seconds of processor time spent in user and in system mode, counted by Linux in hundredths.
fn cpu_seconds(server: &Server) -> Option<(f64, f64)> {
    let text = proc_text(server, "/proc/self/stat")?;
    let mut after_name = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || after_name.next()?.parse::<f64>().ok().map(|ticks| ticks / 100.0);
    Some((ticks()?, ticks()?))
}
