//! How many replicas a metric calls for. Pure.
//!
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kontiki_api::quantity::Quantity;

use crate::model::Pod;

/// Pods that began within this time may still burn processors only to begin.
const INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// Pods that were never ready and began within this time are waited for.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What a pod used: thousandths of a unit over a time that ended then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Thousandths of a unit.
    pub milli: i64,
    /// When it ended.
    pub at: Timestamp,
    /// How long it was.
    pub window: SignedDuration,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Hundredths of what the pods ask for.
    Utilization(i64),
    /// Thousandths of a unit for each pod.
    Average(i64),
}

/// A resource of all containers, or of those of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Its name.
    pub name: &'a str,
    /// The container.
    pub container: Option<&'a str>,
}

/// What a metric comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Replicas.
    pub replicas: i64,
    /// Hundredths of what the pods ask for, where that is known.
    pub utilization: Option<i64>,
    /// Thousandths of a unit for each pod.
    pub average: i64,
}

/// How far usage may be from its target, downwards and upwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Downwards.
    pub down: f64,
    /// Upwards.
    pub up: f64,
}

impl Tolerances {
    fn accept(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

#[derive(Default)]
struct Groups<'a> {
    ready: usize,
    unready: Vec<&'a str>,
    missing: Vec<&'a str>,
    ignored: Vec<&'a str>,
}

fn group<'a>(pods: &'a [Arc<Pod>], samples: &BTreeMap<String, Sample>, resource: &str, now: Timestamp) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.metadata.name.as_str();
        if pod.metadata.is_deleted() || pod.status.phase == "Failed" {
            groups.ignored.push(name);
        } else if pod.status.phase == "Pending" {
            groups.unready.push(name);
        } else if let Some(sample) = samples.get(name) {
            if resource == "cpu" && is_unready(pod, sample, now) { groups.unready.push(name) } else { groups.ready += 1 }
        } else {
            groups.missing.push(name);
        }
    }
    groups
}

fn is_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let (Some(ready), Some(start)) = (pod.condition("Ready"), pod.status.start_time) else { return true };
    let changed = ready.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH);
    if now.duration_since(start) < INITIALIZATION {
        // What it used before it was ready says nothing.
        return ready.status == "False" || sample.at.duration_since(changed) < sample.window;
    }
    ready.status == "False" && changed.duration_since(start) < INITIAL_READINESS
}

/// What a pod asks for of a resource, in thousandths.
fn request(pod: &Pod, resource: Resource<'_>) -> Result<i64, String> {
    let beside = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let own = pod.spec.containers.iter().chain(beside);
    let named = own.filter(|container| resource.container.is_none_or(|name| container.name == name));
    let mut sum = 0;
    for container in named {
        let quantity = container.resources.requests.get(resource.name).and_then(|text| text.parse::<Quantity>().ok());
        let Some(quantity) = quantity else {
            return Err(format!(
                "missing request for {} in container {} of Pod {}",
                resource.name, container.name, pod.metadata.name
            ));
        };
        sum += quantity.milli();
    }
    Ok(sum)
}

fn ceil(value: f64) -> i64 {
    // Numbers of pods are far below what a float holds exactly.
    #[allow(clippy::cast_possible_truncation)]
    let whole = value.ceil() as i64;
    whole
}

