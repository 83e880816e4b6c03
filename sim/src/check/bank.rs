//! Checker of the bank: money moves, and is neither made nor lost.
//!
//! Some keys are accounts. An account has an amount, below zero too, and one that is absent has none; every transaction leaves
//! the sum of all amounts as it was, which is zero in the beginning.
//!
//! **Invariant.** The sum is zero in whatever one snapshot, one transaction or one recovery shows.
//!
//! **Tripped by** `txn_validation_skipped`, `txn_range_end_unrecorded`.

use crate::profile::engine::value::{KeyId, Stamp};
use std::collections::BTreeMap;

/// What is in each account that a value of this stamp says; none of those that are no accounts.
pub type Amounts = BTreeMap<(KeyId, Stamp), i64>;

/// Checks what was found of all keys at one moment.
///
/// # Errors
/// The sum is not zero.
pub fn check(found: impl IntoIterator<Item = (KeyId, Stamp)>, amounts: &Amounts) -> Result<(), String> {
    let accounts: Vec<(KeyId, i64)> =
        found.into_iter().filter_map(|entry| amounts.get(&entry).map(|amount| (entry.0, *amount))).collect();
    let sum: i64 = accounts.iter().map(|(_, amount)| amount).sum();
    if sum == 0 {
        return Ok(());
    }
    Err(format!("the accounts hold {sum} and not 0: {accounts:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_transfer_is_noticed() {
        let stamp = |step| Stamp::put(step, 20);
        let amounts = Amounts::from([((1, stamp(1)), 5), ((2, stamp(1)), -5), ((2, stamp(2)), -7)]);
        assert_eq!(check([(1, stamp(1)), (2, stamp(1)), (3, stamp(9))], &amounts), Ok(()));
        assert!(check([(1, stamp(1)), (2, stamp(2))], &amounts).is_err());
        assert!(check([(1, stamp(1))], &amounts).is_err());
    }
}
