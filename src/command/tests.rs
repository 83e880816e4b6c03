//! The commands against the replies of Redis, and the stores against each other.
#![allow(clippy::disallowed_methods, reason = "reads scripts of the source tree")]

use super::db::{Context, Databases, Plan};
use super::store::{EngineStore, MemoryStore, Position, Store, Visit};
use super::table;
use crate::base::{Error, Result};
use crate::env::StdEnv;
use crate::lsm::{Engine, Options};
use crate::resp::{Encoder, Protocol};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

const START_MS: u64 = 1_750_000_000_000;
const DATABASES: usize = 16;

/// A client of databases that keeps its own time.
struct Client<S: Store> {
    databases: Databases<S>,
    plan: Plan<S>,
    db: usize,
    context: Context,
}

fn memory() -> Client<MemoryStore> {
    Client::new(MemoryStore::new())
}

fn engine(dir: &tempfile::TempDir) -> Client<EngineStore> {
    let options = Options { memtable_bytes: 64 << 10, ..Options::default() };
    Client::new(EngineStore::new(Engine::<StdEnv>::open_in(StdEnv, dir.path(), options).expect("a fresh directory")))
}

impl<S: Store> Client<S> {
    fn new(store: S) -> Client<S> {
        let databases = Databases::open(store, DATABASES).expect("a store that works");
        Client { databases, plan: Plan::new(), db: 0, context: Context { now_ms: START_MS, seed: 1 } }
    }

    /// Executes requests as one batch; returns the reply of each.
    fn batch(&mut self, requests: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
        let requests: Vec<Vec<&[u8]>> = requests.iter().map(|args| args.iter().map(Vec::as_slice).collect()).collect();
        let spec = |args: &[&[u8]]| table::lookup(args[0]).expect("scripts name known commands");
        self.plan.clear();
        requests.iter().for_each(|args| self.plan.add(spec(args), args));
        self.context.seed = self.context.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut batch = self.databases.begin(&mut self.plan, self.context);
        let mut replies = Vec::new();
        for args in &requests {
            let mut out = Encoder::new(Protocol::Resp2);
            if spec(args).is_session() {
                self.db = String::from_utf8_lossy(args[1]).parse().expect("SELECT is the one used");
                out.ok();
            } else {
                batch.execute(self.db, spec(args), args, &mut out);
            }
            replies.push(out.bytes().to_vec());
        }
        batch.commit().expect("a store that works");
        replies
    }

    fn run(&mut self, args: &[&str]) -> String {
        let args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        Reply::parse(&self.batch(&[args])[0]).render(0)
    }

    fn scan_all(&mut self, options: &[Vec<u8>]) -> Reply {
        let (mut cursor, mut keys) = (b"0".to_vec(), BTreeSet::new());
        loop {
            let request = [vec![b"SCAN".to_vec(), cursor], options.to_vec()].concat();
            let Reply::Array(mut parts) = Reply::parse(&self.batch(&[request])[0]) else {
                panic!("SCAN replies an array")
            };
            let (Some(Reply::Array(found)), Some(Reply::Bulk(next))) = (parts.pop(), parts.pop()) else {
                panic!("SCAN replies a cursor and keys")
            };
            keys.extend(found);
            if next == b"0" {
                return Reply::Array(keys.into_iter().collect());
            }
            cursor = next;
        }
    }

