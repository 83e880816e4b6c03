//! How to reach a bucket: [`S3Config`], its builder and its checks.
//!
//! Filled in by users; read by [`S3ArchiveStorage::new`](super::S3ArchiveStorage::new). Keys are in [`S3Keys`] alone,
//! whose `Debug` shows nothing of them.

use crate::base::{Error, Result};
use std::fmt;
use std::time::Duration;

/// The least length of a part that S3 takes, except for the last one: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// The greatest length of a part, and of an object put in one request: 5 GiB.
pub const PART_BYTES_MAX: u64 = 5 << 30;
/// How many parts an object may have.
pub const PARTS_MAX: u64 = 10_000;

/// An access key, its secret key and, for temporary keys, their session token.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

impl S3Keys {
    /// Makes a set of keys; those of a user have no session token.
    pub fn new(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> S3Keys {
        S3Keys { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into(), session_token }
    }

    /// Returns `text` with every key in it replaced.
    pub(super) fn redact(&self, text: &str) -> String {
        let keys = [Some(&self.secret_access_key), self.session_token.as_ref(), Some(&self.access_key_id)];
        let keys = keys.into_iter().flatten().filter(|key| !key.is_empty());
        keys.fold(text.to_string(), |text, key| text.replace(key.as_str(), "[redacted]"))
    }
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys([redacted])")
    }
}

/// A bucket, how to reach it and how patient to be. Start with [`S3Config::builder`].
///
/// **Keys** are looked for in this order: `keys`; the profile named in `profile`; the environment (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, or a web identity); the profile of `AWS_PROFILE`, else `default`, in
/// `~/.aws/credentials` and `~/.aws/config`; the container's or the machine's metadata service, which renews them. Those
/// of files and environment are read once.
///
/// **Rights needed:** put, get, delete and list. Without the right to list, S3 says "forbidden" of an object that is not
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket's name. It must exist.
    pub bucket: String,
    /// The region; if none, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, else `us-east-1`.
    pub region: Option<String>,
    /// The address of the server, such as `https://minio.example:9000`; if none, `AWS_ENDPOINT_URL_S3`,
    /// `AWS_ENDPOINT_URL`, the profile's, else that of AWS. No user or password belongs in it.
    pub endpoint: Option<String>,
    /// What all keys begin with, without a slash at its ends. Default: nothing.
    pub prefix: String,
    /// The keys to use. Default: none, look elsewhere.
    pub keys: Option<S3Keys>,
    /// The profile to take keys, region and endpoint from. Default: none.
    pub profile: Option<String>,
    /// Allows an endpoint of `http://`: signatures are still made, but everybody on the way can read. Default: false.
    pub allow_http: bool,
    /// True: the bucket is in the path (`https://host/bucket/key`), which all stores take. False: it is in the host, which
    /// an `endpoint` then has to include. Default: true.
    pub path_style: bool,
    /// Objects longer than this are put in parts. It is also the memory that a put takes. `part_bytes..=5 GiB`, default
    /// 64 MiB.
    pub multipart_bytes: u64,
    /// The length of a part; [`PARTS_IN_FLIGHT`](super::PARTS_IN_FLIGHT) are in memory at once. Larger if an object would
    /// have more than 10,000. `5 MiB..=5 GiB`, default 16 MiB.
    pub part_bytes: u64,
    /// How long one request may take, its body included. Default: 120 s, which 64 MiB fit in at 5 Mbit/s.
    pub request_timeout: Duration,
    /// How long connecting may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How often a request is tried at most, `1..=100`; no try begins later than 3 minutes after the first. Default: 6.
    pub attempts_max: u32,
    /// The first pause before trying again; those that follow are random between this and twice the one before. Default:
    /// 100 ms.
    pub backoff_min: Duration,
    /// The longest pause. Default: 15 s.
    pub backoff_max: Duration,
}

