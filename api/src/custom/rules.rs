//! `x-kubernetes-validations`: rules in CEL on every level of a schema.
//!
//! In: a schema, compiled once into [`Rules`]; then an object and the one that it replaces. Out: a [`FieldError`] for
//! each rule that does not hold. All rules of an object share one budget.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

use std::{collections::BTreeMap, sync::Arc};

use kontiki_cel::{Budget, Environment, EvalError, Program, Type, TypeTable, Value as CelValue, from_json};
use serde_json::Value;

use super::{
    declare::declare,
    schema::{Additional, Rule, Schema},
};
use crate::field::{ErrorType, FieldError};

/// Longest message that an expression may make.
const MESSAGE_BYTES_MAX: usize = 5 << 10;

/// Compiled rules of a schema and of everything below it.
#[derive(Clone)]
pub struct Rules {
    types: Arc<TypeTable>,
    root: Node,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Rules")
    }
}

#[derive(Clone, Default)]
struct Node {
    type_: Option<Type>,
    schema_type: String,
    own: Vec<Compiled>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    list_keys: Vec<String>,
    is_list_map: bool,
}

#[derive(Clone)]
struct Compiled {
    rule: Rule,
    program: Program,
    message: Option<Program>,
    is_transition: bool,
}

/// Mistakes in the rules of a schema.
#[must_use]
pub fn compile(schema: &Schema, path: &str) -> (Option<Rules>, Vec<FieldError>) {
    let mut errors = Vec::new();
    if !has_rules(schema) {
        return (None, errors);
    }
    let mut types = TypeTable::default();
    declare(schema, "self", true, &mut types);
    let types = Arc::new(types);
    let root = node(schema, "self", true, path, &types, &mut errors);
    (Some(Rules { types, root }), errors)
}

fn has_rules(schema: &Schema) -> bool {
    !schema.rules.is_empty() || schema.children().any(has_rules)
}

fn node(
    schema: &Schema,
    name: &str,
    is_resource: bool,
    path: &str,
    types: &Arc<TypeTable>,
    errors: &mut Vec<FieldError>,
) -> Node {
    if !has_rules(schema) {
        return Node::default();
    }
    let type_ = declare(schema, name, is_resource, &mut TypeTable::default());
    let mut own = Vec::new();
    for (index, rule) in schema.rules.iter().enumerate() {
        match compile_rule(rule, &type_, types, &format!("{path}.x-kubernetes-validations[{index}]")) {
            Ok(compiled) => own.push(compiled),
            Err(error) => errors.push(error),
        }
    }
    let below = |field: &Schema, step: &str, path: String, errors: &mut Vec<FieldError>| {
        node(field, &format!("{name}.{step}"), field.embedded_resource, &path, types, errors)
    };
    let mut properties = BTreeMap::new();
    for (property, field) in &schema.properties {
        let inner = below(field, property, format!("{path}.properties[{property}]"), errors);
        if inner.type_.is_some() {
            properties.insert(property.clone(), inner);
        }
    }
    let additional = match &schema.additional {
        Additional::Schema(values) => Some(Box::new(below(values, "@values", format!("{path}.additionalProperties"), errors))),
        Additional::Unset | Additional::Any(_) => None,
    };
    let items = schema.items.as_ref().map(|items| Box::new(below(items, "@items", format!("{path}.items"), errors)));
    Node {
        type_: Some(type_),
        schema_type: schema.type_.clone(),
        own,
        properties,
        additional,
        items,
        list_keys: schema.list_map_keys.clone(),
        is_list_map: schema.list_type == "map",
    }
}

fn compile_rule(rule: &Rule, type_: &Type, types: &Arc<TypeTable>, path: &str) -> Result<Compiled, FieldError> {
    if rule.rule.trim().is_empty() {
        return Err(FieldError::required(format!("{path}.rule"), "rule is not specified"));
    }
    let optional = rule.optional_old_self == Some(true);
    let old = if optional { Type::Optional(type_.clone().into()) } else { type_.clone() };
    let environment =
        Environment::new(Arc::clone(types) as Arc<dyn kontiki_cel::Types>).with("self", type_.clone()).with("oldSelf", old);
    let shown = Value::from(rule.rule.as_str());
    let refuse = |field: &str, detail: String| FieldError::invalid(format!("{path}.{field}"), &shown, detail);
    let program =
        Program::compile(&rule.rule, &environment).map_err(|issues| refuse("rule", format!("compilation failed: {issues}")))?;
    if !matches!(program.type_(), Type::Bool | Type::Dyn) {
        return Err(refuse("rule", "cel expression must evaluate to a bool".into()));
    }
    let message = if rule.message_expression.is_empty() {
        None
    } else {
        let compiled = Program::compile(&rule.message_expression, &environment);
        let compiled =
            compiled.map_err(|issues| refuse("messageExpression", format!("messageExpression compilation failed: {issues}")))?;
        if !matches!(compiled.type_(), Type::String | Type::Dyn) {
            return Err(refuse("messageExpression", "messageExpression must evaluate to a string".into()));
        }
        Some(compiled)
    };
    let is_transition = program.uses("oldSelf");
    if rule.optional_old_self.is_some() && !is_transition {
        let path = format!("{path}.optionalOldSelf");
        return Err(FieldError::invalid(path, &optional.into(), "may not be set if oldSelf is not used in rule"));
    }
    Ok(Compiled { rule: rule.clone(), program, message, is_transition })
}

