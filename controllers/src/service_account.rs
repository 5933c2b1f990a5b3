//! What every namespace has: the `default` ServiceAccount and the authority's certificate.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use kontiki_api::resources::{CONFIG_MAPS, SERVICE_ACCOUNTS};
use kontiki_client::{Error, Patch, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Meta, objects},
    run::{self, Reconciled},
};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";

/// A ConfigMap, of which only the authority's certificate matters.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// What all objects have.
    pub metadata: Meta,
    /// The certificate, if this is the one that has it.
    pub data: RootCa,
}

/// The certificate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RootCa {
    /// PEM.
    #[serde(rename = "ca.crt")]
    pub certificate: String,
}

objects!(ConfigMap);

/// Begins to see to each namespace.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("serviceaccount");
    run::tell_own(&context.namespaces, &queue);
    let (accounts, maps) = (Arc::clone(&queue), Arc::clone(&queue));
    context.service_accounts.on_version(move |account| accounts.add(ObjectKey::new("", account.metadata.namespace.clone())));
    context.config_maps.on_version(move |map| {
        if map.metadata.name == ROOT_CA {
            maps.add(ObjectKey::new("", map.metadata.namespace.clone()));
        }
    });
    run::controller(context, &queue, "serviceaccount", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let name = &key.name;
    let active = context.namespaces.get("", name).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    if !active {
        return Ok(None);
    }
    let client = context.client();
    if context.service_accounts.get(name, ACCOUNT).is_none() {
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT } });
        exists(client.create::<Value>(SERVICE_ACCOUNTS, name, &account).await)?;
    }
    let certificate = &context.options.root_ca;
    match context.config_maps.get(name, ROOT_CA) {
        Some(found) if found.data.certificate == *certificate => {}
        Some(_) => {
            let patch = Patch::Merge(json!({ "data": { KEY: certificate } }));
            client.patch::<Value>(CONFIG_MAPS, name, ROOT_CA, None, patch).await?;
        }
        None => {
            let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
            let map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "name": ROOT_CA, "annotations": { "kubernetes.io/description": description } },
                "data": BTreeMap::from([(KEY, certificate)]),
            });
            exists(client.create::<Value>(CONFIG_MAPS, name, &map).await)?;
        }
    }
    Ok(None)
}

/// Somebody else may have been faster.
fn exists(created: Result<Value, Error>) -> Result<(), Error> {
    match created {
        Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => Err(error),
        _ => Ok(()),
    }
}
