//! [`Keyspace`]: the keys of one database as a running command sees them.
//!
//! Made for each command by [`Batch::execute`](super::Batch::execute). Commands read and write user keys here and never
//! see store keys, counters, epochs or the expiry index. Reads see what the batch has changed; a key whose time has come
//! is gone, and its removal becomes part of the batch.

use super::overlay::{Key, Now, Seen, Work};
use super::{Context, STRIPE_WORDS, State, covers, damaged};
use crate::base::Result;
use crate::command::Failure;
use crate::command::format::{self, Encoding, Header, Kind, POSITION_END, USER_KEY_BYTES_MAX, Zone};
use crate::command::store::Store;
use std::ops::ControlFlow;

/// One database during one command.
pub struct Keyspace<'k, S: Store> {
    pub(super) store: &'k S,
    pub(super) state: &'k State,
    pub(super) work: &'k mut Work<S::Writes>,
    pub(super) stripes: &'k [u64; STRIPE_WORDS],
    pub(super) exclusive: bool,
    pub(super) reading: bool,
    /// Time and seed of the batch.
    pub context: Context,
    pub(super) db: usize,
    pub(super) epoch: u32,
}

/// A key's record.
pub struct Object<'o, V> {
    bytes: Bytes<'o, V>,
    header: Header,
}

/// A value and its header; without a value if it is the batch's own.
type Read<V> = (Option<V>, Header);

enum Bytes<'o, V> {
    Batch(&'o [u8]),
    Store(V),
}

impl<V: AsRef<[u8]>> Object<'_, V> {
    fn record(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Batch(bytes) => bytes,
            Bytes::Store(value) => value.as_ref(),
        }
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns what follows the header.
    pub fn payload(&self) -> &[u8] {
        &self.record()[self.header.payload_at..]
    }

    /// Returns the bytes of a string.
    ///
    /// # Errors
    /// The key has another type.
    pub fn string(&self) -> Result<&[u8], Failure> {
        if self.header.kind == Kind::String { Ok(self.payload()) } else { Err(Failure::WRONG_TYPE) }
    }
}

/// Visits one key of a walk: position, user key, header.
pub type VisitKey<'v> = dyn FnMut(u64, &[u8], &Header) -> ControlFlow<()> + 'v;

