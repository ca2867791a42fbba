//! Bodies of the proxy's answers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use overside_docker_api::{LocalAnswer, error_body};
use overside_model::{ErrorCode, Problem};

use crate::gate::Held;

/// What the proxy answers with: a streamed body of the engine's or a whole one of its own.
pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// The engine's body; the call counts until it is read to its end or dropped.
pub(crate) struct Counted {
    pub(crate) inner: Incoming,
    pub(crate) _held: Held,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
        ErrorCode::RequestRefused => StatusCode::BAD_REQUEST,
        ErrorCode::TunnelLost | ErrorCode::EnvironmentLost => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(whole(error_body(&problem.sentence())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that needs no engine.
pub(crate) fn local(answer: LocalAnswer) -> Response<Body> {
    let mut response = Response::new(whole(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), value.parse::<HeaderValue>()) else {
            continue;
        };
        response.headers_mut().insert(name, value);
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}
