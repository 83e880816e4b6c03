//! MANIFEST and CURRENT: edits that decode survive another round; whatever follows whole records is a torn tail.

use aidb::lsm::manifest::format::{
    VersionEdit, decode_current, decode_file, encode_current, put_file_header, put_record,
};

/// Decodes `input` as a version edit, as a whole MANIFEST, as CURRENT, and as the tail of a MANIFEST.
pub fn manifest(input: &[u8]) {
    if let Ok(number) = decode_current(input) {
        assert_eq!(encode_current(number).as_bytes(), input);
    }
    for file_no in 1..4 {
        if let Ok((edits, end)) = decode_file(input, file_no) {
            assert!(!edits.is_empty() && end.is_multiple_of(8));
            let written = file(file_no, &edits);
            assert_eq!(decode_file(&written, file_no).map(|(edits, _)| edits), Ok(edits));
        }
    }
    let Ok(edit) = VersionEdit::decode(input) else { return };
    let mut encoded = Vec::new();
    edit.encode(&mut encoded);
    assert!(encoded.len() <= input.len(), "an edit grows by decoding and encoding");
    assert_eq!(VersionEdit::decode(&encoded), Ok(edit.clone()));
    if encoded.is_empty() {
        return;
    }
    let mut bytes = file(2, &[edit.clone(), edit.clone()]);
    let whole = bytes.len() as u64;
    assert_eq!(decode_file(&bytes, 2), Ok((vec![edit.clone(), edit.clone()], whole)));
    assert!(decode_file(&bytes, 3).is_err(), "the bytes of another file");
    bytes.extend_from_slice(input);
    assert_eq!(decode_file(&bytes, 2), Ok((vec![edit.clone(), edit], whole)), "with a torn tail");
}

fn file(file_no: u64, edits: &[VersionEdit]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_file_header(&mut bytes, file_no);
    for edit in edits {
        let offset = bytes.len() as u64;
        put_record(&mut bytes, file_no, offset, edit);
    }
    bytes
}
