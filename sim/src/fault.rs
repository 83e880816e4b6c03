//! What can go wrong, when, and how a run is told so.
//!
//! A fault is a pure function of (seed, kind, index): the index counts mutating disk operations, all disk operations, restarts or
//! readings of the wall clock ([`At`]). No fault draws from a shared stream, so taking one away leaves the others where they are,
//! and a failing run shrinks. Every fault that had an effect is recorded in [`crate::Outcome::fired`] as a [`FaultEvent`];
//! a run driven by [`FaultPlan::Explicit`] with that list is the same run.
//!
//! Built by the campaign (usually with [`FaultConfig::swarm`]), read by the world on its own thread.

use crate::archive::RemoteOp;
use crate::chooser::{Salted, roll, roll_at};
use crate::config::WorldConfig;
use crate::trace::mix;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A chance in parts per million; 0 switches the fault off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate(pub u32);

impl Rate {
    /// One in `n`.
    pub const fn one_in(n: u32) -> Rate {
        Rate(if n == 0 { 0 } else { 1_000_000u32.div_ceil(n) })
    }

    /// Returns whether the uniform 64-bit number `roll` falls within this chance.
    #[inline]
    pub fn hits(self, roll: u64) -> bool {
        self.0 != 0 && (u128::from(roll) * 1_000_000) >> 64 < u128::from(self.0)
    }
}

/// Where in a run a fault strikes. Indices count over the whole run, across restarts, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum At {
    /// The n-th mutating disk operation: create, write, truncate, sync, rename, link, remove, mkdir, directory sync.
    Io(u64),
    /// The n-th disk operation of any kind.
    Op(u64),
    /// Before the n-th restart of the process (the first restart is 0).
    Restart(u64),
    /// The n-th reading of the wall clock.
    WallRead(u64),
    /// The n-th operation of the archive.
    Remote(u64),
}

/// What a power loss leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossMode {
    /// Everything that was not synced is gone.
    All,
    /// Nothing is gone: the system wrote back just in time.
    Nothing,
    /// The operations up to some moment survive, over all files and directories; the last one may be torn at any byte.
    Prefix,
    /// Any subset of 512-byte sectors and of directory operations survives, in any order.
    Sectors,
    /// Like `Sectors`, and some of the lost sectors hold garbage instead of their old content.
    Garbage,
}

/// The outcome of one power loss: how, and a salt that decides the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// What kind of loss.
    pub mode: LossMode,
    /// Decides which sectors, which bytes, which prefix.
    pub salt: u64,
}

impl Loss {
    /// Everything that was not synced is gone.
    pub const ALL: Loss = Loss { mode: LossMode::All, salt: 0 };
}

/// One fault with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The process dies; with `power` the page cache goes too. At [`At::Io`].
    Crash {
        /// True for a power loss, false for a process crash, which keeps the page cache.
        power: bool,
        /// True if the operation still took effect.
        after: bool,
        /// What is left on the disk, for a power loss.
        loss: Loss,
    },
    /// A sync of a file or directory fails; its pages are then clean but lost. At [`At::Io`].
    SyncFail {
        /// True if the error is "no space" (delayed allocation), false for an I/O error.
        no_space: bool,
        /// Decides which sectors reached the disk all the same.
        salt: u64,
    },
    /// A write fails with an I/O error after a part of it. At [`At::Io`].
    WriteFail {
        /// Decides how much was written.
        salt: u64,
    },
    /// From here on, the disk has no space for `ios` mutating operations; the first write is short. At [`At::Io`].
    NoSpace {
        /// How many mutating operations it lasts.
        ios: u64,
        /// Decides how much of each write fits.
        salt: u64,
    },
    /// A read fails. At [`At::Op`].
    ReadError {
        /// True if these sectors stay unreadable until they are written again.
        sticky: bool,
    },
    /// A read returns fewer bytes than asked, at least one. At [`At::Op`].
    ReadShort {
        /// Decides how many.
        salt: u64,
    },
    /// An operation hangs. At [`At::Op`].
    Stall {
        /// For how long, in simulated nanoseconds.
        ns: u64,
    },
    /// Bits flip in a file at rest. At [`At::Restart`].
    BitRot {
        /// Decides file and place.
        salt: u64,
        /// How many bits flip, within 64 bytes.
        bits: u8,
    },
    /// A sector's content lands on another sector too. At [`At::Restart`].
    Misdirected {
        /// Decides which.
        salt: u64,
    },
    /// A sector that was synced holds its former content, or zeros. At [`At::Restart`].
    LostWrite {
        /// Decides which.
        salt: u64,
    },
    /// The wall clock jumps. At [`At::WallRead`].
    WallStep {
        /// How far, in microseconds, in either direction.
        micros: i64,
    },
    /// The archive does nothing and says so. At [`At::Remote`], as all that follow.
    RemoteFail,
    /// The archive does what it is asked, and the answer is lost.
    RemoteLost,
    /// A put or delete is said to have failed and is done later, perhaps after a restart.
    RemoteLate {
        /// Behind how many further operations of the archive.
        after: u64,
    },
    /// A put is told that the object exists (409, 412).
    RemoteConflict {
        /// True if it then does, with other bytes; false if nothing was done.
        foreign: bool,
        /// Decides the other bytes.
        salt: u64,
    },
    /// A put stores other bytes than it was given.
    RemoteDamaged {
        /// Decides which.
        salt: u64,
    },
    /// An object is gone for good when it is looked at.
    RemoteGone,
    /// An object is damaged for good when it is read.
    RemoteRot {
        /// Decides which bytes.
        salt: u64,
    },
    /// An operation of the archive hangs.
    RemoteStall {
        /// For how long, in simulated nanoseconds.
        ns: u64,
    },
}

