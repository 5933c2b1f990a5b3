//! Label and field selectors: parsed once, matched often.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use std::collections::BTreeMap;

use std::fmt;

use serde_json::Value;

/// Where a selector finds the values of labels.
pub trait LabelSource {
    /// Value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSource for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl LabelSource for crate::object::Labels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

/// The labels of a decoded object, or a pod template's, as a JSON object of strings.
impl LabelSource for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
    /// The label is a number greater than this.
    GreaterThan(String, i64),
    /// The label is a number less than this.
    LessThan(String, i64),
}

impl Requirement {
    fn matches(&self, labels: &impl LabelSource) -> bool {
        let number = |key: &String| labels.label(key).and_then(|value| value.parse::<i64>().ok());
        let among = |values: &[String], value: &str| values.iter().any(|known| known == value);
        match self {
            Self::In(key, values) => labels.label(key).is_some_and(|value| among(values, value)),
            Self::NotIn(key, values) => labels.label(key).is_none_or(|value| !among(values, value)),
            Self::Exists(key) => labels.label(key).is_some(),
            Self::DoesNotExist(key) => labels.label(key).is_none(),
            Self::GreaterThan(key, bound) => number(key).is_some_and(|value| value > *bound),
            Self::LessThan(key, bound) => number(key).is_some_and(|value| value < *bound),
        }
    }
}

/// All requirements must hold; none of them selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Parses the text form: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if !part.is_empty() {
                requirements.push(parse_requirement(part)?);
            }
        }
        Ok(Self { requirements })
    }

    /// Reads a `LabelSelector` object, or a plain map as a Service's selector is.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let equal = |(key, value): (&String, &Value)| Requirement::In(key.clone(), vec![text(value)]);
        let structured =
            value.get("matchLabels").is_some_and(Value::is_object) || value.get("matchExpressions").is_some_and(Value::is_array);
        let plain = if structured { value.get("matchLabels") } else { Some(value) };
        let mut requirements: Vec<_> = plain.and_then(Value::as_object).into_iter().flatten().map(equal).collect();
        for expression in value.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = text(&expression["key"]);
            let values = expression["values"].as_array().into_iter().flatten().map(text).collect();
            requirements.push(match expression["operator"].as_str() {
                Some("In") => Requirement::In(key, values),
                Some("NotIn") => Requirement::NotIn(key, values),
                Some("Exists") => Requirement::Exists(key),
                _ => Requirement::DoesNotExist(key),
            });
        }
        Self { requirements }
    }

    /// A selector of these requirements.
    #[must_use]
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self { requirements }
    }

    /// The same with further requirements.
    #[must_use]
    pub fn and(mut self, requirements: impl IntoIterator<Item = Requirement>) -> Self {
        self.requirements.extend(requirements);
        self
    }

    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &impl LabelSource) -> bool {
        Self::matches_all(&self.requirements, labels)
    }

    /// Whether labels meet all of these.
    #[must_use]
    pub fn matches_all(requirements: &[Requirement], labels: &impl LabelSource) -> bool {
        requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

/// The text form, by key.
impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |requirement: &Requirement| match requirement {
            Requirement::In(key, values) if values.len() == 1 => format!("{key}={}", values[0]),
            Requirement::In(key, values) => format!("{key} in ({})", values.join(",")),
            Requirement::NotIn(key, values) if values.len() == 1 => format!("{key}!={}", values[0]),
            Requirement::NotIn(key, values) => format!("{key} notin ({})", values.join(",")),
            Requirement::Exists(key) => key.clone(),
            Requirement::DoesNotExist(key) => format!("!{key}"),
            Requirement::GreaterThan(key, bound) => format!("{key}>{bound}"),
            Requirement::LessThan(key, bound) => format!("{key}<{bound}"),
        };
        let mut parts: Vec<String> = self.requirements.iter().map(text).collect();
        parts.sort_by(|one, other| one.trim_start_matches('!').cmp(other.trim_start_matches('!')));
        formatter.write_str(&parts.join(","))
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(part: &str) -> Result<Requirement, String> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::DoesNotExist(label_key(key)?));
    }
    for (operator, not) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = part.split_once(operator) {
            let (key, value) = (label_key(key)?, vec![label_value(value)?]);
            return Ok(if not { Requirement::NotIn(key, value) } else { Requirement::In(key, value) });
        }
    }
    if let Some((key, bound)) = part.split_once('>') {
        return Ok(Requirement::GreaterThan(label_key(key)?, parse_bound(bound)?));
    }
    if let Some((key, bound)) = part.split_once('<') {
        return Ok(Requirement::LessThan(label_key(key)?, parse_bound(bound)?));
    }
    let mut words = part.splitn(2, char::is_whitespace);
    let key = label_key(words.next().unwrap_or_default())?;
    let Some(rest) = words.next().map(str::trim) else { return Ok(Requirement::Exists(key)) };
    let (not, list) = match (rest.strip_prefix("notin"), rest.strip_prefix("in")) {
        (Some(list), _) => (true, list),
        (None, Some(list)) => (false, list),
        (None, None) => {
            return Err(format!("unable to parse requirement: found '{rest}', expected: in, notin, =, ==, !=, gt, lt"));
        }
    };
    let inner = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
    let inner = inner.ok_or_else(|| format!("unable to parse requirement: found '{}', expected: '('", list.trim()))?;
    let values = inner.split(',').map(label_value).collect::<Result<Vec<_>, _>>()?;
    Ok(if not { Requirement::NotIn(key, values) } else { Requirement::In(key, values) })
}

