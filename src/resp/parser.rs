//! Requests out of the read buffer, as byte ranges, without copying and without ever looking at a byte twice.
//!
//! A session appends what the socket gave to its buffer, calls [`Parser::parse`], executes the complete requests, and calls
//! [`Parser::consume`] to learn how many bytes at the front of the buffer are done with. What is left is the beginning of a
//! request; the parser remembers how far it got, also inside a line and inside a long string.
//!
//! ```text
//! buffer:  *2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$1\r\nb
//!                     ~~~         ~           ~~~          ^ at = here, the third argument is missing
//!          `-- complete request ------´`-- begun: args_left = 2, bulk_len = Some(1)
//! ```
//!
//! **Invariants:** splitting the input differently yields the same requests and the same error (a property test);
//! memory grows with bytes received, never with a number the peer announced; work is linear in the bytes received.
//!
//! **Limits:** see [`Limits`]. An error ends the connection: requests before it are answered, then the error is sent.
//!
//! Source: `processInlineBuffer` and `processMultibulkBuffer` of Redis 7.0, whose error texts clients and tests know.

use std::fmt;

use super::inline;

/// How much a peer may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line: an inline command, or a count. Default 64 KiB.
    pub line_bytes_max: usize,
    /// Most arguments of one request. Default 2^31 - 1. Nothing is allocated for what is only announced.
    pub args_max: i64,
    /// Longest argument in bytes. Default 512 MiB, the setting `proto-max-bulk-len`.
    pub bulk_bytes_max: i64,
    /// Whether the tighter bounds for strangers apply: 10 arguments of 16 KiB each.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_bytes_max: 64 * 1024,
            args_max: i64::from(i32::MAX),
            bulk_bytes_max: 512 * 1024 * 1024,
            unauthenticated: false,
        }
    }
}

/// Room for ranges that is kept between batches: 64 KiB.
const SPANS_KEPT_MAX: usize = 8192;
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 * 1024;

/// What a peer did wrong; its text is what Redis sends, without the leading `ERR `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline command longer than a line may be.
    InlineTooBig,
    /// An inline command whose quotes do not pair up.
    UnbalancedQuotes,
    /// A line announcing arguments that is longer than a line may be.
    MultibulkLineTooBig,
    /// A number of arguments that is no number or out of range.
    MultibulkLength,
    /// Too many arguments for a client that has not authenticated.
    UnauthenticatedMultibulkLength,
    /// A line announcing a string that is longer than a line may be.
    BulkLineTooBig,
    /// Something else where a `$` has to be.
    ExpectedBulk(u8),
    /// A string length that is no number or out of range.
    BulkLength,
    /// Too long a string for a client that has not authenticated.
    UnauthenticatedBulkLength,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            ProtocolError::InlineTooBig => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::MultibulkLineTooBig => "too big mbulk count string",
            ProtocolError::MultibulkLength => "invalid multibulk length",
            ProtocolError::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            ProtocolError::BulkLineTooBig => "too big bulk count string",
            ProtocolError::ExpectedBulk(got) => return write!(f, "expected '$', got '{}'", char::from(*got)),
            ProtocolError::BulkLength => "invalid bulk length",
            ProtocolError::UnauthenticatedBulkLength => "unauthenticated bulk length",
        })
    }
}

/// A byte range of the read buffer. 32 bits suffice: the query buffer is bounded to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Span {
        assert!(start <= end && end <= u32::MAX as usize, "a range of the read buffer: {start}..{end}");
        Span { start: start as u32, end: end as u32 }
    }

    #[inline]
    pub(super) fn of<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

/// Recognizes requests in a growing buffer.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bounds for what comes next; may be changed between calls.
    pub limits: Limits,
    /// Offset in the buffer of the first byte not yet understood.
    at: usize,
    /// How many bytes from `at` on are known to hold no line end.
    scanned: usize,
    /// Arguments the begun request still lacks; 0 between requests.
    args_left: u32,
    /// Announced length of the argument that begins at `at`, once its line has been read.
    bulk_len: Option<u32>,
    /// Offset after the last complete request.
    consumable: usize,
    /// Arguments of all complete requests and of the begun one.
    spans: Vec<Span>,
    /// For each complete request, where its arguments end in `spans`.
    ends: Vec<usize>,
    error: Option<ProtocolError>,
}

enum Step {
    Progress,
    NeedMore,
}

impl Parser {
    /// Makes a parser for a new connection.
    pub fn new(limits: Limits) -> Parser {
        Parser { limits, ..Parser::default() }
    }

