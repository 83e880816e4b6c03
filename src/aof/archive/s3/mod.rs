//! The archive in a bucket of S3, or of whatever speaks its protocol: [`S3ArchiveStorage`].
//!
//! Called by the log's background thread and by cursors, on any thread, also one of an asynchronous runtime.
//!
//! The network is outside of `Env` on purpose: the simulator brings a storage of its own, and this one is a client with a
//! small runtime of its own, made with the store and stopped with it. Calls hand their work to its threads and block
//! until it is done; nothing else of the log knows of a runtime.
//!
//! **Invariants**
//! - An object is never replaced. A put in one request is conditional (`If-None-Match: *`); what comes back as conflict
//!   is looked at: an object that is there is [`PutOutcome::Exists`], else the outcome is unknown.
//! - Completing an object of parts is not conditional with every store, so such a put first asks for the key, and asks
//!   for the length when it is done. Between the two nobody else writes: the log makes a new key for each attempt, so
//!   that all a late completion can meet is an earlier try of the same call, with the same bytes.
//! - An error never means that nothing happened. It says whether a later attempt may succeed.
//! - No key is in any error, `Debug` or log line: see `failure`.
//!
//! Requests are tried again with growing, random pauses by the client: those that were refused with 5xx, 408, 429 or
//! were not answered, puts among them only when they cannot have arrived or are harmless to repeat.
//!
//! **Limits:** parts that a crash left behind stay in the bucket, invisible, until its lifecycle rule for incomplete
//! uploads removes them; have one.

mod config;
mod credentials;
mod failure;
mod profile;
mod runtime;
#[cfg(test)]
mod tests;

pub use config::{PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, S3Config, S3ConfigBuilder, S3Keys};

use super::{ArchiveStorage, ObjectInfo, ObjectSource, PutOutcome};
use crate::base::{Error, Result};
use crate::env::{Env, StdEnv, read_file};
use bytes::Bytes;
use credentials::{Access, Surroundings};
use failure::Failure;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Location;
use object_store::{
    BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
};
use runtime::{Pending, Runtime};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How many parts of one object are under way, and in memory, at once.
pub const PARTS_IN_FLIGHT: usize = 4;

/// The longest time between the first try of a request and the last; signatures grow old.
const RETRY_TIMEOUT: Duration = Duration::from_secs(180);

/// A bucket as an archive. Cheap to share; safe to call from several threads.
pub struct S3ArchiveStorage {
    store: Arc<AmazonS3>,
    config: S3Config,
    access: Access,
    runtime: Runtime,
}

impl S3ArchiveStorage {
    /// Makes a client for the bucket of `config`. Nothing is sent yet: a bucket that is missing or forbidden shows at the
    /// first call.
    ///
    /// # Errors
    /// A field out of range, half a pair of keys, a profile that is not there, or no room for a thread.
    pub fn new(config: S3Config) -> Result<S3ArchiveStorage> {
        let read = |path: &std::path::Path| read_file(StdEnv.disk(), path);
        let variable = |name: &str| std::env::var(name).ok();
        S3ArchiveStorage::within(config, &Surroundings { variable: &variable, read: &read })
    }

    fn within(config: S3Config, world: &Surroundings<'_>) -> Result<S3ArchiveStorage> {
        config.validate()?;
        let access = credentials::find(&config, world)?;
        let store = client(&config, &access)?;
        tracing::debug!(bucket = config.bucket, keys = access.origin, "archive in S3");
        Ok(S3ArchiveStorage { store: Arc::new(store), runtime: Runtime::start()?, config, access })
    }

    /// Returns the place of `key` in the bucket.
    fn place(&self, operation: &'static str, key: &str) -> Result<Location> {
        let whole =
            if self.config.prefix.is_empty() { key.to_string() } else { format!("{}/{key}", self.config.prefix) };
        // What the client would tidy up is refused: two keys would be one object.
        match Location::parse(&whole) {
            Ok(place) if !key.is_empty() && place.as_ref() == whole => Ok(place),
            Ok(_) => Err(Failure::new("not a key of this archive", false).into_error(operation, key)),
            Err(error) => Err(Failure::new(error.to_string(), false).into_error(operation, key)),
        }
    }

