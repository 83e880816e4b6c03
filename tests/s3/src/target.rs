//! The server that a test runs against: [`Target`].
//!
//! In this process over a temporary directory, unless `AIDB_S3_ENDPOINT` (`http://host:port`) names another, whose bucket
//! and keys `AIDB_S3_BUCKET`, `AIDB_S3_ACCESS_KEY` and `AIDB_S3_SECRET_KEY` name. Either way the proxy stands in front,
//! and every target has a prefix of its own, so that tests run beside each other in one bucket.

use crate::proxy::Proxy;
use crate::server::{ACCESS_KEY, SECRET_KEY, Server};
use aidb::aof::archive::s3::{S3ArchiveStorage, S3Config, S3ConfigBuilder, S3Keys};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A server with the proxy in front.
pub struct Target {
    /// The proxy.
    pub proxy: Proxy,
    /// The bucket.
    pub bucket: String,
    /// The keys.
    pub keys: S3Keys,
    /// What the keys of this target begin with.
    pub prefix: String,
    /// The server's directory, if it is in this process.
    pub root: Option<TempDir>,
    _server: Option<Server>,
}

impl Target {
    /// Starts or finds the server.
    pub fn start() -> Target {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("t{}-{number}", std::process::id());
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        match std::env::var("AIDB_S3_ENDPOINT") {
            Ok(endpoint) => {
                let address: SocketAddr = endpoint.strip_prefix("http://").unwrap_or(&endpoint).parse().unwrap();
                let keys = S3Keys::new(variable("AIDB_S3_ACCESS_KEY"), variable("AIDB_S3_SECRET_KEY"), None);
                let bucket = variable("AIDB_S3_BUCKET");
                Target { proxy: Proxy::start(address), bucket, keys, prefix, root: None, _server: None }
            }
            Err(_) => {
                let root = tempfile::tempdir().unwrap();
                std::fs::create_dir(root.path().join("bucket")).unwrap();
                let server = Server::start(root.path());
                let keys = S3Keys::new(ACCESS_KEY, SECRET_KEY, None);
                let proxy = Proxy::start(server.address);
                Target { proxy, bucket: "bucket".into(), keys, prefix, root: Some(root), _server: Some(server) }
            }
        }
    }

    /// Returns true if the server is in this process: it checks signatures and takes conditional puts one by one.
    pub fn is_own(&self) -> bool {
        self.root.is_some()
    }

    /// Returns a configuration that reaches the bucket through the proxy and is quick to give up pausing.
    pub fn config(&self) -> S3ConfigBuilder {
        S3Config::builder(&self.bucket)
            .endpoint(format!("http://{}", self.proxy.address))
            .region("us-east-1")
            .allow_http(true)
            .prefix(&self.prefix)
            .keys(self.keys.clone())
            .backoff_min(Duration::from_millis(1))
            .backoff_max(Duration::from_millis(20))
            .request_timeout(Duration::from_secs(20))
    }

    /// Makes a storage of [`config`](Self::config).
    pub fn storage(&self) -> S3ArchiveStorage {
        self.storage_with(|config| config)
    }

    /// Makes a storage of a changed [`config`](Self::config).
    pub fn storage_with(&self, change: impl FnOnce(S3ConfigBuilder) -> S3ConfigBuilder) -> S3ArchiveStorage {
        S3ArchiveStorage::new(change(self.config()).build().unwrap()).unwrap()
    }
}

/// Returns `bytes` bytes that depend on `seed`.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(step).collect()
}
