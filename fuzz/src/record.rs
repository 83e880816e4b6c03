//! Records of keys, store keys, counters and layout of the databases: what decodes encodes to the same bytes.

use aidb::command::format::{
    Header, Layout, decode_counts, encode_counts, parse_expiry_key, parse_record_key, put_expiry_key, put_record_key,
};

/// Decodes `input` as each of them.
pub fn record(input: &[u8]) {
    let mut again = Vec::new();
    if let Some(header) = Header::decode(input) {
        header.encode(&mut again);
        assert_eq!(again, input[..header.payload_at]);
        assert_eq!(header.expired(0), header.expiry == Some(0));
    }
    if let Some(layout) = Layout::decode(input) {
        assert_eq!(layout.encode(), input);
    }
    if let Some((keys, expires)) = decode_counts(input) {
        assert_eq!(encode_counts(keys, expires), input);
    }
    let epoch = |bytes: &[u8]| bytes[1..5].iter().fold(0u32, |epoch, byte| epoch << 8 | u32::from(*byte));
    if let Some((position, key)) = parse_record_key(input) {
        again.clear();
        put_record_key(&mut again, epoch(input), position, key);
        assert_eq!(again, input);
    }
    if let Some((expiry, position, key)) = parse_expiry_key(input) {
        again.clear();
        put_expiry_key(&mut again, epoch(input), expiry, position, key);
        assert_eq!(again, input);
    }
}
