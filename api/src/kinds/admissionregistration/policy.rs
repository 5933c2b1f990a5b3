//! ValidatingAdmissionPolicy, MutatingAdmissionPolicy, and their bindings.
//!
//! Expressions are compiled when they are written down; what they mean to a request is judged where it is asked.

use std::collections::BTreeSet;

use kontiki_cel::Type;
use serde_json::{Value, json};

use super::matching::{self, FAILURE_POLICIES, compiles};
use crate::{
    expressions::{Returns, Scope},
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, items, map_of, name},
        deployment::selector_text,
        kind::{Errors, Kind},
    },
    names,
    object::text,
    strategy::Column,
};

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const NEITHER: &str = "validations or auditAnnotations must contain at least one item";
const PARAM_KIND: Column = column("ParamKind", "string", 0, "Kind of the objects that it takes parameters from.");

/// ValidatingAdmissionPolicy.
pub static VALIDATING_ADMISSION_POLICY: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    defaults: set_defaults,
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        let mut scope = check_common(&spec, errors);
        let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            validations.required(NEITHER, errors);
            annotations.required(NEITHER, errors);
        }
        validations.each().for_each(|validation| check_validation(&validation, &scope, errors));
        check_annotations(&annotations, &scope, errors);
        scope.authorizer = false;
        for computed in validations.each().map(|validation| validation.get("messageExpression")) {
            if !computed.text().trim().is_empty() {
                compiles(&computed, &scope, Returns::Text, errors);
            }
        }
    },
    columns: &[NAME, column("Validations", "integer", 0, "Rules that a request must keep."), PARAM_KIND, AGE],
    cells: |object, now| cells(object, "/spec/validations", now),
    ..Kind::COUNTED_WITH_STATUS
};

/// MutatingAdmissionPolicy.
pub static MUTATING_ADMISSION_POLICY: Kind = Kind {
    defaults: set_defaults,
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        let mut scope = check_common(&spec, errors);
        scope.constructs = true;
        let mutations = spec.get("mutations");
        if mutations.is_empty() {
            mutations.required("mutations must contain at least one item", errors);
        }
        for mutation in mutations.each() {
            mutation.get("patchType").required_one_of(&["ApplyConfiguration", "JSONPatch"], errors);
            for (type_, field) in [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")] {
                let at = mutation.get(field);
                match (mutation.get("patchType").text() == type_, at.is_set()) {
                    (true, false) => at.required(&format!("must be specified when patchType is {type_}"), errors),
                    (false, true) => at.invalid(format!("must not be specified when patchType is not {type_}"), errors),
                    (true, true) => {
                        let expression = at.get("expression");
                        if expression.must_be_set(errors) {
                            let returns = if field == "jsonPatch" { Returns::Patch } else { Returns::Configuration };
                            compiles(&expression, &scope, returns, errors);
                        }
                    }
                    (false, false) => {}
                }
            }
        }
        spec.get("reinvocationPolicy").required_one_of(&["IfNeeded", "Never"], errors);
    },
    columns: &[NAME, column("Mutations", "integer", 0, "Changes that it makes to a request."), PARAM_KIND, AGE],
    cells: |object, now| cells(object, "/spec/mutations", now),
    ..Kind::COUNTED
};

/// ValidatingAdmissionPolicyBinding.
pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    validate: |object, errors| {
        check_binding(object, errors);
        let actions = At::root(object).get("spec.validationActions");
        if actions.is_empty() {
            actions.required("at least one validation action is required", errors);
        }
        let mut seen = BTreeSet::new();
        for action in actions.each() {
            action.one_of(&["Audit", "Deny", "Warn"], errors);
            if !seen.insert(action.text().to_owned()) {
                action.duplicate(errors);
            }
        }
        if seen.contains("Deny") && seen.contains("Warn") {
            let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                          response and headers serves no purpose)";
            actions.invalid(detail, errors);
        }
    },
    ..MUTATING_BINDING
};

/// MutatingAdmissionPolicyBinding.
pub static MUTATING_ADMISSION_POLICY_BINDING: Kind = MUTATING_BINDING;