/// A fault and where it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultEvent {
    /// Where.
    pub at: At,
    /// What.
    pub fault: Fault,
}

impl FaultEvent {
    /// A power loss at mutating operation `io`, before or after its effect.
    pub const fn power_loss(io: u64, after: bool, loss: Loss) -> FaultEvent {
        FaultEvent { at: At::Io(io), fault: Fault::Crash { power: true, after, loss } }
    }

    /// Returns a number that differs for different events.
    pub(crate) fn hash(&self) -> u64 {
        let at = match self.at {
            At::Io(index) => (1, index),
            At::Op(index) => (2, index),
            At::Restart(index) => (3, index),
            At::WallRead(index) => (4, index),
            At::Remote(index) => (5, index),
        };
        let what = match self.fault {
            Fault::Crash { power, after, loss } => {
                (10 + u64::from(power) * 2 + u64::from(after), loss.salt ^ loss.mode as u64)
            }
            Fault::SyncFail { no_space, salt } => (20 + u64::from(no_space), salt),
            Fault::WriteFail { salt } => (30, salt),
            Fault::NoSpace { ios, salt } => (40, salt ^ ios),
            Fault::ReadError { sticky } => (50, u64::from(sticky)),
            Fault::ReadShort { salt } => (60, salt),
            Fault::Stall { ns } => (70, ns),
            Fault::BitRot { salt, bits } => (80, salt ^ u64::from(bits)),
            Fault::Misdirected { salt } => (90, salt),
            Fault::LostWrite { salt } => (100, salt),
            Fault::WallStep { micros } => (110, micros as u64),
            Fault::RemoteFail => (120, 0),
            Fault::RemoteLost => (130, 0),
            Fault::RemoteLate { after } => (140, after),
            Fault::RemoteConflict { foreign, salt } => (150 + u64::from(foreign), salt),
            Fault::RemoteDamaged { salt } => (160, salt),
            Fault::RemoteGone => (170, 0),
            Fault::RemoteRot { salt } => (180, salt),
            Fault::RemoteStall { ns } => (190, ns),
        };
        [at.0, at.1, what.0, what.1].into_iter().fold(0, mix)
    }

    /// A process crash at mutating operation `io`, before or after its effect: the page cache stays.
    pub const fn process_crash(io: u64, after: bool) -> FaultEvent {
        FaultEvent { at: At::Io(io), fault: Fault::Crash { power: false, after, loss: Loss::ALL } }
    }
}

/// Where the fault events of a run come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultPlan {
    /// From the seed, with the rates of [`FaultConfig`].
    Seeded,
    /// Exactly these, and no rate of [`FaultConfig`] applies. [`crate::Outcome::fired`] of another run, or hand-written.
    Explicit(Vec<FaultEvent>),
}

