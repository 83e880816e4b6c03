//! [`SkipList`]: the reference memtable.
#![allow(clippy::todo, unused_variables)]

use super::Memtable;
use crate::base::Result;
use crate::base::key::{SeqNum, Tag};
use crate::lsm::iter::InternalIterator;
use std::sync::Arc;

/// A skip list in an arena: one writer, wait-free readers.
#[derive(Default)]
pub struct SkipList {}

impl SkipList {
    /// Makes an empty list.
    pub fn new() -> SkipList {
        SkipList {}
    }
}

impl Memtable for SkipList {
    type Iter = SkipListIterator;
    fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) {
        todo!()
    }
    fn get(&self, key: &[u8], seq: SeqNum) -> Option<(Tag, &[u8])> {
        todo!()
    }
    fn iter(self: &Arc<Self>) -> SkipListIterator {
        todo!()
    }
    fn bytes(&self) -> usize {
        todo!()
    }
    fn len(&self) -> usize {
        todo!()
    }
}

/// A cursor over a [`SkipList`], which it keeps alive.
pub struct SkipListIterator {
    list: Arc<SkipList>,
}

impl InternalIterator for SkipListIterator {
    fn valid(&self) -> bool {
        todo!()
    }
    fn seek_to_first(&mut self) -> Result<()> {
        todo!()
    }
    fn seek_to_last(&mut self) -> Result<()> {
        todo!()
    }
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        todo!()
    }
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        todo!()
    }
    fn next(&mut self) -> Result<()> {
        todo!()
    }
    fn prev(&mut self) -> Result<()> {
        todo!()
    }
    fn key(&self) -> &[u8] {
        todo!()
    }
    fn tag(&self) -> Tag {
        todo!()
    }
    fn value(&self) -> &[u8] {
        todo!()
    }
}