const MUTATING_BINDING: Kind = Kind {
    defaults: |object| {
        if let Some(resources) = object.pointer_mut("/spec/matchResources") {
            matching::set_defaults(resources);
        }
    },
    validate: check_binding,
    columns: &[
        NAME,
        column("PolicyName", "string", 0, "Policy that it puts in force."),
        column("ParamRef", "string", 0, "Objects that its parameters come from."),
        AGE,
    ],
    cells: |object, now| vec![name(object), json!(text(object, "/spec/policyName")), json!(param_name(object)), age(object, now)],
    ..Kind::COUNTED
};

fn set_defaults(object: &mut Value) {
    if let Some(resources) = object.pointer_mut("/spec/matchConstraints") {
        matching::set_defaults(resources);
    }
    if let Some(spec) = map_of(object, "spec") {
        default(spec, "failurePolicy", "Fail");
    }
}

/// Checks what both kinds of policies have; what their expressions may name.
fn check_common(spec: &At<'_>, errors: &mut Errors) -> Scope {
    spec.get("failurePolicy").required_one_of(FAILURE_POLICIES, errors);
    let kind = spec.get("paramKind");
    if kind.is_set() {
        let version = kind.get("apiVersion");
        if version.must_be_set(errors) {
            let text = version.text();
            let (group, own) = text.split_once('/').unwrap_or(("", text));
            if own.contains('/') {
                version.invalid(format!("unexpected GroupVersion string: {text}"), errors);
            } else if !group.is_empty() {
                names::dns_subdomain(group).into_iter().for_each(|reason| version.invalid(reason, errors));
            }
            names::dns_1035_label(own).into_iter().for_each(|reason| version.invalid(reason, errors));
        }
        kind.get("kind").must_be_set(errors);
    }
    let constraints = spec.get("matchConstraints");
    if constraints.must_be_set(errors) {
        matching::check_resources(&constraints, errors);
        if constraints.get("resourceRules").is_empty() {
            constraints.get("resourceRules").required("", errors);
        }
    }
    let mut scope = Scope::new();
    scope.params = kind.is_set().then_some(Type::Dyn);
    matching::check_conditions(&spec.get("matchConditions"), &scope, errors);
    for variable in spec.items("variables") {
        let (name, expression) = (variable.get("name"), variable.get("expression"));
        if name.text().trim().is_empty() {
            name.required("name is not specified", errors);
        } else if !kontiki_cel::is_identifier(name.text()) {
            name.invalid("must be a valid CEL identifier", errors);
        }
        if expression.text().trim().is_empty() {
            expression.required("expression is not specified", errors);
        } else {
            // One that is wrong is told once, not wherever it is used.
            let type_ = compiles(&expression, &scope, Returns::Any, errors).unwrap_or(Type::Dyn);
            scope.declare(name.text(), type_);
        }
    }
    scope
}

fn check_validation(validation: &At<'_>, scope: &Scope, errors: &mut Errors) {
    let [expression, message, computed] = ["expression", "message", "messageExpression"].map(|field| validation.get(field));
    if expression.text().trim().is_empty() {
        expression.required("expression is not specified", errors);
    } else {
        compiles(&expression, scope, Returns::Bool, errors);
    }
    for at in [&computed, &message] {
        if !at.is_empty() && at.text().trim().is_empty() {
            at.invalid("must be non-empty if specified", errors);
        }
    }
    if message.text().trim().contains('\n') {
        message.invalid("must not contain line breaks", errors);
    }
    validation.get("reason").one_of(REASONS, errors);
}

fn check_annotations(annotations: &At<'_>, scope: &Scope, errors: &mut Errors) {
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        annotations.invalid(format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations"), errors);
    }
    let mut seen = BTreeSet::new();
    for annotation in annotations.each() {
        let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
        if key.must_be_set(errors) && !seen.insert(key.text().to_owned()) {
            key.duplicate(errors);
        }
        if value.text().trim().is_empty() {
            value.required("valueExpression is not specified", errors);
        } else {
            compiles(&value, scope, Returns::TextOrNull, errors);
        }
    }
}

