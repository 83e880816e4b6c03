//! Requests of the Redis protocol: in pieces of any size the same requests and the same error; what was read can be written
//! and read again.

use aidb::resp::{Encoder, Limits, Parser, Protocol, requests_of};

/// Parses `input` as a client's stream.
pub fn request(input: &[u8]) {
    let wide = Limits::default();
    let tight = Limits { line_bytes_max: 40, args_max: 16, bulk_bytes_max: 200, unauthenticated: false };
    let stranger = Limits { unauthenticated: true, ..wide };
    for limits in [wide, tight, stranger] {
        let (requests, error) = requests_of(input, usize::MAX, limits);
        for chunk_bytes in [1, 2, 7, 61] {
            assert_eq!(requests_of(input, chunk_bytes, limits), (requests.clone(), error), "chunks of {chunk_bytes}");
        }
        assert!(requests.iter().all(|request| !request.is_empty()), "a request without a name");
        assert_eq!(one_at_a_time(input, limits), requests, "batches of one");
    }
    let (requests, error) = requests_of(input, usize::MAX, wide);
    assert_eq!(requests_of(&written(&requests), usize::MAX, wide), (requests, None), "written and read again");
    if let Some(error) = error {
        let mut encoder = Encoder::new(Protocol::Resp2);
        encoder.error(format!("ERR {error}"));
        let line_ends = encoder.bytes().iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
        assert_eq!(line_ends, 2, "an error is one line");
    }
}

/// Parses with at most one request a call, as a session does that may execute only so much at once.
fn one_at_a_time(input: &[u8], limits: Limits) -> Vec<Vec<Vec<u8>>> {
    let mut parser = Parser::new(limits);
    let mut buffer = input.to_vec();
    let mut requests = Vec::new();
    loop {
        let outcome = parser.parse(&mut buffer, 1, usize::MAX);
        assert!(parser.memory() <= buffer.len() * 24, "memory grows with bytes received only");
        let complete = parser.len();
        for index in 0..complete {
            requests.push(parser.request(index, &buffer).iter().map(<[u8]>::to_vec).collect());
        }
        let consumed = parser.consume();
        buffer.drain(..consumed);
        if outcome.is_err() || complete == 0 {
            return requests;
        }
    }
}

fn written(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut encoder = Encoder::new(Protocol::Resp3);
    for request in requests {
        encoder.array(request.len());
        request.iter().for_each(|argument| encoder.bulk(argument));
    }
    encoder.bytes().to_vec()
}
