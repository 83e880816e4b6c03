//! The checkers: one file each, each with its invariant and the planted bugs that trip it.
//!
//! | checker | file | kinds of violation |
//! |---|---|---|
//! | durability oracle | `durability.rs` | `lost-write`, `not-a-prefix` |
//! | versioned model | `model.rs` | `wrong-read`, `sequence`, and on the spot `wrong-bytes`, `cursor`, `iterator-after-error` |
//! | keyspaces | `profile/engine/process.rs` | `keyspaces-apart` |
//! | structure scrub | `scrub.rs` | `scrub` |
//! | quiescence | `quiescence.rs` | `deadlock`, `livelock`, `leak`, `drop-blocks` |
//! | errors | `errors.rs` | `error-without-cause`, `unavailable` |
//! | asserts of the engine | | `panic` |
//!
//! Of profile `aof`:
//!
//! | checker | file | kinds of violation |
//! |---|---|---|
//! | recovery oracle | `aof_recovery.rs` | `lost-record`, `wrong-record`, `front` |
//! | readers | `profile/aof/reader.rs`, `client.rs` | `wrong-read`, `cursor`, `past-durable` |
//! | answers | `profile/aof/client.rs` | `ids`, `ack`, `fence`, `watch`, `two-opens` |
//! | remains | `profile/aof/remains.rs` | `kept`, `reserve`, `stray-file`, `stray-object` |
//!
//! Of profile `txn`, beside those of the engine:
//!
//! | checker | file | kinds of violation |
//! |---|---|---|
//! | bank | `bank.rs` | `bank` |
//! | serial replay | `serial.rs` | `not-serial` |
//! | dependency cycles | `cycles.rs` | `cycle` |
//! | locks | `locks.rs`, `profile/txn/process.rs` | `two-holders`, `refused-lock`, `deadlock-missed`, `lock-left` |
//! | own writes, conflicts | `profile/txn/attempt.rs` | `own-write`, `conflict-without-cause` |
//!
//! Quiescence, errors and asserts are common to all.

pub mod aof_history;
pub mod aof_recovery;
pub mod bank;
pub mod cycles;
pub mod durability;
pub mod errors;
pub mod evidence;
pub mod history;
pub mod locks;
pub mod model;
pub mod quiescence;
pub mod scrub;
pub mod serial;
pub mod txn_history;

/// Returns which checker reports violations of this kind.
pub fn checker(kind: &str) -> &'static str {
    match kind {
        "lost-write" | "not-a-prefix" => "durability oracle",
        "lost-record" | "wrong-record" | "front" => "recovery oracle",
        "past-durable" => "readers",
        "ids" | "ack" | "fence" | "watch" | "two-opens" => "answers",
        "kept" | "reserve" | "stray-file" | "stray-object" => "remains",
        "wrong-read" | "sequence" | "wrong-bytes" | "cursor" | "iterator-after-error" => "versioned model",
        "keyspaces-apart" => "keyspaces",
        "bank" => "bank",
        "not-serial" => "serial replay",
        "cycle" => "dependency cycles",
        "two-holders" | "refused-lock" | "deadlock-missed" | "lock-left" => "locks",
        "own-write" | "conflict-without-cause" => "transaction's client",
        "scrub" => "structure scrub",
        "error-without-cause" | "unavailable" => "errors",
        "panic" => "engine's asserts",
        kind if quiescence::judges(kind) => "quiescence",
        _ => "simulator",
    }
}
