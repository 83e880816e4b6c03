//! [`TableIterator`].
#![allow(clippy::todo, unused_variables)]

use super::Table;
use crate::base::Result;
use crate::base::key::Tag;
use crate::env::Env;
use crate::lsm::iter::InternalIterator;
use crate::lsm::value::Value;
use std::sync::Arc;

/// A cursor over a table, which it keeps open.
pub struct TableIterator<E: Env> {
    table: Arc<Table<E>>,
}

impl<E: Env> InternalIterator for TableIterator<E> {
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
