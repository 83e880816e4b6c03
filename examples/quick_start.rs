//! The engine in a minute: open, write, read, batch, scan, snapshot. Run with `cargo run --example quick_start`.

use aidb::{DB, Options, WriteBatch};

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-quick-start");
    let db = DB::open(&dir, Options::default())?;

    // A write that has returned is on the disk.
    db.put("apple", "red")?;
    assert_eq!(db.get("apple")?.unwrap(), b"red");

    // The operations of a batch take effect together or not at all.
    let mut batch = WriteBatch::new();
    batch.put("banana", "yellow");
    batch.put("cherry", "dark red");
    batch.delete("apple");
    db.write(batch)?;

    // A snapshot keeps seeing what was there when it was taken.
    let snapshot = db.snapshot();
    db.put("banana", "brown")?;
    assert_eq!(snapshot.get("banana")?.unwrap(), b"yellow");

    for entry in db.iter() {
        let entry = entry?;
        println!("{} = {}", String::from_utf8_lossy(&entry.key), String::from_utf8_lossy(&entry.value));
    }
    db.close()?;
    println!("The database stays in {}.", dir.display());
    Ok(())
}