    fn check(&mut self) {
        assert_eq!(self.databases.check().expect("a store that works"), Vec::<String>::new());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reply {
    Line(String),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
}

impl Reply {
    fn parse(bytes: &[u8]) -> Reply {
        let mut rest = bytes;
        let reply = Reply::parse_one(&mut rest);
        assert!(rest.is_empty(), "one reply, then {rest:?}");
        reply
    }

    fn parse_one(rest: &mut &[u8]) -> Reply {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a line");
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        *rest = &rest[end + 2..];
        match line.as_bytes()[0] {
            b'$' if line == "$-1" => Reply::Null,
            b'*' if line == "*-1" => Reply::Null,
            b'$' => {
                let len: usize = line[1..].parse().expect("a length");
                let bulk = rest[..len].to_vec();
                *rest = &rest[len + 2..];
                Reply::Bulk(bulk)
            }
            b'*' => Reply::Array((0..line[1..].parse().expect("a length")).map(|_| Reply::parse_one(rest)).collect()),
            _ => Reply::Line(line),
        }
    }

    fn render(&self, depth: usize) -> String {
        let indent = "  ".repeat(depth);
        match self {
            Reply::Line(line) => format!("{indent}{line}\n"),
            Reply::Null => format!("{indent}nil\n"),
            Reply::Bulk(bytes) => format!("{indent}{}\n", quote(bytes)),
            Reply::Array(replies) => {
                let inner: String = replies.iter().map(|reply| reply.render(depth + 1)).collect();
                format!("{indent}*{}\n{inner}", replies.len())
            }
        }
    }
}

fn quote(bytes: &[u8]) -> String {
    let inner: String = bytes
        .iter()
        .map(|&byte| match byte {
            b'"' => "\\\"".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'\t' => "\\t".to_owned(),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect();
    format!("\"{inner}\"")
}

/// Splits a script's line into words; `"..."` is one word, with escapes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut words, mut bytes) = (Vec::new(), line.bytes().peekable());
    while let Some(first) = bytes.next() {
        let mut word = Vec::new();
        match first {
            b' ' => continue,
            b'"' => loop {
                match bytes.next().expect("a closing quote") {
                    b'"' => break,
                    b'\\' => match bytes.next().expect("an escape") {
                        b'x' => {
                            let digits =
                                [bytes.next(), bytes.next()].map(|digit| char::from(digit.expect("two digits")));
                            let digits: String = digits.iter().collect();
                            word.push(u8::from_str_radix(&digits, 16).expect("hexadecimal digits"));
                        }
                        b'n' => word.push(b'\n'),
                        b'r' => word.push(b'\r'),
                        b't' => word.push(b'\t'),
                        other => word.push(other),
                    },
                    other => word.push(other),
                }
            },
            other => {
                word.push(other);
                while let Some(next) = bytes.next_if(|&next| next != b' ') {
                    word.push(next);
                }
            }
        }
        words.push(word);
    }
    words
}

/// Runs the steps of a script and returns it with the replies that came.
fn replay<S: Store>(client: &mut Client<S>, script: &str) -> String {
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            out.push_str(&format!("{line}\n"));
        } else if let Some(millis) = line.strip_prefix("@sleep ") {
            client.context.now_ms += millis.parse::<u64>().expect("milliseconds");
            out.push_str(&format!("{line}\n"));
        } else if let Some(options) = line.strip_prefix("@scan") {
            let reply = client.scan_all(&words(options));
            out.push_str(&format!("{line}\n{}", reply.render(0)));
        } else if let Some(command) = line.strip_prefix("> ") {
            let mut args = words(command);
            let sorted = args[0] == b"sort";
            if sorted {
                args.remove(0);
            }
            let mut reply = Reply::parse(&client.batch(&[args])[0]);
            if let Reply::Array(elements) = &mut reply
                && sorted
            {
                elements.sort();
            }
            out.push_str(&format!("{line}\n{}", reply.render(0)));
        }
    }
    out
}

fn scripts() -> Vec<(PathBuf, String)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/scripts"));
    let mut scripts: Vec<_> = std::fs::read_dir(dir)
        .expect("scripts are part of the source")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("command_")))
        .map(|path| (path.clone(), std::fs::read_to_string(path).expect("a readable script")))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 9);
    scripts
}

