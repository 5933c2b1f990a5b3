//! The `proxy` subresources: requests to pods, services and nodes that travel through the API server.
//!
//! In: a request below `.../proxy`. Out: what the pod, an endpoint of the service, or the node answers. Bodies
//! stream in both directions; an upgraded connection is joined byte by byte.
//! Only addresses that the API's own objects name are reached: a path cannot lead the server elsewhere.
//! <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>

mod connect;
mod html;
mod rewrite;
mod target;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kontiki_api::{
    registry::Resource,
    resources::{NODES, PODS, SERVICES},
    status::Status,
};
use parking_lot::Mutex;

use self::rewrite::Page;
use crate::{
    request::RequestInfo,
    response::{self, Body, BodyError},
    service::{ApiServer, Call},
};

/// Methods that are passed on.
const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
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
/// What another origin may do with an answer is for the API server to say.
const CROSS_ORIGIN: [&str; 6] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
];
/// Pages whose links are rewritten are read as a whole up to here; longer ones pass as they are.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// A body that was not read before the request is known to be a proxied one.
pub struct StreamedBody(pub Mutex<Option<Incoming>>);

/// Whether the body of such a request is passed on as it comes.
#[must_use]
pub fn is_proxied(info: &RequestInfo) -> bool {
    info.is_resource && info.subresource == "proxy" && info.group.is_empty()
}

/// A body on its way to the other side.
type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// Answers a request for `proxy`.
pub async fn answer(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    if !METHODS.contains(&call.info.method) {
        return Err(Status::method_not_allowed());
    }
    let info = &call.info;
    let target = match resource.key {
        PODS => target::pod(server, &info.namespace, &info.name).await?,
        SERVICES => target::service(server, &info.namespace, &info.name).await?,
        NODES => target::node(server, &info.name).await?,
        _ => return Err(Status::no_such_path()),
    };
    let path = rewrite::split(&info.path).ok_or_else(Status::no_such_path)?;
    let upgrade = call.upgrade.lock().take().filter(|_| is_upgrade(&call.headers));
    if upgrade.is_none() && path.rest.is_empty() && matches!(info.method, Method::GET | Method::HEAD) {
        return redirect(&info.path, &info.raw_query);
    }
    let page = Page::new(call, path.prefix, &target);
    let mut request = outgoing(call, &path, upgrade.is_some())?;
    if upgrade.is_none() {
        page.announce(request.headers_mut(), path.rest);
    }
    let unreachable = |error: String| Status::service_unavailable(format!("error trying to reach service: {error}"));
    let mut found = connect::send(server, &target, request).await.map_err(unreachable)?;
    match upgrade {
        Some(near) if found.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let far = hyper::upgrade::on(&mut found);
            tokio::spawn(join(near, far));
            let mut answer = Response::new(response::full(Bytes::new()));
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *answer.headers_mut() = found.headers().clone();
            Ok(answer)
        }
        Some(_) if found.status().as_u16() < 400 => {
            let code = found.status().as_u16();
            Err(Status::internal_error(format!("invalid upgrade response: status code {code}")))
        }
        _ => incoming(found, &page).await,
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    connection.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// A path that ends at `proxy` names a folder.
fn redirect(path: &str, query: &str) -> Result<Response<Body>, Status> {
    let location = if query.is_empty() { format!("{path}/") } else { format!("{path}/?{query}") };
    let location = HeaderValue::from_str(&location).map_err(|error| Status::bad_request(error.to_string()))?;
    let mut answer = Response::new(response::full(Bytes::new()));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(header::LOCATION, location);
    Ok(answer)
}

/// The request as the other side gets it.
fn outgoing(call: &Call, path: &rewrite::Split<'_>, upgrading: bool) -> Result<Request<Outgoing>, Status> {
    let info = &call.info;
    let rest = if path.rest.is_empty() { "/" } else { path.rest };
    let text = if info.raw_query.is_empty() { rest.to_owned() } else { format!("{rest}?{}", info.raw_query) };
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

/// The answer as the client gets it.
async fn incoming(found: Response<Incoming>, page: &Page) -> Result<Response<Body>, Status> {
    let (mut head, body) = found.into_parts();
    for name in connection_headers(&head.headers) {
        head.headers.remove(name);
    }
    for name in HOP_BY_HOP.into_iter().chain(CROSS_ORIGIN) {
        head.headers.remove(name);
    }
    if let Some(location) = head.headers.get(header::LOCATION) {
        let location = location.to_str().map_err(|_| Status::internal_error("error trying to parse Location header"))?;
        if let Ok(location) = HeaderValue::from_str(&page.link(location)) {
            head.headers.insert(header::LOCATION, location);
        }
        return Ok(Response::from_parts(head, pass(body)));
    }
    if !is_plain_html(&head.headers) {
        return Ok(Response::from_parts(head, pass(body)));
    }
    let (read, rest) = read_page(body).await.map_err(|error| Status::internal_error(error.to_string()))?;
    head.headers.remove(header::CONTENT_LENGTH);
    let body = match rest {
        None => response::full(Bytes::from(html::rewrite(&read, |link| page.link(link)))),
        Some(rest) => {
            let all = futures::stream::once(async { Ok(http_body::Frame::data(read)) })
                .chain(http_body_util::BodyStream::new(pass(rest)));
            http_body_util::StreamBody::new(all).boxed_unsync()
        }
    };
    Ok(Response::from_parts(head, body))
}

fn pass(body: Incoming) -> Body {
    body.map_err(|error| Box::new(error) as BodyError).boxed_unsync()
}

fn is_plain_html(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    media == "text/html" && text(header::CONTENT_ENCODING).is_empty()
}

/// A page, and what is left of a body that is longer than a page may be.
async fn read_page(mut body: Incoming) -> Result<(Bytes, Option<Incoming>), hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            read.extend_from_slice(data);
        }
        if read.len() > PAGE_BYTES_MAX {
            return Ok((Bytes::from(read), Some(body)));
        }
    }
    Ok((Bytes::from(read), None))
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

#[cfg(test)]
mod tests;
