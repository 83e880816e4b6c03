//! Stands for the other engines in a build without them.

use super::store::{Settings, Store};
use crate::Result;

/// Fails, and says how to build them.
pub fn open(_settings: &Settings<'_>) -> Result<Box<dyn Store>> {
    Err(super::HOW_TO_BUILD.into())
}