/// Names the first line that differs.
fn assert_same(path: &std::path::Path, expected: &str, found: &str) {
    let mut command = "";
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        if found.starts_with('>') {
            command = found;
        }
        assert_eq!(expected, found, "{}:{} at {command}", path.display(), number + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{}", path.display());
}

fn scripts_hold<S: Store>(new: impl Fn() -> Client<S>) {
    for (path, script) in scripts() {
        let mut client = new();
        assert_same(&path, &script, &replay(&mut client, &script));
        client.check();
    }
}

#[test]
fn scripts_give_the_replies_of_redis_in_memory() {
    scripts_hold(memory);
}

#[test]
fn scripts_give_the_replies_of_redis_on_the_engine() {
    let dirs = tempfile::tempdir().expect("a temporary directory");
    let dir = tempfile::tempdir_in(dirs.path()).expect("a temporary directory");
    let mut number = 0;
    for (path, script) in scripts() {
        number += 1;
        let dir = tempfile::Builder::new().prefix(&number.to_string()).tempdir_in(dir.path()).expect("a directory");
        let mut client = engine(&dir);
        assert_same(&path, &script, &replay(&mut client, &script));
        client.check();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Vec<String>>),
    Sleep(u64),
    Maintain(usize),
}

/// Requests as a client might make them: few keys, so that they meet.
fn request() -> impl Strategy<Value = Vec<String>> {
    let templates: &[&str] = &[
        "SET K V",
        "SET K V EX 1",
        "SET K V PX N KEEPTTL",
        "SET K V KEEPTTL",
        "SET K V NX GET",
        "SET K V XX PX N",
        "SETEX K 1 V",
        "GET K",
        "GETDEL K",
        "GETEX K PX N",
        "GETEX K PERSIST",
        "GETSET K V",
        "MSET K V K V K V",
        "MSETNX K V K V",
        "MGET K K K",
        "APPEND K V",
        "SETRANGE K 3 V",
        "STRLEN K",
        "INCR K",
        "DECRBY K N",
        "INCRBYFLOAT K 0.25",
        "DEL K K",
        "UNLINK K",
        "EXISTS K K",
        "PEXPIRE K N",
        "PEXPIRE K N NX",
        "PEXPIRE K N GT",
        "PEXPIRE K N LT",
        "PEXPIRE K -1",
        "PTTL K",
        "PEXPIRETIME K",
        "PERSIST K",
        "TYPE K",
        "RENAME K K",
        "RENAMENX K K",
        "COPY K K",
        "COPY K K REPLACE",
        "COPY K K DB D",
        "MOVE K D",
        "OBJECT ENCODING K",
        "LCS K K LEN",
        "KEYS *",
        "SCAN 0 COUNT 3",
        "SCAN 0 COUNT 1000",
        "RANDOMKEY",
        "DBSIZE",
        "SELECT D",
        "FLUSHDB",
        "SWAPDB D D",
        "FLUSHALL",
    ];
    let words = (0..templates.len(), any::<[u8; 8]>());
    words.prop_map(move |(template, random)| {
        let mut random = random.into_iter().cycle();
        let mut next = |below: u8| random.next().expect("cycles") % below;
        let fill = |word: &str| match word {
            "K" => format!("k{}", next(6)),
            "V" => ["7", "text", "", "-1.5", "a longer text than others"][usize::from(next(5))].to_owned(),
            "N" => (u64::from(next(200)) * 10 + 1).to_string(),
            "D" => next(3).to_string(),
            word => word.to_owned(),
        };
        templates[template].split(' ').map(fill).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(request(), 1..30).prop_map(Step::Batch),
        2 => (0u64..1500).prop_map(Step::Sleep),
        2 => (1usize..20).prop_map(Step::Maintain),
    ]
}

impl<S: Store> Client<S> {
    fn step(&mut self, step: &Step) -> Vec<Vec<u8>> {
        match step {
            Step::Batch(requests) => {
                let bytes = |args: &Vec<String>| args.iter().map(|arg| arg.clone().into_bytes()).collect();
                self.batch(&requests.iter().map(bytes).collect::<Vec<_>>())
            }
            Step::Sleep(millis) => {
                self.context.now_ms += millis;
                Vec::new()
            }
            Step::Maintain(limit) => {
                self.databases.maintain(&mut self.plan, self.context, true, *limit).expect("a store that works");
                Vec::new()
            }
        }
    }

    /// Compares the counters with a whole walk, once nothing is due.
    fn check_sizes(&mut self) {
        while self.databases.maintain(&mut self.plan, self.context, true, 1000).expect("a store that works").more {}
        self.check();
        for db in 0..DATABASES {
            self.db = db;
            let Reply::Array(keys) = self.scan_all(&[]) else { unreachable!("scan_all returns an array") };
            assert_eq!(self.run(&["DBSIZE"]), format!(":{}\n", keys.len()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_agree(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut a, mut b) = (memory(), engine(&dir));
        for step in &steps {
            prop_assert_eq!(a.step(step), b.step(step), "{:?}", step);
            a.check();
        }
        b.check();
        a.check_sizes();
        b.check_sizes();
    }

    #[test]
    fn a_batch_is_its_commands_one_by_one(steps in prop::collection::vec(step(), 1..40)) {
        let (mut together, mut apart) = (memory(), memory());
        for step in &steps {
            let expected = together.step(step);
            let found = match step {
                Step::Batch(requests) => {
                    let seed = apart.context.seed;
                    let one = |client: &mut Client<_>, request: &Vec<String>| {
                        client.context.seed = seed;
                        client.step(&Step::Batch(vec![request.clone()])).remove(0)
                    };
                    requests.iter().map(|request| one(&mut apart, request)).collect()
                }
                other => apart.step(other),
            };
            prop_assert_eq!(expected, found, "{:?}", step);
        }
        together.check_sizes();
        apart.check_sizes();
    }
}

#[test]
fn a_scan_returns_what_stays_whatever_comes_and_goes() {
    let mut client = memory();
    for number in 0..500 {
        client.run(&["SET", &format!("stays:{number}"), "v"]);
    }
    let (mut cursor, mut seen, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        client.run(&["SET", &format!("comes:{calls}"), "v"]);
        client.run(&["DEL", &format!("comes:{}", calls / 2)]);
        let request = ["SCAN", &cursor, "COUNT", "7"].map(|word| word.as_bytes().to_vec()).to_vec();
        let Reply::Array(parts) = Reply::parse(&client.batch(&[request])[0]) else { panic!("SCAN replies an array") };
        let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else { panic!("a cursor and keys") };
        assert!(keys.len() <= 8, "{} keys for COUNT 7", keys.len());
        seen.extend(keys.iter().cloned());
        calls += 1;
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            break;
        }
    }
    for number in 0..500 {
        assert!(seen.contains(&Reply::Bulk(format!("stays:{number}").into_bytes())), "stays:{number}");
    }
}

#[test]
fn everything_is_there_again_after_reopening() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut client = engine(&dir);
    client.run(&["MSET", "a", "1", "b", "2"]);
    client.run(&["SET", "c", "3", "PX", "1000"]);
    client.run(&["SWAPDB", "0", "5"]);
    client.run(&["SET", "d", "4"]);
    client.run(&["FLUSHDB"]);
    client.run(&["SET", "e", "5"]);
    drop(client);
    let mut client = engine(&dir);
    assert_eq!(client.databases.size(0), (1, 0));
    assert_eq!(client.databases.size(5), (3, 1));
    client.check();
    client.db = 5;
    assert_eq!(client.run(&["MGET", "a", "b", "c", "d"]), "*4\n  \"1\"\n  \"2\"\n  \"3\"\n  nil\n");
    client.context.now_ms += 1000;
    client.check_sizes();
    assert_eq!(client.databases.size(5), (2, 0));
}

#[test]
fn flushed_keys_are_removed_in_slices() {
    let mut client = memory();
    for number in 0..250 {
        client.run(&["SET", &format!("k{number}"), "v", "EX", "100"]);
    }
    client.run(&["FLUSHALL"]);
    assert_eq!(client.run(&["DBSIZE"]), ":0\n");
    let mut removed = 0;
    loop {
        let done = client.databases.maintain(&mut client.plan, client.context, true, 100).expect("memory works");
        assert!(done.removed <= 100);
        removed += done.removed;
        if !done.more {
            break;
        }
    }
    assert_eq!(removed, 500, "a record and an expiry for each key");
    client.check();
}

#[test]
fn a_failing_command_leaves_nothing_of_itself() {
    let mut client = memory();
    let long = "k".repeat(70_000);
    let failed = client.run(&["MSET", "a", "1", &long, "2"]);
    assert!(failed.starts_with("-ERR key is longer"), "{failed}");
    assert_eq!(client.run(&["EXISTS", "a"]), ":0\n");
    assert_eq!(client.run(&["GET", &long]), "nil\n");
    client.check();
}

/// Memory that counts as an engine does and refuses writes when told to.
#[derive(Default)]
struct Refusing {
    memory: MemoryStore,
    refuses: AtomicBool,
}

impl Store for Refusing {
    type Env = StdEnv;
    type Value = <MemoryStore as Store>::Value;
    type Writes = <MemoryStore as Store>::Writes;
    const PERSISTENT: bool = true;

    fn get(&self, key: &[u8]) -> Result<Option<Self::Value>> {
        self.memory.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.memory.scan(from, to, visit)
    }

    fn write(&self, writes: &mut Self::Writes) -> Result<Position> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Error::io("write", "wal".as_ref(), std::io::ErrorKind::StorageFull.into()));
        }
        self.memory.write(writes)
    }

    fn sync_to(&self, position: Position) -> Result<()> {
        self.memory.sync_to(position)
    }

    fn sync(&self) -> Result<()> {
        self.memory.sync()
    }
}

