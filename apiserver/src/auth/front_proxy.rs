//! Users that a proxy in front of this server names in headers.
//!
//! In: a connection whose certificate the front proxies' authority has signed, and headers. Out: the user whom they name.
//! From everybody else the headers say nothing, and nobody behind this server gets to see them.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use super::UserInfo;

/// Who may name users, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontProxy {
    /// The authority that signed its certificate, as PEM.
    pub authority: String,
    /// Common names that are believed; any, where there are none.
    pub allowed_names: Vec<String>,
    /// Where users stand.
    pub headers: UserHeaders,
}

/// Headers that users stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserHeaders {
    /// The name: the first of these that is there.
    pub names: Vec<HeaderName>,
    /// The UID: the first of these that is there.
    pub uids: Vec<HeaderName>,
    /// Groups: all of these.
    pub groups: Vec<HeaderName>,
    /// What headers of further facts begin with, in lower case.
    pub extra_prefixes: Vec<String>,
}

/// Why names of headers cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no name of a header")]
pub struct HeaderError(String);

impl Default for UserHeaders {
    fn default() -> Self {
        Self {
            names: vec![HeaderName::from_static("x-remote-user")],
            uids: vec![HeaderName::from_static("x-remote-uid")],
            groups: vec![HeaderName::from_static("x-remote-group")],
            extra_prefixes: vec!["x-remote-extra-".to_owned()],
        }
    }
}

fn parse(names: &str) -> Result<Vec<HeaderName>, HeaderError> {
    let name = |name: &str| name.trim().parse().map_err(|_| HeaderError(name.to_owned()));
    names.split(',').filter(|name| !name.is_empty()).map(name).collect()
}

impl UserHeaders {
    /// Reads lists of names, separated by commas.
    ///
    /// # Errors
    /// One is no name of a header.
    pub fn parse(names: &str, uids: &str, groups: &str, extra_prefixes: &str) -> Result<Self, HeaderError> {
        let prefixes = parse(extra_prefixes)?.into_iter().map(|prefix| prefix.as_str().to_owned()).collect();
        Ok(Self { names: parse(names)?, uids: parse(uids)?, groups: parse(groups)?, extra_prefixes: prefixes })
    }

    /// The user whom headers name; `None` if they name nobody.
    #[must_use]
    pub fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let all = |name: &HeaderName| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let filled = |value: &&str| !value.is_empty();
        let first = |names: &[HeaderName]| names.iter().filter_map(|name| all(name).next()).find(filled).map(str::to_owned);
        let mut user = UserInfo::authenticated(first(&self.names)?, self.groups.iter().flat_map(all).filter(filled));
        user.uid = first(&self.uids).unwrap_or_default();
        for prefix in &self.extra_prefixes {
            for name in headers.keys() {
                let Some(key) = name.as_str().strip_prefix(prefix.as_str()) else { continue };
                let decoded = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned());
                user.extra.entry(decoded).or_default().extend(all(name).map(str::to_owned));
            }
        }
        Some(user)
    }

    /// Takes away what could name a user.
    pub fn clear(&self, headers: &mut HeaderMap) {
        for name in self.names.iter().chain(&self.uids).chain(&self.groups) {
            headers.remove(name);
        }
        let is_extra = |name: &&HeaderName| self.extra_prefixes.iter().any(|prefix| name.as_str().starts_with(prefix.as_str()));
        let extra: Vec<HeaderName> = headers.keys().filter(is_extra).cloned().collect();
        for name in extra {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_user_stands_in_the_headers() {
        let found = UserHeaders::default().user(&headers(&[
            ("x-remote-user", "ann"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", ""),
            ("x-remote-group", "ops"),
            ("x-remote-extra-example.com%2fscopes", "a"),
            ("x-remote-extra-example.com%2fscopes", "b"),
            ("x-remote-extra-%ff", "c"),
        ]));
        let user = found.unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("ann", "7"));
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(
            (&user.extra["example.com/scopes"], &user.extra["%ff"]),
            (&vec!["a".to_owned(), "b".to_owned()], &vec!["c".to_owned()])
        );
        assert_eq!(UserHeaders::default().user(&headers(&[("x-remote-user", ""), ("x-remote-group", "dev")])), None);
    }

    #[test]
    fn other_headers_can_be_agreed_on_and_all_of_them_are_cleared() {
        let own = UserHeaders::parse("X-User,X-Login", "", "X-Groups", "X-Fact-").unwrap();
        let mut sent =
            headers(&[("x-login", "ann"), ("x-groups", "dev"), ("x-fact-a", "b"), ("x-mine", "1"), ("x-remote-user", "no")]);
        let user = own.user(&sent).unwrap();
        assert_eq!((user.name.as_str(), user.extra["a"].as_slice()), ("ann", ["b".to_owned()].as_slice()));
        own.clear(&mut sent);
        UserHeaders::default().clear(&mut sent);
        assert_eq!(sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-mine"]);
        assert!(UserHeaders::parse("a b", "", "", "").is_err());
    }
}
