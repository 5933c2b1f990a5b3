//! ValidatingAdmissionPolicy.

use async_trait::async_trait;
use kontiki_api::{
    resources::{VALIDATING_ADMISSION_POLICIES, VALIDATING_ADMISSION_POLICY_BINDINGS},
    status::Status,
};
use kontiki_cel::{Budget, Value as CelValue};
use serde_json::{Value, json};

use super::{
    expression::Scope,
    select::{Bound, select},
};
use crate::{
    admission::{Plugin, Request},
    service::ApiServer,
    webhook::{conditions, in_version, matching, namespace_of},
};

/// Annotation of the audit event with what failed.
const AUDIT: &str = "validation.policy.admission.k8s.io/validation_failure";

/// Policies that may refuse an object.
pub struct ValidatingAdmissionPolicy;

/// A validation that does not hold.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    message: String,
    reason: String,
    expression_index: usize,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Evaluates a policy's validations. Pure.
fn judge(policy: &Value, scope: &Scope<'_>, ignores: bool) -> Vec<Refusal> {
    let mut budget = Budget::new(Budget::PER_OBJECT);
    let mut refusals = Vec::new();
    for (index, validation) in policy["spec"]["validations"].as_array().into_iter().flatten().enumerate() {
        let expression = text(validation, "expression").trim();
        let (message, reason) = match scope.evaluate(expression, &mut budget) {
            Ok(CelValue::Bool(true)) => continue,
            Ok(_) => (failed_message(validation, expression, scope, &mut budget), text(validation, "reason").to_owned()),
            Err(_) if ignores => continue,
            Err(error) => (format!("expression '{expression}' resulted in error: {error}"), String::new()),
        };
        let reason = if reason.is_empty() { "Invalid".to_owned() } else { reason };
        refusals.push(Refusal { message, reason, expression_index: index });
    }
    refusals
}

fn failed_message(validation: &Value, expression: &str, scope: &Scope<'_>, budget: &mut Budget) -> String {
    let made = text(validation, "messageExpression");
    if !made.is_empty()
        && let Ok(CelValue::String(message)) = scope.evaluate(made, budget)
        && !message.trim().is_empty()
        && !message.contains('\n')
    {
        return message.trim().to_owned();
    }
    match text(validation, "message").trim() {
        "" => format!("failed expression: {expression}"),
        message => message.to_owned(),
    }
}

fn code(reason: &str) -> u16 {
    match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    }
}

/// The refusal of a request, in kube-apiserver's words.
fn denied(request: &Request<'_>, bound: &Bound, refusal: &Refusal) -> Status {
    let message = format!(
        "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
        bound.policy_name(),
        bound.binding_name(),
        refusal.message
    );
    let mut status = request.forbidden(&message).with_cause("", message, "");
    status.reason.clone_from(&refusal.reason);
    status.code = code(&refusal.reason);
    status
}

/// Does what a binding wants done about a refusal.
fn enforce(request: &Request<'_>, bound: &Bound, refusal: &Refusal) -> Result<(), Status> {
    let actions: Vec<&str> =
        bound.binding["spec"]["validationActions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if actions.contains(&"Audit") {
        let entry = json!([{
            "message": refusal.message, "policy": bound.policy_name(), "binding": bound.binding_name(),
            "expressionIndex": refusal.expression_index, "validationActions": actions,
        }]);
        request.annotate(AUDIT, entry.to_string());
    }
    if actions.contains(&"Warn") {
        request.warn(format!(
            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
            bound.policy_name(),
            bound.binding_name(),
            refusal.message
        ));
    }
    if actions.contains(&"Deny") { Err(denied(request, bound, refusal)) } else { Ok(()) }
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        !matching::is_exempt(request) && request.resource.key.group != "authorization.k8s.io"
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let keys = (&VALIDATING_ADMISSION_POLICIES, &VALIDATING_ADMISSION_POLICY_BINDINGS);
        for bound in select(server, keys, request, object, old) {
            let object = in_version(server, request.resource, bound.matched, object).await?;
            let old = in_version(server, request.resource, bound.matched, old).await?;
            evaluate(server, request, &bound, &object, &old)?;
        }
        Ok(())
    }
}

fn evaluate(server: &ApiServer, request: &Request<'_>, bound: &Bound, object: &Value, old: &Value) -> Result<(), Status> {
    let ignores = bound.ignores_failures();
    let failed = |message: String| Refusal { message, reason: "Invalid".to_owned(), expression_index: 0 };
    let parameters = match &bound.parameters {
        Ok(parameters) => parameters,
        Err(_) if ignores => return Ok(()),
        Err(error) => return enforce(request, bound, &failed(error.clone())),
    };
    let namespace = namespace_of(server, request);
    let base = conditions::variables(&server.authorizer, request, bound.matched, object, old, namespace.as_ref());
    match conditions::all_hold(&bound.policy["spec"]["matchConditions"], &base) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(_) if ignores => return Ok(()),
        Err(error) => return enforce(request, bound, &failed(error)),
    }
    for params in parameters {
        let scope = Scope::new(&base, &bound.policy, params);
        for refusal in judge(&bound.policy, &scope, ignores) {
            enforce(request, bound, &refusal)?;
        }
        for annotation in bound.policy["spec"]["auditAnnotations"].as_array().into_iter().flatten() {
            let value = scope.evaluate(text(annotation, "valueExpression"), &mut Budget::new(Budget::PER_CALL));
            if let Ok(CelValue::String(value)) = value {
                request.annotate(format!("{}/{}", bound.policy_name(), text(annotation, "key")), value.to_string());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn check(validation: Value, ignores: bool, expected: &[&str]) {
        let policy = json!({"spec": {"validations": [validation]}});
        let base = BTreeMap::from([("object".to_owned(), conditions::dynamic(&json!({"spec": {"replicas": 1}})))]);
        let refusals = judge(&policy, &Scope::new(&base, &policy, &Value::Null), ignores);
        assert_eq!(refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn validations_refuse_in_kubernetes_words() {
        check(json!({"expression": "object.spec.replicas == 1"}), false, &[]);
        check(json!({"expression": "object.spec.replicas > 1"}), false, &["failed expression: object.spec.replicas > 1"]);
        check(
            json!({"expression": "object.spec.replicas > 1", "messageExpression": "'got ' + string(object.spec.replicas)"}),
            false,
            &["got 1"],
        );
        // A message that cannot be made gives way to the usual one.
        check(
            json!({"expression": "object.spec.replicas > 1", "messageExpression": "'got ' + object.spec.replicas"}),
            false,
            &["failed expression: object.spec.replicas > 1"],
        );
        let broken = json!({"expression": "object.spec.none > 1"});
        check(broken.clone(), false, &["expression 'object.spec.none > 1' resulted in error: no such key: none"]);
        check(broken, true, &[]);
    }
}
