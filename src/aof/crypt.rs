//! Encryption of segments and archived objects: [`KeyRing`], which the caller gives, and [`SegmentKey`], derived from it
//! for one segment or one object.
//!
//! Called by the append path under the append lock, by recovery and by readers; keys are immutable and shared freely.
//!
//! ```text
//! key | check = HKDF-SHA256(ikm = master key, salt = 16 random bytes, info = purpose | log id | segment no | epoch)  (40 bytes)
//! frame        AES-256-GCM, nonce 00000000 | LSN (8 bytes),          associated data: bytes 8..40 of the frame's header
//! block        AES-256-GCM, nonce 00000000 | block number (8 bytes), associated data: the object's header
//! ```
//!
//! **Why no nonce is used twice under one key.** A segment's key is its own: log id, number and epoch tell it from every
//! other segment of the log, and the salt, fresh at each making of a segment, from those of a copy of the directory that
//! went another way. Under that key the nonce is the LSN, and a segment holds one frame at an LSN for ever: frames are
//! encrypted when they are given their place, under the append lock; nothing is appended to a file that was recovered (R1);
//! a failed write ends the log's life in this process (R7). A tail that recovery copies keeps its LSNs and is encrypted with
//! the new segment's key; when the copy is tried twice, with and without the reserve, both tries write the same bytes. An
//! archived object has a salt of its own, fresh each time one is built, because the same block may compress differently.
//!
//! **What it protects:** payloads, against reading and against change: a frame in another place, of another segment or
//! with another header fails, and so does a plain frame in an encrypted segment. **What it does not:** lengths, times, ids,
//! tags and counts stay readable, in frame headers and in the index of a segment; and whoever can write the directory can
//! remove whole segments at the ends of the log, or put an unencrypted segment behind the last.
//!
//! **The key check** is stored in the header of a segment or object. It tells a wrong master key from damage, and, being
//! HKDF output, nothing about the key.
//!
//! **Rotation:** a segment keeps its key; the next one takes the ring's current key. Old keys stay in the ring as long as
//! there are segments or objects of theirs.
//!
//! **Limits:** under one key 2^32 frames or blocks, by the segment's size, against the 2^61 that a 96-bit counter nonce and
//! the 2^36 bytes a message that GCM allow. Sources: RFC 5869, NIST SP 800-38D section 8.2.1 (deterministic nonces).

use super::error::AofError;
use super::format::{FormatVersion, FrameHeader, KEY_CHECK_BYTES, SegmentHeader, TAG_BYTES, nonce};
use crate::base::coding::put_u64;
use crate::base::{Error, Result};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;

/// The caller's master keys by number, and which of them new segments use.
///
/// Cloning is cheap. The keys are overwritten when the last clone goes; [`Debug`](fmt::Debug) shows their numbers only.
#[derive(Clone)]
pub struct KeyRing(Arc<Keys>);

struct Keys {
    current: u32,
    /// By number.
    keys: Vec<(u32, Zeroizing<[u8; KEY_BYTES]>)>,
}

impl KeyRing {
    /// Makes a ring of `keys`, each with its number; new segments are encrypted with the one numbered `current`.
    ///
    /// Keys are 32 random bytes: there is no stretching of passwords. Numbers are stored in the files and never 0; to
    /// rotate, add a key with a new number and make it current.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a number that is 0 or given twice, and for a current one
    /// that is not among the keys.
    pub fn new(current: u32, keys: impl IntoIterator<Item = (u32, [u8; KEY_BYTES])>) -> Result<KeyRing> {
        let mut keys: Vec<_> = keys.into_iter().map(|(id, key)| (id, Zeroizing::new(key))).collect();
        keys.sort_by_key(|(id, _)| *id);
        if let Some(pair) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::invalid_argument(format_args!("key number {} is given twice", pair[0].0)));
        }
        if keys.first().is_some_and(|(id, _)| *id == 0) {
            return Err(Error::invalid_argument("key number 0 means not encrypted; numbers begin at 1"));
        }
        if !keys.iter().any(|(id, _)| *id == current) {
            return Err(Error::invalid_argument(format_args!("current key {current} is not among the keys")));
        }
        Ok(KeyRing(Arc::new(Keys { current, keys })))
    }

    /// Returns the number of the key that new segments use.
    pub fn current(&self) -> u32 {
        self.0.current
    }

    fn master(&self, key_id: u32) -> Option<&[u8; KEY_BYTES]> {
        self.0.keys.iter().find(|(id, _)| *id == key_id).map(|(_, key)| &**key)
    }
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &KeyRing) -> bool {
        let same = |a: &[u8; 32], b: &[u8; 32]| a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0;
        let (mine, others) = (&self.0.keys, &other.0.keys);
        let all_same = mine.iter().zip(others).all(|((id, key), (other_id, other))| id == other_id && same(key, other));
        self.0.current == other.0.current && mine.len() == others.len() && all_same
    }
}

