//! Each test pins one behaviour of the world: threads, locks, time, faults, replay.
#![allow(clippy::disallowed_methods, reason = "runs worlds on OS threads and in a child process")]

mod faults;

use crate::{Exit, FaultEvent, Harness, Outcome, Rate, Schedule, SimCondvar, SimEnv, Violation, WorldConfig, run};
use aidb::env::{Condvar, Disk, DiskFile, Env, EnvCondvar, EnvJoin, Mutex, OpenMode, RwLock, SyncKind};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

type SimMutex<T> = Mutex<SimEnv, T>;

fn process(config: &WorldConfig, main: impl FnOnce(SimEnv) + 'static) -> Outcome {
    run(config, |harness| {
        harness.run_process(main);
    })
}

fn kind(outcome: &Outcome) -> &str {
    outcome.violation.as_ref().map_or("", |violation| &violation.kind)
}

fn random(seed: u64) -> WorldConfig {
    WorldConfig { schedule: Schedule::Random { one_in: 2 }, ..WorldConfig::calm(seed) }
}

/// Threads, locks, a condition variable, time and a disk: a bit of everything, with an orderly end.
fn busy(env: &SimEnv) {
    let shared = Arc::new((SimMutex::new(0u64), SimCondvar::default()));
    let disk = env.disk();
    let dir = Path::new("/db");
    disk.create_dir_all(dir).ok();
    let threads: Vec<_> = (0..4u64)
        .map(|number| {
            let (shared, mine) = (Arc::clone(&shared), env.clone());
            env.spawn("worker", move || {
                let path = Path::new("/db").join(format!("file-{}-{number}", mine.incarnation()));
                let Ok(file) = mine.disk().open(&path, OpenMode::CreateNew) else { return };
                for round in 0..20 {
                    let _ = file.write_at(&mine.rand_u64().to_be_bytes(), round * 8);
                    if mine.buggify("sleep") {
                        mine.sleep(Duration::from_micros(number * 10));
                    }
                    let mut count = shared.0.lock();
                    *count += 1;
                    shared.1.notify_one();
                    while *count < round {
                        shared.1.wait_for(&mut count, Duration::from_micros(50));
                    }
                    drop(count);
                    let _ = file.sync(SyncKind::Data);
                }
                let _ = mine.disk().sync_dir(Path::new("/db"));
                mine.reached("worker done");
            })
            .expect("a simulated thread")
        })
        .collect();
    threads.into_iter().for_each(|thread| assert!(thread.join()));
    let _ = env.wall();
    env.note(*shared.0.lock(), String::new);
}

fn busy_body(harness: &mut Harness) {
    for _ in 0..6 {
        if harness.run_process(|env| busy(&env)) == Exit::Violated {
            return;
        }
    }
}

