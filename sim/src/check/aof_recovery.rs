//! The recovery oracle of profile `aof`: acknowledged <= recovered <= issued.
//!
//! **Invariant.** What a reopened log holds has contiguous ids; each record is, whole and once, what was appended under its id, or
//! belongs to an append that was never answered, of which then every record is there; positions and times never go back. Everything
//! promised before the stop is there: after a close all that was appended, after a power loss what was waited for, flushed, or seen
//! by a reader, after the death of the process also what a reader of written records saw. Nothing that was truncated with an
//! answer is back, as long as the manifest is kept; nothing is gone from the front that nobody asked to go, unless both the manifest
//! and objects of the archive were lost. The next id follows the last record.
//!
//! Damage at rest may cut the log's end, where it looks like a torn write: after a close no more than what shares the last bytes
//! with the MARK, else any tail.
//!

use super::aof_history::{Got, History, Known, Stop};
use crate::profile::aof::record::{Stamp, StepId, decode, encode};
use std::collections::BTreeMap;

/// How many bytes before the end may go with damage in the last MARK, beyond the bytes damaged.
pub const ROT_BYTES: u64 = 64 + 48;

/// What a reopened log holds.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// What was read, in order.
    pub records: Vec<Got>,
    /// The ids that could not be read because the archive lost or damaged them, as half-open ranges.
    pub unreadable: Vec<(u64, u64)>,
    /// What the log says is its oldest id.
    pub first_id: u64,
    /// What the log says is its next id.
    pub next_id: u64,
}

/// How strict to be.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How the process ended.
    pub stop: Stop,
    /// Whether something at rest was damaged since the last opening.
    pub damaged: bool,
    /// How many bytes before the end damage may take after a close.
    pub rot_bytes: u64,
    /// Whether the manifest is the one that the log wrote.
    pub manifest_kept: bool,
    /// Whether the archive may have lost or damaged objects. A lost manifest is rebuilt from them, down to the first one missing.
    pub archive_lost: bool,
    /// How far retention may have gone by itself.
    pub first_retained: u64,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something promised is gone.
    Lost(String),
    /// Something is there that must not be, or not so.
    Wrong(String),
    /// Something that was truncated is back, or something is truncated that must not be.
    Front(String),
}

/// Judges what was recovered; returns what is known of each record from now on.
///
/// # Errors
/// What is wrong.
pub fn check(history: &History, recovered: &Recovered, rules: Rules) -> Result<BTreeMap<u64, Known>, Fault> {
    front(history, recovered, rules)?;
    order(recovered)?;
    let mut known = BTreeMap::new();
    let mut answered: BTreeMap<StepId, (u64, u32)> = BTreeMap::new();
    for got in &recovered.records {
        if got.id < history.first_min {
            // Truncated once, and back with the loss of the manifest: what it was is forgotten, but it says so itself.
            let none = Stamp { step: StepId::MAX, index: 0, bytes: 0 };
            let stamp = decode(&got.bytes).unwrap_or(none);
            if encode(stamp) != got.bytes {
                return Err(Fault::Wrong(format!("id {} was truncated and is back as something else", got.id)));
            }
            known.insert(got.id, Known { stamp, lsn: got.lsn, ts: got.ts, tag: got.tag });
            continue;
        }
        history.judge(got).map_err(Fault::Wrong)?;
        let stamp = match history.known.get(&got.id) {
            Some(known) => known.stamp,
            None => unanswered(history, got, &mut answered).map_err(Fault::Wrong)?,
        };
        known.insert(got.id, Known { stamp, lsn: got.lsn, ts: got.ts, tag: got.tag });
    }
    whole(history, recovered, &answered)?;
    promises(history, recovered, rules)?;
    // What cannot be read is still there.
    for (from, to) in &recovered.unreadable {
        known.extend(history.known.range(*from..*to).map(|(id, known)| (*id, *known)));
    }
    Ok(known)
}

fn front(history: &History, recovered: &Recovered, rules: Rules) -> Result<(), Fault> {
    let first = recovered.first_id;
    if rules.manifest_kept && !rules.damaged && first < history.first_min {
        return Err(Fault::Front(format!("the log begins with id {first}; up to {} was truncated", history.first_min)));
    }
    if !rules.manifest_kept && rules.archive_lost {
        return Ok(());
    }
    let pinned = if rules.manifest_kept { history.pinned() } else { u64::MAX };
    let most = history.first_max.max(rules.first_retained).min(pinned);
    if first > most {
        return Err(Fault::Front(format!(
            "the log begins with id {first}; nobody asked for more than up to {most} to go"
        )));
    }
    Ok(())
}

