//! The manifest against a disk in memory: commits are atomic and durable, the state is rewritten, damage says the way out.

use super::*;
use crate::aof::test_env::TestEnv;

const DIR: &str = "aof";

fn entry(number: u64, status: SegmentStatus) -> SegmentEntry {
    SegmentEntry {
        number,
        status,
        base_lsn: Lsn(number * 800),
        end_lsn: Lsn(number * 800 + 800),
        base_id: number * 10,
        next_id: number * 10 + 10,
        base_ts: 5,
        max_ts: 6,
        records: 10,
        original_bytes: 4896,
        original_crc64: 77,
        archived_key: if status == SegmentStatus::UploadIntent { String::new() } else { format!("key-{number}") },
        archived_bytes: 100,
        archived_crc64: 78,
    }
}

fn attempt(segment: u64, status: AttemptStatus) -> Edit {
    Edit::Attempt { key: format!("key-{segment}"), attempt: Attempt { segment, since: 9, status } }
}

fn open(env: &TestEnv) -> Result<(Manifest<TestEnv>, bool)> {
    Manifest::open(env.clone(), Path::new(DIR))
}

fn create(env: &TestEnv) -> Manifest<TestEnv> {
    let (manifest, existed) = open(env).unwrap();
    assert!(!existed);
    manifest.create(ManifestState { log_id: [7; 16], ..ManifestState::default() }).unwrap();
    manifest
}

/// The commits of a life, in order.
fn commits() -> Vec<Vec<Edit>> {
    use SegmentStatus::*;
    vec![
        vec![Edit::Fence(3), Edit::FirstId(12)],
        vec![Edit::Pin { name: "consumer".into(), id: 15 }],
        vec![Edit::Entry(entry(1, UploadIntent)), attempt(1, AttemptStatus::Live)],
        vec![Edit::Entry(entry(1, Archived)), Edit::DropAttempt("key-1".into())],
        vec![Edit::Entry(entry(2, UploadIntent)), attempt(2, AttemptStatus::Live)],
        vec![attempt(2, AttemptStatus::Abandoned)],
        vec![Edit::Entry(entry(1, LocalDeleted))],
        vec![Edit::Unpin { name: "consumer".into() }],
        vec![Edit::Entry(entry(1, RemoteDeleted)), attempt(2, AttemptStatus::Collected)],
        vec![Edit::Forget(1), Edit::DropAttempt("key-2".into())],
    ]
}

/// The states between the commits, the first one before any.
fn states() -> Vec<ManifestState> {
    let mut state = ManifestState { log_id: [7; 16], ..ManifestState::default() };
    let mut states = vec![state.clone()];
    for edits in commits() {
        for edit in &edits {
            state.apply(edit).unwrap();
        }
        states.push(state.clone());
    }
    states
}

#[test]
fn commits_survive_power_losses_one_by_one() {
    let env = TestEnv::default();
    drop(create(&env));
    let states = states();
    for (at, edits) in commits().iter().enumerate() {
        let (manifest, existed) = open(&env).unwrap();
        assert!(existed);
        assert_eq!(*manifest.state(), states[at]);
        manifest.commit(edits).unwrap();
        env.lose_power();
    }
    assert_eq!(*open(&env).unwrap().0.state(), states[states.len() - 1]);
}

#[test]
fn a_commit_changes_the_state_in_place_and_leaves_what_somebody_keeps() {
    let env = TestEnv::default();
    let manifest = create(&env);
    let states = states();
    let place = Arc::as_ptr(&manifest.state());
    for (at, edits) in commits().iter().enumerate() {
        manifest.commit(edits).unwrap();
        assert_eq!(*manifest.state(), states[at + 1]);
        assert_eq!(Arc::as_ptr(&manifest.state()), place, "the state is where it was");
    }
    let kept = manifest.state();
    manifest.commit(&[Edit::Fence(9)]).unwrap();
    assert_eq!((kept.fence, manifest.state().fence), (3, 9));
    // A commit that is refused for space changes nothing, and does not end the others.
    let name = "n".repeat(300 << 10);
    env.set_room(Some(0));
    let error = manifest.commit(&[Edit::Fence(10), Edit::Pin { name, id: 5 }]).unwrap_err();
    assert_eq!((error.kind(), manifest.state().fence, manifest.state().pins.len()), (&ErrorKind::NoSpace, 9, 0));
    env.set_room(None);
    manifest.commit(&[Edit::Fence(11)]).unwrap();
    assert_eq!(manifest.state().fence, 11);
}

