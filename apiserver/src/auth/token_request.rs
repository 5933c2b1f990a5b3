//! `serviceaccounts/NAME/token`: issues a token.
//!
//! Unlike kube-apiserver, the time that was asked for is the token's real time: tokens of 3607
//! seconds are not extended to a year, because every kubelet and client that runs here renews them.

use jiff::Timestamp;
use kontiki_api::{
    field::FieldError,
    resources::{self, ResourceKey},
    status::Status,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Authenticator,
    claims::{Bound, Claims, Reference},
    user,
};

const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<BoundObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BoundObject {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
}

/// Answers a TokenRequest for a service account: the request with its status filled in.
pub async fn answer(
    authenticator: &Authenticator,
    namespace: &str,
    name: &str,
    mut request: Value,
    now: Timestamp,
) -> Result<Value, Status> {
    let spec = Spec::deserialize(&request["spec"]).map_err(|error| Status::bad_request(error.to_string()))?;
    let seconds = spec.expiration_seconds.unwrap_or(EXPIRATION_SECONDS_DEFAULT);
    check_expiration(seconds)?;
    let account = find(authenticator, &resources::SERVICE_ACCOUNTS, namespace, name).await?;
    let mut bound = Bound {
        namespace: namespace.to_owned(),
        serviceaccount: Reference { name: name.to_owned(), uid: uid(&account) },
        ..Bound::default()
    };
    if let Some(object) = &spec.bound_object_ref {
        bind(authenticator, object, &mut bound).await?;
    }
    let audiences = spec.audiences.filter(|list| !list.is_empty()).unwrap_or_else(|| authenticator.audiences().to_vec());
    let issued = now.as_second();
    let claims = Claims {
        aud: audiences.clone(),
        exp: issued + seconds,
        iat: issued,
        iss: authenticator.issuer().to_owned(),
        jti: Uuid::new_v4().to_string(),
        nbf: issued,
        sub: user::service_account_name(namespace, name),
        bound,
    };
    let token =
        authenticator.keys().sign(&claims).map_err(|error| Status::internal_error(format!("failed to sign token: {error}")))?;
    let expires = Timestamp::from_second(claims.exp).map_err(|error| Status::internal_error(error.to_string()))?;
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": format!("{now:.0}")});
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = json!(seconds);
    request["spec"]["boundObjectRef"] = request["spec"].get("boundObjectRef").cloned().unwrap_or_default();
    request["status"] = json!({"token": token, "expirationTimestamp": format!("{expires:.0}")});
    Ok(request)
}

fn check_expiration(seconds: i64) -> Result<(), Status> {
    let detail = if seconds < EXPIRATION_SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > EXPIRATION_SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid("spec.expirationSeconds", &json!(seconds), detail);
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
}

/// Binds a token to a pod (with its node), a node or a secret.
async fn bind(authenticator: &Authenticator, object: &BoundObject, bound: &mut Bound) -> Result<(), Status> {
    let key = match (object.api_version.as_str(), object.kind.as_str()) {
        ("v1", "Pod") => resources::PODS,
        ("v1", "Node") => resources::NODES,
        ("v1", "Secret") => resources::SECRETS,
        (version, kind) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            return Err(Status::bad_request(format!("cannot bind token to object of type {group}/{version}, Kind={kind}")));
        }
    };
    let namespace = if key.namespaced { bound.namespace.clone() } else { String::new() };
    let found = find(authenticator, &key, &namespace, &object.name).await?;
    if key == resources::PODS {
        let account = &bound.serviceaccount.name;
        if found["spec"]["serviceAccountName"].as_str() != Some(account) {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        if let Some(node) = found["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            let known = lookup(authenticator, &resources::NODES, "", node).await?;
            bound.node = Some(Reference { name: node.to_owned(), uid: known.as_ref().map(uid).unwrap_or_default() });
        }
    }
    let reference = Reference { name: object.name.clone(), uid: uid(&found) };
    if !object.uid.is_empty() && object.uid != reference.uid {
        return Err(Status::conflict(
            "",
            &object.kind,
            &object.name,
            &format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                object.uid
            ),
        ));
    }
    match key {
        resources::PODS => bound.pod = Some(reference),
        resources::NODES => bound.node = Some(reference),
        _ => bound.secret = Some(reference),
    }
    Ok(())
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

async fn lookup(authenticator: &Authenticator, key: &ResourceKey, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    match authenticator.objects().cached(key, namespace, name) {
        Some(object) => Ok(Some(object)),
        None => authenticator.objects().fresh(key, namespace, name).await,
    }
}

async fn find(authenticator: &Authenticator, key: &ResourceKey, namespace: &str, name: &str) -> Result<Value, Status> {
    lookup(authenticator, key, namespace, name).await?.ok_or_else(|| Status::not_found(key.group, key.plural, name))
}
