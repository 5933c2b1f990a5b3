//! What a request asks for: verb, resource, namespace, name, read off its method, path and query.

use std::collections::HashMap;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names an API resource.
    pub is_resource: bool,
    /// Kubernetes verb: `get`, `list`, `watch`, `create`, ...; the lower-case method of other paths.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace; empty where there is none.
    pub namespace: String,
    /// Resource, in the plural.
    pub resource: String,
    /// Subresource; empty where there is none.
    pub subresource: String,
    /// Name of the object; empty for a collection.
    pub name: String,
    /// The path as it was sent.
    pub path: String,
    /// Query parameters, decoded; the first of a name wins, but for those in [`RequestInfo::repeated`].
    pub query: HashMap<String, String>,
    /// Every value of each parameter, in order.
    pub repeated: Vec<(String, String)>,
    /// The query as it was sent.
    pub raw_query: String,
    /// Host that the address names, if it does.
    pub authority: String,
    /// Method.
    pub method: Method,
}

impl RequestInfo {
    /// Reads a request's method and address.
    #[must_use]
    pub fn parse(method: &Method, uri: &Uri) -> Self {
        let mut info = Self {
            path: uri.path().to_owned(),
            raw_query: uri.query().unwrap_or_default().to_owned(),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            method: method.clone(),
            ..Self::default()
        };
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")));
            info.query.entry(name.clone()).or_insert_with(|| value.clone());
            info.repeated.push((name, value));
        }
        let parts: Vec<String> = uri.path().split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => {
                info.verb = method.as_str().to_ascii_lowercase();
                return info;
            }
        };
        info.is_resource = true;
        let (watching, rest) = match rest {
            // The deprecated paths of watches.
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            _ => (false, rest),
        };
        info.locate(rest);
        info.verb = if watching { "watch".to_owned() } else { info.verb_of(method) };
        info
    }

    fn locate(&mut self, rest: &[&str]) {
        let rest = match rest {
            // /namespaces/NAME and its own subresources speak of the namespace itself.
            ["namespaces", name] => {
                (*name).clone_into(&mut self.namespace);
                rest
            }
            ["namespaces", name, "status" | "finalize"] => {
                (*name).clone_into(&mut self.namespace);
                rest
            }
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (*namespace).clone_into(&mut self.namespace);
                rest
            }
            _ => rest,
        };
        let part = |index: usize| rest.get(index).map(|part| (*part).to_owned()).unwrap_or_default();
        self.resource = part(0);
        self.name = part(1);
        self.subresource = part(2);
    }

    fn verb_of(&self, method: &Method) -> String {
        let watching = self.flag("watch") && self.subresource != "proxy";
        let verb = match (method.as_str(), self.name.is_empty()) {
            ("GET" | "HEAD", _) if watching => "watch",
            ("GET" | "HEAD", false) => "get",
            ("GET" | "HEAD", true) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", false) => "delete",
            ("DELETE", true) => "deletecollection",
            _ => "",
        };
        verb.to_owned()
    }

    /// A query parameter that is true or false: one without a value is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    /// Every value of a query parameter, in order.
    pub fn every<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.repeated.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter; empty where it is absent.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl RequestInfo {
    /// `resource/subresource`, as rules and messages name it.
    #[must_use]
    pub fn qualified_resource(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        for (method, path, verb, group, namespace, resource, name, subresource) in [
            ("GET", "/api/v1/pods", "list", "", "", "pods", "", ""),
            ("GET", "/api/v1/namespaces/a/pods/b/log?follow=true", "get", "", "a", "pods", "b", "log"),
            ("GET", "/apis/apps/v1/deployments?watch=1", "watch", "apps", "", "deployments", "", ""),
            ("POST", "/apis/apps/v1/namespaces/a/deployments", "create", "apps", "a", "deployments", "", ""),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", "", "a", "namespaces", "a", "finalize"),
            ("DELETE", "/api/v1/namespaces/a", "delete", "", "a", "namespaces", "a", ""),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "", "a", "pods", "", ""),
            ("GET", "/api/v1/watch/namespaces/a/pods/b", "watch", "", "a", "pods", "b", ""),
            ("PATCH", "/api/v1/nodes/n/status", "patch", "", "", "nodes", "n", "status"),
        ] {
            let info = RequestInfo::parse(&Method::from_bytes(method.as_bytes()).unwrap(), &path.parse().unwrap());
            let got = (
                info.verb.as_str(),
                info.group.as_str(),
                info.namespace.as_str(),
                info.resource.as_str(),
                info.name.as_str(),
                info.subresource.as_str(),
            );
            assert_eq!(got, (verb, group, namespace, resource, name, subresource), "{method} {path}");
        }
        assert!(!RequestInfo::parse(&Method::GET, &"/api/v1".parse().unwrap()).is_resource);
        assert!(!RequestInfo::parse(&Method::GET, &"/healthz".parse().unwrap()).is_resource);
    }
}
