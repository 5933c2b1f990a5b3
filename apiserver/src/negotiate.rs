//! In which form and encoding a client wants an answer: read off its `Accept` header.
//!
//! Entries are tried by their q-value, then in their order; the first that this server has wins.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

use http::{HeaderMap, HeaderValue, header};
use kontiki_api::{protobuf, status::Status};

/// Encodings of an answer, in the order of preference.
const OFFERED: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];
/// Encodings of a stream.
const OFFERED_STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// Form of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    #[default]
    Object,
    /// Rows for a person; the version of `meta.k8s.io`.
    Table(String),
    /// Metadata alone; the version of `meta.k8s.io`.
    Partial(String),
}

/// Encoding of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf.
    Protobuf,
}

impl Encoding {
    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => OFFERED[0],
            Self::Yaml => OFFERED[1],
            Self::Protobuf => OFFERED[2],
        })
    }
}

/// Encoding and form of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Form.
    pub form: Form,
    /// Encoding.
    pub encoding: Encoding,
    /// Whether JSON is indented, for a person.
    pub pretty: bool,
}

impl Accepted {
    /// Whether the object's own bytes are the answer.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.form == Form::Object && self.encoding == Encoding::Json && !self.pretty
    }
}

/// What the client accepts of what this server has; a client that lists nothing gets JSON.
///
/// # Errors
/// 406: nothing.
pub fn accept(headers: &HeaderMap) -> Result<Accepted, Status> {
    choose(headers, |entry| Some(entry.accepted.clone())).ok_or_else(|| Status::not_acceptable(&OFFERED))
}

/// As [`accept`], for answers that are no objects of a stored resource and make no tables.
///
/// # Errors
/// 406: nothing.
pub fn accept_without_tables(headers: &HeaderMap) -> Result<Accepted, Status> {
    let plain = |entry: &Entry| (entry.accepted.form == Form::Object).then(|| entry.accepted.clone());
    choose(headers, plain).ok_or_else(|| Status::not_acceptable(&OFFERED))
}

/// As [`accept`], for a stream of events.
///
/// # Errors
/// 406: nothing.
pub fn accept_stream(headers: &HeaderMap) -> Result<Accepted, Status> {
    let streams = |entry: &Entry| (entry.accepted.encoding != Encoding::Yaml).then(|| entry.accepted.clone());
    choose(headers, streams).ok_or_else(|| Status::not_acceptable(&OFFERED_STREAMS))
}

/// The encoding of an error: what the client accepts, or JSON.
#[must_use]
pub fn accept_status(headers: &HeaderMap) -> Accepted {
    choose(headers, |entry| Some(Accepted { form: Form::Object, ..entry.accepted.clone() })).unwrap_or_default()
}

/// Whether a large answer may be compressed.
#[must_use]
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    listed.flat_map(|line| line.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let named = matches!(parts.next(), Some("gzip" | "*"));
        named && quality(parts) > 0.0
    })
}

struct Entry {
    quality: f32,
    /// 2: a media type, 1: any subtype, 0: anything.
    precision: u8,
    accepted: Accepted,
}

fn choose(headers: &HeaderMap, fits: impl Fn(&Entry) -> Option<Accepted>) -> Option<Accepted> {
    let lines: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let listed = || lines.iter().flat_map(|line| line.split(',')).filter(|entry| !entry.trim().is_empty());
    if listed().next().is_none() {
        return Some(Accepted::default());
    }
    let mut entries: Vec<Entry> = listed().filter_map(parse).collect();
    entries.sort_by(|one, other| {
        let quality = other.quality.total_cmp(&one.quality);
        quality.then_with(|| other.precision.cmp(&one.precision))
    });
    entries.iter().find_map(fits)
}

fn quality<'a>(parameters: impl Iterator<Item = &'a str>) -> f32 {
    let named = parameters.filter_map(|part| part.split_once('='));
    let mut values = named.filter(|(name, _)| name.trim() == "q").filter_map(|(_, value)| value.trim().parse().ok());
    values.next().unwrap_or(1.0)
}

/// One entry that this server has; `None` for others.
fn parse(entry: &str) -> Option<Entry> {
    let mut parts = entry.split(';').map(str::trim);
    let (encoding, precision) = match parts.next()? {
        "application/json" => (Encoding::Json, 2),
        "application/yaml" => (Encoding::Yaml, 2),
        protobuf::MEDIA_TYPE => (Encoding::Protobuf, 2),
        "application/*" => (Encoding::Json, 1),
        "*/*" => (Encoding::Json, 0),
        _ => return None,
    };
    let (mut form, mut group, mut version, mut pretty) = ("", "", "", false);
    for (name, value) in parts.clone().filter_map(|part| part.split_once('=')) {
        match name {
            "as" => form = value,
            "g" => group = value,
            "v" => version = value,
            "pretty" => pretty = value == "1",
            "stream" if encoding == Encoding::Yaml => return None,
            _ => {}
        }
    }
    let known = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
    let form = match form {
        "" => Form::Object,
        "Table" if known && encoding != Encoding::Protobuf => Form::Table(version.to_owned()),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if known => Form::Partial(version.to_owned()),
        _ => return None,
    };
    Some(Entry { quality: quality(parts), precision, accepted: Accepted { form, encoding, pretty } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(text).unwrap())])
    }

    #[test]
    fn the_first_form_that_is_offered_wins() {
        const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
        for (accepts, encoding, form) in [
            ("", Encoding::Json, Form::Object),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Encoding::Json, Form::Table("v1".into())),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Encoding::Json, Form::Object),
            ("application/vnd.kubernetes.protobuf,application/json", Encoding::Protobuf, Form::Object),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,*/*", Encoding::Json, Form::Object),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Encoding::Protobuf,
                Form::Partial("v1".into()),
            ),
            ("application/yaml", Encoding::Yaml, Form::Object),
            ("application/cbor, application/yaml;q=0.2, application/json;q=0.1", Encoding::Yaml, Form::Object),
            ("*/*, application/yaml", Encoding::Yaml, Form::Object),
            ("text/html, */*;q=0.8", Encoding::Json, Form::Object),
        ] {
            let found = accept(&headers(accepts)).unwrap();
            assert_eq!((found.encoding, found.form), (encoding, form), "{accepts}");
        }
        let refused = accept(&headers("application/cbor")).unwrap_err();
        assert_eq!(refused.code, 406);
        assert_eq!(
            refused.message,
            format!("only the following media types are accepted: application/json, application/yaml, {PROTOBUF}")
        );
        assert_eq!(accept_without_tables(&headers("application/json;as=Table;v=v1;g=meta.k8s.io")).unwrap_err().code, 406);
        assert_eq!(accept_stream(&headers("application/yaml")).unwrap_err().code, 406);
        assert_eq!(
            accept_stream(&headers("application/vnd.kubernetes.protobuf;stream=watch")).unwrap().encoding,
            Encoding::Protobuf
        );
    }

    #[test]
    fn gzip_is_for_those_who_ask() {
        for (accepts, expected) in [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false)] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(accepts))]);
            assert_eq!(accepts_gzip(&headers), expected, "{accepts}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