impl<S: Store> Keyspace<'_, S> {
    /// Returns the number of this database.
    pub fn db(&self) -> usize {
        self.db
    }

    /// Returns how many databases there are.
    pub fn db_count(&self) -> usize {
        self.state.dbs.len()
    }

    /// Turns to database `db`, which exists.
    pub fn select(&mut self, db: usize) {
        assert!(db < self.db_count(), "database {db} of {}", self.db_count());
        self.db = db;
        self.epoch = epoch_of(self.state, self.work, db);
    }

    /// Reads a key.
    ///
    /// # Errors
    /// The store fails.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Object<'_, S::Value>>, Failure> {
        let key = self.key(key);
        let found = if let Some(at) = self.find(&key) { self.get_changed(&key, at)? } else { self.get_stored(&key)? };
        if self.reading {
            let counter = if found.is_some() { &mut self.work.tally.hits } else { &mut self.work.tally.misses };
            *counter += 1;
        }
        Ok(match found {
            None => None,
            Some((None, header)) => {
                let at = self.find(&key).expect("found before");
                let Now::Present { record, .. } = &self.work.entries[at].now else { unreachable!("found before") };
                Some(Object { bytes: Bytes::Batch(record), header })
            }
            Some((Some(value), header)) => Some(Object { bytes: Bytes::Store(value), header }),
        })
    }

    /// Reads a key's header.
    ///
    /// # Errors
    /// The store fails.
    pub fn header(&mut self, key: &[u8]) -> Result<Option<Header>, Failure> {
        Ok(self.get(key)?.map(|object| object.header))
    }

    /// Sets a key to a string, given in parts.
    ///
    /// # Errors
    /// The store fails, or the key is too long.
    #[inline]
    pub fn put_string(
        &mut self,
        key: &[u8],
        encoding: Encoding,
        expiry: Option<u64>,
        parts: &[&[u8]],
    ) -> Result<(), Failure> {
        let header = Header::string(encoding, expiry);
        let mut record = self.work.buffer();
        record.reserve(header.payload_at + parts.iter().map(|part| part.len()).sum::<usize>());
        header.encode(&mut record);
        parts.iter().for_each(|part| record.extend_from_slice(part));
        self.put_record(key, record, expiry)
    }

    /// Changes when a key expires.
    ///
    /// # Errors
    /// The store fails.
    ///
    /// # Panics
    /// The key is absent.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Option<u64>) -> Result<(), Failure> {
        let record = self.copy_record(key, expiry)?.expect("the caller has seen the key");
        self.put_record(key, record, expiry)
    }

    /// Removes a key; returns whether it existed.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove(&mut self, key: &[u8]) -> Result<bool, Failure> {
        let reading = std::mem::replace(&mut self.reading, false);
        let exists = self.get(key)?.is_some();
        self.reading = reading;
        if exists {
            let key = self.key(key);
            self.stage(&key, Now::Absent)?;
        }
        Ok(exists)
    }

    /// Copies the record of `from`, with its expiry, to key `to` of database `to_db`, replacing what is there. `from` exists.
    ///
    /// # Errors
    /// The store fails, or the key is too long.
    pub fn copy(&mut self, from: &[u8], to: &[u8], to_db: usize) -> Result<(), Failure> {
        let expiry = self.header(from)?.and_then(|header| header.expiry);
        let record = self.copy_record(from, expiry)?.expect("the caller has seen the key");
        let db = self.db;
        self.select(to_db);
        let result = self.put_record(to, record, expiry);
        self.select(db);
        result
    }

    /// Returns the number of keys.
    pub fn size(&self) -> u64 {
        let stored = self.state.of_epoch(self.epoch).map_or(0, |db| db.counts().0);
        let delta = self.work.deltas.iter().find(|delta| delta.epoch == self.epoch).map_or(0, |delta| delta.keys);
        stored.checked_add_signed(delta).expect("a database has no fewer keys than none")
    }

    /// Empties this database.
    pub fn flush(&mut self) {
        assert!(self.exclusive, "flush without the exclusive lock");
        if self.size() == 0 {
            return;
        }
        let layout = self.work.layout.get_or_insert_with(|| self.state.layout());
        let old = std::mem::replace(&mut layout.epochs[self.db], layout.next_epoch);
        layout.next_epoch = layout.next_epoch.checked_add(1).expect("four thousand million flushes");
        layout.dead.push(old);
        self.work.changed = true;
        self.select(self.db);
    }

    /// Exchanges the content of two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        assert!(self.exclusive, "swap without the exclusive lock");
        if a != b {
            self.work.layout.get_or_insert_with(|| self.state.layout()).epochs.swap(a, b);
            self.work.changed = true;
            self.select(self.db);
        }
    }

    /// Visits the keys at position `from` and after in order of position and name, until told to stop.
    ///
    /// # Errors
    /// The store fails; keys before were visited.
    pub fn walk(&mut self, from: u64, visit: &mut VisitKey<'_>) -> Result<(), Failure> {
        if from >= POSITION_END {
            return Ok(());
        }
        let (epoch, now_ms) = (self.epoch, self.context.now_ms);
        let mut changed = self.changed_records(from);
        changed.reverse();
        let mut low = Vec::with_capacity(16);
        format::put_prefix(&mut low, Zone::Record, epoch);
        format::put_position(&mut low, from);
        let (_, high) = format::epoch_range(Zone::Record, epoch);
        let mut stopped = false;
        let mut bad = false;
        let mut show = |raw: &[u8], record: &[u8], bad: &mut bool| {
            let (Some((position, key)), Some(header)) = (format::parse_record_key(raw), Header::decode(record)) else {
                *bad = true;
                return ControlFlow::Break(());
            };
            if header.expired(now_ms) { ControlFlow::Continue(()) } else { visit(position, key, &header) }
        };
        let entries = &self.work.entries;
        let changed_record = |at: usize| match &entries[at].now {
            Now::Present { record, .. } => Some(&record[..]),
            _ => None,
        };
        self.store.scan(&low, &high, &mut |raw, value| {
            let mut value = Some(value);
            while let Some((key, at)) = changed.last()
                && key[..] <= *raw
            {
                if key[..] == *raw {
                    value = None;
                }
                if let Some(record) = changed_record(*at)
                    && show(key, record, &mut bad).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                changed.pop();
            }
            let shown = value.map_or(ControlFlow::Continue(()), |value| show(raw, value, &mut bad));
            stopped = shown.is_break();
            shown
        })?;
        while !stopped && let Some((key, at)) = changed.pop() {
            stopped = changed_record(at).is_some_and(|record| show(&key, record, &mut bad).is_break());
        }
        if bad { Err(damaged("unknown kind of record").into()) } else { Ok(()) }
    }

    /// Lists this database's changed keys from position `from` on, in store order.
    fn changed_records(&self, from: u64) -> Vec<(Vec<u8>, usize)> {
        let changed = |entry: &super::overlay::Entry| {
            entry.epoch == self.epoch && entry.position >= from && !matches!(entry.now, Now::Unchanged)
        };
        let mut list: Vec<(Vec<u8>, usize)> = Vec::new();
        for (at, entry) in self.work.entries.iter().enumerate().filter(|(_, entry)| changed(entry)) {
            let mut raw = Vec::new();
            format::put_record_key(&mut raw, entry.epoch, entry.position, entry.key(&self.work.keys));
            list.push((raw, at));
        }
        list.sort_unstable();
        list
    }

    /// Hashes a key, or remembers having done so.
    #[inline]
    fn key<'a>(&mut self, bytes: &'a [u8]) -> Key<'a> {
        let address = bytes.as_ptr() as usize;
        let memo = &mut self.work.memo;
        if (memo.address, memo.len) != (address, bytes.len()) {
            let hash = format::key_hash(bytes);
            assert!(self.exclusive || covers(self.stripes, hash), "a command touches a key that was not planned for");
            let position = format::position(bytes, hash);
            *memo = super::overlay::Memo { address, len: bytes.len(), hash, position, epoch: self.epoch, seen: None };
        } else if memo.epoch != self.epoch {
            (memo.epoch, memo.seen) = (self.epoch, None);
        }
        Key { bytes, hash: memo.hash, position: memo.position }
    }

    #[inline]
    fn find(&self, key: &Key<'_>) -> Option<usize> {
        self.work.find(self.epoch, key).filter(|&at| !matches!(self.work.entries[at].now, Now::Unchanged))
    }

    /// Reads a key that the batch has changed; `(None, _)` stands for the record in the batch.
    fn get_changed(&mut self, key: &Key<'_>, at: usize) -> Result<Option<Read<S::Value>>, Failure> {
        let Now::Present { record, .. } = &self.work.entries[at].now else { return Ok(None) };
        let header = Header::decode(record).expect("this batch wrote it");
        if header.expired(self.context.now_ms) {
            self.expire(key)?;
            return Ok(None);
        }
        Ok(Some((None, header)))
    }

    fn get_stored(&mut self, key: &Key<'_>) -> Result<Option<Read<S::Value>>, Failure> {
        let Some((value, header)) = self.load(key)? else { return Ok(None) };
        if header.expired(self.context.now_ms) {
            self.expire(key)?;
            return Ok(None);
        }
        Ok(Some((Some(value), header)))
    }

    fn expire(&mut self, key: &Key<'_>) -> Result<(), Failure> {
        self.work.tally.expired += 1;
        self.stage(key, Now::Absent)
    }

    /// Reads the store.
    #[inline]
    fn load(&mut self, key: &Key<'_>) -> Result<Option<(S::Value, Header)>, Failure> {
        if key.bytes.len() > USER_KEY_BYTES_MAX {
            return Ok(None);
        }
        self.work.raw.clear();
        format::put_record_key(&mut self.work.raw, self.epoch, key.position, key.bytes);
        let Some(value) = self.store.get(&self.work.raw)? else {
            self.work.memo.seen = Some(Seen::default());
            return Ok(None);
        };
        let header = Header::decode(value.as_ref()).ok_or_else(|| damaged("unknown kind of record"))?;
        self.work.memo.seen = Some(Seen { exists: true, expiry: header.expiry });
        Ok(Some((value, header)))
    }

    #[inline]
    fn put_record(&mut self, key: &[u8], record: Vec<u8>, expiry: Option<u64>) -> Result<(), Failure> {
        if key.len() > USER_KEY_BYTES_MAX {
            return Err(Failure::Message(format!("ERR key is longer than {USER_KEY_BYTES_MAX} bytes")));
        }
        let key = self.key(key);
        self.stage(&key, Now::Present { record, expiry })
    }

    /// Copies a key's record, with another expiry.
    fn copy_record(&mut self, key: &[u8], expiry: Option<u64>) -> Result<Option<Vec<u8>>, Failure> {
        let mut record = self.work.buffer();
        let Some(object) = self.get(key)? else { return Ok(None) };
        Header { expiry, ..*object.header() }.encode(&mut record);
        record.extend_from_slice(object.payload());
        Ok(Some(record))
    }

    /// Changes a key in the batch.
    #[inline]
    fn stage(&mut self, key: &Key<'_>, now: Now) -> Result<(), Failure> {
        let at = match self.work.find(self.epoch, key) {
            Some(at) => at,
            None => {
                let seen = match self.work.memo.seen {
                    Some(seen) => seen,
                    None => {
                        self.load(key)?;
                        self.work.memo.seen.expect("load has seen it")
                    }
                };
                self.work.insert(self.epoch, key, seen)
            }
        };
        self.work.set(at, now);
        Ok(())
    }
}

/// Returns the epoch of database `db` as the batch sees it.
pub(super) fn epoch_of<W>(state: &State, work: &Work<W>, db: usize) -> u32 {
    match &work.layout {
        Some(layout) => layout.epochs[db],
        None => state.dbs[db].epoch,
    }
}
