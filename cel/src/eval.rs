//! The evaluator: an expression and its variables become a value.
//!
//! Errors are values until an operator needs what they stand in for: `true || x` is true whatever x is. Every step
//! counts against a [`Budget`].

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ast::{Expr, Kind, Loop, LoopKind},
    error::EvalError,
    functions, names, operators,
    parser::qualified_name,
    program::Variables,
    signatures,
    value::{Key, Value},
};

type Result = std::result::Result<Value, EvalError>;

/// What evaluations may still cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    left: u64,
    spent: u64,
}

impl Budget {
    /// Kubernetes' bound on one expression.
    pub const PER_CALL: u64 = 1_000_000;
    /// Kubernetes' bound on all expressions of one object.
    pub const PER_OBJECT: u64 = 10_000_000;

    /// A budget.
    #[must_use]
    pub fn new(units: u64) -> Self {
        Self { left: units, spent: 0 }
    }

    /// What was spent so far.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Spends.
    ///
    /// # Errors
    /// There is not enough.
    pub fn spend(&mut self, units: u64) -> std::result::Result<(), EvalError> {
        self.spent = self.spent.saturating_add(units);
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::CostExceeded)
            }
        }
    }
}

/// Evaluates an expression.
pub fn evaluate(expression: &Expr, variables: &dyn Variables, budget: &mut Budget) -> Result {
    Evaluation { variables, scope: Vec::new(), budget }.value(expression)
}

struct Evaluation<'a> {
    variables: &'a dyn Variables,
    scope: Vec<(String, Value)>,
    budget: &'a mut Budget,
}

fn no_such_key(key: &Value) -> EvalError {
    EvalError::new(format!("no such key: {key}"))
}

/// Whether an evaluation must end: other errors may yet not matter.
fn is_fatal(error: &EvalError) -> bool {
    *error == EvalError::CostExceeded
}

