//! Changes of files and directories that are not durable yet, and how they apply.
//!
//! **Invariant:** applying a change to an image that holds it already, or never held what it removes, is harmless: any subset of
//! changes may survive a power loss, in order.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// A change of a file that is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) seq: u64,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { bytes: u64 },
}

/// A change of a directory that is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct DirPending {
    pub(super) seq: u64,
    pub(super) change: DirChange,
}

#[derive(Clone, Debug)]
pub(super) enum DirChange {
    Add {
        name: OsString,
        inode: u32,
    },
    Remove {
        name: OsString,
        inode: u32,
    },
    /// Within one directory: atomic.
    Rename {
        from: OsString,
        to: OsString,
        inode: u32,
    },
    /// The removing half of a rename to another directory; never durable without the adding half, `added`.
    RemoveMoved {
        name: OsString,
        inode: u32,
        added: u64,
    },
}

impl Change {
    /// Applies this to `image`; `old` is told what was there before.
    pub(super) fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => put(image, *offset, bytes),
            Change::Truncate { bytes } => image.resize(*bytes as usize, 0),
        }
    }
}

/// Writes `bytes` at `offset` of `image`, growing it with zeros.
pub(super) fn put(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    if image.len() == offset {
        image.extend_from_slice(bytes);
        return;
    }
    if bytes.is_empty() {
        return;
    }
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl DirChange {
    /// Applies this to `entries`.
    pub(super) fn apply(&self, entries: &mut BTreeMap<OsString, u32>) {
        match self {
            DirChange::Add { name, inode } => {
                entries.insert(name.clone(), *inode);
            }
            DirChange::Remove { name, inode } | DirChange::RemoveMoved { name, inode, .. } => {
                if entries.get(name) == Some(inode) {
                    entries.remove(name);
                }
            }
            DirChange::Rename { from, to, inode } => {
                if entries.get(from) == Some(inode) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *inode);
            }
        }
    }
}
