//! The JSONPath of printer columns, scale paths and selectable fields.
//!
//! In: a path such as `.status.conditions[?(@.type=="Ready")].status`. Out: the values that it leads to, in order.
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>

use serde_json::Value;

/// Steps of a path at most.
const STEPS_MAX: usize = 64;
/// Values that are followed at most.
const VALUES_MAX: usize = 10_000;

/// A parsed path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Wildcard,
    Descend,
    Union(Vec<Step>),
    Filter { left: Operand, comparison: Option<(Comparison, Operand)> },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path; braces around it are optional.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let mut parser = Parser { rest: text.strip_prefix('$').or_else(|| text.strip_prefix('@')).unwrap_or(text) };
        let mut steps = Vec::new();
        while !parser.rest.is_empty() {
            parser.step(&mut steps)?;
            if steps.len() > STEPS_MAX {
                return Err("path is too long".to_owned());
            }
        }
        Ok(Self { steps })
    }

    /// Values that the path leads to.
    #[must_use]
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
                if next.len() > VALUES_MAX {
                    break;
                }
            }
            found = next;
        }
        found
    }

    /// Field names of a path that has nothing else.
    #[must_use]
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn step(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix("..") {
            self.rest = rest;
            steps.push(Step::Descend);
            if rest.starts_with('[') {
                return Ok(());
            }
            return self.name(steps);
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            return if rest.is_empty() || rest.starts_with('[') { Ok(()) } else { self.name(steps) };
        }
        if self.rest.starts_with('[') {
            let close = closing_bracket(self.rest).ok_or("unterminated array")?;
            let inner = self.rest[1..close].trim();
            steps.push(bracket(inner)?);
            self.rest = &self.rest[close + 1..];
            return Ok(());
        }
        self.name(steps)
    }

    fn name(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        let mut name = String::new();
        let mut escaped = false;
        let mut end = self.rest.len();
        for (at, letter) in self.rest.char_indices() {
            match letter {
                _ if escaped => {
                    name.push(letter);
                    escaped = false;
                }
                '\\' => escaped = true,
                '.' | '[' => {
                    end = at;
                    break;
                }
                letter if letter.is_whitespace() || matches!(letter, '{' | '}' | '(' | ')' | ']') => {
                    return Err(format!("unexpected character {letter:?}"));
                }
                letter => name.push(letter),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() {
            return Err("empty field name".to_owned());
        }
        steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
        Ok(())
    }
}

/// Position of the bracket that closes the first one; quotes are skipped.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => {
                letters.next();
            }
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut plain = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next()? } else { letter });
    }
    Some(plain)
}

fn bracket(inner: &str) -> Result<Step, String> {
    if let Some(filter) = inner.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        return filter_step(filter);
    }
    if inner == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(name) = unquote(inner).filter(|_| !inner[1..].contains("',")) {
        return Ok(Step::Field(name));
    }
    if inner.contains(',') {
        return inner.split(',').map(|part| bracket(part.trim())).collect::<Result<_, _>>().map(Step::Union);
    }
    let number = |text: &str| -> Result<Option<i64>, String> {
        let text = text.trim();
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| format!("invalid array index {inner}")) }
    };
    match inner.split_once(':') {
        Some((from, to)) => Ok(Step::Slice(number(from)?, number(to)?)),
        None => Ok(Step::Index(number(inner)?.ok_or_else(|| format!("invalid array index {inner}"))?)),
    }
}

fn filter_step(text: &str) -> Result<Step, String> {
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    for (sign, comparison) in comparisons {
        if let Some((left, right)) = text.split_once(sign) {
            let comparison = Some((comparison, operand(right)?));
            return Ok(Step::Filter { left: operand(left)?, comparison });
        }
    }
    Ok(Step::Filter { left: operand(text)?, comparison: None })
}

fn operand(text: &str) -> Result<Operand, String> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).map(Operand::Path);
    }
    if let Some(text) = unquote(text) {
        return Ok(Operand::Literal(text.into()));
    }
    serde_json::from_str(text).map(Operand::Literal).map_err(|_| format!("unrecognized operand {text}"))
}

impl Operand {
    fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Path(path) => path.find(item).into_iter().next(),
        }
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, next: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => next.extend(value.get(name)),
            Self::Index(index) => {
                let Some(items) = value.as_array() else { return };
                next.extend(place(*index, items.len()).and_then(|at| items.get(at)));
            }
            Self::Slice(from, to) => {
                let Some(items) = value.as_array() else { return };
                let bound = |bound: i64| usize::try_from(if bound < 0 { bound + items.len() as i64 } else { bound }).unwrap_or(0);
                let (from, to) = (bound(from.unwrap_or(0)), to.map_or(items.len(), bound).min(items.len()));
                next.extend(items.get(from..to).into_iter().flatten());
            }
            Self::Wildcard => match value {
                Value::Array(items) => next.extend(items),
                Value::Object(map) => next.extend(map.values()),
                _ => {}
            },
            Self::Descend => descend(value, next),
            Self::Union(steps) => steps.iter().for_each(|step| step.follow(value, next)),
            Self::Filter { left, comparison } => {
                let items = value.as_array().into_iter().flatten();
                next.extend(items.filter(|item| holds(left, comparison.as_ref(), item)));
            }
        }
    }
}

fn place(index: i64, length: usize) -> Option<usize> {
    usize::try_from(if index < 0 { index + length as i64 } else { index }).ok()
}

fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    if found.len() > VALUES_MAX {
        return;
    }
    found.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, found)),
        Value::Object(map) => map.values().for_each(|value| descend(value, found)),
        _ => {}
    }
}

fn holds(left: &Operand, comparison: Option<&(Comparison, Operand)>, item: &Value) -> bool {
    let Some(left) = left.value(item) else { return false };
    let Some((comparison, right)) = comparison else { return true };
    let Some(right) = right.value(item) else { return false };
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match (comparison, order) {
        (Comparison::Equal, order) => order.is_some_and(std::cmp::Ordering::is_eq),
        (Comparison::NotEqual, order) => !order.is_some_and(std::cmp::Ordering::is_eq),
        (Comparison::Less, Some(order)) => order.is_lt(),
        (Comparison::LessOrEqual, Some(order)) => order.is_le(),
        (Comparison::Greater, Some(order)) => order.is_gt(),
        (Comparison::GreaterOrEqual, Some(order)) => order.is_ge(),
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_kubectl_says() {
        let object = json!({
            "spec": {"replicas": 3, "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]},
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, expected) in [
            (".spec.replicas", json!([3])),
            ("{.spec.replicas}", json!([3])),
            (".spec.absent", json!([])),
            (".spec.ports[*].port", json!([80, 81])),
            (".spec.ports[0].name", json!(["a"])),
            (".spec.ports[-1:].name", json!(["b"])),
            (".spec.ports[0,1].port", json!([80, 81])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".spec.ports[?(@.port>80)].name", json!(["b"])),
            (".metadata.annotations.a\\.b/c", json!(["x"])),
            (".metadata.annotations['a\\.b/c']", json!(["x"])),
            (".spec..name", json!(["a", "b"])),
        ] {
            let found: Vec<Value> = JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), expected, "{path}");
        }
        assert!(JsonPath::parse(".a[").is_err() && JsonPath::parse(".a[x]").is_err() && JsonPath::parse(". b").is_err());
        assert_eq!(JsonPath::parse(".a.b").unwrap().fields().unwrap(), ["a", "b"]);
    }
}
