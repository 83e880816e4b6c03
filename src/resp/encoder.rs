//! Replies as bytes: one method for each RESP type, with the RESP2 stand-in where RESP2 lacks the type.
//!
//! Each session owns one [`Encoder`] and lends it to the command being executed, on whichever thread runs the session.
//! Aggregates are written head first: [`Encoder::array`] announces `len` elements and the caller then writes exactly so
//! many replies.
//!
//! **Invariants:** a reply is appended whole; no CR or LF reaches a simple string or an error, so that no text from a
//! client can forge a second reply.

/// The protocol version a session speaks, chosen by `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2,
    /// RESP3, with maps, sets, doubles, booleans and push messages.
    Resp3,
}

/// Appends replies to a byte vector.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Decides how each type is written from here on.
    pub protocol: Protocol,
    out: Vec<u8>,
    errors: u64,
}

impl Encoder {
    /// Makes an empty encoder for `protocol`.
    pub fn new(protocol: Protocol) -> Encoder {
        Encoder { protocol, out: Vec::new(), errors: 0 }
    }

    /// Returns everything written since the last [`clear`](Self::clear).
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Returns the number of bytes written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Returns true when nothing is waiting to be sent.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Returns the bytes of memory held, used or not.
    pub fn capacity(&self) -> usize {
        self.out.capacity()
    }

    /// Forgets what was written and keeps at most `capacity_max` bytes of memory for reuse.
    pub fn clear(&mut self, capacity_max: usize) {
        self.out.clear();
        self.out.shrink_to(capacity_max);
    }

    /// Takes back everything written after the first `len` bytes: a reply that turned out to be untrue.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.out.len(), "cannot take back {len} of {} bytes", self.out.len());
        self.out.truncate(len);
    }

    /// Returns the number of error replies written in the encoder's life.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Appends bytes that are already a reply.
    pub fn raw(&mut self, reply: &[u8]) {
        self.out.extend_from_slice(reply);
    }

    /// Writes `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// Writes a simple string; CR and LF become spaces.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.line(text.as_bytes());
    }

    /// Writes an error; `text` begins with its code (`"ERR syntax error"`). CR and LF become spaces.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.errors += 1;
        self.out.push(b'-');
        self.line(text.as_ref());
    }

    /// Writes an integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// Writes a string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes an integer as a string of decimal digits.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = [0; 20];
        let digits = decimal(value, &mut digits);
        self.length(b'$', digits.len());
        self.out.extend_from_slice(digits);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes the absent value (RESP2: the null bulk string).
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Writes the absent array (RESP2: the null array).
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Announces `len` elements.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// Announces `pairs` keys, each followed by its value (RESP2: a flat array).
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', pairs * 2),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// Announces `len` elements without order (RESP2: an array).
    pub fn set(&mut self, len: usize) {
        self.length(self.resp3_or(b'~', b'*'), len);
    }

    /// Announces a message of `len` elements that answers no request (RESP2: an array).
    pub fn push(&mut self, len: usize) {
        self.length(self.resp3_or(b'>', b'*'), len);
    }

    /// Writes a floating point number in the shortest form that reads back the same (RESP2: as a string).
    pub fn double(&mut self, value: f64) {
        let text = if value.is_nan() {
            "nan".to_owned()
        } else if value.is_infinite() {
            (if value > 0.0 { "inf" } else { "-inf" }).to_owned()
        } else if value != 0.0 && !(1e-5..1e17).contains(&value.abs()) {
            format!("{value:e}")
        } else {
            format!("{value}")
        };
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b',');
                self.line(text.as_bytes());
            }
        }
    }

    /// Writes a truth value (RESP2: 1 or 0).
    pub fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// Writes text for people, `format` being `"txt"` or `"mkd"` (RESP2: a string).
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        assert_eq!(format.len(), 3, "a verbatim string's format has three letters");
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.length(b'=', text.len() + 4);
                self.out.extend_from_slice(format.as_bytes());
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Writes an integer of any size, given as decimal digits (RESP2: a string).
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b'(');
                self.line(digits.as_bytes());
            }
        }
    }

    fn resp3_or(&self, resp3: u8, resp2: u8) -> u8 {
        match self.protocol {
            Protocol::Resp2 => resp2,
            Protocol::Resp3 => resp3,
        }
    }

    fn line(&mut self, text: &[u8]) {
        if memchr2(text) {
            self.out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        } else {
            self.out.extend_from_slice(text);
        }
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn length(&mut self, kind: u8, len: usize) {
        if len < 10 {
            self.out.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']);
        } else {
            self.head(kind, i64::try_from(len).expect("a length in memory fits"));
        }
    }

    #[inline]
    fn head(&mut self, kind: u8, value: i64) {
        let mut digits = [0; 20];
        let digits = decimal(value, &mut digits);
        self.out.push(kind);
        self.out.extend_from_slice(digits);
        self.out.extend_from_slice(b"\r\n");
    }
}

