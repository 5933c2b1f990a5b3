//! What a ValidatingAdmissionPolicy's status says of its expressions: how they fare with the kinds that they are about.
//!
//! A warning stops nothing: a field may be there that the schema does not know.

use std::collections::BTreeSet;

use kontiki_cel::{Type, TypeTable};
use serde_json::{Value, json};

use super::{Returns, Scope, declare};
use crate::{object::text, registry::Resource};

/// Kinds that are looked at for one rule.
const KINDS_MAX: usize = 10;

/// The status of a policy, among the kinds that are served.
#[must_use]
pub fn status(policy: &Value, served: &[&'static Resource]) -> Value {
    let warnings = warnings(policy, served);
    let mut checked = json!({});
    if !warnings.is_empty() {
        checked["expressionWarnings"] = json!(warnings);
    }
    json!({ "observedGeneration": policy["metadata"]["generation"], "typeChecking": checked })
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The kinds that a policy names one by one, in order.
fn kinds(policy: &Value, served: &[&'static Resource]) -> Vec<&'static Resource> {
    let mut found: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    for rule in items(policy, "/spec/matchConstraints/resourceRules") {
        let words = |field: &str| -> Vec<&str> { items(rule, &format!("/{field}")).filter_map(Value::as_str).collect() };
        let (groups, versions, resources) = (words("apiGroups"), words("apiVersions"), words("resources"));
        if groups.iter().chain(&versions).any(|word| word.contains('*')) {
            continue;
        }
        let is_meant = |resource: &&&'static Resource| {
            let key = &resource.key;
            groups.contains(&key.group) && versions.contains(&key.version) && resources.contains(&key.plural)
        };
        let meant = served.iter().filter(is_meant).take(KINDS_MAX);
        found.extend(meant.map(|resource| (resource.key.group, resource.key.version, resource.key.kind)));
    }
    let by_kind = |(group, version, kind): (&str, &str, &str)| {
        served.iter().find(|one| one.key.group == group && one.key.version == version && one.key.kind == kind).copied()
    };
    found.into_iter().filter_map(by_kind).collect()
}

/// What one kind is to the expressions of a policy.
fn scope(policy: &Value, resource: &Resource, served: &[&'static Resource]) -> Option<Scope> {
    let mut types = TypeTable::default();
    let mut scope = Scope::new();
    scope.object = declare::of(resource, &mut types)?;
    let kind = &policy["spec"]["paramKind"];
    if kind.is_object() {
        let is_meant =
            |one: &&&'static Resource| one.key.api_version() == text(kind, "/apiVersion") && one.key.kind == text(kind, "/kind");
        let params = served.iter().find(is_meant).and_then(|resource| declare::of(resource, &mut types));
        scope.params = Some(params.unwrap_or(Type::Dyn));
    }
    scope.types = types;
    for variable in items(policy, "/spec/variables") {
        // One that is wrong is told where it is used.
        let type_ = scope.check(text(variable, "/expression"), Returns::Any).unwrap_or(Type::Dyn);
        scope.declare(text(variable, "/name"), type_);
    }
    Some(scope)
}

fn warnings(policy: &Value, served: &[&'static Resource]) -> Vec<Value> {
    let kinds = kinds(policy, served);
    let scopes: Vec<(&Resource, Scope)> =
        kinds.into_iter().filter_map(|resource| Some((resource, scope(policy, resource, served)?))).collect();
    let mut warnings = Vec::new();
    for (index, validation) in items(policy, "/spec/validations").enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, &format!("/{field}"));
            if source.is_empty() {
                continue;
            }
            let told = scopes.iter().filter_map(|(resource, scope)| {
                let error = scope.check(source, Returns::Any).err()?;
                let (version, kind) = (resource.key.api_version(), resource.key.kind);
                Some(format!("{version}, Kind={kind}: {error}\n"))
            });
            let told: Vec<String> = told.collect();
            if !told.is_empty() {
                let field = format!("spec.validations[{index}].{field}");
                warnings.push(json!({ "fieldRef": field, "warning": told.join("\n") }));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::registry;

    fn policy(validations: Value) -> Value {
        json!({"metadata": {"generation": 3}, "spec": {
            "variables": [{"name": "count", "expression": "object.spec.replicas"}],
            "validations": validations,
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/status", "replicasets"]},
                {"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]}]}}})
    }

    #[test]
    fn fields_that_a_kind_does_not_have_are_told() {
        let served = registry::with_custom(&[]);
        let good = policy(json!([
            {"expression": "variables.count > 1 && object.metadata.labels['a'] == 'b'"},
            {"expression": "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && has(c.resources.limits))",
             "messageExpression": "string(object.metadata.creationTimestamp)"}]));
        assert_eq!(status(&good, &served), json!({"observedGeneration": 3, "typeChecking": {}}));
        let bad = policy(json!([
            {"expression": "object.foo > 1", "messageExpression": "object.bar"},
            {"expression": "object.spec.strategy.type == 'Recreate'"},
            {"expression": "variables.count == 'one'"}]));
        let found = warnings(&bad, &served);
        let fields: Vec<_> = found.iter().map(|warning| warning["fieldRef"].as_str().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "spec.validations[0].expression",
                "spec.validations[0].messageExpression",
                "spec.validations[1].expression",
                "spec.validations[2].expression"
            ]
        );
        let words = found[0]["warning"].as_str().unwrap();
        assert!(
            words.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:7: undefined field 'foo'"),
            "{words}"
        );
        assert!(words.contains("\n\napps/v1, Kind=ReplicaSet: "), "{words}");
        let words = found[2]["warning"].as_str().unwrap();
        assert!(words.starts_with("apps/v1, Kind=ReplicaSet: ") && !words.contains("Deployment"), "{words}");
        assert!(found[3]["warning"].as_str().unwrap().contains("found no matching overload for '_==_'"), "{found:?}");
    }
}
