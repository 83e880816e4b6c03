//! Work between commands: removing keys whose time has come, and what flushed databases left behind.
//!
//! The server calls [`Databases::maintain`] from its timer, each call a bounded slice; it takes key locks as a session does.
//! Nothing depends on it for correctness: due keys are gone for every reader already, and dead epochs have none.

use super::{Context, Databases, Plan};
use crate::base::Result;
use crate::command::Failure;
use crate::command::format::{self, LAYOUT_KEY, Zone};
use crate::command::store::{Store, Writes};
use std::ops::ControlFlow;

/// What one slice did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Keys removed because their time had come.
    pub expired: usize,
    /// Store entries of dead epochs removed.
    pub removed: usize,
    /// Whether the slice stopped at its limit.
    pub more: bool,
}

impl<S: Store> Databases<S> {
    /// Removes up to `limit` due keys of each database (if `expire`), and up to `limit` entries of dead epochs.
    ///
    /// # Errors
    /// The store fails; what was done before stays done.
    pub fn maintain(&self, plan: &mut Plan<S>, context: Context, expire: bool, limit: usize) -> Result<Maintained> {
        let mut done = Maintained::default();
        if expire {
            for db in 0..self.count() {
                if self.size(db).1 > 0 {
                    let expired = self.expire_due(plan, context, db, limit)?;
                    done.expired += expired;
                    done.more |= expired == limit;
                }
            }
        }
        done.removed = self.remove_dead(limit)?;
        done.more |= done.removed >= limit;
        Ok(done)
    }

    /// Removes due keys of one database, the longest due first.
    fn expire_due(&self, plan: &mut Plan<S>, context: Context, db: usize, limit: usize) -> Result<usize> {
        let epoch = self.state.read().dbs[db].epoch;
        let (low, _) = format::epoch_range(Zone::Expiry, epoch);
        let mut high = Vec::new();
        format::put_expiry_key(&mut high, epoch, context.now_ms.saturating_add(1), 0, b"");
        let mut due: Vec<Vec<u8>> = Vec::new();
        self.store.scan(&low, &high, &mut |raw, _| {
            due.push(raw.to_vec());
            if due.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let listed = |raw: &'_ [u8]| format::parse_expiry_key(raw).map(|(expiry, _, key)| (expiry, key.to_vec()));
        plan.clear();
        due.iter().filter_map(|raw| listed(raw)).for_each(|(_, key)| plan.add_key(&key));
        let mut batch = self.begin(plan, context);
        if batch.keyspace(db).epoch != epoch {
            return Ok(0);
        }
        for raw in &due {
            let Some((expiry, key)) = listed(raw) else { continue };
            batch.begin_command();
            let kept = match batch.keyspace(db).header(&key) {
                Ok(header) => header.and_then(|header| header.expiry),
                Err(Failure::Store(error)) => return Err(error),
                Err(_) => None,
            };
            if kept.is_some() && kept != Some(expiry) {
                // The key was given another time since the scan, or nothing stands behind the entry.
                batch.delete_raw(raw);
            }
        }
        batch.commit().map_err(|failure| failure.error().clone())?;
        Ok(due.len())
    }

    /// Removes entries of the first dead epoch, and the epoch from the layout when nothing is left.
    fn remove_dead(&self, limit: usize) -> Result<usize> {
        let Some(epoch) = self.state.read().dead.first().copied() else { return Ok(0) };
        let mut found: Vec<Vec<u8>> = Vec::new();
        for zone in [Zone::Record, Zone::Subkey, Zone::Expiry] {
            let (low, high) = format::epoch_range(zone, epoch);
            if found.len() < limit {
                self.store.scan(&low, &high, &mut |raw, _| {
                    found.push(raw.to_vec());
                    if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
            }
        }
        let mut writes = S::Writes::default();
        found.iter().for_each(|raw| writes.delete(raw));
        if found.len() >= limit {
            self.store.write(&mut writes)?;
            return Ok(found.len());
        }
        let mut state = self.state.write();
        let mut layout = state.layout();
        layout.dead.retain(|&dead| dead != epoch);
        writes.put(LAYOUT_KEY, &layout.encode());
        writes.delete(&format::count_key(epoch));
        self.store.write(&mut writes)?;
        state.dead = layout.dead;
        Ok(found.len())
    }
}
