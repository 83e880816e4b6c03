//! The data behind the sessions: the command layer over one of the two stores, chosen at start.
//!
//! Sessions know one type, [`Backend`]; the choice costs one branch for each run of commands. A session keeps a
//! [`Scratch`], the memory in which the command layer plans and works, for all its runs.

use std::ops::Range;
use std::sync::Arc;

use super::config::{Config, EngineKind};
use super::session::{BATCH_BYTES_MAX, Request};
use crate::base::{Error, ErrorKind, Result};
use crate::command::table::Flags;
use crate::command::{Context, Databases, EngineStore, MemoryStore, Plan, Store};
use crate::env::{Disk, Env, StdEnv};
use crate::lsm::{Engine, Options};
use crate::resp::Encoder;

type Aidb = Databases<EngineStore<StdEnv>>;
type Memory = Databases<MemoryStore<StdEnv>>;

/// Every database, over either store. Clones are the same data.
#[derive(Clone)]
pub(super) enum Backend {
    /// On disk.
    Aidb(Arc<Aidb>),
    /// In memory.
    Memory(Arc<Memory>),
}

/// The working memory of one session.
pub(super) enum Scratch {
    Aidb(Plan<EngineStore<StdEnv>>),
    Memory(Plan<MemoryStore<StdEnv>>),
}

/// Consecutive data commands to execute as one batch.
pub(super) struct Run<'a> {
    /// The commands, all of them known and with the right number of arguments.
    pub(super) requests: &'a [Request],
    /// The list their arguments are ranges of.
    pub(super) args: &'a [&'a [u8]],
    /// The database they go to.
    pub(super) db: usize,
    /// The time they see, and what decides chance.
    pub(super) context: Context,
    /// Where to note which replies answer writes, if somebody wants to know.
    pub(super) writes: Option<&'a mut Vec<Range<usize>>>,
}

/// What became of a run.
pub(super) struct Ran {
    /// How many of its requests were executed; fewer than all when the output grew large.
    pub(super) requests: usize,
    /// Whether anything was written.
    pub(super) wrote: bool,
    /// Why the store refused the writes, all of which are then answered with an error.
    pub(super) failure: Option<Error>,
}

impl Backend {
    /// Opens the data that `config` names.
    pub(super) fn open(env: StdEnv, config: &Config) -> Result<Backend, String> {
        match config.engine {
            EngineKind::Memory => {
                let databases = Databases::open(MemoryStore::new(), config.databases);
                databases.map(|databases| Backend::Memory(Arc::new(databases))).map_err(|error| error.to_string())
            }
            EngineKind::Aidb => {
                let dir = &config.data_dir;
                let explain = |error: Error| match error.kind() {
                    ErrorKind::Locked => {
                        format!("{} is in use by another process: stop it, or choose another --dir", dir.display())
                    }
                    _ => format!("cannot open the data in {}: {error}", dir.display()),
                };
                let options = Options {
                    memtable_bytes: config.memtable_bytes,
                    block_cache_bytes: config.block_cache_bytes,
                    ..Options::default()
                };
                let created = env.disk().create_dir_all(dir);
                created.map_err(|error| format!("cannot create the directory {}: {error}", dir.display()))?;
                let engine = Engine::open_in(env, dir, options).map_err(explain)?;
                let databases = Databases::open(EngineStore::new(engine), config.databases).map_err(explain)?;
                Ok(Backend::Aidb(Arc::new(databases)))
            }
        }
    }

    /// Makes the working memory of a new session.
    pub(super) fn scratch(&self) -> Scratch {
        match self {
            Backend::Aidb(_) => Scratch::Aidb(Plan::new()),
            Backend::Memory(_) => Scratch::Memory(Plan::new()),
        }
    }

    /// Executes a run as one batch and appends its replies to `out`.
    pub(super) fn execute(&self, scratch: &mut Scratch, run: Run<'_>, out: &mut Encoder) -> Ran {
        match (self, scratch) {
            (Backend::Aidb(databases), Scratch::Aidb(plan)) => execute(databases, plan, run, out),
            (Backend::Memory(databases), Scratch::Memory(plan)) => execute(databases, plan, run, out),
            _ => unreachable!("a scratch belongs to the backend that made it"),
        }
    }

    /// Makes everything committed so far survive a power loss.
    pub(super) fn sync(&self) -> Result<()> {
        match self {
            Backend::Aidb(databases) => databases.sync(),
            Backend::Memory(databases) => databases.sync(),
        }
    }

    /// Does a slice of what is to be done between commands; returns whether more is left.
    pub(super) fn maintain(&self, context: Context, expire: bool, keys_max: usize) -> Result<bool> {
        let done = match self {
            Backend::Aidb(databases) => databases.maintain(&mut Plan::new(), context, expire, keys_max),
            Backend::Memory(databases) => databases.maintain(&mut Plan::new(), context, expire, keys_max),
        };
        done.map(|done| done.more)
    }

    /// Returns the event counters of the command layer.
    pub(super) fn stats(&self) -> &crate::command::db::Stats {
        match self {
            Backend::Aidb(databases) => databases.stats(),
            Backend::Memory(databases) => databases.stats(),
        }
    }

    /// Returns for each database the number of keys, and of those with an expiry.
    pub(super) fn keyspace(&self) -> Vec<(u64, u64)> {
        match self {
            Backend::Aidb(databases) => (0..databases.count()).map(|db| databases.size(db)).collect(),
            Backend::Memory(databases) => (0..databases.count()).map(|db| databases.size(db)).collect(),
        }
    }

    /// Syncs and closes the data; nothing may be executed afterwards.
    pub(super) fn close(&self) -> Result<()> {
        match self {
            Backend::Aidb(databases) => {
                databases.sync()?;
                databases.store().engine().close()
            }
            Backend::Memory(_) => Ok(()),
        }
    }
}

fn execute<S: Store>(databases: &Databases<S>, plan: &mut Plan<S>, mut run: Run<'_>, out: &mut Encoder) -> Ran {
    let spec_of = |request: &Request| request.spec.expect("a run holds known commands");
    plan.clear();
    for request in run.requests {
        plan.add(spec_of(request), &run.args[request.args.clone()]);
    }
    let noted = run.writes.as_ref().map_or(0, |writes| writes.len());
    let mut executed = 0;
    let mut batch = databases.begin(plan, run.context);
    for request in run.requests {
        let start = out.len();
        let spec = spec_of(request);
        batch.execute(run.db, spec, &run.args[request.args.clone()], out);
        executed += 1;
        if let Some(writes) = &mut run.writes
            && spec.flags.contains(Flags::WRITE)
        {
            writes.push(start..out.len());
        }
        if out.len() >= BATCH_BYTES_MAX {
            break;
        }
    }
    match batch.commit() {
        Ok(commit) => Ran { requests: executed, wrote: commit.position.is_some(), failure: None },
        Err(failure) => {
            failure.rewrite(out);
            if let Some(writes) = run.writes {
                // They are errors already, and moved.
                writes.truncate(noted);
            }
            Ran { requests: executed, wrote: false, failure: Some(failure.error().clone()) }
        }
    }
}