/// Ids without a gap from the first to the next, positions and times that never go back.
fn order(recovered: &Recovered) -> Result<(), Fault> {
    let mut next = recovered.first_id;
    let mut gaps = recovered.unreadable.iter().peekable();
    let mut before: Option<&Got> = None;
    for got in &recovered.records {
        while let Some((_, to)) = gaps.next_if(|(from, _)| *from <= next) {
            next = next.max(*to);
        }
        if got.id != next {
            return Err(Fault::Wrong(format!("a full read gave id {} where {next} was due", got.id)));
        }
        if let Some(before) = before.filter(|before| before.lsn > got.lsn || before.ts > got.ts) {
            let what = "position or time went back";
            return Err(Fault::Wrong(format!("from id {} to {}: {what}: {before:?} {got:?}", before.id, got.id)));
        }
        before = Some(got);
        next = got.id + 1;
    }
    gaps.for_each(|(_, to)| next = next.max(*to));
    if next != recovered.next_id {
        let said = recovered.next_id;
        return Err(Fault::Wrong(format!("a full read ended before id {next}, the log says that {said} is next")));
    }
    Ok(())
}

/// Finds the unanswered append that a record belongs to; each only once, each record in its place.
fn unanswered(history: &History, got: &Got, answered: &mut BTreeMap<StepId, (u64, u32)>) -> Result<Stamp, String> {
    let said = decode(&got.bytes).map(|stamp| stamp.step).filter(|step| history.open.contains_key(step));
    let continues = answered
        .iter()
        .find(|(_, (first, count))| first + u64::from(*count) == got.id)
        .map(|(step, _)| *step)
        .filter(|step| answered[step].1 < history.open[step].records.len() as u32);
    let step = continues.or(said).ok_or_else(|| format!("id {} belongs to no append", got.id))?;
    let open = &history.open[&step];
    let (first, count) = answered.entry(step).or_insert((got.id, 0));
    let index = *count;
    let Some(bytes) = open.records.get(index as usize) else {
        return Err(format!("id {} is more than step {step} appended, or is there twice", got.id));
    };
    let stamp = Stamp { step, index, bytes: *bytes };
    if *first + u64::from(index) != got.id || encode(stamp) != got.bytes {
        return Err(format!("id {} is not record {index} of step {step}", got.id));
    }
    *count += 1;
    Ok(stamp)
}

/// Batches are there whole or not at all.
fn whole(history: &History, recovered: &Recovered, answered: &BTreeMap<StepId, (u64, u32)>) -> Result<(), Fault> {
    for (step, (first, count)) in answered {
        let records = history.open[step].records.len();
        let readable = !recovered.unreadable.iter().any(|(from, to)| *from < first + records as u64 && *to > *first);
        if (*count as usize) < records && readable && *first > recovered.first_id {
            return Err(Fault::Wrong(format!("{count} of the {records} records of step {step} are there")));
        }
    }
    // An answered batch at the end.
    if let Some((last, after)) = history.known.get(&(recovered.next_id - 1)).zip(history.known.get(&recovered.next_id))
        && last.stamp.step == after.stamp.step
        && last.stamp.index + 1 == after.stamp.index
        && recovered.next_id > recovered.first_id
    {
        let step = last.stamp.step;
        return Err(Fault::Wrong(format!(
            "the log ends with id {} in the middle of step {step}",
            recovered.next_id - 1
        )));
    }
    Ok(())
}

fn promises(history: &History, recovered: &Recovered, rules: Rules) -> Result<(), Fault> {
    let promised = match rules.stop {
        Stop::Power => history.durable,
        Stop::Process => history.written.max(history.durable),
        Stop::Close => history.next_known(),
    };
    let next = recovered.next_id;
    if next >= promised {
        return Ok(());
    }
    if rules.damaged {
        let end = history.known.values().map(|known| known.lsn).max().unwrap_or(0);
        let lost = history.known.get(&next).map_or(0, |known| end.saturating_sub(known.lsn));
        if rules.stop != Stop::Close || lost <= rules.rot_bytes {
            return Ok(());
        }
    }
    let (stop, last) = (rules.stop, promised - 1);
    Err(Fault::Lost(format!("id {last} was promised and is lost after {stop:?}; the log ends before id {next}")))
}
