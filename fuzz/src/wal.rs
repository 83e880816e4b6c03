//! Records of the write-ahead log: what decodes is encoded again to the same bytes.

use aidb::lsm::batch::format::{decode_record, put_operation, record_header};

/// Decodes `input` as the log record of a commit group.
pub fn batch(input: &[u8]) {
    let Ok(record) = decode_record(input) else { return };
    let mut again = record_header(record.first, record.count).to_vec();
    let mut count = 0;
    for operation in record.operations() {
        put_operation(&mut again, operation.expect("a decoded record was checked whole"));
        count += 1;
    }
    assert_eq!((again.as_slice(), count), (input, record.count), "encoded again");
}
