//! A checked expression, ready to be evaluated.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ast::Expr,
    check,
    error::{EvalError, Issue, Issues},
    eval::{self, Budget},
    parser,
    types::{Type, Types},
    value::Value,
};

/// Longest source.
const SOURCE_BYTES_MAX: usize = 64 << 10;

/// What expressions may refer to.
#[derive(Clone)]
pub struct Environment {
    variables: Vec<(String, Type)>,
    types: Arc<dyn Types>,
}

/// Values of variables.
pub trait Variables {
    /// Value of a variable; `None` where there is no such one. A value that is computed spends from the budget.
    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<Value, EvalError>>;
}

impl Variables for BTreeMap<String, Value> {
    fn get(&self, name: &str, _budget: &mut Budget) -> Option<Result<Value, EvalError>> {
        self.get(name).cloned().map(Ok)
    }
}

impl Environment {
    /// An environment without variables.
    #[must_use]
    pub fn new(types: Arc<dyn Types>) -> Self {
        Self { variables: Vec::new(), types }
    }

    /// Adds a variable; its name may be qualified, such as `variables.x`.
    #[must_use]
    pub fn with(mut self, name: &str, type_: Type) -> Self {
        self.variables.push((name.to_owned(), type_));
        self
    }
}

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Program {
    expression: Arc<Expr>,
    type_: Type,
}

