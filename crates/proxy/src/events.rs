//! Held event streams, which outlive engines: the head is answered at once, and the stream of each engine is spliced on to
//! the one before.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use overside_docker_api::{Restorer, Route, decode_path, parameter};
use overside_model::Problem;
use tokio::sync::mpsc;

use crate::{
    body::{Body, failure},
    forward,
    gate::{Admission, Call, Caller, Gate},
};

/// Pause after an engine whose stream ended as soon as it began.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest event, in bytes; more without a line's end is passed on as it is.
const MAX_EVENT: usize = 1 << 20;
/// Pieces that wait for a slow client.
const AHEAD: usize = 16;

/// A request for events, as it has to be made again of each engine.
struct Asked {
    gate: Arc<dyn Gate>,
    uri: Uri,
    /// The URI's path as the engine takes it, by which the route is found.
    decoded: String,
    headers: HeaderMap,
    caller: Caller,
}

/// What one engine sends.
struct Upstream {
    body: Incoming,
    environment: String,
    /// The call is under way for as long as this is kept.
    _held: crate::gate::Held,
}

/// Answers a request for events that are to be told as they happen. None for one that ends by itself, which goes the way of
/// every other call.
pub(crate) async fn answer(
    gate: &Arc<dyn Gate>,
    request: &Request<Incoming>,
    caller: &Caller,
) -> Option<Response<Body>> {
    let query = request.uri().query().unwrap_or_default();
    if request.method() != Method::GET || parameter(query, "until").is_some() {
        return None;
    }
    let mut headers = request.headers().clone();
    forward::strip_hop_by_hop(&mut headers);
    let uri = request.uri().clone();
    let decoded = decode_path(uri.path()).into_owned();
    let asked = Asked { gate: gate.clone(), uri, decoded, headers, caller: caller.clone() };
    let began = now();
    let call = asked.call();
    let admission = tokio::select! {
        biased;
        admission = gate.admit(call) => Some(admission),
        () = std::future::ready(()) => None,
    };
    let (head, first) = match admission {
        None => (waiting_head(&**gate), None),
        Some(Err(problem)) => return Some(failure(&problem)),
        Some(Ok(admission)) => match asked.open(admission, asked.uri.clone()).await {
            Ok(Some((answer, environment, held))) => {
                let (mut head, body) = answer.into_parts();
                forward::strip_hop_by_hop(&mut head.headers);
                if head.status != StatusCode::OK {
                    // The engine says what is wrong with the request.
                    return Some(Response::from_parts(head, body.boxed()));
                }
                (Response::from_parts(head, ()), Some(Upstream { body, environment, _held: held }))
            }
            Ok(None) => return None,
            Err(problem) => return Some(failure(&problem)),
        },
    };
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = asked.feed(first, began, &sender) => {}
        }
    });
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let frames = futures_util::StreamExt::map(pieces, |piece: Bytes| Ok::<_, hyper::Error>(Frame::data(piece)));
    Some(head.map(|()| BodyExt::boxed(StreamBody::new(frames))))
}

/// The head while there is no engine to ask.
fn waiting_head(gate: &dyn Gate) -> Response<()> {
    let mut head = Response::new(());
    for (name, value) in gate.engine_headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), value.parse::<HeaderValue>()) {
            head.headers_mut().insert(name, value);
        }
    }
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head
}

