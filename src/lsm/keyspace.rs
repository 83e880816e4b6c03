//! [`Keyspace`]: a named map of its own beside the default one, in the same engine.
//!
//! Keyspaces share the engine's log, sequence numbers and threads, so that a batch over several of them is one commit and
//! a snapshot sees all of them at one moment. Each has memtables and tables of its own. Created and dropped by a commit leader,
//! durably before the call returns.

use super::batch::WriteBatch;
use super::batch::format::NOWHERE;
use super::commit::Writing;
use super::db::Engine;
use super::iterator::{Bounds, DbIterator};
use super::manifest::format::{TreeEdit, VersionEdit};
use super::options::KeyspaceOptions;
use super::state::{Core, State};
use super::stats::LevelStatistics;
use super::tree::{DEFAULT_KEYSPACE, Found, Growing, Tree, TreeState};
use super::value::Value;
use super::version::Version;
use crate::base::key::SeqNum;
use crate::base::limits::KEYSPACE_NAME_BYTES_MAX;
use crate::base::{Error, Result};
use crate::env::{Env, StdEnv};
use std::collections::VecDeque;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

/// A named, ordered map of byte strings beside the default one. Cheap to clone; keeps the engine open.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::DB::open(dir.path(), aidb::Options::default())?;
/// let users = db.keyspace("users", aidb::KeyspaceOptions::default())?;
/// let emails = db.keyspace("emails", aidb::KeyspaceOptions::default())?;
/// let mut batch = aidb::WriteBatch::new();
/// batch.put_in(&users, "7", "ada@example.org");
/// batch.put_in(&emails, "ada@example.org", "7");
/// db.write(batch)?; // both or neither
/// assert_eq!(users.get("7")?.unwrap(), b"ada@example.org");
/// assert!(db.get("7")?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Keyspace<E: Env = StdEnv> {
    engine: Engine<E>,
    tree: Arc<Tree<E>>,
}

impl<E: Env> Clone for Keyspace<E> {
    fn clone(&self) -> Keyspace<E> {
        Keyspace { engine: self.engine.clone(), tree: Arc::clone(&self.tree) }
    }
}

impl<E: Env> std::fmt::Debug for Keyspace<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.tree.name).field("engine", &self.engine).finish()
    }
}

impl<E: Env> Keyspace<E> {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.tree.name
    }

    /// Returns its number, which no other keyspace of the engine ever has.
    pub fn id(&self) -> u32 {
        self.tree.id
    }

    pub(super) fn identity(&self) -> &Arc<()> {
        &self.engine.core().identity
    }

    pub(super) fn core(&self) -> &Core<E> {
        self.engine.core()
    }

    pub(super) fn tree(&self) -> &Arc<Tree<E>> {
        &self.tree
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`Engine::write_opt`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the keyspace was dropped.
    ///
    /// # Durability
    /// As [`Options::durability`](super::Options::durability) says.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_in(self, key, value);
        self.engine.write(batch).map(|_| ())
    }

    /// Removes `key`, whether it exists or not.
    ///
    /// # Errors
    /// As [`put`](Keyspace::put).
    ///
    /// # Durability
    /// As [`put`](Keyspace::put).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete_in(self, key);
        self.engine.write(batch).map(|_| ())
    }

    /// Sets `key` to `value` until `ttl` after the commit; see [`Engine::put_with_ttl`].
    ///
    /// # Errors
    /// As [`put`](Keyspace::put); the value may have 8 bytes less.
    ///
    /// # Durability
    /// As [`Engine::put_with_ttl`].
    pub fn put_with_ttl(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_with_ttl_in(self, key, value, ttl);
        self.engine.write(batch).map(|_| ())
    }

    /// Merges `operand` onto the value of `key`; see [`Engine::merge`].
    ///
    /// # Errors
    /// As [`Engine::merge`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the keyspace was dropped.
    ///
    /// # Durability
    /// As [`put`](Keyspace::put).
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.merge_in(self, key, operand);
        self.engine.write(batch).map(|_| ())
    }

    /// Removes every key in `range`, as one operation; see [`Engine::delete_range`].
    ///
    /// # Errors
    /// As [`Keyspace::put`]; both ends have the limit of a key.
    ///
    /// # Durability
    /// As [`Options::durability`](super::Options::durability) says.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete_range_in(self, range);
        self.engine.write(batch).map(|_| ())
    }

    /// Returns the value of `key`.
    ///
    /// # Errors
    /// As [`Engine::get`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the keyspace was dropped.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.engine.core().get_at(&self.tree, key.as_ref(), None)
    }

    /// Tells whether `key` has a value.
    ///
    /// # Errors
    /// As [`get`](Keyspace::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Walks every key in order; see [`Engine::iter`].
    pub fn iter(&self) -> DbIterator {
        self.range::<[u8; 0]>(..)
    }

    /// Walks the keys in `range`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> DbIterator {
        self.engine.core().iter_at(&self.tree, Bounds::from_range(&range), None)
    }

    /// Walks the keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> DbIterator {
        self.engine.core().iter_at(&self.tree, Bounds::from_prefix(prefix.as_ref()), None)
    }

    /// Writes what is in memory to tables and waits for it.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn flush(&self) -> Result<()> {
        self.engine.core().flush_and_wait(Some(self.tree.id))
    }

    /// Flushes, then compacts every table down to the last level in use, and waits for it.
    ///
    /// # Errors
    /// As [`Engine::force_compaction`].
    pub fn force_compaction(&self) -> Result<()> {
        self.flush()?;
        self.engine.core().compact_all(std::slice::from_ref(&self.tree))
    }

    /// As [`Engine::compact_range`], for this keyspace.
    ///
    /// # Errors
    /// As [`Engine::compact_range`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the keyspace was dropped.
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.engine.core().compact_range(&self.tree, &Bounds::from_range(&range))
    }

    /// Returns its tables by level, the newest first.
    pub fn levels(&self) -> Vec<LevelStatistics> {
        self.tree.current().version.level_statistics()
    }
}

