//! The S3 archive of the log against real servers.
//!
//! [`server`] is an S3 server over a directory, in this process; [`proxy`] stands in front of a server and breaks what it
//! is told to break; [`target`] is one or the other, or the server that `AIDB_S3_ENDPOINT` names (`moto.sh` uses that).
//! `tests/storage.rs` is the suite of the storage alone, `tests/objects.rs` of archived segments in it, `tests/secrets.rs`
//! looks for keys in everything that is shown, `tests/store.rs` is the log on top, `tests/tool.rs` the tool and the example, `src/bin/soak` the long run with kills.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

pub mod proxy;
pub mod server;
pub mod target;
