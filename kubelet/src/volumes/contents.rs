//! What is in the volumes that come from the API: ConfigMap, Secret, downward API, projected, tokens.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kontiki_api::resources::{CONFIG_MAPS, ResourceKey, SECRETS, SERVICE_ACCOUNTS};
use serde_json::{Value, json};

use super::Access;
use super::atomic::{Entries, Entry};
use crate::pods::{
    environment::{Sources, field_value, resource_value},
    model,
};

const DEFAULT_MODE: i32 = 0o644;

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(DEFAULT_MODE)).unwrap_or(0o644)
}

/// The kind of a volume, as its folder is named, and its files.
pub async fn files(
    access: &Access<'_>,
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
) -> Result<(&'static str, Entries), String> {
    if let Some(source) = &volume.config_map {
        let keys = Keys { items: source.items.as_deref(), mode: source.default_mode, optional: source.optional == Some(true) };
        return Ok(("configmap", object(access, pod, CONFIG_MAPS, &source.name, keys).await?));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let keys = Keys { items: source.items.as_deref(), mode: source.default_mode, optional: source.optional == Some(true) };
        return Ok(("secret", object(access, pod, SECRETS, name, keys).await?));
    }
    if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        return Ok(("downward-api", downward(pod, items, source.default_mode, sources)?));
    }
    if let Some(source) = &volume.projected {
        let mut entries = Entries::new();
        for part in source.sources.iter().flatten() {
            entries.extend(projection(access, pod, part, source.default_mode, sources).await?);
        }
        return Ok(("projected", entries));
    }
    Err("this kind of volume is not supported on this node".to_owned())
}

struct Keys<'a> {
    items: Option<&'a [KeyToPath]>,
    mode: Option<i32>,
    optional: bool,
}

async fn object(access: &Access<'_>, pod: &Pod, kind: ResourceKey, name: &str, keys: Keys<'_>) -> Result<Entries, String> {
    let what = if kind == SECRETS { "secret" } else { "configmap" };
    let found: Result<Value, _> = access.client.get(kind, model::namespace(pod), name).await;
    let data = match found {
        Ok(object) => bytes_of(&object, kind == SECRETS),
        Err(error) if error.is_not_found() && keys.optional => BTreeMap::new(),
        Err(error) if error.is_not_found() => return Err(format!("{what} \"{name}\" not found")),
        Err(error) => return Err(error.to_string()),
    };
    let Some(items) = keys.items.filter(|items| !items.is_empty()) else {
        let entry = |(key, contents)| (key, Entry { contents, mode: mode(None, keys.mode) });
        return Ok(data.into_iter().map(entry).collect());
    };
    let mut entries = Entries::new();
    for item in items {
        match data.get(&item.key) {
            Some(contents) => {
                entries.insert(item.path.clone(), Entry { contents: contents.clone(), mode: mode(item.mode, keys.mode) });
            }
            None if keys.optional => {}
            None => return Err(format!("references non-existent {what} key: {}", item.key)),
        }
    }
    Ok(entries)
}

/// Contents of a ConfigMap or Secret by key.
pub fn bytes_of(object: &Value, secret: bool) -> BTreeMap<String, Vec<u8>> {
    let decode = |text: &str| STANDARD.decode(text).unwrap_or_default();
    let fields = |name: &str| object[name].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plain = fields("data").map(|(key, value)| {
        let contents = if secret { decode(&text(value)) } else { text(value).into_bytes() };
        (key.clone(), contents)
    });
    let binary = fields("binaryData").map(|(key, value)| (key.clone(), decode(&text(value))));
    plain.chain(binary).collect()
}

fn downward(pod: &Pod, items: &[DownwardAPIVolumeFile], default: Option<i32>, sources: &Sources) -> Result<Entries, String> {
    let mut entries = Entries::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(pod, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let container = model::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
            let divisor = resource.divisor.as_ref().map(|divisor| divisor.0.as_str());
            resource_value(&container, &resource.resource, divisor, sources.capacity)?
        } else {
            String::new()
        };
        entries.insert(item.path.clone(), Entry { contents: text.into_bytes(), mode: mode(item.mode, default) });
    }
    Ok(entries)
}

async fn projection(
    access: &Access<'_>,
    pod: &Pod,
    part: &VolumeProjection,
    default: Option<i32>,
    sources: &Sources,
) -> Result<Entries, String> {
    if let Some(source) = &part.config_map {
        let keys = Keys { items: source.items.as_deref(), mode: default, optional: source.optional == Some(true) };
        return object(access, pod, CONFIG_MAPS, &source.name, keys).await;
    }
    if let Some(source) = &part.secret {
        let keys = Keys { items: source.items.as_deref(), mode: default, optional: source.optional == Some(true) };
        return object(access, pod, SECRETS, &source.name, keys).await;
    }
    if let Some(source) = &part.downward_api {
        return downward(pod, source.items.as_deref().unwrap_or_default(), default, sources);
    }
    if let Some(source) = &part.service_account_token {
        let contents = token(access, pod, source).await?.into_bytes();
        return Ok(Entries::from([(source.path.clone(), Entry { contents, mode: mode(None, default) })]));
    }
    if let Some(source) = &part.cluster_trust_bundle {
        return if source.optional == Some(true) {
            Ok(Entries::from([(source.path.clone(), Entry { contents: Vec::new(), mode: mode(None, default) })]))
        } else {
            Err("no ClusterTrustBundle fits the projection".to_owned())
        };
    }
    Err("this kind of projection is not supported on this node".to_owned())
}

/// A token of the pod's service account, bound to the pod; a new one when most of its time is over.
async fn token(access: &Access<'_>, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<String, String> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let audiences: Vec<&String> = source.audience.iter().filter(|audience| !audience.is_empty()).collect();
    let seconds = source.expiration_seconds.unwrap_or(3600);
    let key = format!("{} {audiences:?} {seconds}", model::uid(pod));
    if let Some(known) = access.tokens.get(&key) {
        return Ok(known);
    }
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": model::name(pod), "uid": model::uid(pod) },
        },
    });
    let made: Result<Value, _> =
        access.client.create_subresource(SERVICE_ACCOUNTS, model::namespace(pod), account, "token", &request).await;
    let made = made.map_err(|error| format!("failed to fetch token: {error}"))?;
    let token = made["status"]["token"].as_str().ok_or_else(|| "failed to fetch token: the answer has none".to_owned())?;
    access.tokens.keep(key, token, u64::try_from(seconds).unwrap_or(600));
    Ok(token.to_owned())
}