#[test]
fn same_seed_is_the_same_run() {
    for seed in 0..60 {
        let config = WorldConfig::swarm(seed);
        let first = run(&config, busy_body);
        let second = std::thread::scope(|scope| scope.spawn(|| run(&config, busy_body)).join().expect("no panic"));
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(first.violation, None, "seed {seed}");
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let hashes: std::collections::BTreeSet<u64> =
        (0..50).map(|seed| run(&WorldConfig::swarm(seed), busy_body).hash).collect();
    assert_eq!(hashes.len(), 50);
}

/// The child half of the next test: prints the hashes.
#[test]
#[ignore = "run by a_child_process_gives_the_same_hashes"]
fn print_hashes() {
    for seed in 0..30 {
        let outcome = run(&WorldConfig::swarm(seed), busy_body);
        println!("hash {seed} {:x} {:x} {}", outcome.hash, outcome.state_hash, outcome.events);
    }
}

#[test]
fn a_child_process_gives_the_same_hashes() {
    let executable = std::env::current_exe().expect("the path of this test");
    let child = std::process::Command::new(executable)
        .args(["--exact", "tests::print_hashes", "--ignored", "--nocapture"])
        .output()
        .expect("the test starts again");
    let text = String::from_utf8_lossy(&child.stdout);
    for seed in 0..30 {
        let outcome = run(&WorldConfig::swarm(seed), busy_body);
        let line = format!("hash {seed} {:x} {:x} {}", outcome.hash, outcome.state_hash, outcome.events);
        assert!(text.contains(&line), "not in the child's output: {line}");
    }
}

#[test]
fn recording_changes_nothing_and_names_things() {
    let config = WorldConfig::swarm(3);
    let plain = run(&config, busy_body);
    let recorded = run(&WorldConfig { record_trace: true, record_switches: true, ..config }, busy_body);
    assert_eq!((plain.hash, plain.events), (recorded.hash, recorded.events));
    assert_eq!(recorded.trace.len() as u64, recorded.events);
    assert!(recorded.trace.iter().any(|event| event.note.contains("/db/file-1-0")));
}

#[test]
fn mutex_excludes_and_hands_over() {
    for seed in 0..50 {
        let outcome = process(&random(seed), |env| {
            let inside = Arc::new(SimMutex::new(0));
            let threads: Vec<_> = (0..5)
                .map(|_| {
                    let (inside, mine) = (Arc::clone(&inside), env.clone());
                    env.spawn("adder", move || {
                        for _ in 0..10 {
                            let mut count = inside.lock();
                            let before = *count;
                            mine.yield_point();
                            *count = before + 1;
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| assert!(thread.expect("spawned").join()));
            assert_eq!(*inside.lock(), 50);
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

#[test]
fn racy_update_is_found() {
    let racy = |env: SimEnv| {
        let value = Rc::new(Cell::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (value, mine) = (Rc::clone(&value), env.clone());
                env.spawn_local("racer", move || {
                    let before = value.get();
                    mine.yield_point();
                    value.set(before + 1);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| assert!(thread.join()));
        assert_eq!(value.get(), 2, "an update is lost");
    };
    assert!((0..20).any(|seed| kind(&process(&WorldConfig::calm(seed), racy)) == Violation::PANIC));
}

#[test]
fn deadlock_is_found_and_names_the_threads() {
    let found = (0..50).find_map(|seed| {
        let outcome = process(&random(seed), |env| {
            let locks = Arc::new((SimMutex::new(()), SimMutex::new(())));
            let other = Arc::clone(&locks);
            let thread = env.spawn("backwards", move || {
                let _second = other.1.lock();
                let _first = other.0.lock();
            });
            let first = locks.0.lock();
            let second = locks.1.lock();
            drop((first, second));
            thread.expect("spawned").join();
        });
        outcome.violation
    });
    let violation = found.expect("some schedule deadlocks");
    assert_eq!(violation.kind, Violation::DEADLOCK);
    assert!(violation.message.contains("'backwards' waits for mutex"), "{violation}");
    assert!(violation.message.contains("held by 0 'main'"), "{violation}");
}

#[test]
fn lost_wakeup_is_found() {
    // The flag is checked outside the lock under which the wait begins: a notification in between is lost.
    let program = |env: SimEnv| {
        let shared = Arc::new((SimMutex::new(()), SimCondvar::default(), std::sync::atomic::AtomicBool::new(false)));
        let (theirs, mine) = (Arc::clone(&shared), env.clone());
        let thread = env.spawn("setter", move || {
            mine.yield_point();
            theirs.2.store(true, std::sync::atomic::Ordering::Relaxed);
            theirs.1.notify_one();
        });
        if !shared.2.load(std::sync::atomic::Ordering::Relaxed) {
            let mut guard = shared.0.lock();
            shared.1.wait(&mut guard);
        }
        thread.expect("spawned").join();
    };
    let kinds: Vec<String> = (0..100).map(|seed| kind(&process(&random(seed), program)).to_owned()).collect();
    assert!(kinds.iter().any(|kind| kind == Violation::DEADLOCK) && kinds.iter().any(String::is_empty));
}

#[test]
fn correct_condvar_never_loses_a_wakeup() {
    for seed in 0..200 {
        let mut config = random(seed);
        config.faults.spurious_wakeup = Rate::one_in(4);
        let outcome = process(&config, |env| {
            let queue = Arc::new((SimMutex::new(Vec::new()), Condvar::<SimEnv>::default()));
            let theirs = Arc::clone(&queue);
            let consumer = env.spawn("consumer", move || {
                for wanted in 0..10 {
                    let mut items = theirs.0.lock();
                    while items.is_empty() {
                        theirs.1.wait(&mut items);
                    }
                    assert_eq!(items.remove(0), wanted);
                }
            });
            for item in 0..10 {
                queue.0.lock().push(item);
                queue.1.notify_one();
            }
            assert!(consumer.expect("spawned").join());
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

#[test]
fn timed_wait_times_out_at_its_time() {
    let outcome = process(&WorldConfig::calm(1), |env| {
        let (lock, condvar) = (SimMutex::new(()), SimCondvar::default());
        let before = env.now();
        let mut guard = lock.lock();
        assert!(condvar.wait_for(&mut guard, Duration::from_secs(5)));
        let waited = env.now().since(before);
        assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(6), "{waited:?}");
        env.sleep(Duration::from_secs(3600));
    });
    assert_eq!(outcome.violation, None);
    assert!(outcome.sim_ns > 3_605_000_000_000);
}

#[test]
fn readers_share_and_writers_exclude() {
    for seed in 0..50 {
        let outcome = process(&random(seed), |env| {
            let shared = Arc::new(RwLock::<SimEnv, _>::new((0, 0)));
            let threads: Vec<_> = (0..6)
                .map(|number| {
                    let (shared, mine) = (Arc::clone(&shared), env.clone());
                    env.spawn("thread", move || {
                        for _ in 0..5 {
                            if number < 2 {
                                let mut pair = shared.write();
                                pair.0 += 1;
                                mine.yield_point();
                                pair.1 += 1;
                            } else {
                                let pair = shared.read();
                                mine.yield_point();
                                assert_eq!(pair.0, pair.1);
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| assert!(thread.expect("spawned").join()));
            assert_eq!(*shared.read(), (10, 10));
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

#[test]
fn spinning_threads_make_progress_under_every_schedule() {
    let schedules = [
        Schedule::Calm,
        Schedule::Random { one_in: 100 },
        Schedule::Priority { changes: 2, horizon: 100 },
        Schedule::Explicit(vec![]),
    ];
    for schedule in schedules {
        let outcome = process(&WorldConfig { schedule, ..WorldConfig::calm(2) }, |env| {
            let done = Rc::new(Cell::new(false));
            let theirs = Rc::clone(&done);
            let thread = env.spawn_local("setter", move || theirs.set(true));
            while !done.get() {
                env.yield_point();
            }
            thread.join();
        });
        assert_eq!(outcome.violation, None);
    }
}

#[test]
fn endless_run_is_a_livelock() {
    let config = WorldConfig { steps_max: 10_000, ..WorldConfig::calm(1) };
    let outcome = process(&config, |env| {
        loop {
            env.yield_point();
        }
    });
    assert_eq!(kind(&outcome), Violation::LIVELOCK);
}

#[test]
fn thread_that_outlives_main_is_a_leak() {
    let blocked = |env: SimEnv| {
        env.spawn_local("left behind", || {
            let (lock, condvar) = (SimMutex::new(()), SimCondvar::default());
            condvar.wait(&mut lock.lock());
        });
    };
    let outcome = process(&WorldConfig::calm(1), blocked);
    assert_eq!(kind(&outcome), Violation::LEAK);
    assert!(outcome.violation.expect("just seen").message.contains("'left behind'"));
    assert_eq!(process(&WorldConfig { leak_check: false, ..WorldConfig::calm(1) }, blocked).violation, None);
    let ends = |env: SimEnv| {
        let mine = env.clone();
        env.spawn_local("ends soon", move || mine.sleep(Duration::from_secs(1)));
    };
    assert_eq!(process(&WorldConfig::calm(1), ends).violation, None);
}

#[test]
fn panic_of_a_thread_is_a_violation_with_message_and_place() {
    for seed in 0..20 {
        let outcome = process(&WorldConfig::calm(seed), |env| {
            let lock = Arc::new(SimMutex::new(0));
            let held = Arc::clone(&lock);
            let thread = env.spawn("asserts", move || {
                let _guard = held.lock();
                assert_eq!(1 + 1, 3, "arithmetic");
            });
            thread.expect("spawned").join();
            *lock.lock() += 1;
        });
        let violation = outcome.violation.expect("it panicked");
        assert_eq!(violation.kind, Violation::PANIC);
        assert!(violation.message.contains("'asserts'") && violation.message.contains("arithmetic"), "{violation}");
        assert!(violation.message.contains("tests.rs:"), "{violation}");
    }
}

#[test]
fn panic_of_the_body_is_a_violation() {
    let outcome = run(&WorldConfig::calm(0), |_| panic!("oracle disagrees"));
    assert_eq!(kind(&outcome), Violation::BODY);
    assert!(outcome.violation.expect("just seen").message.contains("oracle disagrees"));
}

#[test]
fn first_violation_of_a_checker_ends_the_run() {
    let outcome = run(&WorldConfig::calm(0), |harness| {
        let exit = harness.run_process(|env| {
            env.spawn_local("other", || ()).join();
            env.violation("model", "a wrong value");
        });
        assert_eq!(exit, Exit::Violated);
        harness.violation("late", "not counted");
        assert_eq!(harness.run_process(|_| unreachable!("the run is over")), Exit::Violated);
    });
    assert_eq!(outcome.violation, Some(Violation { kind: "model".into(), message: "a wrong value".into() }));
}

/// Does in its destructor all that an engine's destructor might.
struct Closes {
    env: SimEnv,
    lock: Arc<SimMutex<u32>>,
    dropped: Rc<Cell<u32>>,
}

impl Drop for Closes {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
        *self.lock.lock() += 1;
        self.env.sleep(Duration::from_secs(1));
        assert!(self.env.disk().open(Path::new("/x"), OpenMode::CreateNew).is_err());
        assert!(self.env.spawn("too late", || ()).is_err());
        SimCondvar::default().wait(&mut self.lock.lock());
        SimCondvar::default().notify_all();
        self.env.yield_point();
    }
}

#[test]
fn killed_threads_unwind_without_blocking() {
    for seed in 0..50 {
        let config = WorldConfig { also: vec![FaultEvent::process_crash(seed % 6, seed % 2 == 0)], ..random(seed) };
        let dropped = Rc::new(Cell::new(0));
        let outcome = run(&config, |harness| {
            let counter = Rc::clone(&dropped);
            let exit = harness.run_process(move |env| {
                let lock = Arc::new(SimMutex::new(0));
                let closes =
                    |env: &SimEnv| Closes { env: env.clone(), lock: Arc::clone(&lock), dropped: Rc::clone(&counter) };
                let (one, two, mine) = (closes(&env), closes(&env), env.clone());
                env.spawn_local("holds the lock", move || {
                    let _guard = two.lock.lock();
                    mine.sleep(Duration::from_secs(1000));
                });
                let (file, other) =
                    (env.disk().open(Path::new("/f"), OpenMode::CreateNew).expect("calm"), one.lock.clone());
                env.spawn_local("wants the lock", move || drop(other.lock()));
                for byte in 0..10 {
                    file.write_at(&[byte], u64::from(byte)).expect("calm");
                }
                drop(one);
            });
            assert_eq!(exit, Exit::Crashed { power: false });
            assert_eq!(harness.run_process(|env| assert!(env.disk().list(Path::new("/")).is_ok())), Exit::Finished);
        });
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert_eq!((outcome.crashes, outcome.incarnations), (1, 2));
        assert!(dropped.get() >= 1);
    }
}

#[test]
fn destructor_that_waits_for_ever_is_a_violation_and_no_hang() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            let (lock, condvar) = (SimMutex::new(()), SimCondvar::default());
            let mut guard = lock.lock();
            loop {
                condvar.wait(&mut guard);
            }
        }
    }
    // On a thread of its own: the fiber is abandoned while it unwinds, and this OS thread counts as panicking for good.
    let config = WorldConfig { also: vec![FaultEvent::process_crash(0, false)], ..WorldConfig::calm(0) };
    let run = move || {
        let outcome = process(&config, |env| {
            let _waits = Waits;
            let _ = env.disk().open(Path::new("/f"), OpenMode::CreateNew);
        });
        assert_eq!(kind(&outcome), Violation::DROP_BLOCKS);
    };
    std::thread::spawn(run).join().expect("found, not hung");
}

#[test]
fn locks_work_outside_a_world_and_in_the_body() {
    let lock = SimMutex::new(1);
    *lock.lock() += 1;
    assert!(lock.try_lock().is_some());
    let rwlock = RwLock::<SimEnv, _>::new(1);
    assert_eq!((*rwlock.read(), *rwlock.read()), (1, 1));
    let kept = Rc::new(RefCell::new(None));
    let outcome = run(&WorldConfig::calm(0), |harness| {
        let theirs = Rc::clone(&kept);
        harness.run_process(move |_| *theirs.borrow_mut() = Some(SimMutex::new(5)));
        assert_eq!(*kept.borrow().as_ref().expect("left by the process").lock(), 5);
    });
    assert_eq!(outcome.violation, None);
    assert_eq!(*kept.borrow().as_ref().expect("left by the process").lock(), 5);
}

#[test]
fn planted_bugs_and_marks_are_seen() {
    let config = WorldConfig { planted: ["ack_early".to_owned()].into(), ..WorldConfig::calm(0) };
    let outcome = process(&config, |env| {
        assert!(env.planted("ack_early") && !env.planted("other"));
        env.reached("a.b");
        env.reached("a.b");
    });
    assert_eq!(outcome.violation, None);
    assert_eq!(outcome.marks.into_iter().collect::<Vec<_>>(), ["a.b"]);
}

#[test]
fn worlds_run_in_parallel_without_sharing() {
    let alone: Vec<u64> = (0..8).map(|seed| run(&WorldConfig::swarm(seed), busy_body).hash).collect();
    let together: Vec<u64> = std::thread::scope(|scope| {
        let worlds: Vec<_> =
            (0..8).map(|seed| scope.spawn(move || run(&WorldConfig::swarm(seed), busy_body).hash)).collect();
        worlds.into_iter().map(|world| world.join().expect("no panic")).collect()
    });
    assert_eq!(alone, together);
}
