//! In which form a client wants an object: read off its `Accept` header.

use http::{HeaderMap, header};
use kontiki_api::status::Status;

/// What a client can read.
const OFFERED: [&str; 2] = ["application/json", "application/yaml"];

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

/// Encoding and form of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Form.
    pub form: Form,
    /// Whether the encoding is YAML rather than JSON.
    pub yaml: bool,
}

/// The first of the listed media types that this server has; a client that lists none gets JSON.
pub fn accept(headers: &HeaderMap) -> Result<Accepted, Status> {
    let mut listed = false;
    for line in headers.get_all(header::ACCEPT) {
        for entry in line.to_str().unwrap_or_default().split(',') {
            listed |= !entry.trim().is_empty();
            if let Some(accepted) = parse(entry) {
                return Ok(accepted);
            }
        }
    }
    if listed { Err(Status::not_acceptable(&OFFERED)) } else { Ok(Accepted::default()) }
}

fn parse(entry: &str) -> Option<Accepted> {
    let mut parts = entry.split(';').map(str::trim);
    let yaml = match parts.next()? {
        "application/json" | "application/*" | "*/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let (mut form, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => form = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let form = match form {
        "" => Form::Object,
        "Table" if group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1") => Form::Table(version.to_owned()),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if group == "meta.k8s.io" => Form::Partial(version.to_owned()),
        _ => return None,
    };
    Some(Accepted { form, yaml })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, http::HeaderValue::from_static(text))])
    }

    #[test]
    fn the_first_form_that_is_offered_wins() {
        let table = accept(&headers("application/json;as=Table;v=v1;g=meta.k8s.io,application/json")).unwrap();
        assert_eq!(table.form, Form::Table("v1".into()));
        let fallback = accept(&headers("application/vnd.kubernetes.protobuf,application/json")).unwrap();
        assert_eq!(fallback, Accepted::default());
        assert!(accept(&headers("application/yaml")).unwrap().yaml);
        assert_eq!(accept(&headers("application/vnd.kubernetes.protobuf")).unwrap_err().code, 406);
        assert_eq!(accept(&HeaderMap::new()).unwrap(), Accepted::default());
    }
}
