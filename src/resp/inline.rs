//! Inline commands: a line of words, as typed into telnet, with the quoting of a Redis command line.
//!
//! Words are separated by white space. `"..."` understands `\n \r \t \b \a \xHH` and `\` before any other byte; `'...'`
//! understands only `\'`. A closing quote must be followed by white space or the end of the line. Unquoting never makes a
//! word longer, so each word is rewritten in place and stays a range of the read buffer.
//!
//! Source: `sdssplitargs` of Redis 7.0.

use super::parser::Span;

/// The line's quotes do not pair up, or a closing quote is followed by more than white space.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits `line` (without its line end) into words, unquoted in place; `base` is the line's offset in the read buffer.
pub(super) fn split(line: &mut [u8], base: usize, words: &mut Vec<Span>) -> Result<(), Unbalanced> {
    let mut read = 0;
    let mut write = 0;
    loop {
        while line.get(read).is_some_and(|&byte| is_space(byte)) {
            read += 1;
        }
        // A NUL ends the line, as it ends the C string of the original.
        if line.get(read).is_none_or(|&byte| byte == 0) {
            return Ok(());
        }
        write = write.max(read);
        let start = write;
        while let Some(&byte) = line.get(read) {
            match byte {
                b'"' => (read, write) = double_quoted(line, read + 1, write)?,
                b'\'' => (read, write) = single_quoted(line, read + 1, write)?,
                0 => break,
                byte if is_space(byte) => break,
                byte => {
                    line[write] = byte;
                    (read, write) = (read + 1, write + 1);
                    continue;
                }
            }
            break;
        }
        assert!(write <= read, "unquoting never makes a word longer");
        words.push(Span::new(base + start, base + write));
    }
}

fn double_quoted(line: &mut [u8], mut read: usize, mut write: usize) -> Result<(usize, usize), Unbalanced> {
    loop {
        let byte = match *line.get(read).ok_or(Unbalanced)? {
            0 => return Err(Unbalanced),
            b'"' => return closed(line, read + 1, write),
            b'\\' => {
                let escaped = *line.get(read + 1).ok_or(Unbalanced)?;
                let hex = |at: usize| line.get(at).and_then(|&digit| char::from(digit).to_digit(16));
                match (escaped, hex(read + 2), hex(read + 3)) {
                    (b'x', Some(high), Some(low)) => {
                        read += 4;
                        (high * 16 + low) as u8
                    }
                    _ => {
                        read += 2;
                        unescape(escaped)
                    }
                }
            }
            byte => {
                read += 1;
                byte
            }
        };
        line[write] = byte;
        write += 1;
    }
}

fn single_quoted(line: &mut [u8], mut read: usize, mut write: usize) -> Result<(usize, usize), Unbalanced> {
    loop {
        let byte = match *line.get(read).ok_or(Unbalanced)? {
            0 => return Err(Unbalanced),
            b'\'' => return closed(line, read + 1, write),
            b'\\' if line.get(read + 1) == Some(&b'\'') => {
                read += 2;
                b'\''
            }
            byte => {
                read += 1;
                byte
            }
        };
        line[write] = byte;
        write += 1;
    }
}

/// Checks what follows a closing quote.
fn closed(line: &[u8], read: usize, write: usize) -> Result<(usize, usize), Unbalanced> {
    match line.get(read) {
        None | Some(0) => Ok((read, write)),
        Some(&byte) if is_space(byte) => Ok((read, write)),
        Some(_) => Err(Unbalanced),
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, Unbalanced> {
        let mut line = line.as_bytes().to_vec();
        let mut spans = Vec::new();
        split(&mut line, 0, &mut spans)?;
        Ok(spans.iter().map(|span| String::from_utf8_lossy(span.of(&line)).into_owned()).collect())
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("  set  foo\tbar ").unwrap(), ["set", "foo", "bar"]);
        assert_eq!(words(r#"set "a b" 'c d'"#).unwrap(), ["set", "a b", "c d"]);
        assert_eq!(words(r#""\x41\n\t\q\"" '\'\n'"#).unwrap(), ["A\n\tq\"", "'\\n"]);
        assert_eq!(words(r#""" ''"#).unwrap(), ["", ""]);
        assert_eq!(words(r#"a"b c" d"#).unwrap(), ["ab c", "d"]);
        assert_eq!(words(r#""\xZZ""#).unwrap(), ["xZZ"]);
        assert!(words("").unwrap().is_empty());
    }

    #[test]
    fn unbalanced_quotes() {
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "\"a\\\"", "'a\\'"] {
            assert_eq!(words(line), Err(Unbalanced), "{line}");
        }
    }
}
