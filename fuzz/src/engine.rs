//! The engine against a map, over a disk that crashes: the input's bytes choose the faults and then every operation.
//!
//! One client runs in a simulated world; the engine's own threads run beside it. The model keeps each state that the
//! database went through since it was last opened, and which of them are promised: after a crash the database must hold
//! exactly one state at or after the last promise, so that nothing promised is lost, no batch is halved, and what survives
//! is a prefix. While it runs, every answer must be that of the newest state.
//!
//! Used by the target `engine_ops`, and by `sim/tests/fuzz_seeds.rs` for its seeds.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | seed of the world |
//! | 1 | options: memtable, block, level sizes, compression, threads |
//! | 2 | rates: crashes in a run; failing writes and syncs; short reads |
//! | 3..5 | where the first power loss strikes, and how |
//! | 5.. | operations, one byte each with its arguments behind it; see [`Client::step`] |

use aidb::lsm::{Compression, Durability, Engine, Options, WriteBatch, WriteOptions};
use aidb_sim::{Exit, Fault, FaultConfig, FaultEvent, Loss, LossMode, Rate, SimEnv, WorldConfig, run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const HEAD_BYTES: usize = 5;
const OPERATIONS_MAX: usize = 400;
const STARTS_MAX: u64 = 12;
const KEYS: u8 = 40;
const DIR: &str = "/db";

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the database may hold.
#[derive(Default)]
struct Model {
    /// Every state since the last opening, oldest first; the last one may belong to a write that did not return.
    states: Vec<State>,
    /// The newest state whose write returned.
    acknowledged: usize,
    /// The oldest state that may be found after a process crash, and after a power loss.
    floors: [usize; 2],
    /// Whether power was lost since the last opening.
    power_lost: bool,
    /// Where the client stands in the input.
    at: usize,
    operations: usize,
    finished: bool,
}

impl Model {
    fn newest(&self) -> &State {
        &self.states[self.acknowledged]
    }

    /// Notes that the newest state's write returned with `durability`.
    fn acknowledge(&mut self, durability: Durability) {
        self.acknowledged = self.states.len() - 1;
        self.promise(durability);
    }

    fn promise(&mut self, durability: Durability) {
        if durability >= Durability::Os {
            self.floors[0] = self.acknowledged;
        }
        if durability >= Durability::Sync {
            self.floors[1] = self.acknowledged;
        }
    }

    /// Checks what an opening found, and begins anew from there.
    fn recovered(&mut self, found: State) -> Result<(), String> {
        let floor = self.floors[usize::from(self.power_lost)];
        if !self.states[floor..].contains(&found) {
            let before = self.states[..floor].contains(&found);
            let what = if before { "an older state than promised" } else { "a state that never was" };
            let range = format!("states {floor}..{}", self.states.len());
            return Err(format!("recovered {what} of {} keys; allowed were {range}", found.len()));
        }
        let Model { at, operations, finished, .. } = *self;
        *self = Model { states: vec![found], at, operations, finished, ..Model::default() };
        Ok(())
    }
}

/// Runs `input` to its end.
///
/// # Panics
/// If the engine broke a promise, panicked, or did not come back.
pub fn operations(input: &[u8]) {
    operations_with(input, None);
}

/// Runs `input` with the planted bug `bug` switched on.
///
/// # Panics
/// If the engine broke a promise, panicked, or did not come back.
pub fn operations_with(input: &[u8], bug: Option<&str>) {
    let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else { return };
    let config = WorldConfig { planted: bug.map(str::to_owned).into_iter().collect(), ..world(head) };
    let program: Rc<[u8]> = rest.into();
    let options = options(head[1]);
    let model = Rc::new(RefCell::new(Model { states: vec![State::new()], ..Model::default() }));
    let outcome = run(&config, |harness| {
        let mut starts = 0;
        while !model.borrow().finished {
            starts += 1;
            if starts > STARTS_MAX {
                harness.set_crashes(false);
                harness.set_faults(false);
            }
            let (mine, program, options) = (Rc::clone(&model), Rc::clone(&program), options.clone());
            let exit = harness.run_process(move |env| {
                let calm = starts > STARTS_MAX;
                if let Err(message) = (Client { env: env.clone(), model: mine, program, calm }).live(options) {
                    env.violation("model", message);
                }
            });
            // What a failed sync did not write may leave the page cache as if power had been lost.
            let unwritten = |event: &FaultEvent| matches!(event.fault, Fault::SyncFail { .. } | Fault::NoSpace { .. });
            let failed = harness.fired().iter().any(unwritten);
            match exit {
                Exit::Violated => return,
                Exit::Crashed { power } => model.borrow_mut().power_lost |= power || failed,
                Exit::Finished => model.borrow_mut().power_lost |= failed,
            }
        }
    });
    if let Some(violation) = outcome.violation {
        panic!("{violation}; faults that struck: {:?}", outcome.fired);
    }
}

fn world(head: &[u8; HEAD_BYTES]) -> WorldConfig {
    let [seed, _, rates, io, loss] = *head;
    let modes = [LossMode::All, LossMode::Prefix, LossMode::Sectors, LossMode::Garbage];
    let salted = Loss { mode: modes[usize::from(loss % 4)], salt: u64::from(loss >> 3) };
    let some = |bit: u8, one_in: u32| if rates & bit != 0 { Rate::one_in(one_in) } else { Rate(0) };
    let faults = FaultConfig {
        crash: some(1, 60),
        crashes_max: 4,
        crash_power_percent: if rates & 2 != 0 { 100 } else { 40 },
        write_fail: some(4, 150),
        sync_fail: some(8, 100),
        no_space: some(16, 200),
        no_space_ios_max: 20,
        read_short: some(32, 10),
        spurious_wakeup: some(64, 20),
        buggify: rates & 128 != 0,
        ..FaultConfig::default()
    };
    let also = vec![FaultEvent::power_loss(u64::from(io) * 2, loss & 4 != 0, salted)];
    WorldConfig { seed: u64::from(seed), faults, also, steps_max: 5_000_000, ..WorldConfig::default() }
}

fn options(byte: u8) -> Options {
    let pick = |bit: u8, off, on| if byte & bit != 0 { on } else { off };
    Options {
        memtable_bytes: pick(1, 4 << 10, 8 << 10),
        block_bytes: pick(2, 256, 1024),
        compression: if byte & 4 != 0 { Compression::Lz4 } else { Compression::Snappy },
        filter_bits_per_key: pick(8, 10, 0) as u8,
        l0_compaction_files: pick(16, 2, 1),
        l0_stall_files: 6,
        level_bytes_base: pick(32, 4 << 10, 16 << 10) as u64,
        level_size_multiplier: 2,
        levels_max: pick(64, 3, 2),
        table_bytes: 4 << 10,
        wal_segment_bytes: 8 << 10,
        manifest_bytes_max: 1 << 10,
        background_threads: pick(128, 1, 2),
        block_cache_bytes: 16 << 10,
        ..Options::default()
    }
}

/// The client of one incarnation. `Err` of its methods is a broken promise.
struct Client {
    env: SimEnv,
    model: Rc<RefCell<Model>>,
    program: Rc<[u8]>,
    /// No faults are left, so nothing may fail.
    calm: bool,
}

impl Client {
    fn live(&self, options: Options) -> Result<(), String> {
        let db = match Engine::open_in(self.env.clone(), DIR, options) {
            Ok(db) => db,
            Err(error) if self.calm => return Err(format!("a well disk does not open: {error}")),
            Err(error) if error.is_corruption() => return Err(format!("a crash looks like damage: {error}")),
            Err(_) => return Ok(()),
        };
        let Some(found) = self.answer(self.read_all(&db))? else { return Ok(()) };
        self.model.borrow_mut().recovered(found)?;
        loop {
            let done = {
                let model = self.model.borrow();
                model.at >= self.program.len() || model.operations >= OPERATIONS_MAX
            };
            if done {
                return self.end(&db);
            }
            self.model.borrow_mut().operations += 1;
            if self.step(&db)?.is_none() {
                // A failed write poisons the engine; a close is asked for. Either way: open again.
                return Ok(());
            }
        }
    }

    /// Passes a result on; an error ends the incarnation, but not on a well disk.
    fn answer<T>(&self, result: aidb::Result<T>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.calm => Err(format!("fails on a well disk: {error}")),
            Err(error) if error.is_corruption() => Err(format!("sees damage where there is none: {error}")),
            Err(_) => Ok(None),
        }
    }

    fn byte(&self) -> u8 {
        let mut model = self.model.borrow_mut();
        model.at += 1;
        self.program.get(model.at - 1).copied().unwrap_or(0)
    }

    fn key(&self) -> Vec<u8> {
        let number = self.byte() % KEYS;
        // Some keys are prefixes of others.
        [&b"key"[..], &vec![b'a' + number % 8; usize::from(number / 8)]].concat()
    }

    /// Does the next operation. `None` ends the incarnation.
    fn step(&self, db: &Engine<SimEnv>) -> Result<Option<()>, String> {
        let byte = self.byte();
        let durability = [Durability::Buffered, Durability::Os, Durability::Sync][usize::from(byte >> 4) % 3];
        match byte % 16 {
            0..=4 => self.write(db, 1, durability),
            5..=7 => {
                let count = self.byte() % 8 + 2;
                self.write(db, count, durability)
            }
            8 | 9 => self.get(db),
            10 => self.scan(db),
            11 => self.snapshot(db),
            12 => self.answer(db.flush()),
            13 => self.answer(db.force_compaction()),
            14 => {
                let Some(()) = self.answer(db.persist(durability))? else { return Ok(None) };
                self.model.borrow_mut().promise(durability);
                Ok(Some(()))
            }
            _ => self.close(db),
        }
    }

    /// Commits a batch of `count` operations.
    fn write(&self, db: &Engine<SimEnv>, count: u8, durability: Durability) -> Result<Option<()>, String> {
        let mut batch = WriteBatch::new();
        let mut next = self.model.borrow().newest().clone();
        for _ in 0..count {
            let (key, kind) = (self.key(), self.byte());
            if kind % 4 == 0 {
                batch.delete(&key);
                next.remove(&key);
            } else {
                let value = vec![kind; usize::from(kind / 4) * 12];
                batch.put(&key, &value);
                next.insert(key, value);
            }
        }
        self.model.borrow_mut().states.push(next);
        let written = db.write_opt(batch, WriteOptions { durability: Some(durability) });
        let Some(_) = self.answer(written)? else { return Ok(None) };
        self.model.borrow_mut().acknowledge(durability);
        Ok(Some(()))
    }

    fn get(&self, db: &Engine<SimEnv>) -> Result<Option<()>, String> {
        let key = self.key();
        let Some(value) = self.answer(db.get(&key))? else { return Ok(None) };
        let model = self.model.borrow();
        let expected = model.newest().get(&key);
        if value.as_deref() != expected.map(Vec::as_slice) {
            return Err(format!("get of {key:?} gives {value:?} instead of {expected:?}"));
        }
        Ok(Some(()))
    }

    /// Scans a range from both ends at once.
    fn scan(&self, db: &Engine<SimEnv>) -> Result<Option<()>, String> {
        let (a, b) = (self.key(), self.key());
        let (low, high) = (a.clone().min(b.clone()), a.max(b));
        let mut entries = db.scan(&low, &high);
        let expected: Vec<_> =
            self.model.borrow().newest().range(low..high).map(|(k, v)| (k.clone(), v.clone())).collect();
        let (mut front, mut back) = (0, expected.len());
        let mut turns = self.byte();
        while front <= back {
            turns = turns.rotate_left(1);
            let (from_front, entry) =
                (turns & 1 == 0, if turns & 1 == 0 { entries.next() } else { entries.next_back() });
            let Some(entry) = self.answer(entry.transpose())? else { return Ok(None) };
            let wanted = match (front < back, from_front) {
                (false, _) => None,
                (true, true) => expected.get(front),
                (true, false) => expected.get(back - 1),
            };
            let found = entry.map(|entry| (entry.key, entry.value.into_vec()));
            if found.as_ref() != wanted {
                return Err(format!("a scan gives {found:?} instead of {wanted:?}"));
            }
            match (wanted, from_front) {
                (None, _) => break,
                (Some(_), true) => front += 1,
                (Some(_), false) => back -= 1,
            }
        }
        Ok(Some(()))
    }

    /// Takes a snapshot, writes behind its back, and reads it.
    fn snapshot(&self, db: &Engine<SimEnv>) -> Result<Option<()>, String> {
        let (snapshot, expected) = (db.snapshot(), self.model.borrow().newest().clone());
        let Some(()) = self.write(db, 3, Durability::Os)? else { return Ok(None) };
        if self.byte().is_multiple_of(2) {
            let Some(()) = self.answer(db.force_compaction())? else { return Ok(None) };
        }
        let entries: aidb::Result<State> =
            snapshot.iter().map(|entry| entry.map(|entry| (entry.key, entry.value.into_vec()))).collect();
        let Some(found) = self.answer(entries)? else { return Ok(None) };
        if found != expected {
            return Err(format!("a snapshot shows {} keys instead of {}", found.len(), expected.len()));
        }
        Ok(Some(()))
    }

    fn read_all(&self, db: &Engine<SimEnv>) -> aidb::Result<State> {
        db.iter().map(|entry| entry.map(|entry| (entry.key, entry.value.into_vec()))).collect()
    }

    /// Closes; what was acknowledged is durable then.
    fn close(&self, db: &Engine<SimEnv>) -> Result<Option<()>, String> {
        let Some(()) = self.answer(db.close())? else { return Ok(None) };
        self.model.borrow_mut().promise(Durability::Sync);
        Ok(None)
    }

    /// Checks everything one last time.
    fn end(&self, db: &Engine<SimEnv>) -> Result<(), String> {
        let Some(found) = self.answer(self.read_all(db))? else { return Ok(()) };
        if &found != self.model.borrow().newest() {
            return Err("the last scan shows another state".into());
        }
        let Some(report) = self.answer(db.validate_integrity())? else { return Ok(()) };
        if !report.is_sound() && self.calm {
            return Err(format!("integrity: {report}"));
        }
        self.close(db)?;
        self.model.borrow_mut().finished = true;
        Ok(())
    }
}
