//! IngressClass.

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default},
        kind::{Errors, Kind},
    },
    names,
    object::{meta, text},
};

const CONTROLLER_MAX: usize = 250;

/// IngressClass.
pub static INGRESS_CLASS: Kind = Kind {
    defaults: |object| {
        if let Some(parameters) = object.pointer_mut("/spec/parameters").and_then(Value::as_object_mut) {
            default(parameters, "scope", "Cluster");
        }
    },
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        let controller = spec.get("controller");
        controller.at_most_bytes(CONTROLLER_MAX, errors);
        names::domain_path(controller.text()).into_iter().for_each(|reason| controller.invalid(reason, errors));
        let parameters = spec.get("parameters");
        if parameters.is_set() {
            check_reference(&parameters, errors);
            check_scope(&parameters, errors);
        }
    },
    validate_update: |new, old, errors| {
        At::root(new).get("spec.controller").immutable(&At::root(old).get("spec.controller"), errors);
    },
    columns: &[
        NAME,
        column("Controller", "string", 0, "Who serves ingresses of the class."),
        column("Parameters", "string", 0, "Object with settings for the controller."),
        AGE,
    ],
    cells: |object, now| {
        let mut name = meta::name(object).to_owned();
        if meta::annotation(object, "ingressclass.kubernetes.io/is-default-class") == Some("true") {
            name += " (default)";
        }
        vec![json!(name), json!(text(object, "/spec/controller")), json!(parameters(object)), age(object, now)]
    },
    ..Kind::COUNTED
};

/// A reference to an object of any kind.
pub(super) fn check_reference(reference: &At<'_>, errors: &mut Errors) {
    let group = reference.get("apiGroup");
    if group.is_set() {
        names::dns_subdomain(group.text()).into_iter().for_each(|reason| group.invalid(reason, errors));
    }
    reference.get("kind").must_be_named(names::path_segment, errors);
    reference.get("name").must_be_named(names::path_segment, errors);
}

fn check_scope(parameters: &At<'_>, errors: &mut Errors) {
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    if scope.is_absent() {
        return scope.required("", errors);
    }
    scope.one_of(&["Cluster", "Namespace"], errors);
    match scope.text() {
        "Namespace" if namespace.is_absent() => namespace.required("`parameters.scope` is set to 'Namespace'", errors),
        "Namespace" => names::dns_label(namespace.text()).into_iter().for_each(|reason| namespace.invalid(reason, errors)),
        "Cluster" if namespace.is_set() => namespace.forbidden("`parameters.scope` is set to 'Cluster'", errors),
        _ => {}
    }
}

fn parameters(object: &Value) -> String {
    let parameters = &object["spec"]["parameters"];
    if parameters.is_null() {
        return "<none>".to_owned();
    }
    let group = parameters["apiGroup"].as_str().map(|group| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{}", text(parameters, "/kind"), text(parameters, "/name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_controller_is_a_domain_and_a_path_and_stays() {
        let class = |controller: &str| json!({"metadata": {"name": "a"}, "spec": {"controller": controller}});
        assert_eq!(INGRESS_CLASS.validate(&class("example.com/ingress")), vec![]);
        assert_eq!(
            INGRESS_CLASS.validate(&class("ingress"))[0].detail,
            "must be a domain-prefixed path (such as \"acme.io/foo\")"
        );
        let errors = INGRESS_CLASS.validate_update(&class("a.b/c"), &class("a.b/d"));
        assert_eq!(errors[0].to_string(), "spec.controller: Invalid value: \"a.b/c\": field is immutable");
    }
}