impl S3Config {
    /// Starts with the defaults for `bucket`.
    pub fn builder(bucket: impl Into<String>) -> S3ConfigBuilder {
        S3ConfigBuilder(S3Config {
            bucket: bucket.into(),
            region: None,
            endpoint: None,
            prefix: String::new(),
            keys: None,
            profile: None,
            allow_http: false,
            path_style: true,
            multipart_bytes: 64 << 20,
            part_bytes: 16 << 20,
            request_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            attempts_max: 6,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(15),
        })
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the field, its value (never a key) and its range.
    pub fn validate(&self) -> Result<()> {
        let bucket_chars = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let prefix_chars = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let bad_piece = |piece: &str| matches!(piece, "" | "." | "..") || !piece.chars().all(prefix_chars);
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.chars().all(bucket_chars) {
            return refuse("bucket", &self.bucket, "3 to 63 characters of a-z, 0-9, - and .");
        }
        if self.region.as_deref().is_some_and(|region| region.is_empty() || !region.chars().all(prefix_chars)) {
            return refuse("region", &self.region, "a name such as eu-central-1");
        }
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint, self.allow_http)?;
        }
        if !self.prefix.is_empty() && self.prefix.split('/').any(bad_piece) {
            return refuse(
                "prefix",
                &self.prefix,
                "names of a-z, A-Z, 0-9, -, . and _ with single slashes between them",
            );
        }
        self.validate_keys()?;
        if !(PART_BYTES_MIN..=PART_BYTES_MAX).contains(&self.part_bytes) {
            return refuse("part_bytes", self.part_bytes, "5 MiB to 5 GiB");
        }
        if !(self.part_bytes..=PART_BYTES_MAX).contains(&self.multipart_bytes) {
            return refuse("multipart_bytes", self.multipart_bytes, "part_bytes to 5 GiB");
        }
        self.validate_patience()
    }

    fn validate_keys(&self) -> Result<()> {
        if let Some(keys) = &self.keys {
            let empty = keys.access_key_id.is_empty() || keys.secret_access_key.is_empty();
            if empty || keys.session_token.as_deref() == Some("") {
                return refuse("keys", keys, "no empty access key, secret key or session token");
            }
            if self.profile.is_some() {
                return refuse("profile", &self.profile, "none beside keys");
            }
        }
        if self.profile.as_deref().is_some_and(|name| name.trim().is_empty() || name.contains([']', '\n'])) {
            return refuse("profile", &self.profile, "a name of a section");
        }
        Ok(())
    }

    fn validate_patience(&self) -> Result<()> {
        if self.request_timeout.is_zero() {
            return refuse("request_timeout", self.request_timeout, "more than 0");
        }
        if self.connect_timeout.is_zero() {
            return refuse("connect_timeout", self.connect_timeout, "more than 0");
        }
        if !(1..=100).contains(&self.attempts_max) {
            return refuse("attempts_max", self.attempts_max, "1 to 100");
        }
        if self.backoff_min.is_zero() || self.backoff_min > self.backoff_max {
            return refuse("backoff_min", self.backoff_min, "more than 0, at most backoff_max");
        }
        if self.backoff_max > Duration::from_secs(60) {
            return refuse("backoff_max", self.backoff_max, "at most 60 s");
        }
        Ok(())
    }
}

/// Checks an address, wherever it comes from. It is not shown: a password may be in it.
pub(super) fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<()> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']);
    if !rest.is_some_and(plain) {
        return Err(Error::invalid_argument("endpoint: must be https://host[:port], without user, query or fragment"));
    }
    if !allow_http && endpoint.starts_with("http://") {
        return Err(Error::invalid_argument("endpoint: http:// needs allow_http"));
    }
    Ok(())
}

fn refuse(field: &str, value: impl fmt::Debug, range: &str) -> Result<()> {
    Err(Error::invalid_argument(format_args!("{field} {value:?}: must be {range}")))
}

/// Makes an [`S3Config`]; each method sets the field of its name.
#[derive(Clone, Debug)]
pub struct S3ConfigBuilder(S3Config);

macro_rules! setters {
    ($($field:ident: $kind:ty => |$value:ident| $set:expr;)*) => {
        impl S3ConfigBuilder {
            $(
                #[doc = concat!("Sets [`S3Config::", stringify!($field), "`].")]
                pub fn $field(mut self, $value: $kind) -> S3ConfigBuilder {
                    self.0.$field = $set;
                    self
                }
            )*

            /// Checks the fields and returns them.
            ///
            /// # Errors
            /// As [`S3Config::validate`].
            pub fn build(self) -> Result<S3Config> {
                self.0.validate()?;
                Ok(self.0)
            }
        }
    };
}

