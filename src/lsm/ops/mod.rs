//! Operations on the whole directory of an engine, beside reading and writing it.
//!
//! | module | what it does |
//! |---|---|
//! | [`backup`] | keeps past states in a directory, sharing tables between them, and makes engines of them |
//! | [`checkpoint`] | makes a second directory that opens as what was committed |
//! | [`read_only`] | reads it beside the process that writes it |
//! | [`ingest`] | loads sorted entries straight into tables |
//! | [`repair`] | makes a damaged directory one that opens, and says what is lost |
//! | `moment` | holds the tables and the log of one moment |
//! | `fresh` | fills a new directory that is opened whole or not at all |
//! | `files` | links and copies files for the others |
//!
//! Each runs on its caller's thread, beside writers, flushes and compactions.

pub mod backup;
pub mod checkpoint;
mod files;
mod fresh;
pub mod ingest;
mod moment;
pub mod read_only;
pub mod repair;
