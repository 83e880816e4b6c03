//! Floor 4: the data model and the data commands, over the engine or over memory.
//!
//! The server's sessions stand on [`db::Databases`]; everything they execute is listed in [`table`]. Commands are
//! deterministic: state, arguments, time and seed decide the reply and the one write batch, so that replicas agree.
//!
//! | module | what |
//! |---|---|
//! | [`table`] | every command: arity, flags, keys, documentation |
//! | [`store`] | what the data lies in: the engine, or memory |
//! | [`format`](mod@format) | how it lies there: store keys and records |
//! | [`db`] | databases: locks, batches, counters, epochs, expiry |
//! | `string`, `keys`, `expire`, `scan`, `database` | the commands, one family a file |
//! | [`slot`] | pure helpers |

pub mod db;
pub mod format;

pub mod slot;
pub mod store;
pub mod table;

mod failure;

pub use db::{Batch, Commit, CommitFailure, Context, Databases, Plan};
pub use failure::Failure;
pub use store::{EngineStore, MemoryStore, Store};

use crate::resp::Encoder;
use db::Keyspace;
use table::{CommandSpec, Id};

/// What a command comes to: its reply is written, or it failed and nothing was.
type Outcome = Result<(), Failure>;

/// Runs one data command whose number of arguments is right.
#[allow(clippy::todo, unused_variables)]
fn run<S: Store>(keys: &mut Keyspace<'_, S>, spec: &CommandSpec, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    match spec.id {
        _ => todo!(),
    }
}
