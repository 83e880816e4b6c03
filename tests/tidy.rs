//! Inspects the house: floors, openings, sizes, raw codecs, paths named in the docs, corpus files in use.
//!
//! Runs under plain `cargo test`. Each rule is a function that returns the list of its offences, so that a failure names
//! every place at once; [`rules_bite`] feeds each rule a planted offence and expects it to be found.
#![allow(clippy::disallowed_methods, reason = "reads the source tree, not a database")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor: each with the modules it may name. `base` stands on nothing.
const FLOORS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("env", &["base"]),
    ("resp", &["base"]),
    ("aof", &["base", "env"]),
    ("lsm", &["base", "env", "aof"]),
    ("raft", &["base", "env", "aof"]),
    ("storage_engine", &["base", "lsm"]),
    ("command", &["base", "env", "resp", "lsm", "raft"]),
    ("persistence", &["base", "env", "resp"]),
    ("server", &["base", "env", "resp", "aof", "lsm", "raft", "command", "persistence"]),
];
const CODE: &[&str] = &["src", "sim", "tests", "benches", "examples", "fuzz"];

const FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;
const OPENING_LINES_MAX: usize = 60;
const BLOB_BYTES_MAX: u64 = 1 << 20;

struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() {
            found.push(path);
        } else if !matches!(name.as_str(), "target" | ".git" | "artifacts" | "data" | "failures") {
            walk(&path, found);
        }
    }
}

/// Lists the files below `dir`, as paths from the root.
fn files(dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    let dir = root().join(dir);
    if dir.is_dir() {
        walk(&dir, &mut found);
    }
    found.iter().map(|path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()).collect()
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    dirs.iter()
        .flat_map(|dir| files(dir))
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Source { text: fs::read_to_string(root().join(&path)).unwrap(), path })
        .collect()
}

/// Runs `rule` over every source below `dirs` and fails with all its offences.
fn hold(dirs: &[&str], rule: impl Fn(&Source) -> Vec<String>) {
    assert_none(&sources(dirs).iter().flat_map(rule).collect::<Vec<_>>());
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Finds `crate::module` paths that reach upwards or sideways, and any mention of the simulator.
fn floors(source: &Source) -> Vec<String> {
    let module = source.path.strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next()).unwrap_or_default();
    let Some((_, below)) = FLOORS.iter().find(|(name, _)| *name == module) else { return Vec::new() };
    let mut offences = Vec::new();
    for (number, line) in source.text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
        for (at, _) in line.match_indices("crate::") {
            let named: String = line[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let known = FLOORS.iter().any(|(name, _)| *name == named);
            if known && named != module && !below.contains(&named.as_str()) {
                offences.push(format!("{}:{}: {module} may not use {named}", source.path, number + 1));
            }
        }
        if line.contains("aidb_sim") {
            offences.push(format!("{}:{}: src never names the simulator", source.path, number + 1));
        }
    }
    offences
}

/// Every file opens with `//!` that says what it is, in at most [`OPENING_LINES_MAX`] lines; formats may be longer.
fn openings(source: &Source) -> Vec<String> {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let long = source.path.ends_with("format.rs") || source.path.ends_with("lib.rs");
    match lines {
        0 => vec![format!("{}: does not open with //!", source.path)],
        _ if lines > OPENING_LINES_MAX && !long => {
            vec![format!("{}: opening of {lines} lines, at most {OPENING_LINES_MAX}", source.path)]
        }
        _ => Vec::new(),
    }
}

/// Files and functions stay small enough to read.
fn sizes(source: &Source) -> Vec<String> {
    let mut offences = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    if lines.len() > FILE_LINES_MAX {
        offences.push(format!("{}: {} lines, at most {FILE_LINES_MAX}", source.path, lines.len()));
    }
    let mut open: Option<(usize, usize)> = None;
    for (number, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let starts = ["fn ", "pub ", "pub(", "async ", "const ", "unsafe "].iter().any(|word| code.starts_with(word));
        if starts && format!(" {code}").contains(" fn ") && !code.ends_with([';', '}']) {
            open = Some((number, line.len() - code.len()));
        } else if let Some((first, indent)) = open
            && *line == format!("{}}}", " ".repeat(indent))
        {
            let length = number - first + 1;
            if length > FUNCTION_LINES_MAX {
                let place = format!("{}:{}", source.path, first + 1);
                offences.push(format!("{place}: function of {length} lines, at most {FUNCTION_LINES_MAX}"));
            }
            open = None;
        }
    }
    offences
}

/// Raw byte codecs live in `base/` and `format.rs` files alone; tests may look anywhere.
fn raw_codecs(source: &Source) -> Vec<String> {
    let exempt = ["/format.rs", "/tests.rs"].iter().any(|name| source.path.ends_with(name));
    if exempt || source.path.starts_with("src/base/") {
        return Vec::new();
    }
    let product = source.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let codecs = ["from_le_bytes", "to_le_bytes", "from_be_bytes", "to_be_bytes", "from_ne_bytes", "to_ne_bytes"];
    let lines = product.lines().enumerate().filter(|(_, line)| !is_comment(line));
    lines
        .filter(|(_, line)| codecs.iter().any(|codec| line.contains(codec)))
        .map(|(number, _)| format!("{}:{}: raw codec outside format.rs", source.path, number + 1))
        .collect()
}

/// No leftovers of work in progress.
fn leftovers(source: &Source) -> Vec<String> {
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("dbg", "!("), concat!("todo", "!(")];
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)))
        .map(|(number, line)| format!("{}:{}: leftover: {}", source.path, number + 1, line.trim()))
        .collect()
}

