//! [`MergingIterator`]: several cursors as one.
#![allow(clippy::todo, unused_variables)]

use super::InternalIterator;
use crate::base::Result;
use crate::base::key::Tag;
use crate::lsm::value::Value;

/// Merges cursors into one, in internal key order.
pub struct MergingIterator {
    children: Vec<Box<dyn InternalIterator>>,
}

impl MergingIterator {
    /// Merges `children`. Where two stand on equal internal keys, the one earlier in the list comes first.
    pub fn new(children: Vec<Box<dyn InternalIterator>>) -> MergingIterator {
        MergingIterator { children }
    }
}

impl InternalIterator for MergingIterator {
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
    fn value_owned(&self) -> Value {
        todo!()
    }
}