fn check_binding(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    spec.get("policyName").must_be_named(names::dns_subdomain, errors);
    let reference = spec.get("paramRef");
    if reference.is_set() {
        let (own, selector) = (reference.get("name"), reference.get("selector"));
        own.named(names::path_segment, errors);
        selector.label_selector(errors);
        match (!own.is_empty(), selector.is_set()) {
            (true, true) => {
                own.forbidden("name and selector are mutually exclusive", errors);
                selector.forbidden("name and selector are mutually exclusive", errors);
            }
            (false, false) => reference.required("one of name or selector must be specified", errors),
            _ => {}
        }
        reference.get("parameterNotFoundAction").required_one_of(&["Deny", "Allow"], errors);
    }
    if spec.get("matchResources").is_set() {
        matching::check_resources(&spec.get("matchResources"), errors);
    }
}

fn cells(object: &Value, list: &str, now: jiff::Timestamp) -> Vec<Value> {
    let kind = &object["spec"]["paramKind"];
    let kind = match kind.is_null() {
        true => "<unset>".to_owned(),
        false => format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")),
    };
    vec![name(object), json!(items(object, list).count()), json!(kind), age(object, now)]
}

fn param_name(object: &Value) -> String {
    let reference = &object["spec"]["paramRef"];
    match (text(reference, "/namespace"), text(reference, "/name")) {
        ("", "") if reference.get("selector").is_some() => selector_text(&reference["selector"]),
        (_, "") => "<unset>".to_owned(),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_policy_says_what_it_is_about_and_what_it_wants() {
        let mut object = json!({"spec": {"validations": [{"expression": "object.spec.replicas < 5"}], "matchConstraints": {"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]}}});
        VALIDATING_ADMISSION_POLICY.set_defaults(&mut object);
        assert_eq!(object["spec"]["matchConstraints"]["matchPolicy"], "Equivalent");
        assert_eq!(VALIDATING_ADMISSION_POLICY.validate(&object), vec![]);
        object["spec"]["validations"] = json!([]);
        let errors = VALIDATING_ADMISSION_POLICY.validate(&object);
        assert_eq!(errors[0].to_string(), format!("spec.validations: Required value: {NEITHER}"));
    }

    #[test]
    fn expressions_are_compiled_when_they_are_written_down() {
        let mut object = json!({"spec": {
            "matchConditions": [{"name": "m", "expression": "object.metadata.name.startsWith('a')"}],
            "variables": [{"name": "count", "expression": "size(object.spec.containers)"}, {"name": "odd", "expression": "variables.count % 2 == 1"}],
            "validations": [{"expression": "variables.odd", "messageExpression": "'have ' + string(variables.count)"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "variables.odd ? 'odd' : null"}],
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}}});
        VALIDATING_ADMISSION_POLICY.set_defaults(&mut object);
        object["spec"]["auditAnnotations"] = json!([{"key": "k", "valueExpression": "variables.odd ? 'odd' : 'even'"}]);
        assert_eq!(VALIDATING_ADMISSION_POLICY.validate(&object), vec![]);
        object["spec"]["variables"] = json!([{"name": "odd", "expression": "variables.later"}, {"name": "2", "expression": "1"}]);
        object["spec"]["validations"] = json!([{"expression": "variables.nothing"}, {"expression": "size('')"}]);
        object["spec"]["matchConditions"] = json!([{"name": "m", "expression": "params.x"}]);
        let errors: Vec<_> = VALIDATING_ADMISSION_POLICY.validate(&object).iter().map(ToString::to_string).collect();
        for (error, words) in errors.iter().zip([
            "spec.matchConditions[0].expression: Invalid value: \"params.x\": compilation failed: ERROR: <input>:1:1: undeclared",
            "spec.variables[0].expression: Invalid value: \"variables.later\": compilation failed: ERROR: <input>:1:10: undefined field",
            "spec.variables[1].name: Invalid value: \"2\": must be a valid CEL identifier",
            "spec.validations[0].expression: Invalid value: \"variables.nothing\": compilation failed",
            "spec.validations[1].expression: Invalid value: \"size('')\": must evaluate to bool but got int",
        ]) {
            assert!(error.starts_with(words), "{error}");
        }
        assert_eq!(errors.len(), 5, "{errors:?}");
    }

    #[test]
    fn a_binding_does_not_say_the_same_twice() {
        let binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {"name": "x"}}});
        let fields: Vec<_> =
            VALIDATING_ADMISSION_POLICY_BINDING.validate(&binding).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["spec.paramRef.parameterNotFoundAction", "spec.validationActions"]);
        assert_eq!(param_name(&binding), "*/x");
    }
}
