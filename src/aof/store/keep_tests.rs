//! Tests of truncation, pins, retention, the fence and the manifest of the store, over the disk in memory.

use super::super::AofError;
use super::super::manifest::SegmentStatus;
use super::super::test_env::TestEnv;
use super::*;
use crate::base::ErrorKind;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 64 << 10;

fn small() -> AofConfig {
    // Rounds are made by hand.
    AofConfig {
        segment_bytes: SEGMENT_BYTES,
        flush_strategy: FlushStrategy::Batched(1 << 20),
        background_interval: Duration::from_secs(3600),
        preallocate: false,
        ..AofConfig::default()
    }
}

fn open(env: &TestEnv) -> Aof<TestEnv> {
    Aof::open(env.clone(), "aof", small()).unwrap().0
}

/// Appends `count` records of 1,000 bytes: about 62 to a segment.
fn fill(aof: &Aof<TestEnv>, count: usize) {
    for _ in 0..count {
        drop(aof.append(&[1; 1000]).unwrap());
    }
    aof.flush().unwrap();
}

/// A log with `count` such records.
fn filled(count: usize) -> (TestEnv, Aof<TestEnv>) {
    let env = TestEnv::default();
    let aof = open(&env);
    fill(&aof, count);
    (env, aof)
}

const HOUR: u64 = 3_600_000_000;

/// A log with 200 such records of hour 100 and `count` of hour 102, where the clock stands now.
fn filled_over_two_hours(count: usize) -> (TestEnv, Aof<TestEnv>) {
    let env = TestEnv::default();
    env.set_wall(100 * HOUR);
    let aof = open(&env);
    fill(&aof, 200);
    env.set_wall(102 * HOUR);
    fill(&aof, count);
    (env, aof)
}

fn local_bases(aof: &Aof<TestEnv>) -> Vec<u64> {
    aof.segments().iter().map(|segment| segment.base_id).collect()
}

#[test]
fn truncation_drops_whole_segments_and_is_remembered() {
    let (env, aof) = filled(300);
    let bases = local_bases(&aof);
    assert!(bases.len() > 4, "{bases:?}");
    let middle = bases[2] + 5;
    assert_eq!(aof.truncate_before(middle).unwrap(), middle);
    assert_eq!((aof.first_id(), local_bases(&aof)[0]), (middle, bases[2]));
    assert_eq!(aof.truncate_before(3).unwrap(), middle, "nothing comes back");
    let error = aof.truncate_before(302).unwrap_err();
    assert_eq!(AofError::of(&error), Some(&AofError::NotYet { id: 302, next: 301 }));
    aof.close().unwrap();
    env.lose_power();
    let aof = open(&env);
    assert_eq!(aof.first_id(), middle);
    drop(aof.append(b"not durable yet").unwrap());
    assert_eq!(aof.truncate_before(302).unwrap(), 302, "what it passes is made durable first");
    drop(aof);
    env.lose_power();
    let aof = open(&env);
    assert_eq!((aof.first_id(), aof.next_id()), (302, 302));
    aof.close().unwrap();
}

#[test]
fn truncation_that_is_not_persisted_comes_back() {
    let (env, aof) = filled(10);
    env.plant("aof_truncation_not_persisted");
    aof.truncate_before(5).unwrap();
    aof.close().unwrap();
    assert_eq!(open(&env).first_id(), 1, "the planted bug is seen");
}

#[test]
fn pins_hold_truncation_back_across_opens() {
    let (env, aof) = filled(300);
    aof.pin("replica", 100).unwrap();
    aof.pin("backup", 50).unwrap();
    assert_eq!(aof.truncate_before(200).unwrap(), 50);
    aof.pin("backup", 150).unwrap();
    assert_eq!(aof.truncate_before(200).unwrap(), 100);
    let gone = aof.pin("late", 99).unwrap_err();
    assert_eq!(AofError::of(&gone), Some(&AofError::Truncated { id: 99, first: 100 }));
    let early = aof.pin("early", 302).unwrap_err();
    assert_eq!(AofError::of(&early), Some(&AofError::NotYet { id: 302, next: 301 }));
    assert_eq!(*aof.pin("", 200).unwrap_err().kind(), ErrorKind::InvalidArgument);
    drop(aof);
    env.lose_power();
    let aof = open(&env);
    assert_eq!(aof.pins().into_iter().collect::<Vec<_>>(), [("backup".into(), 150), ("replica".into(), 100)]);
    assert!(aof.unpin("replica").unwrap() && !aof.unpin("replica").unwrap());
    assert_eq!(aof.truncate_before(200).unwrap(), 150);
    env.plant("aof_truncate_ignores_pins");
    assert_eq!(aof.truncate_before(200).unwrap(), 200, "the planted bug is seen");
    aof.close().unwrap();
}

