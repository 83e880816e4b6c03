//! Block compression: which codec, when it pays, and bounded decompression.
//!
//! Called by the seal of a block ([`format`](super::format)). A block that a codec does not shrink by at least an eighth is
//! stored as is: reading it is then a plain slice. Decompression never writes or allocates past the stated length, and
//! the stated length is bounded by what the codec could have made of the payload.

use super::format::Damage;

/// How a block is compressed. The numbers are stored and never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// Stored as is.
    None = 0,
    /// LZ4 block format: the default, fast both ways.
    #[default]
    Lz4 = 1,
    /// Snappy raw format.
    Snappy = 2,
}

impl Compression {
    /// Decodes the stored number; `None` if no compression has it.
    pub fn from_u8(number: u8) -> Option<Compression> {
        match number {
            0 => Some(Compression::None),
            1 => Some(Compression::Lz4),
            2 => Some(Compression::Snappy),
            _ => None,
        }
    }
}

/// Returns the longest input that `stored_len` bytes of output can stand for.
pub(super) fn raw_len_max(compression: Compression, stored_len: usize) -> usize {
    match compression {
        Compression::None => stored_len,
        // A match length grows by 255 with each further byte.
        Compression::Lz4 => stored_len.saturating_mul(255),
        // A copy of 64 bytes takes at least two.
        Compression::Snappy => stored_len.saturating_mul(32),
    }
}

/// Appends `raw` to `out`, compressed if that saves an eighth; returns what was used.
pub(super) fn compress(compression: Compression, raw: &[u8], out: &mut Vec<u8>) -> Compression {
    let start = out.len();
    let stored_len_max = raw.len() - raw.len() / 8;
    let stored_len = match compression {
        Compression::None => None,
        Compression::Lz4 => {
            out.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
            lz4_flex::block::compress_into(raw, &mut out[start..]).ok()
        }
        Compression::Snappy => {
            out.resize(start + snap::raw::max_compress_len(raw.len()), 0);
            snap::raw::Encoder::new().compress(raw, &mut out[start..]).ok()
        }
    };
    if let Some(len) = stored_len.filter(|len| *len < stored_len_max) {
        out.truncate(start + len);
        return compression;
    }
    out.truncate(start);
    out.extend_from_slice(raw);
    Compression::None
}

/// Decompresses `stored` to exactly `raw_len` bytes, a length the caller has bounded.
pub(super) fn decompress(compression: Compression, stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Damage> {
    let mut raw = vec![0; raw_len];
    let len = match compression {
        Compression::None => return Err("the block is not compressed"),
        Compression::Lz4 => lz4_flex::block::decompress_into(stored, &mut raw).ok(),
        Compression::Snappy => match snap::raw::decompress_len(stored) {
            Ok(len) if len == raw_len => snap::raw::Decoder::new().decompress(stored, &mut raw).ok(),
            _ => None,
        },
    };
    if len != Some(raw_len) {
        return Err("the block does not decompress to its length");
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_shrink_is_stored_as_is() {
        let noise: Vec<u8> =
            (0..4096u64).map(|at| crate::base::hash::hash64(&[at as u8, (at >> 8) as u8], 0) as u8).collect();
        for compression in [Compression::Lz4, Compression::Snappy] {
            let mut out = b"before".to_vec();
            assert_eq!(compress(compression, &noise, &mut out), Compression::None);
            assert_eq!(out, [&b"before"[..], &noise].concat());
            out.clear();
            assert_eq!(compress(compression, &[7; 4096], &mut out), compression);
            assert!(out.len() < 400 && raw_len_max(compression, out.len()) >= 4096);
        }
    }

    #[test]
    fn the_best_ratio_is_within_the_bound() {
        let zeros = vec![0; 16 << 20];
        for compression in [Compression::Lz4, Compression::Snappy] {
            let mut out = Vec::new();
            assert_eq!(compress(compression, &zeros, &mut out), compression);
            assert!(raw_len_max(compression, out.len()) >= zeros.len());
            assert_eq!(decompress(compression, &out, zeros.len()), Ok(zeros.clone()));
        }
    }

    proptest! {
        #[test]
        fn round_trips(raw in prop::collection::vec(0u8..4, 0..3000)) {
            for compression in [Compression::Lz4, Compression::Snappy] {
                let mut out = Vec::new();
                let used = compress(compression, &raw, &mut out);
                if used == Compression::None {
                    prop_assert_eq!(&out, &raw);
                } else {
                    prop_assert_eq!(decompress(used, &out, raw.len()), Ok(raw.clone()));
                    prop_assert!(decompress(used, &out, raw.len() + 1).is_err());
                }
            }
        }

        #[test]
        fn survives_anything(stored: Vec<u8>, raw_len in 0usize..10_000) {
            for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
                let _ = decompress(compression, &stored, raw_len);
            }
        }
    }
}
