//! [`Look`]: what is wrong with a directory, and what of it is to be saved. Changes nothing.

use super::report::{Lost, RepairReport};
use super::state::State;
use crate::aof::Lsn;
use crate::aof::chain::Chain;
use crate::aof::salvage::salvage;
use crate::aof::verify::verify;
use crate::aof::view::ViewChain;
use crate::base::key::SeqNum;
use crate::base::{Error, Result};
use crate::env::{Disk, Env, OpenMode};
use crate::lsm::batch::format::decode_record;
use crate::lsm::cache::BlockCache;
use crate::lsm::files::{FileKind, INCOMPLETE, LOST_DIR, WAL_DIR, parse_number, table_path};
use crate::lsm::ops::read_only::replay;
use crate::lsm::options::Options;
use crate::lsm::recovery::{Durable, Replayed};
use crate::lsm::table::salvage::Salvage;
use crate::lsm::table::{Table, TableInfo};
use crate::lsm::tree::{DEFAULT_KEYSPACE, Position};
use crate::lsm::version::{ReplayedTree, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A table that is to be saved.
pub(super) struct Saved {
    pub(super) number: u64,
    /// Where the MANIFEST says it is; counts only if that is exact.
    pub(super) level: usize,
    /// What the MANIFEST says of it.
    pub(super) info: Option<TableInfo>,
    /// The sequence number of its entries, if they are stored without.
    pub(super) seq: SeqNum,
    /// It can stay as it is.
    pub(super) is_good: bool,
}

/// A keyspace that is to be saved.
#[derive(Default)]
pub(super) struct SavedTree {
    pub(super) name: String,
    pub(super) flushed: SeqNum,
    pub(super) merge_operator: Option<String>,
    pub(super) tables: Vec<Saved>,
    /// Its tables are to be merged: their levels are not known, or break the rules.
    pub(super) merge: bool,
}

impl SavedTree {
    fn of(tree: &ReplayedTree, merge: bool) -> SavedTree {
        let (name, merge_operator) = (tree.name.clone(), tree.merge_operator.clone());
        SavedTree { name, merge_operator, merge, ..SavedTree::default() }
    }
}

/// What a look at a directory found.
pub(super) struct Look {
    pub(super) trees: BTreeMap<u32, SavedTree>,
    pub(super) next_keyspace: u32,
    /// Keyspaces below this one that are not among the trees were dropped, as the MANIFEST says.
    pub(super) known_below: u32,
    /// The latest moment of the clock by which values expire, if one is known.
    pub(super) clock: Option<u64>,
    /// No file has this number or a higher one.
    pub(super) next_file: u64,
    pub(super) position: Position,
    /// The highest sequence number met in tables and MANIFEST.
    pub(super) last_seq: SeqNum,
    /// The log is whole and goes on where the tables end.
    pub(super) log_is_good: bool,
    pub(super) current_is_bad: bool,
    pub(super) exact: bool,
    unfinished: bool,
}

impl Look {
    /// Looks at `dir`.
    pub(super) fn at<E: Env>(env: &E, dir: &Path, options: &Options, report: &mut RepairReport) -> Result<Look> {
        let entries = env.disk().list(dir).map_err(|error| Error::io("list", dir, error))?;
        let kinds: Vec<FileKind> =
            entries.iter().filter(|entry| !entry.is_dir).map(|entry| FileKind::parse(&entry.name)).collect();
        let has_log = entries.iter().any(|entry| entry.is_dir && entry.name == WAL_DIR);
        if kinds.contains(&FileKind::Incomplete) {
            let dir = dir.display();
            return Err(Error::invalid_argument(format_args!(
                "{dir} was being filled by a checkpoint or restore that did not finish (it holds {INCOMPLETE}): there is nothing to \
                 repair, do that again"
            )));
        }
        if !has_log && kinds.iter().all(|kind| *kind == FileKind::Other) {
            return Err(Error::invalid_argument(format_args!("{} holds nothing of an engine", dir.display())));
        }
        let manifests: Vec<u64> = kinds.iter().filter_map(|kind| kind.manifest()).collect();
        let mut state = State::read(env, dir, &manifests, report)?;
        let tables: BTreeSet<u64> = kinds.iter().filter_map(|kind| kind.table()).collect();
        let newest = manifests.iter().max().map_or(0, |newest| *newest);
        if state.exact && lacks_its_end(env, dir, &state, &tables, newest) {
            report.notes.push(
                "the MANIFEST lacks its end: what it names is gone, and tables are there that came after it".into(),
            );
            state.exact = env.planted("repair_trusts_damaged_manifest");
        }
        let set_aside = env.disk().list(&dir.join(LOST_DIR)).unwrap_or_default();
        let numbered = entries.iter().chain(&set_aside).filter_map(|entry| {
            let copy = || parse_number(entry.name.to_str()?.strip_prefix("CURRENT-")?);
            FileKind::parse(&entry.name).number().or_else(copy)
        });
        let highest = numbered.max().unwrap_or(0);
        let named = state.durable.as_ref().map_or(0, |durable| durable.next_file);
        let known_below = state.durable.as_ref().map_or(DEFAULT_KEYSPACE + 1, |durable| durable.next_keyspace);
        let mut look = Look {
            trees: BTreeMap::from([(DEFAULT_KEYSPACE, SavedTree::default())]),
            next_keyspace: known_below,
            known_below,
            clock: state.durable.as_ref().and_then(|durable| durable.clock),
            next_file: named.max(highest + 1),
            position: state.durable.as_ref().map(|durable| durable.position).unwrap_or_default(),
            last_seq: state.durable.as_ref().map(|durable| durable.position.seq).unwrap_or_default(),
            log_is_good: false,
            current_is_bad: state.current_is_bad,
            exact: state.exact,
            unfinished: kinds.contains(&FileKind::Repairing),
        };
        match (&state.durable, state.exact) {
            (Some(durable), true) => look.take_named(env, dir, options, durable, report)?,
            _ => look.take_all(env, dir, &state, &tables, report)?,
        }
        if let (Some(durable), true) = (state.durable, state.exact) {
            look.log_is_good = look.check_log(env, dir, options, durable);
        }
        if !look.log_is_good {
            look.describe_log(env, dir, report)?;
        }
        Ok(look)
    }

    pub(super) fn needs_repair(&self) -> bool {
        let bad = |tree: &SavedTree| tree.merge || tree.tables.iter().any(|table| !table.is_good);
        self.unfinished || self.current_is_bad || !self.exact || !self.log_is_good || self.trees.values().any(bad)
    }

    /// Takes the tables that an exact MANIFEST names.
    fn take_named<E: Env>(
        &mut self,
        env: &E,
        dir: &Path,
        options: &Options,
        durable: &Durable,
        report: &mut RepairReport,
    ) -> Result<()> {
        for (keyspace, tree) in &durable.trees {
            let mut saved = SavedTree { flushed: tree.flushed, ..SavedTree::of(tree, false) };
            let deepest = tree.tables.values().map(|(level, _)| *level + 1).max().unwrap_or(0);
            let mut levels: Vec<Vec<Arc<Table<E>>>> =
                (0..deepest.max(options.levels_max)).map(|_| Vec::new()).collect();
            for (number, (level, info)) in &tree.tables {
                let good = check_table(env, dir, *number, Some(info), report)?;
                self.last_seq = self.last_seq.max(info.seq_max);
                saved.tables.push(Saved {
                    number: *number,
                    level: *level,
                    info: Some(info.clone()),
                    seq: info.seq_max,
                    is_good: good.is_some(),
                });
                levels[*level].extend(good);
            }
            if let Some((level, a, b)) = Version::sorted(env, levels).overlap(env) {
                report.notes.push(format!(
                    "tables {a:06} and {b:06} overlap in level {level}: the keyspace's tables are merged"
                ));
                saved.merge = true;
            }
            self.last_seq = self.last_seq.max(tree.flushed);
            self.trees.insert(*keyspace, saved);
        }
        Ok(())
    }

    /// Takes every table that is not known to be removed.
    fn take_all<E: Env>(
        &mut self,
        env: &E,
        dir: &Path,
        state: &State,
        tables: &BTreeSet<u64>,
        report: &mut RepairReport,
    ) -> Result<()> {
        report.notes.push(match &state.durable {
            Some(_) => "the newest MANIFEST is damaged: all tables that its readable part does not call removed are merged by sequence \
                        number. What had been deleted and compacted since may be back, and keyspaces dropped since"
                .to_owned(),
            None => "no MANIFEST is readable: all tables are merged by sequence number. What had been deleted and compacted, while the \
                     old tables were still there, may be back, and so may keyspaces that had been dropped; nothing says any more which merge operator a keyspace has"
                .to_owned(),
        });
        let known = state.durable.iter().flat_map(|durable| &durable.trees);
        for (keyspace, tree) in known {
            self.trees.insert(*keyspace, SavedTree::of(tree, true));
            for (number, (_, info)) in tree.tables.iter().filter(|(number, _)| !tables.contains(*number)) {
                let what = "the readable part of the MANIFEST names this table, and it is not there: it was compacted since, or is lost";
                report.notes.push(format!("{}: {what}", table_path(dir, *number).display()));
                self.last_seq = self.last_seq.max(info.seq_max);
            }
        }
        for number in tables.iter().filter(|number| !state.removed.contains(number)) {
            let named = state.durable.iter().flat_map(|durable| &durable.trees);
            let of = named.filter(|(_, tree)| tree.tables.contains_key(number)).map(|(keyspace, _)| *keyspace).next();
            let good = check_table(env, dir, *number, None, report)?;
            let mut salvage = Salvage::open(env, &table_path(dir, *number), *number)?;
            if salvage.properties().is_none() {
                salvage.blocks(&mut |_, _| Ok(()))?;
            }
            self.last_seq = self.last_seq.max(salvage.footer().map_or(SeqNum(0), |footer| footer.seq_max));
            let said = salvage.properties().and_then(|properties| properties.keyspace.clone());
            let keyspace = of.or(said.as_ref().map(|(number, _)| *number)).unwrap_or(DEFAULT_KEYSPACE);
            if keyspace < self.known_below && !self.trees.contains_key(&keyspace) {
                report
                    .notes
                    .push(format!("{number:06}.sst is of keyspace {keyspace}, which was dropped: it is set aside"));
                continue;
            }
            if salvage.properties().is_none() {
                report
                    .notes
                    .push(format!("{number:06}.sst does not say its keyspace: its entries go to the default one"));
            }
            let seq = named_seq(state, *number).unwrap_or_else(|| {
                let after = salvage.properties().and_then(|properties| properties.ingested_after);
                after.map_or(SeqNum(0), |after| SeqNum(after.0 + 1))
            });
            self.last_seq = self.last_seq.max(seq);
            let info = salvage.info();
            let tree = self.tree(keyspace, said.map(|(_, name)| name));
            tree.tables.push(Saved { number: *number, level: 0, info, seq, is_good: good.is_some() });
        }
        for tree in self.trees.values_mut() {
            tree.merge = true;
        }
        Ok(())
    }

    /// Returns a keyspace, which is made under `name` if it is not known; another one's name is not given twice.
    pub(super) fn tree(&mut self, keyspace: u32, name: Option<String>) -> &mut SavedTree {
        if !self.trees.contains_key(&keyspace) {
            let wanted = name.unwrap_or_else(|| format!("keyspace-{keyspace}"));
            let is_taken = self.trees.values().any(|tree| tree.name == wanted);
            let name = if is_taken { format!("keyspace-{keyspace}") } else { wanted };
            self.next_keyspace = self.next_keyspace.max(keyspace + 1);
            self.trees.insert(keyspace, SavedTree { name, merge: true, ..SavedTree::default() });
        }
        self.trees.get_mut(&keyspace).expect("made above")
    }

    /// Returns true if the log can be opened and goes on where `durable` ends.
    fn check_log<E: Env>(&self, env: &E, dir: &Path, options: &Options, durable: Durable) -> bool {
        let wal_dir = dir.join(WAL_DIR);
        let is_missing = env.disk().list(&wal_dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let is_clean = || verify(env, &wal_dir, false).is_ok_and(|report| report.is_clean());
        if !is_missing && !is_clean() {
            return false;
        }
        let mut replayed = Replayed::new(env, &durable);
        let whole = replay(env, dir, options, &durable, &mut replayed).is_ok();
        whole && (!is_missing || durable.position.lsn == Lsn(0) && self.last_seq <= durable.position.seq)
    }

    /// Reports gaps of the log, and what may be in none of the tables because of them.
    fn describe_log<E: Env>(&self, env: &E, dir: &Path, report: &mut RepairReport) -> Result<()> {
        let wal_dir = dir.join(WAL_DIR);
        let listed = env.disk().list(&wal_dir);
        let has_segments = listed.is_ok_and(|entries| {
            entries.iter().any(|entry| Path::new(&entry.name).extension().is_some_and(|kind| kind == "log"))
        });
        if !has_segments {
            let what = "has no segments: what no table holds is lost".to_owned();
            report.lost.push(Lost { file: wal_dir, what, loses_entries: true, ..Lost::default() });
            return Ok(());
        }
        let flushed = self.flushed();
        let mut last = flushed;
        let (mut lost, mut seqs) = (Vec::new(), Vec::new());
        let gaps = salvage(env, &wal_dir, &mut |frame| {
            match decode_record(frame.payload) {
                Ok(record) => {
                    if let Some(last) = last.filter(|last| last.0 + 1 < record.first.0) {
                        seqs.push((SeqNum(last.0 + 1), SeqNum(record.first.0 - 1)));
                    }
                    let end = SeqNum(record.first.0 + u64::from(record.count) - 1);
                    last = Some(last.map_or(end, |last| last.max(end)));
                    report.log_records += 1;
                }
                Err(what) => lost.push(Lost {
                    file: wal_dir.clone(),
                    offset: frame.lsn.0,
                    what: what.to_owned(),
                    loses_entries: true,
                    ..Lost::default()
                }),
            }
            Ok(())
        })?;
        // The end is lost if tables hold what was committed behind it.
        if let Some(last) = last.filter(|last| self.exact && *last < self.last_seq) {
            seqs.push((SeqNum(last.0 + 1), self.last_seq));
        }
        report.lost.extend(lost);
        report.lost_seqs.extend(seqs);
        report.log_gaps.extend(gaps);
        Ok(())
    }

    /// Returns up to where tables are known to hold everything.
    fn flushed(&self) -> Option<SeqNum> {
        self.exact.then_some(self.position.seq)
    }
}

/// Returns true if edits of the MANIFEST are lost in such a way that it looks whole: what they took away is gone, and what they
/// brought is there.
fn lacks_its_end<E: Env>(env: &E, dir: &Path, state: &State, tables: &BTreeSet<u64>, newest: u64) -> bool {
    let Some(durable) = &state.durable else { return false };
    let named: BTreeSet<u64> = durable.trees.values().flat_map(|tree| tree.tables.keys().copied()).collect();
    // What is older than the newest MANIFEST and not named was not needed any more.
    let came_after = |number: &u64| *number > newest && !named.contains(number) && !state.removed.contains(number);
    if !tables.iter().any(came_after) {
        return false;
    }
    let first = ViewChain::open(env.clone(), &dir.join(WAL_DIR), None).and_then(|log| log.first());
    !named.is_subset(tables) || first.is_ok_and(|first| first.lsn > durable.position.lsn)
}

/// Returns the newest sequence number of table `number`, as the readable part of the MANIFEST says.
fn named_seq(state: &State, number: u64) -> Option<SeqNum> {
    let trees = state.durable.iter().flat_map(|durable| durable.trees.values());
    trees.filter_map(|tree| tree.tables.get(&number)).map(|(_, info)| info.seq_max).next()
}

/// Returns table `number` if it is whole and what `info` says, and reports what is wrong with it.
fn check_table<E: Env>(
    env: &E,
    dir: &Path,
    number: u64,
    info: Option<&TableInfo>,
    report: &mut RepairReport,
) -> Result<Option<Arc<Table<E>>>> {
    let path = table_path(dir, number);
    match env.disk().open(&path, OpenMode::Read) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "the table is missing".to_owned();
            let keys =
                info.map(|info| (Some(info.smallest.0.clone()), Some(info.largest.0.clone()))).unwrap_or_default();
            let bytes = info.map_or(0, |info| info.file_bytes);
            report.lost.push(Lost { file: path, bytes, what, keys, loses_entries: true, ..Lost::default() });
            return Ok(None);
        }
        // Nothing is known of the file then; too many open files are no damage.
        Err(error) => return Err(Error::io("open", &path, error)),
    }
    let opened = Table::open(env, &path, number, BlockCache::new(0));
    let opened = opened.map(|table| table.with_seq(info.map_or(SeqNum(0), |info| info.seq_max)));
    let checked = opened.and_then(|table| table.verify().map(|_| table));
    let error = match checked {
        Ok(table) if info.is_none_or(|info| table.info() == info) => return Ok(Some(Arc::new(table))),
        Ok(_) => Error::corruption(&path, 0, "the table's properties are not those in its manifest"),
        Err(error) => error,
    };
    let mut salvage = Salvage::open(env, &path, number)?;
    salvage.blocks(&mut |_, _| Ok(()))?;
    let problems = salvage.problems().iter().map(|problem| Lost {
        file: path.clone(),
        offset: problem.offset,
        bytes: problem.bytes,
        what: problem.what.clone(),
        loses_entries: problem.loses_entries,
        keys: (problem.after.clone(), problem.before.clone()),
    });
    let before = report.lost.len();
    report.lost.extend(problems);
    if report.lost.len() == before {
        report.lost.push(Lost { file: path, what: error.to_string(), ..Lost::default() });
    }
    Ok(None)
}
