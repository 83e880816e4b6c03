//! `aidb aof dump`: the frames of one segment, as they lie in the file, damaged ones too; or in the image of an archived one.

use super::Output;
use super::image::Image;
use super::place::{Keys, words};
use super::show::{hex, time};
use aidb::aof::FrameKind;
use aidb::aof::crypt::{SegmentKey, segment_key};
use aidb::aof::format::{ALIGN, FRAME_BYTES, Fault, FrameHeader, HEADER_BYTES, SegmentHeader};
use aidb::aof::record::format::Records;
use aidb::lsm::batch::format::{Operation, decode_record};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Shown below the list of options.
pub(super) const HELP: &str = "\
Columns: offset in the file, position in the log, kind, records, first id, time, how far the log was known to be durable
when the frame was made, tag, bytes of payload. The dump ends at the first place that holds no good frame and says why;
a segment that is being written, or that a crash ended, ends so too. Exits with 1 if a good frame follows such a place.";

/// Options of `aidb aof dump`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// A segment file, or the object of an archived segment.
    file: PathBuf,
    #[command(flatten)]
    keys: Keys,
    /// Shows the records too.
    #[arg(long, value_enum)]
    records: Option<Shown>,
    /// Shows at most so many frames.
    #[arg(long)]
    limit: Option<usize>,
}

impl Options {
    /// Shows the operations of a database's log, and goes on behind damage.
    pub(crate) fn of_database(file: PathBuf, limit: Option<usize>) -> Options {
        Options { file, keys: Keys::default(), records: Some(Shown::Operations), limit }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// As text, with escapes for all that is not printable ASCII.
    Text,
    /// As hexadecimal digits.
    Hex,
    /// As the operations of a database's log: sequence number, keyspace, kind, key, value.
    Operations,
}

/// Prints the frames of the segment that `options` names.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let keys = options.keys.ring()?;
    let image = Image::open(&options.file, keys.as_ref())?;
    let name = options.file.display();
    let start = image.read(0, HEADER_BYTES)?;
    let header = SegmentHeader::decode(&start).map_err(|fault| format!("{name}: the segment header {fault}"))?;
    // Headers, and payloads that are not asked for, can be shown without the key.
    let key = match options.records {
        Some(_) => segment_key(keys.as_ref(), &header, &options.file).map_err(words)?,
        None => None,
    };
    let mut output = Output::new();
    output.line(&describe(&header))?;
    let limit = options.limit.unwrap_or(usize::MAX);
    let dump = Dump { image: &image, header, key, shown: options.records, limit };
    let damaged = dump.frames(&mut output)?;
    output.flush()?;
    match damaged {
        None => Ok(()),
        Some(offset) => Err(format!("{name} is damaged: a good frame follows at offset {offset}")),
    }
}

fn describe(header: &SegmentHeader) -> String {
    let key = match header.key_id {
        0 => "not encrypted".to_owned(),
        id => format!("encrypted with key {id}"),
    };
    format!(
        "# segment {}, version {}, log {}, epoch {}, from lsn {}, id {}, {}, {key}\n# offset\tlsn\tkind\trecords\tid\ttime\tdurable\ttag\tbytes",
        header.segment_no,
        header.version as u8,
        hex(&header.log_id),
        header.epoch,
        header.base_lsn,
        header.base_id,
        time(header.base_ts),
    )
}

struct Dump<'a> {
    image: &'a Image,
    header: SegmentHeader,
    key: Option<SegmentKey>,
    shown: Option<Shown>,
    limit: usize,
}

