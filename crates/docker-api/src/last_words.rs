//! What a client is told in a stream that breaks off.
//!
//! A stream whose engine has gone would otherwise just end, and clients say "unexpected EOF" or nothing. Most of the forms in
//! which the engine streams have a place for an error, at the end of a line or of a frame. [`LastWords`] follows a stream
//! closely enough to know whether it is at such a place; where it is not, or where the form has none, it stays silent.

use serde_json::json;

use crate::{Class, Route};

/// The stream that carries the error of the engine itself, in a multiplexed stream of output.
const SYSTEM_ERROR: u8 = 3;
/// Bytes before each part of a multiplexed stream: its stream, three zeros, its length.
const FRAME_HEAD: usize = 8;
/// Bytes before each payload in HTTP/2 (RFC 9113, 4.1): length (3), type, flags, stream (4).
const H2_HEAD: usize = 9;
/// Types of HTTP/2 frames (RFC 9113, 6), and the flag that ends a block of headers.
const H2_HEADERS: u8 = 1;
const H2_PUSH_PROMISE: u8 = 5;
const H2_GOAWAY: u8 = 7;
const H2_CONTINUATION: u8 = 9;
const H2_END_HEADERS: u8 = 4;
/// `INTERNAL_ERROR` (RFC 9113, 7).
const H2_INTERNAL_ERROR: u32 = 2;
/// How an HTTP/2 stream begins at the client's side (RFC 9113, 3.4), as far as it differs from a frame.
const H2_PREFACE: &[u8; H2_HEAD] = b"PRI * HTT";

/// Follows what the engine sends in one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWords(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// There is no place for words.
    Silent,
    /// JSON values, each with a line's end behind it.
    Lines { complete: bool },
    /// Parts of standard output and error, or a terminal's plain bytes: only the beginning tells.
    Frames(Head<FRAME_HEAD>),
    /// HTTP/2 as a server sends it. `block` is open between a head and its continuations, where nothing else may stand.
    Http2 { head: Head<H2_HEAD>, block: bool },
}

/// Where a stream of frames is: `have` bytes of a head, or `rest` bytes of a payload still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head<const N: usize> {
    bytes: [u8; N],
    have: usize,
    rest: u64,
    /// A frame has begun, or is known to.
    known: bool,
}

impl<const N: usize> Head<N> {
    const fn new(known: bool) -> Self {
        Self { bytes: [0; N], have: 0, rest: 0, known }
    }

    /// Takes bytes up to the end of the next head. Returns it, and what is left.
    fn take<'a>(&mut self, mut bytes: &'a [u8]) -> (Option<[u8; N]>, &'a [u8]) {
        let skipped = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
        self.rest -= skipped as u64;
        bytes = &bytes[skipped..];
        let count = (N - self.have).min(bytes.len());
        self.bytes[self.have..self.have + count].copy_from_slice(&bytes[..count]);
        self.have += count;
        bytes = &bytes[count..];
        if self.have < N {
            return (None, bytes);
        }
        self.have = 0;
        self.known = true;
        (Some(self.bytes), bytes)
    }

    const fn between(&self) -> bool {
        self.known && self.have == 0 && self.rest == 0
    }
}

impl LastWords {
    /// For the answer to a call of this route with this `Content-Type`.
    pub fn new(route: &Route<'_>, content_type: Option<&str>) -> Self {
        let media = content_type.and_then(|value| value.split(';').next()).map(str::trim);
        Self(match (route.class, media) {
            (Class::H2c, _) => Form::Http2 { head: Head::new(false), block: false },
            (_, Some("application/vnd.docker.multiplexed-stream")) => Form::Frames(Head::new(true)),
            // Before API 1.42 both kinds had this type.
            (_, Some("application/vnd.docker.raw-stream")) => Form::Frames(Head::new(false)),
            (_, Some("application/json")) if route.progress => Form::Lines { complete: true },
            _ => Form::Silent,
        })
    }

