//! [`MergeOperator`]: how a key's value is made of operands that were written without reading it first.
//!
//! A merge writes only its operand. Reads put the value together (`iterator`), and so do flushes and compactions where that
//! changes no answer (`compaction`). Which operator made a keyspace's operands is in the MANIFEST, durably, before the first of
//! them: they mean nothing to another one.
//!
//! - The answer of a read does not depend on what was put together before. That is the operator's part: see [`MergeOperator`].
//! - An operator is called without any lock, on readers' and background threads. A panic in it is caught and counts as an
//!   operand that cannot be merged; what the operator itself keeps behind a panic is its own affair.
//! - Where operands cannot be merged they stay as they are, and reads of their key fail.
//!
//! Ready ones: [`AddI64`], [`Append`], [`Max`], [`Min`].

use super::value::Value;
use crate::base::coding::{get_u64, put_u64};
use crate::base::limits::VALUE_BYTES_MAX;
use crate::base::{Error, Result};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Bytes that the name of an operator may have.
pub const OPERATOR_NAME_BYTES_MAX: usize = 255;

/// Makes a value of a base and operands.
///
/// The result must not depend on anything but the arguments, nor on how operands are grouped: where
/// [`partial`](MergeOperator::partial) answers for two neighbours, [`full`](MergeOperator::full) must give the same with its
/// answer in their place, and merging some operands, then the others onto the result, must be as merging all of them.
///
/// ```
/// struct Largest;
///
/// impl aidb::MergeOperator for Largest {
///     fn name(&self) -> &str {
///         "example.largest"
///     }
///     fn full(&self, _key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
///         operands.iter().copied().chain(base).max().map(<[u8]>::to_vec)
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let merge_operator = Some(std::sync::Arc::new(Largest) as std::sync::Arc<dyn aidb::MergeOperator>);
/// let db = aidb::DB::open(dir.path(), aidb::Options { merge_operator, ..aidb::Options::default() })?;
/// db.merge("peak", "17")?;
/// db.merge("peak", "12")?;
/// assert_eq!(db.get("peak")?.unwrap(), b"17");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// Returns its name, 1 to 255 bytes, kept with the data: change it with what the operator does.
    fn name(&self) -> &str;

    /// Merges `operands`, at least one, the oldest first, onto `base`: the value before, if there was one.
    ///
    /// `None` says that they cannot be merged; reads of the key then fail, and the operands are kept.
    fn full(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>>;

    /// Merges two neighbouring operands into one; `None`, as by default, leaves them as they are.
    fn partial(&self, _key: &[u8], _older: &[u8], _newer: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl fmt::Debug for dyn MergeOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Operators of one name are one operator.
impl PartialEq for dyn MergeOperator {
    fn eq(&self, other: &dyn MergeOperator) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn MergeOperator {}

/// Calls code of the user's; a panic of it counts as no answer.
pub(super) fn sheltered<T>(who: &str, call: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        tracing::warn!(operator = who, "code given in the options has panicked");
        None
    })
}

/// What a keyspace's operands are merged with.
#[derive(Clone, Default)]
pub(super) struct Merger {
    /// The operator that made them; `None` if it was not given.
    pub(super) operator: Option<Arc<dyn MergeOperator>>,
    /// Its name; `None` if nothing was ever merged.
    pub(super) name: Option<Arc<str>>,
}

impl Merger {
    /// Merges `operands`, the oldest first, onto `base`; `None` if that is not possible.
    pub(super) fn try_full(&self, key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        assert!(!operands.is_empty(), "nothing to merge");
        let operator = self.operator.as_deref()?;
        let merged = sheltered(operator.name(), || operator.full(key, base, operands));
        merged.filter(|merged| merged.len() <= VALUE_BYTES_MAX)
    }

    /// Merges two neighbouring operands; `None` if that is not possible.
    pub(super) fn partial(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let operator = self.operator.as_deref()?;
        let merged = sheltered(operator.name(), || operator.partial(key, older, newer));
        merged.filter(|merged| merged.len() <= VALUE_BYTES_MAX)
    }

    /// Merges `operands`, the oldest first, onto `base`, for a reader.
    ///
    /// # Errors
    /// There is no operator, or it cannot merge them, or the value would be over 1 GiB.
    pub(super) fn full(&self, key: &[u8], base: Option<&[u8]>, operands: &[Value]) -> Result<Value> {
        let operands: Vec<&[u8]> = operands.iter().map(|operand| &operand[..]).collect();
        match self.try_full(key, base, &operands) {
            Some(merged) => Ok(merged.into()),
            None => Err(self.cannot(key, operands.len())),
        }
    }

    #[cold]
    fn cannot(&self, key: &[u8], count: usize) -> Error {
        let key = key[..key.len().min(40)].escape_ascii();
        let name = self.name.as_deref().unwrap_or_default();
        match &self.operator {
            None => Error::invalid_argument(format_args!(
                "the value of key \"{key}\" has to be merged by operator {name:?}, which was not given: set \
                 Options::merge_operator or KeyspaceOptions::merge_operator"
            )),
            Some(_) => Error::invalid_argument(format_args!(
                "merge operator {name:?} cannot merge the {count} operands of key \"{key}\" to a value of at most \
                 {VALUE_BYTES_MAX} bytes: put or delete the key, or correct the operator"
            )),
        }
    }
}

/// Adds numbers: values and operands are `i64`, 8 bytes little-endian; without a value 0 is added to.
///
/// Checked: a sum that is no `i64` cannot be read until further operands bring it back, whatever was added in between, and
/// so can nothing that was made of a value or operand of another length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddI64;

fn number(bytes: &[u8]) -> Option<i128> {
    get_u64(bytes, 0).filter(|_| bytes.len() == size_of::<i64>()).map(|number| (number as i64).into())
}

fn sum<'a>(mut numbers: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let sum = numbers.try_fold(0i128, |sum, bytes| Some(sum + number(bytes)?))?;
    let mut bytes = Vec::with_capacity(size_of::<i64>());
    put_u64(&mut bytes, i64::try_from(sum).ok()? as u64);
    Some(bytes)
}