#[test]
fn checking_edits_leaves_the_state_as_it_was() {
    let states = states();
    for (at, edits) in commits().iter().enumerate() {
        let mut state = states[at].clone();
        assert_eq!(state.check(edits), Ok(()));
        assert_eq!(state, states[at]);
        let illegal = [&edits[..], &[Edit::Fence(0), Edit::DropAttempt("x".into())]].concat();
        let refused = state.check(&illegal).unwrap_err();
        assert!(matches!(refused.0, Edit::Fence(0) | Edit::DropAttempt(_)), "{refused:?}");
        assert_eq!(state, states[at]);
    }
}

#[test]
fn every_crash_leaves_the_commits_before_it_and_perhaps_the_one_under_way() {
    for power in [false, true] {
        for crash in 0.. {
            let env = TestEnv::default();
            env.die_at(Some(crash));
            let mut done = None;
            let lived = (|| {
                let (manifest, existed) = open(&env)?;
                assert!(!existed);
                manifest.create(states().swap_remove(0))?;
                done = Some(0);
                for (at, edits) in commits().iter().enumerate() {
                    manifest.commit(edits)?;
                    done = Some(at + 1);
                }
                manifest.close()
            })();
            env.die_at(None);
            if power {
                env.lose_power();
            }
            let (manifest, existed) = open(&env).unwrap();
            let found = existed.then(|| states().iter().position(|state| *state == *manifest.state()).unwrap());
            let next = done.map_or(0, |done| done + 1);
            assert!(found == done || found == Some(next), "crash {crash}: {found:?} after {done:?}");
            if lived.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn state_is_rewritten_and_the_log_stays_short() {
    let env = TestEnv::default();
    let manifest = create(&env);
    let name = "n".repeat(1000);
    for id in 0..2000 {
        manifest.commit(&[Edit::Pin { name: name.clone(), id }]).unwrap();
    }
    assert!(env.files().len() <= 6, "{:?}", env.files());
    drop(manifest);
    env.lose_power();
    for _ in 0..20 {
        let (manifest, _) = open(&env).unwrap();
        assert_eq!(manifest.state().pins[&name], 1999);
        manifest.commit(&[Edit::Fence(5)]).unwrap();
    }
    assert!(env.files().len() <= 6, "{:?}", env.files());
}

#[test]
fn a_crash_while_the_state_is_rewritten_loses_nothing() {
    for crash in 0.. {
        let env = TestEnv::default();
        let manifest = create(&env);
        for edits in commits() {
            manifest.commit(&edits).unwrap();
        }
        drop(manifest);
        let before = env.operations();
        env.die_at(Some(before + crash));
        let opened = open(&env).is_ok();
        env.die_at(None);
        env.lose_power();
        assert_eq!(*open(&env).unwrap().0.state(), *states().last().unwrap());
        if opened {
            break;
        }
    }
}

#[test]
fn damage_says_the_way_out() {
    let env = TestEnv::default();
    let manifest = create(&env);
    for edits in commits() {
        manifest.commit(&edits).unwrap();
    }
    manifest.close().unwrap();
    let path = Path::new(DIR).join(MANIFEST_DIR).join(segment_name(1));
    let whole = env.read(&path);
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..end).step_by(7) {
        if (256..4096).contains(&at) {
            continue;
        }
        let fork = env.fork_durable();
        fork.damage(&path, |bytes| bytes[at] ^= 0x10);
        match open(&fork) {
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                assert!(error.to_string().contains("move aof/manifest elsewhere"), "{error}");
            }
            // The payload of the MARK, which nothing needs, and the zeros before and after it.
            Ok((manifest, _)) => assert_eq!(*manifest.state(), *states().last().unwrap(), "byte {at}"),
        }
    }
}

#[test]
fn a_torn_commit_does_not_count_and_a_log_without_a_state_is_damaged() {
    let env = TestEnv::default();
    let manifest = create(&env);
    manifest.commit(&commits()[0]).unwrap();
    let path = Path::new(DIR).join(MANIFEST_DIR).join(segment_name(1));
    let whole = env.read(&path);
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    env.damage(&path, |bytes| bytes[end - 1..].fill(0));
    drop(manifest);
    let (manifest, existed) = open(&env).unwrap();
    assert!(existed);
    assert_eq!(*manifest.state(), states()[0]);

    let env = TestEnv::default();
    let dir = Path::new(DIR).join(MANIFEST_DIR);
    let (log, _) = Log::open(env.clone(), &dir, options(), &mut |_| Ok(())).unwrap();
    let payload = format::encode(&commits()[0]);
    let append = Append { kind: FrameKind::Meta, count: 1, first_id: Some(0), tag: 0, parts: &[&payload] };
    log.sync_to(log.append(&append).unwrap().end).unwrap();
    drop(log);
    assert!(open(&env).unwrap_err().to_string().contains("whole state"));
}

#[test]
fn an_unknown_outcome_poisons_and_a_full_disk_does_not_prevent_opening() {
    let env = TestEnv::default();
    let manifest = create(&env);
    env.fail_sync_in(0);
    assert!(manifest.commit(&commits()[0]).is_err());
    assert_eq!(*manifest.state(), states()[0]);
    assert_eq!(manifest.commit(&commits()[0]).unwrap_err().kind(), &ErrorKind::Poisoned);
    drop(manifest);
    env.lose_power();
    let (manifest, _) = open(&env).unwrap();
    manifest.commit(&commits()[0]).unwrap();
    drop(manifest);
    env.set_room(Some(0));
    let (manifest, existed) = open(&env).unwrap();
    assert!(existed);
    assert_eq!(*manifest.state(), states()[1]);
}

#[test]
fn a_commit_that_is_not_synced_is_noticed() {
    let env = TestEnv::default();
    let manifest = create(&env);
    env.plant("aof_manifest_not_synced");
    manifest.commit(&commits()[0]).unwrap();
    env.unplant();
    env.lose_power();
    assert_ne!(*open(&env).unwrap().0.state(), states()[1]);
}

#[test]
fn illegal_edits_are_refused() {
    use SegmentStatus::*;
    let mut state = ManifestState::default();
    for edit in [Edit::LogId([7; 16]), Edit::FirstId(5), Edit::Fence(5), Edit::Entry(entry(2, UploadIntent))] {
        state.apply(&edit).unwrap();
    }
    let elsewhere = SegmentEntry { base_lsn: Lsn(8), ..entry(3, UploadIntent) };
    let no_object = SegmentEntry { archived_key: String::new(), ..entry(2, Archived) };
    let moved = SegmentEntry { end_lsn: Lsn(9000), ..entry(2, Archived) };
    let illegal = [
        Edit::LogId([8; 16]),
        Edit::FirstId(4),
        Edit::Fence(4),
        Edit::Entry(entry(4, UploadIntent)),
        Edit::Entry(entry(1, UploadIntent)),
        Edit::Entry(elsewhere),
        Edit::Entry(no_object),
        Edit::Entry(moved),
        Edit::Entry(entry(3, Sealed)),
        Edit::Forget(3),
        Edit::DropAttempt("x".into()),
    ];
    for edit in illegal {
        let before = state.clone();
        assert!(state.apply(&edit).is_err(), "{edit:?}");
        assert_eq!(state, before);
    }
    for status in [Archived, LocalDeleted] {
        state.apply(&Edit::Entry(entry(2, status))).unwrap();
        assert!(state.apply(&Edit::Forget(2)).is_err());
        assert!(state.apply(&Edit::Entry(entry(2, UploadIntent))).is_err());
    }
    state.apply(&Edit::Entry(entry(3, Archived))).unwrap();
    assert!(state.apply(&Edit::Entry(entry(3, RemoteDeleted))).is_err(), "the oldest goes first");
    state.apply(&Edit::Entry(entry(2, RemoteDeleted))).unwrap();
    state.apply(&Edit::Entry(entry(3, RemoteDeleted))).unwrap();
    state.apply(&Edit::Entry(entry(9, UploadIntent))).unwrap();
    state.apply(&Edit::Forget(2)).unwrap();
}
