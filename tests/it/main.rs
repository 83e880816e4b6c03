//! Tests of the programs as their users meet them: the server over sockets, with a real client, and as a process that is killed;
//! the tool as commands.

mod aof_tool;
mod db_tool;
mod kill9;
mod process;
mod protocol;
mod real_client;
mod support;
