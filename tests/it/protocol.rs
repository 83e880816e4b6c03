//! The wire: pipelines, hostile input, authentication, RESP3, inline commands, limits.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is the outside world")]

use crate::support::{InProcess, request};

#[test]
fn a_pipeline_is_answered_in_order_across_kinds_of_commands() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    let mut input = Vec::new();
    let mut output = String::new();
    for i in 0..500 {
        let key = format!("key{}", i % 7);
        let value = i.to_string();
        input.extend(request(&["SET", &key, &value]));
        input.extend(request(&["SELECT", "1"]));
        input.extend(request(&["GET", &key]));
        input.extend(request(&["NOSUCH"]));
        input.extend(request(&["SELECT", "0"]));
        input.extend(request(&["ECHO", &value]));
        input.extend(request(&["GET", &key]));
        output += "+OK\r\n+OK\r\n$-1\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n+OK\r\n";
        output += &format!("${0}\r\n{value}\r\n${0}\r\n{value}\r\n", value.len());
    }
    client.send(&input);
    client.expect(&output);
}

#[test]
fn requests_may_arrive_byte_by_byte() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    let input = [request(&["SET", "k", "some value"]), b"get k\r\n".to_vec(), request(&["GET", "k"])].concat();
    for byte in input {
        client.send([byte]);
    }
    client.expect("+OK\r\n$10\r\nsome value\r\n$10\r\nsome value\r\n");
}

#[test]
fn inline_commands_are_quoted_as_in_redis() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    client.ask("PING", "+PONG\r\n");
    client.ask("set k \"a \\x41\\n\"", "+OK\r\n");
    client.ask("\r\n  get  'k'", "$4\r\na A\n\r\n");
    client.ask("set k \"a", "-ERR Protocol error: unbalanced quotes in request\r\n");
    assert_eq!(client.rest(), "");
}

