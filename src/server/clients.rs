//! Who is connected: the registry behind `CLIENT LIST`, `CLIENT KILL`, `maxclients` and the orderly end.
//!
//! Every session holds an `Arc<Client>` for its life and notes in it, once for each batch of requests, what others may
//! see. Other sessions and the housekeeping task read those notes, and end a session through [`Client::kill`]; it is
//! noticed where the session waits for the peer, never in the middle of a command.
//!
//! **Invariants:** identifiers grow and are never reused; a client is in the registry exactly as long as its session runs
//! ([`Registration`] takes it out when dropped).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::env::{Mono, Mutex, StdEnv};
use crate::resp::Protocol;

/// What a session lets others see of it.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Name given with `CLIENT SETNAME`.
    pub name: String,
    /// Library given with `CLIENT SETINFO LIB-NAME`.
    pub lib_name: String,
    /// Version given with `CLIENT SETINFO LIB-VER`.
    pub lib_version: String,
    /// Selected database.
    pub db: usize,
    /// Protocol in use.
    pub protocol: Protocol,
    /// Name of the last command executed.
    pub command: &'static str,
    /// When that was.
    pub active: Mono,
    /// Bytes in the read buffer.
    pub input_bytes: usize,
    /// Bytes of memory held for input and output beside those.
    pub buffer_bytes: usize,
    /// Whether `CLIENT NO-EVICT` is on.
    pub no_evict: bool,
    /// Whether `CLIENT NO-TOUCH` is on.
    pub no_touch: bool,
}

/// One connection as others see it.
#[derive(Debug)]
pub struct Client {
    /// Its number, unique for the life of the process.
    pub id: u64,
    /// The peer's address.
    pub peer: String,
    /// Our address.
    pub local: String,
    /// When it connected.
    pub since: Mono,
    notes: Mutex<StdEnv, Notes>,
    ending: AtomicU8,
    wake: Notify,
}

/// The session may finish what it has begun: replies are still sent.
const DRAIN: u8 = 1;
/// The session ends even while its peer does not take its replies.
const KILL: u8 = 2;

impl Client {
    /// Lets `look` read or change the notes.
    pub fn notes<R>(&self, look: impl FnOnce(&mut Notes) -> R) -> R {
        look(&mut self.notes.lock())
    }

    /// Ends the session at the next point where it waits for its peer.
    pub fn kill(&self) {
        self.end(KILL);
    }

    /// Ends the session once it has sent the replies to what it has read.
    pub fn drain(&self) {
        self.end(DRAIN);
    }

    fn end(&self, how: u8) {
        self.ending.fetch_max(how, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Returns true once the session is to end, either way.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) >= DRAIN
    }

    /// Completes when the session is to read no more.
    pub async fn draining(&self) {
        self.reaches(DRAIN).await;
    }

    /// Completes when the session is to end at once.
    pub async fn killed(&self) {
        self.reaches(KILL).await;
    }

    async fn reaches(&self, how: u8) {
        while self.ending.load(Ordering::Acquire) < how {
            self.wake.notified().await;
        }
    }

    /// Describes the client in the line of `CLIENT LIST`, without its end.
    pub fn describe(&self, now: Mono) -> String {
        let notes = self.notes.lock().clone();
        let mut flags = String::new();
        if notes.no_evict {
            flags.push('e');
        }
        if notes.no_touch {
            flags.push('T');
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let mut line = String::with_capacity(320);
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub=0 psub=0 ssub=0 multi=-1 \
             qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs={} rbp=0 obl=0 oll=0 omem=0 tot-mem={} events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            notes.name,
            now.since(self.since).as_secs(),
            now.since(notes.active).as_secs(),
            notes.db,
            notes.input_bytes,
            notes.buffer_bytes,
            notes.input_bytes + notes.buffer_bytes,
            if notes.command.is_empty() { "NULL" } else { notes.command },
            if notes.protocol == Protocol::Resp3 { 3 } else { 2 },
            notes.lib_name,
            notes.lib_version,
        );
        line
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    all: Mutex<StdEnv, BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    next_id: AtomicU64,
    /// Signalled when a client leaves.
    left: Notify,
}

impl Clients {
    /// Adds a connection, unless there are `clients_max` already.
    pub fn register(
        self: &Arc<Self>,
        peer: String,
        local: String,
        now: Mono,
        clients_max: usize,
    ) -> Option<Registration> {
        let count = self.count.fetch_add(1, Ordering::AcqRel);
        if count >= clients_max {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            local,
            since: now,
            notes: Mutex::<StdEnv, _>::new(Notes { active: now, ..Notes::default() }),
            ending: AtomicU8::new(0),
            wake: Notify::new(),
        });
        self.all.lock().insert(client.id, client.clone());
        Some(Registration { clients: self.clone(), client })
    }

    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns true when nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns every connection, oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }

    /// Completes when a client has left since the last call.
    pub async fn left(&self) {
        self.left.notified().await;
    }
}

/// Keeps a client registered.
#[derive(Debug)]
pub struct Registration {
    clients: Arc<Clients>,
    /// The registered client.
    pub client: Arc<Client>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = self.clients.all.lock().remove(&self.client.id);
        assert!(removed.is_some(), "client {} was registered once", self.client.id);
        self.clients.count.fetch_sub(1, Ordering::AcqRel);
        self.clients.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_bounded_and_forgets_who_left() {
        let clients = Arc::new(Clients::default());
        let join = || clients.register("p".into(), "l".into(), Mono(0), 2);
        let first = join().unwrap();
        let second = join().unwrap();
        assert!(join().is_none());
        assert_eq!((first.client.id, second.client.id), (1, 2));
        drop(first);
        assert_eq!(clients.all().len(), 1);
        assert_eq!(join().unwrap().client.id, 3);
    }

    #[test]
    fn the_line_names_what_tools_parse() {
        let clients = Arc::new(Clients::default());
        let one = clients.register("1.2.3.4:5".into(), "l".into(), Mono(0), 1).unwrap();
        one.client.notes(|notes| notes.name = "me".into());
        let line = one.client.describe(Mono(3_000_000_000));
        assert!(line.starts_with("id=1 addr=1.2.3.4:5 laddr=l fd=-1 name=me age=3 idle=3 flags=N db=0 "), "{line}");
    }
}