    /// Parses what is in `buffer`, until `requests_max` requests are complete or they span `bytes_max` bytes, and returns
    /// how many are. `buffer` begins where the last [`consume`](Self::consume) left it. Words of inline commands are
    /// unquoted in place.
    ///
    /// # Errors
    /// The input breaks the protocol. Requests complete before that point remain to be executed; nothing after it is
    /// ever parsed.
    pub fn parse(
        &mut self,
        buffer: &mut [u8],
        requests_max: usize,
        bytes_max: usize,
    ) -> Result<usize, (usize, ProtocolError)> {
        while self.error.is_none() && self.ends.len() < requests_max && self.consumable < bytes_max {
            match self.step(buffer) {
                Ok(Step::Progress) => {}
                Ok(Step::NeedMore) => break,
                Err(error) => self.error = Some(error),
            }
        }
        match self.error {
            Some(error) => Err((self.ends.len(), error)),
            None => Ok(self.ends.len()),
        }
    }

    /// Returns the number of complete requests.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true when no request is complete.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the arguments of the complete request number `index`; the first is the command's name.
    #[inline]
    pub fn request<'p>(&'p self, index: usize, buffer: &'p [u8]) -> Args<'p> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Args { spans: &self.spans[start..self.ends[index]], buffer }
    }

    /// Forgets the complete requests and returns how many bytes the caller must now drop from the front of its buffer.
    pub fn consume(&mut self) -> usize {
        let consumed = self.consumable;
        let complete = self.ends.last().copied().unwrap_or(0);
        self.ends.clear();
        self.spans.drain(..complete);
        for span in &mut self.spans {
            *span = Span::new(span.start as usize - consumed, span.end as usize - consumed);
        }
        self.at -= consumed;
        self.consumable = 0;
        if self.spans.is_empty() {
            self.spans.shrink_to(SPANS_KEPT_MAX);
        }
        consumed
    }

    /// Returns how many bytes the begun argument still lacks, given the buffer's length: what to make room for at least.
    pub fn missing(&self, buffer_len: usize) -> usize {
        match self.bulk_len {
            Some(len) => (self.at + len as usize + 2).saturating_sub(buffer_len),
            None => 0,
        }
    }

    /// Returns the bytes of memory that the begun request takes beside the buffer itself, now and as a list of slices.
    pub fn memory(&self) -> usize {
        self.spans.len() * (size_of::<Span>() + size_of::<&[u8]>())
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<Step, ProtocolError> {
        if self.args_left > 0 {
            return self.argument(buffer);
        }
        match buffer.get(self.at) {
            None => Ok(Step::NeedMore),
            Some(b'*') => self.multibulk(buffer),
            Some(_) => self.inline(buffer),
        }
    }

    /// `*<count>\r\n`
    fn multibulk(&mut self, buffer: &[u8]) -> Result<Step, ProtocolError> {
        let Some((count, next)) = self.count_line(buffer, ProtocolError::MultibulkLineTooBig)? else {
            return Ok(Step::NeedMore);
        };
        let count = count.filter(|&count| count <= self.limits.args_max).ok_or(ProtocolError::MultibulkLength)?;
        if self.limits.unauthenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.at = next;
        if count <= 0 {
            self.consumable = next;
        } else {
            self.args_left = u32::try_from(count).expect("bounded by i32::MAX");
        }
        Ok(Step::Progress)
    }

    /// `$<length>\r\n<bytes>\r\n`, for as many arguments as are there.
    fn argument(&mut self, buffer: &[u8]) -> Result<Step, ProtocolError> {
        while self.args_left > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.bulk_line(buffer)? {
                    Some(len) => len,
                    None => return Ok(Step::NeedMore),
                },
            };
            let end = self.at + len as usize;
            if buffer.len() < end + 2 {
                self.bulk_len = Some(len);
                return Ok(Step::NeedMore);
            }
            self.spans.push(Span::new(self.at, end));
            self.bulk_len = None;
            self.at = end + 2;
            self.args_left -= 1;
        }
        self.complete();
        Ok(Step::Progress)
    }

    #[inline]
    fn bulk_line(&mut self, buffer: &[u8]) -> Result<Option<u32>, ProtocolError> {
        let Some((len, next)) = self.count_line(buffer, ProtocolError::BulkLineTooBig)? else { return Ok(None) };
        if buffer[self.at] != b'$' {
            return Err(ProtocolError::ExpectedBulk(buffer[self.at]));
        }
        let len = len.filter(|&len| (0..=self.limits.bulk_bytes_max).contains(&len));
        let len = len.ok_or(ProtocolError::BulkLength)?;
        if self.limits.unauthenticated && len > UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.at = next;
        Ok(Some(u32::try_from(len).map_err(|_| ProtocolError::BulkLength)?))
    }

    /// Reads the number of the line that begins at `at` behind its type byte, and where the next line begins; `None` when
    /// the line is not complete. The inner `None` is a line without a proper number.
    #[inline]
    fn count_line(
        &mut self,
        buffer: &[u8],
        too_big: ProtocolError,
    ) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
        let line = &buffer[self.at..];
        // Nearly every count is one to four digits: read it in one pass.
        if let [_, first @ b'1'..=b'9', rest @ ..] = line {
            let mut value = i64::from(first - b'0');
            for (index, &byte) in rest.iter().take(5).enumerate() {
                match byte {
                    b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
                    b'\r' if rest.len() > index + 1 => {
                        self.scanned = 0;
                        return Ok(Some((Some(value), self.at + index + 4)));
                    }
                    _ => break,
                }
            }
        }
        let window = line.len().min(self.limits.line_bytes_max + 1);
        let Some(found) = line[self.scanned.min(window)..window].iter().position(|&byte| byte == b'\r') else {
            self.scanned = window;
            return if window > self.limits.line_bytes_max { Err(too_big) } else { Ok(None) };
        };
        let end = self.scanned + found;
        self.scanned = end;
        if line.len() < end + 2 {
            return Ok(None);
        }
        self.scanned = 0;
        Ok(Some((integer(line.get(1..end).unwrap_or_default()), self.at + end + 2)))
    }

    fn inline(&mut self, buffer: &mut [u8]) -> Result<Step, ProtocolError> {
        let line = &mut buffer[self.at..];
        let window = line.len().min(self.limits.line_bytes_max + 1);
        let Some(found) = line[self.scanned..window].iter().position(|&byte| byte == b'\n') else {
            self.scanned = window;
            return if window > self.limits.line_bytes_max {
                Err(ProtocolError::InlineTooBig)
            } else {
                Ok(Step::NeedMore)
            };
        };
        let end = self.scanned + found;
        self.scanned = 0;
        let text = if end > 0 && line[end - 1] == b'\r' { end - 1 } else { end };
        let before = self.spans.len();
        inline::split(&mut line[..text], self.at, &mut self.spans).map_err(|_| ProtocolError::UnbalancedQuotes)?;
        self.at += end + 1;
        if self.spans.len() == before {
            self.consumable = self.at;
        } else {
            self.complete();
        }
        Ok(Step::Progress)
    }

    fn complete(&mut self) {
        self.ends.push(self.spans.len());
        self.consumable = self.at;
    }
}

