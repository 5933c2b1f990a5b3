//! The type checker: what can be wrong with an expression before it has a value.
//!
//! In: an expression, the types of its variables and of objects' fields. Out: its type, or its mistakes in the words
//! of cel-go's checker. What is `dyn` is checked when it is evaluated.

use crate::{
    ast::{Expr, Kind, Loop, LoopKind},
    error::Issue,
    parser::qualified_name,
    signatures::{self, Signature},
    types::{Type, Types},
    value::Value,
};

/// Checks an expression.
pub fn check(expression: &Expr, variables: &[(String, Type)], types: &dyn Types) -> Result<Type, Vec<Issue>> {
    let mut checker = Checker { scope: variables.to_vec(), types, issues: Vec::new() };
    let type_ = checker.type_of(expression);
    if checker.issues.is_empty() { Ok(type_) } else { Err(checker.issues) }
}

struct Checker<'a> {
    scope: Vec<(String, Type)>,
    types: &'a dyn Types,
    issues: Vec<Issue>,
}

/// Parameters of a signature, as far as they are known.
#[derive(Default)]
struct Parameters(Vec<(char, Type)>);

impl Parameters {
    fn accept(&mut self, wanted: &Type, found: &Type) -> bool {
        match (wanted, found) {
            (Type::Parameter(name), found) => match self.0.iter().position(|(known, _)| known == name) {
                Some(at) => {
                    let known = self.0[at].1.clone();
                    if known == Type::Dyn || contains_dyn(&known) && is_assignable(&known, found) {
                        self.0[at].1 = found.clone();
                        return true;
                    }
                    is_assignable(&known, found) || is_assignable(found, &known)
                }
                None => {
                    self.0.push((*name, found.clone()));
                    true
                }
            },
            (_, Type::Dyn) | (Type::Dyn, _) => true,
            (Type::List(wanted), Type::List(found)) | (Type::Optional(wanted), Type::Optional(found)) => {
                self.accept(wanted, found)
            }
            (Type::Map(key, value), Type::Map(found_key, found_value)) => {
                self.accept(key, found_key) && self.accept(value, found_value)
            }
            // An object without declared fields is a map.
            (Type::Map(..), Type::Object(_)) => true,
            (wanted, found) => wanted == found,
        }
    }

    fn resolve(&self, type_: &Type) -> Type {
        match type_ {
            Type::Parameter(name) => self.0.iter().find(|(known, _)| known == name).map_or(Type::Dyn, |(_, type_)| type_.clone()),
            Type::List(item) => Type::list(self.resolve(item)),
            Type::Optional(value) => Type::Optional(self.resolve(value).into()),
            Type::Map(key, value) => Type::Map(self.resolve(key).into(), self.resolve(value).into()),
            other => other.clone(),
        }
    }
}

fn contains_dyn(type_: &Type) -> bool {
    match type_ {
        Type::Dyn => true,
        Type::List(item) | Type::Optional(item) => contains_dyn(item),
        Type::Map(key, value) => contains_dyn(key) || contains_dyn(value),
        _ => false,
    }
}

/// Whether a value of `found` may stand where `wanted` is.
fn is_assignable(wanted: &Type, found: &Type) -> bool {
    match (wanted, found) {
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::List(wanted), Type::List(found)) | (Type::Optional(wanted), Type::Optional(found)) => is_assignable(wanted, found),
        (Type::Map(key, value), Type::Map(found_key, found_value)) => {
            is_assignable(key, found_key) && is_assignable(value, found_value)
        }
        (Type::Null, Type::Object(_) | Type::Timestamp | Type::Duration | Type::Optional(_) | Type::Opaque(_))
        | (Type::Object(_) | Type::Timestamp | Type::Duration | Type::Optional(_) | Type::Opaque(_), Type::Null) => true,
        (Type::Map(..), Type::Object(_)) | (Type::Object(_), Type::Map(..)) => true,
        (wanted, found) => wanted == found,
    }
}

fn join(left: Type, right: &Type) -> Type {
    let covers = is_assignable(&left, right) && !contains_dyn(&left) && left != Type::Null;
    if left == *right || covers {
        left
    } else if left == Type::Null && is_assignable(&left, right) {
        right.clone()
    } else {
        Type::Dyn
    }
}

const COMPARISONS: [&str; 4] = ["_<_", "_<=_", "_>_", "_>=_"];