impl Rules {
    /// Rules that do not hold.
    #[must_use]
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut run = Run { types: &self.types, budget: Budget::new(Budget::PER_OBJECT), errors: Vec::new() };
        // A path that is out of budget has already said so.
        let _ = run.node(&self.root, object, old, "");
        run.errors
    }
}

struct Run<'a> {
    types: &'a TypeTable,
    budget: Budget,
    errors: Vec<FieldError>,
}

/// The budget is spent.
struct Exhausted;

impl Run<'_> {
    fn node(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &str) -> Result<(), Exhausted> {
        let Some(type_) = &node.type_ else { return Ok(()) };
        if !node.own.is_empty() && !value.is_null() {
            let variables = self.variables(type_, value, old);
            for compiled in &node.own {
                self.rule(node, compiled, &variables, old.is_some(), path)?;
            }
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let inner = node.properties.get(name).map(|inner| (inner, true));
                    let inner = inner.or_else(|| node.additional.as_deref().map(|inner| (inner, false)));
                    let Some((inner, is_property)) = inner else { continue };
                    let old = old.and_then(|old| old.get(name)).filter(|old| !old.is_null());
                    let path = match (is_property, path.is_empty()) {
                        (true, true) => name.clone(),
                        (true, false) => format!("{path}.{name}"),
                        (false, _) => format!("{path}[{name}]"),
                    };
                    self.node(inner, value, old, &path)?;
                }
            }
            Value::Array(items) => {
                let Some(inner) = &node.items else { return Ok(()) };
                for (index, item) in items.iter().enumerate() {
                    let old = old.filter(|_| node.is_list_map).and_then(|old| same_item(old, item, &node.list_keys));
                    self.node(inner, item, old, &format!("{path}[{index}]"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn variables(&self, type_: &Type, value: &Value, old: Option<&Value>) -> BTreeMap<String, CelValue> {
        let mut variables = BTreeMap::from([("self".to_owned(), from_json(value, type_, self.types))]);
        if let Some(old) = old {
            variables.insert("oldSelf".to_owned(), from_json(old, type_, self.types));
        }
        variables
    }

    fn rule(
        &mut self,
        node: &Node,
        compiled: &Compiled,
        variables: &BTreeMap<String, CelValue>,
        has_old: bool,
        path: &str,
    ) -> Result<(), Exhausted> {
        let rule = &compiled.rule;
        let optional = rule.optional_old_self == Some(true);
        if compiled.is_transition && !has_old && !optional {
            return Ok(());
        }
        let mut variables = variables.clone();
        if optional {
            let old = variables.remove("oldSelf").map(Box::new);
            variables.insert("oldSelf".to_owned(), CelValue::Optional(old));
        }
        if self.budget.is_exhausted() {
            self.refuse(
                node,
                path,
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            );
            return Err(Exhausted);
        }
        let mut budget = Budget::new(Budget::PER_CALL);
        let result = compiled.program.evaluate(&variables, &mut budget);
        let spent = self.budget.spend(budget.spent());
        match result {
            Ok(CelValue::Bool(true)) => {}
            Ok(_) => self.failed(node, compiled, &variables, path),
            Err(EvalError::CostExceeded) => {
                let shown = shown(rule);
                self.refuse(node, path, format!("'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"));
                return Err(Exhausted);
            }
            Err(error) if error == EvalError::no_such_overload() => {
                let shown = shown(rule);
                self.refuse(node, path, format!("'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"));
            }
            Err(error) => self.refuse(node, path, format!("{error} evaluating rule: {}", shown(rule))),
        }
        if spent.is_err() {
            self.refuse(
                node,
                path,
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            );
            return Err(Exhausted);
        }
        Ok(())
    }

    fn refuse(&mut self, node: &Node, path: &str, detail: String) {
        let path = if path.is_empty() { "<nil>" } else { path };
        self.errors.push(FieldError::invalid(path, &Value::from(node.schema_type.as_str()), detail));
    }

    fn failed(&mut self, node: &Node, compiled: &Compiled, variables: &BTreeMap<String, CelValue>, path: &str) {
        let rule = &compiled.rule;
        let made = compiled.message.as_ref().and_then(|program| {
            let value = program.evaluate(variables, &mut Budget::new(Budget::PER_CALL)).ok()?;
            let text = value.as_text()?.trim().to_owned();
            (!text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n')).then_some(text)
        });
        let detail = match (made, rule.message.trim()) {
            (Some(made), _) => made,
            (None, "") => format!("failed rule: {}", rule.rule.trim()),
            (None, message) => message.to_owned(),
        };
        let path = match (path, rule.field_path.as_str()) {
            ("", "") => "<nil>".to_owned(),
            (path, "") => path.to_owned(),
            ("", field) => field.trim_start_matches('.').to_owned(),
            (path, field) if field.starts_with('[') => format!("{path}{field}"),
            (path, field) => format!("{path}.{}", field.trim_start_matches('.')),
        };
        let value = Value::from(node.schema_type.as_str());
        self.errors.push(match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(path, detail),
            "FieldValueRequired" => FieldError::required(path, detail),
            "FieldValueDuplicate" => FieldError::duplicate(path, &value),
            _ => FieldError { type_: ErrorType::Invalid, ..FieldError::invalid(path, &value, detail) },
        });
    }
}

fn shown(rule: &Rule) -> String {
    if rule.message.trim().is_empty() { rule.rule.trim().to_owned() } else { rule.message.trim().to_owned() }
}

fn same_item<'a>(old: &'a Value, item: &Value, keys: &[String]) -> Option<&'a Value> {
    old.as_array()?.iter().find(|other| keys.iter().all(|key| other.get(key) == item.get(key)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn rules(spec: Value) -> (Option<Rules>, Vec<String>) {
        let schema = Schema::parse(&json!({"type": "object", "properties": {"spec": spec}}));
        let (rules, errors) = compile(&schema, "s");
        (rules, errors.iter().map(ToString::to_string).collect())
    }

    fn check(spec: Value, object: Value, old: Option<Value>, expected: &[&str]) {
        let (rules, errors) = rules(spec);
        assert_eq!(errors, Vec::<String>::new());
        let old = old.map(|old| json!({ "spec": old }));
        let errors = rules.unwrap().validate(&json!({ "spec": object }), old.as_ref());
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rules_refuse_in_kubernetes_words() {
        let spec = json!({"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.x + self.y > 0"}]});
        check(spec.clone(), json!({"x": 1, "y": 0}), None, &[]);
        check(spec, json!({"x": 0, "y": 0}), None, &["spec: Invalid value: \"object\": failed rule: self.x + self.y > 0"]);
        let spec = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "x-kubernetes-validations": [
            {"rule": "self.x > 5", "message": "too small", "messageExpression": "'x is ' + string(self.x)", "fieldPath": ".x",
             "reason": "FieldValueForbidden"}]});
        check(spec, json!({"x": 1}), None, &["spec.x: Forbidden: x is 1"]);
    }

    #[test]
    fn transitions_are_judged_where_there_was_something() {
        let spec = json!({"type": "object", "properties": {"x": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
                "properties": {"k": {"type": "string"}, "v": {"type": "string"}},
                "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "immutable"}]}}}});
        check(spec.clone(), json!({"x": 1}), None, &[]);
        check(
            spec.clone(),
            json!({"x": 1}),
            Some(json!({"x": 2})),
            &["spec.x: Invalid value: \"integer\": failed rule: self >= oldSelf"],
        );
        check(
            spec,
            json!({"l": [{"k": "new", "v": "1"}, {"k": "a", "v": "2"}]}),
            Some(json!({"l": [{"k": "a", "v": "1"}]})),
            &["spec.l[1]: Invalid value: \"object\": immutable"],
        );
        let spec = json!({"type": "string", "x-kubernetes-validations": [{"rule": "oldSelf.hasValue() || self == 'a'", "optionalOldSelf": true}]});
        check(spec.clone(), json!("b"), Some(json!("a")), &[]);
        check(spec, json!("b"), None, &["spec: Invalid value: \"string\": failed rule: oldSelf.hasValue() || self == 'a'"]);
    }

    #[test]
    fn mistakes_are_found_when_the_definition_is_made() {
        let (_, errors) = rules(json!({"type": "object", "properties": {"x": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.z == 100"}, {"rule": "self.x"}, {"rule": "self = 42"}]}));
        assert!(errors[0].contains("undefined field 'z'"), "{errors:?}");
        assert!(errors[1].contains("cel expression must evaluate to a bool"), "{errors:?}");
        assert!(errors[2].contains("Syntax error"), "{errors:?}");
        assert!(errors[0].starts_with("s.properties[spec].x-kubernetes-validations[0].rule: Invalid value"), "{errors:?}");
    }
}
