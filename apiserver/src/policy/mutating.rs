//! MutatingAdmissionPolicy.

use async_trait::async_trait;
use kontiki_api::{
    custom::shape,
    managed::{merge, shape::Node},
    patch::{self, PatchType},
    registry::Resource,
    resources::{MUTATING_ADMISSION_POLICIES, MUTATING_ADMISSION_POLICY_BINDINGS},
    status::Status,
};
use kontiki_cel::{Budget, to_json};
use serde_json::Value;

use super::{
    expression::Scope,
    select::{Bound, select},
};
use crate::{
    admission::{Plugin, Request},
    service::ApiServer,
    webhook::{conditions, in_version, matching, namespace_of},
};

/// Policies that may change an object.
pub struct MutatingAdmissionPolicy;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The object with what an apply configuration sets: lists and maps are merged as their schema says.
fn applied(resource: &Resource, object: &Value, configuration: &Value) -> Value {
    let merged = match resource.strategy.custom() {
        Some(served) => match &served.version().schema {
            Some(schema) => {
                let root = shape::Root(schema);
                let node = Node { kind: kontiki_api::managed::shape::Kind::Object(&root), atomic: false };
                merge(node, Some(object), Some(configuration))
            }
            None => merge(Node::ANY, Some(object), Some(configuration)),
        },
        None => merge(resource.type_().map_or(Node::ANY, Node::of), Some(object), Some(configuration)),
    };
    merged.unwrap_or_else(|| object.clone())
}

/// What one mutation makes of an object. Pure.
fn mutated(resource: &Resource, object: &Value, mutation: &Value, scope: &Scope<'_>) -> Result<Value, String> {
    let mut budget = Budget::new(Budget::PER_OBJECT);
    match text(mutation, "/patchType") {
        "ApplyConfiguration" => {
            let configuration = scope.evaluate(text(mutation, "/applyConfiguration/expression"), &mut budget)?;
            let configuration = to_json(&configuration).filter(Value::is_object).ok_or("not an apply configuration")?;
            Ok(applied(resource, object, &configuration))
        }
        "JSONPatch" => {
            let patch = scope.evaluate(text(mutation, "/jsonPatch/expression"), &mut budget)?;
            let patch = to_json(&patch).filter(Value::is_array).ok_or("not a list of JSONPatch")?;
            patch::apply_untyped(PatchType::Json, object, patch.to_string().as_bytes()).map_err(|status| status.message)
        }
        other => Err(format!("unsupported patch type {other:?}")),
    }
}

fn denied(request: &Request<'_>, bound: &Bound, error: &str) -> Status {
    let (policy, binding) = (bound.policy_name(), bound.binding_name());
    request.forbidden(format!("MutatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {error}"))
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        !matching::is_exempt(request)
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        if object.is_null() {
            return Ok(());
        }
        let keys = (&MUTATING_ADMISSION_POLICIES, &MUTATING_ADMISSION_POLICY_BINDINGS);
        let mut again = Vec::new();
        for bound in select(server, keys, request, object, old) {
            if apply(server, request, &bound, object, old).await? {
                again.push(bound);
            }
        }
        // A policy that wants it sees what the later ones have made.
        for bound in again.into_iter().filter(|bound| bound.policy["spec"]["reinvocationPolicy"] == "IfNeeded") {
            apply(server, request, &bound, object, old).await?;
        }
        Ok(())
    }
}

/// Applies one policy; whether it had a say.
async fn apply(
    server: &ApiServer,
    request: &Request<'_>,
    bound: &Bound,
    object: &mut Value,
    old: &Value,
) -> Result<bool, Status> {
    let own = request.resource;
    let seen = in_version(server, own, bound.matched, object).await?;
    let old = in_version(server, own, bound.matched, old).await?;
    let changed = match run(server, request, bound, &seen, &old) {
        Ok(Some(changed)) => changed,
        Ok(None) => return Ok(false),
        Err(_) if bound.ignores_failures() => return Ok(false),
        Err(error) => return Err(denied(request, bound, &error)),
    };
    let mut changed = in_version(server, bound.matched, own, &changed).await?;
    if changed["kind"] == own.key.kind {
        own.clean(&mut changed)?;
        own.strategy.set_defaults(&mut changed);
    }
    *object = changed;
    Ok(true)
}

fn run(server: &ApiServer, request: &Request<'_>, bound: &Bound, object: &Value, old: &Value) -> Result<Option<Value>, String> {
    let namespace = namespace_of(server, request);
    let mut current = object.clone();
    for params in bound.parameters.as_ref().map_err(Clone::clone)? {
        let base = || conditions::variables(&server.authorizer, request, bound.matched, &current, old, namespace.as_ref());
        if !conditions::all_hold(&bound.policy["spec"]["matchConditions"], &base())? {
            return Ok(None);
        }
        for mutation in bound.policy["spec"]["mutations"].as_array().into_iter().flatten() {
            // Each mutation sees what the ones before it have made.
            let base = conditions::variables(&server.authorizer, request, bound.matched, &current, old, namespace.as_ref());
            current = mutated(bound.matched, &current, mutation, &Scope::new(&base, &bound.policy, params))?;
        }
    }
    Ok(Some(current))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use kontiki_api::{registry, resources::DEPLOYMENTS};
    use serde_json::json;

    use super::*;

    fn check(mutation: Value, pointer: &str, expected: Value) {
        let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "template": {"spec": {
            "containers": [{"name": "a", "image": "x"}]}}}});
        let base = BTreeMap::from([("object".to_owned(), conditions::dynamic(&deployment))]);
        let scope = Scope::new(&base, &Value::Null, &Value::Null);
        let resource = registry::of(&DEPLOYMENTS).unwrap();
        let changed = mutated(resource, &deployment, &mutation, &scope).unwrap();
        assert_eq!(changed.pointer(pointer), Some(&expected), "{changed}");
    }

    #[test]
    fn configurations_are_merged_and_patches_applied() {
        let apply =
            |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
        let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
        check(apply("Object{spec: Object.spec{replicas: 1337}}"), "/spec/replicas", json!(1337));
        check(
            apply("Object{metadata: Object.metadata{annotations: {\"my-foo-annotation\": \"myvalue\"}}}"),
            "/metadata/annotations",
            json!({"my-foo-annotation": "myvalue"}),
        );
        check(
            apply(
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'b', image: 'y'}]}}}}",
            ),
            "/spec/template/spec/containers",
            json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]),
        );
        check(
            patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': string(object.spec.replicas)}}]"),
            "/metadata/labels",
            json!({"a": "1"}),
        );
    }
}
