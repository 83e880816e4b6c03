//! [`WideIterator`]: walks the wide memtable in both directions.
//!
//! Owned by one thread at a time. It stands on an entry, and remembers the leaf and the order in which it found it. Before
//! each step it looks whether the leaf has changed since: a longer order gives the entry a new position, a replaced leaf
//! makes it seek. So a step sees every entry whose insert returned before it began.
//!
//! The entries of a leaf lie anywhere in the arena. A step into a leaf asks for all of them at once, and for the next leaf.
#![expect(unsafe_code, reason = "a pointer to an entry is good as long as its table is held")]

use super::node::{Count, Entry, Header, Target};
use super::{Found, WideTable};
use crate::base::Result;
use crate::base::key::Tag;
use crate::lsm::iter::InternalIterator;
use std::sync::Arc;

/// A cursor over a [`WideTable`], which it keeps alive.
pub struct WideIterator {
    table: Arc<WideTable>,
    stand: Option<Stand>,
}

/// Where a cursor stands.
#[derive(Clone, Copy)]
struct Stand {
    found: Found,
    entry: *const Header,
}

// SAFETY: the entry belongs to `table`, which the cursor keeps alive and which may be read from any thread.
unsafe impl Send for WideIterator {}

impl WideIterator {
    pub(super) fn new(table: &Arc<WideTable>) -> WideIterator {
        WideIterator { table: table.clone(), stand: None }
    }

    #[inline]
    fn entry(&self) -> Entry<'_> {
        let stand = self.stand.as_ref().expect("the cursor stands on an entry");
        // SAFETY: the pointer was taken from an entry of `table`, which is held as long as the cursor is borrowed.
        unsafe { Entry::from_header(stand.entry) }
    }

    #[inline]
    fn stand_on(&mut self, found: Option<Found>) {
        self.stand = found.map(|found| {
            let leaf = self.table.store.leaf(found.leaf);
            Stand { found, entry: self.table.entry(&leaf.keys, found.order, found.position).header() }
        });
    }

    /// Asks for what the next steps forwards will read, having come to a leaf.
    fn look_ahead(&self, found: Found) {
        let leaf = self.table.store.leaf(found.leaf);
        for at in found.position + 1..found.order.len() {
            self.table.store.prefetch_entry(leaf.keys.entry(found.order, at));
        }
        if let Some(next) = leaf.next() {
            self.table.store.prefetch_node(next.place());
        }
    }

    /// Returns where the current entry is now, or `None` if its leaf was replaced.
    #[inline]
    fn here(&self, mut found: Found) -> Option<Found> {
        let order = self.table.store.leaf(found.leaf).keys.order();
        if order != found.order {
            if order.is_replaced() {
                return None;
            }
            found.position = order.position(found.order.slot(found.position));
            found.order = order;
        }
        Some(found)
    }

    /// Finds the entry after the current one, which was found in `found`.
    #[inline]
    fn after(&self, found: Found) -> Option<Found> {
        let here = match self.here(found) {
            Some(here) => here,
            None => {
                let entry = self.entry();
                let found = self.table.at_or_after(&Target { key: entry.key(), tag: entry.tag() })?;
                assert!(self.is_current(found), "an entry is where it was inserted");
                found
            }
        };
        if here.position + 1 < here.order.len() {
            return Some(Found { position: here.position + 1, ..here });
        }
        let leaf = self.table.store.leaf(here.leaf).next()?;
        let order = self.table.store.leaf(leaf).keys.order();
        let found = Found { leaf, order, position: 0 };
        self.look_ahead(found);
        Some(found)
    }

    fn is_current(&self, found: Found) -> bool {
        let leaf = self.table.store.leaf(found.leaf);
        self.stand.is_some_and(|stand| {
            std::ptr::eq(stand.entry, self.table.entry(&leaf.keys, found.order, found.position).header())
        })
    }

    fn before(&self, found: Found) -> Option<Found> {
        if let Some(here) = self.here(found)
            && let Some(position) = here.position.checked_sub(1)
        {
            return Some(Found { position, ..here });
        }
        let entry = self.entry();
        self.table.last_before(&Target { key: entry.key(), tag: entry.tag() }, Count::Before)
    }
}

impl InternalIterator for WideIterator {
    fn valid(&self) -> bool {
        self.stand.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.stand_on(self.table.first());
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.stand_on(self.table.last());
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.stand_on(self.table.at_or_after(&Target { key, tag }));
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.stand_on(self.table.last_before(&Target { key, tag }, Count::UpTo));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Some(stand) = self.stand {
            self.stand_on(self.after(stand.found));
        }
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if let Some(stand) = self.stand {
            self.stand_on(self.before(stand.found));
        }
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.entry().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.entry().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.entry().value()
    }
}
