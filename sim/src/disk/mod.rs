//! [`SimDisk`]: a disk that keeps exactly what was synced, and fails on request.
//!
//! Used by the fibers of a process through [`Disk`] and [`DiskFile`], and by the body of a run, where it neither fails nor
//! counts. What it promises is what POSIX promises and no more:
//! - a file's bytes and length survive a power loss once a sync of the file returned that began after they were written;
//! - a directory entry survives once a sync of its directory returned that began after the change;
//! - everything else is lost, kept, torn or reordered as the [`Loss`](crate::Loss) of that power loss says, down to
//!   512-byte sectors, but bytes that were durable are never damaged by a write next to them (powersafe overwrite);
//! - a rename keeps the old name or the new one, never neither;
//! - after a failed sync of a file the pages are clean but lost: a process still reads them, no later sync writes them, and a
//!   restart may or may not find them in the page cache; a directory's changes are partly written and wait for the next sync;
//! - handles follow inodes across rename and remove; a process crash keeps the page cache and gives locks back.
//!
//! **Each operation:** a switch point, then its number and delay, perhaps a crash before it, its effect (with faults), perhaps
//! a crash after it, and another switch point. A sync covers what was written before it began, and others run meanwhile.
//!
//! Sources: Pillai et al., "All File Systems Are Not Created Equal"; Rebello et al., "Can Applications Recover from fsync
//! Failures?"; SQLite's "Atomic Commit" on powersafe overwrite; TigerBeetle's `testing/storage.zig`.

mod change;
mod crash;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use state::DiskState;
pub use state::FileContent;

use crate::fault::{At, Fault};
use crate::scheduler::Reason;
use crate::trace::{Event, mix};
use crate::world::{Place, World, place};
use aidb::base::hash::hash64;
use aidb::env::{DirEntry, Disk, DiskFile, OpenMode, SyncKind};
use std::io;
use std::path::Path;

/// Linux numbers: their kinds are what a program sees on a real disk.
const EIO: i32 = 5;
const EBADF: i32 = 9;
const ENOSPC: i32 = 28;

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

fn dead() -> io::Error {
    io::Error::other("the process is gone")
}

fn hash_path(path: &Path) -> u64 {
    hash64(path.as_os_str().as_encoded_bytes(), 0)
}

/// The disk of a simulated world; see the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    incarnation: u64,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    inode: u32,
    incarnation: u64,
    writable: bool,
}

/// A locked directory of a [`SimDisk`]; given back when dropped or when its process dies.
#[derive(Debug)]
pub struct SimDirLock {
    inode: u32,
    incarnation: u64,
}

/// What a mutating operation needs to know of its faults.
struct Mutation {
    /// Its number; `None` in the body, where nothing fails.
    io: Option<u64>,
}

impl Mutation {
    /// Returns the salt of the episode without space that this operation meets.
    fn no_space(&self, world: &World) -> Option<u64> {
        world.core.borrow_mut().faults.no_space(self.io?)
    }
}

impl World {
    /// Counts a disk operation of `me` and waits for as long as it takes.
    fn begin_op(&self, me: u32) -> u64 {
        let (op, delay) = {
            let mut core = self.core.borrow_mut();
            let op = core.faults.ops;
            core.faults.ops += 1;
            let delay = core.faults.delay_ns(op);
            core.trace_faults();
            (op, delay)
        };
        if delay > 0 {
            self.block_for(me, delay, Reason::Disk);
        }
        op
    }

    fn done<T>(&self, result: io::Result<T>) -> io::Result<T> {
        self.core.borrow_mut().trace_faults();
        if let Err(error) = &result {
            let kind = error.raw_os_error().unwrap_or(error.kind() as i32 + 1000);
            self.core.borrow_mut().event_named(Event::DiskError, kind as u64, 0, || error.to_string());
        }
        result
    }
}

/// Runs a mutating operation: `begin` before its delay, `effect` after.
fn mutate<T, B>(
    incarnation: u64,
    begin: impl FnOnce(&World, Option<u32>) -> io::Result<B>,
    effect: impl FnOnce(&World, B, &Mutation) -> io::Result<T>,
) -> io::Result<T> {
    match place() {
        Place::Outside | Place::Dying => Err(dead()),
        Place::Body(world) => {
            let begun = begin(&world, None)?;
            effect(&world, begun, &Mutation { io: None })
        }
        Place::Fiber(world, me) => {
            if world.core.borrow().incarnation != incarnation {
                return Err(dead());
            }
            world.switch_point(me);
            let (io, crash) = {
                let faults = &mut world.core.borrow_mut().faults;
                let io = faults.ios;
                faults.ios += 1;
                (io, faults.crash(io))
            };
            let begun = world.done(begin(&world, Some(me)))?;
            world.begin_op(me);
            if let Some(fault @ Fault::Crash { after: false, .. }) = crash {
                world.crash_now(At::Io(io), fault);
            }
            let result = world.done(effect(&world, begun, &Mutation { io: Some(io) }));
            if let Some(fault) = crash {
                world.crash_now(At::Io(io), fault);
            }
            world.switch_point(me);
            result
        }
    }
}

