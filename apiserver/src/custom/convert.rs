//! Between the versions of a custom resource.
//!
//! In: an object in one version, the version that is wanted. Out: the object in that version, pruned and defaulted by
//! its schema. Without a webhook only the name of the version changes.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>

use std::{sync::Arc, time::Duration};

use kontiki_api::{
    custom::{definition::Definition, strategy::Served},
    object::{Encoded, meta},
    registry::Resource,
    status::Status,
};
use serde_json::{Value, json};

use crate::{
    cache::CachedObject,
    outbound::{self, Target},
    storage::Storage,
};

/// How long a conversion webhook may take.
const DEADLINE: Duration = Duration::from_secs(30);

fn version_of(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap_or_default()
}

impl Storage {
    /// A stored object as a resource serves it. Built-in kinds are served as they are stored.
    pub async fn to_served(&self, resource: &Resource, object: Value) -> Result<Value, Status> {
        let Some(served) = resource.strategy.custom() else { return Ok(object) };
        let mut converted = self.convert(&served.definition, &served.api_version(), vec![object]).await?;
        let mut object = converted.pop().unwrap_or_default();
        served.clean(&mut object)?;
        Ok(object)
    }

    /// An object as it is stored.
    pub async fn to_stored(&self, resource: &Resource, object: &Value) -> Result<Value, Status> {
        let Some(served) = resource.strategy.custom() else { return Ok(object.clone()) };
        let storage = served.definition.versions.iter().position(|version| version.storage);
        let Some(storage) = storage.and_then(|index| Served::new(&served.definition, index)) else { return Ok(object.clone()) };
        if storage.api_version() == served.api_version() {
            return Ok(object.clone());
        }
        let mut converted = self.convert(&served.definition, &storage.api_version(), vec![object.clone()]).await?;
        let mut object = converted.pop().unwrap_or_default();
        storage.clean(&mut object)?;
        Ok(object)
    }

    /// The bytes of an object as a resource serves them.
    pub async fn serve(&self, resource: &Resource, encoded: &Encoded) -> Result<Encoded, Status> {
        if resource.strategy.custom().is_none() {
            return Ok(encoded.clone());
        }
        let stored = encoded.value();
        let served = self.to_served(resource, stored.clone()).await?;
        encode(&stored, &served, encoded)
    }

    /// A cached object as a resource serves it.
    pub async fn serve_one(&self, resource: &Resource, object: Arc<CachedObject>) -> Result<Arc<CachedObject>, Status> {
        let mut shown = self.serve_all(resource, vec![object]).await?;
        shown.pop().ok_or_else(|| Status::internal_error("an object vanished on its way"))
    }

    /// Cached objects as a resource serves them: one conversion for all that need it.
    pub async fn serve_all(
        &self,
        resource: &Resource,
        objects: Vec<Arc<CachedObject>>,
    ) -> Result<Vec<Arc<CachedObject>>, Status> {
        let Some(served) = resource.strategy.custom() else { return Ok(objects) };
        let stored: Vec<Value> = objects.iter().map(|object| object.encoded.value()).collect();
        let converted = self.convert(&served.definition, &served.api_version(), stored.clone()).await?;
        let mut shown = Vec::with_capacity(objects.len());
        for ((object, stored), mut converted) in objects.into_iter().zip(stored).zip(converted) {
            served.clean(&mut converted)?;
            if converted == stored {
                shown.push(object);
            } else {
                let encoded = encode(&stored, &converted, &object.encoded)?;
                shown.push(Arc::new(object.with_encoded(encoded)));
            }
        }
        Ok(shown)
    }

    /// Objects in the wanted version; the webhook sees only those that are in another.
    pub(crate) async fn convert(&self, definition: &Definition, wanted: &str, objects: Vec<Value>) -> Result<Vec<Value>, Status> {
        if objects.iter().all(|object| version_of(object) == wanted) {
            return Ok(objects);
        }
        let Some(conversion) = &definition.webhook else {
            let renamed = objects.into_iter().map(|mut object| {
                object["apiVersion"] = wanted.into();
                object
            });
            return Ok(renamed.collect());
        };
        self.convert_by_webhook(definition, conversion, wanted, objects).await
    }

