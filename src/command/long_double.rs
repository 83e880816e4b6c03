//! [`LongDouble`]: the 80-bit floating point numbers of x86, in which Redis computes `INCRBYFLOAT`.
//!
//! A pure value type, in integers alone, so that every machine gives the same digits: 64 bits of significand, exponents as
//! the processor's, rounding to nearest, ties to even. Reads what `strtold` reads (decimal, hexadecimal, `inf`) and writes
//! what Redis writes: 17 digits after the point, without trailing zeros.
//!
//! **Limits:** text of up to 255 bytes; arithmetic is addition.
//!
//! Source: `string2ld` and `ld2string` of Redis' `util.c`; IEEE 754 extended precision.

const EXPONENT_MIN: i64 = -16445;
/// Exponent of the least significant bit of the largest finite number.
const EXPONENT_MAX: i64 = 16383 - 63;
const TEXT_BYTES_MAX: usize = 255;
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u128 = 10u128.pow(FRACTION_DIGITS as u32);

/// `significand * 2^exponent` with a sign, or infinity. The significand has its top bit set, unless it is subnormal or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    significand: u64,
    exponent: i64,
    infinite: bool,
}

impl LongDouble {
    const ZERO: LongDouble = LongDouble { negative: false, significand: 0, exponent: EXPONENT_MIN, infinite: false };

    fn infinity(negative: bool) -> LongDouble {
        LongDouble { negative, infinite: true, ..LongDouble::ZERO }
    }

    /// Rounds `(high + something below its last bit, if sticky) * 2^exponent`.
    fn round(negative: bool, high: u128, sticky: bool, exponent: i64) -> LongDouble {
        if high == 0 {
            return LongDouble { negative, ..LongDouble::ZERO };
        }
        let bits = 128 - i64::from(high.leading_zeros());
        let drop = (bits - 64).max(EXPONENT_MIN - exponent);
        if drop <= 0 {
            assert!(!sticky, "rounding needs bits below the last one");
            return Self::finite(negative, (high << -drop) as u64, exponent + drop);
        }
        if drop > 127 {
            return LongDouble { negative, ..LongDouble::ZERO };
        }
        let (kept, rest, half) = (high >> drop, high & ((1 << drop) - 1), 1 << (drop - 1));
        let up = rest > half || rest == half && (sticky || kept & 1 == 1);
        let kept = kept + u128::from(up);
        match u64::try_from(kept) {
            Ok(significand) => Self::finite(negative, significand, exponent + drop),
            Err(_) => Self::finite(negative, 1 << 63, exponent + drop + 1),
        }
    }

    fn finite(negative: bool, significand: u64, exponent: i64) -> LongDouble {
        if exponent > EXPONENT_MAX {
            return LongDouble::infinity(negative);
        }
        LongDouble { negative, significand, exponent, infinite: false }
    }

    /// Reads a number; `None` if the text is none, or is too large or too small to be told from infinity or zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::infinity(negative));
        }
        let value = match rest {
            [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(negative, digits)?,
            digits => parse_decimal(negative, digits)?,
        };
        (!value.infinite).then_some(value)
    }

    /// Adds two numbers; `None` if the sum is infinite or no number.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        if self.infinite || other.infinite {
            return None;
        }
        let (big, small) = if self.exponent_top() >= other.exponent_top() { (self, other) } else { (other, self) };
        if small.significand == 0 {
            let negative = if big.significand == 0 { big.negative && small.negative } else { big.negative };
            return Some(LongDouble { negative, ..big });
        }
        // The larger one gets 62 bits below its significand, room for a carry stays above.
        let exponent = big.exponent - 62;
        let high = u128::from(big.significand) << 62;
        let shift = exponent - small.exponent;
        let (low, sticky) = match shift {
            ..=0 => (u128::from(small.significand) << -shift, false),
            1..=63 => (u128::from(small.significand >> shift), small.significand & ((1 << shift) - 1) != 0),
            _ => (0, true),
        };
        let sum = if big.negative == small.negative {
            Self::round(big.negative, high + low, sticky, exponent)
        } else {
            let low = low + u128::from(sticky);
            match (high >= low, high == low) {
                (_, true) => LongDouble::ZERO,
                (true, _) => Self::round(big.negative, high - low, sticky, exponent),
                (false, _) => Self::round(small.negative, low - high, sticky, exponent),
            }
        };
        (!sum.infinite).then_some(sum)
    }

    /// Where the highest bit of a significand would be, were it normalised.
    fn exponent_top(self) -> i64 {
        if self.significand == 0 { i64::MIN } else { self.exponent + 64 - i64::from(self.significand.leading_zeros()) }
    }

    /// Writes the number in decimal without an exponent.
    pub fn format(self) -> String {
        assert!(!self.infinite, "infinity has no digits");
        let mut text = if self.exponent >= 0 {
            let mut integer = Big::from(self.significand);
            integer.shift_left(self.exponent as usize);
            integer.into_decimal()
        } else {
            let scaled = u128::from(self.significand) * FRACTION_SCALE;
            let drop = -self.exponent;
            let rounded = if drop > 127 {
                0
            } else {
                let (kept, rest, half) = (scaled >> drop, scaled & ((1 << drop) - 1), 1 << (drop - 1));
                kept + u128::from(rest > half || rest == half && kept & 1 == 1)
            };
            let fraction = format!("{:017}", rounded % FRACTION_SCALE);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{}{point}{fraction}", rounded / FRACTION_SCALE)
        };
        if self.negative && text != "0" {
            text.insert(0, '-');
        }
        text
    }
}