impl Dump<'_> {
    fn lsn(&self, offset: u64) -> u64 {
        self.header.base_lsn.saturating_add(offset - HEADER_BYTES as u64)
    }

    /// Reads the frame at `offset`: its header and what is stored behind it.
    fn frame(&self, offset: u64) -> Result<Result<(FrameHeader, Vec<u8>), Fault>, String> {
        let bytes = self.image.read(offset, FRAME_BYTES)?;
        let frame = FrameHeader::decode(&bytes, &self.header.place(self.lsn(offset)));
        let frame = match frame.and_then(|frame| self.header.admit(&frame).map(|()| frame)) {
            Ok(frame) => frame,
            Err(fault) => return Ok(Err(fault)),
        };
        if frame.stored_bytes() > self.image.bytes().saturating_sub(offset + FRAME_BYTES as u64) {
            return Ok(Err(Fault::Overrun));
        }
        let stored = self.image.read(offset + FRAME_BYTES as u64, frame.stored_bytes() as usize)?;
        if !frame.payload_is_good(&stored) {
            return Ok(Err(Fault::PayloadChecksum));
        }
        Ok(Ok((frame, stored)))
    }

    /// Prints all frames; returns where a good one follows a bad one.
    fn frames(&self, output: &mut Output) -> Result<Option<u64>, String> {
        let mut offset = HEADER_BYTES as u64;
        let (mut shown, mut damaged) = (0, None);
        while output.is_open() && shown < self.limit {
            shown += 1;
            match self.frame(offset)? {
                Ok((frame, mut stored)) => {
                    self.line(output, offset, &frame)?;
                    if self.shown.is_some() {
                        self.records(output, offset, &frame, &mut stored)?;
                    }
                    offset += frame.frame_bytes();
                }
                Err(fault) => {
                    output.line(&format!("# offset {offset}: what follows {fault}"))?;
                    if self.shown != Some(Shown::Operations) {
                        return self.behind(offset, true);
                    }
                    let Some(next) = self.behind(offset, false)? else { break };
                    damaged = damaged.or(Some(next));
                    output.line(&format!("# offset {next}: a good frame"))?;
                    offset = next;
                }
            }
            if offset >= self.image.bytes() {
                break;
            }
        }
        Ok(damaged)
    }

    fn line(&self, output: &mut Output, offset: u64, frame: &FrameHeader) -> Result<(), String> {
        let kind = match frame.kind {
            FrameKind::Data => "data",
            FrameKind::Mark => "mark",
            FrameKind::Footer => "footer",
            FrameKind::Meta => "meta",
            FrameKind::Rewrite => "rewrite",
        };
        let lsn = self.lsn(offset);
        let durable = frame.durable(lsn).map_or_else(|| "-".into(), |durable| durable.to_string());
        let (ts, tag, len) = (time(frame.ts), frame.tag, frame.len);
        let (count, id) = (frame.count, frame.first_id);
        output.line(&format!("{offset}\t{lsn}\t{kind}\t{count}\t{id}\t{ts}\t{durable}\t{tag}\t{len}"))
    }

    fn records(&self, output: &mut Output, offset: u64, frame: &FrameHeader, stored: &mut [u8]) -> Result<(), String> {
        if let Some(key) = self.key.as_ref().filter(|_| frame.tagged)
            && !key.open_frame(frame, self.lsn(offset), stored)
        {
            return output.line(&format!("\t{}", Fault::Authentication));
        }
        let payload = stored.get(..frame.len as usize).unwrap_or_default();
        let show = |record: &[u8]| match self.shown {
            Some(Shown::Hex) => hex(record),
            _ => record.escape_ascii().to_string(),
        };
        if frame.kind != FrameKind::Data {
            return output.line(&format!("\t{}", show(payload)));
        }
        if self.shown == Some(Shown::Operations) {
            return operations(output, payload);
        }
        for (id, record) in (frame.first_id..).zip(Records::new(payload, frame.count)) {
            match record {
                Ok(record) => output.line(&format!("\t{id}\t{}", show(record)))?,
                // Other users of the log have other payloads.
                Err(_) => return output.line(&format!("\tnot records: {}", show(payload))),
            }
        }
        Ok(())
    }

    /// Looks behind the end for a good frame; with `vouches`, for one which says that the log was durable beyond it.
    fn behind(&self, end: u64, vouches: bool) -> Result<Option<u64>, String> {
        const STEP: usize = 1 << 16;
        let mut start = end + ALIGN;
        loop {
            let window = self.image.read(start, STEP)?;
            let mut at = 0;
            while at + FRAME_BYTES <= window.len() {
                let offset = start + at as u64;
                let frame = FrameHeader::decode(&window[at..], &self.header.place(self.lsn(offset)));
                let durable = |frame: FrameHeader| frame.durable(self.lsn(offset));
                let is_meant = |frame| !vouches || durable(frame).is_some_and(|durable| durable > self.lsn(end));
                if frame.is_ok_and(is_meant) {
                    return Ok(Some(offset));
                }
                at += ALIGN as usize;
            }
            if window.len() < STEP {
                return Ok(None);
            }
            start += at as u64;
        }
    }
}

/// Prints what a record of a database's log does.
pub(crate) fn operations(output: &mut Output, payload: &[u8]) -> Result<(), String> {
    let record = match decode_record(payload) {
        Ok(record) => record,
        Err(what) => return output.line(&format!("\t{what}: {}", payload.escape_ascii())),
    };
    for (seq, operation) in (record.first.0..).zip(record.operations()) {
        let Operation { keyspace, kind, key, value } = operation?;
        let (key, value) = (key.escape_ascii(), value.escape_ascii());
        output.line(&format!("\t{seq}\t{keyspace}\t{kind:?}\t{key}\t{value}"))?;
    }
    Ok(())
}
