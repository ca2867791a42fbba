//! Answers of the engine, with the laptop's own paths in the place of where the files lie in the environment.
//!
//! What the engine says of a bind mount (inspections, lists, events, errors) is compared by Compose, by IDEs and by people
//! with what they asked for. Where a file lies says which file it is, so that nothing has to be remembered, and nothing of an
//! answer has to be understood: in JSON the beginning of such a path looks like itself.

use std::sync::LazyLock;

use http::{Method, StatusCode};
use memchr::memmem::Finder;
use overside_model::agent::LAPTOP_FILES;

use crate::{Class, IdleAnswer, Route};

/// What places begin with.
const PREFIX: &[u8] = LAPTOP_FILES.as_bytes();

static PLACES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PREFIX));

/// Answers to reads that may name places, besides those that the table of routes has as questions.
const READS: [&str; 5] = ["/services", "/services/{}", "/tasks", "/tasks/{}", "/system/df"];

/// Whether an answer may name places in the environment: those that tell of containers, volumes and services, and every
/// error. Never streams that are the containers' own (output, archives, images).
pub fn names_places(method: &Method, route: &Route<'_>, status: StatusCode, content_type: Option<&str>) -> bool {
    let is_json = content_type.is_some_and(|of| of.split(';').next().is_some_and(|of| of.trim() == "application/json"));
    if !is_json || *method == Method::HEAD {
        return false;
    }
    if status.is_client_error() || status.is_server_error() {
        return true;
    }
    match route.class {
        Class::Events => true,
        Class::Passive(
            IdleAnswer::NoContainer | IdleAnswer::NoVolume | IdleAnswer::NoVolumes | IdleAnswer::EmptyArray,
        ) => true,
        _ => route.body.is_some() || READS.contains(&route.shape),
    }
}

/// Puts the laptop's paths back into one answer, as it streams by. Memory is bounded by the longest beginning of a place that
/// may go on in the next piece: some twenty bytes.
#[derive(Debug)]
pub struct Restorer {
    windows: bool,
    /// What came last, and may be the beginning of a place.
    held: Vec<u8>,
    /// The byte before what is held, or before what comes next.
    before: u8,
    /// Inside of a path of Windows, whose slashes are turned.
    turning: Option<Turning>,
}

#[derive(Debug, Clone, Copy)]
struct Turning {
    /// It has a string, or a part of one in quotes, to itself, so that it ends with that.
    quoted: bool,
    /// The byte before was a backslash.
    escape: bool,
}

/// What the bytes after a place's beginning are.
enum Kind {
    /// They must be seen first.
    Unknown,
    /// No place, but a name that begins in the same way.
    Other,
    /// A place. In its stead comes this text, and so many bytes are used up.
    Place(Vec<u8>, usize),
}

impl Restorer {
    /// For one answer to a client on a machine that has drives and backslashes, or none.
    pub fn new(windows: bool) -> Self {
        Self { windows, held: Vec::new(), before: b'"', turning: None }
    }

    /// Takes the answer's next piece, and returns what it becomes; None if it stays as it is.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let last = piece.last()?;
        let goes_on = !self.held.is_empty() || self.turning.is_some();
        if !goes_on && PLACES.find(piece).is_none() && beginning(piece) == 0 {
            self.before = *last;
            return None;
        }
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(piece);
        Some(self.restore(&input))
    }

    /// The answer's end: what was still held.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn restore(&mut self, input: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(input.len());
        let mut rest = input;
        while !rest.is_empty() {
            if self.turning.is_some() {
                rest = self.turn(rest, &mut output);
                continue;
            }
            let at = PLACES.find(rest).unwrap_or(rest.len() - beginning(rest));
            let (plain, from) = rest.split_at(at);
            output.extend_from_slice(plain);
            self.before = plain.last().copied().unwrap_or(self.before);
            if from.len() < PREFIX.len() {
                self.held = from.to_vec();
                break;
            }
            let kind = if continues_name(self.before) { Kind::Other } else { self.kind(&from[PREFIX.len()..]) };
            match kind {
                Kind::Unknown => {
                    self.held = from.to_vec();
                    break;
                }
                Kind::Other => {
                    output.extend_from_slice(PREFIX);
                    self.before = b'p';
                    rest = &from[PREFIX.len()..];
                }
                Kind::Place(instead, used) => {
                    output.extend_from_slice(&instead);
                    if self.windows {
                        self.turning = Some(Turning { quoted: self.before == b'"', escape: false });
                    }
                    // What follows is a part of the path.
                    self.before = b'p';
                    rest = &from[PREFIX.len() + used..];
                }
            }
        }
        output
    }

    fn kind(&self, after: &[u8]) -> Kind {
        match after {
            [] => Kind::Unknown,
            [b'/', ..] if !self.windows => Kind::Place(Vec::new(), 0),
            [b'/'] => Kind::Unknown,
            [b'/', drive, ..] if !drive.is_ascii_alphabetic() => Kind::Other,
            [b'/', _] => Kind::Unknown,
            [b'/', drive, b'/', ..] => Kind::Place(format!(r"{}:\\", char::from(*drive)).into(), 3),
            [b'/', drive, next, ..] if !continues_name(*next) => {
                Kind::Place(format!(r"{}:\\", char::from(*drive)).into(), 2)
            }
            [b'/', ..] => Kind::Other,
            [next, ..] if continues_name(*next) || self.windows => Kind::Other,
            _ => Kind::Place(b"/".to_vec(), 0),
        }
    }

    /// Turns the slashes of a path, and returns what follows it.
    fn turn<'a>(&mut self, input: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let Some(mut turning) = self.turning else { return input };
        for (index, byte) in input.iter().enumerate() {
            let ends = if turning.escape {
                // `\u0026` is a part of the path; `\"` ends it.
                *byte != b'u'
            } else {
                matches!(byte, b'"' | b':') || !turning.quoted && matches!(byte, b' ' | b',' | b'\n')
            };
            if turning.escape && ends {
                output.push(b'\\');
            }
            if ends {
                self.turning = None;
                self.before = if turning.escape { b'\\' } else { self.before };
                return &input[index..];
            }
            match byte {
                b'\\' => {}
                b'/' => output.extend_from_slice(br"\\"),
                b'u' if turning.escape => output.extend_from_slice(br"\u"),
                byte => output.push(*byte),
            }
            turning.escape = *byte == b'\\';
        }
        self.turning = Some(turning);
        &[]
    }
}