impl Evaluation<'_> {
    fn variable(&mut self, name: &str) -> Option<Result> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return Some(Ok(value.clone()));
        }
        self.variables.get(name, self.budget)
    }

    fn value(&mut self, expression: &Expr) -> Result {
        match &expression.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Ident(name) => {
                self.budget.spend(1)?;
                if let Some(value) = self.variable(name) {
                    return value;
                }
                match name.as_str() {
                    "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "null_type" | "type" => {
                        Ok(Value::Type(Arc::from(name.as_str())))
                    }
                    _ => Err(EvalError::new(format!("no such attribute(s): {name}"))),
                }
            }
            Kind::Select { operand, field, test, optional } => self.select(expression, operand, field, *test, *optional),
            Kind::Index { operand, index, optional } => self.index(operand, index, *optional),
            Kind::Call { target, function, arguments } => self.call(target.as_deref(), function, arguments),
            Kind::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    values.extend(self.element(item, *optional)?);
                }
                self.budget.spend(10)?;
                Ok(Value::list(values))
            }
            Kind::Map(entries) => {
                let mut values = BTreeMap::new();
                for (key, value, optional) in entries {
                    let key = self.value(key)?;
                    let key = key.as_key().ok_or_else(|| EvalError::new("unsupported key type"))?;
                    if let Some(value) = self.element(value, *optional)?
                        && values.insert(key.clone(), value).is_some()
                    {
                        return Err(EvalError::new(format!("Failed with repeated key: {}", key.to_value())));
                    }
                }
                self.budget.spend(30)?;
                Ok(Value::map(values))
            }
            Kind::Object { fields, .. } => {
                let mut values = BTreeMap::new();
                for (name, value, optional) in fields {
                    if let Some(value) = self.element(value, *optional)? {
                        values.insert(Key::text(&names::unescape(name)), value);
                    }
                }
                self.budget.spend(40)?;
                Ok(Value::map(values))
            }
            Kind::Loop(one) => self.loop_(one),
            Kind::Bind { name, value, body } => {
                let value = self.value(value)?;
                self.scoped(&[(name, value)], body)
            }
            Kind::OptionalMap { operand, name, body, flat } => match self.value(operand)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(value)) => {
                    let made = self.scoped(&[(name, *value)], body)?;
                    Ok(if *flat { made } else { Value::some(made) })
                }
                _ => Err(EvalError::no_such_overload()),
            },
        }
    }

    /// An element of a list, map or object; an optional one may be absent.
    fn element(&mut self, expression: &Expr, optional: bool) -> std::result::Result<Option<Value>, EvalError> {
        let value = self.value(expression)?;
        match (optional, value) {
            (false, value) => Ok(Some(value)),
            (true, Value::Optional(value)) => Ok(value.map(|value| *value)),
            (true, _) => Err(EvalError::no_such_overload()),
        }
    }

    fn scoped(&mut self, variables: &[(&String, Value)], body: &Expr) -> Result {
        let length = self.scope.len();
        self.scope.extend(variables.iter().map(|(name, value)| ((*name).clone(), value.clone())));
        let value = self.value(body);
        self.scope.truncate(length);
        value
    }

    fn select(&mut self, expression: &Expr, operand: &Expr, field: &str, test: bool, optional: bool) -> Result {
        if let Some(value) = qualified_name(expression).and_then(|name| self.variable(&name)) {
            return value;
        }
        self.budget.spend(1)?;
        let (operand, optional) = match self.value(operand)? {
            Value::Optional(None) if !test => return Ok(Value::Optional(None)),
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(value)) => (*value, true),
            value => (value, optional),
        };
        let Value::Map(entries) = &operand else {
            if test || optional {
                return Err(EvalError::no_such_overload());
            }
            return Err(EvalError::new(format!("no such key: {field}")));
        };
        let found = entries.get(&Key::text(field)).or_else(|| entries.get(&Key::text(&names::unescape(field))));
        match (found, test, optional) {
            (found, true, _) => Ok(Value::Bool(found.is_some())),
            (found, false, true) => Ok(Value::Optional(found.cloned().map(Box::new))),
            (Some(value), false, false) => Ok(value.clone()),
            (None, false, false) => Err(EvalError::new(format!("no such key: {field}"))),
        }
    }

    fn index(&mut self, operand: &Expr, index: &Expr, optional: bool) -> Result {
        self.budget.spend(1)?;
        let operand = self.value(operand)?;
        let index = self.value(index)?;
        let (operand, optional) = match operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (*value, true),
            value => (value, optional),
        };
        let found = match &operand {
            Value::List(items) => {
                let Some(Key::Int(at)) = index.as_key() else { return Err(EvalError::no_such_overload()) };
                let found = usize::try_from(at).ok().and_then(|at| items.get(at)).cloned();
                found.ok_or_else(|| EvalError::new(format!("index out of bounds: {at}")))
            }
            Value::Map(entries) => {
                let found = index.as_key().and_then(|key| entries.get(&key)).cloned();
                found.ok_or_else(|| no_such_key(&index))
            }
            _ => return Err(EvalError::no_such_overload()),
        };
        if optional { Ok(Value::Optional(found.ok().map(Box::new))) } else { found }
    }

    fn call(&mut self, target: Option<&Expr>, function: &str, arguments: &[Expr]) -> Result {
        match (function, arguments) {
            ("_&&_", [left, right]) => return self.logic(left, right, false),
            ("_||_", [left, right]) => return self.logic(left, right, true),
            ("_?_:_", [condition, yes, no]) => {
                return match self.value(condition)? {
                    Value::Bool(true) => self.value(yes),
                    Value::Bool(false) => self.value(no),
                    _ => Err(EvalError::no_such_overload()),
                };
            }
            _ => {}
        }
        if let Some(target) = target {
            if let Some(name) = qualified_name(target).map(|prefix| format!("{prefix}.{function}"))
                && signatures::is_bare(&name)
            {
                let values = arguments.iter().map(|argument| self.value(argument)).collect::<std::result::Result<Vec<_>, _>>()?;
                return functions::call(&name, None, &values, self.budget);
            }
            let target = self.value(target)?;
            if let (Value::Optional(inner), "or" | "orValue", [other]) = (&target, function, arguments) {
                return match inner {
                    Some(value) if function == "orValue" => Ok(value.as_ref().clone()),
                    Some(_) => Ok(target.clone()),
                    None => self.value(other),
                };
            }
            let values = arguments.iter().map(|argument| self.value(argument)).collect::<std::result::Result<Vec<_>, _>>()?;
            return functions::call(function, Some(&target), &values, self.budget);
        }
        let values = arguments.iter().map(|argument| self.value(argument)).collect::<std::result::Result<Vec<_>, _>>()?;
        let [left, right] = values.as_slice() else {
            return functions::call(function, None, &values, self.budget);
        };
        self.budget.spend(1 + (left.size().min(right.size())) / 10)?;
        let order = || operators::compare(left, right).ok_or_else(EvalError::no_such_overload);
        match function {
            "_==_" => Ok(Value::Bool(operators::equal(left, right))),
            "_!=_" => Ok(Value::Bool(!operators::equal(left, right))),
            "_<_" => Ok(Value::Bool(order()?.is_lt())),
            "_<=_" => Ok(Value::Bool(order()?.is_le())),
            "_>_" => Ok(Value::Bool(order()?.is_gt())),
            "_>=_" => Ok(Value::Bool(order()?.is_ge())),
            "_+_" => {
                self.budget.spend((left.size() + right.size()) / 10)?;
                operators::add(left, right)
            }
            "_-_" => operators::subtract(left, right),
            "_*_" => operators::multiply(left, right),
            "_/_" => operators::divide(left, right),
            "_%_" => operators::remainder(left, right),
            "@in" => {
                self.budget.spend(if matches!(right, Value::List(_)) { right.size() } else { 1 })?;
                operators::contains(left, right)
            }
            _ => functions::call(function, None, &values, self.budget),
        }
    }

    /// `&&` and `||`: the side that decides hides an error on the other.
    fn logic(&mut self, left: &Expr, right: &Expr, decisive: bool) -> Result {
        self.budget.spend(1)?;
        let first = self.value(left);
        match first {
            Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
            Err(error) if is_fatal(&error) => return Err(error),
            _ => {}
        }
        let second = self.value(right);
        match (first, second) {
            (_, Ok(Value::Bool(value))) if value == decisive => Ok(Value::Bool(decisive)),
            (_, Err(error)) if is_fatal(&error) => Err(error),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decisive)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn loop_(&mut self, one: &Loop) -> Result {
        let range = self.value(&one.range)?;
        let items: Vec<(Value, Value)> = match &range {
            Value::List(items) => items.iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item.clone())).collect(),
            Value::Map(entries) => entries.iter().map(|(key, value)| (key.to_value(), value.clone())).collect(),
            _ => return Err(EvalError::no_such_overload()),
        };
        let is_map = matches!(range, Value::Map(_));
        let mut gathered = Gathered::new(one.kind);
        for (key, item) in items {
            self.budget.spend(2)?;
            let single = if is_map { key.clone() } else { item.clone() };
            let variables = match &one.second {
                Some(second) => vec![(&one.first, key.clone()), (second, item)],
                None => vec![(&one.first, single.clone())],
            };
            if let Some(filter) = &one.filter {
                match self.scoped(&variables, filter)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => continue,
                    _ => return Err(EvalError::no_such_overload()),
                }
            }
            let body = self.scoped(&variables, &one.body);
            if body.as_ref().is_err_and(is_fatal) {
                return body;
            }
            if gathered.add(key, single, body)? {
                break;
            }
        }
        gathered.finish()
    }
}

