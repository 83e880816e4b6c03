//! [`State`]: which tables there are to be, by the newest MANIFEST of which anything is readable.
//!
//! - It is exact if that MANIFEST is whole and no other can be newer; then it counts as if it had been opened.
//! - Else it holds what its readable beginning says, up to the first damage: tables it names may be gone and others be there
//!   instead. Only what it says was removed is known not to be in force.

use super::report::{Lost, RepairReport};
use crate::base::Result;
use crate::env::{Env, read_file};
use crate::lsm::files::{CURRENT, manifest_name};
use crate::lsm::manifest::format::{Part, VersionEdit, decode_current, decode_file, parts};
use crate::lsm::recovery::Durable;
use crate::lsm::version::Edits;
use std::collections::BTreeSet;
use std::path::Path;

/// What MANIFESTs say.
#[derive(Default)]
pub(super) struct State {
    /// What the newest readable one leaves; `None` if there is none.
    pub(super) durable: Option<Durable>,
    pub(super) exact: bool,
    /// Tables that were removed, or belong to keyspaces that were dropped.
    pub(super) removed: BTreeSet<u64>,
    /// CURRENT is to be written again.
    pub(super) current_is_bad: bool,
}

impl State {
    /// Reads CURRENT and the MANIFESTs numbered `manifests`.
    pub(super) fn read<E: Env>(env: &E, dir: &Path, manifests: &[u64], report: &mut RepairReport) -> Result<State> {
        let mut state = State::default();
        let path = dir.join(CURRENT);
        let bytes = read_file(env.disk(), &path).map_err(|error| error.to_string());
        let current = bytes.and_then(|bytes| decode_current(&bytes).map_err(str::to_owned));
        let named = match current {
            Ok(number) => Some(number),
            Err(what) => {
                report.lost.push(Lost { file: path, what, ..Lost::default() });
                state.current_is_bad = true;
                None
            }
        };
        if let Some(number) = named
            && state.take_whole(env, dir, number)
        {
            return Ok(state);
        }
        let mut order: Vec<u64> = manifests.to_vec();
        order.sort_unstable_by_key(|number| (Some(*number) != named, std::cmp::Reverse(*number)));
        // Whatever is passed over may have been in force.
        let mut is_newest = named.is_none_or(|named| manifests.contains(&named));
        if let Some(missing) = named.filter(|_| !is_newest) {
            let what = "the manifest that CURRENT names is missing".to_owned();
            report.lost.push(Lost { file: dir.join(manifest_name(missing)), what, ..Lost::default() });
        }
        for number in order {
            if is_newest && state.take_whole(env, dir, number) {
                return Ok(state);
            }
            if state.take_beginning(env, dir, number, report) {
                break;
            }
            is_newest = false;
        }
        state.current_is_bad = true;
        state.exact = env.planted("repair_trusts_damaged_manifest") && state.durable.is_some();
        Ok(state)
    }

    /// Takes MANIFEST `number` if it is whole.
    fn take_whole<E: Env>(&mut self, env: &E, dir: &Path, number: u64) -> bool {
        let Ok(bytes) = read_file(env.disk(), &dir.join(manifest_name(number))) else { return false };
        let Ok((edits, _)) = decode_file(&bytes, number) else { return false };
        let durable = Edits::replay(&edits).ok().and_then(|edits| Durable::of(edits, number));
        self.exact = durable.is_some();
        self.removed = removed(&edits);
        self.durable = durable;
        self.exact
    }

    /// Takes what is readable of MANIFEST `number` up to the first damage, if that is anything.
    fn take_beginning<E: Env>(&mut self, env: &E, dir: &Path, number: u64, report: &mut RepairReport) -> bool {
        let path = dir.join(manifest_name(number));
        let bytes = match read_file(env.disk(), &path) {
            Ok(bytes) => bytes,
            Err(error) => {
                report.lost.push(Lost { file: path, what: error.to_string(), ..Lost::default() });
                return false;
            }
        };
        let parts = parts(&bytes, number);
        for part in &parts {
            if let Part { offset, bytes, content: Err(what) } = part {
                let what = (*what).to_owned();
                report.lost.push(Lost { file: path.clone(), offset: *offset, bytes: *bytes, what, ..Lost::default() });
            }
        }
        let mut edits: Vec<VersionEdit> =
            parts.into_iter().filter(|part| part.offset > 0).map_while(|part| part.content.ok()).collect();
        while !edits.is_empty() {
            if let Some(durable) = Edits::replay(&edits).ok().and_then(|edits| Durable::of(edits, number)) {
                self.removed = removed(&edits);
                self.durable = Some(durable);
                return true;
            }
            edits.pop();
        }
        false
    }
}

/// Returns the numbers of tables that the edits removed and did not add again.
fn removed(edits: &[VersionEdit]) -> BTreeSet<u64> {
    let mut removed = BTreeSet::new();
    let mut of: std::collections::BTreeMap<u32, BTreeSet<u64>> = std::collections::BTreeMap::new();
    for tree in edits.iter().flat_map(|edit| &edit.trees) {
        let there = of.entry(tree.keyspace).or_default();
        for (_, number) in &tree.removed {
            there.remove(number);
            removed.insert(*number);
        }
        for (_, info) in &tree.added {
            there.insert(info.file_no);
            removed.remove(&info.file_no);
        }
        if tree.dropped {
            removed.append(there);
        }
    }
    removed
}