impl Asked {
    fn call(&self) -> Call<'_> {
        Call {
            method: &Method::GET,
            path: self.uri.path(),
            query: self.uri.query(),
            route: Route::find(&Method::GET, &self.decoded),
            caller: &self.caller,
        }
    }

    /// Asks the engine that the call was let through to; None where it was answered otherwise.
    async fn open(
        &self,
        admission: Admission,
        uri: Uri,
    ) -> Result<Option<(Response<Incoming>, String, crate::gate::Held)>, Problem> {
        let Admission::Forward { engine, held, .. } = admission else { return Ok(None) };
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("docker"));
        let answer = forward::ask(&*engine, request).await?;
        Ok(Some((answer, engine.environment().to_owned(), held)))
    }

    /// Passes on what one engine after the other tells, until Overside is turned off.
    async fn feed(self, mut first: Option<Upstream>, began: String, sender: &mpsc::Sender<Bytes>) {
        // What has been told: of which environment, and until when.
        let mut told: (Option<String>, String) = (None, began);
        loop {
            let upstream = match first.take() {
                Some(upstream) => upstream,
                None => {
                    let Ok(admission) = self.gate.admit(self.call()).await else { return };
                    let Ok(uri) = since(&self.uri, &told.1, told.0.is_none()) else { return };
                    match self.open(admission, uri).await {
                        Ok(Some((answer, environment, held))) if answer.status() == StatusCode::OK => {
                            Upstream { body: answer.into_body(), environment, _held: held }
                        }
                        Ok(_) => return,
                        Err(problem) => {
                            tracing::debug!(%problem, "the engine's events cannot be followed at the moment");
                            tokio::time::sleep(PAUSE).await;
                            continue;
                        }
                    }
                }
            };
            let opened = tokio::time::Instant::now();
            let environment = upstream.environment.clone();
            let last = pass_on(upstream, sender).await;
            told = (Some(environment), last.unwrap_or_else(now));
            if opened.elapsed() < PAUSE {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Passes on whole events only, so that none is cut where the stream breaks. Returns the moment after the last one, as the
/// engine takes it for `since`.
async fn pass_on(mut upstream: Upstream, sender: &mpsc::Sender<Bytes>) -> Option<String> {
    let mut waiting = BytesMut::new();
    let mut restorer = Restorer::new(cfg!(windows));
    let mut last = None;
    while let Some(Ok(frame)) = upstream.body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        waiting.extend_from_slice(data);
        let whole = match waiting.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => waiting.split_to(end + 1).freeze(),
            None if waiting.len() > MAX_EVENT => waiting.split().freeze(),
            None => continue,
        };
        last = moment_after(&whole).or(last);
        let whole = restorer.feed(&whole).map_or(whole, Bytes::from);
        if sender.send(whole).await.is_err() {
            break;
        }
    }
    last
}

/// The moment after the last event of these lines.
fn moment_after(lines: &[u8]) -> Option<String> {
    let line = lines.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    let event: serde_json::Value = serde_json::from_slice(line).ok()?;
    let after = event.get("timeNano")?.as_u64()?.checked_add(1)?;
    Some(format!("{}.{:09}", after / 1_000_000_000, after % 1_000_000_000))
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// The request's URI, asking from `moment` on. A `since` of the client's holds for the first engine only.
fn since(uri: &Uri, moment: &str, first: bool) -> Result<Uri, http::uri::InvalidUri> {
    let query = uri.query().unwrap_or_default();
    if first && parameter(query, "since").is_some_and(|since| !since.is_empty()) {
        return Ok(uri.clone());
    }
    let mut parts: Vec<&str> =
        query.split('&').filter(|part| !part.is_empty() && !part.starts_with("since=")).collect();
    let since = format!("since={moment}");
    parts.push(&since);
    format!("{}?{}", uri.path(), parts.join("&")).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_is_asked_from_where_the_last_one_ended() {
        let asked = |uri: &str, first| since(&uri.parse().unwrap(), "7.5", first).unwrap().to_string();
        assert_eq!(asked("/v1.41/events", true), "/v1.41/events?since=7.5");
        assert_eq!(asked("/events?filters=%7B%7D&since=3", true), "/events?filters=%7B%7D&since=3");
        assert_eq!(asked("/events?since=3&filters=%7B%7D", false), "/events?filters=%7B%7D&since=7.5");
        assert_eq!(asked("/events?since=&filters=%7B%7D", true), "/events?filters=%7B%7D&since=7.5");
    }

    #[test]
    fn the_last_event_tells_where_to_go_on() {
        let lines = b"{\"timeNano\":1}\n{\"Action\":\"start\",\"timeNano\":1700000000999999999}\n";
        assert_eq!(moment_after(lines).as_deref(), Some("1700000001.000000000"));
        assert_eq!(moment_after(b"{}\n"), None);
        assert_eq!(moment_after(b""), None);
    }
}
