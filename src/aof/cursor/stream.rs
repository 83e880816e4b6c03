//! A cursor as a [`Stream`]: [`CursorStream`], for any executor.
//!
//! Reading blocks the polling thread as file reads do; waiting at the visible end does not. The task enters its waker in
//! the log's watch, then looks once more, so that no growth is missed.

use super::super::watch::WakerKey;
use super::*;
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Yields the records of a [`Cursor`].
///
/// Over a log that another process writes there is nothing that could wake a task: the stream ends where a cursor that does
/// not follow would.
#[derive(Debug)]
pub struct CursorStream<E: Env> {
    cursor: Cursor<E>,
    key: WakerKey,
}

impl<E: Env> Unpin for CursorStream<E> {}

impl<E: Env> CursorStream<E> {
    pub(super) fn new(cursor: Cursor<E>) -> CursorStream<E> {
        CursorStream { cursor, key: WakerKey::default() }
    }

    fn poll(&mut self) -> Result<Next> {
        match self.cursor.prepare()? {
            Next::Nothing(seen) if self.cursor.follow => match self.cursor.chain.is_open() {
                Ok(true) => Ok(Next::Nothing(seen)),
                Ok(false) => Ok(Next::Ended),
                Err(error) => Err(self.cursor.failed(error)),
            },
            Next::Nothing(_) | Next::Ended => Ok(Next::Ended),
            Next::Record => Ok(Next::Record),
        }
    }

    fn show(&mut self) -> Poll<Option<Result<Record>>> {
        Poll::Ready(Some(Ok(self.cursor.show().to_record())))
    }
}

impl<E: Env> Stream for CursorStream<E> {
    type Item = Result<Record>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        let this = self.get_mut();
        for looked_again in [false, true] {
            match this.poll() {
                Ok(Next::Record) => return this.show(),
                Ok(Next::Ended) => return Poll::Ready(None),
                Ok(Next::Nothing(_)) if looked_again => return Poll::Pending,
                Ok(Next::Nothing(_)) => match this.cursor.chain.watch() {
                    Some(watch) => watch.enter(&mut this.key, context.waker()),
                    None => return Poll::Ready(None),
                },
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Pending
    }
}

impl<E: Env> Drop for CursorStream<E> {
    fn drop(&mut self) {
        if let Some(watch) = self.cursor.chain.watch() {
            watch.leave(&mut self.key);
        }
    }
}