    async fn convert_by_webhook(
        &self,
        definition: &Definition,
        conversion: &Value,
        wanted: &str,
        objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let from = objects.iter().map(version_of).find(|version| *version != wanted).unwrap_or_default().to_owned();
        let refuse = |error: String| {
            let kind = &definition.names.kind;
            Status::internal_error(format!("conversion webhook for {from}, Kind={kind} failed: {error}"))
        };
        let target = Target::of_client_config(&conversion["webhook"]["clientConfig"]).map_err(refuse)?;
        let others: Vec<&Value> = objects.iter().filter(|object| version_of(object) != wanted).collect();
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": "apiextensions.k8s.io/v1",
            "request": { "uid": uid, "desiredAPIVersion": wanted, "objects": others },
        });
        let path = target.path_with_timeout(DEADLINE);
        let answer = outbound::post_json(self, &target, &path, &review, DEADLINE).await.map_err(refuse)?;
        let mut converted = converted(&uid, wanted, &others, &answer).map_err(refuse)?.into_iter();
        let next = |object: Value| if version_of(&object) == wanted { object } else { converted.next().unwrap_or(object) };
        Ok(objects.into_iter().map(next).collect())
    }
}

fn encode(stored: &Value, served: &Value, encoded: &Encoded) -> Result<Encoded, Status> {
    if stored == served {
        return Ok(encoded.clone());
    }
    Encoded::from_value(served, encoded.resource_version()).map_err(|error| Status::internal_error(error.to_string()))
}

/// The objects of an answer, each with the identity that it had. Pure.
fn converted(uid: &str, wanted: &str, asked: &[&Value], answer: &Value) -> Result<Vec<Value>, String> {
    let response = &answer["response"];
    if !response.is_object() {
        return Err("invalid response: expected response, got none".to_owned());
    }
    let found = response["uid"].as_str().unwrap_or_default();
    if found != uid {
        return Err(format!("invalid response: expected response.uid={uid:?}, got {found:?}"));
    }
    let status = response["result"]["status"].as_str().unwrap_or_default();
    if status != "Success" {
        let message = response["result"]["message"].as_str().map(str::to_owned);
        return Err(message.unwrap_or_else(|| format!("response.result.status was {status:?}, not \"Success\"")));
    }
    let objects = response["convertedObjects"].as_array().cloned().unwrap_or_default();
    if objects.len() != asked.len() {
        return Err(format!("webhook returned {} objects, expected {}", objects.len(), asked.len()));
    }
    objects
        .into_iter()
        .zip(asked)
        .enumerate()
        .map(|(index, (object, original))| restored(index, wanted, object, original))
        .collect()
}

/// A converted object with the metadata of the original, but for labels and annotations: those are the webhook's.
fn restored(index: usize, wanted: &str, mut object: Value, original: &Value) -> Result<Value, String> {
    let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
    if version_of(&object) != wanted || object["kind"] != original["kind"] {
        return Err(format!(
            "invalid converted object at index {index}: expected {wanted}, Kind={}, got {}, Kind={}",
            kind(original),
            version_of(&object),
            kind(&object)
        ));
    }
    for field in ["name", "namespace", "uid"] {
        if meta::text(&object, field) != meta::text(original, field) {
            let why = format!("metadata.{field}: must not be changed");
            return Err(format!("invalid metadata of converted object at index {index}: {why}"));
        }
    }
    let changed = object["metadata"].take();
    object["metadata"] = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        match changed.get(field).filter(|value| !value.is_null()) {
            Some(value) => meta::set(&mut object, field, value.clone()),
            None => {
                meta::remove(&mut object, field);
            }
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_webhook_changes_what_it_may() {
        let original =
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x", "generation": 3, "labels": {"a": "1"}}});
        let reply =
            |object: Value| json!({"response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [object]}});
        let good = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "x", "generation": 9, "labels": {"b": "2"}}, "spec": 1});
        assert_eq!(
            converted("u", "g/v2", &[&original], &reply(good)).unwrap(),
            [
                json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "x", "generation": 3, "labels": {"b": "2"}}, "spec": 1})
            ]
        );
        let other = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "y"}});
        assert!(converted("u", "g/v2", &[&original], &reply(other)).unwrap_err().contains("metadata.name"));
        let failed = json!({"response": {"uid": "u", "result": {"status": "Failed", "message": "no way"}}});
        assert_eq!(converted("u", "g/v2", &[&original], &failed).unwrap_err(), "no way");
    }
}