impl Eq for KeyRing {}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u32> = self.0.keys.iter().map(|(id, _)| *id).collect();
        f.debug_struct("KeyRing").field("current", &self.0.current).field("ids", &ids).finish_non_exhaustive()
    }
}

/// What a key is for: keys of different purposes have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The frames of a segment.
    Segment,
    /// The blocks of an archived object.
    Object,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Segment => b"aidb aof segment",
            Purpose::Object => b"aidb aof object",
        }
    }
}

/// What a derived key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyScope {
    /// What it is for.
    pub purpose: Purpose,
    /// Which master key, 0 = none.
    pub key_id: u32,
    /// The log.
    pub log_id: [u8; 16],
    /// The segment.
    pub segment_no: u64,
    /// The open of the log that made the segment.
    pub epoch: u64,
    /// Fresh random bytes of this segment or object.
    pub salt: [u8; 16],
}

impl KeyScope {
    /// Returns the scope of the segment of `header`.
    pub fn of_segment(header: &SegmentHeader) -> KeyScope {
        KeyScope {
            purpose: Purpose::Segment,
            key_id: header.key_id,
            log_id: header.log_id,
            segment_no: header.segment_no,
            epoch: header.epoch,
            salt: header.salt,
        }
    }
}

/// The key of one segment or one archived object. Overwritten when dropped; [`Debug`](fmt::Debug) shows nothing.
pub struct SegmentKey {
    cipher: Aes256Gcm,
    check: [u8; KEY_CHECK_BYTES],
}

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentKey").finish_non_exhaustive()
    }
}

impl SegmentKey {
    fn derive(master: &[u8; KEY_BYTES], scope: &KeyScope) -> SegmentKey {
        let mut info = scope.purpose.label().to_vec();
        info.extend_from_slice(&scope.log_id);
        put_u64(&mut info, scope.segment_no);
        put_u64(&mut info, scope.epoch);
        let mut out = Zeroizing::new([0; KEY_BYTES + KEY_CHECK_BYTES]);
        expand(&scope.salt, master, &info, &mut *out);
        let (key, check) = out.split_at(KEY_BYTES);
        let cipher = Aes256Gcm::new_from_slice(key).unwrap_or_else(|_| unreachable!("a key of 32 bytes"));
        SegmentKey { cipher, check: check.try_into().unwrap_or_else(|_| unreachable!("a check of 8 bytes")) }
    }

    /// Returns the key check.
    pub fn check(&self) -> [u8; KEY_CHECK_BYTES] {
        self.check
    }

    /// Encrypts `bytes` in place as message `number`, which no other message of this key has, and returns the tag, which
    /// also covers `associated`.
    pub fn seal(&self, number: u64, associated: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
        let sealed = self.cipher.encrypt_inout_detached(&nonce(number).into(), associated, bytes.into());
        sealed.unwrap_or_else(|_| unreachable!("a message is shorter than 64 GiB")).into()
    }

    /// Decrypts `bytes` in place if they and `associated` are what the tag was made for; else returns false, and `bytes`
    /// hold nothing of use.
    #[must_use]
    pub fn open(&self, number: u64, associated: &[u8], bytes: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.cipher.decrypt_inout_detached(&nonce(number).into(), associated, bytes.into(), &(*tag).into()).is_ok()
    }

