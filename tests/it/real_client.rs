//! The `redis` crate as a client, over both engines and both protocols.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use redis::TypedCommands;

use crate::support::InProcess;

fn drive(server: &InProcess, protocol: &str) {
    let url = format!("redis://{}/?protocol={protocol}", server.address());
    let mut connection = redis::Client::open(url).expect("a URL").get_connection().expect("a connection");
    connection.flushall().expect("flushed");
    connection.set("key", "value").expect("set");
    assert_eq!(connection.get("key").expect("got"), Some("value".to_owned()));
    assert_eq!(connection.get("nothing").expect("got"), None);
    let count: (i64, i64) = redis::pipe().incr("count", 2).incr("count", 3).query(&mut connection).expect("a pipeline");
    assert_eq!(count, (2, 5));
    assert_eq!(connection.mget(&["key", "nothing", "count"]).expect("got").len(), 3);
    connection.set_ex("brief", 1, 100).expect("set");
    assert_eq!(connection.del("key").expect("deleted"), 1);
    let info: String = redis::cmd("INFO").arg("server").query(&mut connection).expect("text");
    assert!(info.contains("redis_version:7.0.15"));
    let size: i64 = redis::cmd("DBSIZE").query(&mut connection).expect("a number");
    assert_eq!(size, 2);
}

#[test]
fn over_memory() {
    let server = InProcess::start(&[]);
    drive(&server, "resp2");
    drive(&server, "resp3");
}

#[test]
fn over_aidb() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().to_str().expect("text");
    for appendfsync in ["always", "everysec"] {
        let server = InProcess::start(&[("engine", "aidb"), ("dir", dir), ("appendfsync", appendfsync)]);
        drive(&server, "resp2");
        drive(&server, "resp3");
    }
}
