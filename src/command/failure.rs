//! Why a command failed, with the texts that clients know.

use crate::base::Error;
use std::borrow::Cow;

/// A command's error reply.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A fixed text, with its code.
    Text(&'static str),
    /// A text made for the occasion, with its code.
    Message(String),
    /// The store failed.
    Store(Error),
}

impl Failure {
    /// The key has another type than the command is for.
    pub const WRONG_TYPE: Failure = Failure::Text("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// Options do not make sense.
    pub const SYNTAX: Failure = Failure::Text("ERR syntax error");
    /// An argument or a value has to be an integer.
    pub const NOT_INTEGER: Failure = Failure::Text("ERR value is not an integer or out of range");
    /// An argument or a value has to be a number.
    pub const NOT_FLOAT: Failure = Failure::Text("ERR value is not a valid float");
    /// The key has to exist.
    pub const NO_KEY: Failure = Failure::Text("ERR no such key");
    /// A database number has to exist.
    pub const DB_RANGE: Failure = Failure::Text("ERR DB index is out of range");

    /// Returns the text of the error reply.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Failure::Text(text) => Cow::Borrowed(text),
            Failure::Message(text) => Cow::Borrowed(text),
            Failure::Store(error) => Cow::Owned(format!("ERR storage: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Store(error)
    }
}
