//! Bodies of the proxy's answers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use overside_docker_api::{LastWords, LocalAnswer, Restorer, error_body};
use overside_model::{ErrorCode, Problem};
use tokio::task::JoinHandle;

use crate::{
    forward,
    gate::{Flush, Held, Keep},
};

/// What the proxy answers with: a streamed body of the engine's or a whole one of its own.
pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// The engine's body; the call counts until it is read to its end or dropped. If it breaks off, the client is told in it
/// where that is possible.
pub(crate) struct Counted {
    pub(crate) inner: Incoming,
    pub(crate) words: LastWords,
    /// Said, and now to be followed by this, once what was said is on its way.
    pub(crate) after: Option<After>,
    pub(crate) kept: Option<Kept>,
    /// Puts the laptop's own paths into it.
    pub(crate) restorer: Option<Restorer>,
    /// What has to be done before there is content.
    pub(crate) hold: Option<Hold>,
    pub(crate) _held: Held,
}

/// What is done before the client gets the first piece of an answer's content.
pub(crate) enum Hold {
    /// Not begun yet, because there is no content.
    Before(Flush),
    /// Under way, and the piece that waits for it.
    During(JoinHandle<()>, Option<Bytes>),
}

/// Longest answer that is remembered, in bytes.
const MAX_KEPT: usize = 1 << 20;

/// An answer that somebody wants to remember, as far as it has come.
pub(crate) struct Kept {
    keep: Keep,
    answer: LocalAnswer,
}

impl Kept {
    /// For an answer with this head.
    pub(crate) fn new(keep: Keep, status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let own = |name: &header::HeaderName| {
            [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::DATE].contains(name)
        };
        let answer = LocalAnswer {
            status: status.as_u16(),
            headers: headers
                .iter()
                .filter(|(name, _)| !own(name))
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            content_type: headers.get(header::CONTENT_TYPE).map(text).unwrap_or_default().into(),
            body: Vec::new(),
        };
        Self { keep, answer }
    }
}

impl Kept {
    /// The whole answer at once.
    pub(crate) fn take(mut self, body: &[u8]) {
        if body.len() <= MAX_KEPT {
            self.answer.body.extend_from_slice(body);
            (self.keep)(self.answer);
        }
    }
}

/// What follows last words.
pub(crate) enum After {
    /// The end, as if the engine had said them.
    End,
    /// The error, so that a client that does not understand them sees that something is missing. The server sends what it
    /// has when a body has nothing for it at the moment: so that must be said once.
    Error { error: hyper::Error, sent: bool },
}

impl Counted {
    /// The answer is whole.
    fn finish(&mut self) {
        if let Some(Kept { keep, answer }) = self.kept.take() {
            keep(answer);
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.after.take() {
            None => {}
            Some(After::End) => {
                self.after = Some(After::End);
                return Poll::Ready(None);
            }
            Some(After::Error { error, sent: true }) => return Poll::Ready(Some(Err(error))),
            Some(After::Error { error, sent: false }) => {
                self.after = Some(After::Error { error, sent: true });
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if let Some(Hold::During(flushing, piece)) = &mut self.hold {
            // That it is over counts, however it went.
            let _ = ready!(Pin::new(flushing).poll(cx));
            let piece = piece.take();
            self.hold = None;
            return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match frame {
            Some(Ok(frame)) => {
                let frame = match (frame.into_data(), &mut self.restorer) {
                    (Ok(data), Some(restorer)) => Frame::data(restorer.feed(&data).map_or(data, Bytes::from)),
                    (Ok(data), None) => Frame::data(data),
                    (Err(trailers), _) => trailers,
                };
                if let Some(data) = frame.data_ref() {
                    self.words.saw(data);
                    if let Some(kept) = &mut self.kept {
                        kept.answer.body.extend_from_slice(data);
                    }
                    if self.kept.as_ref().is_some_and(|kept| kept.answer.body.len() > MAX_KEPT) {
                        self.kept = None;
                    }
                }
                if self.is_end_stream() {
                    self.finish();
                }
                let frame = match self.hold.take() {
                    Some(Hold::Before(flush)) => match (frame.into_data(), flush()) {
                        (Ok(piece), Some(flushing)) => {
                            self.hold = Some(Hold::During(flushing, Some(piece)));
                            return self.poll_frame(cx);
                        }
                        (Ok(piece), None) => Frame::data(piece),
                        (Err(trailers), _) => trailers,
                    },
                    _ => frame,
                };
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let Some(said) = self.words.say(&forward::broken_off()) else { return Poll::Ready(Some(Err(error))) };
                tracing::debug!(%error, "an answer broke off");
                let end = self.words.conclude();
                self.after = Some(if end { After::End } else { After::Error { error, sent: false } });
                Poll::Ready(Some(Ok(Frame::data(said.into()))))
            }
            None => {
                let rest = self.restorer.as_mut().map(Restorer::finish).unwrap_or_default();
                if let Some(kept) = &mut self.kept {
                    kept.answer.body.extend_from_slice(&rest);
                }
                self.finish();
                self.after = Some(After::End);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest.into()))))
            }
        }
    }
    fn is_end_stream(&self) -> bool {
        let more = self.restorer.is_some() || self.hold.is_some() || self.after.is_some();
        !more && self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        if self.restorer.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// A whole body that is sent without saying its length beforehand, as the engine sends longer ones.
pub(crate) struct Unsized(pub(crate) Option<Bytes>);

impl HttpBody for Unsized {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// An error in the engine's own form. 503 where trying again later helps, 502 where the engine is out of reach, 400 for
/// requests that are refused.
pub(crate) fn failure(problem: &Problem) -> Response<Body> {
    let status = match problem.code {
        ErrorCode::RequestRefused | ErrorCode::MountFailed | ErrorCode::MountTooLarge => StatusCode::BAD_REQUEST,
        // As the engine answers when it cannot publish a port.
        ErrorCode::PortUnavailable => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::TunnelLost | ErrorCode::EnvironmentLost => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(whole(error_body(&problem.sentence())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that needs no engine.
pub(crate) fn local_answer(answer: LocalAnswer) -> Response<Body> {
    let mut response = Response::new(whole(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), value.parse::<HeaderValue>()) else {
            continue;
        };
        response.headers_mut().insert(name, value);
    }
    if let Ok(content_type) = answer.content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}
