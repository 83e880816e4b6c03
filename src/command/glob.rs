//! Patterns of `KEYS` and `SCAN MATCH`: `*`, `?`, `[a-z]`, `[^a]` and `\`.
//!
//! A pure function over bytes. On a mismatch it goes back to the last `*` alone, which is enough since every other part of
//! a pattern stands for one byte: the cost is at most pattern x text, never exponential.
//!
//! Source: `stringmatchlen` of Redis' `util.c`, also for what malformed patterns mean.

/// Tells whether the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
            continue;
        }
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(_), Some(&byte)) => one(&pattern[p..], byte),
            _ => None,
        };
        match (step, &mut star) {
            (Some(len), _) => {
                p += len;
                t += 1;
            }
            (None, Some((after, from))) if *from < text.len() => {
                *from += 1;
                (p, t) = (*after, *from);
            }
            (None, _) => return false,
        }
    }
}

/// Matches the part that `pattern` begins with, no `*`, to one byte; returns the part's length.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (len, matched) = in_class(class, byte);
            matched.then_some(1 + len)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// Returns the length of a class after its `[`, which the end of the pattern closes too, and whether `byte` is in it.
fn in_class(class: &[u8], byte: u8) -> (usize, bool) {
    let not = class.first() == Some(&b'^');
    let mut at = usize::from(not);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => return (at, found != not),
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => return (at + 1, found != not),
            [from, b'-', to, ..] => {
                // As chars of the reference implementation: signed.
                let (from, to) = (*from as i8, *to as i8);
                found |= (from.min(to)..=from.max(to)).contains(&(byte as i8));
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let yes = [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("a*c", "abbc"),
            ("?", "x"),
            ("h[ae]llo", "hallo"),
            ("[^a]", "b"),
            ("[a-c]", "b"),
            ("[c-a]", "b"),
            ("\\*", "*"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("[a", "a"),
            ("**a**", "xax"),
            ("*ab*ab", "abcab"),
            ("[^]", "a"),
            ("[a-", "-"),
            ("*a?c", "aabcabc"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        let no = [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a*c", "ab"),
            ("h[ae]llo", "hillo"),
            ("[^a]", "a"),
            ("[]", "a"),
            ("[", "["),
            ("\\*", "a"),
            ("*a", "ab"),
            ("[a]b", "a"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 10_000]));
    }
}