#[test]
fn a_refused_commit_changes_nothing_and_takes_its_replies_back() {
    let mut client = Client::new(Refusing::default());
    client.run(&["SET", "a", "1", "EX", "100"]);
    let full = "-MISCONF Errors writing to storage: cannot write wal: no storage space\r\n";
    let cases: [(&[&[&str]], &str); 3] = [
        (
            &[&["GET", "a"], &["SET", "a", "2"], &["GET", "a"], &["SET", "b", "3"]],
            &format!("$1\r\n1\r\n{full}+PONG\r\n{full}{full}"),
        ),
        (&[&["SWAPDB", "0", "1"], &["DBSIZE"]], &format!("{full}+PONG\r\n{full}")),
        (&[&["SET", "c", "1"], &["FLUSHALL"]], &format!("{full}+PONG\r\n{full}")),
    ];
    client.databases.store().refuses.store(true, Ordering::Relaxed);
    for (requests, expected) in cases {
        let requests: Vec<Vec<&[u8]>> =
            requests.iter().map(|args| args.iter().map(|arg| arg.as_bytes()).collect()).collect();
        let mut out = Encoder::new(Protocol::Resp2);
        client.plan.clear();
        requests.iter().for_each(|args| client.plan.add(table::lookup(args[0]).expect("known"), args));
        let mut batch = client.databases.begin(&mut client.plan, client.context);
        let middle = requests.len() / 2;
        for (at, args) in requests.iter().enumerate() {
            if at == middle {
                out.simple("PONG");
            }
            batch.execute(0, table::lookup(args[0]).expect("known"), args, &mut out);
        }
        batch.commit().expect_err("the store refuses").rewrite(&mut out);
        assert_eq!(String::from_utf8_lossy(out.bytes()), expected);
    }
    client.databases.store().refuses.store(false, Ordering::Relaxed);
    client.check();
    assert_eq!(client.databases.size(0), (1, 1));
    assert_eq!(client.run(&["MGET", "a", "b", "c"]), "*3\n  \"1\"\n  nil\n  nil\n");
    assert_eq!(client.run(&["TTL", "a"]), ":100\n");
}

