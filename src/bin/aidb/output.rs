//! What the commands print, and how bytes look as text.
//!
//! [`Output`] takes a closed pipe for the reader's way to say that it has seen enough. [`escape`] and [`unescape`] are each
//! other's inverse, so that a printed key can be given to a command.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

/// Standard output that may close: what is written then is dropped, and [`is_open`](Output::is_open) says so.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    open: bool,
}

impl Output {
    /// Takes standard output.
    pub(crate) fn new() -> Output {
        Output { out: BufWriter::new(io::stdout().lock()), open: true }
    }

    /// Returns false once the reader has seen enough.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    fn note(&mut self, done: io::Result<()>) -> Result<(), String> {
        match done {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.open = false,
            Err(error) => return Err(format!("standard output: {error}")),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !self.open {
            return Ok(());
        }
        let done = self.out.write_all(bytes);
        self.note(done)
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), String> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Hands over what was written.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        if !self.open {
            return Ok(());
        }
        let done = self.out.flush();
        self.note(done)
    }
}

/// Returns bytes as printable ASCII.
pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Returns the bytes that [`escape`] prints as `text`; other text stands for itself.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, _) = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let byte = digits.ok_or_else(|| format!("{text:?}: \\x is followed by two hexadecimal digits"))?;
                (tail, bytes.push(byte))
            }
            (b'\\', [b'n', tail @ ..]) => (tail, bytes.push(b'\n')),
            (b'\\', [b'r', tail @ ..]) => (tail, bytes.push(b'\r')),
            (b'\\', [b't', tail @ ..]) => (tail, bytes.push(b'\t')),
            (b'\\', [other @ (b'\\' | b'\'' | b'"'), tail @ ..]) => (tail, bytes.push(*other)),
            (b'\\', _) => return Err(format!("{text:?}: a backslash is written \\\\")),
            (byte, tail) => (tail, bytes.push(*byte)),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_escaped_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)).unwrap(), all);
        assert_eq!(unescape("käse").unwrap(), "käse".as_bytes());
        for bad in ["\\", "\\x", "\\x0", "\\xzz", "\\q"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