/// How many bytes at the end may be the beginning of a place.
fn beginning(bytes: &[u8]) -> usize {
    (1..PREFIX.len()).rev().find(|length| bytes.ends_with(&PREFIX[..*length])).unwrap_or(0)
}

/// Whether this byte and what stands beside it are of one name.
const fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Laptop;

    const UNIX: Laptop<'static> = Laptop { own_socket: "", windows: false };
    const WINDOWS: Laptop<'static> = Laptop { own_socket: "", windows: true };

    /// The whole answer, in pieces of these lengths in turn.
    fn restored(laptop: Laptop<'_>, answer: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut restorer = Restorer::new(laptop.windows);
        let mut output = Vec::new();
        let mut rest = answer;
        for length in lengths.iter().chain(std::iter::repeat(&usize::MAX)) {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            output.extend(restorer.feed(piece).unwrap_or_else(|| piece.to_vec()));
            assert!(restorer.held.len() < PREFIX.len() + 4);
            rest = after;
        }
        output.extend(restorer.finish());
        output
    }

    fn unix(answer: &str) -> String {
        String::from_utf8(restored(UNIX, answer.as_bytes(), &[])).unwrap()
    }

    fn windows(answer: &str) -> String {
        String::from_utf8(restored(WINDOWS, answer.as_bytes(), &[])).unwrap()
    }

    const ANSWERS: [&str; 8] = [
        r#"{"HostConfig":{"Binds":["/.overside/laptop/home/me/a b:/app:ro","v:/v"]},"Mounts":[{"Source":"/.overside/laptop/home/me"}]}"#,
        r#"{"Binds":["/.overside/laptop/C/Users/me/a b:/app:ro"],"Source":"/.overside/laptop/C","Other":"/C/x/y"}"#,
        r#"{"message":"error mounting \"/.overside/laptop/C/x \u0026 y/z\" to rootfs at \"/app\": not a directory"}"#,
        r#"{"message":"mount src=/.overside/laptop/C/x/y, dst=/app: bind source path does not exist: /.overside/laptop/D/x"}"#,
        r#"{"a":"/.overside/laptop","b":"/.overside/laptops/x","c":"/data/.overside/laptop/x","d":"/.overside/lap"}"#,
        r#"{"a":"/.overside/laptop/.overside/laptop/C/x","b":"/.overside/laptop/CC/x","c":"/.overside/laptop/"}"#,
        r#"{"device":"/.overside/laptop/home/x","o":"bind"}/.overside/.overside/laptop/h/.overside/laptop"#,
        "/.overside/laptop/C/x\\",
    ];

    #[test]
    fn a_place_becomes_the_laptops_path_again() {
        assert_eq!(
            unix(ANSWERS[0]),
            r#"{"HostConfig":{"Binds":["/home/me/a b:/app:ro","v:/v"]},"Mounts":[{"Source":"/home/me"}]}"#
        );
        assert_eq!(
            unix(r#"{"message":"error mounting \"/.overside/laptop/x\" to rootfs; src=/.overside/laptop/y"}"#),
            r#"{"message":"error mounting \"/x\" to rootfs; src=/y"}"#
        );
        assert_eq!(
            unix(ANSWERS[4]),
            r#"{"a":"/","b":"/.overside/laptops/x","c":"/data/.overside/laptop/x","d":"/.overside/lap"}"#
        );
        assert_eq!(unix(ANSWERS[5]), r#"{"a":"/.overside/laptop/C/x","b":"/CC/x","c":"/"}"#);
    }

    #[test]
    fn a_path_of_windows_has_its_drive_and_its_backslashes_again() {
        assert_eq!(windows(ANSWERS[1]), r#"{"Binds":["C:\\Users\\me\\a b:/app:ro"],"Source":"C:\\","Other":"/C/x/y"}"#);
        assert_eq!(
            windows(ANSWERS[2]),
            r#"{"message":"error mounting \"C:\\x \u0026 y\\z\" to rootfs at \"/app\": not a directory"}"#
        );
        assert_eq!(
            windows(ANSWERS[3]),
            r#"{"message":"mount src=C:\\x\\y, dst=/app: bind source path does not exist: D:\\x"}"#
        );
        assert_eq!(windows(ANSWERS[4]), ANSWERS[4], "no place without a drive");
    }

    #[test]
    fn an_answer_may_be_cut_anywhere() {
        for laptop in [UNIX, WINDOWS] {
            for answer in ANSWERS.map(str::as_bytes) {
                let whole = restored(laptop, answer, &[]);
                for at in 0..=answer.len() {
                    assert_eq!(restored(laptop, answer, &[at]), whole, "{at}");
                }
                assert_eq!(restored(laptop, answer, &vec![1; answer.len()]), whole);
            }
        }
    }

    #[test]
    fn an_answer_without_places_is_not_even_copied() {
        let mut restorer = Restorer::new(false);
        assert_eq!(restorer.feed(br#"[{"Id":"abc","Source":"/var/lib/docker/volumes/v/_data"}]"#), None);
        assert!(restorer.finish().is_empty());
    }

    #[test]
    fn only_answers_that_tell_of_containers_volumes_and_services_and_errors_are_looked_at() {
        let names = |method: Method, path: &str, status: u16, kind: &str| {
            let (route, status) = (Route::find(&method, path), StatusCode::from_u16(status).unwrap());
            names_places(&method, &route, status, Some(kind))
        };
        let json = "application/json";
        for (method, path) in [
            (Method::GET, "/v1.41/containers/json"),
            (Method::GET, "/containers/x/json"),
            (Method::POST, "/containers/create"),
            (Method::GET, "/events"),
            (Method::GET, "/volumes"),
            (Method::GET, "/v1.41/volumes/v"),
            (Method::POST, "/volumes/create"),
            (Method::GET, "/services"),
            (Method::GET, "/services/s"),
            (Method::GET, "/tasks"),
            (Method::GET, "/tasks/t"),
            (Method::GET, "/system/df"),
        ] {
            assert!(names(method, path, 200, json), "{path}");
        }
        assert!(names(Method::POST, "/containers/x/start", 500, json));
        assert!(names(Method::GET, "/containers/x/logs", 404, "application/json; charset=utf-8"));
        for (method, path, kind) in [
            (Method::GET, "/containers/x/logs", "application/vnd.docker.raw-stream"),
            (Method::GET, "/containers/x/archive", "application/x-tar"),
            (Method::GET, "/images/x/get", "application/x-tar"),
            (Method::POST, "/build", json),
            (Method::HEAD, "/containers/json", json),
        ] {
            assert!(!names(method, path, 200, kind), "{path}");
        }
        assert!(!names_places(&Method::GET, &Route::find(&Method::GET, "/containers/json"), StatusCode::OK, None));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in proptest::collection::vec(prop_oneof![
                Just(LAPTOP_FILES.to_owned()), Just("/C/".to_owned()), Just("\\\"".to_owned()), Just("\\u0026".to_owned()), "[/.a-z\":, \\\\]{0,3}",
            ], 0..12),
            lengths in proptest::collection::vec(0_usize..9, 0..40),
            is_windows: bool,
        ) {
            let (answer, laptop) = (parts.concat(), if is_windows { WINDOWS } else { UNIX });
            prop_assert_eq!(restored(laptop, answer.as_bytes(), &lengths), restored(laptop, answer.as_bytes(), &[]));
        }

        #[test]
        fn what_a_client_bound_is_what_it_sees(path in "/[a-zé ]{1,8}(/[a-zé &]{1,8}){0,3}", is_windows: bool) {
            let laptop = if is_windows { WINDOWS } else { UNIX };
            let path = if is_windows { format!("C:{}", path.replace('/', "\\")) } else { path };
            // As Go writes it.
            let json = |text: &str| serde_json::Value::from(text).to_string().replace('&', "\\u0026");
            let answer = format!("{{\"Source\":{}}}", json(&laptop.place_of(&path)));
            let seen = restored(laptop, answer.as_bytes(), &[]);
            prop_assert_eq!(String::from_utf8(seen).unwrap(), format!("{{\"Source\":{}}}", json(&path)));
        }

        #[test]
        fn bytes_without_places_stay_as_they_are(answer in proptest::collection::vec(any::<u8>(), 0..200), lengths in proptest::collection::vec(0_usize..20, 0..20)) {
            prop_assert_eq!(restored(UNIX, &answer, &lengths), answer);
        }
    }
}
