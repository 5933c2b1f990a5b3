//! OpenAPI with what others serve. Version 3 is a document for each group version, which its server is asked for;
//! version 2 is one for everything, into which their parts are merged. Pure but for [`document`].

use std::sync::Arc;

use http::{Response, StatusCode};
use kontiki_api::status::Status;
use serde_json::{Map, Value, json};

use super::{Backend, Extension, Table, check};
use crate::{
    handlers::paths,
    outbound, resource_metrics,
    response::Body,
    service::{ApiServer, Call},
};

/// The index of version 3.
#[must_use]
pub fn index(mut own: Value, table: &Table) -> Value {
    for extension in &table.extensions {
        let address = match &extension.backend {
            Backend::Metrics => Some(format!("/openapi/v3/{}?hash={}", extension.path(), resource_metrics::api::openapi_hash())),
            Backend::Remote(_) => extension.documents.openapi_v3.clone(),
        };
        if let Some(address) = address {
            own["paths"][extension.path()] = json!({ "serverRelativeURL": address });
        }
    }
    own
}

/// The document of a group version that is not this server's own.
pub async fn document(server: &ApiServer, call: &Call, extension: &Extension) -> Result<Response<Body>, Status> {
    let remote = match &extension.backend {
        Backend::Metrics => return Ok(paths::tagged(call, "application/json", resource_metrics::api::openapi_v3().to_string())),
        Backend::Remote(remote) => remote,
    };
    let unavailable = || Status::service_unavailable("the server is currently unable to handle the request");
    if extension.documents.openapi_v3.is_none() {
        return Err(Status::no_such_path());
    }
    let tls = remote.tls.as_ref().map_err(|_| unavailable())?;
    let addresses = outbound::addresses(&server.storage, &remote.target).await.map_err(|_| unavailable())?;
    let address = addresses.first().ok_or_else(unavailable)?;
    let path = format!("/openapi/v3/{}", extension.path());
    let answer = check::ask(address, &remote.target, Arc::clone(tls), &path, "application/json").await;
    match answer {
        Ok(answer) if answer.code == StatusCode::OK => Ok(paths::tagged(call, "application/json", answer.body)),
        _ => Err(unavailable()),
    }
}

/// Version 2. A definition whose name is taken by another gets a number.
#[must_use]
pub fn merged_v2(mut own: Value, table: &Table) -> Value {
    for extension in &table.extensions {
        let part = match &extension.backend {
            Backend::Metrics => Some(resource_metrics::api::openapi_v2()),
            Backend::Remote(_) => extension.documents.openapi_v2.as_ref(),
        };
        if let Some(part) = part {
            merge(&mut own, part);
        }
    }
    own
}

fn merge(own: &mut Value, part: &Value) {
    let mut renamed = Map::new();
    let definitions = part["definitions"].as_object().cloned().unwrap_or_default();
    for (name, definition) in &definitions {
        let mut free = name.clone();
        let mut number = 1;
        while own["definitions"].get(&free).is_some_and(|known| known != definition) {
            number += 1;
            free = format!("{name}_v{number}");
        }
        if free != *name {
            renamed.insert(format!("#/definitions/{name}"), json!(format!("#/definitions/{free}")));
        }
    }
    let rename = |value: &Value| {
        let mut value = value.clone();
        if !renamed.is_empty() {
            follow(&mut value, &renamed);
        }
        value
    };
    for (name, definition) in &definitions {
        let free = renamed.get(&format!("#/definitions/{name}")).and_then(Value::as_str);
        let free = free.and_then(|free| free.strip_prefix("#/definitions/")).unwrap_or(name);
        own["definitions"][free] = rename(definition);
    }
    for (path, item) in part["paths"].as_object().into_iter().flatten() {
        own["paths"][path] = rename(item);
    }
}

fn follow(value: &mut Value, renamed: &Map<String, Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().and_then(|text| renamed.get(text)) {
                    Some(other) if name == "$ref" => *member = other.clone(),
                    _ => follow(member, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| follow(item, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_definition_of_the_same_name_gets_a_number() {
        let reference = |name: &str| json!({ "$ref": format!("#/definitions/{name}") });
        let mut own = json!({ "paths": { "/a": {} }, "definitions": { "Meta": { "type": "object" }, "Same": { "x": 1 } } });
        let part = json!({
            "paths": { "/apis/g/v1/": { "schema": reference("Flunder") } },
            "definitions": {
                "Flunder": { "metadata": reference("Meta"), "same": reference("Same") },
                "Meta": { "type": "object", "other": true },
                "Same": { "x": 1 },
            },
        });
        merge(&mut own, &part);
        assert_eq!(own["definitions"]["Meta"], json!({ "type": "object" }));
        assert_eq!(own["definitions"]["Meta_v2"]["other"], true);
        assert_eq!(own["definitions"]["Flunder"], json!({ "metadata": reference("Meta_v2"), "same": reference("Same") }));
        assert_eq!(own["paths"]["/apis/g/v1/"]["schema"], reference("Flunder"));
    }
}
