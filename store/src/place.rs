//! Where a member listens or is reached, and the URLs that say so.
//!
//! In comes a URL of etcd's schemes, `http`, `https`, `unix` or `unixs`; out comes a host with its port,
//! or a socket's file, and whether TLS is spoken there. Pure: nothing is looked up or opened.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where connections come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// HOST:PORT; port 0 takes any.
    Port(String),
    /// A socket's file, in the working directory if the path does not begin with `/`.
    File(PathBuf),
}

impl Address {
    /// Whether clients can call this side by its name, as etcd's do with a file's: HTTP/2 wants it to be
    /// what a URL may have in the place of host and port.
    #[must_use]
    pub fn is_callable(&self) -> bool {
        let Self::File(path) = self else { return true };
        let name = path.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| http::uri::Authority::try_from(name).is_ok())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => formatter.write_str(address),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// An address, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: Address,
    /// Whether connections speak TLS.
    pub tls: bool,
}

impl From<std::net::SocketAddr> for Place {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { address: Address::Port(address.to_string()), tls: false }
    }
}

/// Why a URL names no place. etcd's words, where etcd refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is unknown.
    #[error("URL scheme must be http, https, unix, or unixs")]
    Scheme,
    /// More than host and port.
    #[error("URL must not contain a path")]
    Path,
    /// Less than host and port.
    #[error("URL address does not have the form \"host:port\"")]
    HostPort,
    /// A socket without a file.
    #[error("the URL names no file: unix://NAME is one in the working directory, unix:///FOLDER/NAME is any")]
    NoFile,
    /// A file's name with letters that mean something else in a URL.
    #[error("invalid URL escape: in a file's name the letters %, ? and # are written %25, %3F and %23")]
    Escape,
}

impl FromStr for Place {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = url.split_once(':') else { return Err(UrlError::Scheme) };
        let address = match scheme {
            "http" | "https" => port(rest.strip_prefix("//").ok_or(UrlError::HostPort)?)?,
            // Clients of etcd write `unix:NAME` too.
            "unix" | "unixs" => file(rest.strip_prefix("//").unwrap_or(rest))?,
            _ => return Err(UrlError::Scheme),
        };
        Ok(Self { address, tls: matches!(scheme, "https" | "unixs") })
    }
}

fn port(address: &str) -> Result<Address, UrlError> {
    let address = address.trim_end_matches('/');
    if address.contains('/') {
        return Err(UrlError::Path);
    }
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| port.parse::<u16>().is_err()) {
        return Err(UrlError::HostPort);
    }
    Ok(Address::Port(address.to_owned()))
}

/// As with etcd, what stands in the place of host and port is the beginning of the file's path.
fn file(path: &str) -> Result<Address, UrlError> {
    let whole = |(at, _): (usize, &str)| {
        let digits = path.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if path.contains(['?', '#']) || !path.match_indices('%').all(whole) {
        return Err(UrlError::Escape);
    }
    let path: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if path.is_empty() {
        return Err(UrlError::NoFile);
    }
    Ok(Address::File(OsString::from_vec(path).into()))
}

impl Place {
    /// The name that a certificate shown here has to have: the host, or, as with etcd's clients, the
    /// file's name up to a colon.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.address {
            Address::Port(address) => address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']),
            Address::File(path) => {
                let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
                name.split_once(':').map_or(name, |(host, _)| host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_name_ports_or_files() {
        let place = |url: &str| url.parse::<Place>().unwrap();
        let port = |address: &str| Address::Port(address.to_owned());
        assert_eq!(place("http://a:1"), Place { address: port("a:1"), tls: false });
        assert_eq!(place("https://[::1]:1/"), Place { address: port("[::1]:1"), tls: true });
        let file = |path: &str| Address::File(PathBuf::from(path));
        assert_eq!(place("unix://localhost:m10"), Place { address: file("localhost:m10"), tls: false });
        assert_eq!(place("unixs:///run/a%20b"), Place { address: file("/run/a b"), tls: true });
        assert_eq!(place("unix://folder/name").address, file("folder/name"));
        assert_eq!(place("unix:name").address, file("name"));
        for (url, expected) in [
            ("localhost:1", UrlError::Scheme),
            ("unixx://a", UrlError::Scheme),
            ("http:a:1", UrlError::HostPort),
            ("http://a", UrlError::HostPort),
            ("http://a:1/b", UrlError::Path),
            ("unix://", UrlError::NoFile),
            ("unix:///a%2", UrlError::Escape),
            ("unix:///a?b", UrlError::Escape),
        ] {
            assert_eq!(url.parse::<Place>(), Err(expected), "{url}");
        }
    }

    #[test]
    fn a_name_that_no_url_could_have_is_known() {
        for (path, callable) in [("/run/a b/etcd.sock", true), ("localhost:m10", true), ("a b", false), ("a:1:2", false)] {
            assert_eq!(Address::File(PathBuf::from(path)).is_callable(), callable, "{path}");
        }
    }

    #[test]
    fn certificates_name_the_host_or_the_file() {
        for (url, expected) in [
            ("https://a:1", "a"),
            ("https://[::1]:1", "::1"),
            ("unixs://localhost:2379", "localhost"),
            ("unixs:///run/etcd.sock", "etcd.sock"),
        ] {
            assert_eq!(url.parse::<Place>().unwrap().host(), expected);
        }
    }
}