    /// For a stream that is told nothing.
    pub const fn silent() -> Self {
        Self(Form::Silent)
    }

    /// Takes note of what the engine has sent.
    pub fn saw(&mut self, mut bytes: &[u8]) {
        match &mut self.0 {
            Form::Silent => {}
            Form::Lines { complete } => {
                if let Some(last) = bytes.last() {
                    *complete = *last == b'\n';
                }
            }
            Form::Frames(head) => {
                while !bytes.is_empty() {
                    let (frame, left) = head.take(bytes);
                    bytes = left;
                    match frame {
                        Some([0..=SYSTEM_ERROR, 0, 0, 0, length @ ..]) => head.rest = u32::from_be_bytes(length).into(),
                        Some(_) => {
                            self.0 = Form::Silent;
                            return;
                        }
                        None => {}
                    }
                }
            }
            Form::Http2 { head, block } => {
                while !bytes.is_empty() {
                    let first = !head.known;
                    let (frame, left) = head.take(bytes);
                    bytes = left;
                    let Some(frame) = frame else { continue };
                    if first && &frame == H2_PREFACE {
                        // The engine is the client here: it hears errors, and tells none.
                        self.0 = Form::Silent;
                        return;
                    }
                    let [high, middle, low, kind, flags, ..] = frame;
                    head.rest = u32::from_be_bytes([0, high, middle, low]).into();
                    if matches!(kind, H2_HEADERS | H2_PUSH_PROMISE | H2_CONTINUATION) {
                        *block = flags & H2_END_HEADERS == 0;
                    }
                }
            }
        }
    }

    /// The sentence in the form of the stream, if this is a place for it.
    pub fn say(&self, sentence: &str) -> Option<Vec<u8>> {
        match &self.0 {
            Form::Lines { complete: true } => {
                let mut line = json!({ "errorDetail": { "message": sentence }, "error": sentence }).to_string();
                line.push_str("\r\n");
                Some(line.into_bytes())
            }
            Form::Frames(head) if head.between() => {
                let length = u32::try_from(sentence.len()).ok()?;
                let mut frame = vec![SYSTEM_ERROR, 0, 0, 0];
                frame.extend(length.to_be_bytes());
                frame.extend(sentence.as_bytes());
                Some(frame)
            }
            Form::Http2 { head, block: false } if head.between() => {
                // The highest stream: all were begun, none may be sent again elsewhere.
                let last_stream = u32::MAX >> 1;
                let length = u32::try_from(8 + sentence.len()).ok().filter(|length| *length <= 1 << 14)?;
                let [_, high, middle, low] = length.to_be_bytes();
                let mut frame = vec![high, middle, low, H2_GOAWAY, 0, 0, 0, 0, 0];
                frame.extend(last_stream.to_be_bytes());
                frame.extend(H2_INTERNAL_ERROR.to_be_bytes());
                frame.extend(sentence.as_bytes());
                Some(frame)
            }
            _ => None,
        }
    }

    /// Whether the words are an end of their own: a client that has read them waits for nothing more, and the stream may end
    /// in order behind them.
    pub const fn conclude(&self) -> bool {
        matches!(self.0, Form::Lines { .. })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn words(method: Method, path: &str, content_type: &str) -> LastWords {
        LastWords::new(&Route::find(&method, path), Some(content_type))
    }

    fn attached() -> LastWords {
        words(Method::POST, "/v1.51/containers/x/attach", "application/vnd.docker.multiplexed-stream")
    }

    fn part(stream: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text);
        frame
    }