impl Program {
    /// Parses and checks a source.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn compile(source: &str, environment: &Environment) -> Result<Self, Issues> {
        let expression = Self::read(source)?;
        match check::check(&expression, &environment.variables, environment.types.as_ref()) {
            Ok(type_) => Ok(Self { expression: expression.into(), type_ }),
            Err(issues) => Err(Issues::new(source, issues)),
        }
    }

    /// Parses a source and keeps it also where its types do not fit: they may when it is evaluated.
    ///
    /// # Errors
    /// It is no expression.
    pub fn parse(source: &str) -> Result<Self, Issues> {
        let expression = Self::read(source)?;
        Ok(Self { expression: expression.into(), type_: Type::Dyn })
    }

    fn read(source: &str) -> Result<Expr, Issues> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("expression is longer than {SOURCE_BYTES_MAX} bytes");
            return Err(Issues::new("", vec![Issue { at: 0, message }]));
        }
        parser::parse(source).map_err(|issue| Issues::new(source, vec![issue]))
    }

    /// Type of the value.
    #[must_use]
    pub fn type_(&self) -> &Type {
        &self.type_
    }

    /// Whether the expression refers to a variable.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.expression.uses(name)
    }

    /// Evaluates.
    ///
    /// # Errors
    /// The language's rules, or the budget.
    pub fn evaluate(&self, variables: &dyn Variables, budget: &mut Budget) -> Result<Value, EvalError> {
        eval::evaluate(&self.expression, variables, budget)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{NoTypes, TypeTable, from_json, to_json};
    use serde_json::json;

    fn environment() -> Environment {
        let mut table = TypeTable::default();
        let spec = [
            ("replicas", Type::Int),
            ("name", Type::String),
            ("tags", Type::list(Type::String)),
            ("labels", Type::map(Type::String)),
        ];
        table.insert("spec", spec.map(|(name, type_)| (name.to_owned(), type_)).into());
        table.insert("self", [("spec".to_owned(), Type::object("spec"))].into());
        Environment::new(Arc::new(table)).with("self", Type::object("self"))
    }

    fn check(source: &str, expected: serde_json::Value) {
        let program = Program::compile(source, &environment()).unwrap_or_else(|issues| panic!("{issues}"));
        let object = json!({"spec": {"replicas": 3, "name": "web", "tags": ["b", "a"], "labels": {"k": "v"}}});
        let value = from_json(&object, &Type::Dyn, &NoTypes);
        let variables = BTreeMap::from([("self".to_owned(), value)]);
        let value = program.evaluate(&variables, &mut Budget::new(100_000));
        let shown = match value {
            Ok(value) => to_json(&value).unwrap(),
            Err(error) => json!({ "error": error.to_string() }),
        };
        assert_eq!(shown, expected, "{source}");
    }

    #[test]
    fn the_language() {
        check("1 + 2 * 3 == 7 && !(1 > 2)", json!(true));
        check("self.spec.replicas >= 3 ? 'many' : 'few'", json!("many"));
        check("-5 / 2", json!(-2));
        check("5 % 3", json!(2));
        check("1 / 0", json!({"error": "division by zero"}));
        check("1 / 0 == 1 || true", json!(true));
        check("9223372036854775807 + 1", json!({"error": "integer overflow"}));
        check("[1, 2][5]", json!({"error": "index out of bounds: 5"}));
        check("{'a': 1}['b']", json!({"error": "no such key: b"}));
        check("'x' in {'x': 1} && 2 in [1, 2]", json!(true));
        check("has(self.spec.name)", json!(true));
        check("1 == 1.0 && 2u > 1", json!(true));
        check("\"a\\u00e9\\n\" + r'\\n'", json!("aé\n\\n"));
        check("type(1) == int", json!(true));
        check("b'abc' == bytes('abc')", json!(true));
    }

    #[test]
    fn loops() {
        check("[1, 2, 3].all(x, x > 0)", json!(true));
        check("[1, 2, 3].exists(x, x == 2)", json!(true));
        check("[1, 2, 2].exists_one(x, x == 2)", json!(false));
        check("[1, 2, 3].filter(x, x % 2 == 1)", json!([1, 3]));
        check("[1, 2, 3].map(x, x * x)", json!([1, 4, 9]));
        check("[1, 2, 3].map(x, x > 1, x * x)", json!([4, 9]));
        check("self.spec.labels.all(k, self.spec.labels[k] == 'v')", json!(true));
        check("[5, 6].transformList(i, x, i + x)", json!([5, 7]));
        check("{'a': 1}.transformMap(k, v, k + string(v))", json!({"a": "a1"}));
        check("{'a': 'b'}.transformMapEntry(k, v, {v: k})", json!({"b": "a"}));
        check("[5, 6].all(i, x, x == i + 5)", json!(true));
        check("['bb', 'a'].sortBy(x, size(x))", json!(["a", "bb"]));
        check("cel.bind(x, 2, x * x)", json!(4));
    }

    #[test]
    fn libraries() {
        check("'a,b'.split(',')", json!(["a", "b"]));
        check("['a', 'b'].join('-')", json!("a-b"));
        check("'hello'.substring(1, 3) + 'Abc'.lowerAscii()", json!("elabc"));
        check("'%s is %d'.format(['x', 3])", json!("x is 3"));
        check("'abc 123'.find('[0-9]+')", json!("123"));
        check("'a1b2'.findAll('[0-9]')", json!(["1", "2"]));
        check("'abc'.matches('^a.c$')", json!(true));
        check("[3, 1].isSorted() || [1, 3].sum() == 4", json!(true));
        check("quantity('1Gi').isGreaterThan(quantity('1G'))", json!(true));
        check("url('https://a.example:80/x?y=1').getHost()", json!("a.example:80"));
        check("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3')", json!(true));
        check("isIP('x') || isCIDR('1.2.3.4') || isQuantity('x') || isURL('x') || isSemver('1')", json!(false));
        check("semver('1.2.3').isLessThan(semver('1.10.0'))", json!(true));
        check("format.dns1123Label().validate('a').hasValue()", json!(false));
        check("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1])", json!(true));
        check("optional.of(1).value() + optional.none().orValue(2)", json!(3));
        check("{'a': 1}[?'b'].orValue(7)", json!(7));
        check("self.?spec.?name.hasValue()", json!(true));
        check("[?optional.none(), 2]", json!([2]));
        check("duration('1h30m').getMinutes() == 90 && timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026", json!(true));
        check("timestamp('2026-01-02T00:00:00Z') + duration('24h') == timestamp('2026-01-03T00:00:00Z')", json!(true));
        check("jsonpatch.escapeKey('a/b~c')", json!("a~1b~0c"));
        check("self.spec.tags.sort()", json!(["a", "b"]));
    }

    fn refuse(source: &str, expected: &str) {
        let issues = Program::compile(source, &environment()).map(|program| program.type_().to_string()).unwrap_err();
        assert_eq!(issues.issues[0].message, expected, "{source}");
    }

    #[test]
    fn mistakes_are_told_as_cel_go_tells_them() {
        refuse("self.z == 100", "undefined field 'z'");
        refuse("nothing", "undeclared reference to 'nothing' (in container '')");
        refuse("self.spec.replicas > '1'", "found no matching overload for '_>_' applied to '(int, string)'");
        refuse("'a' + 1", "found no matching overload for '_+_' applied to '(string, int)'");
        refuse("self = 42", "Syntax error: token recognition error at: '= '");
        refuse("[1].all(x, x)", "expected type 'bool' but found 'int'");
        refuse(
            "1 +",
            "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        );
        let issues = Program::compile("self.z", &environment()).unwrap_err();
        assert_eq!(issues.to_string(), "ERROR: <input>:1:5: undefined field 'z'\n | self.z\n | ....^");
        assert!(Program::compile(&"(".repeat(10_000), &environment()).is_err());
        assert!(Program::compile(&"!".repeat(10_000), &environment()).is_err());
    }

    #[test]
    fn an_evaluation_ends_when_its_budget_does() {
        let source = "[1,2,3,4,5,6,7,8].all(x, [1,2,3,4,5,6,7,8].all(y, [1,2,3,4,5,6,7,8].all(z, x + y + z > 0)))";
        let program = Program::compile(source, &environment()).unwrap();
        let variables: BTreeMap<String, Value> = BTreeMap::new();
        assert_eq!(program.evaluate(&variables, &mut Budget::new(1000)).unwrap_err(), EvalError::CostExceeded);
        assert!(program.evaluate(&variables, &mut Budget::new(100_000)).is_ok());
    }
}