#[test]
fn retention_by_bytes_keeps_at_least_that_much() {
    let (_, aof) = filled(1000);
    let before = aof.segments();
    let bytes = 200_000;
    aof.retain(Retention { bytes: Some(bytes), age: None }).unwrap();
    aof.shared.retain_once().unwrap();
    let kept = aof.segments();
    let span = kept.last().unwrap().end_lsn.0 - kept[0].base_lsn.0;
    assert!(kept.len() < before.len() && span >= bytes && span < bytes + SEGMENT_BYTES, "{span}");
    assert_eq!(aof.first_id(), kept[0].base_id);
    aof.shared.retain_once().unwrap();
    assert_eq!(aof.segments(), kept);
    aof.close().unwrap();
}

#[test]
fn retention_by_bytes_does_not_count_what_a_power_loss_may_take() {
    let (_, aof) = filled(10);
    aof.seal().unwrap();
    let bytes = 5_000;
    aof.retain(Retention { bytes: Some(bytes), age: None }).unwrap();
    for _ in 0..10 {
        drop(aof.append(&[7; 1000]).unwrap());
    }
    assert!(aof.segments().last().unwrap().base_lsn == aof.durable());
    aof.shared.retain_once().unwrap();
    assert_eq!(aof.first_id(), 1);
    aof.flush().unwrap();
    aof.shared.retain_once().unwrap();
    assert_eq!(aof.first_id(), 11);
    aof.close().unwrap();
}

#[test]
fn retention_by_age_does_not_follow_a_clock_that_steps_back() {
    let (env, aof) = filled_over_two_hours(200);
    let bases = local_bases(&aof);
    aof.retain(Retention { age: Some(Duration::from_secs(3600)), bytes: None }).unwrap();
    // Back by more than everything: no record is younger for it.
    env.set_wall(HOUR);
    aof.shared.retain_once().unwrap();
    let first = aof.first_id();
    assert!(first > bases[1] && first <= 200, "{first} of {bases:?}");
    assert!(local_bases(&aof)[0] == first && env.was_reached("aof.expired"));
    env.set_wall(102 * HOUR + HOUR / 2);
    aof.shared.retain_once().unwrap();
    assert_eq!(aof.first_id(), first);
    // An idle log expires to the last record.
    env.set_wall(104 * HOUR);
    aof.shared.retain_once().unwrap();
    assert_eq!((aof.first_id(), aof.next_id(), aof.segments().len()), (401, 401, 1));
    aof.append_sync(b"and goes on").unwrap();
    aof.close().unwrap();
    assert_eq!(open(&env).first_id(), 401);
}

#[test]
fn age_by_the_wall_clock_alone_keeps_what_has_expired() {
    let (env, aof) = filled_over_two_hours(1);
    env.set_wall(HOUR);
    env.plant("aof_ttl_uses_wall_only");
    aof.retain(Retention { age: Some(Duration::from_secs(3600)), bytes: None }).unwrap();
    aof.shared.retain_once().unwrap();
    assert_eq!(aof.first_id(), 1, "the planted bug is seen");
    env.unplant();
    aof.shared.retain_once().unwrap();
    assert!(aof.first_id() > 1);
    aof.close().unwrap();
}

