//! Tests of the server as its users meet it: over sockets, with a real client, and as a process that is killed.

mod kill9;
mod process;
mod protocol;
mod real_client;
mod support;
