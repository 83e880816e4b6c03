//! A real process, killed with SIGKILL under load again and again: what was acknowledged is there afterwards.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::support::{Process, request};

const KILLS: usize = 20;
const CONNECTIONS: usize = 4;
const KEYS_PER_CONNECTION: u64 = 50;
const PIPELINE: u64 = 4;
/// Acknowledged writes of a round before the process is killed, at least.
const ROUND_WRITES_MIN: u64 = 100;

/// What one connection did: for each of its keys the last acknowledged and the last sent number.
#[derive(Default)]
struct Ledger {
    keys: BTreeMap<u64, (Option<u64>, u64)>,
    next: u64,
}

fn key(connection: usize, key: u64) -> String {
    format!("key:{connection}:{key}")
}

/// A value that is wrong if any part of it is lost.
fn value(number: u64) -> String {
    format!("{number}:{}", format!("{number:08x}").repeat(1 + (number % 20) as usize))
}

/// Writes growing numbers until the connection breaks, reporting each acknowledgement.
fn load(connection: usize, address: SocketAddr, ledger: &mut Ledger, acknowledged: &Sender<()>) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_nodelay(true).expect("no delay");
    let mut replies = BufReader::new(stream.try_clone().expect("a clone"));
    loop {
        let numbers = ledger.next..ledger.next + PIPELINE;
        ledger.next = numbers.end;
        let mut input = Vec::new();
        for number in numbers.clone() {
            let entry = ledger.keys.entry(number % KEYS_PER_CONNECTION).or_insert((None, number));
            entry.1 = number;
            input.extend(request(&["SET", &key(connection, number % KEYS_PER_CONNECTION), &value(number)]));
        }
        if stream.write_all(&input).is_err() {
            return;
        }
        for number in numbers {
            let mut line = String::new();
            if replies.read_line(&mut line).is_err() || !line.ends_with('\n') {
                return;
            }
            assert_eq!(line, "+OK\r\n");
            ledger.keys.get_mut(&(number % KEYS_PER_CONNECTION)).expect("sent").0 = Some(number);
            let _ = acknowledged.send(());
        }
    }
}

/// Checks that each key holds a number between the last acknowledged and the last sent, whole.
fn verify(server: &Process, ledgers: &[Ledger]) {
    let mut client = server.connect();
    for (connection, ledger) in ledgers.iter().enumerate() {
        let input: Vec<u8> = ledger.keys.keys().flat_map(|&at| request(&["GET", &key(connection, at)])).collect();
        client.send(input);
        for (at, (acknowledged, sent)) in &ledger.keys {
            let found = client.bulk().map(|bytes| String::from_utf8(bytes).expect("text"));
            let number =
                found.as_ref().map(|text| text.split(':').next().expect("a number").parse::<u64>().expect("a number"));
            assert!(
                number >= *acknowledged && number.is_none_or(|number| number <= *sent),
                "key:{connection}:{at}: acknowledged {acknowledged:?}, sent {sent}, found {number:?}"
            );
            assert_eq!(found, number.map(value), "key:{connection}:{at} is not whole");
        }
    }
}

fn killed_again_and_again(appendfsync: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledgers: Vec<Ledger> = (0..CONNECTIONS).map(|_| Ledger::default()).collect();
    for round in 0..KILLS {
        let server = Process::start(dir.path(), &["--appendfsync", appendfsync]);
        verify(&server, &ledgers);
        let address = server.address;
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            for (connection, ledger) in ledgers.iter_mut().enumerate() {
                let sender = sender.clone();
                scope.spawn(move || load(connection, address, ledger, &sender));
            }
            drop(sender);
            for _ in 0..ROUND_WRITES_MIN + 37 * round as u64 {
                receiver.recv().expect("the load goes on");
            }
            server.kill();
        });
    }
    let server = Process::start(dir.path(), &["--appendfsync", appendfsync]);
    verify(&server, &ledgers);
    let writes: u64 = ledgers.iter().map(|ledger| ledger.next).sum();
    assert!(writes >= ROUND_WRITES_MIN * KILLS as u64);
}

#[test]
fn acknowledged_writes_survive_under_always() {
    killed_again_and_again("always");
}

#[test]
fn acknowledged_writes_survive_under_everysec() {
    killed_again_and_again("everysec");
}
