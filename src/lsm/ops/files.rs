//! Files given a second name or copied, for the operations of this room.

use crate::base::{Error, Result};
use crate::env::{Disk, DiskFile, Env, OpenMode, SyncKind};
use std::io;
use std::path::Path;

/// Bytes copied at once.
const PIECE_BYTES: u64 = 1 << 20;

/// How a file came to its second place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    Linked,
    Copied,
}

/// Gives the immutable and durable file `from` of `bytes` the second name `to`, or copies it where the file system has no
/// links between the two.
///
/// # Durability
/// The bytes are durable, the name once its directory is synced.
pub(super) fn link_or_copy<E: Env>(env: &E, from: &Path, to: &Path, bytes: u64) -> Result<Shared> {
    let linked = match env.buggify("lsm.link_refused") {
        true => Err(io::ErrorKind::CrossesDevices.into()),
        false => env.disk().link(from, to),
    };
    match linked {
        Ok(()) => Ok(Shared::Linked),
        Err(error) if is_refusal(&error) => copy(env, from, to, bytes, &mut |_| ()).map(|()| Shared::Copied),
        Err(error) => Err(Error::io("link a table to", to, error)),
    }
}

/// Returns true if the file system cannot link these two, whatever one does.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

/// Copies the first `bytes` of `from` to `to`, which must not exist, syncs them, and shows them to `see` on the way.
pub(super) fn copy<E: Env>(env: &E, from: &Path, to: &Path, bytes: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
    let target = env.disk().open(to, OpenMode::CreateNew).map_err(|error| Error::io("create", to, error))?;
    let mut at = 0;
    read_pieces(env, from, bytes, &mut |piece| {
        see(piece);
        target.write_at(piece, at).map_err(|error| Error::io("write", to, error))?;
        at += piece.len() as u64;
        Ok(())
    })?;
    if env.planted("checkpoint_copy_not_synced") {
        return Ok(());
    }
    target.sync(SyncKind::All).map_err(|error| Error::io("sync", to, error))
}

/// Reads the first `bytes` of `path` in pieces.
pub(super) fn read_pieces<E: Env>(
    env: &E,
    path: &Path,
    bytes: u64,
    see: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let source = env.disk().open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
    let mut piece = vec![0; bytes.min(PIECE_BYTES) as usize];
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(PIECE_BYTES) as usize;
        source.read_exact_at(&mut piece[..count], at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::corruption(path, at, format_args!("the file ends before its {bytes} bytes"))
            }
            _ => Error::io("read", path, error),
        })?;
        see(&piece[..count])?;
        at += count as u64;
    }
    Ok(())
}
