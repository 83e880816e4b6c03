//! The long run: `soak --minutes 10 --kills 20`.
//!
//! The parent serves S3 from a directory behind the proxy, which goes on breaking something, and starts a child that has
//! the log open: appenders, readers that follow, retention by age, segments that go to S3 and leave the disk. The child
//! says over its output what was acknowledged. The parent kills it at random times (`--seed`), and after each kill opens
//! the log itself and reads all of it: every acknowledged record that retention kept is there once, in order, with its
//! content; only what is older than the retention is gone; what was read before is still the same. Every second the child
//! checks that its counters can be true. Then the next child.
//! The last one is asked to stop. The minutes are those that children lived; the reads come on top. It ends with figures, and with a failure if anything was wrong.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test of the real world")]

mod book;
mod child;
mod meter;
mod options;
mod parent;
mod record;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("child") => options::Options::parse(&arguments[1..]).and_then(|options| child::run(&options)),
        _ => options::Options::parse(&arguments).and_then(parent::run),
    };
    if let Err(what) = outcome {
        eprintln!("soak: {what}");
        std::process::exit(1);
    }
}
