//! The command table: every command the server has, found by name.
//!
//! Sessions call [`lookup`] once per request; `COMMAND` walks [`all`]. The table is constant: names hash into an index that
//! the compiler fills, and a name that is not found costs one probe or two.
//!
//! **Invariants:** names are lower case and unique; every command is found under its own name (tests).
//!
//! Source: `COMMAND INFO` and `COMMAND DOCS` of Redis 7.0.15; `CLIENT SETINFO` is of 7.2.

mod connection;
mod generic;
mod server;
mod spec;
mod strings;

pub use spec::{Argument, ArgumentKind, CommandSpec, Flags, Group, Id, KeySpec};

const FAMILIES: [&[CommandSpec]; 4] = [connection::COMMANDS, generic::COMMANDS, server::COMMANDS, strings::COMMANDS];
static ALL: [&[CommandSpec]; 4] = FAMILIES;
const NAME_BYTES_MAX: usize = 32;
const INDEX_SLOTS: usize = 512;
const NOTHING: (u8, u8) = (u8::MAX, 0);

/// For each hash: family and row, or [`NOTHING`]. Linear probing.
static INDEX: [(u8, u8); INDEX_SLOTS] = build_index();

const fn hash(name: &[u8]) -> usize {
    let mut state = name.len() as u32;
    let mut at = 0;
    while at < name.len() {
        state = (state ^ (name[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (state ^ state >> 15) as usize % INDEX_SLOTS
}

const fn build_index() -> [(u8, u8); INDEX_SLOTS] {
    let mut index = [NOTHING; INDEX_SLOTS];
    let mut family = 0;
    while family < FAMILIES.len() {
        let mut row = 0;
        while row < FAMILIES[family].len() {
            let name = FAMILIES[family][row].name.as_bytes();
            assert!(name.len() <= NAME_BYTES_MAX);
            let mut slot = hash(name);
            while index[slot].0 != NOTHING.0 {
                slot = (slot + 1) % INDEX_SLOTS;
            }
            index[slot] = (family as u8, row as u8);
            row += 1;
        }
        family += 1;
    }
    index
}

/// Finds a command by its name, in any case.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut slot = hash(name);
    while INDEX[slot].0 != NOTHING.0 {
        let spec = &ALL[INDEX[slot].0 as usize][INDEX[slot].1 as usize];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        slot = (slot + 1) % INDEX_SLOTS;
    }
    None
}

/// Lists every command, family by family, by name within one.
pub fn all() -> impl Iterator<Item = &'static CommandSpec> {
    ALL.iter().flat_map(|family| family.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        let mut count = 0;
        for spec in all() {
            assert_eq!(spec.name, spec.name.to_lowercase());
            assert_eq!(lookup(spec.name.as_bytes()).map(|found| found.id), Some(spec.id));
            assert_eq!(lookup(spec.name.to_uppercase().as_bytes()).map(|found| found.id), Some(spec.id));
            count += 1;
            for sub in spec.subcommands {
                assert!(sub.name.starts_with(spec.name), "{} below {}", sub.name, spec.name);
                assert!(sub.id == spec.id && !sub.summary.is_empty());
            }
        }
        assert!(count > 60, "{count} commands");
        for unknown in [&b""[..], b"se", b"sett", b"s\x05t", &[b'a'; 40], "\u{212a}eys".as_bytes()] {
            assert!(lookup(unknown).is_none(), "{unknown:?}");
        }
    }

    #[test]
    fn keys_are_found_by_position() {
        let keys = |name: &[u8], args| lookup(name).expect("known").key_positions(args).collect::<Vec<_>>();
        assert_eq!(keys(b"get", 2), [1]);
        assert_eq!(keys(b"mset", 5), [1, 3]);
        assert_eq!(keys(b"del", 4), [1, 2, 3]);
        assert_eq!(keys(b"rename", 3), [1, 2]);
        assert_eq!(keys(b"copy", 5), [1, 2]);
        assert_eq!(keys(b"scan", 2), [0usize; 0]);
        assert_eq!(keys(b"object", 3), [0usize; 0], "its subcommands have keys");
        assert_eq!(lookup(b"object").and_then(|spec| spec.subcommand(b"ENCODING")).map(|spec| spec.first_key), Some(2));
    }

    #[test]
    fn arity_counts_the_name() {
        let get = lookup(b"GET").expect("known");
        assert!(get.accepts(2) && !get.accepts(1) && !get.accepts(3));
        let set = lookup(b"SET").expect("known");
        assert!(set.accepts(3) && set.accepts(9) && !set.accepts(2));
    }
}