/// Reads the exponent after its letter; `None` if it is none. Far outside any range it stays there.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(if negative { -value } else { value })
}

/// Splits digits at an exponent's letter and at the point: digits without the point, how many follow it, the exponent.
fn split(text: &[u8], letter: u8, is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64, i64)> {
    let at = text.iter().position(|byte| byte.to_ascii_lowercase() == letter);
    let (mantissa, exponent) = match at {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|&byte| byte == b'.');
    let after = point.map_or(0, |point| mantissa.len() - point - 1);
    let mut digits = mantissa.to_vec();
    if let Some(point) = point {
        digits.remove(point);
    }
    (!digits.is_empty() && digits.iter().all(is_digit)).then_some((digits, after as i64, exponent))
}

fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, after, exponent) = split(text, b'p', u8::is_ascii_hexdigit)?;
    let (mut high, mut sticky, mut skipped) = (0u128, false, 0);
    for digit in digits {
        let value = u128::from((digit as char).to_digit(16).expect("a hexadecimal digit"));
        if high >> 120 == 0 {
            high = high << 4 | value;
        } else {
            skipped += 4;
            sticky |= value != 0;
        }
    }
    if sticky {
        // Keep a bit below for the rounding to see.
        high |= 1;
    }
    let zero = high == 0;
    let value = LongDouble::round(negative, high, false, exponent - after * 4 + skipped);
    (zero || value.significand != 0 || value.infinite).then_some(value)
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, after, exponent) = split(text, b'e', u8::is_ascii_digit)?;
    let mut number = Big::default();
    digits.iter().for_each(|digit| number.multiply_add(10, u32::from(digit - b'0')));
    if number.bits() == 0 {
        return Some(LongDouble { negative, ..LongDouble::ZERO });
    }
    let power = exponent - after;
    if power > 5000 {
        return None;
    }
    if power < -6000 {
        return None;
    }
    let value = if power >= 0 {
        (0..power).for_each(|_| number.multiply_add(10, 0));
        let drop = number.bits().saturating_sub(126);
        let (high, sticky) = number.top(drop);
        LongDouble::round(negative, high | u128::from(sticky), false, drop as i64)
    } else {
        let mut divisor = Big::from(1);
        (0..-power).for_each(|_| divisor.multiply_add(10, 0));
        let (high, exponent) = divide(number, divisor);
        LongDouble::round(negative, high, false, exponent)
    };
    (value.significand != 0 && !value.infinite).then_some(value)
}

/// Returns the quotient's first 100 bits or so, the last of them set if anything is left, and its exponent.
fn divide(mut number: Big, mut divisor: Big) -> (u128, i64) {
    let mut exponent = number.bits() as i64 - divisor.bits() as i64;
    if exponent >= 0 {
        divisor.shift_left(exponent as usize);
    } else {
        number.shift_left(-exponent as usize);
    }
    let mut quotient = 0u128;
    for _ in 0..100 {
        quotient <<= 1;
        if number.subtract_if_at_least(&divisor) {
            quotient |= 1;
        }
        number.shift_left(1);
        exponent -= 1;
    }
    (quotient | u128::from(number.bits() != 0), exponent + 1)
}

