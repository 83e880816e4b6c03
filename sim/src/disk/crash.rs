//! What power losses, failed syncs and damage at rest leave of a disk.
//!
//! Each is a pure function of the state of the disk and a salt: see [`LossMode`].

use super::change::{Change, DirChange, put};
use super::state::{DiskState, Node, SECTOR_BYTES};
use crate::chooser::Salted;
use crate::config::Damage;
use crate::fault::{Fault, Loss, LossMode};
use std::collections::BTreeSet;

/// Applies the part of a write that the salt lets through, sector by sector.
fn apply_some_sectors(durable: &mut Vec<u8>, offset: u64, bytes: &[u8], garbage: bool, salted: &mut Salted) {
    let end = offset + bytes.len() as u64;
    let mut at = offset;
    while at < end {
        let next = (at + 1).next_multiple_of(SECTOR_BYTES).min(end);
        let part = &bytes[(at - offset) as usize..(next - offset) as usize];
        if salted.below(2) == 0 {
            put(durable, at, part);
        } else if garbage && salted.below(4) == 0 {
            let noise: Vec<u8> = part.iter().map(|_| salted.bits() as u8).collect();
            put(durable, at, &noise);
        }
        at = next;
    }
}

/// Lets any part of one change survive.
fn apply_partly(durable: &mut Vec<u8>, change: &Change, garbage: bool, salted: &mut Salted) {
    let Change::Write { offset, bytes } = change else {
        if salted.below(2) == 0 {
            change.apply(durable);
        }
        return;
    };
    match salted.below(8) {
        0 | 1 => change.apply(durable),
        2 | 3 => {}
        // The length is on the disk, the data is not.
        4 => {
            let end = *offset as usize + bytes.len();
            if durable.len() < end {
                durable.resize(end, 0);
            }
        }
        5 => put(durable, *offset, &bytes[..salted.below(bytes.len() as u64 + 1) as usize]),
        _ => apply_some_sectors(durable, *offset, bytes, garbage, salted),
    }
}

impl DiskState {
    /// Cuts the power; returns how many of the pending changes survived in whole or part.
    pub(crate) fn lose_power(&mut self, loss: Loss) -> u64 {
        let mut order: Vec<(u64, usize, usize)> = Vec::new();
        for (inode, node) in self.nodes.iter().enumerate() {
            match node {
                Node::File(file) => {
                    order.extend(file.pending.iter().enumerate().map(|(index, pending)| (pending.seq, inode, index)));
                }
                Node::Dir(dir) => {
                    order.extend(dir.pending.iter().enumerate().map(|(index, pending)| (pending.seq, inode, index)));
                }
                Node::Gone => {}
            }
        }
        order.sort_unstable();
        let mut salted = Salted::new(loss.salt);
        let (whole, partly) = match loss.mode {
            LossMode::All => (0, 0),
            LossMode::Nothing => (order.len(), 0),
            LossMode::Prefix => (salted.below(order.len() as u64 + 1) as usize, 1),
            LossMode::Sectors | LossMode::Garbage => (0, order.len()),
        };
        let mut lost_adds = BTreeSet::new();
        for (position, (seq, inode, index)) in order.iter().take(whole + partly).enumerate() {
            let partly = position >= whole;
            match &mut self.nodes[*inode] {
                Node::File(file) => {
                    let change = &file.pending[*index].change;
                    if !partly {
                        change.apply(&mut file.durable);
                    } else if loss.mode == LossMode::Prefix {
                        if let Change::Write { offset, bytes } = change
                            && salted.below(2) == 0
                        {
                            put(&mut file.durable, *offset, &bytes[..salted.below(bytes.len() as u64 + 1) as usize]);
                        }
                    } else {
                        apply_partly(&mut file.durable, change, loss.mode == LossMode::Garbage, &mut salted);
                    }
                }
                Node::Dir(dir) => {
                    let change = dir.pending[*index].change.clone();
                    let orphaned = matches!(change, DirChange::RemoveMoved { added, .. } if lost_adds.contains(&added));
                    let lost = partly && (loss.mode == LossMode::Prefix || salted.below(2) == 0);
                    if orphaned || lost {
                        lost_adds.insert(*seq);
                    } else {
                        change.apply(&mut dir.durable);
                    }
                }
                Node::Gone => {}
            }
        }
        // Under `All`, and behind the prefix, no removing half of a rename was applied either.
        self.forget_cache();
        (whole + partly).min(order.len()) as u64
    }

