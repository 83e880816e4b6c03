//! [`CompactionFilter`]: code of the user's that looks at values while they are compacted, and removes or changes them.

use crate::base::limits::VALUE_BYTES_MAX;
use crate::lsm::merge::sheltered;
use std::fmt;
use std::sync::Arc;

/// What becomes of a value that is compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// Its key is deleted.
    Remove,
    /// It is replaced; when it expires stays as it was. A replacement over 1 GiB counts as [`Keep`](Verdict::Keep).
    Change(Vec<u8>),
}

/// Looks at values while they are compacted.
///
/// It is shown what is compacted, when that happens: a value may be read for long before the filter sees it, and one that lies
/// in the last level already is seen again only by [`force_compaction`](crate::lsm::Engine::force_compaction). It is not shown
/// what any snapshot or transaction may read that is alive when the compaction begins, nor operands of merges, nor what expired; one
/// that is made while the compaction runs may see a value first as it was and then as the filter left it. What it decides is final, and
/// must depend on its arguments alone for a history to be replayed.
///
/// Called on background threads, without any lock. A panic in it is caught and counts as [`Verdict::Keep`].
///
/// ```
/// use aidb::lsm::{CompactionFilter, Verdict};
///
/// struct DropsEmpty;
///
/// impl CompactionFilter for DropsEmpty {
///     fn name(&self) -> &str {
///         "example.drops_empty"
///     }
///     fn filter(&self, _level: usize, _key: &[u8], value: &[u8]) -> Verdict {
///         if value.is_empty() { Verdict::Remove } else { Verdict::Keep }
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let compaction_filter = Some(std::sync::Arc::new(DropsEmpty) as std::sync::Arc<dyn CompactionFilter>);
/// let db = aidb::DB::open(dir.path(), aidb::Options { compaction_filter, ..aidb::Options::default() })?;
/// db.put("a", "")?;
/// db.force_compaction()?;
/// assert_eq!(db.get("a")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CompactionFilter: Send + Sync + 'static {
    /// Returns its name, for messages, and by which options are compared.
    fn name(&self) -> &str;

    /// Decides about `value` of `key`, which is written to `level`.
    fn filter(&self, level: usize, key: &[u8], value: &[u8]) -> Verdict;
}

impl fmt::Debug for dyn CompactionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Filters of one name are one filter.
impl PartialEq for dyn CompactionFilter {
    fn eq(&self, other: &dyn CompactionFilter) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn CompactionFilter {}

/// The filter of one compaction.
#[derive(Clone)]
pub(in crate::lsm) struct Filtering {
    pub(in crate::lsm) filter: Arc<dyn CompactionFilter>,
    /// Where the compaction writes to.
    pub(in crate::lsm) level: usize,
}

impl Filtering {
    /// Returns what becomes of a value with `more` bytes before it.
    pub(super) fn judge(&self, key: &[u8], value: &[u8], more: usize) -> Verdict {
        let verdict = sheltered(self.filter.name(), || Some(self.filter.filter(self.level, key, value)));
        match verdict {
            Some(Verdict::Change(value)) if value.len() + more > VALUE_BYTES_MAX => Verdict::Keep,
            Some(verdict) => verdict,
            None => Verdict::Keep,
        }
    }
}