fn label_key(text: &str) -> Result<String, String> {
    let key = text.trim();
    match crate::names::qualified_name(key).into_iter().next() {
        None => Ok(key.to_owned()),
        Some(reason) => Err(format!("unable to parse requirement: <nil>: Invalid value: {key:?}: {reason}")),
    }
}

fn label_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    match crate::names::label_value(value).into_iter().next() {
        None => Ok(value.to_owned()),
        Some(reason) => Err(format!("unable to parse requirement: <nil>: Invalid value: {value:?}: {reason}")),
    }
}

fn parse_bound(text: &str) -> Result<i64, String> {
    let message = |_| format!("unable to parse requirement: for 'Gt', 'Lt' operators, the value must be an integer: {text:?}");
    text.trim().parse().map_err(message)
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Path, such as `spec.nodeName`.
    pub path: String,
    /// Whether the field must equal the value, or must not.
    pub equal: bool,
    /// Value.
    pub value: String,
}

/// All terms must hold; none of them selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The terms.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Whether it names fields beside the name and the namespace.
    #[must_use]
    pub fn looks_inside(&self) -> bool {
        self.terms.iter().any(|term| !matches!(term.path.as_str(), "metadata.name" | "metadata.namespace"))
    }

    /// Parses the text form: `a=b,c!=d`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (path, value, true)
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm { path: path.to_owned(), equal, value: value.to_owned() });
        }
        Ok(Self { terms })
    }

    /// Whether fields are selected; `value_of` gives the value at a path.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|term| (value_of(&term.path) == term.value) == term.equal)
    }

    /// The value that a field must equal, if the selector says so.
    #[must_use]
    pub fn required(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.path == path).map(|term| term.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn label_selectors_match_as_documented() {
        for (selector, set, expected) in [
            ("a=b", "a=b", true),
            ("a==b", "a=c", false),
            ("a!=b", "", true),
            ("a", "a=", true),
            ("!a", "a=1", false),
            ("a in (x, y),b notin (z)", "a=y", true),
            ("a in (x,y)", "", false),
            ("a notin (x)", "a=x", false),
            ("a>5", "a=6", true),
            ("a<5", "a=6", false),
            ("", "a=1", true),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(&labels(set)), expected, "{selector} {set}");
        }
        assert!(LabelSelector::parse("a within (b)").is_err());
        assert!(LabelSelector::parse("a=$").is_err());
    }

    #[test]
    fn a_service_selector_and_a_label_selector_read_alike() {
        let plain = LabelSelector::from_value(&json!({"app": "nginx"}));
        let structured = LabelSelector::from_value(&json!({"matchLabels": {"app": "nginx"}}));
        assert_eq!(plain, structured);
        let expression = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["nginx"]}]});
        assert!(!LabelSelector::from_value(&expression).matches(&labels("app=nginx")));
    }

    #[test]
    fn field_selectors_compare_text() {
        let selector = FieldSelector::parse("spec.nodeName=a,status.phase!=Running").unwrap();
        let value = |path: &str| if path == "spec.nodeName" { "a" } else { "Pending" };
        assert!(selector.matches(value));
        assert_eq!(selector.required("spec.nodeName"), Some("a"));
        assert_eq!(selector.required("status.phase"), None);
        assert!(FieldSelector::parse("nonsense").is_err());
    }
}
