//! What the cluster serves: built-in kinds, which are known, and those that others add while it runs.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use bytes::Bytes;
use futures::future::join_all;
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

/// Kinds that others add, as far as they could be found out.
#[derive(Debug, Default)]
pub struct Added {
    /// The kinds.
    pub served: Vec<Served>,
    /// Group versions whose server did not tell, and why.
    pub failures: BTreeMap<String, String>,
}

impl Added {
    /// Whether a kind may still be there although it was not found.
    pub fn may_have(&self, key: &ResourceKey) -> bool {
        self.failures.contains_key(&key.api_version())
    }

    /// What is missing, in Kubernetes' words; `None` if nothing is.
    pub fn problem(&self) -> Option<String> {
        if self.failures.is_empty() {
            return None;
        }
        let each: Vec<_> = self.failures.iter().map(|(version, error)| format!("{version}: {error}")).collect();
        let words = format!("unable to retrieve the complete list of server APIs: {}", each.join(", "));
        Some(format!("Discovery failed for some groups, {} failing: {words}", self.failures.len()))
    }
}

/// Kinds of groups that are not built in, in their preferred versions. A server that does not answer hides only its own.
pub async fn added(client: &Client) -> Result<Added, Error> {
    let known: HashSet<&str> = registry::all().iter().map(|resource| resource.key.group).collect();
    let groups: Groups = get(client, "/apis".to_owned()).await?;
    let others = groups.groups.into_iter().filter(|group| !known.contains(group.name.as_str()));
    let asked = others.map(async |group| {
        let (group, version) = (group.name, group.preferred_version.version);
        let found = get::<Resources>(client, format!("/apis/{group}/{version}")).await;
        (group, version, found)
    });
    let mut added = Added::default();
    for (group, version, found) in join_all(asked).await {
        match found {
            Ok(found) => added.served.extend(kinds(&group, &version, found)),
            // It has gone since it was listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                added.failures.insert(format!("{group}/{version}"), error.to_string());
            }
        }
    }
    Ok(added)
}

fn kinds<'a>(group: &'a str, version: &'a str, found: Resources) -> impl Iterator<Item = Served> + use<'a> {
    found.resources.into_iter().filter(|resource| !resource.name.contains('/')).map(move |resource| {
        let key = ResourceKey {
            group: interned(group),
            version: interned(version),
            plural: interned(&resource.name),
            kind: interned(&resource.kind),
            namespaced: resource.namespaced,
        };
        Served { key, verbs: resource.verbs }
    })
}

async fn get<T: DeserializeOwned>(client: &Client, path: String) -> Result<T, Error> {
    let body = client.request(Method::GET, path.clone(), "", Bytes::new()).await?;
    serde_json::from_slice(&body).map_err(|error| Error::Decode { path, message: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_of_others_are_found_and_what_hides_is_told() {
        let document = r#"{"resources": [
            {"name": "foos", "kind": "Foo", "namespaced": true, "verbs": ["delete", "deletecollection", "list", "watch"]},
            {"name": "foos/status", "kind": "Foo", "namespaced": true, "verbs": ["get"]}]}"#;
        let found: Vec<_> = kinds("example.com", "v1", serde_json::from_str(document).unwrap()).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key.path("n", "a"), "/apis/example.com/v1/namespaces/n/foos/a");
        assert!(found[0].can("deletecollection") && !found[0].can("get"));
        let mut added = Added { served: found, ..Added::default() };
        assert_eq!((added.problem(), added.may_have(&added.served[0].key)), (None, false));
        added.failures.insert("example.com/v1".into(), "the server is currently unable to handle the request".into());
        assert!(added.may_have(&added.served[0].key));
        assert_eq!(
            added.problem().unwrap(),
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
             example.com/v1: the server is currently unable to handle the request"
        );
    }
}
