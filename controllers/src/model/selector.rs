//! Label selectors, parsed once.

use serde::{Deserialize, Serialize};

use super::Labels;

/// A label selector; one that is empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Selector {
    /// Labels that must be so.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub match_labels: Labels,
    /// Requirements beyond them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// Label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`; for nodes also `Gt` and `Lt`.
    pub operator: String,
    /// Values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether a label's value, or its absence, is as required.
    pub fn holds(&self, found: Option<&str>) -> bool {
        let within = || self.values.iter().any(|value| found == Some(value));
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |holds: fn(i64, i64) -> bool| {
            let (left, right) = (found.and_then(number), self.values.first().and_then(|value| number(value)));
            left.zip(right).is_some_and(|(left, right)| holds(left, right))
        };
        match self.operator.as_str() {
            "In" => within(),
            "NotIn" => !within(),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            "Gt" => compare(|left, right| left > right),
            "Lt" => compare(|left, right| left < right),
            _ => false,
        }
    }
}

impl Selector {
    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn selectors_match_as_documented() {
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let cases = [
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), false),
            (json!({}), true),
        ];
        for (selector, wanted) in cases {
            let parsed: Selector = serde_json::from_value::<Value>(selector.clone()).and_then(serde_json::from_value).unwrap();
            assert_eq!(parsed.matches(&labels), wanted, "{selector}");
        }
    }
}