#[test]
fn sessions_on_many_threads_lose_no_update() {
    let databases = Databases::open(Refusing::default(), DATABASES).expect("memory works");
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let databases = &databases;
            scope.spawn(move || {
                let mut plan = Plan::new();
                for round in 0..300u64 {
                    let shared = format!("shared:{}", round % 5);
                    let own = format!("own:{thread}:{}", round % 50);
                    let requests: [Vec<&[u8]>; 4] = [
                        vec![b"INCR", shared.as_bytes()],
                        vec![b"SET", own.as_bytes(), b"v", b"PX", b"50"],
                        vec![b"DEL", if round % 3 == 0 { own.as_bytes() } else { b"none" }],
                        if round % 100 == 99 { vec![b"SWAPDB", b"1", b"2"] } else { vec![b"DBSIZE"] },
                    ];
                    plan.clear();
                    let spec = |args: &Vec<&[u8]>| table::lookup(args[0]).expect("known");
                    requests.iter().for_each(|args| plan.add(spec(args), args));
                    let context = Context { now_ms: START_MS + round, seed: round };
                    let mut batch = databases.begin(&mut plan, context);
                    let mut out = Encoder::new(Protocol::Resp2);
                    requests.iter().for_each(|args| batch.execute(0, spec(args), args, &mut out));
                    batch.commit().expect("memory works");
                    if round % 10 == 0 {
                        databases.maintain(&mut plan, context, true, 20).expect("memory works");
                    }
                }
            });
        }
    });
    assert_eq!(databases.check().expect("memory works"), Vec::<String>::new());
    let mut client = Client { databases, plan: Plan::new(), db: 0, context: Context { now_ms: START_MS, seed: 0 } };
    let expected: String = (0..5).map(|_| "  \"240\"\n").collect();
    let shared = ["MGET", "shared:0", "shared:1", "shared:2", "shared:3", "shared:4"];
    assert_eq!(client.run(&shared), format!("*5\n{expected}"));
}
