//! The content of a simulated disk: for each inode what a process sees, what is durable, and what lies between.
//!
//! **Invariants:** applying all `pending` operations of a file, in order, to `durable` gives what a process sees, unless a sync
//! failed (the lost pages are seen but nowhere else); a directory likewise; sequence numbers rise over the whole disk.
//! A file's pending list is bounded: adjoining appends merge, and a long list is written back from its old end, as a
//! kernel would.

use aidb::base::hash::hash64;
use aidb::env::DirEntry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use super::change::{Change, DirChange, DirPending, Pending, put};
use crate::config::Damage;
use crate::trace::mix;

pub(super) const SECTOR_BYTES: u64 = 512;
const PENDING_MAX: usize = 1024;
const HISTORY_MAX: usize = 64;
const ROOT: u32 = 0;

/// A file as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// One of its paths.
    pub path: String,
    /// What a process reads.
    pub bytes: Vec<u8>,
    /// What a power loss leaves at least of its content, if its name survives.
    pub durable: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Pending>,
    /// Everything up to here belongs to a sync that has begun: not merged with later writes.
    sealed: u64,
    links: u32,
    handles: u32,
    /// Unreadable ranges.
    bad: Vec<(u64, u64)>,
    /// Pages lost by a failed sync leave the page cache when the process dies.
    evict: bool,
}

#[derive(Debug, Default)]
pub(super) struct DirNode {
    pub(super) seen: BTreeMap<OsString, u32>,
    pub(super) durable: BTreeMap<OsString, u32>,
    pub(super) pending: Vec<DirPending>,
}

#[derive(Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
    Gone,
}

#[derive(Debug)]
pub(crate) struct DiskState {
    pub(super) nodes: Vec<Node>,
    seq: u64,
    used: u64,
    incarnation: u64,
    locks: BTreeMap<u32, u64>,
    unlinked: usize,
    pub(crate) damage: Vec<Damage>,
    /// Former content of recently synced sectors.
    pub(super) history: Option<VecDeque<(u32, u64, Vec<u8>)>>,
}

