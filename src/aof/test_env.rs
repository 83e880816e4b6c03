//! A disk in memory for the tests of the log: what is cached, what is durable, and a few faults, without a scheduler.
//!
//! Writes go to the cache and are remembered as dirty. A sync copies dirty ranges to the durable image; a failed one
//! forgets them, as kernels do. A power loss replaces the cache by the durable image, names included. The simulator has
//! the rest: torn sectors, orders, threads.

use crate::env::{DirEntry, Disk, DiskFile, Env, Mono, OpenMode, StdCondvar, StdEnv, StdJoin, SyncKind, Wall};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Clone, Default)]
struct Image {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<Range<usize>>,
}

type Node = Arc<Mutex<Image>>;

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    /// Bytes that can still be added to files.
    room: Option<u64>,
    /// Fails the sync of a file after this many more.
    sync_fails_in: Option<u64>,
    planted: Vec<&'static str>,
    reached: Vec<&'static str>,
    wall: u64,
    mono: u64,
    /// How far the monotonic clock moves while a file is synced.
    sync_takes: u64,
    /// Counts mutating operations.
    operations: u64,
    /// Counts bytes read from files.
    bytes_read: u64,
    /// Every mutating operation from this one on fails: the process is dead.
    dies_at: Option<u64>,
    /// Runs once, while a file is being synced and after its dirty ranges were collected.
    during_sync: Option<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// A removed file's space is free at once, open or not.
    fn give_back(&mut self, removed: Option<Node>) {
        if let (Some(node), Some(room)) = (removed, &mut self.room) {
            *room += node.lock().cache.len() as u64;
        }
    }
}

/// The world of these tests.
#[derive(Clone, Default)]
pub(super) struct TestEnv {
    disk: MemDisk,
    random: Arc<AtomicU64>,
}

#[derive(Clone, Default)]
pub(super) struct MemDisk(Arc<Mutex<State>>);

pub(super) struct MemFile {
    node: Node,
    disk: MemDisk,
}

impl TestEnv {
    pub(super) fn plant(&self, bug: &'static str) {
        self.disk.0.lock().planted.push(bug);
    }

    pub(super) fn unplant(&self) {
        self.disk.0.lock().planted.clear();
    }

    pub(super) fn was_reached(&self, mark: &str) -> bool {
        self.disk.0.lock().reached.contains(&mark)
    }

    pub(super) fn set_wall(&self, wall: u64) {
        self.disk.0.lock().wall = wall;
    }

    /// Moves the monotonic clock, nanoseconds.
    pub(super) fn advance(&self, nanos: u64) {
        self.disk.0.lock().mono += nanos;
    }

    /// Lets every sync of a file take so many nanoseconds of the monotonic clock.
    pub(super) fn sync_takes(&self, nanos: u64) {
        self.disk.0.lock().sync_takes = nanos;
    }

    pub(super) fn set_room(&self, room: Option<u64>) {
        self.disk.0.lock().room = room;
    }

    pub(super) fn fail_sync_in(&self, syncs: u64) {
        self.disk.0.lock().sync_fails_in = Some(syncs);
    }

    pub(super) fn during_sync(&self, hook: impl FnOnce() + Send + 'static) {
        self.disk.0.lock().during_sync = Some(Box::new(hook));
    }

    /// Removes a file behind the log's back, durably.
    pub(super) fn forget(&self, path: &Path) {
        let mut state = self.disk.0.lock();
        state.names.remove(path).unwrap();
        state.durable_names.remove(path);
    }

    pub(super) fn die_at(&self, operation: Option<u64>) {
        self.disk.0.lock().dies_at = operation;
    }

    pub(super) fn operations(&self) -> u64 {
        self.disk.0.lock().operations
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.disk.0.lock().bytes_read
    }

    /// Forgets all that is not durable.
    pub(super) fn lose_power(&self) {
        let mut state = self.disk.0.lock();
        let bytes =
            |names: &BTreeMap<PathBuf, Node>| names.values().map(|node| node.lock().cache.len() as u64).sum::<u64>();
        let before = bytes(&state.names);
        state.names = state.durable_names.clone();
        state.dies_at = None;
        for node in state.names.values() {
            let mut image = node.lock();
            image.cache = image.durable.clone();
            image.dirty.clear();
        }
        let freed = before.saturating_sub(bytes(&state.names));
        state.room = state.room.map(|room| room + freed);
    }