    /// Runs a request to its end.
    fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        self.settle(self.runtime.start_task(request))
    }

    /// Waits for a request.
    fn settle<T: Send + 'static>(&self, pending: Pending<object_store::Result<T>>) -> Result<T, Failure> {
        match pending.wait() {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(Failure::of(&error, self.access.keys.as_ref())),
            None => Err(Failure::new("the request ended without an outcome", true)),
        }
    }

    fn length(&self, place: &Location) -> Result<Option<u64>, Failure> {
        let (store, place) = (self.store.clone(), place.clone());
        match self.run(async move { store.head(&place).await }) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(failure) if failure.absent => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Puts an object that fits one request.
    fn put_whole(&self, place: &Location, bytes: Vec<u8>) -> Result<PutOutcome, Failure> {
        let (store, at) = (self.store.clone(), place.clone());
        let payload = PutPayload::from(Bytes::from(bytes));
        match self.run(async move { store.put_opts(&at, payload, PutMode::Create.into()).await }) {
            Ok(_) => Ok(PutOutcome::Created),
            // 412 says that the object is there; 409 that another request was at it, whatever became of that.
            Err(conflict) if conflict.conflict => match self.length(place)? {
                Some(_) => Ok(PutOutcome::Exists),
                None => Err(conflict),
            },
            Err(failure) => Err(failure),
        }
    }

    /// Puts an object in parts. The outer error is the source's.
    fn put_parts(&self, place: &Location, source: &dyn ObjectSource) -> Result<Result<PutOutcome, Failure>> {
        let bytes = source.bytes();
        match self.length(place) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(Ok(PutOutcome::Exists)),
            Err(failure) => return Ok(Err(failure)),
        }
        let (store, at) = (self.store.clone(), place.clone());
        let upload = match self.run(async move { store.create_multipart(&at).await }) {
            Ok(upload) => upload,
            Err(failure) => return Ok(Err(failure)),
        };
        let parts = match self.send_parts(place, &upload, source) {
            Ok(Ok(parts)) => parts,
            refused => {
                self.abort(place, &upload);
                return refused.map(|failed| Err(failed.expect_err("the other case is above")));
            }
        };
        let (store, at, name) = (self.store.clone(), place.clone(), upload.clone());
        let completed = self.run(async move { store.complete_multipart(&at, &name, parts).await });
        if completed.is_err() {
            // If it was not completed its parts go; if it was, this finds nothing.
            self.abort(place, &upload);
        }
        Ok(match (self.length(place), completed) {
            (Ok(Some(length)), _) if length == bytes => Ok(PutOutcome::Created),
            (Ok(Some(length)), _) => Err(Failure::new(format!("{length} bytes arrived of {bytes}"), true)),
            (Ok(None), Ok(_)) => Err(Failure::new("completed, but it is not there", true)),
            (_, Err(failure)) | (Err(failure), _) => Err(failure),
        })
    }

    /// Reads and sends every part, a few at once. When it returns none is under way.
    fn send_parts(
        &self,
        place: &Location,
        upload: &str,
        source: &dyn ObjectSource,
    ) -> Result<Result<Vec<PartId>, Failure>> {
        let (bytes, step) = (source.bytes(), part_bytes(source.bytes(), self.config.part_bytes));
        let mut flying: VecDeque<Pending<object_store::Result<PartId>>> = VecDeque::new();
        let mut parts = Vec::new();
        let mut outcome = Ok(Ok(()));
        for (number, offset) in (0..bytes).step_by(step as usize).enumerate() {
            let mut part = vec![0; step.min(bytes - offset) as usize];
            outcome = source.read_at(&mut part, offset).map(Ok);
            if outcome.is_err() {
                break;
            }
            let (store, at, upload) = (self.store.clone(), place.clone(), upload.to_string());
            let payload = PutPayload::from(Bytes::from(part));
            let send = async move { store.put_part(&at, &upload, number, payload).await };
            flying.push_back(self.runtime.start_task(send));
            if flying.len() == PARTS_IN_FLIGHT {
                outcome = Ok(self.take_part(&mut flying, &mut parts));
            }
            if !matches!(outcome, Ok(Ok(()))) {
                break;
            }
        }
        while !flying.is_empty() {
            let taken = self.take_part(&mut flying, &mut parts);
            if matches!(outcome, Ok(Ok(()))) {
                outcome = Ok(taken);
            }
        }
        Ok(outcome?.map(|()| parts))
    }

    /// Waits for the oldest part under way.
    fn take_part(
        &self,
        flying: &mut VecDeque<Pending<object_store::Result<PartId>>>,
        parts: &mut Vec<PartId>,
    ) -> Result<(), Failure> {
        if let Some(oldest) = flying.pop_front() {
            parts.push(self.settle(oldest)?);
        }
        Ok(())
    }

    /// Gives up an upload in parts; if that fails its parts stay until the bucket's lifecycle removes them.
    fn abort(&self, place: &Location, upload: &str) {
        let (store, at, upload) = (self.store.clone(), place.clone(), upload.to_string());
        if let Err(failure) = self.run(async move { store.abort_multipart(&at, &upload).await }) {
            tracing::debug!(key = place.as_ref(), what = failure.what, "parts of an upload stay behind");
        }
    }

    /// Returns the objects whose places begin with `directory`, a whole number of names.
    fn list_below(&self, directory: Option<Location>) -> Result<Vec<ObjectMeta>, Failure> {
        let store = self.store.clone();
        self.run(async move {
            let mut listing = store.list(directory.as_ref());
            let mut found = Vec::new();
            while let Some(meta) = std::future::poll_fn(|context| listing.as_mut().poll_next(context)).await {
                found.push(meta?);
            }
            Ok(found)
        })
    }
}

