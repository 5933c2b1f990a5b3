//! The `proxy` subresources: requests to pods, services and nodes that travel through the API server.
//!
//! In: a request below `.../proxy`. Out: what the pod, an endpoint of the service, or the node answers. Bodies
//! stream in both directions; an upgraded connection is joined byte by byte.
//! Only addresses that the API's own objects name are reached: a path cannot lead the server elsewhere.
//! <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>

mod connect;
mod html;
pub(crate) mod pass;
mod rewrite;
mod target;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kontiki_api::{
    registry::Resource,
    resources::{NODES, PODS, SERVICES},
    status::Status,
};
use parking_lot::Mutex;

use self::rewrite::Page;
use crate::{
    request::RequestInfo,
    response::{self, Body},
    service::{ApiServer, Call},
};

/// Methods that are passed on.
const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
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
    let upgrade = call.upgrade.lock().take().filter(|_| pass::is_upgrade(&call.headers));
    if upgrade.is_none() && path.rest.is_empty() && matches!(info.method, Method::GET | Method::HEAD) {
        return redirect(&info.path, &info.raw_query);
    }
    let page = Page::new(call, path.prefix, &target);
    let mut request = pass::outgoing(call, path.rest, upgrade.is_some())?;
    if upgrade.is_none() {
        page.announce(request.headers_mut(), path.rest);
    }
    let unreachable = |error: String| Status::service_unavailable(format!("error trying to reach service: {error}"));
    let found = connect::send(server, &target, request).await.map_err(unreachable)?;
    match upgrade {
        Some(near) if found.status() == StatusCode::SWITCHING_PROTOCOLS => Ok(pass::switch(near, found)),
        Some(_) if found.status().as_u16() < 400 => {
            let code = found.status().as_u16();
            Err(Status::internal_error(format!("invalid upgrade response: status code {code}")))
        }
        _ => incoming(found, &page).await,
    }
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

/// The answer as the client gets it.
async fn incoming(found: Response<Incoming>, page: &Page) -> Result<Response<Body>, Status> {
    let (mut head, body) = found.into_parts();
    pass::clean(&mut head.headers);
    for name in CROSS_ORIGIN {
        head.headers.remove(name);
    }
    if let Some(location) = head.headers.get(header::LOCATION) {
        let location = location.to_str().map_err(|_| Status::internal_error("error trying to parse Location header"))?;
        if let Ok(location) = HeaderValue::from_str(&page.link(location)) {
            head.headers.insert(header::LOCATION, location);
        }
        return Ok(Response::from_parts(head, pass::body(body)));
    }
    if !is_plain_html(&head.headers) {
        return Ok(Response::from_parts(head, pass::body(body)));
    }
    let (read, rest) = read_page(body).await.map_err(|error| Status::internal_error(error.to_string()))?;
    head.headers.remove(header::CONTENT_LENGTH);
    let body = match rest {
        None => response::full(Bytes::from(html::rewrite(&read, |link| page.link(link)))),
        Some(rest) => {
            let all = futures::stream::once(async { Ok(http_body::Frame::data(read)) })
                .chain(http_body_util::BodyStream::new(pass::body(rest)));
            http_body_util::StreamBody::new(all).boxed_unsync()
        }
    };
    Ok(Response::from_parts(head, body))
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

#[cfg(test)]
mod tests;