fn memchr2(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Writes `value` in decimal to the end of `room` and returns the part written.
#[inline]
pub fn decimal(value: i64, room: &mut [u8; 20]) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        room[at] = b'-';
    }
    &room[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Encoder)) -> String {
        let mut encoder = Encoder::new(protocol);
        write(&mut encoder);
        String::from_utf8(encoder.bytes().to_vec()).expect("tests write text")
    }

    fn both(write: impl Fn(&mut Encoder)) -> (String, String) {
        (written(Protocol::Resp2, &write), written(Protocol::Resp3, &write))
    }

    #[test]
    fn every_type_in_both_protocols() {
        type Case<'a> = (&'a dyn Fn(&mut Encoder), &'a str, &'a str);
        let cases: [Case<'_>; 17] = [
            (&|e| e.ok(), "+OK\r\n", "+OK\r\n"),
            (&|e| e.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (&|e| e.error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
            (&|e| e.integer(-12), ":-12\r\n", ":-12\r\n"),
            (&|e| e.bulk(b"hello world"), "$11\r\nhello world\r\n", "$11\r\nhello world\r\n"),
            (&|e| e.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (&|e| e.bulk_integer(-120), "$4\r\n-120\r\n", "$4\r\n-120\r\n"),
            (&|e| e.null(), "$-1\r\n", "_\r\n"),
            (&|e| e.null_array(), "*-1\r\n", "_\r\n"),
            (&|e| e.array(12), "*12\r\n", "*12\r\n"),
            (&|e| e.map(2), "*4\r\n", "%2\r\n"),
            (&|e| e.set(2), "*2\r\n", "~2\r\n"),
            (&|e| e.push(2), "*2\r\n", ">2\r\n"),
            (&|e| e.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (&|e| e.boolean(true), ":1\r\n", "#t\r\n"),
            (&|e| e.verbatim("txt", b"ab"), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n"),
            (&|e| e.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
        }
    }

    #[test]
    fn integers_at_the_edges() {
        for value in [0, 9, 10, -1, i64::MAX, i64::MIN] {
            assert_eq!(written(Protocol::Resp2, |e| e.integer(value)), format!(":{value}\r\n"));
        }
    }

    #[test]
    fn line_ends_in_text_cannot_forge_a_reply() {
        assert_eq!(written(Protocol::Resp2, |e| e.error("ERR a\r\n+OK\r\n")), "-ERR a  +OK  \r\n");
        assert_eq!(written(Protocol::Resp2, |e| e.simple("a\nb")), "+a b\r\n");
    }

    #[test]
    fn doubles_without_a_finite_value() {
        assert_eq!(written(Protocol::Resp3, |e| e.double(f64::INFINITY)), ",inf\r\n");
        assert_eq!(written(Protocol::Resp3, |e| e.double(f64::NEG_INFINITY)), ",-inf\r\n");
        assert_eq!(written(Protocol::Resp3, |e| e.double(f64::NAN)), ",nan\r\n");
        assert_eq!(written(Protocol::Resp3, |e| e.double(1e300)), ",1e300\r\n");
    }

    #[test]
    fn a_reply_can_be_taken_back() {
        let mut encoder = Encoder::new(Protocol::Resp2);
        encoder.ok();
        let mark = encoder.len();
        encoder.integer(7);
        encoder.truncate(mark);
        assert_eq!(encoder.bytes(), b"+OK\r\n");
    }
}