    /// Encrypts the payload of the frame `header` at `lsn` in place and returns its tag.
    pub fn seal_frame(&self, header: &FrameHeader, lsn: u64, payload: &mut [u8]) -> [u8; TAG_BYTES] {
        assert!(header.tagged && header.len as usize == payload.len(), "the header says how the payload is stored");
        self.seal(lsn, &header.associated_data(), payload)
    }

    /// Decrypts what is stored behind the header of the frame at `lsn`, in place; the payload is all but the last
    /// [`TAG_BYTES`]. False if it fails.
    #[must_use]
    pub fn open_frame(&self, header: &FrameHeader, lsn: u64, stored: &mut [u8]) -> bool {
        match stored.split_last_chunk_mut::<TAG_BYTES>() {
            Some((payload, tag)) if header.tagged => self.open(lsn, &header.associated_data(), payload, tag),
            _ => false,
        }
    }
}

/// HKDF-SHA256: extracts with `salt` from `ikm`, and expands with `info` into `out`, at most 8160 bytes.
fn expand(salt: &[u8], ikm: &[u8], info: &[u8], out: &mut [u8]) {
    let derived = Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, out);
    derived.unwrap_or_else(|_| unreachable!("a few bytes"));
}

/// Returns the key that `scope` of `file` needs, whose header holds `check`; none if it is not encrypted.
///
/// # Errors
/// [`EncryptionError`](AofError::EncryptionError) if the key is missing from `keys`, or is another one of that number.
pub fn find_key(
    keys: Option<&KeyRing>,
    scope: &KeyScope,
    check: &[u8; KEY_CHECK_BYTES],
    file: &Path,
) -> Result<Option<SegmentKey>> {
    if scope.key_id == 0 {
        return Ok(None);
    }
    let fail = |what| Error::from(AofError::EncryptionError { file: file.to_path_buf(), key_id: scope.key_id, what });
    let ring = keys.ok_or_else(|| fail("is needed to read it, and no keys were given"))?;
    let master = ring.master(scope.key_id).ok_or_else(|| fail("is not in the key ring"))?;
    let key = SegmentKey::derive(master, scope);
    if key.check != *check {
        return Err(fail("is not the key this file was written with"));
    }
    Ok(Some(key))
}

/// Returns the key of the segment of `header`; none if it is not encrypted.
///
/// # Errors
/// As [`find_key`].
pub fn segment_key(keys: Option<&KeyRing>, header: &SegmentHeader, file: &Path) -> Result<Option<SegmentKey>> {
    find_key(keys, &KeyScope::of_segment(header), &header.key_check, file)
}

/// Gives a new segment the ring's current key, if there is a ring: fills in key id, key check and version of `header`,
/// whose other fields are final, and returns the key.
pub fn assign_key(keys: Option<&KeyRing>, header: &mut SegmentHeader) -> Option<SegmentKey> {
    (header.key_id, header.key_check) = (0, [0; KEY_CHECK_BYTES]);
    let ring = keys?;
    header.key_id = ring.current();
    header.version = header.version.max(FormatVersion::lowest(false, true));
    let key = current_key(ring, &KeyScope::of_segment(header));
    header.key_check = key.check;
    Some(key)
}

/// Returns the key of `scope`, which has the ring's current key id.
pub fn current_key(ring: &KeyRing, scope: &KeyScope) -> SegmentKey {
    assert_eq!(scope.key_id, ring.current(), "new files use the current key");
    let master = ring.master(scope.key_id).unwrap_or_else(|| unreachable!("checked when the ring was made"));
    SegmentKey::derive(master, scope)
}

