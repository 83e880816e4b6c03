//! What a store said when it refused, in words that hold no secret: [`Failure`].
//!
//! Called for every error of the client. **Invariant:** of a response only the status, `<Code>` and `<Message>` are
//! repeated: the body of `SignatureDoesNotMatch` repeats the whole request, a session token included. What is left is
//! searched for the keys in use once more.

use super::config::S3Keys;
use crate::aof::AofError;
use crate::base::{Error, ErrorKind};
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;

/// How much of an answer is repeated.
const WORDS_MAX: usize = 300;

/// An error of the client, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What the store or the connection said.
    pub(super) what: String,
    /// Whether the outcome is unknown or a later attempt may succeed.
    pub(super) retryable: bool,
    /// There is no such object (but the bucket is there).
    pub(super) absent: bool,
    /// A condition of the request does not hold, or another request is at the same object.
    pub(super) conflict: bool,
}

impl Failure {
    /// Understands `error`; `keys` are those in use, if known.
    pub(super) fn of(error: &object_store::Error, keys: Option<&S3Keys>) -> Failure {
        use object_store::Error as Store;
        let text = whole_text(error);
        let status = status_of(&text);
        let code = between(&text, "<Code>", "</Code>");
        let what = match (status, code, connection_failure(error)) {
            (None, None, Some(what)) => what,
            (None, None, None) => text.lines().next().unwrap_or_default().to_string(),
            (status, code, _) => {
                let status = status.map(|status| status.to_string());
                let message = between(&text, "<Message>", "</Message>");
                let words: Vec<&str> = [status.as_deref(), code, message].into_iter().flatten().collect();
                words.join(" ")
            }
        };
        let retryable = match (error, status) {
            (Store::NotSupported { .. } | Store::NotImplemented { .. } | Store::InvalidPath { .. }, _) => false,
            (_, Some(status)) => matches!(status, 408 | 409 | 412 | 429 | 500..),
            _ => !text.contains("redirect"),
        };
        let what = keys.map_or(what.clone(), |keys| keys.redact(&what));
        Failure {
            what: what.chars().take(WORDS_MAX).collect(),
            retryable,
            absent: matches!(error, Store::NotFound { .. }) && code != Some("NoSuchBucket"),
            conflict: matches!(error, Store::AlreadyExists { .. } | Store::Precondition { .. }),
        }
    }

    /// A failure of this program's own words.
    pub(super) fn new(what: impl Into<String>, retryable: bool) -> Failure {
        Failure { what: what.into(), retryable, absent: false, conflict: false }
    }

    /// Makes the error of `operation` on `key`.
    pub(super) fn into_error(self, operation: &'static str, key: &str) -> Error {
        let absent = self.absent && operation == "read";
        let detail =
            AofError::RemoteStorage { operation, key: key.to_string(), what: self.what, retryable: self.retryable };
        if absent { Error::wrap(ErrorKind::NotFound, detail) } else { detail.into() }
    }
}

/// Joins what the error and its causes say.
fn whole_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Says what became of the connection, if nothing came over it.
fn connection_failure(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            let what = match http.kind() {
                HttpErrorKind::Connect => "cannot connect",
                HttpErrorKind::Timeout => "timed out",
                HttpErrorKind::Interrupted | HttpErrorKind::Request => "the connection broke",
                _ => "the answer is not understood",
            };
            return Some(format!("{what}: {}", innermost(http)));
        }
        cause = error.source();
    }
    None
}

/// Returns what the last cause says: the operating system's words, if it is to blame.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

/// Finds the status of the response.
fn status_of(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::Error as Store;

    fn keys() -> S3Keys {
        S3Keys::new("AKIDEXAMPLE", "very/secret", Some("token/secret".into()))
    }

    fn said(text: &str) -> Box<dyn StdError + Send + Sync> {
        text.into()
    }

    const ECHO: &str = "Error performing PUT http://h/b/k in 3ms - Server returned non-2xx status code: 403 Forbidden: \
        <Error><Code>SignatureDoesNotMatch</Code><Message>The signature of AKIDEXAMPLE differs</Message>\
        <AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId><CanonicalRequest>x-amz-security-token:token/secret</CanonicalRequest>";

    #[test]
    fn a_response_is_not_repeated_whole() {
        let error = Store::PermissionDenied { path: "k".into(), source: said(ECHO) };
        let failure = Failure::of(&error, Some(&keys()));
        assert_eq!(failure.what, "403 SignatureDoesNotMatch The signature of [redacted] differs");
        assert!(!failure.retryable && !failure.absent && !failure.conflict);
        let unknown = Failure::of(&error, None);
        assert!(!unknown.what.contains("token/secret"), "{}", unknown.what);
    }

    #[test]
    fn status_decides_what_may_be_tried_again() {
        let answers =
            [(500, true), (503, true), (408, true), (409, true), (429, true), (400, false), (401, false), (301, false)];
        for (status, retryable) in answers {
            let text = format!("Server returned non-2xx status code: {status} Some: ");
            let failure = Failure::of(&Store::Generic { store: "S3", source: said(&text) }, None);
            assert_eq!((failure.retryable, failure.what), (retryable, status.to_string()));
        }
        let slow =
            Store::Generic { store: "S3", source: said("Server returned error response: <Code>SlowDown</Code>") };
        assert_eq!(Failure::of(&slow, None), Failure::new("SlowDown", true));
        let redirect = Store::Generic { store: "S3", source: said("Received redirect without LOCATION") };
        assert!(!Failure::of(&redirect, None).retryable, "a wrong region stays wrong");
    }

    #[test]
    fn connection_is_told_from_the_store() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Store::Generic { store: "S3", source: Box::new(HttpError::new(HttpErrorKind::Connect, refused)) };
        let failure = Failure::of(&error, None);
        assert_eq!(failure, Failure::new("cannot connect: connection refused", true));
    }

    #[test]
    fn missing_bucket_is_no_missing_object() {
        let text =
            |code: &str| said(&format!("Server returned non-2xx status code: 404 Not Found: <Code>{code}</Code>"));
        let key = Store::NotFound { path: "k".into(), source: text("NoSuchKey") };
        let bucket = Store::NotFound { path: "k".into(), source: text("NoSuchBucket") };
        let error = Failure::of(&key, None).into_error("read", "k");
        assert_eq!(error.kind(), &ErrorKind::NotFound);
        let error = Failure::of(&bucket, None).into_error("read", "k");
        assert_eq!(error.kind(), &ErrorKind::Remote);
        assert_eq!(error.to_string(), "archive: cannot read k: 404 NoSuchBucket");
    }
}
