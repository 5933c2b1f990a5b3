//! Certificate signing requests: approved where a node may have what it asks for, signed with the cluster's authority,
//! and taken away when they are old.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

mod clean;
mod request;
mod sign;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kontiki_api::{registry::reviews::SUBJECT_ACCESS_REVIEWS, resources::CERTIFICATE_SIGNING_REQUESTS};
use kontiki_client::{
    Client, DeleteOptions, Error,
    queue::WorkQueue,
    reflector::{Change, ObjectKey, Reflector, ReflectorOptions},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use sign::{Signer, SignerError};

/// How often old requests are looked for.
const CLEAN_PERIOD: Duration = Duration::from_secs(600);

/// How it begins with the others.
pub fn start(
    context: &std::sync::Arc<crate::context::Context>,
    cancel: CancellationToken,
) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(run(context.options.client.clone(), context.options.signer.clone(), cancel))
}

/// Approves, signs and cleans until `cancel`; without a signer nothing is signed.
async fn run(client: Client, signer: Option<Arc<Signer>>, cancel: CancellationToken) {
    let queue = Arc::new(WorkQueue::new("certificate"));
    let changed = Arc::clone(&queue);
    let on_change = move |change: &Change<Value>| changed.add(change.key.clone());
    let requests =
        Reflector::start(client.clone(), CERTIFICATE_SIGNING_REQUESTS, ReflectorOptions::default(), on_change, cancel.clone());
    requests.synced().await;
    let reconcile = move |key: ObjectKey| {
        let (client, signer, object) = (client.clone(), signer.clone(), requests.get("", &key.name));
        async move {
            match object {
                Some(object) => reconcile(&client, signer.as_deref(), &object).await,
                None => Ok(None),
            }
        }
    };
    crate::run::run(queue, "certificate", cancel, reconcile).await;
}

async fn reconcile(client: &Client, signer: Option<&Signer>, object: &Value) -> Result<Option<Duration>, Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let now = Timestamp::now();
    if clean::is_old(object, now) {
        client.delete(CERTIFICATE_SIGNING_REQUESTS, "", name, &DeleteOptions::default()).await?;
        return Ok(None);
    }
    if !request::is_decided(object) {
        approve(client, name, object, now).await?;
    } else if let Some(signer) = signer.filter(|_| request::wants_certificate(object)) {
        let mut object = object.clone();
        match signer.sign(&object, now) {
            Ok(certificate) => object["status"]["certificate"] = json!(certificate),
            Err(error) => add_condition(&mut object, "Failed", "SignerValidationFailure", &error.to_string(), now),
        }
        client.update_status::<Value>(CERTIFICATE_SIGNING_REQUESTS, "", name, &object).await?;
    }
    Ok(Some(CLEAN_PERIOD))
}

/// Approves what a kubelet asks for, if the roles let it.
async fn approve(client: &Client, name: &str, object: &Value, now: Timestamp) -> Result<(), Error> {
    let Some(permissions) = request::kubelet_permissions(object) else { return Ok(()) };
    for (subresource, message) in permissions {
        let spec = &object["spec"];
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec["username"],
                "uid": spec["uid"].as_str().unwrap_or_default(),
                "groups": spec["groups"].as_array().cloned().unwrap_or_default(),
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
                    "version": "*", "subresource": subresource,
                },
            },
        });
        let answer: Value = client.create(SUBJECT_ACCESS_REVIEWS, "", &review).await?;
        if answer["status"]["allowed"] == true {
            let mut object = object.clone();
            add_condition(&mut object, "Approved", "AutoApproved", message, now);
            let key = CERTIFICATE_SIGNING_REQUESTS;
            client.update_subresource::<Value>(key, "", name, "approval", &object).await?;
            return Ok(());
        }
    }
    Ok(())
}

fn add_condition(object: &mut Value, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let time = kontiki_api::object::meta::time(now);
    let condition = json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": time, "lastTransitionTime": time,
    });
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(condition);
    object["status"]["conditions"] = Value::Array(conditions);
}