    fn h2(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn progress_ends_with_the_engines_form_of_an_error_and_never_within_a_line() {
        let mut build = words(Method::POST, "/v1.41/build", "application/json");
        let said =
            [json!({"errorDetail": {"message": "it broke"}, "error": "it broke"}).to_string().as_bytes(), b"\r\n"]
                .concat();
        assert_eq!(build.say("it broke"), Some(said.clone()));
        build.saw(b"{\"stream\":\"Step 1\"}\r\n");
        assert_eq!(build.say("it broke"), Some(said));
        build.saw(b"{\"stream\":\"St");
        assert_eq!(build.say("it broke"), None);
    }

    #[test]
    fn a_whole_answer_in_json_gets_no_words_behind_it() {
        for path in ["/containers/create", "/containers/x/wait", "/build/prune", "/events"] {
            let mut answer = words(Method::POST, path, "application/json");
            answer.saw(b"{}\n");
            assert_eq!(answer.say("it broke"), None, "{path}");
        }
    }

    #[test]
    fn output_ends_with_a_part_of_the_engines_own_error_stream() {
        let mut attach = attached();
        assert_eq!(attach.say("no"), Some(part(3, b"no")));
        attach.saw(&part(1, b"hello"));
        attach.saw(&part(2, b""));
        assert_eq!(attach.say("no"), Some(part(3, b"no")));
        attach.saw(&part(1, b"hello")[..11]);
        assert_eq!(attach.say("no"), None);
    }

    #[test]
    fn a_terminals_bytes_get_no_frame_of_another_form() {
        let mut terminal = words(Method::POST, "/exec/x/start", "application/vnd.docker.raw-stream");
        assert_eq!(terminal.say("no"), None, "nothing has come that would tell which form it is");
        terminal.saw(b"/ # ls -l\r\n");
        assert_eq!(terminal.say("no"), None);
        let mut output = words(Method::POST, "/exec/x/start", "application/vnd.docker.raw-stream");
        output.saw(&part(1, b"x"));
        assert_eq!(output.say("no"), Some(part(3, b"no")));
    }

    #[test]
    fn http2_ends_with_a_goaway_between_frames_and_never_within_a_block_of_headers() {
        let mut grpc = words(Method::POST, "/grpc", "");
        assert_eq!(grpc.say("no"), None, "a client waits for the settings first");
        grpc.saw(&h2(4, 0, b"settings"));
        let goaway = [&[0, 0, 10, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 2][..], b"no"].concat();
        assert_eq!(grpc.say("no"), Some(goaway.clone()));
        grpc.saw(&h2(H2_HEADERS, 0, b"half"));
        assert_eq!(grpc.say("no"), None);
        grpc.saw(&h2(H2_CONTINUATION, H2_END_HEADERS, b"rest"));
        assert_eq!(grpc.say("no"), Some(goaway));
        grpc.saw(&h2(0, 0, b"data")[..10]);
        assert_eq!(grpc.say("no"), None);
    }

    #[test]
    fn an_engine_that_is_the_client_of_http2_is_left_alone() {
        let mut session = words(Method::POST, "/session", "");
        session.saw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        session.saw(&h2(4, 0, b""));
        assert_eq!(session.say("no"), None);
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            bytes in proptest::collection::vec(0_u8..12, 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..10),
        ) {
            let forms = [attached(), words(Method::POST, "/grpc", ""), words(Method::POST, "/build", "application/json")];
            for form in forms {
                let (mut whole, mut cut) = (form.clone(), form);
                whole.saw(&bytes);
                let mut cuts: Vec<_> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
                cuts.extend([0, bytes.len()]);
                cuts.sort_unstable();
                for pair in cuts.windows(2) {
                    cut.saw(&bytes[pair[0]..pair[1]]);
                }
                prop_assert_eq!(whole.say("x"), cut.say("x"));
            }
        }

        #[test]
        fn words_stand_exactly_between_two_parts(
            texts in proptest::collection::vec("[a-z]{0,9}", 1..6),
            after in 0_usize..100,
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| part(1, text.as_bytes())).collect();
            let mut ends = vec![0];
            for text in &texts {
                ends.push(ends.last().unwrap() + FRAME_HEAD + text.len());
            }
            let after = after.min(bytes.len());
            let mut attach = attached();
            attach.saw(&bytes[..after]);
            prop_assert_eq!(attach.say("x").is_some(), ends.contains(&after));
        }
    }
}
