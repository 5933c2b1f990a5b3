//! How fast replicas may change: bounds, policies, and a memory of what was recommended. Pure.
//!
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior>

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// Seconds for which lower recommendations wait, where nothing else is said.
const DOWN_WINDOW: i64 = 300;

/// How to scale in both directions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Behavior {
    /// Upwards.
    pub scale_up: Option<Rules>,
    /// Downwards.
    pub scale_down: Option<Rules>,
}

/// How to scale in one direction.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rules {
    /// Seconds over which recommendations are compared.
    pub stabilization_window_seconds: Option<i64>,
    /// `Max`, `Min` or `Disabled`.
    pub select_policy: Option<String>,
    /// Limits.
    pub policies: Vec<Policy>,
    /// How far usage may be from its target.
    pub tolerance: Option<String>,
}

/// A limit of change within a time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    /// `Pods` or `Percent`.
    pub r#type: String,
    /// How much.
    pub value: i64,
    /// In how many seconds.
    pub period_seconds: i64,
}

/// What was recommended and done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    recommendations: Vec<(Timestamp, i64)>,
    changes: Vec<(Timestamp, i64)>,
}

/// What is decided, and why: reason and message of the conditions AbleToScale and ScalingLimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Replicas.
    pub replicas: i64,
    /// Why the recommendation was not followed at once.
    pub stabilized: Option<(&'static str, &'static str)>,
    /// Which bound was met.
    pub limited: Option<(&'static str, &'static str)>,
}

/// What decides besides the recommendation.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Fewest replicas.
    pub least: i64,
    /// Most replicas.
    pub most: i64,
    /// Rules, if there are any.
    pub behavior: Option<&'a Behavior>,
}

fn since(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
}

impl Past {
    /// Notes that replicas were changed.
    pub fn changed(&mut self, by: i64, now: Timestamp) {
        self.changes.retain(|(at, _)| *at > since(now, 3600));
        self.changes.push((now, by));
    }

    fn note(&mut self, replicas: i64, now: Timestamp) {
        self.recommendations.retain(|(at, _)| *at > since(now, 3600));
        self.recommendations.push((now, replicas));
    }

    fn change(&self, seconds: i64, now: Timestamp, up: bool) -> i64 {
        let within = self.changes.iter().filter(|(at, by)| *at > since(now, seconds) && (*by > 0) == up);
        within.map(|(_, by)| by.abs()).sum()
    }

    /// The recommendation with those of the windows taken into account.
    fn stabilize(&self, current: i64, wanted: i64, (up, down): (i64, i64), now: Timestamp) -> i64 {
        let within = |seconds: i64| {
            self.recommendations.iter().filter(move |(at, _)| *at > since(now, seconds)).map(|(_, replicas)| *replicas)
        };
        let lowest = within(up).min().map_or(wanted, |least| least.min(wanted));
        let highest = within(down).max().map_or(wanted, |most| most.max(wanted));
        current.max(lowest).min(highest)
    }

    /// Decides how many replicas there shall be.
    pub fn decide(&mut self, current: i64, wanted: i64, bounds: Bounds<'_>, now: Timestamp) -> Decision {
        let up = bounds.behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = bounds.behavior.and_then(|behavior| behavior.scale_down.as_ref());
        let window =
            |rules: Option<&Rules>, default: i64| rules.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default);
        let windows = (window(up, 0), window(down, DOWN_WINDOW));
        let stable = self.stabilize(current, wanted, windows, now);
        self.note(wanted, now);
        let stabilized = match stable {
            _ if stable == wanted => None,
            _ if wanted > stable => Some((
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            )),
            _ => Some((
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            )),
        };
        let (replicas, limited) = self.limit(current, stable, bounds, (up, down), now);
        Decision { replicas, stabilized, limited }
    }

    fn limit(
        &self,
        current: i64,
        wanted: i64,
        bounds: Bounds<'_>,
        (up, down): (Option<&Rules>, Option<&Rules>),
        now: Timestamp,
    ) -> (i64, Option<(&'static str, &'static str)>) {
        if wanted > current {
            let fast = match bounds.behavior {
                None => (2 * current).max(4),
                Some(_) => self.ceiling(current, up, now).max(current),
            };
            if wanted > fast.min(bounds.most) {
                return if bounds.most > fast {
                    (fast, Some(("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")))
                } else {
                    (bounds.most, Some(("TooManyReplicas", "the desired replica count is more than the maximum replica count")))
                };
            }
        } else if wanted < current {
            let fast = match bounds.behavior {
                None => 0,
                Some(_) => self.floor(current, down, now).min(current),
            };
            if wanted < fast.max(bounds.least) {
                return if bounds.least < fast {
                    (fast, Some(("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")))
                } else {
                    (bounds.least, Some(("TooFewReplicas", "the desired replica count is less than the minimum replica count")))
                };
            }
        }
        (wanted.clamp(bounds.least, bounds.most.max(bounds.least)), None)
    }

    /// Most replicas that the policies allow now.
    fn ceiling(&self, current: i64, rules: Option<&Rules>, now: Timestamp) -> i64 {
        let policy = |kind: &str, value| Policy { r#type: kind.into(), value, period_seconds: 15 };
        let defaults = [policy("Pods", 4), policy("Percent", 100)];
        let start = |policy: &Policy| {
            current - self.change(policy.period_seconds, now, true) + self.change(policy.period_seconds, now, false)
        };
        let allowed = |policy: &Policy| match policy.r#type.as_str() {
            "Pods" => start(policy) + policy.value,
            // Rounded up, so that one percent of few pods is something.
            _ => (start(policy) * (100 + policy.value) + 99).div_euclid(100),
        };
        select(rules, &defaults, current, allowed, true)
    }

    /// Fewest replicas that the policies allow now.
    fn floor(&self, current: i64, rules: Option<&Rules>, now: Timestamp) -> i64 {
        let defaults = [Policy { r#type: "Percent".into(), value: 100, period_seconds: 15 }];
        let start = |policy: &Policy| {
            current - self.change(policy.period_seconds, now, true) + self.change(policy.period_seconds, now, false)
        };
        let allowed = |policy: &Policy| match policy.r#type.as_str() {
            "Pods" => start(policy) - policy.value,
            _ => (start(policy) * (100 - policy.value)).div_euclid(100),
        };
        select(rules, &defaults, current, allowed, false)
    }
}

