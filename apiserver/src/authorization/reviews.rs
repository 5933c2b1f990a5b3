//! Access reviews and rules reviews: questions about what somebody may do.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>

use kontiki_api::{
    field::FieldError,
    registry::reviews::{
        LOCAL_SUBJECT_ACCESS_REVIEWS, SELF_SUBJECT_ACCESS_REVIEWS, SELF_SUBJECT_RULES_REVIEWS, SUBJECT_ACCESS_REVIEWS,
    },
    resources::ResourceKey,
    status::Status,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Authorizer, Decision, rules::PolicyRule};
use crate::auth::UserInfo;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<PathAttributes>,
    user: String,
    groups: Option<Vec<String>>,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

/// Answers a review: the object with its status filled in. `namespace` is that of the path.
pub fn answer(
    authorizer: &Authorizer,
    key: &ResourceKey,
    namespace: &str,
    user: &UserInfo,
    mut review: Value,
) -> Result<Value, Status> {
    let status = if *key == SELF_SUBJECT_RULES_REVIEWS {
        rules_status(authorizer, user, &review["spec"])?
    } else {
        access_status(authorizer, key, namespace, user, &review["spec"])?
    };
    review["kind"] = json!(key.kind);
    review["apiVersion"] = json!(key.api_version());
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    review["metadata"]["creationTimestamp"] = Value::Null;
    review["status"] = status;
    Ok(review)
}

fn access_status(
    authorizer: &Authorizer,
    key: &ResourceKey,
    namespace: &str,
    user: &UserInfo,
    spec: &Value,
) -> Result<Value, Status> {
    let spec = Option::<Spec>::deserialize(spec).map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
    let about_self = *key == SELF_SUBJECT_ACCESS_REVIEWS;
    let errors = mistakes(&spec, about_self);
    if !errors.is_empty() {
        return Err(Status::invalid(key.group, key.kind, "", &errors));
    }
    if *key == LOCAL_SUBJECT_ACCESS_REVIEWS {
        let own = spec.resource_attributes.as_ref().map(|resource| resource.namespace.as_str());
        if own != Some(namespace) {
            return Err(Status::bad_request(format!("spec.resourceAttributes.namespace must match namespace: {namespace}")));
        }
    } else if !about_self && *key != SUBJECT_ACCESS_REVIEWS {
        return Err(Status::no_such_path());
    }
    let request = attributes(&spec);
    let decision = if about_self {
        authorizer.authorize(user, &request)
    } else {
        let groups = spec.groups.unwrap_or_default();
        authorizer.authorize(&UserInfo { name: spec.user, groups, uid: spec.uid, ..UserInfo::default() }, &request)
    };
    let (allowed, reason) = match decision {
        Decision::Allowed(reason) => (true, reason),
        Decision::Denied(reason) => (false, reason),
    };
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    Ok(status)
}

fn mistakes(spec: &Spec, about_self: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(_), Some(path)) => errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            &json!({"path": path.path, "verb": path.verb}),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if !about_self && spec.user.is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        errors.push(FieldError::invalid("spec.user", &json!(""), "at least one of user or group must be specified"));
    }
    errors
}

fn attributes(spec: &Spec) -> Attributes {
    if let Some(path) = &spec.non_resource_attributes {
        return Attributes::of_path(&path.verb, &path.path);
    }
    let Some(resource) = &spec.resource_attributes else { return Attributes::default() };
    Attributes {
        verb: resource.verb.clone(),
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.resource.clone(),
        subresource: resource.subresource.clone(),
        namespace: resource.namespace.clone(),
        name: resource.name.clone(),
        ..Attributes::default()
    }
}

fn rules_status(authorizer: &Authorizer, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = authorizer.roles().rules_for(user, namespace);
    let (resource, path): (Vec<&PolicyRule>, Vec<&PolicyRule>) = rules.iter().partition(|rule| rule.non_resource_urls.is_empty());
    Ok(json!({"resourceRules": resource, "nonResourceRules": path, "incomplete": false}))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::authorization::Index;

    fn authorizer() -> Authorizer {
        let mut index = Index::default();
        let role = json!({"rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "nonResourceURLs": ["/healthz"]},
        ]});
        let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "alice"}]});
        index.set_role("", "r", Some(role.to_string().as_bytes()));
        index.set_binding("", "b", Some(binding.to_string().as_bytes()));
        Authorizer::with_roles(index)
    }

    fn ask(key: &ResourceKey, namespace: &str, spec: &Value) -> Result<Value, String> {
        let alice = UserInfo::authenticated("alice", [""; 0]);
        answer(&authorizer(), key, namespace, &alice, json!({"spec": spec}))
            .map(|answer| answer["status"].clone())
            .map_err(|status| status.message)
    }

    #[test]
    fn reviews_say_what_the_authorizer_would() {
        let pods = |verb: &str| json!({"verb": verb, "resource": "pods", "namespace": "a"});
        let reason = r#"RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "alice""#;
        let cases = [
            (SELF_SUBJECT_ACCESS_REVIEWS, "", json!({"resourceAttributes": pods("get")}), Ok(json!({"allowed": true, "reason": reason}))),
            (SELF_SUBJECT_ACCESS_REVIEWS, "", json!({"resourceAttributes": pods("list")}), Ok(json!({"allowed": false}))),
            (
                SUBJECT_ACCESS_REVIEWS,
                "",
                json!({"user": "bob", "nonResourceAttributes": {"path": "/healthz", "verb": "get"}}),
                Ok(json!({"allowed": false})),
            ),
            (
                LOCAL_SUBJECT_ACCESS_REVIEWS,
                "a",
                json!({"user": "alice", "resourceAttributes": pods("get")}),
                Ok(json!({"allowed": true, "reason": reason})),
            ),
            (
                LOCAL_SUBJECT_ACCESS_REVIEWS,
                "b",
                json!({"user": "alice", "resourceAttributes": pods("get")}),
                Err("spec.resourceAttributes.namespace must match namespace: b".to_owned()),
            ),
            (
                SELF_SUBJECT_ACCESS_REVIEWS,
                "",
                json!({}),
                Err("SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: \
                     exactly one of nonResourceAttributes or resourceAttributes must be specified"
                    .to_owned()),
            ),
        ];
        for (key, namespace, spec, expected) in cases {
            assert_eq!(ask(&key, namespace, &spec), expected, "{} {spec}", key.kind);
        }
    }

    #[test]
    fn rules_are_listed_for_a_namespace() {
        let status = ask(&SELF_SUBJECT_RULES_REVIEWS, "", &json!({"namespace": "a"})).unwrap();
        assert_eq!(status["resourceRules"], json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        assert_eq!(status["nonResourceRules"], json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]));
        assert!(ask(&SELF_SUBJECT_RULES_REVIEWS, "", &json!({})).is_err());
    }
}
