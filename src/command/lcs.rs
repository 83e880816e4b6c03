//! `LCS`: the longest common subsequence of two strings.
//!
//! The classic table of lengths, one row for each byte of the first string, walked back from its last corner.
//!
//! **Limits:** the table takes 4 bytes for each pair of bytes, at most 512 MiB; time is its size.
//!
//! Source: `lcsCommand` of Redis 7.0, also for which of several longest ones it finds and how it cuts ranges.

use super::db::Keyspace;
use super::number::integer;
use super::store::Store;
use super::string::STRING_BYTES_MAX;
use super::{Failure, Outcome};
use crate::resp::Encoder;

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: usize,
}

impl Options {
    fn parse(args: &[&[u8]]) -> Result<Options, Failure> {
        let mut options = Options::default();
        let mut rest = args;
        while let [name, tail @ ..] = rest {
            rest = tail;
            match (name.to_ascii_lowercase().as_slice(), rest) {
                (b"len", _) => options.len = true,
                (b"idx", _) => options.idx = true,
                (b"withmatchlen", _) => options.with_match_len = true,
                (b"minmatchlen", [value, tail @ ..]) => {
                    options.match_len_min = usize::try_from(integer(value)?).unwrap_or(0);
                    rest = tail;
                }
                _ => return Err(Failure::SYNTAX),
            }
        }
        if options.len && options.idx {
            return Err(Failure::Text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// Lengths of the longest common subsequences of all pairs of prefixes.
struct Table {
    lengths: Vec<u32>,
    row: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Result<Table, Failure> {
        let row = b.len() + 1;
        let cells = (a.len() + 1).saturating_mul(row);
        if cells.saturating_mul(4) as u64 > STRING_BYTES_MAX {
            return Err(Failure::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
        }
        let mut lengths = vec![0u32; cells];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                lengths[i * row + j] = if a[i - 1] == b[j - 1] {
                    lengths[(i - 1) * row + j - 1] + 1
                } else {
                    lengths[(i - 1) * row + j].max(lengths[i * row + j - 1])
                };
            }
        }
        Ok(Table { lengths, row })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * self.row + j]
    }
}

/// A stretch that both strings have: where it begins in each, and its length.
type Match = (usize, usize, usize);

/// Walks the table back: the subsequence, and its stretches from the last to the first.
fn trace(table: &Table, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
    let (mut i, mut j) = (a.len(), b.len());
    let (mut common, mut matches) = (Vec::new(), Vec::new());
    let mut open: Option<Match> = None;
    while i > 0 && j > 0 {
        let mut close = false;
        if a[i - 1] == b[j - 1] {
            common.push(a[i - 1]);
            open = match open {
                None => Some((i - 1, j - 1, 1)),
                Some((in_a, in_b, len)) if in_a == i && in_b == j => Some((i - 1, j - 1, len + 1)),
                broken => {
                    close = true;
                    broken
                }
            };
            close |= open.is_some_and(|(in_a, in_b, _)| in_a == 0 || in_b == 0);
            i -= 1;
            j -= 1;
        } else {
            if table.at(i - 1, j) > table.at(i, j - 1) {
                i -= 1
            } else {
                j -= 1
            }
            close = true;
        }
        if close {
            matches.extend(open.take());
        }
    }
    common.reverse();
    (common, matches)
}

fn reply_range(out: &mut Encoder, start: usize, len: usize) {
    out.array(2);
    out.integer(start as i64);
    out.integer((start + len - 1) as i64);
}

pub(super) fn lcs<S: Store>(keys: &mut Keyspace<'_, S>, args: &[&[u8]], out: &mut Encoder) -> Outcome {
    let mut read = |key: &[u8]| match keys.get(key)? {
        Some(object) => match object.string() {
            Ok(value) => Ok(value.to_vec()),
            Err(_) => Err(Failure::Text("ERR The specified keys must contain string values")),
        },
        None => Ok(Vec::new()),
    };
    let (a, b) = (read(args[1])?, read(args[2])?);
    let options = Options::parse(&args[3..])?;
    let table = Table::new(&a, &b)?;
    let len = i64::from(table.at(a.len(), b.len()));
    if options.len {
        out.integer(len);
        return Ok(());
    }
    let (common, mut matches) = trace(&table, &a, &b);
    if !options.idx {
        out.bulk(&common);
        return Ok(());
    }
    matches.retain(|&(_, _, len)| len >= options.match_len_min);
    out.map(2);
    out.bulk(b"matches");
    out.array(matches.len());
    for (in_a, in_b, len) in matches {
        out.array(if options.with_match_len { 3 } else { 2 });
        reply_range(out, in_a, len);
        reply_range(out, in_b, len);
        if options.with_match_len {
            out.integer(len as i64);
        }
    }
    out.bulk(b"len");
    out.integer(len);
    Ok(())
}