/// The rates of fault events and the standing conditions of a run. `Default` is a calm world: no fault at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultConfig {
    // Rates: apply under `FaultPlan::Seeded` only.
    /// A crash, for each mutating operation.
    pub crash: Rate,
    /// How many crashes at most in a run.
    pub crashes_max: u64,
    /// How many of 100 crashes are power losses; the others keep the page cache.
    pub crash_power_percent: u8,
    /// The modes of loss to choose from; empty stands for all of them.
    pub loss_modes: Vec<LossMode>,
    /// A failing sync, for each sync of a file or directory.
    pub sync_fail: Rate,
    /// A failing write, for each write.
    pub write_fail: Rate,
    /// An episode without space, for each mutating operation.
    pub no_space: Rate,
    /// How long such an episode lasts at most, in mutating operations.
    pub no_space_ios_max: u64,
    /// A failing read, for each read.
    pub read_error: Rate,
    /// How many of 100 failing reads stay so.
    pub read_error_sticky_percent: u8,
    /// A short read, for each read.
    pub read_short: Rate,
    /// Flipped bits, for each restart.
    pub bit_rot: Rate,
    /// A misdirected write, for each restart.
    pub misdirected: Rate,
    /// A lost write, for each restart.
    pub lost_write: Rate,
    /// A stall, for each disk operation.
    pub stall: Rate,
    /// The longest stall, in simulated nanoseconds.
    pub stall_ns_max: u64,
    /// A step of the wall clock, for each reading.
    pub wall_step: Rate,
    /// The largest step, in microseconds.
    pub wall_step_us_max: u64,
    /// An operation of the archive that fails and does nothing.
    pub remote_fail: Rate,
    /// An operation of the archive whose answer is lost.
    pub remote_lost: Rate,
    /// A put or delete that lands late.
    pub remote_late: Rate,
    /// A put that is told that its object exists.
    pub remote_conflict: Rate,
    /// A put that stores other bytes.
    pub remote_damaged: Rate,
    /// An object that is gone, for each look at one.
    pub remote_gone: Rate,
    /// An object that is damaged, for each read of one.
    pub remote_rot: Rate,
    /// A stall of the archive, for each operation.
    pub remote_stall: Rate,

    // Conditions: apply under every plan.
    /// The latency of a disk operation is uniform up to this many nanoseconds; 0 for none.
    pub latency_ns_max: u64,
    /// The latency of an operation of the archive is uniform up to this many nanoseconds; 0 for none.
    pub remote_latency_ns_max: u64,
    /// How many bytes the disk holds; `None` for no limit. Removing files gives space back.
    pub capacity_bytes: Option<u64>,
    /// A wake-up without a notification, for each wait on a condition variable.
    pub spurious_wakeup: Rate,
    /// How much faster (or slower) the wall clock runs, in parts per million.
    pub wall_drift_ppm: i32,
    /// Whether [`aidb::env::Env::buggify`] sites may fire.
    pub buggify: bool,
}

/// One seed for each kind of fault, so that their rolls are independent.
#[derive(Clone, Copy, Debug)]
struct Sites {
    crash: u64,
    sync_fail: u64,
    write_fail: u64,
    no_space: u64,
    read_error: u64,
    read_short: u64,
    bit_rot: u64,
    misdirected: u64,
    lost_write: u64,
    stall: u64,
    wall_step: u64,
    latency: u64,
    spurious: u64,
    notify: u64,
    remote: [u64; 8],
    remote_latency: u64,
}

/// The faults of one run: decides, counts, and records what fired.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) config: FaultConfig,
    seeded: bool,
    /// False while the body wants a process that lives.
    pub(crate) crashes_on: bool,
    /// False while the body wants a disk that is well.
    pub(crate) faults_on: bool,
    listed: BTreeMap<At, Vec<Fault>>,
    sites: Sites,
    pub(crate) ios: u64,
    pub(crate) ops: u64,
    pub(crate) restarts: u64,
    pub(crate) crashes: u64,
    wall_reads: u64,
    remote_ops: u64,
    waits: u64,
    notifications: u64,
    no_space_until: u64,
    no_space_salt: u64,
    pub(crate) fired: Vec<FaultEvent>,
}

