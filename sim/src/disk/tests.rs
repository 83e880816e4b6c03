//! Each test pins one behaviour of the disk.

use crate::{
    At, Exit, Fault, FaultConfig, FaultEvent, FaultPlan, Harness, Loss, LossMode, Outcome, SimEnv, WorldConfig, run,
};
use aidb::env::{Disk, DiskFile, Env, OpenMode, SyncKind, read_file, write_file_atomic};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

fn calm(body: impl FnOnce(&mut Harness)) -> Outcome {
    let outcome = run(&WorldConfig::calm(1), body);
    assert_eq!(outcome.violation, None);
    outcome
}

fn with(events: Vec<FaultEvent>, body: impl FnOnce(&mut Harness)) -> Outcome {
    let outcome = run(&WorldConfig { plan: FaultPlan::Explicit(events), ..WorldConfig::calm(1) }, body);
    assert_eq!(outcome.violation, None);
    outcome
}

fn create(env: &SimEnv, path: &str) -> crate::SimFile {
    env.disk().open(Path::new(path), OpenMode::CreateNew).expect("a new file")
}

/// Creates a durable file with durable content.
fn durable(env: &SimEnv, path: &str, bytes: &[u8]) -> crate::SimFile {
    let file = create(env, path);
    file.write_at(bytes, 0).expect("space");
    file.sync(SyncKind::All).expect("a disk that is well");
    env.disk().sync_dir(Path::new(path).parent().expect("a parent")).expect("a disk that is well");
    file
}

