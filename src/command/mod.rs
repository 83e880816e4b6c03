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
//! | [`slot`], [`glob`], [`number`], [`long_double`] | pure helpers |

pub mod db;
pub mod format;
pub mod glob;
pub mod long_double;
pub mod number;

pub mod slot;
pub mod store;
pub mod table;

mod database;
mod expire;
mod failure;
mod keys;
mod lcs;
mod scan;
mod string;

pub use db::{Batch, Commit, CommitFailure, Context, Databases, Plan};
pub use failure::Failure;
pub use store::{EngineStore, MemoryStore, Store};

use crate::resp::Encoder;
use db::Keyspace;
use expire::When;
use table::{CommandSpec, Id};

/// What a command comes to: its reply is written, or it failed and nothing was.
type Outcome = Result<(), Failure>;

/// Runs one data command whose number of arguments is right.
fn run<S: Store>(keys: &mut Keyspace<'_, S>, spec: &CommandSpec, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    match spec.id {
        Id::Append => string::append(keys, args, out),
        Id::Copy => keys::copy(keys, args, out),
        Id::DbSize => database::dbsize(keys, out),
        Id::Decr => string::add(keys, args[1], -1, out),
        Id::DecrBy => string::decrby(keys, args, out),
        Id::Del | Id::Unlink => keys::del(keys, args, out),
        Id::Exists | Id::Touch => keys::exists(keys, args, out),
        Id::Expire => expire::expire(keys, spec.name, When::InSeconds, args, out),
        Id::ExpireAt => expire::expire(keys, spec.name, When::AtSeconds, args, out),
        Id::ExpireTime => expire::tell(keys, When::AtSeconds, args, out),
        Id::FlushAll => database::flush(keys, true, args, out),
        Id::FlushDb => database::flush(keys, false, args, out),
        Id::Get => string::get(keys, args, out),
        Id::GetDel => string::getdel(keys, args, out),
        Id::GetEx => string::getex(keys, args, out),
        Id::GetRange | Id::SubStr => string::getrange(keys, args, out),
        Id::GetSet => string::getset(keys, args, out),
        Id::Incr => string::add(keys, args[1], 1, out),
        Id::IncrBy => string::add(keys, args[1], number::integer(args[2])?, out),
        Id::IncrByFloat => string::incrbyfloat(keys, args, out),
        Id::Keys => scan::keys(keys, args, out),
        Id::Lcs => lcs::lcs(keys, args, out),
        Id::MGet => string::mget(keys, args, out),
        Id::MSet => string::mset(keys, false, args, out),
        Id::MSetNx => string::mset(keys, true, args, out),
        Id::Move => keys::move_to(keys, args, out),
        Id::Object => keys::object(keys, spec, args, out),
        Id::PExpire => expire::expire(keys, spec.name, When::InMillis, args, out),
        Id::PExpireAt => expire::expire(keys, spec.name, When::AtMillis, args, out),
        Id::PExpireTime => expire::tell(keys, When::AtMillis, args, out),
        Id::PSetEx => string::setex(keys, spec.name, When::InMillis, args, out),
        Id::PTtl => expire::tell(keys, When::InMillis, args, out),
        Id::Persist => expire::persist(keys, args, out),
        Id::RandomKey => scan::randomkey(keys, out),
        Id::Rename => keys::rename(keys, false, args, out),
        Id::RenameNx => keys::rename(keys, true, args, out),
        Id::Scan => scan::scan(keys, args, out),
        Id::Set => string::set(keys, args, out),
        Id::SetEx => string::setex(keys, spec.name, When::InSeconds, args, out),
        Id::SetNx => string::setnx(keys, args, out),
        Id::SetRange => string::setrange(keys, args, out),
        Id::StrLen => string::strlen(keys, args, out),
        Id::SwapDb => database::swapdb(keys, args, out),
        Id::Ttl => expire::tell(keys, When::InSeconds, args, out),
        Id::Type => keys::kind(keys, args, out),
        Id::Auth
        | Id::Client
        | Id::Command
        | Id::Config
        | Id::Debug
        | Id::Echo
        | Id::Hello
        | Id::Info
        | Id::Ping
        | Id::Quit
        | Id::Reset
        | Id::Select
        | Id::Shutdown
        | Id::Time => unreachable!("{} is the session's", spec.name),
    }
}

#[cfg(test)]
mod tests;
