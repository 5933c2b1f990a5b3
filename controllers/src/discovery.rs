//! What the cluster serves: built-in kinds, which are known, and those that others add while it runs.

use std::{collections::HashSet, sync::LazyLock};

use bytes::Bytes;
use http::Method;
use kontiki_api::{registry, resources::ResourceKey};
use kontiki_client::{Client, Error};
use parking_lot::Mutex;
use serde::{Deserialize, de::DeserializeOwned};

/// A kind and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub key: ResourceKey,
    verbs: Vec<String>,
}

impl Served {
    /// Whether something can be done with it.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    preferred_version: Version,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Kinds that are built in.
pub fn built_in() -> Vec<Served> {
    let verbs = |verbs: &[&str]| verbs.iter().map(|verb| (*verb).to_owned()).collect();
    // One object that is served in several versions is found in the one that it is stored as.
    let stored = registry::all().iter().filter(|resource| resource.conversion.is_none());
    stored.map(|resource| Served { key: resource.key, verbs: verbs(resource.verbs) }).collect()
}

/// One text for ever: names of kinds are few, and the same ones come again.
fn interned(text: &str) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut texts = TEXTS.lock();
    if let Some(known) = texts.get(text) {
        return known;
    }
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(text);
    text
}

/// Kinds of groups that are not built in, in their preferred versions.
pub async fn added(client: &Client) -> Result<Vec<Served>, Error> {
    let known: HashSet<&str> = registry::all().iter().map(|resource| resource.key.group).collect();
    let groups: Groups = get(client, "/apis".to_owned()).await?;
    let mut served = Vec::new();
    for group in groups.groups.into_iter().filter(|group| !known.contains(group.name.as_str())) {
        let version = group.preferred_version.version;
        let found: Resources = get(client, format!("/apis/{}/{version}", group.name)).await?;
        for resource in found.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
            let key = ResourceKey {
                group: interned(&group.name),
                version: interned(&version),
                plural: interned(&resource.name),
                kind: interned(&resource.kind),
                namespaced: resource.namespaced,
            };
            served.push(Served { key, verbs: resource.verbs });
        }
    }
    Ok(served)
}

async fn get<T: DeserializeOwned>(client: &Client, path: String) -> Result<T, Error> {
    let body = client.request(Method::GET, path.clone(), "", Bytes::new()).await?;
    serde_json::from_slice(&body).map_err(|error| Error::Decode { path, message: error.to_string() })
}
