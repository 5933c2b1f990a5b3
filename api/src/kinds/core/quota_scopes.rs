//! Which pods a quota counts: its scopes, and what they may be combined with.

use crate::kinds::{check::At, kind::Errors};

const STANDARD: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
/// What is counted of pods beside their number.
const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Scopes and the scope selector of a quota's specification.
pub(super) fn check(spec: &At<'_>, errors: &mut Errors) {
    let scopes = spec.get("scopes");
    for scope in scopes.each() {
        if !STANDARD.contains(&scope.text()) {
            At::new(scope.value, &scopes.path).invalid("unsupported scope", errors);
        }
        check_resources(spec, scope.text(), &scopes, errors);
    }
    let names: Vec<&str> = scopes.each().map(|scope| scope.text()).collect();
    check_conflicts(&names, &scopes, errors);
    check_selector(spec, errors);
}

fn check_conflicts(names: &[&str], at: &At<'_>, errors: &mut Errors) {
    if CONFLICTS.iter().any(|pair| pair.iter().all(|scope| names.contains(scope))) {
        at.invalid("conflicting scopes", errors);
    }
}

fn check_resources(spec: &At<'_>, scope: &str, at: &At<'_>, errors: &mut Errors) {
    for (resource, _) in spec.members("hard") {
        let counted = match scope {
            "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
                resource == "pods" || COMPUTE.contains(&resource)
            }
            "BestEffort" => resource == "pods",
            "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
            _ => true,
        };
        if !counted && super::resource_quota::is_standard(resource) {
            at.invalid("unsupported scope applied to resource", errors);
        }
    }
}

fn check_selector(spec: &At<'_>, errors: &mut Errors) {
    // Kubernetes' paths leave the index out.
    let at = spec.get("scopeSelector.matchExpressions");
    let mut names = Vec::new();
    for requirement in at.each() {
        let field = |name: &str| At::new(requirement.get(name).value, format!("{}.{name}", at.path));
        let (scope, operator, values) = (field("scopeName"), field("operator"), field("values"));
        if !STANDARD.contains(&scope.text()) {
            scope.invalid("unsupported scope", errors);
        }
        check_resources(spec, scope.text(), &At::new(spec.get("scopeSelector").value, &at.path), errors);
        if !matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass") && operator.text() != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                          ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                          ResourceQuotaScopeCrossNamespacePodAffinity";
            operator.invalid(detail, errors);
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                values.required("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector", errors);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector", errors);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => operator.invalid("not a valid selector operator", errors),
        }
        names.push(scope.text());
    }
    check_conflicts(&names, &at, errors);
}
