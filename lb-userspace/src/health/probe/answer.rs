//! What a server has answered so far, which decides how much more to read. Called by `http`. Pure.
//!
//! Nothing in a body counts but that it is complete: a server that dies in the middle of an answer is not
//! well. Of a long body the beginning will do.

use httparse::{EMPTY_HEADER, Header, Response, Status};

/// How much of an answer's head is read, or of a line between chunks.
const MAX_HEAD: usize = 16 * 1024;

/// How much of an answer's body is read.
const MAX_BODY: usize = 4 * 1024;

/// As many header lines as HTTP libraries take.
const MAX_LINES: usize = 100;

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    /// All of it that counts is there.
    Done(u16),
    /// It is not HTTP, or too large.
    Bad,
}

/// An answer under way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Where what is read goes; what has been understood is taken out.
    pub(super) bytes: Vec<u8>,
    status: u16,
    /// How much of the body has been seen.
    seen: usize,
    expects: Expects,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Head,
    /// So many bytes, and the body is complete.
    Rest(u64),
    /// The length of the next chunk.
    ChunkSize,
    /// So many bytes of a chunk, the end of its line included.
    Chunk(u64),
    /// The end of the connection.
    End,
}

impl Answer {
    /// Takes what has been read since.
    pub(super) fn advance(&mut self) -> Progress {
        loop {
            let before = (self.bytes.len(), self.expects);
            let progress = match self.expects {
                Expects::Head => self.head(),
                Expects::Rest(left) => self.body(left, Expects::Rest),
                Expects::ChunkSize => self.chunk_size(),
                Expects::Chunk(0) => {
                    self.expects = Expects::ChunkSize;
                    Progress::More
                }
                Expects::Chunk(left) => self.body(left, Expects::Chunk),
                Expects::End => self.body(u64::MAX, |_| Expects::End),
            };
            if progress != Progress::More || before == (self.bytes.len(), self.expects) {
                return progress;
            }
        }
    }

    /// There will be no more. `None`: it breaks off.
    pub(super) fn end(&self) -> Option<u16> {
        (self.expects == Expects::End).then_some(self.status)
    }

    fn head(&mut self) -> Progress {
        let mut lines = [EMPTY_HEADER; MAX_LINES];
        let mut response = Response::new(&mut lines);
        let (length, status, expects) = match response.parse(&self.bytes) {
            Ok(Status::Complete(length)) => {
                let Some(status) = response.code.filter(|status| *status >= 100) else {
                    return Progress::Bad;
                };
                let Some(expects) = framing(status, response.headers) else {
                    return Progress::Bad;
                };
                (length, status, expects)
            }
            Ok(Status::Partial) if self.bytes.len() <= MAX_HEAD => return Progress::More,
            Ok(Status::Partial) | Err(_) => return Progress::Bad,
        };
        self.bytes.drain(..length);
        (self.status, self.expects) = (status, expects);
        if expects == Expects::Rest(0) { Progress::Done(status) } else { Progress::More }
    }

    fn body(&mut self, left: u64, then: impl Fn(u64) -> Expects) -> Progress {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..wanted);
        self.seen = self.seen.saturating_add(wanted);
        let left = left.saturating_sub(u64::try_from(wanted).unwrap_or(u64::MAX));
        self.expects = then(left);
        let is_complete = self.expects == Expects::Rest(0) || self.seen >= MAX_BODY;
        if is_complete { Progress::Done(self.status) } else { Progress::More }
    }

    fn chunk_size(&mut self) -> Progress {
        match httparse::parse_chunk_size(&self.bytes) {
            Ok(Status::Complete((_, 0))) => Progress::Done(self.status),
            Ok(Status::Complete((length, size))) => {
                self.bytes.drain(..length);
                self.expects = Expects::Chunk(size.saturating_add(2));
                Progress::More
            }
            Ok(Status::Partial) if self.bytes.len() <= MAX_HEAD => Progress::More,
            Ok(Status::Partial) | Err(_) => Progress::Bad,
        }
    }
}

/// What follows a head (RFC 9112, 6.3); `None`: it contradicts itself.
fn framing(status: u16, lines: &[Header<'_>]) -> Option<Expects> {
    match status {
        // Of these there is another one; but who switches protocols has answered.
        100 | 102..=199 => return Some(Expects::Head),
        101 | 204 | 304 => return Some(Expects::Rest(0)),
        _ => {}
    }
    let values = |name: &'static str| {
        let lines = lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value.trim_ascii())
    };
    if let Some(codings) = values("transfer-encoding").next_back() {
        let last = codings.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return Some(if is_chunked { Expects::ChunkSize } else { Expects::End });
    }
    let mut length = None;
    for value in values("content-length") {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(value).ok().filter(|_| is_number);
        let number: u64 = number?.parse().ok()?;
        if length.is_some_and(|known| known != number) {
            return None;
        }
        length = Some(number);
    }
    Some(length.map_or(Expects::End, Expects::Rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of an answer that arrives in pieces of that size and then ends; `None`: it breaks off.
    fn outcome(text: &[u8], piece: usize) -> Option<Progress> {
        let mut answer = Answer::default();
        for piece in text.chunks(piece) {
            answer.bytes.extend_from_slice(piece);
            match answer.advance() {
                Progress::More => {}
                progress @ (Progress::Done(_) | Progress::Bad) => return Some(progress),
            }
        }
        answer.end().map(Progress::Done)
    }

    /// Beside those that servers give in the tests of whole probes.
    #[test]
    fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
        use Progress::{Bad, Done};
        let cases: [(&str, Option<Progress>); 15] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(Done(200))),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok",
                Some(Done(200)),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", Some(Bad)),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Some(Bad)),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", Some(Bad)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Some(Bad)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None),
            ("HTTP/1.1 200 OK\r\n\r\nok", Some(Done(200))),
            ("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", Some(Done(304))),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, CHUNKED\r\n\r\n2;x=y\r\nok\r\nA\r\n0123456789\r\n0\r\n\r\n",
                Some(Done(200)),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", Some(Done(200))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", None),
            (
                "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
                Some(Done(500)),
            ),
            ("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", Some(Bad)),
            ("HTTP/1.1 200 OK", None),
        ];
        for (text, expected) in cases {
            for piece in [1, 2, 3, 7, 4096] {
                assert_eq!(outcome(text.as_bytes(), piece), expected, "{text:?} by {piece}");
            }
        }
    }

    #[test]
    fn of_a_long_body_the_beginning_will_do() {
        for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked", "X: y"] {
            let body = "8000\r\n".to_owned() + &"a".repeat(MAX_BODY);
            let text = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
            assert_eq!(outcome(text.as_bytes(), 100), Some(Progress::Done(200)), "{framing}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_judged_in_bounded_space(
            start in prop_oneof![
                Just("".to_owned()),
                Just("HTTP/1.1 200 OK\r\n".to_owned()),
                Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
            ],
            noise in proptest::collection::vec(any::<u8>(), 0..2000),
            times in 1_usize..20,
        ) {
            let mut answer = Answer::default();
            answer.bytes.extend_from_slice(start.as_bytes());
            for _ in 0..times {
                answer.bytes.extend_from_slice(&noise);
                if answer.advance() != Progress::More {
                    break;
                }
                prop_assert!(answer.bytes.len() <= MAX_HEAD);
            }
        }
    }
}