impl ArchiveStorage for S3ArchiveStorage {
    fn put_new(&self, key: &str, source: &dyn ObjectSource) -> Result<PutOutcome> {
        let place = self.place("put", key)?;
        let bytes = source.bytes();
        let outcome = if bytes > self.config.multipart_bytes {
            self.put_parts(&place, source)?
        } else {
            let mut whole = vec![0; bytes as usize];
            source.read_at(&mut whole, 0)?;
            self.put_whole(&place, whole)
        };
        outcome.map_err(|failure| failure.into_error("put", key))
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        let place = self.place("head", key)?;
        self.length(&place).map_err(|failure| failure.into_error("head", key))
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let place = self.place("read", key)?;
        let refuse = |failure: Failure| failure.into_error("read", key);
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            // A range of nothing cannot be asked for.
            let absent = || Failure { absent: true, ..Failure::new("there is no such object", false) };
            let length = self.length(&place).map_err(refuse)?;
            return length.map(|_| Vec::new()).ok_or_else(|| refuse(absent()));
        }
        let (store, shown) = (self.store.clone(), range.clone());
        let bytes = self.run(async move { store.get_range(&place, range).await }).map_err(refuse)?;
        if bytes.len() as u64 != wanted {
            let what = format!("{} bytes came of the range {}..{}", bytes.len(), shown.start, shown.end);
            return Err(refuse(Failure::new(what, false)));
        }
        Ok(bytes.into())
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        // The client lists directories; the rest of the prefix is compared here.
        let whole = match self.config.prefix.as_str() {
            "" => prefix.to_string(),
            before => format!("{before}/{prefix}"),
        };
        let directory = match whole.rsplit_once('/') {
            None | Some(("", _)) => None,
            Some((directory, _)) => {
                let parsed = Location::parse(directory);
                Some(parsed.map_err(|error| Failure::new(error.to_string(), false).into_error("list", prefix))?)
            }
        };
        let found = self.list_below(directory).map_err(|failure| failure.into_error("list", prefix))?;
        let own = whole.len() - prefix.len();
        let wanted = found.into_iter().filter(|meta| meta.location.as_ref().starts_with(&whole));
        let info = |meta: ObjectMeta| ObjectInfo { key: meta.location.as_ref()[own..].to_string(), bytes: meta.size };
        let mut objects: Vec<ObjectInfo> = wanted.map(info).collect();
        objects.sort_unstable();
        Ok(objects)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let (store, place) = (self.store.clone(), self.place("delete", key)?);
        match self.run(async move { store.delete(&place).await }) {
            Err(failure) if !failure.absent => Err(failure.into_error("delete", key)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for S3ArchiveStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("S3ArchiveStorage");
        shown.field("bucket", &self.config.bucket).field("prefix", &self.config.prefix);
        shown.field("endpoint", &self.access.endpoint).field("keys_from", &self.access.origin).finish_non_exhaustive()
    }
}

/// Returns the length of the parts of an object of `bytes`.
fn part_bytes(bytes: u64, wanted: u64) -> u64 {
    wanted.max(bytes.div_ceil(PARTS_MAX))
}

/// Makes the client.
fn client(config: &S3Config, access: &Access) -> Result<AmazonS3> {
    let options = ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_timeout(config.request_timeout)
        .with_connect_timeout(config.connect_timeout);
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: config.backoff_min, max_backoff: config.backoff_max, base: 2.0 },
        max_retries: config.attempts_max as usize - 1,
        retry_timeout: RETRY_TIMEOUT,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(access.region.as_deref().unwrap_or("us-east-1"))
        .with_virtual_hosted_style_request(!config.path_style)
        // One by one: not every store has the other way.
        .with_disable_bulk_delete(true)
        .with_client_options(options)
        .with_retry(retry);
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match &access.keys {
        Some(keys) => {
            builder = builder.with_access_key_id(&keys.access_key_id).with_secret_access_key(&keys.secret_access_key);
            if let Some(token) = &keys.session_token {
                builder = builder.with_token(token);
            }
        }
        None => {
            for (key, value) in &access.service {
                builder = builder.with_config(*key, value);
            }
        }
    }
    builder.build().map_err(|error| {
        let failure = Failure::of(&error, access.keys.as_ref());
        Error::invalid_argument(format_args!("S3: {}", failure.what))
    })
}
