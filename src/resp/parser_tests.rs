//! What the request parser accepts, refuses and survives.

use proptest::prelude::*;

use super::*;

fn parsed(input: &[u8]) -> (Vec<Vec<String>>, Option<String>) {
    let (requests, error) = requests_of(input, usize::MAX, Limits::default());
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let requests = requests.iter().map(|request| request.iter().map(text).collect()).collect();
    (requests, error.map(|error| error.to_string()))
}

fn error(input: &[u8]) -> String {
    parsed(input).1.expect("the input breaks the protocol")
}

#[test]
fn pipelined_requests_of_both_kinds() {
    let (requests, error) =
        parsed(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\n*1\r\n$4\r\nQUIT\r\nset k \"a b\"\n");
    assert_eq!(requests, [vec!["GET", "a"], vec!["PING"], vec!["QUIT"], vec!["set", "k", "a b"]]);
    assert_eq!(error, None);
}

#[test]
fn empty_and_long_strings() {
    let long = "x".repeat(123_456);
    let input = format!("*3\r\n$3\r\nSET\r\n$0\r\n\r\n${}\r\n{long}\r\n", long.len());
    assert_eq!(parsed(input.as_bytes()), (vec![vec!["SET".to_owned(), String::new(), long]], None));
}

#[test]
fn error_texts_are_those_of_redis() {
    let cases: [(&[u8], &str); 12] = [
        (b"*3000000000\r\n", "Protocol error: invalid multibulk length"),
        (b"*abc\r\n", "Protocol error: invalid multibulk length"),
        (b"*\r\n", "Protocol error: invalid multibulk length"),
        (b"*01\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$+1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\nx1\r\n", "Protocol error: expected '$', got 'x'"),
        (b"*1\r\n\r\n", "Protocol error: expected '$', got '\r'"),
        (b"set \"a\r\n", "Protocol error: unbalanced quotes in request"),
        (b"set 'a'b\r\n", "Protocol error: unbalanced quotes in request"),
    ];
    for (input, text) in cases {
        assert_eq!(error(input), text, "{}", String::from_utf8_lossy(input));
    }
}

#[test]
fn lines_without_end_are_bounded() {
    let digits = vec![b'1'; 65 * 1024];
    assert_eq!(error(&[b"*", &digits[..]].concat()), "Protocol error: too big mbulk count string");
    assert_eq!(error(&[b"*1\r\n$", &digits[..]].concat()), "Protocol error: too big bulk count string");
    assert_eq!(error(&digits), "Protocol error: too big inline request");
    assert_eq!(error(&[&digits[..], b"\r\n"].concat()), "Protocol error: too big inline request");
}

#[test]
fn strangers_get_tighter_bounds() {
    let limits = Limits { unauthenticated: true, ..Limits::default() };
    let of = |input: &[u8]| requests_of(input, usize::MAX, limits).1.map(|error| error.to_string());
    assert_eq!(of(b"*10\r\n$16384\r\n"), None);
    assert_eq!(of(b"*11\r\n").unwrap(), "Protocol error: unauthenticated multibulk length");
    assert_eq!(of(b"*2\r\n$16385\r\n").unwrap(), "Protocol error: unauthenticated bulk length");
}

#[test]
fn announced_sizes_allocate_nothing() {
    let mut parser = Parser::new(Limits::default());
    let mut buffer = b"*1000000000\r\n$536870912\r\nabc".to_vec();
    assert_eq!(parser.parse(&mut buffer, usize::MAX, usize::MAX), Ok(0));
    assert!(parser.spans.capacity() <= 16);
    assert_eq!(parser.missing(buffer.len()), 536_870_912 + 2 - 3);
}

#[test]
fn a_batch_is_bounded_and_goes_on_afterwards() {
    let mut buffer = b"PING\r\nPING\r\nPING\r\n".to_vec();
    let mut parser = Parser::new(Limits::default());
    assert_eq!(parser.parse(&mut buffer, 2, usize::MAX), Ok(2));
    buffer.drain(..parser.consume());
    assert_eq!(buffer, b"PING\r\n");
    assert_eq!(parser.parse(&mut buffer, 2, 1), Ok(1));
    assert_eq!(parser.consume(), 6);
}

#[test]
fn requests_before_an_error_survive_it() {
    let (requests, error) = parsed(b"PING\r\n*x\r\nPING\r\n");
    assert_eq!(requests, [["PING"]]);
    assert!(error.is_some());
}

fn encoded(request: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", request.len()).into_bytes();
    for argument in request {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let argument = prop::collection::vec(any::<u8>(), 0..20);
    let request = prop::collection::vec(argument, 1..5).prop_map(|request| encoded(&request));
    let inline = "[ -~]{0,30}\r?\n".prop_map(String::into_bytes);
    let garbage = prop::collection::vec(prop::sample::select(b"*$0123456789-\r\n\"'\\x \0".to_vec()), 0..20);
    let piece = prop_oneof![6 => request, 2 => inline, 1 => garbage];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(input in pieces(), chunk in 1_usize..40) {
        let limits = Limits { line_bytes_max: 25, ..Limits::default() };
        let whole = requests_of(&input, usize::MAX, limits);
        prop_assert_eq!(&requests_of(&input, 1, limits), &whole);
        prop_assert_eq!(&requests_of(&input, chunk, limits), &whole);
    }

    #[test]
    fn encoded_requests_come_back(requests in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6), 0..6)) {
        let input = requests.iter().flat_map(|request| encoded(request)).collect::<Vec<_>>();
        prop_assert_eq!(requests_of(&input, usize::MAX, Limits::default()), (requests, None));
    }
}
