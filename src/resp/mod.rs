//! Floor 2: the Redis wire protocol, RESP2 and RESP3, without any I/O.
//!
//! [`Parser`] turns the bytes a client sent into requests that are byte ranges of the caller's read buffer; [`Encoder`]
//! writes replies into a byte vector. Neither touches a socket, a clock or a lock, so a test, a fuzzer and a simulated
//! world drive them as the server does. The append-only file of Redis speaks the same format and reads through here too.
//!
//! Source: the Redis serialization protocol specification, and `networking.c` of Redis 7.0 for what it leaves open.

mod encoder;
mod inline;
mod parser;

pub use encoder::{Encoder, Protocol, decimal};
pub use parser::{Args, Limits, Parser, ProtocolError, requests_of};
