//! What passes through this server and what does not, whoever answers in the end.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kontiki_api::status::Status;

use crate::{
    response::{self, Body, BodyError},
    service::Call,
};

/// Headers that concern one connection alone.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];
/// A body on its way to the other side.
pub type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// Whether a request wants to take its connection over.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    connection.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// The request as the other side gets it.
pub fn outgoing(call: &Call, path: &str, upgrading: bool) -> Result<Request<Outgoing>, Status> {
    let info = &call.info;
    let path = if path.is_empty() { "/" } else { path };
    let text = if info.raw_query.is_empty() { path.to_owned() } else { format!("{path}?{}", info.raw_query) };
    let uri: Uri = text.parse().map_err(|_| Status::bad_request(format!("invalid path {text:?}")))?;
    let streamed = call.streamed.as_ref().and_then(|streamed| streamed.0.lock().take());
    let body = match streamed {
        Some(body) if !upgrading => body.map_err(|error| Box::new(error) as BodyError).boxed_unsync(),
        _ => Full::new(call.body.clone()).map_err(|never| match never {}).boxed_unsync(),
    };
    let mut request = Request::new(body);
    *request.method_mut() = info.method.clone();
    *request.uri_mut() = uri;
    let named = connection_headers(&call.headers);
    for (name, value) in &call.headers {
        let hop = HOP_BY_HOP.contains(&name.as_str()) || named.contains(name);
        // The caller's own rights end here: the other side must not be able to use them.
        let secret = *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-");
        let upgrade = upgrading && (*name == header::CONNECTION || *name == header::UPGRADE);
        if upgrade || (!hop && !secret && *name != header::UPGRADE) {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    if !request.headers().contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(&info.authority)
    {
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(address) = &call.peer {
        let before = call.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let all = before.map_or_else(|| address.to_string(), |before| format!("{before}, {address}"));
        if let Ok(value) = HeaderValue::from_str(&all) {
            request.headers_mut().insert("x-forwarded-for", value);
        }
    }
    Ok(request)
}

/// Headers that `Connection` names: they are for one connection too.
fn connection_headers(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|token| token.trim().parse().ok()).collect()
}

/// Takes out of an answer what concerns the connection behind it.
pub fn clean(headers: &mut HeaderMap) {
    for name in connection_headers(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A body that streams through.
pub fn body(body: Incoming) -> Body {
    body.map_err(|error| Box::new(error) as BodyError).boxed_unsync()
}

/// Joins a client's connection to one that the other side has taken over; the answer that says so.
#[must_use]
pub fn switch(near: hyper::upgrade::OnUpgrade, mut found: Response<Incoming>) -> Response<Body> {
    let far = hyper::upgrade::on(&mut found);
    tokio::spawn(join(near, far));
    let mut answer = Response::new(response::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = found.headers().clone();
    answer
}

async fn join(near: hyper::upgrade::OnUpgrade, far: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(near, far) {
        Ok((near, far)) => {
            // Either side may end the session as it likes.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
        }
        Err(error) => tracing::debug!(%error, "a proxied session did not come about"),
    }
}