impl<E: Env> Engine<E> {
    /// Returns the keyspace `name`, creating it if there is none.
    ///
    /// `options` hold from now on for what this process writes to it.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the name is empty or over 255 bytes, an option is out of
    /// range, or the merge operator is another one than the keyspace's merges are made for. If the MANIFEST could not be written the engine is poisoned.
    ///
    /// # Durability
    /// A new keyspace is on the disk when the call returns.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace<E>> {
        if !(1..=KEYSPACE_NAME_BYTES_MAX).contains(&name.len()) {
            let len = name.len();
            return Err(Error::invalid_argument(format_args!(
                "the name of a keyspace has {len} bytes, must have 1 to {KEYSPACE_NAME_BYTES_MAX}"
            )));
        }
        let core = self.core();
        options.over(&core.options).validate()?;
        let tree = core.open_keyspace(name, &options)?;
        Ok(Keyspace { engine: self.clone(), tree })
    }

    /// Returns the names of all keyspaces but the default one, in the order of their creation.
    pub fn keyspaces(&self) -> Vec<String> {
        let state = self.core().state.lock();
        let named = state.trees.values().filter(|state| state.tree.id != DEFAULT_KEYSPACE);
        named.map(|state| state.tree.name.clone()).collect()
    }

    /// Removes the keyspace `name` with all it holds; false if there is none.
    ///
    /// Handles of it fail from then on; iterators and values that were handed out before stay good. The space is given back
    /// once none of them reads it.
    ///
    /// # Errors
    /// If the MANIFEST could not be written the engine is poisoned.
    ///
    /// # Durability
    /// The keyspace is gone for good when the call returns, and a later one of that name is empty.
    pub fn drop_keyspace(&self, name: &str) -> Result<bool> {
        let dropped = self.core().drop_keyspace(name)?;
        self.core().purge_obsolete();
        Ok(dropped)
    }
}

fn find<E: Env>(state: &State<E>, name: &str) -> Option<Arc<Tree<E>>> {
    let mut named = state.trees.values().filter(|state| state.tree.id != DEFAULT_KEYSPACE);
    named.find(|state| state.tree.name == name).map(|state| Arc::clone(&state.tree))
}

impl<E: Env> Core<E> {
    fn open_keyspace(&self, name: &str, options: &KeyspaceOptions) -> Result<Arc<Tree<E>>> {
        self.check_running()?;
        self.lead_alone(|leader| {
            self.check_running()?;
            let there = find(&self.state.lock(), name);
            if let Some(tree) = &there {
                tree.check_operator(options.over(&self.options).merge_operator.as_deref())?;
            }
            let tree = match there {
                Some(tree) => tree,
                None => {
                    let (tree, writing) = self.create_keyspace(name, leader.last_seq)?;
                    leader.trees.insert(tree.id, writing);
                    tree
                }
            };
            tree.configure(&self.options, options);
            let writing = leader.trees.get_mut(&tree.id).expect("the leader writes what is there");
            writing.bytes_max = tree.options().memtable_bytes;
            Ok(tree)
        })
    }

    /// Makes the keyspace durable, then visible. Called by a leader, so that nobody else makes one.
    fn create_keyspace(&self, name: &str, last_seq: SeqNum) -> Result<(Arc<Tree<E>>, Writing<E>)> {
        let mut manifest = self.manifest.lock();
        let id = self.state.lock().next_keyspace;
        let Some(next) = id.checked_add(1).filter(|next| *next < NOWHERE) else {
            return Err(Error::invalid_argument("numbers of keyspaces are used up"));
        };
        let found = Found {
            version: Version::empty(self.options.levels_max),
            flushed: last_seq,
            merge_operator: None,
            memtable: Growing::new(&self.env, self.options.memtable, self.options.memtable_bytes),
            immutables: VecDeque::new(),
        };
        let state = Tree::open(id, name.to_owned(), self.options.clone(), found);
        let writing = Writing::new(&state);
        // The keyspace begins behind everything written so far; if that were lost, its own numbers would be given out again.
        self.wal(self.log.sync_to(self.log.end()))?;
        let created =
            TreeEdit { keyspace: id, created: Some(name.to_owned()), flushed: Some(last_seq), ..TreeEdit::default() };
        let edit = VersionEdit { next_keyspace: Some(next), trees: vec![created], ..VersionEdit::default() };
        self.commit_edit(&mut manifest, &edit, |all| {
            all.next_keyspace = next;
            all.trees.insert(id, state);
        })?;
        self.env.reached("lsm.keyspace_created");
        Ok((Arc::clone(&writing.tree), writing))
    }

    fn drop_keyspace(&self, name: &str) -> Result<bool> {
        self.check_running()?;
        self.lead_alone(|leader| {
            self.check_running()?;
            let mut manifest = self.manifest.lock();
            let there = find(&self.state.lock(), name);
            let Some(tree) = there else { return Ok(false) };
            let dropped = TreeEdit { keyspace: tree.id, dropped: true, ..TreeEdit::default() };
            let edit = VersionEdit { trees: vec![dropped], ..VersionEdit::default() };
            self.commit_edit(&mut manifest, &edit, |state| {
                tree.set_dropped();
                if let Some(TreeState { version, .. }) = state.trees.remove(&tree.id) {
                    state.obsolete.extend(version.tables().map(|(_, table)| Arc::clone(table)));
                }
                self.publish(state, tree.id);
            })?;
            tree.forget(&self.env);
            leader.trees.remove(&tree.id);
            Ok(true)
        })
    }
}