impl Checker<'_> {
    fn issue(&mut self, at: usize, message: String) -> Type {
        self.issues.push(Issue { at, message });
        Type::Dyn
    }

    fn variable(&self, name: &str) -> Option<Type> {
        self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, type_)| type_.clone())
    }

    fn type_of(&mut self, expression: &Expr) -> Type {
        match &expression.kind {
            Kind::Literal(value) => literal(value),
            Kind::Ident(name) => self.ident(expression.at, name),
            Kind::Select { operand, field, test, optional } => self.select(expression, operand, field, *test, *optional),
            Kind::Index { operand, index, optional } => self.index(expression.at, operand, index, *optional),
            Kind::Call { target, function, arguments } => self.call(expression.at, target.as_deref(), function, arguments),
            Kind::List(items) => {
                let mut item = None;
                for (expression, optional) in items {
                    let mut type_ = self.type_of(expression);
                    if *optional && let Type::Optional(inner) = type_ {
                        type_ = inner.as_ref().clone();
                    }
                    item = Some(item.map_or_else(|| type_.clone(), |item| join(item, &type_)));
                }
                Type::list(item.unwrap_or(Type::Dyn))
            }
            Kind::Map(entries) => {
                let (mut key, mut value) = (None, None);
                for (key_expression, value_expression, optional) in entries {
                    let key_type = self.type_of(key_expression);
                    let mut type_ = self.type_of(value_expression);
                    if *optional && let Type::Optional(inner) = type_ {
                        type_ = inner.as_ref().clone();
                    }
                    key = Some(key.map_or_else(|| key_type.clone(), |key| join(key, &key_type)));
                    value = Some(value.map_or_else(|| type_.clone(), |value| join(value, &type_)));
                }
                Type::Map(key.unwrap_or(Type::Dyn).into(), value.unwrap_or(Type::Dyn).into())
            }
            Kind::Object { name, fields } => self.object(expression.at, name, fields),
            Kind::Loop(one) => self.loop_(one),
            Kind::Bind { name, value, body } => {
                let type_ = self.type_of(value);
                self.scoped(vec![(name.clone(), type_)], body)
            }
            Kind::OptionalMap { operand, name, body, flat } => {
                let inner = match self.type_of(operand) {
                    Type::Optional(inner) => inner.as_ref().clone(),
                    _ => Type::Dyn,
                };
                let body = self.scoped(vec![(name.clone(), inner)], body);
                if *flat { body } else { Type::Optional(body.into()) }
            }
        }
    }

    fn scoped(&mut self, variables: Vec<(String, Type)>, body: &Expr) -> Type {
        let length = self.scope.len();
        self.scope.extend(variables);
        let type_ = self.type_of(body);
        self.scope.truncate(length);
        type_
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        if let Some(type_) = self.variable(name) {
            return type_;
        }
        if matches!(name, "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "null_type" | "type") {
            return Type::Type;
        }
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, expression: &Expr, operand: &Expr, field: &str, test: bool, optional: bool) -> Type {
        // A variable may itself have a qualified name.
        if let Some(type_) = qualified_name(expression).and_then(|name| self.variable(&name)) {
            return type_;
        }
        let operand_type = self.type_of(operand);
        let (operand_type, optional) = match operand_type {
            Type::Optional(inner) => (inner.as_ref().clone(), true),
            other => (other, optional),
        };
        let found = match &operand_type {
            Type::Dyn => Type::Dyn,
            Type::Map(_, value) => value.as_ref().clone(),
            Type::Object(name) => match self.types.field(name, field) {
                Some(type_) => type_,
                None => return self.issue(expression.at, format!("undefined field '{field}'")),
            },
            other => {
                let message = format!("type '{other}' does not support field selection");
                return self.issue(expression.at, message);
            }
        };
        match (test, optional) {
            (true, _) => Type::Bool,
            (false, true) => Type::Optional(found.into()),
            (false, false) => found,
        }
    }

    fn index(&mut self, at: usize, operand: &Expr, index: &Expr, optional: bool) -> Type {
        let operand_type = self.type_of(operand);
        let index_type = self.type_of(index);
        let (operand_type, optional) = match operand_type {
            Type::Optional(inner) => (inner.as_ref().clone(), true),
            other => (other, optional),
        };
        let found = match &operand_type {
            Type::Dyn => Type::Dyn,
            Type::List(item) if is_assignable(&Type::Int, &index_type) => item.as_ref().clone(),
            Type::Map(key, value) if is_assignable(key, &index_type) => value.as_ref().clone(),
            Type::Object(_) if index_type == Type::String => Type::Dyn,
            other => {
                let message = format!("found no matching overload for '_[_]' applied to '({other}, {index_type})'");
                return self.issue(at, message);
            }
        };
        if optional { Type::Optional(found.into()) } else { found }
    }

    fn object(&mut self, at: usize, name: &str, fields: &[(String, Expr, bool)]) -> Type {
        let is_known = self.types.contains(name);
        if !is_known {
            self.issue(at, format!("undeclared reference to '{name}' (in container '')"));
        }
        for (field, value, optional) in fields {
            let mut found = self.type_of(value);
            if *optional && let Type::Optional(inner) = found {
                found = inner.as_ref().clone();
            }
            match self.types.field(name, field) {
                None if is_known => {
                    self.issue(value.at, format!("undefined field '{field}'"));
                }
                Some(wanted) if !is_assignable(&wanted, &found) => {
                    self.issue(
                        value.at,
                        format!("expected type of field '{field}' is '{wanted}' but provided type is '{found}'"),
                    );
                }
                _ => {}
            }
        }
        Type::object(name)
    }

    fn loop_(&mut self, one: &Loop) -> Type {
        let range = self.type_of(&one.range);
        let (key, item) = match &range {
            Type::Dyn => (Type::Dyn, Type::Dyn),
            Type::List(item) => (Type::Int, item.as_ref().clone()),
            Type::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone()),
            Type::Object(_) => (Type::String, Type::Dyn),
            other => {
                let message =
                    format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)");
                return self.issue(one.range.at, message);
            }
        };
        let is_map = matches!(range, Type::Map(..) | Type::Object(_));
        let variables = match &one.second {
            Some(second) => vec![(one.first.clone(), key.clone()), (second.clone(), item)],
            None => vec![(one.first.clone(), if is_map { key.clone() } else { item })],
        };
        let single = variables[0].1.clone();
        if let Some(filter) = &one.filter {
            let type_ = self.scoped(variables.clone(), filter);
            self.require_bool(filter.at, &type_);
        }
        let body = self.scoped(variables, &one.body);
        match one.kind {
            LoopKind::All | LoopKind::Exists | LoopKind::ExistsOne => {
                self.require_bool(one.body.at, &body);
                Type::Bool
            }
            LoopKind::Filter => {
                self.require_bool(one.body.at, &body);
                Type::list(single)
            }
            LoopKind::Map => Type::list(body),
            LoopKind::SortBy => range,
            LoopKind::TransformMap => Type::Map(key.into(), body.into()),
            LoopKind::TransformMapEntry => body,
        }
    }

    fn require_bool(&mut self, at: usize, type_: &Type) {
        if !is_assignable(&Type::Bool, type_) {
            self.issue(at, format!("expected type 'bool' but found '{type_}'"));
        }
    }

    fn call(&mut self, at: usize, target: Option<&Expr>, function: &str, arguments: &[Expr]) -> Type {
        if let Some(target) = target
            && let Some(qualified) = qualified_name(target).map(|prefix| format!("{prefix}.{function}"))
            && signatures::is_bare(&qualified)
        {
            return self.call(at, None, &qualified, arguments);
        }
        let receiver = target.map(|target| self.type_of(target));
        let found: Vec<Type> = arguments.iter().map(|argument| self.type_of(argument)).collect();
        if let Some(type_) = self.special(function, &found) {
            return type_;
        }
        let known = signatures::of(function);
        let is_comparison = COMPARISONS.contains(&function);
        if !is_comparison && known.iter().all(|signature| signature.receiver.is_some() != receiver.is_some()) {
            return self.issue(at, format!("undeclared reference to '{function}' (in container '')"));
        }
        let mut results: Vec<Type> = Vec::new();
        for signature in known {
            if let Some(result) = apply(signature, receiver.as_ref(), &found)
                && !results.contains(&result)
            {
                results.push(result);
            }
        }
        match results.len() {
            0 => {
                let list = |types: &[Type]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let arguments = match &receiver {
                    Some(receiver) => format!("{receiver}.({})", list(&found)),
                    None => format!("({})", list(&found)),
                };
                self.issue(at, format!("found no matching overload for '{function}' applied to '{arguments}'"))
            }
            1 => results.remove(0),
            _ => Type::Dyn,
        }
    }

    /// Operators whose arguments are of any types that can be compared with one another.
    fn special(&self, function: &str, found: &[Type]) -> Option<Type> {
        let [left, right] = found else { return None };
        let is_number = |type_: &Type| matches!(type_, Type::Int | Type::Uint | Type::Double | Type::Dyn);
        if matches!(function, "_==_" | "_!=_") {
            return (is_assignable(left, right) || is_number(left) && is_number(right)).then_some(Type::Bool);
        }
        if COMPARISONS.contains(&function) {
            let ordered = |type_: &Type| {
                matches!(type_, Type::Bool | Type::String | Type::Bytes | Type::Timestamp | Type::Duration | Type::Dyn)
            };
            let fits = is_number(left) && is_number(right)
                || (left == right || *left == Type::Dyn || *right == Type::Dyn) && ordered(left) && ordered(right);
            return fits.then_some(Type::Bool);
        }
        None
    }
}

fn apply(signature: &Signature, receiver: Option<&Type>, found: &[Type]) -> Option<Type> {
    if signature.arguments.len() != found.len() {
        return None;
    }
    let mut parameters = Parameters::default();
    let fits = match (&signature.receiver, receiver) {
        (None, None) => true,
        (Some(wanted), Some(found)) => parameters.accept(wanted, found),
        _ => false,
    };
    let fits = fits && signature.arguments.iter().zip(found).all(|(wanted, found)| parameters.accept(wanted, found));
    fits.then(|| parameters.resolve(&signature.result))
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}
