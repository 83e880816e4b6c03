//! Faults and decisions: rates, explicit plans, replay, search.

use super::{busy, busy_body, process};
use crate::{
    At, ChooserConfig, Damage, Exit, Explorer, Fault, FaultConfig, FaultEvent, FaultPlan, Harness, Loss, Rate,
    Schedule, WorldConfig, run,
};
use aidb::env::{Disk, DiskFile, Env, EnvJoin, OpenMode, SyncKind, read_file};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn recorded_plan_and_schedule_replay_the_run() {
    let mut with_faults = 0;
    for seed in 0..60 {
        let config = WorldConfig { record_switches: true, ..WorldConfig::swarm(seed) };
        let first = run(&config, busy_body);
        with_faults += usize::from(!first.fired.is_empty());
        let replay = WorldConfig {
            plan: FaultPlan::Explicit(first.fired.clone()),
            schedule: Schedule::Explicit(first.switches.clone()),
            ..config
        };
        let json = serde_json::to_string(&replay).expect("a configuration is plain data");
        let replay: WorldConfig = serde_json::from_str(&json).expect("what was written");
        let second = run(&replay, busy_body);
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.state_hash, second.state_hash, "seed {seed}");
        assert_eq!(first.fired, second.fired, "seed {seed}");
    }
    assert!(with_faults > 20, "{with_faults}");
}

#[test]
fn removing_a_fault_leaves_the_others_where_they_are() {
    let faults = FaultConfig {
        read_short: Rate::one_in(4),
        stall: Rate::one_in(10),
        stall_ns_max: 50,
        ..FaultConfig::default()
    };
    let config = WorldConfig { faults, schedule: Schedule::Calm, ..WorldConfig::calm(5) };
    let body = |harness: &mut Harness| {
        harness.run_process(|env| {
            let file = env.disk().open(Path::new("/file"), OpenMode::CreateNew).expect("calm");
            file.write_at(&[7; 100], 0).expect("calm");
            for _ in 0..100 {
                assert!(file.read_at(&mut [0; 100], 0).expect("calm") > 0);
            }
        });
    };
    let all = run(&config, body).fired;
    assert!(all.len() > 20);
    for gone in 0..all.len() {
        let mut fewer = all.clone();
        fewer.remove(gone);
        let outcome = run(&WorldConfig { plan: FaultPlan::Explicit(fewer.clone()), ..config.clone() }, body);
        assert_eq!(outcome.fired, fewer);
    }
}

#[test]
fn exhaustive_search_finds_every_interleaving() {
    let mut explorer = Explorer::default();
    let mut orders = std::collections::BTreeSet::new();
    let mut runs = 0;
    while let Some(chooser) = explorer.next() {
        let order = Rc::new(RefCell::new(String::new()));
        let theirs = Rc::clone(&order);
        let config = WorldConfig { chooser, schedule: Schedule::Random { one_in: 1 }, ..WorldConfig::calm(0) };
        let outcome = process(&config, move |env| {
            let writers: Vec<_> = ["a", "b", "c"]
                .into_iter()
                .map(|name| {
                    let order = Rc::clone(&theirs);
                    env.spawn_local(name, move || order.borrow_mut().push_str(name))
                })
                .collect();
            writers.into_iter().for_each(|writer| assert!(writer.join()));
        });
        orders.insert(order.take());
        explorer.ran(&outcome.draws);
        runs += 1;
    }
    assert_eq!(orders.len(), 6, "{orders:?} after {runs} runs");
}

#[test]
fn fuzzer_bytes_drive_a_run() {
    for length in [0, 1, 10, 1000] {
        let bytes = (0..length).map(|index| (index * 7) as u8).collect();
        let config = WorldConfig { chooser: ChooserConfig::Bytes(bytes), ..WorldConfig::swarm(9) };
        assert_eq!(run(&config, busy_body), run(&config, busy_body));
    }
}

