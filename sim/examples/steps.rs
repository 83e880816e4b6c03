//! Measures the simulator: switch points a second, and crash-and-recover runs a second of a small program.
#![allow(clippy::disallowed_methods, reason = "measures real time")]

use aidb::env::{Disk, DiskFile, Env, EnvJoin, Mutex, OpenMode, SyncKind};
use aidb_sim::{Exit, FaultConfig, Harness, Rate, Schedule, SimEnv, WorldConfig, run};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Four threads that do nothing but take turns under a lock.
fn locks(harness: &mut Harness) {
    harness.run_process(|env| {
        let shared = Arc::new(Mutex::<SimEnv, u64>::new(0));
        let thread = |_| {
            let shared = Arc::clone(&shared);
            env.spawn_local("adder", move || (0..100_000).for_each(|_| *shared.lock() += 1))
        };
        let threads: Vec<_> = (0..4).map(thread).collect();
        threads.into_iter().for_each(|thread| assert!(thread.join()));
    });
}

/// Appends and syncs until the first crash, then reads back.
fn log(harness: &mut Harness) {
    loop {
        let exit = harness.run_process(|env| {
            let path = Path::new("/log");
            let disk = env.disk();
            let file = disk.open(path, OpenMode::ReadWrite).or_else(|_| disk.open(path, OpenMode::CreateNew));
            let Ok(file) = file else { return };
            let _ = disk.sync_dir(Path::new("/"));
            let mut from = file.len().unwrap_or(0);
            while from < 4000 {
                let _ = file.write_at(&[7; 40], from).and_then(|()| file.sync(SyncKind::Data));
                from += 40;
            }
        });
        if !matches!(exit, Exit::Crashed { .. }) {
            break;
        }
    }
}

fn main() {
    for one_in in [1, 20] {
        let config = WorldConfig { schedule: Schedule::Random { one_in }, ..WorldConfig::calm(1) };
        let start = Instant::now();
        let outcome = run(&config, locks);
        let ns = start.elapsed().as_nanos() as u64 / outcome.steps;
        println!("switching 1 in {one_in:>2}: {ns} ns a step, {} events, {:?}", outcome.events, outcome.violation);
    }
    let start = Instant::now();
    let (mut crashes, mut steps) = (0, 0);
    for seed in 0..2000 {
        let faults =
            FaultConfig { crash: Rate::one_in(100), crashes_max: 3, crash_power_percent: 70, ..FaultConfig::default() };
        let outcome = run(&WorldConfig { faults, ..WorldConfig::calm(seed) }, log);
        assert_eq!(outcome.violation, None);
        (crashes, steps) = (crashes + outcome.crashes, steps + outcome.steps);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "2000 runs: {:.0} runs/s, {:.0} crashes/s, {:.0} ns a step",
        2000.0 / seconds,
        crashes as f64 / seconds,
        seconds * 1e9 / steps as f64
    );
}