impl Faults {
    pub(crate) fn new(config: &WorldConfig) -> Faults {
        let site = |name: &str| roll(config.seed, name, 0);
        let mut listed: BTreeMap<At, Vec<Fault>> = BTreeMap::new();
        let explicit: &[FaultEvent] = match &config.plan {
            FaultPlan::Seeded => &[],
            FaultPlan::Explicit(events) => events,
        };
        for event in explicit.iter().chain(&config.also) {
            listed.entry(event.at).or_default().push(event.fault);
        }
        Faults {
            config: config.faults.clone(),
            seeded: config.plan == FaultPlan::Seeded,
            crashes_on: true,
            faults_on: true,
            listed,
            sites: Sites {
                crash: site("crash"),
                sync_fail: site("sync fail"),
                write_fail: site("write fail"),
                no_space: site("no space"),
                read_error: site("read error"),
                read_short: site("read short"),
                bit_rot: site("bit rot"),
                misdirected: site("misdirected"),
                lost_write: site("lost write"),
                stall: site("stall"),
                wall_step: site("wall step"),
                latency: site("latency"),
                spurious: site("spurious"),
                notify: site("notify"),
                remote: std::array::from_fn(|kind| roll(config.seed, "remote", kind as u64)),
                remote_latency: site("remote latency"),
            },
            ios: 0,
            ops: 0,
            restarts: 0,
            crashes: 0,
            wall_reads: 0,
            remote_ops: 0,
            waits: 0,
            notifications: 0,
            no_space_until: 0,
            no_space_salt: 0,
            fired: Vec::new(),
        }
    }

    fn listed(&self, at: At, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        if self.listed.is_empty() || !self.faults_on {
            None
        } else {
            self.listed.get(&at)?.iter().copied().find(wanted)
        }
    }

    fn hits(&self, rate: Rate, site: u64, index: u64) -> bool {
        self.seeded && self.faults_on && rate.0 != 0 && rate.hits(roll_at(site, index))
    }

    /// Records that a fault had an effect.
    pub(crate) fn fire(&mut self, at: At, fault: Fault) -> Fault {
        self.fired.push(FaultEvent { at, fault });
        fault
    }

    /// Returns the crash at mutating operation `io`, if there is one. The caller fires it.
    pub(crate) fn crash(&self, io: u64) -> Option<Fault> {
        if !self.crashes_on {
            return None;
        }
        let listed = self.listed(At::Io(io), |fault| matches!(fault, Fault::Crash { .. }));
        if listed.is_some()
            || self.crashes >= self.config.crashes_max
            || !self.hits(self.config.crash, self.sites.crash, io)
        {
            return listed;
        }
        let mut salted = Salted::new(self.sites.crash.wrapping_add(io));
        let power = salted.below(100) < u64::from(self.config.crash_power_percent);
        Some(Fault::Crash { power, after: salted.below(2) == 1, loss: self.loss(salted.bits()) })
    }

    /// Returns a loss in one of the configured modes.
    pub(crate) fn loss(&self, salt: u64) -> Loss {
        const EVERY: [LossMode; 5] =
            [LossMode::All, LossMode::Prefix, LossMode::Sectors, LossMode::Garbage, LossMode::Nothing];
        let modes = if self.config.loss_modes.is_empty() { &EVERY[..] } else { &self.config.loss_modes };
        Loss { mode: modes[Salted::new(salt).below(modes.len() as u64) as usize], salt }
    }

    /// Returns the failure of the sync that is mutating operation `io`.
    pub(crate) fn sync_fail(&mut self, io: u64) -> Option<Fault> {
        let at = At::Io(io);
        let fault = self.listed(at, |fault| matches!(fault, Fault::SyncFail { .. })).or_else(|| {
            let salt = roll_at(self.sites.sync_fail ^ 1, io);
            self.hits(self.config.sync_fail, self.sites.sync_fail, io)
                .then_some(Fault::SyncFail { no_space: salt.is_multiple_of(4), salt })
        })?;
        Some(self.fire(at, fault))
    }

    /// Returns the salt of the failure of the write that is mutating operation `io`.
    pub(crate) fn write_fail(&mut self, io: u64) -> Option<u64> {
        let at = At::Io(io);
        let fault = self.listed(at, |fault| matches!(fault, Fault::WriteFail { .. })).or_else(|| {
            self.hits(self.config.write_fail, self.sites.write_fail, io)
                .then(|| Fault::WriteFail { salt: roll_at(self.sites.write_fail ^ 1, io) })
        })?;
        let Fault::WriteFail { salt } = self.fire(at, fault) else { unreachable!("filtered above") };
        Some(salt)
    }