#[test]
fn hostile_input_leaves_the_server_serving() {
    let server = InProcess::start(&[]);
    let long_line = "x".repeat(70 * 1024);
    let cases: [(&[u8], &str); 9] = [
        (b"*3000000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*1\r\n\r\n\r\n", "-ERR Protocol error: expected '$', got ' '\r\n"),
        (b"PING\r\n*x\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        (long_line.as_bytes(), "-ERR Protocol error: too big inline request\r\n"),
        (&[b"*", long_line.as_bytes()].concat(), "-ERR Protocol error: too big mbulk count string\r\n"),
    ];
    for (input, expected) in cases {
        let mut client = server.connect();
        client.try_send(input);
        assert_eq!(client.rest(), expected, "{:?}", String::from_utf8_lossy(&input[..input.len().min(30)]));
    }
    // Announced and never sent: nothing is allocated for it.
    let mut waiting = Vec::new();
    for input in [&b"*1000000000\r\n"[..], b"*2147483647\r\n$3\r\nabc\r\n", b"*1\r\n$536870912\r\nabc"] {
        let mut client = server.connect();
        client.send(input);
        waiting.push(client);
    }
    server.connect().ask("PING", "+PONG\r\n");
}

#[test]
fn garbage_is_survived() {
    let server = InProcess::start(&[]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..100 {
        let garbage: Vec<u8> = (0..400)
            .map(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let byte = (state >> 56) as u8;
                if byte < 128 { b"*$\r\n0123456789GETSET \"'"[usize::from(byte) % 22] } else { byte }
            })
            .collect();
        server.connect().try_send(garbage);
    }
    server.connect().ask("PING", "+PONG\r\n");
}

#[test]
fn a_thousand_half_open_connections_are_borne() {
    let server = InProcess::start(&[]);
    let mut open = Vec::new();
    for i in 0..1000 {
        let mut client = server.connect();
        client.send(["*", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nab", "PIN"][i % 3]);
        open.push(client);
    }
    let mut client = server.connect();
    client.ask("SET k v", "+OK\r\n");
    client.ask("GET k", "$1\r\nv\r\n");
    let mut last = open.swap_remove(998);
    last.send("G\r\n");
    last.expect("+PONG\r\n");
}

#[test]
fn a_password_is_asked_for_and_checked() {
    let server = InProcess::start(&[("requirepass", "open sesame")]);
    let mut client = server.connect();
    client.ask("GET k", "-NOAUTH Authentication required.\r\n");
    client.ask("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    client.ask("AUTH open", wrong);
    client.ask("AUTH somebody 'open sesame'", wrong);
    client.ask("AUTH 'open sesame'", "+OK\r\n");
    client.ask("GET k", "$-1\r\n");
    client.ask("RESET", "+RESET\r\n");
    client.ask("GET k", "-NOAUTH Authentication required.\r\n");
    client.send("HELLO 3\r\n");
    assert!(client.line().starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
    client.send("HELLO 3 AUTH default 'open sesame' SETNAME me\r\nCLIENT GETNAME\r\n");
    assert_eq!(client.line(), "%7\r\n");
    while client.line() != "modules\r\n" {}
    client.expect("*0\r\n$2\r\nme\r\n");

    // Authenticating and using it in one pipeline.
    let mut client = server.connect();
    client.send([request(&["AUTH", "open sesame"]), request(&["SET", "k", &"x".repeat(20_000)])].concat());
    client.expect("+OK\r\n+OK\r\n");
}

#[test]
fn strangers_get_tighter_limits() {
    let server = InProcess::start(&[("requirepass", "secret")]);
    for (input, text) in [
        ("*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        ("*2\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ] {
        let mut client = server.connect();
        client.send(input);
        assert_eq!(client.rest(), text);
    }
}

#[test]
fn resp3_is_spoken_after_hello() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    client.ask("HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    client.ask("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n");
    client.send("HELLO 3\r\n");
    client.expect(
        "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:",
    );
    while client.line() != "modules\r\n" {}
    client.expect("*0\r\n");
    client.ask("GET nothing", "_\r\n");
    client.ask("CONFIG GET databases", "%1\r\n$9\r\ndatabases\r\n$2\r\n16\r\n");
    client.ask("RESET", "+RESET\r\n");
    client.ask("GET nothing", "$-1\r\n");
}

#[test]
fn clients_are_counted_listed_and_killed() {
    let server = InProcess::start(&[("maxclients", "2")]);
    let mut first = server.connect();
    first.ask("CLIENT SETNAME first", "+OK\r\n");
    let mut second = server.connect();
    second.ask("PING", "+PONG\r\n");
    let mut third = server.connect();
    assert_eq!(third.rest(), "-ERR max number of clients reached\r\n");
    first.send("CLIENT LIST\r\n");
    let list = String::from_utf8(first.bulk().expect("a list")).expect("text");
    assert_eq!(list.lines().count(), 2);
    assert!(list.lines().next().expect("two lines").contains(" name=first ") && list.contains("cmd=client|list"));
    second.send("CLIENT ID\r\n");
    let id = second.line().trim_start_matches(':').trim_end().to_owned();
    first.ask(&format!("CLIENT KILL ID {id}"), ":1\r\n");
    assert_eq!(second.rest(), "");
    let mut again = server.connect();
    while !again.line_after("PING").starts_with("+PONG") {
        // The killed session may take a moment to leave.
        again = server.connect();
    }
    first.ask("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
    first.ask("QUIT", "+OK\r\n");
    assert_eq!(first.rest(), "");
}

#[test]
fn replies_can_be_switched_off() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    client.send("CLIENT REPLY OFF\r\nSET k 1\r\nPING\r\nNOSUCH\r\nCLIENT REPLY ON\r\n");
    client.expect("+OK\r\n");
    client.send("CLIENT REPLY SKIP\r\nSET k 2\r\nGET k\r\nPING\r\n");
    client.expect("$1\r\n2\r\n+PONG\r\n");
}

#[test]
fn settings_are_read_and_changed() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    client.ask(
        "CONFIG GET maxmemory-p* appendfsync",
        "*4\r\n$11\r\nappendfsync\r\n$8\r\neverysec\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n",
    );
    client.ask("CONFIG SET maxclients 77 timeout 5", "+OK\r\n");
    client.ask("CONFIG GET maxclients", "*2\r\n$10\r\nmaxclients\r\n$2\r\n77\r\n");
    client.ask("CONFIG SET nonsense 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'\r\n");
    client.ask(
        "CONFIG SET maxclients 5 timeout -1",
        "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument must be between 0 and 2147483647 inclusive\r\n",
    );
    client.ask("CONFIG GET maxclients", "*2\r\n$10\r\nmaxclients\r\n$2\r\n77\r\n");
    client.ask("CONFIG SET requirepass secret", "+OK\r\n");
    client.ask("PING", "+PONG\r\n");
    server.connect().ask("PING", "-NOAUTH Authentication required.\r\n");
    client.send("INFO keyspace persistence\r\n");
    let info = String::from_utf8(client.bulk().expect("text")).expect("text");
    assert!(info.contains("loading:0\r\n") && info.contains("# Keyspace"));
}

#[test]
fn a_peer_that_does_not_read_blocks_only_itself() {
    let server = InProcess::start(&[]);
    let mut slow = server.connect();
    let value = "x".repeat(1 << 20);
    slow.send(request(&["SET", "big", &value]));
    slow.expect("+OK\r\n");
    let gets = request(&["GET", "big"]).repeat(64);
    slow.send(&gets);
    let mut other = server.connect();
    for _ in 0..100 {
        other.ask("PING", "+PONG\r\n");
    }
    for _ in 0..64 {
        assert_eq!(slow.bulk().expect("the value").len(), value.len());
    }
    slow.ask("PING", "+PONG\r\n");
}

#[test]
fn a_large_value_comes_and_goes_whole() {
    let server = InProcess::start(&[]);
    let mut client = server.connect();
    let value: String = (0..5_000_000).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    client.send([request(&["PING"]), request(&["SET", "large", &value]), request(&["STRLEN", "large"])].concat());
    client.expect("+PONG\r\n+OK\r\n:5000000\r\n");
    client.send(request(&["GET", "large"]));
    assert_eq!(client.bulk().expect("the value"), value.as_bytes());
}