    /// Changes a file behind the log's back, durably.
    pub(super) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let state = self.disk.0.lock();
        let mut image = state.names[path].lock();
        change(&mut image.cache);
        image.durable = image.cache.clone();
    }

    pub(super) fn read(&self, path: &Path) -> Vec<u8> {
        self.disk.0.lock().names[path].lock().cache.clone()
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.disk.0.lock().names.keys().cloned().collect()
    }

    /// A copy of everything durable, as a world of its own.
    pub(super) fn fork_durable(&self) -> TestEnv {
        let fork = TestEnv::default();
        fork.random.store(self.random.load(Ordering::Relaxed) + 1000, Ordering::Relaxed);
        {
            let state = self.disk.0.lock();
            let mut copy = fork.disk.0.lock();
            for (path, node) in &state.durable_names {
                let durable = node.lock().durable.clone();
                let image = Image { cache: durable.clone(), durable, dirty: Vec::new() };
                copy.durable_names.insert(path.clone(), Arc::new(Mutex::new(image)));
            }
            copy.names = copy.durable_names.clone();
        }
        fork
    }
}

impl MemDisk {
    fn operate(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operations += 1;
        match state.dies_at {
            Some(at) if state.operations > at => Err(io::Error::other("the process is dead")),
            _ => Ok(()),
        }
    }
}

impl Env for TestEnv {
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;
    type Condvar = StdCondvar;
    type Join = StdJoin;
    type Disk = MemDisk;

    fn disk(&self) -> &MemDisk {
        &self.disk
    }
    fn now(&self) -> Mono {
        Mono(self.disk.0.lock().mono)
    }
    fn wall(&self) -> Wall {
        Wall(self.disk.0.lock().wall)
    }
    fn sleep(&self, _: Duration) {}
    fn rand_u64(&self) -> u64 {
        crate::base::hash::hash64(b"random", self.random.fetch_add(1, Ordering::Relaxed))
    }
    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<StdJoin> {
        StdEnv.spawn(name, body)
    }
    fn reached(&self, mark: &'static str) {
        self.disk.0.lock().reached.push(mark);
    }
    fn planted(&self, name: &'static str) -> bool {
        let mut declared = super::PLANTED_BUGS.iter().chain(super::STORE_PLANTED_BUGS);
        assert!(declared.any(|(bug, _)| *bug == name), "{name} is not declared");
        self.disk.0.lock().planted.contains(&name)
    }
}

impl Disk for MemDisk {
    type File = MemFile;
    type DirLock = ();

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<MemFile> {
        if mode == OpenMode::CreateNew {
            self.operate()?;
        }
        let mut state = self.0.lock();
        let node = match (state.names.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(node), _) => node.clone(),
            (None, OpenMode::CreateNew) => {
                let node = Node::default();
                state.names.insert(path.to_path_buf(), node.clone());
                node
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(MemFile { node, disk: self.clone() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        let mut state = self.0.lock();
        let node = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = state.names.insert(to.to_path_buf(), node);
        state.give_back(replaced);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        let mut state = self.0.lock();
        let node = state.names.get(from).ok_or(io::ErrorKind::NotFound)?.clone();
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate()?;
        let mut state = self.0.lock();
        let removed = state.names.remove(path);
        let found = removed.is_some();
        state.give_back(removed);
        if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.0.lock();
        let files = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(files
            .map(|(path, node)| DirEntry {
                name: path.file_name().unwrap_or_default().to_os_string(),
                is_dir: false,
                bytes: node.lock().cache.len() as u64,
            })
            .collect())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.operate()?;
        let state = &mut *self.0.lock();
        state.durable_names.retain(|path, _| path.parent() != Some(dir));
        let entries = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        state.durable_names.extend(entries.map(|(path, node)| (path.clone(), node.clone())));
        Ok(())
    }

    fn lock_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.lock().room.unwrap_or(u64::MAX))
    }
}

impl DiskFile for MemFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.operate()?;
        let mut state = self.disk.0.lock();
        let mut image = self.node.lock();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let growth = end.saturating_sub(image.cache.len());
        if let Some(room) = &mut state.room {
            if growth as u64 > *room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= growth as u64;
        }
        if growth > 0 {
            image.cache.resize(end, 0);
        }
        image.cache[start..end].copy_from_slice(bytes);
        image.dirty.push(start..end);
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let image = self.node.lock();
        let from = image.cache.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(bytes.len());
        bytes[..count].copy_from_slice(&from[..count]);
        drop(image);
        self.disk.0.lock().bytes_read += count as u64;
        Ok(count)
    }

    fn sync(&self, _: SyncKind) -> io::Result<()> {
        self.disk.operate()?;
        {
            let mut state = self.disk.0.lock();
            state.mono += state.sync_takes;
        }
        let fails = match &mut self.disk.0.lock().sync_fails_in {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        };
        let dirty = std::mem::take(&mut self.node.lock().dirty);
        let hook = self.disk.0.lock().during_sync.take();
        if let Some(hook) = hook {
            hook();
        }
        let image = &mut *self.node.lock();
        if fails {
            self.disk.0.lock().sync_fails_in = None;
            return Err(io::Error::other("the device lost a write"));
        }
        for range in dirty {
            let len = image.durable.len().max(range.end);
            image.durable.resize(len, 0);
            image.durable[range.clone()].copy_from_slice(&image.cache[range]);
        }
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.node.lock().cache.len() as u64)
    }
}