#[test]
fn fence_refuses_the_writer_that_was_replaced_also_after_a_crash() {
    let env = TestEnv::default();
    let aof = open(&env);
    assert_eq!(aof.append_if(1, 3, b"one").unwrap().ids(), 1..2);
    let stale = aof.append_if(1, 3, b"one again").unwrap_err();
    assert_eq!(AofError::of(&stale), Some(&AofError::NextId { expected: 1, next: 2 }));
    assert_eq!(*stale.kind(), ErrorKind::Conflict);
    // Raised although the record is refused.
    assert!(aof.append_if(9, 5, b"too far").is_err());
    let fenced = aof.append_if(2, 4, b"two").unwrap_err();
    assert_eq!(AofError::of(&fenced), Some(&AofError::Fenced { fence: 4, highest: 5 }));
    drop(aof);
    env.lose_power();
    let aof = open(&env);
    assert!(aof.append_if(aof.next_id(), 4, b"two").is_err());
    env.plant("aof_fence_not_persisted");
    drop(aof.append_if(aof.next_id(), 7, b"two").unwrap());
    drop(aof);
    env.unplant();
    env.lose_power();
    let aof = open(&env);
    assert!(aof.append_if(aof.next_id(), 6, b"three").is_ok(), "the planted bug is seen");
    aof.close().unwrap();
}

#[test]
fn seal_ends_a_segment_that_holds_something() {
    let env = TestEnv::default();
    let aof = open(&env);
    drop(aof.append(b"one").unwrap());
    let next = aof.seal().unwrap();
    assert_eq!((aof.durable_id(), aof.seal().unwrap()), (2, next));
    let status: Vec<_> = aof.segments().iter().map(|segment| (segment.status, segment.records)).collect();
    assert_eq!(status, [(SegmentStatus::Sealed, 1), (SegmentStatus::Active, 0)]);
    aof.close().unwrap();
}

#[test]
fn lost_manifest_is_made_anew_and_lost_segments_are_named() {
    let (env, aof) = filled(300);
    aof.truncate_before(100).unwrap();
    aof.close().unwrap();
    let manifest = Path::new("aof/manifest");
    let of_manifest: Vec<_> = env.files().into_iter().filter(|path| path.starts_with(manifest)).collect();
    assert!(!of_manifest.is_empty());
    let kept = env.fork_durable();
    for path in &of_manifest {
        kept.forget(path);
    }
    let (aof, report) = Aof::open(kept.clone(), "aof", small()).unwrap();
    let oldest = local_bases(&aof)[0];
    assert!(report.archive.rebuilt && oldest <= 100);
    assert_eq!(aof.first_id(), oldest, "of what was truncated, nothing is known but the files");
    aof.close().unwrap();

    // The oldest segment is lost.
    let lost = env.fork_durable();
    let segments: Vec<_> =
        lost.files().into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "log")).collect();
    let first = segments.iter().find(|path| !path.starts_with(manifest)).unwrap();
    lost.forget(first);
    let error = Aof::open(lost, "aof", small()).unwrap_err();
    assert!(error.is_corruption() && error.to_string().contains(&first.display().to_string()), "{error}");

    // All segments are lost: that is not a new log.
    let empty = env.fork_durable();
    for path in segments.iter().filter(|path| !path.starts_with(manifest)) {
        empty.forget(path);
    }
    let error = Aof::open(empty, "aof", small()).unwrap_err();
    assert!(error.is_corruption() && error.to_string().contains("not taken for a new one"), "{error}");
}

#[test]
fn damage_before_the_oldest_id_is_not_taken_for_a_torn_tail() {
    let env = TestEnv::default();
    let aof = open(&env);
    aof.append_sync(&[1; 100]).unwrap();
    assert_eq!(aof.truncate_before(2).unwrap(), 2);
    // Without close nothing in the log vouches for the record; the manifest does.
    drop(aof);
    let segment = Path::new("aof/00000000000000000001.log");
    env.damage(segment, |bytes| bytes[4096 + 60] ^= 1);
    for _ in 0..2 {
        let error = Aof::open(env.clone(), "aof", small()).unwrap_err();
        assert!(error.is_corruption(), "{error}");
        let text = error.to_string();
        assert!(text.contains("00000000000000000001.log") && text.contains("before id 2"), "{text}");
    }
    env.damage(segment, |bytes| bytes[4096 + 60] ^= 1);
    assert_eq!(open(&env).append_sync(b"two").unwrap(), 2..3);
}