/// A natural number: 32-bit digits, the lowest first, no zeros on top.
#[derive(Clone, Debug, Default)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(value: u64) -> Big {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, bits: usize) {
        if self.0.is_empty() {
            return;
        }
        let small = bits % 32;
        if small > 0 {
            let mut carry = 0;
            for digit in &mut self.0 {
                (*digit, carry) = (*digit << small | carry, *digit >> (32 - small));
            }
            if carry > 0 {
                self.0.push(carry);
            }
        }
        self.0.splice(0..0, std::iter::repeat_n(0, bits / 32));
    }

    /// Returns the number without its lowest `drop` bits, at most 126 bits of it, and whether one of those was set.
    fn top(&self, drop: usize) -> (u128, bool) {
        let (mut high, mut sticky) = (0u128, false);
        for at in (0..self.bits()).rev() {
            let bit = self.0[at / 32] >> (at % 32) & 1;
            if at >= drop {
                high = high << 1 | u128::from(bit);
            } else {
                sticky |= bit == 1;
            }
        }
        (high, sticky)
    }

    fn subtract_if_at_least(&mut self, other: &Big) -> bool {
        let less = self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())).is_lt();
        if less {
            return false;
        }
        let mut borrow = 0;
        for (at, digit) in self.0.iter_mut().enumerate() {
            let taken = u64::from(other.0.get(at).copied().unwrap_or(0)) + borrow;
            borrow = u64::from(u64::from(*digit) < taken);
            *digit = (u64::from(*digit) + (borrow << 32) - taken) as u32;
        }
        assert_eq!(borrow, 0, "the larger was the smaller");
        self.trim();
        true
    }

    fn into_decimal(mut self) -> String {
        let mut parts = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0u64;
            for digit in self.0.iter_mut().rev() {
                rest = rest << 32 | u64::from(*digit);
                *digit = (rest / 1_000_000_000) as u32;
                rest %= 1_000_000_000;
            }
            self.trim();
            parts.push(rest);
        }
        let Some(top) = parts.pop() else { return "0".to_owned() };
        parts.iter().rev().fold(top.to_string(), |text, part| format!("{text}{part:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let (a, b) = (LongDouble::parse(a.as_bytes())?, LongDouble::parse(b.as_bytes())?);
        a.checked_add(b).map(LongDouble::format)
    }

    #[test]
    fn sums_as_the_processor_gives_them() {
        let cases = [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "0", "3"),
            ("-1", "1", "0"),
            ("-0", "-0", "0"),
            ("1.1", "2.2", "3.3"),
            ("0.1", "0.2", "0.3"),
            ("1e19", "1", "10000000000000000001"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("1", "-0.0000000000000000001", "1"),
            ("1e-17", "0", "0.00000000000000001"),
            ("1e-19", "0", "0"),
            ("-1e-19", "0", "0"),
            ("0x10", "0x.8p1", "17"),
            ("3.0e", "1", "?"),
            ("9007199254740993", "0.5", "9007199254740993.5"),
        ];
        for (a, b, expected) in cases {
            assert_eq!(sum(a, b).unwrap_or("?".into()), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in ["", " 1", "1 ", "abc", "1.2.3", "0x", ".", "nan", "1e", "e1", "1e5000", "1e-6000", "--1", "1\0"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1e4932", "1e4932"), None, "overflow");
        assert!(sum("1e4000", "1").is_some());
        assert_eq!(LongDouble::parse(&[b'1'; 256]), None);
    }

    #[test]
    fn agrees_with_doubles_where_they_are_exact() {
        for a in [-1000.5, -0.25, 0.0, 0.125, 3.75, 1e10] {
            for b in [-7.5, 0.0, 0.0625, 123456.5] {
                assert_eq!(sum(&format!("{a}"), &format!("{b}")), Some(format!("{}", a + b)), "{a} + {b}");
            }
        }
    }
}