/// What a loop has so far.
struct Gathered {
    kind: LoopKind,
    error: Option<EvalError>,
    found: usize,
    list: Vec<Value>,
    sorted: Vec<(Value, Value)>,
    map: BTreeMap<Key, Value>,
}

impl Gathered {
    fn new(kind: LoopKind) -> Self {
        Self { kind, error: None, found: 0, list: Vec::new(), sorted: Vec::new(), map: BTreeMap::new() }
    }

    /// Adds the value of the body for one item; whether the loop has its answer.
    fn add(&mut self, key: Value, item: Value, body: Result) -> std::result::Result<bool, EvalError> {
        match self.kind {
            LoopKind::All | LoopKind::Exists => {
                match body {
                    Ok(Value::Bool(value)) if value == (self.kind == LoopKind::Exists) => {
                        self.found += 1;
                        return Ok(true);
                    }
                    Ok(Value::Bool(_)) => {}
                    Ok(_) => self.error = Some(EvalError::no_such_overload()),
                    Err(error) => self.error = Some(error),
                }
                return Ok(false);
            }
            LoopKind::ExistsOne => self.found += usize::from(is_true(&body?)?),
            LoopKind::Filter => {
                if is_true(&body?)? {
                    self.list.push(item);
                }
            }
            LoopKind::Map => self.list.push(body?),
            LoopKind::SortBy => self.sorted.push((body?, item)),
            LoopKind::TransformMap => {
                let key = key.as_key().ok_or_else(EvalError::no_such_overload)?;
                self.map.insert(key, body?);
            }
            LoopKind::TransformMapEntry => {
                let Value::Map(entries) = body? else { return Err(EvalError::no_such_overload()) };
                for (key, value) in entries.iter() {
                    if self.map.insert(key.clone(), value.clone()).is_some() {
                        return Err(EvalError::new(format!("insert failed: key {} already exists", key.to_value())));
                    }
                }
            }
        }
        Ok(false)
    }

    fn finish(mut self) -> Result {
        match self.kind {
            LoopKind::All | LoopKind::Exists => match self.error {
                _ if self.found > 0 => Ok(Value::Bool(self.kind == LoopKind::Exists)),
                Some(error) => Err(error),
                None => Ok(Value::Bool(self.kind == LoopKind::All)),
            },
            LoopKind::ExistsOne => Ok(Value::Bool(self.found == 1)),
            LoopKind::Filter | LoopKind::Map => Ok(Value::list(self.list)),
            LoopKind::TransformMap | LoopKind::TransformMapEntry => Ok(Value::map(self.map)),
            LoopKind::SortBy => {
                if self.sorted.windows(2).any(|pair| operators::compare(&pair[0].0, &pair[1].0).is_none()) {
                    return Err(EvalError::no_such_overload());
                }
                self.sorted.sort_by(|left, right| operators::compare(&left.0, &right.0).unwrap_or(std::cmp::Ordering::Equal));
                Ok(Value::list(self.sorted.into_iter().map(|(_, item)| item).collect()))
            }
        }
    }
}

fn is_true(value: &Value) -> std::result::Result<bool, EvalError> {
    if let Value::Bool(value) = value { Ok(*value) } else { Err(EvalError::no_such_overload()) }
}