    /// Fails the sync of `inode` that began at `until`: a file's pages are clean but lost, a directory's changes still wait.
    pub(super) fn fail_sync(&mut self, inode: u32, until: u64, salt: u64) {
        let mut salted = Salted::new(salt);
        let evict = salted.below(2) == 0;
        match &mut self.nodes[inode as usize] {
            Node::File(file) => {
                let count = file.pending.partition_point(|pending| pending.seq <= until);
                for pending in file.pending.drain(..count) {
                    apply_partly(&mut file.durable, &pending.change, false, &mut salted);
                }
                self.set_evict(inode, evict);
            }
            // A journal writes changes in order and forgets none: the rest waits for the next sync.
            Node::Dir(dir) => {
                let count = dir.pending.partition_point(|pending| pending.seq <= until);
                let written = salted.below(count as u64 + 1) as usize;
                if let Some(last) = written.checked_sub(1).map(|last| dir.pending[last].seq) {
                    self.sync(inode, last);
                }
            }
            Node::Gone => {}
        }
    }

    /// Damages the disk at rest; returns whether anything changed.
    pub(crate) fn damage_at_rest(&mut self, fault: Fault) -> bool {
        let files: Vec<(String, u32)> =
            self.all_paths().into_iter().filter(|(_, inode)| self.durable_bytes(*inode) > 0).collect();
        if files.is_empty() {
            return false;
        }
        match fault {
            Fault::BitRot { salt, bits } => self.rot(&files, &mut Salted::new(salt), bits),
            Fault::Misdirected { salt } => self.misdirect(&files, &mut Salted::new(salt)),
            Fault::LostWrite { salt } => self.lose_write(&files, &mut Salted::new(salt)),
            _ => false,
        }
    }

    fn durable_bytes(&self, inode: u32) -> u64 {
        match &self.nodes[inode as usize] {
            Node::File(file) => file.durable.len() as u64,
            _ => 0,
        }
    }

    fn rot(&mut self, files: &[(String, u32)], salted: &mut Salted, bits: u8) -> bool {
        let (path, inode) = &files[salted.below(files.len() as u64) as usize];
        let offset = salted.below(self.durable_bytes(*inode));
        let bytes = (self.durable_bytes(*inode) - offset).min(64);
        let mut content = self.file(*inode).durable[offset as usize..][..bytes as usize].to_vec();
        let former = content.clone();
        for _ in 0..bits.max(1) {
            content[salted.below(bytes) as usize] ^= 1 << salted.below(8);
        }
        content != former && self.overlay((path, *inode), offset, &content, "bit rot")
    }

    fn misdirect(&mut self, files: &[(String, u32)], salted: &mut Salted) -> bool {
        let sector = |salted: &mut Salted, inode: u32, disk: &DiskState| {
            let sectors = disk.durable_bytes(inode).div_ceil(SECTOR_BYTES);
            salted.below(sectors) * SECTOR_BYTES
        };
        let (_, source) = &files[salted.below(files.len() as u64) as usize];
        let from = sector(salted, *source, self);
        let (path, target) = &files[salted.below(files.len() as u64) as usize];
        let to = sector(salted, *target, self);
        let room = (self.durable_bytes(*target) - to).min(SECTOR_BYTES);
        let bytes = (self.durable_bytes(*source) - from).min(room);
        let content = self.file(*source).durable[from as usize..][..bytes as usize].to_vec();
        self.overlay((path, *target), to, &content, "misdirected")
    }

    fn lose_write(&mut self, files: &[(String, u32)], salted: &mut Salted) -> bool {
        let history = self.history.as_ref();
        let count = history.map_or(0, std::collections::VecDeque::len) as u64;
        if count == 0 {
            return false;
        }
        let (inode, offset, old) = history.expect("counted above")[salted.below(count) as usize].clone();
        let Some((path, _)) = files.iter().find(|(_, of)| *of == inode) else { return false };
        let room = self.durable_bytes(inode).saturating_sub(offset).min(old.len() as u64);
        self.overlay((path, inode), offset, &old[..room as usize], "lost write")
    }

    /// Replaces durable and cached bytes alike; returns false if they were the same.
    fn overlay(&mut self, (path, inode): (&str, u32), offset: u64, content: &[u8], what: &str) -> bool {
        let file = self.file_mut(inode);
        let from = offset as usize;
        if content.is_empty() || file.durable[from..from + content.len()] == *content {
            return false;
        }
        put(&mut file.durable, offset, content);
        let cached = file.seen.len().saturating_sub(from).min(content.len());
        if cached > 0 {
            put(&mut file.seen, offset, &content[..cached]);
        }
        let (path, what) = (path.to_owned(), what.to_owned());
        self.damage.push(Damage { path, offset, bytes: content.len() as u64, what });
        true
    }
}
