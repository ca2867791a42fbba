//! The server on the Docker socket.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::Incoming,
    server::conn::http1::{Builder, Parts},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use overside_docker_api::{
    Class, IdleAnswer, Laptop, LastWords, Restorer, Route, decode_path, names_places, without_desktop_labels,
};
use overside_io::{
    ByteStream,
    local::{self, Listener, Stream, Watched},
};
use overside_model::Problem;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    body::{Body, Counted, Hold, Kept, Unsized, failure, local_answer, whole},
    events, forward,
    gate::{Admission, Call, Caller, Gate},
    hijack::{TCP, TakeOver},
};

/// Longest head of a request, in bytes: the engine's own limit. `X-Registry-Config` holds the credentials of all registries.
const MAX_HEAD: usize = 1 << 20;
/// Most headers of a request.
const MAX_HEADERS: usize = 512;
/// Longest answer to `/info`, in bytes; real ones have a few kilobytes.
const MAX_INFO: usize = 4 << 20;
/// Longest answer whose length is told beforehand and that has to be looked at, in bytes. The engine tells the length of those
/// that it writes at once, which have less than two kilobytes.
const MAX_SIZED: usize = 16 << 20;

/// Serves the Docker API until `shutdown` is cancelled; connections that are open then are closed, and it returns when none
/// is left.
pub async fn serve(listener: Listener, gate: Arc<dyn Gate>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let own_socket: Arc<str> = listener.path().to_string_lossy().into();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let (gate, own_socket, shutdown) = (gate.clone(), own_socket.clone(), shutdown.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        result = serve_client(stream, gate, own_socket) => {
                            if let Err(error) = result {
                                tracing::debug!(%error, "a client's connection ended");
                            }
                        }
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors: connections that end make room.
                tracing::warn!(%error, "cannot accept a connection on the Docker socket");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

type TakeOverSlot = Arc<Mutex<Option<oneshot::Sender<TakeOver>>>>;

/// Serves one client until it goes away, and drops its call then: that reaches the engine. A client that has only ended its
/// input is not gone.
async fn serve_client(stream: Stream, gate: Arc<dyn Gate>, own_socket: Arc<str>) -> io::Result<()> {
    let process = local::peer(&stream);
    let (stream, gone) = Watched::new(stream)?;
    tokio::select! {
        result = serve_connection(stream, gate, own_socket, process) => result,
        () = gone.wait() => Ok(()),
    }
}

/// Serves one connection. hyper parses requests; where one takes the connection over, the socket and what hyper had read
/// ahead are taken out of hyper's hands and joined with the engine's stream.
async fn serve_connection(
    stream: impl ByteStream + 'static,
    gate: Arc<dyn Gate>,
    own_socket: Arc<str>,
    process: Option<u32>,
) -> io::Result<()> {
    let (sender, mut taken_over) = oneshot::channel();
    let slot: TakeOverSlot = Arc::new(Mutex::new(Some(sender)));
    let service = service_fn(move |request| {
        let (gate, own_socket, slot) = (gate.clone(), own_socket.clone(), slot.clone());
        Box::pin(async move { Ok::<_, Infallible>(handle(request, &gate, &own_socket, &slot, process).await) })
    });
    let mut connection = Builder::new()
        .preserve_header_case(true)
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let take_over = tokio::select! {
        biased;
        Ok(take_over) = &mut taken_over => take_over,
        result = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
            return match result {
                // Everything was answered; close the client's stream in order.
                Ok(()) => connection.await.map_err(io::Error::other),
                Err(error) => Err(io::Error::other(error)),
            };
        }
    };
    let Parts { io, read_buf, .. } = connection.into_parts();
    take_over.run(io.into_inner(), read_buf).await
}

async fn handle(
    mut request: Request<Incoming>,
    gate: &Arc<dyn Gate>,
    own_socket: &str,
    slot: &TakeOverSlot,
    process: Option<u32>,
) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let decoded = decode_path(&path);
    let route = Route::find(&method, &decoded);
    tracing::debug!(%method, path, class = ?route.class, "call");
    let user_agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let caller = Caller { process, user_agent: user_agent.map(str::to_owned) };
    if route.class == Class::Events
        && let Some(response) = events::answer(gate, &request, &caller).await
    {
        return response;
    }
    let query = request.uri().query().map(str::to_owned);
    let call = Call { method: &method, path: &path, query: query.as_deref(), route, caller: &caller };
    let admission = match gate.admit(call).await {
        Ok(admission) => admission,
        Err(problem) => return failure(&problem),
    };
    let (engine, held, keep, around, flush) = match admission {
        Admission::Answer(answer) => return local_answer(answer),
        Admission::Forward { engine, held, keep, around, flush } => (engine, held, keep, around, flush),
    };
    if let Some(around) = &around
        && let Err(problem) = around.before().await
    {
        return failure(&problem);
    }
    let asked = wanted_upgrade(&request);
    let upgrade = asked.clone().or_else(|| (route.class == Class::Hijack).then_some(TCP));
    let laptop = Laptop { own_socket, windows: cfg!(windows) };
    if route.shape == "/containers/json"
        && let Some(query) = query.as_deref().and_then(|query| laptop.with_places(query))
        && let Ok(uri) = format!("{path}?{query}").parse()
    {
        *request.uri_mut() = uri;
    }
    let rewrite = route.body.map(|kind| (kind, laptop, around.as_deref()));
    let answer = match forward::send(&*engine, request, upgrade, rewrite).await {
        Ok(answer) => answer,
        Err(problem) => return failure(&problem),
    };
    if let Some(around) = &around
        && let Err(problem) = around.after(answer.status().is_success()).await
    {
        return failure(&problem);
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = answer.into_parts();
        forward::clean_answer(&mut head.headers, head.status);
        let get = method == http::Method::GET;
        if get && route.class == Class::Passive(IdleAnswer::Info) && head.status == StatusCode::OK {
            return info(head, body).await;
        }
        let words = last_words(&route, &head.headers);
        let succeeded = head.status.is_success();
        let kept = keep.filter(|_| succeeded).map(|keep| Kept::new(keep, head.status, &head.headers));
        let restorer = names_places(&method, &route, head.status, content_type(&head.headers))
            .then(|| Restorer::new(laptop.windows));
        return match restorer {
            // Its length is told beforehand, and may change.
            Some(restorer) if head.headers.remove(header::CONTENT_LENGTH).is_some() => {
                restored(head, body, restorer, kept).await
            }
            restorer => {
                let hold = flush.filter(|_| succeeded && route.class != Class::Hijack).map(Hold::Before);
                let body = Counted { inner: body, words, after: None, kept, restorer, hold, _held: held };
                Response::from_parts(head, body.boxed())
            }
        };
    }
    let words = last_words(&route, answer.headers());
    match TakeOver::from_answer(answer, asked.is_some(), words, flush, held).await {
        Ok(take_over) => {
            let sender = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(sender) = sender {
                // The connection's task drops this future as soon as it has received it.
                let _ = sender.send(take_over);
                std::future::pending().await
            } else {
                failure(&Problem::new(overside_model::ErrorCode::Internal, "the connection was taken over twice", ""))
            }
        }
        Err(error) => failure(&Problem::new(
            overside_model::ErrorCode::TunnelLost,
            format!("the engine's stream broke while it was taken over: {error}"),
            "Try again.",
        )),
    }
}

