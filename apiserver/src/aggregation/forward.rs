//! Requests on their way to the server that serves their group version.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use kontiki_api::{registry, status::Status};

use super::{Backend, Extension, Remote};
use crate::{
    auth::UserInfo,
    outbound,
    proxy::{self, pass},
    request::RequestInfo,
    response::{self, Body},
    service::{ApiServer, Call},
};

/// What the names of all headers about a user begin with.
const PREFIX: &str = "x-remote-";

/// Answers a request for a group version that is not this server's own.
pub async fn answer(server: &ApiServer, call: &Call, extension: &Extension) -> Result<Response<Body>, Status> {
    match &extension.backend {
        Backend::Metrics => crate::resource_metrics::answer(server, call, extension).await,
        Backend::Remote(remote) => forward(server, call, remote).await,
    }
}

impl ApiServer {
    /// Whether a request is for a resource that is known: names of clients' own making become no labels.
    pub(crate) fn serves(&self, info: &RequestInfo) -> bool {
        let (group, version, plural) = (info.group.as_str(), info.version.as_str(), info.resource.as_str());
        let known = registry::find(group, version, plural).or_else(|| self.storage.caches.custom.find(group, version, plural));
        known.is_some() || self.aggregator.table().find(group, version).is_some_and(|extension| extension.has(plural))
    }

    /// Whether body and answer of a request are passed on as they come, for somebody else answers it.
    #[must_use]
    pub fn passes_on(&self, info: &RequestInfo) -> bool {
        let remote = |extension: &Extension| matches!(extension.backend, Backend::Remote(_));
        proxy::is_proxied(info) || self.aggregator.table().of_path(&info.path).is_some_and(remote)
    }
}

async fn forward(server: &ApiServer, call: &Call, remote: &Remote) -> Result<Response<Body>, Status> {
    let plain = |code, text: String| Ok(response::text(code, format!("{text}\n")));
    let unavailable = || plain(StatusCode::SERVICE_UNAVAILABLE, "service unavailable".to_owned());
    if !remote.is_available {
        return unavailable();
    }
    let tls = match &remote.tls {
        Ok(tls) => Arc::clone(tls),
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, error.clone()),
    };
    let addresses = outbound::addresses(&server.storage, &remote.target).await.unwrap_or_default();
    let Some(address) = addresses.get(rand::random_range(0..addresses.len().max(1))) else { return unavailable() };
    let upgrade = call.upgrade.lock().take().filter(|_| pass::is_upgrade(&call.headers));
    let mut request = pass::outgoing(call, &call.info.path, upgrade.is_some())?;
    name_user(request.headers_mut(), &call.user);
    let found = match outbound::send(address, &remote.target, tls, request).await {
        Ok(found) => found,
        Err(error) => return plain(StatusCode::SERVICE_UNAVAILABLE, format!("error trying to reach service: {error}")),
    };
    if let Some(near) = upgrade.filter(|_| found.status() == StatusCode::SWITCHING_PROTOCOLS) {
        return Ok(pass::switch(near, found));
    }
    if found.status().is_redirection() && found.headers().contains_key(http::header::LOCATION) {
        let words = "the backend attempted to redirect this request, which is not permitted";
        return plain(StatusCode::BAD_GATEWAY, words.to_owned());
    }
    let (mut head, body) = found.into_parts();
    pass::clean(&mut head.headers);
    Ok(Response::from_parts(head, pass::body(body)))
}

/// Names a user in the headers, in place of whatever they said before.
pub fn name_user(headers: &mut HeaderMap, user: &UserInfo) {
    let claimed: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        values.iter().for_each(|value| add(&name, value));
    }
}

/// A key as it may stand in the name of a header: what may not is a percent sign and two digits.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_user_is_named_by_this_server_alone() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-remote-user", "root"), ("x-remote-extra-a", "b"), ("x-mine", "1")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut user = UserInfo::authenticated("ann", ["dev"]);
        user.uid = "u1".to_owned();
        user.extra.insert("example.com/scopes".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        name_user(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["ann"]);
        assert_eq!(all("x-remote-uid"), ["u1"]);
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.com%2fscopes"), ["a", "b"]);
        assert_eq!((all("x-remote-extra-a").len(), all("x-mine")), (0, vec!["1".to_owned()]));
    }
}