/// A sync takes its time even on a disk without latency.
fn others_meanwhile(world: &World, me: Option<u32>) {
    if let Some(me) = me {
        world.switch_point(me);
    }
}

/// Runs an operation that changes nothing; `effect` gets its number, `None` in the body.
fn observe<T>(incarnation: u64, effect: impl FnOnce(&World, Option<u64>) -> io::Result<T>) -> io::Result<T> {
    match place() {
        Place::Outside | Place::Dying => Err(dead()),
        Place::Body(world) => effect(&world, None),
        Place::Fiber(world, me) => {
            if world.core.borrow().incarnation != incarnation {
                return Err(dead());
            }
            world.switch_point(me);
            let op = world.begin_op(me);
            let result = world.done(effect(&world, Some(op)));
            world.switch_point(me);
            result
        }
    }
}

impl SimDisk {
    pub(crate) fn new(incarnation: u64) -> SimDisk {
        SimDisk { incarnation }
    }

    fn file(&self, inode: u32, writable: bool) -> SimFile {
        SimFile { inode, incarnation: self.incarnation, writable }
    }

    /// Changes directories: `change` is the effect, which may meet a full disk.
    fn change(
        &self,
        event: Event,
        (first, second): (&Path, Option<&Path>),
        grows: bool,
        change: impl FnOnce(&mut DiskState) -> io::Result<u32>,
    ) -> io::Result<u32> {
        mutate(
            self.incarnation,
            |_, _| Ok(()),
            |world, (), mutation| {
                if grows && mutation.no_space(world).is_some_and(|salt| salt.is_multiple_of(2)) {
                    return Err(no_space());
                }
                let inode = change(&mut world.disk.borrow_mut())?;
                let names = mix(hash_path(first), second.map_or(0, hash_path));
                world.core.borrow_mut().event_named(event, u64::from(inode), names, || match second {
                    Some(second) => format!("{} -> {}", first.display(), second.display()),
                    None => first.display().to_string(),
                });
                Ok(inode)
            },
        )
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type DirLock = SimDirLock;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        if mode == OpenMode::CreateNew {
            let inode = self.change(Event::Open, (path, None), true, |disk| disk.create(path))?;
            return Ok(self.file(inode, true));
        }
        observe(self.incarnation, |world, _| {
            let inode = world.disk.borrow_mut().open(path)?;
            let named = || path.display().to_string();
            world.core.borrow_mut().event_named(Event::Open, u64::from(inode), mode as u64, named);
            Ok(self.file(inode, mode != OpenMode::Read))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Event::Rename, (from, Some(to)), false, |disk| disk.rename(from, to)).map(drop)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Event::Link, (from, Some(to)), true, |disk| disk.link(from, to)).map(drop)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Event::Remove, (path, None), false, |disk| disk.remove(path)).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        observe(self.incarnation, |world, _| {
            let (inode, entries) = world.disk.borrow().list(dir)?;
            let named = || dir.display().to_string();
            world.core.borrow_mut().event_named(Event::List, u64::from(inode), entries.len() as u64, named);
            Ok(entries)
        })
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if matches!(place(), Place::Outside | Place::Dying) {
            return Err(dead());
        }
        let mut missing = Vec::new();
        for ancestor in dir.ancestors() {
            let exists = match place() {
                Place::Fiber(world, _) | Place::Body(world) => world.disk.borrow().is_dir(ancestor)?,
                Place::Outside | Place::Dying => return Err(dead()),
            };
            if exists {
                if let Some(parent) = ancestor.parent() {
                    self.sync_dir(parent)?;
                }
                break;
            }
            missing.push(ancestor);
        }
        for dir in missing.into_iter().rev() {
            match self.change(Event::MakeDir, (dir, None), true, |disk| disk.make_dir(dir)) {
                // Another thread was faster.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if let Err(error) = self.sync_dir(dir.parent().unwrap_or(Path::new("/"))) {
                self.change(Event::Remove, (dir, None), false, |disk| disk.remove_dir(dir))?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        mutate(
            self.incarnation,
            |world, me| {
                let begun = world.disk.borrow_mut().begin_sync_dir(dir)?;
                others_meanwhile(world, me);
                Ok(begun)
            },
            |world, (inode, until), mutation| sync_effect(world, (inode, until), mutation, Event::SyncDir),
        )
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<SimDirLock> {
        let inode = self.change(Event::LockDir, (dir, None), false, |disk| disk.lock_dir(dir))?;
        Ok(SimDirLock { inode, incarnation: self.incarnation })
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        observe(self.incarnation, |world, _| {
            let disk = world.disk.borrow();
            disk.is_dir(dir)?;
            let capacity = world.core.borrow().faults.config.capacity_bytes;
            Ok(capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(disk.used_bytes())))
        })
    }
}

/// Completes a sync of a file or directory that covers everything up to `until`, or fails it.
fn sync_effect(world: &World, (inode, until): (u32, u64), mutation: &Mutation, event: Event) -> io::Result<()> {
    if let Some(io) = mutation.io {
        let fault = world.core.borrow_mut().faults.sync_fail(io);
        let failure = match fault {
            Some(Fault::SyncFail { no_space: full, salt }) => Some((salt, if full { no_space() } else { io_error() })),
            // Delayed allocation: the space is missed only now.
            _ => mutation.no_space(world).filter(|salt| salt.is_multiple_of(4)).map(|salt| (salt, no_space())),
        };
        if let Some((salt, error)) = failure {
            world.disk.borrow_mut().fail_sync(inode, until, salt);
            return Err(error);
        }
    }
    let count = world.disk.borrow_mut().sync(inode, until);
    let mut core = world.core.borrow_mut();
    core.event_named(event, u64::from(inode), count, || world.disk.borrow().path_of(inode));
    Ok(())
}

impl SimFile {
    /// How much of `bytes` can be written, and the error if not all.
    fn fits(&self, world: &World, bytes: u64, offset: u64, mutation: &Mutation) -> (u64, Option<io::Error>) {
        let Some(io) = mutation.io else { return (bytes, None) };
        let fail = world.core.borrow_mut().faults.write_fail(io);
        if let Some(salt) = fail {
            return (salt % (bytes + 1), Some(io_error()));
        }
        let disk = world.disk.borrow();
        let grows = (offset + bytes).saturating_sub(disk.file_bytes(self.inode));
        if grows == 0 {
            return (bytes, None);
        }
        if let Some(salt) = mutation.no_space(world) {
            return (bytes - grows.min(bytes) + salt % grows.min(bytes).max(1), Some(no_space()));
        }
        let capacity = world.core.borrow().faults.config.capacity_bytes;
        let free = capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used_bytes()));
        if grows <= free { (bytes, None) } else { (bytes.saturating_sub(grows - free), Some(no_space())) }
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        mutate(
            self.incarnation,
            |_, _| Ok(()),
            |world, (), mutation| {
                let (fitting, error) = self.fits(world, bytes.len() as u64, offset, mutation);
                let written = &bytes[..fitting as usize];
                world.disk.borrow_mut().write(self.inode, offset, written);
                let hash = hash64(written, offset);
                world.core.borrow_mut().event_named(Event::Write, u64::from(self.inode), hash, || {
                    format!("{} {} bytes at {offset}", world.disk.borrow().path_of(self.inode), written.len())
                });
                error.map_or(Ok(()), Err)
            },
        )
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        observe(self.incarnation, |world, op| {
            let wanted = bytes.len();
            let available =
                world.disk.borrow().file_bytes(self.inode).saturating_sub(offset).min(wanted as u64) as usize;
            let fault = if available == 0 { None } else { op.and_then(|op| world.core.borrow_mut().faults.read(op)) };
            let mut count = available;
            match fault {
                Some(Fault::ReadShort { salt }) => count = 1 + (salt % available as u64) as usize,
                Some(Fault::ReadError { sticky }) => {
                    if sticky {
                        world.disk.borrow_mut().mark_bad(self.inode, offset, available as u64);
                    }
                    return Err(io_error());
                }
                _ => {}
            }
            let disk = world.disk.borrow();
            if op.is_some() && disk.is_bad(self.inode, offset, count as u64) {
                return Err(io_error());
            }
            disk.read(self.inode, offset, &mut bytes[..count]);
            let place = mix(offset, count as u64);
            world.core.borrow_mut().event_named(Event::Read, u64::from(self.inode), place, || {
                format!("{} {count} of {wanted} bytes at {offset}", disk.path_of(self.inode))
            });
            Ok(count)
        })
    }

    fn sync(&self, _kind: SyncKind) -> io::Result<()> {
        mutate(
            self.incarnation,
            |world, me| {
                let begun = world.disk.borrow_mut().begin_sync(self.inode);
                others_meanwhile(world, me);
                Ok((self.inode, begun))
            },
            |world, begun, mutation| sync_effect(world, begun, mutation, Event::Sync),
        )
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        mutate(
            self.incarnation,
            |_, _| Ok(()),
            |world, (), mutation| {
                let len = world.disk.borrow().file_bytes(self.inode);
                let (fitting, error) =
                    if bytes > len { self.fits(world, bytes - len, len, mutation) } else { (0, None) };
                if let Some(error) = error {
                    let _ = fitting; // Growing is all or nothing.
                    return Err(error);
                }
                world.disk.borrow_mut().truncate(self.inode, bytes);
                world.core.borrow_mut().event_named(Event::Truncate, u64::from(self.inode), bytes, || {
                    format!("{} to {bytes} bytes", world.disk.borrow().path_of(self.inode))
                });
                Ok(())
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        match place() {
            Place::Outside | Place::Dying => Err(dead()),
            Place::Body(world) | Place::Fiber(world, _) => Ok(world.disk.borrow().file_bytes(self.inode)),
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Some(world) = crate::world::current()
            && let Ok(mut disk) = world.disk.try_borrow_mut()
        {
            disk.close(self.inode, self.incarnation);
        }
    }
}

impl Drop for SimDirLock {
    fn drop(&mut self) {
        if let Some(world) = crate::world::current()
            && let Ok(mut disk) = world.disk.try_borrow_mut()
        {
            disk.unlock_dir(self.inode, self.incarnation);
        }
    }
}
