//! Reading a log: one record, from a place on, by time, the last ones. Run with `cargo run --example aof_read`.
#![allow(clippy::disallowed_methods, reason = "clears a directory, outside the log")]

use aidb::aof::{Aof, AofConfig, AofError, From, Until};
use aidb::env::StdEnv;

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-aof-read");
    // Left over from an earlier run of this example.
    let _ = std::fs::remove_dir_all(&dir);
    let (aof, _) = Aof::open(StdEnv, &dir, AofConfig::default())?;
    for number in 1..=10 {
        aof.append_tagged(number % 2, format!("event {number}").as_bytes())?.wait()?;
    }

    // One record by its id; records are numbered from 1.
    let third = aof.read(3)?;
    println!("record 3: {}", String::from_utf8_lossy(&third.bytes));
    let missing = aof.read(11).unwrap_err();
    assert!(matches!(AofError::of(&missing), Some(AofError::NotYet { .. })));
    println!("record 11: {missing}");

    // A cursor begins at an id, a position in the log, or a time, and ends where it is told to.
    let ids =
        |cursor: aidb::aof::Cursor<StdEnv>| cursor.map(|record| Ok(record?.id)).collect::<aidb::Result<Vec<u64>>>();
    println!("from id 4, three of them: {:?}", ids(aof.cursor(From::Id(4))?.until(Until::Count(3)))?);
    println!("from the position of 3, before 6: {:?}", ids(aof.cursor(From::Lsn(third.lsn))?.until(Until::Id(6)))?);
    println!("since the time of 3: {:?}", ids(aof.cursor(From::Time(third.ts))?)?);
    println!("the last two: {:?}", ids(aof.cursor(From::TailMinus(2))?)?);

    // Without a copy of each record, and with a jump on the way.
    let mut cursor = aof.cursor(From::First)?;
    while let Some(record) = cursor.next_ref() {
        let record = record?;
        let (id, tag, text) = (record.id, record.tag, String::from_utf8_lossy(record.bytes).into_owned());
        println!("{id}: {text}, tag {tag}");
        if id == 2 {
            cursor.seek(From::Id(9));
        }
    }
    aof.close()
}
