//! OpenAPI: what kubectl reads to explain fields, to find out what a server can do and how lists merge.
//!
//! Made from the registry and the schema table on request, nothing is kept but the hashes of the
//! index. Version 3 has a document for each group version, version 2 one for everything.
//! Sentences that describe fields are our own and only for what people look up.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>

pub(crate) mod describe;
mod paths;
pub mod protobuf;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::registry::{self, Resource};
use schemas::Style;

/// Version that the documents name.
const VERSION: &str = "v1.36.2";

/// `/openapi/v3`: where each group version's document is. The address changes with the content.
#[must_use]
pub fn index(custom: &[&'static Resource]) -> Value {
    static BUILT_IN: LazyLock<Map<String, Value>> =
        LazyLock::new(|| registry::group_versions().into_iter().map(|path| index_entry(&[], path)).collect());
    let mut paths = BUILT_IN.clone();
    paths.extend(registry::group_versions_of(custom).into_iter().map(|path| index_entry(custom, path)));
    json!({ "paths": paths })
}

fn index_entry(custom: &[&'static Resource], (group, version): (&str, &str)) -> (String, Value) {
    let path = document_path(group, version);
    let digest = Sha512::digest(document(custom, group, version).unwrap_or_default().to_string());
    let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let address = format!("/openapi/v3/{path}?hash={hash}");
    (path, json!({ "serverRelativeURL": address }))
}

/// `/openapi/v3/api/VERSION` and `/openapi/v3/apis/GROUP/VERSION`; `None` if it is not served.
#[must_use]
pub fn document(custom: &[&'static Resource], group: &str, version: &str) -> Option<Value> {
    let mut served: Vec<&Resource> = registry::with_custom(custom);
    served.retain(|resource| resource.key.group == group && resource.key.version == version);
    if served.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": paths::of(&served, Style::V3),
        "components": {
            "schemas": schemas::of(&served, Style::V3),
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer token.",
                },
            },
        },
    }))
}

/// `/openapi/v2`: everything, as a Swagger 2.0 document.
#[must_use]
pub fn document_v2(custom: &[&'static Resource]) -> Value {
    let served: Vec<&Resource> = registry::with_custom(custom);
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": paths::of(&served, Style::V2),
        "definitions": schemas::of(&served, Style::V2),
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer token.",
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
