//! Taints and who tolerates them. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Toleration;

/// Keeps pods from being placed.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Drives pods away.
pub const NO_EXECUTE: &str = "NoExecute";

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect.
    pub effect: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Timestamp>,
}

impl Taint {
    /// A taint without a value.
    pub fn new(key: &str, effect: &str) -> Self {
        Self { key: key.to_owned(), effect: effect.to_owned(), ..Self::default() }
    }

    /// Whether it is the same taint, whatever its time and value.
    pub fn is_like(&self, other: &Self) -> bool {
        self.key == other.key && self.effect == other.effect
    }
}

impl Toleration {
    /// That whatever value a key has is tolerated.
    pub fn exists(key: &str, effect: &str) -> Self {
        Self { key: key.to_owned(), operator: "Exists".to_owned(), effect: effect.to_owned(), ..Self::default() }
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator.as_str() {
                "Exists" => true,
                "" | "Equal" => self.value == taint.value,
                _ => false,
            }
    }
}

/// The first taint with one of these effects that nothing tolerates.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let counts = |taint: &&Taint| effects.contains(&taint.effect.as_str());
    taints.iter().filter(counts).find(|taint| !tolerations.iter().any(|toleration| toleration.tolerates(taint)))
}

/// How long a pod may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// It may stay.
    Forever,
    /// At once.
    No,
    /// For so long.
    For(SignedDuration),
}

/// How long a pod may stay on a node with these taints: the shortest time that it tolerates any of them.
pub fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let driving: Vec<_> = taints.iter().filter(|taint| taint.effect == NO_EXECUTE).collect();
    if driving.is_empty() {
        return Stay::Forever;
    }
    let mut shortest = None;
    for taint in driving {
        let mut tolerating = tolerations.iter().filter(|toleration| toleration.tolerates(taint)).peekable();
        if tolerating.peek().is_none() {
            return Stay::No;
        }
        for seconds in tolerating.filter_map(|toleration| toleration.toleration_seconds) {
            if seconds <= 0 {
                return Stay::No;
            }
            shortest = Some(shortest.map_or(seconds, |least: i64| least.min(seconds)));
        }
    }
    shortest.map_or(Stay::Forever, |seconds| Stay::For(SignedDuration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_pods_stay() {
        let taint = Taint::new("k", NO_EXECUTE);
        let other = Taint::new("l", NO_EXECUTE);
        let timed = |key: &str, seconds| Toleration { toleration_seconds: Some(seconds), ..Toleration::exists(key, NO_EXECUTE) };
        let forever = |key: &str| Toleration::exists(key, "");
        let cases = [
            (vec![], vec![], Stay::Forever),
            (vec![Taint::new("k", NO_SCHEDULE)], vec![], Stay::Forever),
            (vec![taint.clone()], vec![], Stay::No),
            (vec![taint.clone()], vec![forever("k")], Stay::Forever),
            (vec![taint.clone()], vec![timed("k", 5), timed("k", 9)], Stay::For(SignedDuration::from_secs(5))),
            (vec![taint.clone()], vec![timed("k", 0)], Stay::No),
            (vec![taint.clone(), other.clone()], vec![timed("k", 5)], Stay::No),
            (vec![taint, other], vec![timed("k", 5), forever("l")], Stay::For(SignedDuration::from_secs(5))),
        ];
        for (taints, tolerations, wanted) in cases {
            assert_eq!(stay(&taints, &tolerations), wanted, "{taints:?} {tolerations:?}");
        }
    }

    #[test]
    fn operators() {
        let taint = Taint { value: "v".into(), ..Taint::new("k", NO_SCHEDULE) };
        let toleration = |operator: &str, value: &str| Toleration {
            key: "k".into(),
            operator: operator.into(),
            value: value.into(),
            ..Toleration::default()
        };
        assert!(toleration("", "v").tolerates(&taint) && toleration("Equal", "v").tolerates(&taint));
        assert!(!toleration("Equal", "w").tolerates(&taint) && toleration("Exists", "").tolerates(&taint));
        assert!(untolerated(&[taint], &[], &[NO_EXECUTE]).is_none());
    }
}
