//! Tests of the store over the operating system and over the disk in memory.

use super::super::test_env::TestEnv;
use super::*;
use crate::base::ErrorKind;

#[test]
fn records_are_numbered_without_a_gap_across_opens() {
    let env = TestEnv::default();
    let open = || Aof::open(env.clone(), "aof", AofConfig::default()).unwrap().0;
    let aof = open();
    let first = aof.append(b"one").unwrap().ids().start;
    let batch = aof.append_batch(&["two", "", "four"]).unwrap();
    assert_eq!(batch.ids(), first + 1..first + 4);
    assert!(!batch.is_durable());
    assert_eq!(aof.append_sync(b"five").unwrap(), first + 4..first + 5);
    assert!(batch.is_durable());
    aof.close().unwrap();
    assert_eq!(*aof.append(b"six").unwrap_err().kind(), ErrorKind::Closed);
    aof.close().unwrap();
    let aof = open();
    assert_eq!(aof.next_id(), first + 5);
    assert_eq!(aof.append(b"six").unwrap().ids(), first + 5..first + 6);
}

#[test]
fn second_open_is_refused_and_too_many_records_too() {
    let dir = tempfile::tempdir().unwrap();
    let (aof, _) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
    let second = Aof::open(StdEnv, dir.path(), AofConfig::default());
    assert_eq!(*second.unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(*aof.append_batch(&[b""; 0]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(*aof.append_batch(&vec![b""; 65_536]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    aof.append_batch(&vec![b""; 65_535]).unwrap().wait().unwrap();
    aof.close().unwrap();
    let (aof, report) = Aof::open(StdEnv, dir.path(), AofConfig::default()).unwrap();
    assert_eq!(report.log.torn_bytes, 0);
    aof.close().unwrap();
}