    /// Returns the salt of the episode without space that mutating operation `io` lies in.
    pub(crate) fn no_space(&mut self, io: u64) -> Option<u64> {
        if io < self.no_space_until && self.faults_on {
            return Some(self.no_space_salt.wrapping_add(io));
        }
        let at = At::Io(io);
        let fault = self.listed(at, |fault| matches!(fault, Fault::NoSpace { .. })).or_else(|| {
            let salt = roll_at(self.sites.no_space ^ 1, io);
            let ios = 1 + salt % self.config.no_space_ios_max.max(1);
            self.hits(self.config.no_space, self.sites.no_space, io).then_some(Fault::NoSpace { ios, salt })
        })?;
        let Fault::NoSpace { ios, salt } = self.fire(at, fault) else { unreachable!("filtered above") };
        (self.no_space_until, self.no_space_salt) = (io + ios, salt);
        Some(salt.wrapping_add(io))
    }

    /// Returns the failure of the read that is disk operation `op`.
    pub(crate) fn read(&mut self, op: u64) -> Option<Fault> {
        let at = At::Op(op);
        let wanted = |fault: &Fault| matches!(fault, Fault::ReadError { .. } | Fault::ReadShort { .. });
        let fault = self.listed(at, wanted).or_else(|| {
            if self.hits(self.config.read_error, self.sites.read_error, op) {
                let sticky =
                    roll_at(self.sites.read_error ^ 1, op) % 100 < u64::from(self.config.read_error_sticky_percent);
                return Some(Fault::ReadError { sticky });
            }
            self.hits(self.config.read_short, self.sites.read_short, op)
                .then(|| Fault::ReadShort { salt: roll_at(self.sites.read_short ^ 1, op) })
        })?;
        Some(self.fire(at, fault))
    }

    /// Returns how long disk operation `op` takes.
    pub(crate) fn delay_ns(&mut self, op: u64) -> u64 {
        let at = At::Op(op);
        let stall = self.listed(at, |fault| matches!(fault, Fault::Stall { .. })).or_else(|| {
            let ns = 1 + roll_at(self.sites.stall ^ 1, op) % self.config.stall_ns_max.max(1);
            self.hits(self.config.stall, self.sites.stall, op).then_some(Fault::Stall { ns })
        });
        let latency = match self.config.latency_ns_max {
            0 => 0,
            max => roll_at(self.sites.latency, op) % max,
        };
        match stall.map(|fault| self.fire(at, fault)) {
            Some(Fault::Stall { ns }) => latency.saturating_add(ns),
            _ => latency,
        }
    }

    /// Returns the damage at rest before restart `restart`. The caller fires what had an effect.
    pub(crate) fn at_rest(&self, restart: u64) -> Vec<Fault> {
        let at = At::Restart(restart);
        let mut faults = if self.faults_on { self.listed.get(&at).cloned().unwrap_or_default() } else { Vec::new() };
        let salt = |site: u64| roll_at(site ^ 1, restart);
        if self.hits(self.config.bit_rot, self.sites.bit_rot, restart) {
            let salt = salt(self.sites.bit_rot);
            faults.push(Fault::BitRot { salt, bits: 1 + (salt % 5) as u8 });
        }
        if self.hits(self.config.misdirected, self.sites.misdirected, restart) {
            faults.push(Fault::Misdirected { salt: salt(self.sites.misdirected) });
        }
        if self.hits(self.config.lost_write, self.sites.lost_write, restart) {
            faults.push(Fault::LostWrite { salt: salt(self.sites.lost_write) });
        }
        faults
    }

    /// Returns whether lost writes can happen, so that former contents are worth keeping.
    pub(crate) fn keeps_history(&self) -> bool {
        self.config.lost_write.0 != 0
            || self.listed.values().flatten().any(|fault| matches!(fault, Fault::LostWrite { .. }))
    }