impl MergeOperator for AddI64 {
    fn name(&self) -> &str {
        "aidb.add_i64"
    }

    fn full(&self, _key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        sum(base.into_iter().chain(operands.iter().copied()))
    }

    fn partial(&self, _key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        sum([older, newer].into_iter())
    }
}

/// Appends operands to the value, with a separator between any two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    separator: Vec<u8>,
    name: String,
}

impl Append {
    /// Returns the operator with `separator`, at most 32 bytes, which is part of its name.
    ///
    /// # Panics
    /// If the separator is longer.
    pub fn new(separator: impl AsRef<[u8]>) -> Append {
        let separator = separator.as_ref().to_vec();
        assert!(separator.len() <= 32, "a separator of {} bytes", separator.len());
        let name = format!("aidb.append \"{}\"", separator.escape_ascii());
        Append { separator, name }
    }
}

impl MergeOperator for Append {
    fn name(&self) -> &str {
        &self.name
    }

    fn full(&self, _key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        let parts = || base.into_iter().chain(operands.iter().copied());
        let bytes = parts().map(|part| part.len() + self.separator.len()).sum::<usize>();
        if bytes - self.separator.len() > VALUE_BYTES_MAX {
            return None;
        }
        let mut all = Vec::with_capacity(bytes);
        for (at, part) in parts().enumerate() {
            if at > 0 {
                all.extend_from_slice(&self.separator);
            }
            all.extend_from_slice(part);
        }
        Some(all)
    }

    fn partial(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        self.full(key, Some(older), &[newer])
    }
}

/// Keeps the largest of value and operands, compared byte by byte: numbers big-endian, for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Max;

impl MergeOperator for Max {
    fn name(&self) -> &str {
        "aidb.max"
    }

    fn full(&self, _key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        base.into_iter().chain(operands.iter().copied()).max().map(<[u8]>::to_vec)
    }

    fn partial(&self, _key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some(older.max(newer).to_vec())
    }
}

/// Keeps the smallest of value and operands, compared byte by byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Min;

impl MergeOperator for Min {
    fn name(&self) -> &str {
        "aidb.min"
    }

    fn full(&self, _key: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        base.into_iter().chain(operands.iter().copied()).min().map(<[u8]>::to_vec)
    }

    fn partial(&self, _key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some(older.min(newer).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn operators() -> Vec<Arc<dyn MergeOperator>> {
        vec![Arc::new(AddI64), Arc::new(Append::new(", ")), Arc::new(Append::new("")), Arc::new(Max), Arc::new(Min)]
    }

    proptest! {
        #[test]
        fn grouping_does_not_matter(
            base in prop::option::of(any::<i64>()),
            operands in prop::collection::vec(any::<i64>(), 1..6),
            cut in 0usize..6,
        ) {
            let bytes = |number: &i64| number.to_le_bytes().to_vec();
            let (base, operands) = (base.as_ref().map(bytes), operands.iter().map(bytes).collect::<Vec<_>>());
            let slices: Vec<&[u8]> = operands.iter().map(|operand| &operand[..]).collect();
            let cut = cut.min(slices.len());
            for operator in operators() {
                let all = operator.full(b"k", base.as_deref(), &slices);
                let (first, last) = slices.split_at(cut);
                if !first.is_empty() && !last.is_empty() {
                    // Sums may leave the range on the way; then nothing was put together.
                    if let Some(onto) = operator.full(b"k", base.as_deref(), first) {
                        prop_assert_eq!(&operator.full(b"k", Some(&onto), last), &all);
                    }
                }
                if let [first, second, rest @ ..] = &slices[..]
                    && let Some(both) = operator.partial(b"k", first, second)
                {
                    let grouped: Vec<&[u8]> = [&both[..]].into_iter().chain(rest.iter().copied()).collect();
                    prop_assert_eq!(&operator.full(b"k", base.as_deref(), &grouped), &all);
                }
            }
        }
    }

    #[test]
    fn sums_are_checked_and_appends_are_separated() {
        let max = i64::MAX.to_le_bytes();
        let one = 1i64.to_le_bytes();
        let minus_one = (-1i64).to_le_bytes();
        assert_eq!(AddI64.full(b"k", Some(&max), &[&one]), None);
        assert_eq!(AddI64.full(b"k", Some(&max), &[&one, &minus_one]), Some(max.to_vec()));
        assert_eq!(AddI64.full(b"k", None, &[b"1"]), None);
        let append = Append::new(",");
        assert_eq!(append.full(b"k", None, &[b"a", b"b"]), Some(b"a,b".to_vec()));
        assert_eq!(append.full(b"k", Some(b""), &[b"a"]), Some(b",a".to_vec()));
        assert_eq!(append.name(), "aidb.append \",\"");
    }

    #[test]
    fn a_panic_is_no_answer() {
        struct Panics;
        impl MergeOperator for Panics {
            fn name(&self) -> &str {
                "panics"
            }
            fn full(&self, _: &[u8], _: Option<&[u8]>, _: &[&[u8]]) -> Option<Vec<u8>> {
                panic!("as it does")
            }
        }
        let merger = Merger { operator: Some(Arc::new(Panics)), name: Some("panics".into()) };
        let error = merger.full(b"key", None, &[Value::from(&b"operand"[..])]).unwrap_err();
        assert!(error.to_string().contains("\"panics\" cannot merge the 1 operands of key \"key\""), "{error}");
    }
}