fn content(harness: &Harness, path: &str) -> Option<Vec<u8>> {
    match read_file(harness.env().disk(), Path::new(path)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// Runs `main`, cuts the power, and returns what is left of `/f` for many salts of `mode`.
fn survivors(mode: LossMode, main: impl Fn(&SimEnv) + Copy + 'static) -> BTreeSet<Option<Vec<u8>>> {
    let mut seen = BTreeSet::new();
    for salt in 0..300 {
        calm(|harness| {
            assert_eq!(harness.run_process(move |env| main(&env)), Exit::Finished);
            harness.power_loss(Loss { mode, salt });
            seen.insert(content(harness, "/f"));
        });
    }
    seen
}

#[test]
fn unsynced_bytes_are_lost_on_power_loss_and_kept_on_process_crash() {
    for power in [true, false] {
        let crash = Fault::Crash { power, after: false, loss: Loss::ALL };
        let events = vec![FaultEvent { at: At::Io(5), fault: crash }];
        with(events, |harness| {
            let exit = harness.run_process(|env| {
                let file = durable(&env, "/f", b"synced"); // I/O 0 to 3.
                file.write_at(b" and not", 6).expect("space"); // 4
                let _ = file.sync(SyncKind::Data); // 5: the crash comes before.
                unreachable!("killed in the sync");
            });
            assert_eq!(exit, Exit::Crashed { power });
            let expected: &[u8] = if power { b"synced" } else { b"synced and not" };
            assert_eq!(content(harness, "/f").expect("a synced name"), expected);
        });
    }
}

#[test]
fn crash_after_the_sync_keeps_what_it_synced() {
    with(vec![FaultEvent::power_loss(2, true, Loss::ALL)], |harness| {
        harness.run_process(|env| {
            let file = create(&env, "/f");
            env.disk().sync_dir(Path::new("/")).expect("well");
            drop(file.write_at(b"lost", 0)); // 2: the crash comes after; never synced.
            unreachable!("killed in the write");
        });
        assert_eq!(content(harness, "/f").expect("a synced name"), b"");
    });
}

#[test]
fn file_is_gone_until_its_directory_is_synced() {
    calm(|harness| {
        harness.run_process(|env| {
            let file = create(&env, "/f");
            file.write_at(b"bytes", 0).expect("space");
            file.sync(SyncKind::All).expect("well");
        });
        assert_eq!(content(harness, "/f").expect("cached"), b"bytes");
        harness.power_loss(Loss::ALL);
        assert_eq!(content(harness, "/f"), None);
    });
}

#[test]
fn removed_file_comes_back_unless_its_directory_was_synced() {
    for synced in [false, true] {
        calm(|harness| {
            harness.run_process(move |env| {
                durable(&env, "/f", b"x");
                env.disk().remove(Path::new("/f")).expect("there");
                if synced {
                    env.disk().sync_dir(Path::new("/")).expect("well");
                }
            });
            harness.power_loss(Loss::ALL);
            assert_eq!(content(harness, "/f").is_some(), !synced);
        });
    }
}

#[test]
fn sync_covers_what_was_written_before_it_began() {
    let mut lost = 0;
    for seed in 0..100 {
        run(&WorldConfig::calm(seed), |harness| {
            harness.run_process(|env| {
                let file = std::sync::Arc::new(durable(&env, "/f", b""));
                let theirs = std::sync::Arc::clone(&file);
                let writer = env.spawn_local("writer", move || theirs.write_at(b"late", 0).expect("space"));
                file.sync(SyncKind::Data).expect("well");
                aidb::env::EnvJoin::join(writer);
            });
            harness.power_loss(Loss::ALL);
            lost += usize::from(content(harness, "/f").expect("named").is_empty());
        });
    }
    assert!((10..100).contains(&lost), "{lost}");
}

#[test]
fn renamed_file_is_old_or_new_and_never_neither() {
    for mode in [LossMode::All, LossMode::Nothing, LossMode::Prefix, LossMode::Sectors, LossMode::Garbage] {
        let mut seen = BTreeSet::new();
        for (salt, across) in (0..100).flat_map(|salt| [(salt, false), (salt, true)]) {
            calm(|harness| {
                harness.run_process(move |env| {
                    env.disk().create_dir_all(Path::new("/d")).expect("space");
                    durable(&env, "/f", b"old");
                    durable(&env, "/tmp", b"new");
                    let to = if across { "/d/f" } else { "/f" };
                    env.disk().rename(Path::new("/tmp"), Path::new(to)).expect("there");
                });
                harness.power_loss(Loss { mode, salt });
                let (f, tmp, moved) = (content(harness, "/f"), content(harness, "/tmp"), content(harness, "/d/f"));
                let state = (f.as_deref() == Some(&b"new"[..]), tmp.is_some(), moved.is_some());
                assert!(f.is_some() && (state.0 || state.1 || state.2), "{mode:?} {salt}: {state:?}");
                assert!(!(state.0 && state.1), "within a directory a rename is atomic");
                seen.insert(state);
            });
        }
        let both = matches!(mode, LossMode::Prefix | LossMode::Sectors | LossMode::Garbage);
        assert_eq!(seen.len() > 2, both, "{mode:?} {seen:?}");
    }
}

#[test]
fn moved_file_survives_a_sync_of_the_old_directory_alone() {
    calm(|harness| {
        harness.run_process(|env| {
            env.disk().create_dir_all(Path::new("/d")).expect("space");
            durable(&env, "/f", b"x");
            env.disk().rename(Path::new("/f"), Path::new("/d/f")).expect("there");
            env.disk().sync_dir(Path::new("/")).expect("well");
        });
        harness.power_loss(Loss::ALL);
        assert_eq!((content(harness, "/f"), content(harness, "/d/f")), (None, Some(b"x".to_vec())));
    });
}

#[test]
fn atomic_replacement_is_old_or_new_at_every_crash() {
    for io in 0..30 {
        for (salt, after) in (0..20).flat_map(|salt| [(salt, false), (salt, true)]) {
            let loss = Loss { mode: LossMode::Sectors, salt };
            with(vec![FaultEvent::power_loss(io, after, loss)], |harness| {
                let exit = harness.run_process(|env| {
                    let path = Path::new("/f");
                    write_file_atomic(env.disk(), path, &[1; 3000]).expect("well");
                    write_file_atomic(env.disk(), path, &[2; 2000]).expect("well");
                });
                match content(harness, "/f") {
                    None => assert!(io < 6, "the first was durable"),
                    Some(bytes) => assert!(bytes == [1; 3000] || bytes == [2; 2000], "torn: {} bytes", bytes.len()),
                }
                let more = exit != Exit::Finished;
                assert!(!more || io < 12);
            });
        }
    }
}

#[test]
fn prefix_loses_a_tail_and_tears_at_any_byte() {
    let lengths: BTreeSet<usize> = survivors(LossMode::Prefix, |env| {
        let file = durable(env, "/f", b"");
        for chunk in 0..4u8 {
            file.write_at(&[chunk + 1; 100], u64::from(chunk) * 100).expect("space");
            create(env, &format!("/other-{chunk}")); // Keeps the writes apart.
        }
    })
    .into_iter()
    .map(|bytes| {
        let bytes = bytes.expect("a synced name");
        assert!(bytes.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at / 100 + 1), "not a prefix");
        bytes.len()
    })
    .collect();
    assert!(lengths.contains(&0) && lengths.contains(&400));
    assert!(lengths.iter().any(|length| length % 100 != 0), "never torn: {lengths:?}");
}

#[test]
fn sectors_survive_in_any_subset_and_order() {
    let seen = survivors(LossMode::Sectors, |env| {
        let file = durable(env, "/f", &[0xff; 2048]);
        file.write_at(&[1; 2048], 0).expect("space");
        create(env, "/other");
        file.write_at(&[2; 2048], 0).expect("space");
    });
    let sectors: BTreeSet<Vec<u8>> =
        seen.into_iter().flatten().map(|bytes| bytes.chunks(512).map(|s| s[0]).collect()).collect();
    assert!(sectors.contains(&vec![0xff; 4]) && sectors.contains(&vec![2; 4]));
    assert!(sectors.contains(&vec![1; 4]), "the later write was never lost alone");
    assert!(sectors.iter().any(|s| s[0] == 0xff && s[3] == 2), "never reordered: {sectors:?}");
}

#[test]
fn lost_data_may_leave_zeros_or_garbage_behind() {
    let grow = |env: &SimEnv| durable(env, "/f", b"head").write_at(&[7; 4096], 4).expect("space");
    let zeros =
        survivors(LossMode::Sectors, grow).into_iter().flatten().any(|b| b.len() == 4100 && b[4..] == [0; 4096]);
    assert!(zeros, "never grown with zeros");
    let garbage = survivors(LossMode::Garbage, grow);
    assert!(garbage.iter().flatten().all(|bytes| bytes.starts_with(b"head")), "durable bytes are never damaged");
    assert!(garbage.into_iter().flatten().any(|bytes| bytes[4..].iter().any(|byte| *byte != 7 && *byte != 0)));
}

#[test]
fn truncation_is_lost_or_kept_like_a_write() {
    let seen = survivors(LossMode::Sectors, |env| durable(env, "/f", b"long content").truncate(4).expect("well"));
    assert_eq!(seen, [Some(b"long".to_vec()), Some(b"long content".to_vec())].into());
}

#[test]
fn failed_sync_loses_pages_that_still_look_fine() {
    let mut after_restart = BTreeSet::new();
    let mut on_disk = BTreeSet::new();
    for salt in 0..50 {
        let events = vec![FaultEvent { at: At::Io(5), fault: Fault::SyncFail { no_space: false, salt } }];
        with(events, |harness| {
            harness.run_process(|env| {
                let file = durable(&env, "/f", b"first"); // 0 to 3.
                file.write_at(b"second", 5).expect("space"); // 4
                assert!(file.sync(SyncKind::Data).is_err()); // 5
                assert_eq!(read_file(env.disk(), Path::new("/f")).expect("readable"), b"firstsecond");
                file.sync(SyncKind::Data).expect("the second sync lies");
            });
            on_disk.insert(harness.files()[0].durable.clone());
            harness.run_process(|env| drop(env.disk().list(Path::new("/"))));
            after_restart.insert(content(harness, "/f").expect("named"));
            harness.power_loss(Loss { mode: LossMode::Nothing, salt: 0 });
        });
    }
    assert!(on_disk.contains(&b"first"[..]), "lost although a later sync succeeded");
    assert!(after_restart.contains(&b"first"[..]) && after_restart.contains(&b"firstsecond"[..]));
}

#[test]
fn failed_directory_sync_writes_a_prefix_and_the_next_one_the_rest() {
    let mut names = BTreeSet::new();
    for (salt, again) in (0..40).flat_map(|salt| [(salt, false), (salt, true)]) {
        let events = vec![FaultEvent { at: At::Io(3), fault: Fault::SyncFail { no_space: false, salt } }];
        with(events, |harness| {
            harness.run_process(move |env| {
                ["/a", "/b", "/c"].into_iter().for_each(|path| drop(create(&env, path)));
                assert!(env.disk().sync_dir(Path::new("/")).is_err());
                if again {
                    env.disk().sync_dir(Path::new("/")).expect("well again");
                }
            });
            harness.power_loss(Loss::ALL);
            let left: Vec<String> = harness.files().into_iter().map(|file| file.path).collect();
            assert!(["/a", "/b", "/c"].iter().zip(&left).all(|(wanted, found)| wanted == found), "{left:?}");
            assert!(!again || left.len() == 3);
            names.insert(left.len());
        });
    }
    assert_eq!(names.len(), 4);
}

#[test]
fn full_disk_writes_short_and_space_comes_back() {
    let faults = FaultConfig { capacity_bytes: Some(1000), ..FaultConfig::default() };
    let outcome = run(&WorldConfig { faults, ..WorldConfig::calm(1) }, |harness| {
        harness.run_process(|env| {
            let file = create(&env, "/f");
            file.write_at(&[1; 700], 0).expect("space");
            let error = create(&env, "/g").write_at(&[2; 700], 0).expect_err("no space");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(read_file(env.disk(), Path::new("/g")).expect("readable").len(), 300);
            assert_eq!(env.disk().free_space(Path::new("/")).expect("a number"), 0);
            file.write_at(&[3; 700], 0).expect("overwriting needs no space");
            env.disk().remove(Path::new("/g")).expect("there");
            create(&env, "/h").write_at(&[4; 300], 0).expect("space is back");
        });
    });
    assert_eq!(outcome.violation, None);
}

#[test]
fn episode_without_space_fails_growth_and_ends() {
    let events = vec![FaultEvent { at: At::Io(2), fault: Fault::NoSpace { ios: 3, salt: 1 } }];
    with(events, |harness| {
        harness.run_process(|env| {
            let file = create(&env, "/f"); // 0
            file.write_at(&[1; 10], 0).expect("space"); // 1
            for _ in 2..5 {
                assert_eq!(file.write_at(&[1; 10], 10).expect_err("full").kind(), io::ErrorKind::StorageFull);
            }
            file.write_at(&[2; 10], 10).expect("space is back");
        });
    });
}

#[test]
fn failed_write_may_have_written_a_part() {
    let mut lengths = BTreeSet::new();
    for salt in 0..40 {
        with(vec![FaultEvent { at: At::Io(1), fault: Fault::WriteFail { salt } }], |harness| {
            harness.run_process(|env| assert!(create(&env, "/f").write_at(&[1; 20], 0).is_err()));
            lengths.insert(content(harness, "/f").expect("cached").len());
        });
    }
    assert!(lengths.len() > 10);
}

#[test]
fn read_errors_are_transient_or_stay_until_overwritten() {
    for sticky in [false, true] {
        let events = vec![FaultEvent { at: At::Op(2), fault: Fault::ReadError { sticky } }];
        with(events, |harness| {
            harness.run_process(move |env| {
                let file = create(&env, "/f"); // 0
                file.write_at(&[9; 2000], 0).expect("space"); // 1
                let mut bytes = [0; 10];
                assert!(file.read_at(&mut bytes, 600).is_err()); // 2
                assert_eq!(file.read_at(&mut bytes, 700).is_err(), sticky);
                assert!(file.read_at(&mut bytes, 0).is_ok());
                file.write_at(&[8; 2000], 0).expect("space");
                assert!(file.read_at(&mut bytes, 600).is_ok());
            });
        });
    }
}

#[test]
fn short_read_returns_at_least_one_byte() {
    let events = (2..12).map(|op| FaultEvent { at: At::Op(op), fault: Fault::ReadShort { salt: op * 7 } }).collect();
    with(events, |harness| {
        harness.run_process(|env| {
            let file = create(&env, "/f");
            file.write_at(b"0123456789", 0).expect("space");
            let mut bytes = [0; 10];
            let count = file.read_at(&mut bytes, 0).expect("short but well");
            assert!((1..10).contains(&count));
            file.read_exact_at(&mut bytes, 0).expect("joined");
            assert_eq!(&bytes, b"0123456789");
        });
    });
}

#[test]
fn handles_follow_inodes_across_rename_and_remove() {
    calm(|harness| {
        harness.run_process(|env| {
            let disk = env.disk();
            let file = create(&env, "/a");
            disk.rename(Path::new("/a"), Path::new("/b")).expect("there");
            file.write_at(b"through the handle", 0).expect("space");
            assert_eq!(read_file(disk, Path::new("/b")).expect("there"), b"through the handle");
            disk.link(Path::new("/b"), Path::new("/c")).expect("there");
            disk.remove(Path::new("/b")).expect("there");
            file.write_at(b"THROUGH", 0).expect("space");
            assert_eq!(read_file(disk, Path::new("/c")).expect("there"), b"THROUGH the handle");
            disk.remove(Path::new("/c")).expect("there");
            assert_eq!(file.len().expect("open"), 18);
            assert_eq!(disk.list(Path::new("/")).expect("a directory"), []);
        });
    });
}

#[test]
fn directory_errors_have_their_kinds() {
    calm(|harness| {
        harness.run_process(|env| {
            let disk = env.disk();
            disk.create_dir_all(Path::new("/d/e")).expect("space");
            create(&env, "/d/f");
            let kind = |result: io::Result<()>| result.expect_err("must fail").kind();
            assert_eq!(kind(disk.remove(Path::new("/none"))), io::ErrorKind::NotFound);
            assert_eq!(kind(disk.open(Path::new("/d/f"), OpenMode::CreateNew).map(drop)), io::ErrorKind::AlreadyExists);
            assert_eq!(kind(disk.open(Path::new("/d"), OpenMode::Read).map(drop)), io::ErrorKind::IsADirectory);
            assert_eq!(kind(disk.list(Path::new("/d/f")).map(drop)), io::ErrorKind::NotADirectory);
            assert_eq!(kind(disk.link(Path::new("/d/f"), Path::new("/d/e"))), io::ErrorKind::AlreadyExists);
            assert_eq!(kind(disk.sync_dir(Path::new("/none"))), io::ErrorKind::NotFound);
            let read_only = disk.open(Path::new("/d/f"), OpenMode::Read).expect("there");
            assert!(read_only.write_at(b"x", 0).is_err());
            let names: Vec<_> =
                disk.list(Path::new("/d")).expect("a directory").into_iter().map(|e| (e.name, e.is_dir)).collect();
            assert_eq!(names, [("e".into(), true), ("f".into(), false)]);
        });
    });
}

#[test]
fn directory_lock_excludes_and_dies_with_its_process() {
    with(vec![FaultEvent::process_crash(1, true)], |harness| {
        let exit = harness.run_process(|env| {
            let _lock = env.disk().lock_dir(Path::new("/")).expect("free"); // 0
            create(&env, "/f"); // 1
        });
        assert_eq!(exit, Exit::Crashed { power: false });
        let exit = harness.run_process(|env| {
            let lock = env.disk().lock_dir(Path::new("/")).expect("given back by the crash");
            let again = env.disk().lock_dir(Path::new("/")).expect_err("held");
            assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
            drop(lock);
            drop(env.disk().lock_dir(Path::new("/")).expect("given back"));
        });
        assert_eq!(exit, Exit::Finished);
    });
}

#[test]
fn slow_disk_takes_simulated_time() {
    let faults = FaultConfig { latency_ns_max: 10_000_000, ..FaultConfig::default() };
    let stall = FaultEvent { at: At::Op(3), fault: Fault::Stall { ns: 60_000_000_000 } };
    let outcome = run(&WorldConfig { faults, also: vec![stall], ..WorldConfig::calm(1) }, |harness| {
        harness.run_process(|env| {
            let file = create(&env, "/f");
            for at in 0..100 {
                file.write_at(&[1], at).expect("space");
            }
        });
    });
    assert_eq!(outcome.violation, None);
    assert!((60_200_000_000..61_000_000_000).contains(&outcome.sim_ns), "{}", outcome.sim_ns);
}

#[test]
fn long_files_of_small_unsynced_writes_stay_bounded() {
    calm(|harness| {
        harness.run_process(|env| {
            let (file, other) = (durable(&env, "/f", b""), create(&env, "/g"));
            for at in 0..5000u64 {
                file.write_at(&[at as u8], at).expect("space");
                other.write_at(&[1], 0).expect("space");
            }
        });
        harness.power_loss(Loss::ALL);
        let bytes = content(harness, "/f").expect("named");
        assert!(bytes.len() >= 3900, "written back from its old end: {}", bytes.len());
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    });
}
