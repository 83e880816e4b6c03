//! Transactions: money moves between accounts, from several threads, and none is lost. Run with
//! `cargo run --example bank_transfer`.
#![allow(clippy::disallowed_methods, reason = "an example with threads of its own")]

use aidb::{DB, Durability, Options, Transaction, TransactionOptions};

const ACCOUNTS: u64 = 8;

fn account(number: u64) -> String {
    format!("account {number}")
}

fn balance(value: Option<aidb::Value>) -> i64 {
    value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok()).unwrap_or(0)
}

/// Moves `amount`; false if there is not enough.
fn transfer(transaction: &mut Transaction, from: &str, to: &str, amount: i64) -> aidb::Result<bool> {
    // Both accounts are locked if the transaction is pessimistic; if not, their values are checked when it commits.
    let (left, more) = (balance(transaction.get_for_update(from)?), balance(transaction.get_for_update(to)?));
    if left < amount {
        return Ok(false);
    }
    transaction.put(from, (left - amount).to_string())?;
    transaction.put(to, (more + amount).to_string())?;
    Ok(true)
}

/// Runs transfers one after the other, each until it has gone through; returns how many had to be run again.
fn work(db: &DB, thread: u64, pessimistic: bool) -> aidb::Result<u64> {
    let mut again = 0;
    for round in 0..500 {
        let from = account((thread + round) % ACCOUNTS);
        let to = account((thread * 5 + round * 3 + 1) % ACCOUNTS);
        if from == to {
            continue;
        }
        loop {
            let options = TransactionOptions { pessimistic, ..TransactionOptions::default() };
            let mut transaction = db.transaction(options);
            let done = transfer(&mut transaction, &from, &to, 7).and_then(|enough| {
                // Dropping a transaction undoes it.
                if enough { transaction.commit().map(|_| ()) } else { Ok(()) }
            });
            match done {
                Ok(()) => break,
                Err(error) if error.is_retryable() => again += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(again)
}

fn main() -> aidb::Result<()> {
    let dir = std::env::temp_dir().join("aidb-bank-transfer");
    let db = DB::open(&dir, Options { durability: Durability::Os, ..Options::default() })?;
    for number in 0..ACCOUNTS {
        db.put(account(number), "1000")?;
    }
    for pessimistic in [false, true] {
        let again = std::thread::scope(|scope| {
            let db = &db;
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(db, thread, pessimistic))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).sum::<aidb::Result<u64>>()
        })?;
        let kind = if pessimistic { "pessimistic" } else { "optimistic" };
        println!("{kind} transfers: {again} were run again");
    }
    // A transaction sees all accounts at one moment.
    let audit = db.transaction(TransactionOptions::default());
    let total: i64 =
        audit.prefix("account ").map(|entry| Ok(balance(Some(entry?.value)))).sum::<aidb::Result<i64>>()?;
    audit.commit()?;
    println!("{total} in all");
    assert_eq!(total, 1000 * ACCOUNTS as i64);
    db.close()
}