/// The arguments of one request. Cheap to copy: a view of ranges and of the buffer they point into.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    spans: &'a [Span],
    buffer: &'a [u8],
}

impl<'a> Args<'a> {
    /// Returns the number of arguments, the command's name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Always false: a request has at least its name.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns argument `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| span.of(self.buffer))
    }

    /// Yields the arguments in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let buffer = self.buffer;
        self.spans.iter().map(move |span| span.of(buffer))
    }
}

impl fmt::Debug for Args<'_> {
    /// Shows the shape only: arguments may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Args({} arguments)", self.spans.len())
    }
}

/// Reads a decimal integer as Redis does: an optional minus, no plus, no leading zeros, no spaces.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => None,
        [b'0'] => (!negative).then_some(0),
        [b'0', ..] => None,
        digits => digits.iter().try_fold(0_i64, |value, &byte| {
            let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
            let value = value.checked_mul(10)?;
            if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
        }),
    }
}

/// Parses `input` as it would arrive in pieces of `chunk_bytes` bytes, and returns every request and the error that ended
/// them, if one did. For tests and fuzz targets: any two chunk sizes must agree.
pub fn requests_of(input: &[u8], chunk_bytes: usize, limits: Limits) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut parser = Parser::new(limits);
    let mut buffer = Vec::new();
    let mut requests = Vec::new();
    for chunk in input.chunks(chunk_bytes.max(1)) {
        buffer.extend_from_slice(chunk);
        let outcome = parser.parse(&mut buffer, usize::MAX, usize::MAX);
        for index in 0..parser.len() {
            requests.push(parser.request(index, &buffer).iter().map(<[u8]>::to_vec).collect());
        }
        buffer.drain(..parser.consume());
        if let Err((_, error)) = outcome {
            return (requests, Some(error));
        }
    }
    (requests, None)
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
