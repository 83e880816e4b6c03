//! Footers of sealed segments: what decodes encodes to the same bytes, and a lookup stays within the entries.

use aidb::aof::index::STEP_BYTES;
use aidb::aof::index::format::{ENTRY_BYTES, FOOTER_FIXED_BYTES, Footer, footer_frame_bytes, footer_start};
use aidb::base::coding::get_u64;

/// Decodes `input`, whose first 8 bytes are a segment's base LSN, as the payload of its FOOTER, and its end as the end of a
/// segment.
pub fn footer(input: &[u8]) {
    let Some((base, payload)) = input.split_first_chunk::<8>() else { return };
    let base_lsn = get_u64(base, 0).unwrap_or(0) / 2 / 8 * 8;
    if let Some(last) = payload.last_chunk::<4>()
        && let Some(start) = footer_start(*last, input.len() as u64)
    {
        let length = input.len() as u64 - start;
        assert!(length >= footer_frame_bytes(0) && length.is_multiple_of(8), "a frame of a footer");
    }
    let Ok(footer) = Footer::decode(payload, base_lsn) else { return };
    assert_eq!(footer.encode(base_lsn), payload);
    let entries = footer.index.sparse.entries();
    assert_eq!(payload.len(), FOOTER_FIXED_BYTES + entries.len() * ENTRY_BYTES);
    assert!(entries.iter().all(|entry| entry.lsn >= base_lsn && entry.lsn - base_lsn <= u64::from(u32::MAX)));
    assert!(STEP_BYTES > 0 && entries.windows(2).all(|pair| pair[0].lsn < pair[1].lsn && pair[0].ts <= pair[1].ts));
    for id in [0, 1, footer.index.next_id, u64::MAX] {
        let found = footer.index.sparse.at_id(id);
        assert!(found.is_none_or(|lsn| entries.iter().any(|entry| entry.lsn == lsn)));
        let found = footer.index.sparse.at_time(id);
        assert!(found.is_none_or(|lsn| entries.iter().any(|entry| entry.lsn == lsn && entry.ts < id)));
    }
}
