//! Expressions of a policy: their variables, evaluated when they are first used.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use kontiki_cel::{Budget, EvalError, Value as CelValue, Variables};
use serde_json::Value;

use crate::webhook::conditions;

/// How deep variables may refer to one another.
const DEPTH_MAX: usize = 50;

/// Variables of a request, and those of a policy.
pub struct Scope<'a> {
    base: &'a BTreeMap<String, CelValue>,
    params: CelValue,
    expressions: BTreeMap<String, &'a str>,
    known: RefCell<BTreeMap<String, Result<CelValue, EvalError>>>,
    depth: Cell<usize>,
}

impl<'a> Scope<'a> {
    /// The scope of a policy's expressions.
    #[must_use]
    pub fn new(base: &'a BTreeMap<String, CelValue>, policy: &'a Value, params: &Value) -> Self {
        let variables = policy["spec"]["variables"].as_array().into_iter().flatten();
        let expression = |variable: &'a Value| {
            let name = format!("variables.{}", variable["name"].as_str().unwrap_or_default());
            (name, variable["expression"].as_str().unwrap_or_default())
        };
        Self {
            base,
            params: conditions::dynamic(params),
            expressions: variables.map(expression).collect(),
            known: RefCell::default(),
            depth: Cell::new(0),
        }
    }

    /// Evaluates an expression.
    ///
    /// # Errors
    /// In the words that follow `expression '...' resulted in error: `.
    pub fn evaluate(&self, source: &str, budget: &mut Budget) -> Result<CelValue, String> {
        let program = conditions::compile(source).map_err(|issues| format!("compilation error: compilation failed: {issues}"))?;
        program.evaluate(self, budget).map_err(|error| error.to_string())
    }
}

impl Variables for Scope<'_> {
    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<CelValue, EvalError>> {
        if name == "params" {
            return Some(Ok(self.params.clone()));
        }
        let Some(source) = self.expressions.get(name) else { return self.base.get(name).cloned().map(Ok) };
        if let Some(known) = self.known.borrow().get(name) {
            return Some(known.clone());
        }
        if self.depth.get() >= DEPTH_MAX {
            return Some(Err(EvalError::new(format!("{name} refers to itself"))));
        }
        self.depth.set(self.depth.get() + 1);
        let value = match conditions::compile(source) {
            Ok(program) => program.evaluate(self, budget),
            Err(issues) => Err(EvalError::new(format!("composited variable {name:?} fails to compile: {issues}"))),
        };
        self.depth.set(self.depth.get() - 1);
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_are_evaluated_when_they_are_used() {
        let policy = json!({"spec": {"variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "odd", "expression": "variables.replicas % 2 == 1"},
            {"name": "broken", "expression": "object.none"},
            {"name": "loop", "expression": "variables.loop"}]}});
        let base = BTreeMap::from([("object".to_owned(), conditions::dynamic(&json!({"spec": {"replicas": 3}})))]);
        let scope = Scope::new(&base, &policy, &json!({"max": 5}));
        let evaluate = |source: &str| scope.evaluate(source, &mut Budget::new(10_000)).map(|value| value.to_string());
        assert_eq!(evaluate("variables.odd && variables.replicas < params.max"), Ok("true".into()));
        assert_eq!(evaluate("variables.broken"), Err("no such key: none".into()));
        assert!(evaluate("variables.loop").is_err_and(|error| error.contains("refers to itself")));
    }
}