    /// Returns by how much the wall clock jumps at this reading.
    pub(crate) fn wall_step(&mut self) -> Option<i64> {
        let at = At::WallRead(self.wall_reads);
        let index = self.wall_reads;
        self.wall_reads += 1;
        let fault = self.listed(at, |fault| matches!(fault, Fault::WallStep { .. })).or_else(|| {
            let bits = roll_at(self.sites.wall_step ^ 1, index);
            let magnitude = 1 + (bits >> 1) % self.config.wall_step_us_max.max(1);
            let micros = if bits & 1 == 0 { magnitude as i64 } else { -(magnitude as i64) };
            self.hits(self.config.wall_step, self.sites.wall_step, index).then_some(Fault::WallStep { micros })
        })?;
        let Fault::WallStep { micros } = self.fire(at, fault) else { unreachable!("filtered above") };
        Some(micros)
    }

    /// Counts an operation of the archive; returns its number and how long it takes.
    pub(crate) fn begin_remote(&mut self) -> (u64, u64) {
        let op = self.remote_ops;
        self.remote_ops += 1;
        let at = At::Remote(op);
        let stall = self.listed(at, |fault| matches!(fault, Fault::RemoteStall { .. })).or_else(|| {
            let ns = 1 + roll_at(self.sites.remote[7] ^ 1, op) % self.config.stall_ns_max.max(1);
            self.hits(self.config.remote_stall, self.sites.remote[7], op).then_some(Fault::RemoteStall { ns })
        });
        let latency = match self.config.remote_latency_ns_max {
            0 => 0,
            max => roll_at(self.sites.remote_latency, op) % max,
        };
        match stall.map(|fault| self.fire(at, fault)) {
            Some(Fault::RemoteStall { ns }) => (op, latency.saturating_add(ns)),
            _ => (op, latency),
        }
    }

    /// Returns what operation `op` of the archive meets; `exists` says whether its object does.
    pub(crate) fn remote(&mut self, op: u64, kind: RemoteOp, exists: bool) -> Option<Fault> {
        use RemoteOp::{Delete, Head, Put, Read};
        let possible = |fault: &Fault| match fault {
            Fault::RemoteFail | Fault::RemoteLost => true,
            Fault::RemoteLate { .. } => matches!(kind, Put | Delete),
            Fault::RemoteConflict { .. } | Fault::RemoteDamaged { .. } => kind == Put,
            Fault::RemoteGone => exists && matches!(kind, Head | Read),
            Fault::RemoteRot { .. } => exists && kind == Read,
            _ => false,
        };
        let at = At::Remote(op);
        let config = &self.config;
        let salt = |which: usize| roll_at(self.sites.remote[which] ^ 1, op);
        let seeded = [
            (config.remote_fail, Fault::RemoteFail),
            (config.remote_lost, Fault::RemoteLost),
            (config.remote_late, Fault::RemoteLate { after: salt(2) % 12 }),
            (config.remote_conflict, Fault::RemoteConflict { foreign: salt(3).is_multiple_of(2), salt: salt(3) >> 1 }),
            (config.remote_damaged, Fault::RemoteDamaged { salt: salt(4) }),
            (config.remote_gone, Fault::RemoteGone),
            (config.remote_rot, Fault::RemoteRot { salt: salt(6) }),
        ];
        let listed = self.listed(at, possible);
        let fault = listed.or_else(|| {
            let hit = |(which, (rate, fault)): (usize, &(Rate, Fault))| {
                (possible(fault) && self.hits(*rate, self.sites.remote[which], op)).then_some(*fault)
            };
            seeded.iter().enumerate().find_map(hit)
        })?;
        Some(self.fire(at, fault))
    }

    /// Returns after how many nanoseconds this wait ends without a notification, if it does.
    pub(crate) fn spurious_wakeup(&mut self) -> Option<u64> {
        let index = self.waits;
        self.waits += 1;
        let rate = self.config.spurious_wakeup;
        (rate.0 != 0 && rate.hits(roll_at(self.sites.spurious, index)))
            .then(|| roll_at(self.sites.spurious ^ 1, index) % 1_000_000)
    }

    /// Returns which of `waiters` a notification wakes.
    pub(crate) fn notified(&mut self, waiters: usize) -> usize {
        let index = self.notifications;
        self.notifications += 1;
        // First come, first served most of the time; a condition variable promises no order.
        let bits = roll_at(self.sites.notify, index);
        if bits & 3 != 0 { 0 } else { ((bits >> 2) % waiters as u64) as usize }
    }
}