/// Returns the back-quoted words of `text` that look like paths of this repository.
fn named_paths(text: &str) -> Vec<String> {
    let tops = ["src/", "sim/", "fuzz/", "tests/", "corpus/", "benches/", "examples/", ".ci/"];
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| tops.iter().any(|top| word.starts_with(top)))
        .filter(|word| !word.contains([' ', '*', '<', '{', '\n', '$']) && !word.contains("NN"))
        .map(|word| word.split(':').next().unwrap().trim_end_matches('/').to_string())
        .collect()
}

/// Returns the rules of the log, stated in `code` as `**R1**`, that no row of `table` holds a planted bug of `code` against.
fn rules_without_bugs(code: &str, table: &str) -> Vec<String> {
    let rule = |line: &str| Some(line.split_once("- **")?.1.split_once("** ")?.0.to_owned());
    let stated = code.lines().filter(|line| line.starts_with("//! - **R")).filter_map(rule);
    let is_planted = |bug: &str| code.contains(&format!("(\"{bug}\","));
    let mut offences = Vec::new();
    for rule in stated {
        let row = table.lines().find(|line| line.starts_with(&format!("| {rule} |"))).unwrap_or_default();
        let bugs: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        if bugs.is_empty() {
            offences.push(format!("no planted bug is held against {rule}"));
        }
        let unknown = bugs.into_iter().filter(|bug| !is_planted(bug));
        offences.extend(unknown.map(|bug| format!("{rule}: there is no planted bug {bug}")));
    }
    offences
}

#[test]
fn every_rule_of_the_log_has_a_planted_bug() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (code, table) = (read("src/aof/mod.rs"), read("ARCHITECTURE.md"));
    assert_none(&rules_without_bugs(&code, &table));
    assert!(code.contains("//! - **R11** "), "the rules are where they are looked for");
}

#[test]
fn floors_are_kept() {
    hold(&["src"], floors);
}

#[test]
fn every_file_opens_with_what_it_is() {
    hold(CODE, openings);
}

#[test]
fn files_and_functions_are_small() {
    hold(CODE, sizes);
}

#[test]
fn raw_codecs_live_in_formats() {
    hold(&["src"], raw_codecs);
}

#[test]
fn nothing_is_left_over() {
    hold(CODE, leftovers);
}

#[test]
fn paths_named_in_the_docs_exist() {
    let mut offences = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benches/README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        let missing = named_paths(&text).into_iter().filter(|path| !root().join(path).exists());
        offences.extend(missing.map(|path| format!("{document} names {path}, which does not exist")));
    }
    assert_none(&offences);
}

#[test]
fn every_corpus_file_is_used() {
    let code: String = sources(CODE).into_iter().map(|source| source.text).collect();
    let targets = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap_or_default();
    let mut offences = Vec::new();
    for path in files("corpus") {
        let parts: Vec<&str> = path.split('/').collect();
        let used = match parts[1] {
            "fuzz" => targets.contains(&format!("\"{}\"", parts[2])),
            // Read as whole directories by the tests that name them.
            "sim" | "scripts" => code.contains(&format!("corpus/{}", parts[1])),
            "formats" => code.contains(parts[parts.len() - 1]),
            _ => path.ends_with("README.md"),
        };
        if !used {
            offences.push(format!("{path} is not used"));
        }
    }
    assert_none(&offences);
}

#[test]
fn no_large_blobs() {
    let mut offences = Vec::new();
    for dir in CODE.iter().chain(&["corpus"]) {
        for path in files(dir) {
            let bytes = fs::metadata(root().join(&path)).unwrap().len();
            if bytes > BLOB_BYTES_MAX {
                offences.push(format!("{path}: {bytes} bytes, at most {BLOB_BYTES_MAX}"));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn rules_bite() {
    let planted = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    assert_eq!(floors(&planted("src/env/x.rs", "use crate::lsm::DB;")).len(), 1);
    assert_eq!(floors(&planted("src/lsm/x.rs", "use crate::base::Error;\nuse crate::raft::Group;")).len(), 1);
    assert_eq!(floors(&planted("src/lsm/x.rs", "use aidb_sim::World;")).len(), 1);
    assert_eq!(floors(&planted("src/lsm/x.rs", "use crate::base::Error; // fine")).len(), 0);
    assert_eq!(openings(&planted("src/x.rs", "fn main() {}")).len(), 1);
    assert_eq!(openings(&planted("src/x.rs", &"//! a\n".repeat(61))).len(), 1);
    assert_eq!(sizes(&planted("src/x.rs", &"\n".repeat(1001))).len(), 1);
    let long = format!("    pub fn f() {{\n{}    }}\n", "        g();\n".repeat(70));
    assert_eq!(sizes(&planted("src/x.rs", &long)).len(), 1);
    assert_eq!(raw_codecs(&planted("src/lsm/x.rs", "let n = u32::from_le_bytes(b);")).len(), 1);
    assert_eq!(raw_codecs(&planted("src/lsm/format.rs", "let n = u32::from_le_bytes(b);")).len(), 0);
    assert_eq!(leftovers(&planted("src/x.rs", concat!("// FIX", "ME later"))).len(), 1);
    let rules = "//! - **R1** First.\n//! - **R2** Second.\n(\"aof_first\",";
    assert_eq!(rules_without_bugs(rules, "| R1 | x | `aof_first` |\n| R2 | x | `aof_other` |").len(), 1);
    assert_eq!(rules_without_bugs(rules, "| R1 | x | `aof_first` |").len(), 1);
    assert_eq!(named_paths("see `src/nowhere.rs:12` and `cargo test`"), ["src/nowhere.rs"]);
}
