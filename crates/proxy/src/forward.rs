//! One request to the engine and its answer back.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use overside_docker_api::{BodyKind, Laptop, Refusal, laptop_binds, rewrite_body};
use overside_io::BoxedStream;
use overside_model::{ErrorCode, Problem};

use crate::gate::{Around, Dial};

/// Longest body of a request that has to be looked at, in bytes. The engine itself takes at most 4 MiB of a container's
/// configuration in its newer versions.
const MAX_REWRITTEN_BODY: usize = 8 << 20;
/// Longest head of a response, in bytes.
const MAX_HEAD: usize = 1 << 20;

/// Headers that belong to one connection and not to the message (RFC 9110, 7.6.1). `Upgrade` and its `Connection` are put
/// back where the request asks for an upgrade.
const HOP_BY_HOP: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Sends the request on a new stream and returns the head of the answer. `upgrade` is the protocol that the request wants to
/// change to; `rewrite` says what its body is, where that has to be looked at, on which machine, and who gives what it binds
/// its places.
pub(crate) async fn send(
    engine: &dyn Dial,
    request: Request<Incoming>,
    upgrade: Option<HeaderValue>,
    rewrite: Option<(BodyKind, Laptop<'_>, Option<&dyn Around>)>,
) -> Result<Response<Incoming>, Problem> {
    let (mut head, body) = request.into_parts();
    strip_hop_by_hop(&mut head.headers);
    // The local server has answered it already.
    head.headers.remove(header::EXPECT);
    if let Some(protocol) = upgrade {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(header::UPGRADE, protocol);
    }
    head.headers.entry(header::HOST).or_insert(HeaderValue::from_static("docker"));
    if head.method == http::Method::PUT && head.uri.path().ends_with("/archive") {
        // Without a type the engine answers 200 and unpacks nothing (linuxserver/docker-socket-proxy#51).
        head.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/x-tar"));
    }
    head.version = Version::HTTP_11;
    let body = match rewrite {
        None => Either::Left(body),
        Some((kind, laptop, around)) => {
            let body = rewritten(body, kind, laptop, around).await?;
            head.headers.remove(header::CONTENT_LENGTH);
            Either::Right(Full::new(body))
        }
    };
    ask(engine, Request::from_parts(head, body)).await
}

/// Sends a request as it is, and returns the head of the answer.
pub(crate) async fn ask<B>(engine: &dyn Dial, request: Request<B>) -> Result<Response<Incoming>, Problem>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut sender = handshake(engine.open().await?).await?;
    sender.send_request(request).await.map_err(|error| broken(&error))
}

async fn handshake<B>(stream: BoxedStream) -> Result<hyper::client::conn::http1::SendRequest<B>, Problem>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // Ends with the answer, or when the sender and the answer are dropped: the client's going away reaches the engine.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the engine ended");
        }
    });
    Ok(sender)
}

/// Reads the whole body and changes it so that it means the environment, or refuses it.
async fn rewritten(
    body: Incoming,
    kind: BodyKind,
    laptop: Laptop<'_>,
    around: Option<&dyn Around>,
) -> Result<Bytes, Problem> {
    let refused = |message: String, hint: &str| Problem::new(ErrorCode::RequestRefused, message, hint);
    let body = Limited::new(body, MAX_REWRITTEN_BODY).collect().await;
    let body = body.map_err(|error| refused(format!("cannot read the request's body: {error}"), ""))?.to_bytes();
    // Without a body there is nothing in it; the engine says best what is missing.
    if body.is_empty() {
        return Ok(body);
    }
    let refusal = |refusal: Refusal| refused(refusal.to_string(), refusal.hint());
    let bound = laptop_binds(kind, &body, laptop).map_err(refusal)?;
    let places = match around {
        Some(around) if !bound.binds.is_empty() || !bound.volumes.is_empty() => around.place(bound).await?,
        _ => BTreeMap::new(),
    };
    let changed = rewrite_body(kind, &body, laptop, &places).map_err(refusal)?;
    Ok(changed.map_or(body, Into::into))
}

/// Prepares the head of an answer that is not an upgrade.
pub(crate) fn clean_answer(headers: &mut HeaderMap, status: StatusCode) {
    strip_hop_by_hop(headers);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.remove(header::CONTENT_LENGTH);
    }
}

pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<header::HeaderName>().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

const NEXT: &str = "See `overside status`; the next command reconnects or gets a new environment.";

fn broken(error: &hyper::Error) -> Problem {
    Problem::new(ErrorCode::TunnelLost, format!("the connection to the environment's engine broke: {error}"), NEXT)
}

/// What a client is told at the end of a stream that breaks off.
pub(crate) fn broken_off() -> String {
    let lost = "Overside lost the connection to the environment's engine while this was running";
    Problem::new(ErrorCode::TunnelLost, lost, NEXT).sentence()
}