#[test]
fn crash_at_every_io_is_reachable() {
    let body = |harness: &mut Harness| {
        let exit = harness.run_process(|env| busy(&env));
        if let Exit::Crashed { .. } = exit {
            assert_eq!(harness.run_process(|env| assert!(env.disk().list(Path::new("/")).is_ok())), Exit::Finished);
        }
    };
    let base = WorldConfig { plan: FaultPlan::Explicit(Vec::new()), ..WorldConfig::calm(4) };
    let total = run(&base, body).mutating_ios;
    assert!(total > 100);
    for io in 0..total {
        for after in [false, true] {
            let event = FaultEvent::power_loss(io, after, Loss::ALL);
            let outcome = run(&WorldConfig { also: vec![event], ..base.clone() }, body);
            assert_eq!((outcome.violation, outcome.crashes), (None, 1), "at {io}");
            assert_eq!(outcome.fired, [event]);
        }
    }
}

#[test]
fn buggify_sites_are_active_in_a_quarter_of_the_runs() {
    let mut active = 0;
    let mut fired = 0;
    for seed in 0..400 {
        let count = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&count);
        let faults = FaultConfig { buggify: true, ..FaultConfig::default() };
        process(&WorldConfig { faults, ..WorldConfig::calm(seed) }, move |env| {
            theirs.set((0..100).filter(|_| env.buggify("site")).count());
        });
        active += usize::from(count.get() > 0);
        fired += count.get();
    }
    assert!((60..140).contains(&active), "{active}");
    assert!((18..32).contains(&(fired / active)), "{fired} of {active}");
}

#[test]
fn wall_clock_drifts_and_steps_and_monotonic_never_goes_back() {
    let faults = FaultConfig {
        wall_step: Rate::one_in(5),
        wall_step_us_max: 1_000_000_000,
        wall_drift_ppm: 100_000,
        ..FaultConfig::default()
    };
    let outcome = process(&WorldConfig { faults, ..WorldConfig::calm(3) }, |env| {
        let (mut backwards, mut last, mut mono) = (0, env.wall(), env.now());
        for _ in 0..200 {
            env.sleep(Duration::from_millis(1));
            let (wall, now) = (env.wall(), env.now());
            backwards += usize::from(wall < last);
            assert!(now > mono);
            (last, mono) = (wall, now);
        }
        assert!(backwards > 5);
    });
    assert_eq!(outcome.violation, None);
    assert!(
        outcome
            .fired
            .iter()
            .all(|event| matches!(event, FaultEvent { at: At::WallRead(_), fault: Fault::WallStep { .. } }))
    );
}

#[test]
fn damage_at_rest_is_reported_and_real() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let one = Rate::one_in(1);
        let faults = FaultConfig { bit_rot: one, misdirected: one, lost_write: one, ..FaultConfig::default() };
        let outcome = run(&WorldConfig { faults, ..WorldConfig::calm(seed) }, |harness| {
            let content: Vec<u8> = (0..4000u32).flat_map(u32::to_be_bytes).collect();
            let written = content.clone();
            harness.run_process(move |env| {
                let file = env.disk().open(Path::new("/file"), OpenMode::CreateNew).expect("calm");
                for chunk in 0..written.len() / 1000 {
                    file.write_at(&written[chunk * 1000..][..1000], chunk as u64 * 1000).expect("calm");
                    file.sync(SyncKind::All).expect("calm");
                }
                env.disk().sync_dir(Path::new("/")).expect("calm");
            });
            harness.run_process(|_| ());
            let damage: Vec<Damage> = harness.damage();
            let now = read_file(harness.env().disk(), Path::new("/file")).expect("no fault in the body");
            let inside =
                |at: usize| damage.iter().any(|hurt| (hurt.offset..hurt.offset + hurt.bytes).contains(&(at as u64)));
            let differs = (0..now.len()).filter(|at| now[*at] != content[*at]).collect::<Vec<_>>();
            assert!(!differs.is_empty() && differs.into_iter().all(inside));
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
        seen.extend(outcome.damage.into_iter().map(|damage| damage.what));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["bit rot", "lost write", "misdirected"]);
}