fn last_words(route: &Route<'_>, headers: &HeaderMap) -> LastWords {
    LastWords::new(route, content_type(headers))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

/// A short answer, read whole, with the laptop's own paths in it.
async fn restored(
    head: http::response::Parts,
    body: Incoming,
    mut restorer: Restorer,
    kept: Option<Kept>,
) -> Response<Body> {
    let body = match Limited::new(body, MAX_SIZED).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return broken_answer(&error),
    };
    let mut body = restorer.feed(&body).map_or(body, Bytes::from);
    let rest = restorer.finish();
    if !rest.is_empty() {
        body = [body, rest.into()].concat().into();
    }
    if let Some(kept) = kept {
        kept.take(&body);
    }
    Response::from_parts(head, whole(body))
}

fn broken_answer(error: &dyn std::fmt::Display) -> Response<Body> {
    failure(&Problem::new(
        overside_model::ErrorCode::TunnelLost,
        format!("the engine's answer broke off: {error}"),
        "Try again.",
    ))
}

/// The answer to `/info`, without what would mislead clients.
async fn info(mut head: http::response::Parts, body: Incoming) -> Response<Body> {
    let body = match Limited::new(body, MAX_INFO).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return broken_answer(&error),
    };
    let sized = head.headers.remove(header::CONTENT_LENGTH).is_some();
    let body = without_desktop_labels(&body).map_or(body, Into::into);
    Response::from_parts(head, if sized { whole(body) } else { Unsized(Some(body)).boxed() })
}

/// The protocol that the request asks to change to.
fn wanted_upgrade(request: &Request<Incoming>) -> Option<HeaderValue> {
    let asks = request
        .headers()
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    request.headers().get(header::UPGRADE).filter(|_| asks).cloned()
}
