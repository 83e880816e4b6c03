//! Integers as Redis reads them: strictly, so that a number has one spelling.
//!
//! Source: `string2ll` of Redis' `util.c`; `strtoul` for cursors.

use super::Failure;

/// Reads a decimal integer; no sign but `-`, no leading zeros, no spaces, no `-0`.
#[inline]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() > 19 {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits fit in 64 bits.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// Reads an argument or a value that has to be an integer.
///
/// # Errors
/// It is none.
pub fn integer(text: &[u8]) -> Result<i64, Failure> {
    parse_integer(text).ok_or(Failure::NOT_INTEGER)
}

/// Reads an argument that has to be a 32-bit integer.
///
/// # Errors
/// It is none.
pub fn integer_32(text: &[u8]) -> Result<i32, Failure> {
    let (min, max) = (i32::MIN, i32::MAX);
    i32::try_from(integer(text)?)
        .map_err(|_| Failure::Message(format!("ERR value is out of range, value must between {min} and {max}")))
}

/// Reads a `SCAN` cursor as `strtoul` does; `None` if anything else follows or it is over 64 bits.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decimal;
    use proptest::prelude::*;

    #[test]
    fn integers_have_one_spelling() {
        for (text, value) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse_integer(text.as_bytes()), Some(value), "{text}");
        }
        let refused = [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x10",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "-01",
            "00",
        ];
        for text in refused {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn cursors_as_strtoul() {
        for (text, value) in [("", Some(0)), ("0", Some(0)), ("+7", Some(7)), ("-1", Some(u64::MAX)), ("007", Some(7))]
        {
            assert_eq!(parse_cursor(text.as_bytes()), value, "{text}");
        }
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        for text in ["x", "1x", "-", " 1", "18446744073709551616"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_integers_read_back(value: i64) {
            let mut room = [0; 20];
            let text = decimal(value, &mut room);
            prop_assert_eq!(parse_integer(text), Some(value));
            prop_assert_eq!(String::from_utf8_lossy(text), value.to_string());
        }
    }
}
