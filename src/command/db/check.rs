//! A scrub of everything the databases keep besides the records: counters, expiry index, layout. For tests and tools.

use super::{Databases, Db};
use crate::base::Result;
use crate::command::format::{self, Header, LAYOUT_KEY, Layout, Zone};
use crate::command::store::Store;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

impl<S: Store> Databases<S> {
    /// Compares counters, expiry index and layout with the records, alone in the databases; returns what does not agree.
    ///
    /// # Errors
    /// The store fails.
    pub fn check(&self) -> Result<Vec<String>> {
        let state = self.state.write();
        let mut wrong = Vec::new();
        let layout = self.store.get(LAYOUT_KEY)?.and_then(|bytes| Layout::decode(bytes.as_ref()));
        if layout.as_ref() != Some(&state.layout()) {
            wrong.push(format!("stored layout {layout:?} is not {:?}", state.layout()));
        }
        for (number, db) in state.dbs.iter().enumerate() {
            self.check_db(db, &mut |what| wrong.push(format!("database {number}: {what}")))?;
        }
        Ok(wrong)
    }

    fn check_db(&self, db: &Db, report: &mut dyn FnMut(String)) -> Result<()> {
        let (mut keys, mut expiring) = (0u64, BTreeSet::new());
        let (low, high) = format::epoch_range(Zone::Record, db.epoch);
        self.store.scan(&low, &high, &mut |raw, record| {
            match (format::parse_record_key(raw), Header::decode(record)) {
                (Some((position, key)), Some(header)) => {
                    keys += 1;
                    if position != format::position(key, format::key_hash(key)) {
                        report(format!("{key:?} lies at position {position}"));
                    }
                    if let Some(expiry) = header.expiry {
                        expiring.insert((expiry, position, key.to_vec()));
                    }
                }
                _ => report(format!("unknown record at {raw:?}")),
            }
            ControlFlow::Continue(())
        })?;
        let counts = (keys, expiring.len() as u64);
        if counts != db.counts() {
            report(format!("{counts:?} keys and expiries, counted {:?}", db.counts()));
        }
        if S::PERSISTENT {
            let stored = self.store.get(&format::count_key(db.epoch))?;
            let stored = stored.map_or(Some((0, 0)), |bytes| format::decode_counts(bytes.as_ref()));
            if stored != Some(counts) {
                report(format!("{counts:?} keys and expiries, stored {stored:?}"));
            }
        }
        let (low, high) = format::epoch_range(Zone::Expiry, db.epoch);
        self.store.scan(&low, &high, &mut |raw, _| {
            match format::parse_expiry_key(raw) {
                Some((expiry, position, key)) if expiring.remove(&(expiry, position, key.to_vec())) => {}
                _ => report(format!("nothing expires behind {raw:?}")),
            }
            ControlFlow::Continue(())
        })?;
        expiring.into_iter().for_each(|left| report(format!("expiry not listed: {left:?}")));
        Ok(())
    }
}