#[allow(clippy::cast_precision_loss)]
fn float(value: i64) -> f64 {
    value as f64
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How usage stands to the target, and what it is.
fn ratio(samples: &BTreeMap<String, i64>, requests: &BTreeMap<&str, i64>, target: Target) -> Result<(f64, Answer), String> {
    let sum: i64 = samples.values().sum();
    let count = length(samples.len());
    let average = sum / count.max(1);
    match target {
        Target::Average(wanted) => {
            Ok((float(average) / float(wanted.max(1)), Answer { replicas: 0, utilization: None, average }))
        }
        Target::Utilization(wanted) => {
            let asked: i64 = samples.keys().filter_map(|name| requests.get(name.as_str())).sum();
            if asked == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let utilization = sum * 100 / asked;
            Ok((float(utilization) / float(wanted.max(1)), Answer { replicas: 0, utilization: Some(utilization), average }))
        }
    }
}

/// The replicas that a metric calls for.
pub fn replicas(
    current: i64,
    pods: &[Arc<Pod>],
    samples: &BTreeMap<String, Sample>,
    resource: Resource<'_>,
    target: Target,
    tolerances: Tolerances,
    now: Timestamp,
) -> Result<Answer, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(pods, samples, resource.name, now);
    let left_out = |name: &str| groups.ignored.contains(&name) || groups.unready.contains(&name);
    let known = |name: &str| pods.iter().any(|pod| pod.metadata.name == name);
    let counted = samples.iter().filter(|(name, _)| known(name) && !left_out(name));
    let mut used: BTreeMap<String, i64> = counted.map(|(name, sample)| (name.clone(), sample.milli)).collect();
    if used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let mut requests = BTreeMap::new();
    if matches!(target, Target::Utilization(_)) {
        for pod in pods {
            requests.insert(pod.metadata.name.as_str(), request(pod, resource)?);
        }
    }
    let (first, answer) = ratio(&used, &requests, target)?;
    let up_with_unready = !groups.unready.is_empty() && first > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        let replicas = if tolerances.accept(first) { current } else { ceil(first * float(length(groups.ready))) };
        return Ok(Answer { replicas, ..answer });
    }
    // Of pods that nothing is known of the worst is assumed: busy when it would shrink, idle when it would grow.
    let busy = |name: &str| match target {
        Target::Average(wanted) => wanted,
        Target::Utilization(wanted) => requests.get(name).copied().unwrap_or(0) * wanted.max(100) / 100,
    };
    if first < 1.0 {
        used.extend(groups.missing.iter().map(|name| ((*name).to_owned(), busy(name))));
    } else if first > 1.0 {
        used.extend(groups.missing.iter().map(|name| ((*name).to_owned(), 0)));
    }
    if up_with_unready {
        used.extend(groups.unready.iter().map(|name| ((*name).to_owned(), 0)));
    }
    let (second, _) = ratio(&used, &requests, target)?;
    let flipped = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    let wanted = ceil(second * float(length(used.len())));
    let backwards = (second < 1.0 && wanted > current) || (second > 1.0 && wanted < current);
    let keep = tolerances.accept(second) || flipped || backwards;
    Ok(Answer { replicas: if keep { current } else { wanted }, ..answer })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const TOLERANCES: Tolerances = Tolerances { down: 0.1, up: 0.1 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(10_000 + second).unwrap()
    }

    /// `used/asked` in thousandths; marks: `?` pending, `-` being deleted, `!` not ready, `_` no sample.
    fn decide(texts: &str, target: Target) -> Result<(i64, Option<i64>), String> {
        let (mut pods, mut samples) = (Vec::new(), BTreeMap::new());
        for (number, text) in texts.split(' ').enumerate() {
            let body = text.trim_end_matches(['?', '-', '!', '_']);
            let has = |mark: char| text[body.len()..].contains(mark);
            let (used, asked) = body.split_once('/').unwrap();
            let name = format!("p{number}");
            let ready =
                json!([{"type": "Ready", "status": if has('!') { "False" } else { "True" }, "lastTransitionTime": at(1)}]);
            let pod = json!({
                "metadata": {"name": name, "deletionTimestamp": has('-').then(|| at(0))},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{asked}m")}}}]},
                "status": {"phase": if has('?') { "Pending" } else { "Running" }, "startTime": at(0), "conditions": ready},
            });
            pods.push(Arc::new(serde_json::from_value(pod).unwrap()));
            if !has('_') && !has('?') {
                samples.insert(name, Sample { milli: used.parse().unwrap(), at: at(590), window: SignedDuration::from_secs(15) });
            }
        }
        let resource = Resource { name: "cpu", container: None };
        let current = length(pods.len());
        replicas(current, &pods, &samples, resource, target, TOLERANCES, at(600))
            .map(|answer| (answer.replicas, answer.utilization))
    }

    #[test]
    fn replicas_follow_usage() {
        let half = Target::Utilization(50);
        let cases = [
            ("100/100 100/100", half, (4, Some(100))),
            ("50/100 50/100", half, (2, Some(50))),
            ("54/100 54/100", half, (2, Some(54))),
            ("10/100 10/100 10/100 10/100", half, (1, Some(10))),
            ("100/100 0/100?", half, (2, Some(100))),
            ("100/100 200/100 0/100?", half, (6, Some(150))),
            ("100/100 0/100-", half, (2, Some(100))),
            ("10/100 0/100_", half, (2, Some(10))),
            ("100/100 100/100 0/100_", half, (4, Some(100))),
            ("100/100 100/100!", half, (2, Some(100))),
            ("300/1 100/1", Target::Average(100), (4, None)),
        ];
        for (texts, target, wanted) in cases {
            assert_eq!(decide(texts, target), Ok(wanted), "{texts}");
        }
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        assert!(decide("0/1?", Target::Utilization(50)).unwrap_err().contains("pods might be unready"));
        let pod: Arc<Pod> = Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})).unwrap(),
        );
        assert_eq!(
            request(&pod, Resource { name: "cpu", container: None }).unwrap_err(),
            "missing request for cpu in container c of Pod p"
        );
        assert_eq!(request(&pod, Resource { name: "cpu", container: Some("other") }), Ok(0));
    }
}
