//! Where images of a registry are really fetched from: mirrors, from a file such as
//!
//! ```yaml
//! mirrors:
//!   docker.io:
//!     endpoint: ["http://mirror.example:5000"]
//! ```
//!
//! In: a name. Out: endpoints to try in turn, the registry itself last.

use std::{collections::BTreeMap, path::Path};

use oci_client::Reference;
use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    /// Mirrors by the registry that they stand for; `*` stands for all.
    pub mirrors: BTreeMap<String, Mirror>,
}

/// Mirrors of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// Addresses, tried in this order.
    pub endpoint: Vec<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It cannot be read.
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    /// It is not such a file.
    #[error("{0} is no list of mirrors")]
    Parse(String, #[source] serde_norway::Error),
    /// An address is no URL.
    #[error("endpoint {0:?} must begin with http:// or https://")]
    Endpoint(String),
}

/// One place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    pub host: String,
    /// Whether it is spoken to without TLS.
    pub plain: bool,
}

impl Registries {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, RegistriesError> {
        let text = std::fs::read_to_string(path).map_err(|error| RegistriesError::Read(path.display().to_string(), error))?;
        let read: Self =
            serde_norway::from_str(&text).map_err(|error| RegistriesError::Parse(path.display().to_string(), error))?;
        for endpoint in read.mirrors.values().flat_map(|mirror| &mirror.endpoint) {
            parse(endpoint).ok_or_else(|| RegistriesError::Endpoint(endpoint.clone()))?;
        }
        Ok(read)
    }

    /// Where to fetch an image from.
    pub fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let registry = reference.registry();
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let mut endpoints: Vec<_> = mirror.into_iter().flat_map(|mirror| &mirror.endpoint).filter_map(|url| parse(url)).collect();
        let own = Endpoint { host: reference.resolve_registry().to_owned(), plain: is_local(registry) };
        if !endpoints.contains(&own) {
            endpoints.push(own);
        }
        endpoints
    }
}

fn parse(url: &str) -> Option<Endpoint> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next().filter(|host| !host.is_empty())?;
    match scheme {
        "http" => Some(Endpoint { host: host.to_owned(), plain: true }),
        "https" => Some(Endpoint { host: host.to_owned(), plain: false }),
        _ => None,
    }
}

/// As Docker and containerd have it: a registry on this machine speaks plainly.
fn is_local(registry: &str) -> bool {
    let host = registry.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let text = "mirrors:\n  docker.io:\n    endpoint: [\"http://10.0.0.1:5000\", \"https://mirror.example\"]\n";
        let registries: Registries = serde_norway::from_str(text).unwrap();
        let hosts = |image: &str| -> Vec<(String, bool)> {
            let endpoints = registries.endpoints(&image.parse().unwrap());
            endpoints.into_iter().map(|endpoint| (endpoint.host, endpoint.plain)).collect()
        };
        assert_eq!(
            hosts("nginx:1"),
            [("10.0.0.1:5000".into(), true), ("mirror.example".into(), false), ("index.docker.io".into(), false)]
        );
        assert_eq!(hosts("localhost:5000/a"), [("localhost:5000".into(), true)]);
        assert_eq!(hosts("quay.io/a"), [("quay.io".into(), false)]);
    }

    #[test]
    fn a_wrong_file_is_refused() {
        assert!(serde_norway::from_str::<Registries>("mirorrs: {}").is_err());
        assert_eq!(parse("ftp://x"), None);
        assert_eq!(parse("mirror.example"), None);
    }
}