#[cfg(test)]
mod tests {
    use super::super::format::FrameKind;
    use super::*;
    use crate::base::ErrorKind;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn ring() -> KeyRing {
        KeyRing::new(2, [(1, [1; 32]), (2, [2; 32])]).unwrap()
    }

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: [7; 16],
            segment_no: 3,
            first_no: 1,
            epoch: 2,
            salt: [9; 16],
            ..SegmentHeader::default()
        }
    }

    fn frame() -> FrameHeader {
        FrameHeader {
            payload_crc: 0,
            len: 5,
            count: 1,
            kind: FrameKind::Data,
            tagged: true,
            first_id: 7,
            ts: 1_000_000,
            durable_back: 0,
            tag: 3,
        }
    }

    #[test]
    fn derivation_gives_the_known_answers_of_rfc_5869() {
        // Appendix A.1.
        let (ikm, salt) = (bytes(&"0b".repeat(22)), bytes("000102030405060708090a0b0c"));
        let mut out = [0; 42];
        expand(&salt, &ikm, &bytes("f0f1f2f3f4f5f6f7f8f9"), &mut out);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(out.to_vec(), bytes(expected));
    }

    #[test]
    fn cipher_gives_the_known_answers_of_gcm() {
        // The GCM specification's test cases 13, 14 and 16, for keys of 256 bits; 16 has associated data.
        let seal = |key: &[u8], iv: &[u8], associated: &[u8], text: &[u8]| {
            let mut out = text.to_vec();
            let nonce: [u8; 12] = iv.try_into().unwrap();
            let cipher = Aes256Gcm::new_from_slice(key).unwrap();
            let tag = cipher.encrypt_inout_detached(&nonce.into(), associated, out.as_mut_slice().into()).unwrap();
            (out, tag.to_vec())
        };
        let (zeros, iv) = ([0; 32], [0; 12]);
        assert_eq!(seal(&zeros, &iv, &[], &[]), (vec![], bytes("530f8afbc74536b9a963b4f1c4cb738b")));
        let expected = (bytes("cea7403d4d606b6e074ec5d3baf39d18"), bytes("d0d1c8a799996bf0265b98b5d48ab919"));
        assert_eq!(seal(&zeros, &iv, &[], &[0; 16]), expected);
        // Through the type: message 0 has the nonce of twelve zeros.
        let key = SegmentKey { cipher: Aes256Gcm::new_from_slice(&zeros).unwrap(), check: [0; 8] };
        let mut text = [0; 16];
        assert_eq!(key.seal(0, &[], &mut text).to_vec(), expected.1);
        assert_eq!(text.to_vec(), expected.0);
        let key = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let text = bytes(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525",
            "b16aedf5aa0de657ba637b39"
        ));
        let associated = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let sealed = bytes(concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838",
            "c5f61e6393ba7a0abcc9f662"
        ));
        let tag = bytes("76fc6ece0f4e1768cddf8853bb2d551b");
        assert_eq!(seal(&key, &bytes("cafebabefacedbaddecaf888"), &associated, &text), (sealed, tag));
    }

    #[test]
    fn frames_open_only_where_they_were_sealed() {
        let mut header = header();
        let key = assign_key(Some(&ring()), &mut header).unwrap();
        let mut stored = b"hello".to_vec();
        let tag = key.seal_frame(&frame(), 48, &mut stored);
        assert_ne!(stored, b"hello");
        stored.extend_from_slice(&tag);
        let open = |key: &SegmentKey, frame: &FrameHeader, lsn, stored: &[u8]| {
            let mut stored = stored.to_vec();
            key.open_frame(frame, lsn, &mut stored).then(|| stored[..5].to_vec())
        };
        assert_eq!(open(&key, &frame(), 48, &stored).unwrap(), b"hello");
        assert_eq!(open(&key, &frame(), 56, &stored), None);
        for changed in [
            FrameHeader { first_id: 8, ..frame() },
            FrameHeader { ts: 1, ..frame() },
            FrameHeader { count: 2, ..frame() },
            FrameHeader { kind: FrameKind::Rewrite, ..frame() },
            FrameHeader { tag: 4, ..frame() },
            FrameHeader { durable_back: 1, ..frame() },
            FrameHeader { tagged: false, ..frame() },
        ] {
            assert_eq!(open(&key, &changed, 48, &stored), None, "{changed:?}");
        }
        assert_eq!(open(&key, &frame(), 48, &stored[..15]), None, "no room for a tag");
        for other in [
            SegmentHeader { salt: [8; 16], ..header },
            SegmentHeader { epoch: 3, ..header },
            SegmentHeader { segment_no: 4, ..header },
            SegmentHeader { log_id: [8; 16], ..header },
        ] {
            let key = assign_key(Some(&ring()), &mut { other }).unwrap();
            assert_eq!(open(&key, &frame(), 48, &stored), None, "{other:?}");
        }
        let object = KeyScope { purpose: Purpose::Object, ..KeyScope::of_segment(&header) };
        assert_eq!(open(&current_key(&ring(), &object), &frame(), 48, &stored), None);
    }

    #[test]
    fn missing_and_wrong_keys_are_told_apart() {
        let mut header = header();
        let file = Path::new("dir/x.log");
        assert!(segment_key(None, &header, file).unwrap().is_none(), "not encrypted");
        assert!(assign_key(None, &mut header).is_none());
        assert_eq!((header.version, header.key_id), (FormatVersion::V1, 0));
        let key = assign_key(Some(&ring()), &mut header).unwrap();
        assert_eq!((header.version, header.key_id, header.key_check), (FormatVersion::V2, 2, key.check()));
        assert!(segment_key(Some(&ring()), &header, file).unwrap().is_some());
        let rotated = KeyRing::new(3, [(2, [2; 32]), (3, [3; 32])]).unwrap();
        assert!(segment_key(Some(&rotated), &header, file).unwrap().is_some(), "an old key stays good");
        let without = KeyRing::new(1, [(1, [1; 32])]).unwrap();
        let wrong = KeyRing::new(2, [(2, [3; 32])]).unwrap();
        for (keys, expected) in [
            (None, "dir/x.log: encryption key 2 is needed to read it, and no keys were given"),
            (Some(&without), "dir/x.log: encryption key 2 is not in the key ring"),
            (Some(&wrong), "dir/x.log: encryption key 2 is not the key this file was written with"),
        ] {
            let error = segment_key(keys, &header, file).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Key, expected));
        }
    }

    #[test]
    fn rings_check_their_numbers_and_show_no_keys() {
        for (current, keys) in [(1, vec![]), (2, vec![(1, [1; 32])]), (0, vec![(0, [1; 32])])] {
            assert_eq!(KeyRing::new(current, keys).unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
        assert!(KeyRing::new(1, [(1, [1; 32]), (1, [2; 32])]).is_err());
        assert_eq!(format!("{:?}", ring()), "KeyRing { current: 2, ids: [1, 2], .. }");
        let key = assign_key(Some(&ring()), &mut header()).unwrap();
        assert_eq!(format!("{key:?}"), "SegmentKey { .. }");
        assert_eq!(ring(), KeyRing::new(2, [(2, [2; 32]), (1, [1; 32])]).unwrap());
        assert_ne!(ring(), KeyRing::new(1, [(1, [1; 32]), (2, [2; 32])]).unwrap());
        assert_ne!(ring(), KeyRing::new(2, [(1, [1; 32]), (2, [3; 32])]).unwrap());
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_one_flipped_bit_fails(text: Vec<u8>, associated: Vec<u8>, number: u64, at: usize, bit in 0..8u8) {
            let key = assign_key(Some(&ring()), &mut header()).unwrap();
            let mut sealed = text.clone();
            let tag = key.seal(number, &associated, &mut sealed);
            let mut opened = sealed.clone();
            prop_assert!(key.open(number, &associated, &mut opened, &tag));
            prop_assert_eq!(&opened, &text);
            let mut all = [&sealed[..], &tag, &associated].concat();
            let at = at % all.len();
            all[at] ^= 1 << bit;
            let (sealed, rest) = all.split_at_mut(text.len());
            let (tag, associated) = rest.split_first_chunk::<TAG_BYTES>().unwrap();
            prop_assert!(!key.open(number, associated, sealed, tag));
        }
    }
}