fn kind(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

impl DiskState {
    pub(crate) fn new() -> DiskState {
        DiskState {
            nodes: vec![Node::Dir(DirNode::default())],
            seq: 0,
            used: 0,
            incarnation: 0,
            locks: BTreeMap::new(),
            unlinked: 0,
            damage: Vec::new(),
            history: None,
        }
    }

    pub(crate) fn keep_history(&mut self) {
        self.history = Some(VecDeque::new());
    }

    /// A new process: no handle, no lock, and perhaps fewer cached pages.
    pub(crate) fn begin_incarnation(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.locks.clear();
        for node in &mut self.nodes {
            let Node::File(file) = node else { continue };
            file.handles = 0;
            if std::mem::take(&mut file.evict) {
                let before = file.seen.len() as u64;
                file.seen.clone_from(&file.durable);
                file.pending.iter().for_each(|pending| pending.change.apply(&mut file.seen));
                self.used = self.used - before + file.seen.len() as u64;
            }
        }
        self.collect();
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn dir(&self, inode: u32) -> io::Result<&DirNode> {
        match &self.nodes[inode as usize] {
            Node::Dir(dir) => Ok(dir),
            _ => Err(kind(io::ErrorKind::NotADirectory)),
        }
    }

    fn dir_mut(&mut self, inode: u32) -> &mut DirNode {
        match &mut self.nodes[inode as usize] {
            Node::Dir(dir) => dir,
            _ => unreachable!("looked up as a directory"),
        }
    }

    pub(super) fn file(&self, inode: u32) -> &FileNode {
        match &self.nodes[inode as usize] {
            Node::File(file) => file,
            _ => unreachable!("an open file has a file inode"),
        }
    }

    pub(super) fn file_mut(&mut self, inode: u32) -> &mut FileNode {
        match &mut self.nodes[inode as usize] {
            Node::File(file) => file,
            _ => unreachable!("an open file has a file inode"),
        }
    }

    fn find(&self, path: &Path) -> io::Result<u32> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    at = *self.dir(at)?.seen.get(name).ok_or_else(|| kind(io::ErrorKind::NotFound))?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(kind(io::ErrorKind::InvalidInput)),
            }
        }
        Ok(at)
    }

    /// Returns the directory that `path` lies in, and its name there.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(u32, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| kind(io::ErrorKind::InvalidInput))?;
        let dir = self.find(path.parent().unwrap_or(Path::new("/")))?;
        self.dir(dir)?;
        Ok((dir, name))
    }

    fn add(&mut self, dir: u32, name: &OsStr, inode: u32) -> u64 {
        let seq = self.next_seq();
        let node = self.dir_mut(dir);
        node.seen.insert(name.to_owned(), inode);
        node.pending.push(DirPending { seq, change: DirChange::Add { name: name.to_owned(), inode } });
        seq
    }

    fn new_node(&mut self, path: &Path, node: Node) -> io::Result<u32> {
        let (dir, name) = self.parent(path)?;
        if self.dir(dir)?.seen.contains_key(name) {
            return Err(kind(io::ErrorKind::AlreadyExists));
        }
        let inode = u32::try_from(self.nodes.len()).map_err(io::Error::other)?;
        self.nodes.push(node);
        self.add(dir, name, inode);
        Ok(inode)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u32> {
        self.new_node(path, Node::File(FileNode { links: 1, handles: 1, ..FileNode::default() }))
    }

    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<u32> {
        self.new_node(path, Node::Dir(DirNode::default()))
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<u32> {
        let inode = self.find(path)?;
        match &mut self.nodes[inode as usize] {
            Node::File(file) => {
                file.handles += 1;
                Ok(inode)
            }
            _ => Err(kind(io::ErrorKind::IsADirectory)),
        }
    }

    pub(super) fn close(&mut self, inode: u32, incarnation: u64) {
        if incarnation == self.incarnation
            && let Some(Node::File(file)) = self.nodes.get_mut(inode as usize)
        {
            file.handles = file.handles.saturating_sub(1);
            self.release(inode);
        }
    }

    /// Gives the space of a file back that has neither name nor handle.
    fn release(&mut self, inode: u32) {
        if let Node::File(file) = &self.nodes[inode as usize]
            && file.links == 0
            && file.handles == 0
        {
            self.used = self.used.saturating_sub(file.seen.len() as u64);
            self.file_mut(inode).seen = Vec::new();
            self.unlinked += 1;
        }
    }

    fn unlink(&mut self, inode: u32) {
        if let Node::File(file) = &mut self.nodes[inode as usize] {
            file.links = file.links.saturating_sub(1);
            self.release(inode);
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<u32> {
        let inode = self.find(path)?;
        if matches!(self.nodes[inode as usize], Node::Dir(_)) {
            return Err(kind(io::ErrorKind::IsADirectory));
        }
        let (dir, name) = self.parent(path)?;
        let seq = self.next_seq();
        let node = self.dir_mut(dir);
        node.seen.remove(name);
        node.pending.push(DirPending { seq, change: DirChange::Remove { name: name.to_owned(), inode } });
        self.unlink(inode);
        Ok(inode)
    }

    /// Removes an empty directory.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<u32> {
        let inode = self.find(path)?;
        if !self.dir(inode)?.seen.is_empty() {
            return Err(kind(io::ErrorKind::DirectoryNotEmpty));
        }
        let (dir, name) = self.parent(path)?;
        let seq = self.next_seq();
        let node = self.dir_mut(dir);
        node.seen.remove(name);
        node.pending.push(DirPending { seq, change: DirChange::Remove { name: name.to_owned(), inode } });
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<u32> {
        let inode = self.find(from)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        let replaced = self.dir(to_dir)?.seen.get(to_name).copied();
        if replaced == Some(inode) {
            return Ok(inode);
        }
        if replaced.is_some_and(|replaced| matches!(self.nodes[replaced as usize], Node::Dir(_))) {
            return Err(kind(io::ErrorKind::IsADirectory));
        }
        if from_dir == to_dir {
            let seq = self.next_seq();
            let change = DirChange::Rename { from: from_name.to_owned(), to: to_name.to_owned(), inode };
            let node = self.dir_mut(from_dir);
            change.apply(&mut node.seen);
            node.pending.push(DirPending { seq, change });
        } else {
            let added = self.add(to_dir, to_name, inode);
            let seq = self.next_seq();
            let change = DirChange::RemoveMoved { name: from_name.to_owned(), inode, added };
            let node = self.dir_mut(from_dir);
            change.apply(&mut node.seen);
            node.pending.push(DirPending { seq, change });
        }
        if let Some(replaced) = replaced {
            self.unlink(replaced);
        }
        Ok(inode)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<u32> {
        let inode = self.find(from)?;
        let (dir, name) = self.parent(to)?;
        if self.dir(dir)?.seen.contains_key(name) {
            return Err(kind(io::ErrorKind::AlreadyExists));
        }
        match &mut self.nodes[inode as usize] {
            Node::File(file) => file.links += 1,
            _ => return Err(kind(io::ErrorKind::IsADirectory)),
        }
        self.add(dir, name, inode);
        Ok(inode)
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<(u32, Vec<DirEntry>)> {
        let inode = self.find(dir)?;
        let entry = |(name, inode): (&OsString, &u32)| match &self.nodes[*inode as usize] {
            Node::File(file) => DirEntry { name: name.clone(), is_dir: false, bytes: file.seen.len() as u64 },
            _ => DirEntry { name: name.clone(), is_dir: true, bytes: 0 },
        };
        Ok((inode, self.dir(inode)?.seen.iter().map(entry).collect()))
    }

    pub(super) fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match self.find(path) {
            Ok(inode) => self.dir(inode).map(|_| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn lock_dir(&mut self, path: &Path) -> io::Result<u32> {
        let inode = self.find(path)?;
        if !self.dir(inode)?.seen.contains_key(OsStr::new("LOCK")) {
            let lock = self.create(&path.join("LOCK"))?;
            self.file_mut(lock).handles = 0;
        }
        if self.locks.contains_key(&inode) {
            return Err(kind(io::ErrorKind::WouldBlock));
        }
        self.locks.insert(inode, self.incarnation);
        Ok(inode)
    }

    pub(super) fn unlock_dir(&mut self, inode: u32, incarnation: u64) {
        if self.locks.get(&inode) == Some(&incarnation) {
            self.locks.remove(&inode);
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used
    }

    pub(super) fn file_bytes(&self, inode: u32) -> u64 {
        self.file(inode).seen.len() as u64
    }

    pub(super) fn read(&self, inode: u32, offset: u64, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            bytes.copy_from_slice(&self.file(inode).seen[offset as usize..][..bytes.len()]);
        }
    }

    pub(super) fn write(&mut self, inode: u32, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let last_seq = self.seq;
        let file = self.file_mut(inode);
        let before = file.seen.len() as u64;
        put(&mut file.seen, offset, bytes);
        let after = file.seen.len() as u64;
        let end = offset + bytes.len() as u64;
        file.bad.retain(|(from, to)| *from >= end || *to <= offset);
        // Merged only if nothing else happened since, so that the order of operations stays what it was.
        let sealed = file.sealed;
        let merged = match file.pending.last_mut() {
            Some(Pending { seq, change: Change::Write { offset: start, bytes: held } })
                if *seq == last_seq && *seq > sealed && *start + held.len() as u64 == offset =>
            {
                held.extend_from_slice(bytes);
                true
            }
            _ => false,
        };
        self.used += after - before;
        if !merged {
            let seq = self.next_seq();
            let change = Change::Write { offset, bytes: bytes.to_vec() };
            self.file_mut(inode).pending.push(Pending { seq, change });
            self.write_back(inode);
        }
    }

    pub(super) fn truncate(&mut self, inode: u32, bytes: u64) {
        let seq = self.next_seq();
        let file = self.file_mut(inode);
        let before = file.seen.len() as u64;
        file.seen.resize(bytes as usize, 0);
        file.pending.push(Pending { seq, change: Change::Truncate { bytes } });
        self.used = self.used + bytes - before;
        self.write_back(inode);
    }

    fn write_back(&mut self, inode: u32) {
        let pending = &self.file(inode).pending;
        if pending.len() > PENDING_MAX {
            let until = pending[PENDING_MAX / 2].seq;
            self.sync(inode, until);
        }
    }

    /// Begins a sync: returns up to which operation it covers.
    pub(super) fn begin_sync(&mut self, inode: u32) -> u64 {
        let seq = self.seq;
        self.file_mut(inode).sealed = seq;
        seq
    }

    pub(super) fn begin_sync_dir(&mut self, dir: &Path) -> io::Result<(u32, u64)> {
        let inode = self.find(dir)?;
        self.dir(inode)?;
        Ok((inode, self.seq))
    }

    /// Makes the changes of `inode` up to `until` durable; returns how many.
    pub(super) fn sync(&mut self, inode: u32, until: u64) -> u64 {
        let mut adds = Vec::new();
        let count = match &mut self.nodes[inode as usize] {
            Node::File(file) => {
                let count = file.pending.partition_point(|pending| pending.seq <= until);
                for pending in file.pending.drain(..count) {
                    remember(&mut self.history, inode, &file.durable, &pending.change);
                    pending.change.apply(&mut file.durable);
                }
                count
            }
            Node::Dir(dir) => {
                let count = dir.pending.partition_point(|pending| pending.seq <= until);
                for pending in dir.pending.drain(..count) {
                    pending.change.apply(&mut dir.durable);
                    if let DirChange::RemoveMoved { added, .. } = pending.change {
                        adds.push(added);
                    }
                }
                count
            }
            Node::Gone => 0,
        };
        for added in adds {
            self.make_add_durable(added);
        }
        if self.unlinked > 64 {
            self.collect();
        }
        count as u64
    }

    /// A rename to another directory is one transaction: its adding half is durable with the removing half.
    fn make_add_durable(&mut self, added: u64) {
        for node in &mut self.nodes {
            let Node::Dir(dir) = node else { continue };
            if let Some(position) = dir.pending.iter().position(|pending| pending.seq == added) {
                let pending = dir.pending.remove(position);
                pending.change.apply(&mut dir.durable);
            }
        }
    }

    pub(super) fn mark_bad(&mut self, inode: u32, offset: u64, bytes: u64) {
        let from = offset / SECTOR_BYTES * SECTOR_BYTES;
        let to = (offset + bytes).next_multiple_of(SECTOR_BYTES);
        self.file_mut(inode).bad.push((from, to));
    }

    pub(super) fn is_bad(&self, inode: u32, offset: u64, bytes: u64) -> bool {
        self.file(inode).bad.iter().any(|(from, to)| *from < offset + bytes && offset < *to)
    }

    pub(super) fn set_evict(&mut self, inode: u32, evict: bool) {
        self.file_mut(inode).evict |= evict;
    }

    /// After a power loss: what is durable is what there is.
    pub(super) fn forget_cache(&mut self) {
        self.locks.clear();
        for node in &mut self.nodes {
            match node {
                Node::File(file) => {
                    file.pending.clear();
                    file.seen.clone_from(&file.durable);
                    (file.handles, file.links, file.evict) = (0, 0, false);
                }
                Node::Dir(dir) => {
                    dir.pending.clear();
                    dir.seen.clone_from(&dir.durable);
                }
                Node::Gone => {}
            }
        }
        let names: Vec<u32> = self.all_paths().into_iter().map(|(_, inode)| inode).collect();
        for inode in names {
            if let Node::File(file) = &mut self.nodes[inode as usize] {
                file.links += 1;
            }
        }
        self.collect();
    }

    /// Frees inodes that nothing refers to: no name seen or durable, no pending change, no handle.
    fn collect(&mut self) {
        let mut alive = BTreeSet::from([ROOT]);
        let mut queue = vec![ROOT];
        for (inode, node) in self.nodes.iter().enumerate() {
            if matches!(node, Node::File(file) if file.handles > 0) {
                alive.insert(inode as u32);
            }
        }
        while let Some(inode) = queue.pop() {
            let Node::Dir(dir) = &self.nodes[inode as usize] else { continue };
            let pending = dir.pending.iter().map(|pending| match &pending.change {
                DirChange::Add { inode, .. }
                | DirChange::Remove { inode, .. }
                | DirChange::Rename { inode, .. }
                | DirChange::RemoveMoved { inode, .. } => *inode,
            });
            let names = dir.seen.values().chain(dir.durable.values()).copied().chain(pending);
            queue.extend(names.filter(|inode| alive.insert(*inode)));
        }
        let mut used = 0;
        for (inode, node) in self.nodes.iter_mut().enumerate() {
            if !alive.contains(&(inode as u32)) {
                *node = Node::Gone;
            } else if let Node::File(file) = node {
                used += file.seen.len() as u64;
            }
        }
        (self.used, self.unlinked) = (used, 0);
    }

    /// Returns every name with its inode, sorted by path, directories too.
    pub(super) fn all_paths(&self) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let mut queue = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = queue.pop() {
            let Node::Dir(dir) = &self.nodes[inode as usize] else { continue };
            for (name, inode) in &dir.seen {
                let path = format!("{path}/{}", name.display());
                queue.push((path.clone(), *inode));
                found.push((path, *inode));
            }
        }
        found.sort_unstable();
        found
    }

    /// Returns a path of `inode`, for the eye.
    pub(crate) fn path_of(&self, inode: u32) -> String {
        if inode == ROOT {
            return "/".to_owned();
        }
        let found = self.all_paths().into_iter().find(|(_, of)| *of == inode);
        found.map_or_else(|| format!("(removed file {inode})"), |(path, _)| path)
    }

    pub(crate) fn files(&self) -> Vec<FileContent> {
        let mut files = Vec::new();
        for (path, inode) in self.all_paths() {
            if let Node::File(file) = &self.nodes[inode as usize] {
                files.push(FileContent { path, bytes: file.seen.clone(), durable: file.durable.clone() });
            }
        }
        files
    }

    pub(crate) fn state_hash(&self) -> u64 {
        let mut hash = 0;
        for (path, inode) in self.all_paths() {
            hash = mix(hash, hash64(path.as_bytes(), 0));
            if let Node::File(file) = &self.nodes[inode as usize] {
                hash = mix(mix(hash, hash64(&file.seen, 1)), hash64(&file.durable, 2));
            }
        }
        hash
    }
}

/// Keeps what `change` is about to replace in `durable`, if anybody asked for it.
fn remember(history: &mut Option<VecDeque<(u32, u64, Vec<u8>)>>, inode: u32, durable: &[u8], change: &Change) {
    let (Some(history), Change::Write { offset, bytes }) = (history, change) else { return };
    let from = *offset as usize;
    let to = (from + bytes.len()).min(from + SECTOR_BYTES as usize);
    let mut old = durable.get(from..to.min(durable.len()).max(from)).unwrap_or_default().to_vec();
    old.resize(to - from, 0);
    history.push_back((inode, *offset, old));
    if history.len() > HISTORY_MAX {
        history.pop_front();
    }
}