/// The most, or least, change that any policy allows.
fn select(rules: Option<&Rules>, defaults: &[Policy], current: i64, allowed: impl Fn(&Policy) -> i64, up: bool) -> i64 {
    let policies = rules.map(|rules| rules.policies.as_slice()).filter(|policies| !policies.is_empty()).unwrap_or(defaults);
    let choice = rules.and_then(|rules| rules.select_policy.as_deref()).unwrap_or("Max");
    let limits = policies.iter().map(allowed);
    match (choice, up) {
        ("Disabled", _) => current,
        ("Min", true) | ("Max", false) => limits.min().unwrap_or(current),
        _ => limits.max().unwrap_or(current),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(100_000 + second).unwrap()
    }

    fn decide(past: &mut Past, behavior: Value, current: i64, wanted: i64, second: i64) -> (i64, &'static str) {
        let behavior: Option<Behavior> = serde_json::from_value(behavior).unwrap();
        let found = past.decide(current, wanted, Bounds { least: 2, most: 20, behavior: behavior.as_ref() }, at(second));
        (found.replicas, found.limited.or(found.stabilized).map_or("", |(reason, _)| reason))
    }

    #[test]
    fn growth_is_bounded() {
        let cases = [
            (Value::Null, 2, 3, (3, "")),
            (Value::Null, 2, 15, (4, "ScaleUpLimit")),
            (Value::Null, 8, 15, (15, "")),
            (Value::Null, 15, 99, (20, "TooManyReplicas")),
            (json!({}), 2, 15, (6, "ScaleUpLimit")),
            (json!({"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}), 2, 9, (3, "ScaleUpLimit")),
            (
                json!({"scaleUp": {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]}}),
                5,
                9,
                (6, "ScaleUpLimit"),
            ),
            (json!({"scaleUp": {"selectPolicy": "Disabled"}}), 5, 9, (5, "ScaleUpLimit")),
            (json!({"scaleUp": {"selectPolicy": "Min"}}), 3, 19, (6, "ScaleUpLimit")),
        ];
        for (behavior, current, wanted, found) in cases {
            assert_eq!(
                decide(&mut Past::default(), behavior.clone(), current, wanted, 0),
                found,
                "{behavior} {current} {wanted}"
            );
        }
    }

    #[test]
    fn shrinking_waits_and_is_bounded() {
        let mut past = Past::default();
        assert_eq!(decide(&mut past, Value::Null, 10, 10, 0), (10, ""));
        assert_eq!(decide(&mut past, Value::Null, 10, 3, 60), (10, "ScaleDownStabilized"));
        assert_eq!(decide(&mut past, Value::Null, 10, 3, 301), (3, ""));
        assert_eq!(decide(&mut past, Value::Null, 3, 1, 1000), (2, "TooFewReplicas"));
        let at_once = |policy: Value| json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [policy]}});
        let two = at_once(json!({"type": "Pods", "value": 2, "periodSeconds": 60}));
        let mut past = Past::default();
        assert_eq!(decide(&mut past, two.clone(), 10, 3, 0), (8, "ScaleDownLimit"));
        past.changed(-2, at(0));
        assert_eq!(decide(&mut past, two.clone(), 8, 3, 30), (8, "ScaleDownLimit"), "two within a minute");
        assert_eq!(decide(&mut past, two, 8, 3, 61), (6, "ScaleDownLimit"));
        let tenth = at_once(json!({"type": "Percent", "value": 10, "periodSeconds": 60}));
        assert_eq!(decide(&mut Past::default(), tenth, 15, 3, 0), (13, "ScaleDownLimit"));
    }

    #[test]
    fn growth_may_wait_too() {
        let slow = json!({"scaleUp": {"stabilizationWindowSeconds": 60}});
        let mut past = Past::default();
        assert_eq!(decide(&mut past, slow.clone(), 3, 3, 0), (3, ""));
        assert_eq!(decide(&mut past, slow.clone(), 3, 6, 30), (3, "ScaleUpStabilized"));
        assert_eq!(decide(&mut past, slow, 3, 6, 61), (6, ""));
    }
}