setters! {
    region: impl Into<String> => |region| Some(region.into());
    endpoint: impl Into<String> => |endpoint| Some(endpoint.into());
    prefix: impl Into<String> => |prefix| prefix.into();
    keys: S3Keys => |keys| Some(keys);
    profile: impl Into<String> => |profile| Some(profile.into());
    allow_http: bool => |allow| allow;
    path_style: bool => |path_style| path_style;
    multipart_bytes: u64 => |bytes| bytes;
    part_bytes: u64 => |bytes| bytes;
    request_timeout: Duration => |timeout| timeout;
    connect_timeout: Duration => |timeout| timeout;
    attempts_max: u32 => |attempts| attempts;
    backoff_min: Duration => |backoff| backoff;
    backoff_max: Duration => |backoff| backoff;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    fn keys() -> S3Keys {
        S3Keys::new("AKIDEXAMPLE", "very/secret", Some("token/secret".into()))
    }

    #[test]
    fn defaults_are_valid() {
        let config = S3Config::builder("my-bucket").build().unwrap();
        assert_eq!((config.multipart_bytes, config.attempts_max), (64 << 20, 6));
        let http = S3Config::builder("my-bucket").endpoint("http://127.0.0.1:9000").allow_http(true);
        http.keys(keys()).prefix("a/b_C.d").region("eu-central-1").build().unwrap();
    }

    #[test]
    fn a_bad_field_is_named() {
        let base = || S3Config::builder("bucket");
        let zero = Duration::ZERO;
        let cases = [
            ("bucket", S3Config::builder("a")),
            ("bucket", S3Config::builder("UPPER")),
            ("bucket", S3Config::builder("a/b/c")),
            ("region", base().region("")),
            ("region", base().region("eu west")),
            ("endpoint", base().endpoint("ftp://x")),
            ("endpoint", base().endpoint("http://x")),
            ("endpoint", base().endpoint("https://")),
            ("endpoint", base().endpoint("https://user:password@x")),
            ("prefix", base().prefix("/a")),
            ("prefix", base().prefix("a//b")),
            ("prefix", base().prefix("a/../b")),
            ("keys", base().keys(S3Keys::new("", "very/secret", None))),
            ("keys", base().keys(S3Keys::new("AKIDEXAMPLE", "very/secret", Some(String::new())))),
            ("profile", base().keys(keys()).profile("x")),
            ("profile", base().profile(" ")),
            ("part_bytes", base().part_bytes(5 << 19)),
            ("multipart_bytes", base().multipart_bytes(8 << 20)),
            ("multipart_bytes", base().multipart_bytes(6 << 30)),
            ("request_timeout", base().request_timeout(zero)),
            ("connect_timeout", base().connect_timeout(zero)),
            ("attempts_max", base().attempts_max(0)),
            ("backoff_min", base().backoff_min(zero)),
            ("backoff_min", base().backoff_min(Duration::from_secs(16))),
            ("backoff_max", base().backoff_max(Duration::from_secs(61))),
        ];
        for (field, builder) in cases {
            let shown = format!("{builder:?}");
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
            assert!(error.to_string().starts_with(&format!("invalid argument: {field}")), "{error}");
            for text in [shown, format!("{error:?}")] {
                assert!(!text.contains("very/secret"), "{text}");
            }
            assert!(!error.to_string().contains("password"));
        }
    }

    #[test]
    fn keys_show_nothing() {
        let shown = format!("{:?} {:#?}", keys(), S3Config::builder("bucket").keys(keys()));
        assert!(shown.contains("redacted"));
        assert!(!shown.contains("secret") && !shown.contains("AKID"), "{shown}");
        let echoed = keys().redact("<Key>AKIDEXAMPLE</Key> x-amz-security-token:token/secret very/secret");
        assert_eq!(echoed, "<Key>[redacted]</Key> x-amz-security-token:[redacted] [redacted]");
    }
}
