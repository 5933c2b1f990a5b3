//! Links of a proxied page: those to the page's own host lead through the proxy again. Pure.

use http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::target::Target;
use crate::service::Call;

/// A path below `proxy`.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// Up to and including `proxy`.
    pub prefix: &'a str,
    /// What follows, with its slash; empty where nothing does.
    pub rest: &'a str,
}

/// Splits the path of a request at its `proxy`: `/api/v1/[namespaces/NS/]RESOURCE/NAME/proxy/...`.
#[must_use]
pub fn split(path: &str) -> Option<Split<'_>> {
    let namespaced = path.trim_start_matches('/').split('/').nth(2) == Some("namespaces");
    // Segments before `proxy`: api, v1, [namespaces, NS,] resource, name.
    let wanted = if namespaced { 6 } else { 4 };
    let mut segments = 0;
    let mut inside = false;
    for (index, byte) in path.bytes().enumerate() {
        let slash = byte == b'/';
        if inside && slash {
            segments += 1;
            if segments == wanted + 1 {
                return Some(Split { prefix: &path[..index], rest: &path[index..] });
            }
        }
        inside = !slash;
    }
    (segments == wanted && inside).then_some(Split { prefix: path, rest: "" })
}

/// What is known of a page whose links are rewritten.
pub struct Page {
    prefix: String,
    /// How the client reached this server.
    host: String,
    /// Where the page comes from.
    source: String,
}

impl Page {
    /// The page that `call` asks for.
    pub fn new(call: &Call, prefix: &str, target: &Target) -> Self {
        let host = call.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let host = host.map_or_else(|| call.info.authority.clone(), str::to_owned);
        Self { prefix: prefix.to_owned(), host, source: format!("{}:{}", target.host, target.port) }
    }

    /// Tells the other side how it was reached.
    pub fn announce(&self, headers: &mut HeaderMap, rest: &str) {
        let rest = if rest.is_empty() { "/" } else { rest };
        for (name, value) in [
            ("x-forwarded-uri", format!("{}{rest}", self.prefix)),
            ("x-forwarded-host", self.host.clone()),
            ("x-forwarded-proto", "https".to_owned()),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }

    /// A link of the page as the client must follow it: links to other hosts and relative ones stay. The host that
    /// the client asked stays in what named it; what names the page's own becomes a path.
    pub fn link(&self, link: &str) -> String {
        if link.starts_with('/') && !link.starts_with("//") {
            return self.through(link);
        }
        let absolute = link.strip_prefix("//").map_or_else(|| Url::parse(link), |rest| Url::parse(&format!("http://{rest}")));
        let Ok(mut url) = absolute else { return link.to_owned() };
        let Some(host) = url.host_str() else { return link.to_owned() };
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let asked = !self.host.is_empty() && host == self.host;
        let own = host == self.source || self.source.rsplit_once(':').is_some_and(|(address, _)| host == address);
        if !asked && !own {
            return link.to_owned();
        }
        let through = self.through(url.path());
        url.set_path(&through);
        if asked { url.to_string() } else { url[url::Position::BeforePath..].to_owned() }
    }

    fn through(&self, path: &str) -> String {
        if path.starts_with(&self.prefix) { path.to_owned() } else { format!("{}{path}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let prefix = "/api/v1/namespaces/n/pods/p/proxy".to_owned();
        Page { prefix, host: "api:6443".into(), source: "10.244.0.2:80".into() }
    }

    #[test]
    fn paths_are_split_at_the_subresource() {
        for (path, prefix, rest) in [
            ("/api/v1/namespaces/n/pods/p/proxy", "/api/v1/namespaces/n/pods/p/proxy", ""),
            ("/api/v1/namespaces/n/pods/proxy/proxy/proxy/a", "/api/v1/namespaces/n/pods/proxy/proxy", "/proxy/a"),
            ("/api/v1/nodes/n:10250/proxy/logs/", "/api/v1/nodes/n:10250/proxy", "/logs/"),
            ("/api/v1/namespaces/n/services/s/proxy/a%2Fb", "/api/v1/namespaces/n/services/s/proxy", "/a%2Fb"),
        ] {
            assert_eq!(split(path), Some(Split { prefix, rest }), "{path}");
        }
        assert_eq!(split("/api/v1/namespaces/n/pods"), None);
    }

    #[test]
    fn links_lead_through_the_proxy_again() {
        let through = "/api/v1/namespaces/n/pods/p/proxy";
        for (link, wanted) in [
            ("/a/b?c=d", format!("{through}/a/b?c=d")),
            ("http://10.244.0.2/a", format!("{through}/a")),
            ("https://api:6443/a#x", format!("https://api:6443{through}/a#x")),
            ("https://api:6443/api/v1/namespaces/n/pods/p/proxy/a", format!("https://api:6443{through}/a")),
            ("https://example.org/a", "https://example.org/a".to_owned()),
            ("a/b", "a/b".to_owned()),
            ("#top", "#top".to_owned()),
            ("mailto:a@b", "mailto:a@b".to_owned()),
        ] {
            assert_eq!(page().link(link), wanted, "{link}");
        }
    }
}
