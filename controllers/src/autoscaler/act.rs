//! Asking for scales and usage, and carrying out what they call for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use kontiki_api::{
    quantity::Quantity,
    resources::{HORIZONTAL_POD_AUTOSCALERS, ResourceKey},
    selector::LabelSelector,
};
use kontiki_client::{Error, Patch, events::EventType, reflector::ObjectKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    HorizontalPodAutoscaler, Metric, ResourceMetric,
    behavior::{Bounds, Past, Rules},
    usage::{self, Answer, Resource, Sample, Target, Tolerances},
};
use crate::{
    context::Context,
    discovery,
    model::{Condition, Pod, conditions, second},
    pod_control::reference,
    run::{self, Reconciled},
    written::write_status,
};

/// How often usage is looked at.
const EVERY: Duration = Duration::from_secs(15);
/// How far usage may be from its target.
const TOLERANCE: f64 = 0.1;

/// What is remembered of autoscalers between looks.
type Memory = Arc<Mutex<HashMap<ObjectKey, Past>>>;

/// A failure: the reason of a condition and its message.
type Failure = (&'static str, String);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Scale {
    spec: ScaleNumber,
    status: ScaleStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ScaleNumber {
    replicas: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ScaleStatus {
    replicas: i64,
    selector: String,
}

#[derive(Deserialize)]
struct MetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: crate::model::Meta,
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, String>,
}

pub(super) fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("horizontalpodautoscaling");
    let add = Arc::clone(&queue);
    context.autoscalers.on_change(move |change| {
        let asked = |one: &Arc<HorizontalPodAutoscaler>| one.spec.clone();
        // Its own status is no news.
        if change.old.as_ref().map(asked) != change.new.as_ref().map(asked) {
            add.add(change.key.clone());
        }
    });
    let (context, memory) = (Arc::clone(context), Memory::default());
    Box::pin(async move {
        run::run(queue, "horizontalpodautoscaling", cancel, move |key| reconcile(Arc::clone(&context), Arc::clone(&memory), key))
            .await;
    })
}

/// The resource of what is scaled.
async fn target(context: &Context, autoscaler: &HorizontalPodAutoscaler) -> Result<ResourceKey, Error> {
    let reference = &autoscaler.spec.scale_target_ref;
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    let is = |key: &ResourceKey| key.kind == reference.kind && key.group == group;
    if let Some(known) = discovery::built_in().into_iter().map(|served| served.key).find(is) {
        return Ok(known);
    }
    let added = discovery::added(context.client()).await?;
    let missing = || Error::Configuration(format!("no matches for kind {:?} in group {group:?}", reference.kind));
    added.served.into_iter().map(|served| served.key).find(is).ok_or_else(missing)
}

async fn reconcile(context: Arc<Context>, memory: Memory, key: ObjectKey) -> Reconciled {
    let Some(autoscaler) = context.autoscalers.get(&key.namespace, &key.name).filter(|one| !one.metadata.is_deleted()) else {
        memory.lock().remove(&key);
        return Ok(None);
    };
    let now = Timestamp::now();
    let mut report = Report { conditions: conditions(&autoscaler.status), now, autoscaler: &autoscaler, context: &context };
    let name = &autoscaler.spec.scale_target_ref.name;
    let scale = async {
        let resource = target(&context, &autoscaler).await?;
        let path = format!("{}/scale", resource.path(&key.namespace, name));
        let body = context.client().request(Method::GET, path.clone(), "", Bytes::new()).await?;
        let scale: Scale = serde_json::from_slice(&body).map_err(|error| Error::Decode { path, message: error.to_string() })?;
        Ok::<_, Error>((resource, scale))
    };
    let (resource, scale) = match scale.await {
        Ok(found) => found,
        Err(error) => {
            report.tell(EventType::Warning, "FailedGetScale", error.to_string());
            let words = format!("the HPA controller was unable to get the target's current scale: {error}");
            report.set("AbleToScale", false, "FailedGetScale", words);
            report.write(None).await?;
            return Ok(Some(EVERY));
        }
    };
    report.set("AbleToScale", true, "SucceededGetScale", "the HPA controller was able to get the target's current scale".into());
    let current = scale.spec.replicas;
    let least = autoscaler.spec.min_replicas.unwrap_or(1);
    if current == 0 && least != 0 {
        let words = "scaling is disabled since the replica count of the target is zero".to_owned();
        report.set("ScalingActive", false, "ScalingDisabled", words);
        report.write(Some(Outcome { current: scale.status.replicas, desired: 0, metrics: None, scaled: false })).await?;
        return Ok(Some(EVERY));
    }
    let most = autoscaler.spec.max_replicas;
    let mut past = memory.lock().remove(&key).unwrap_or_default();
    let (mut metrics, mut why) = (None, String::new());
    let desired = if current > most {
        why = "Current number of replicas above Spec.MaxReplicas".into();
        Some(most)
    } else if current < least {
        why = "Current number of replicas below Spec.MinReplicas".into();
        Some(least)
    } else {
        match measure(&context, &autoscaler, &scale, current, now).await {
            Ok(found) => {
                let words = format!("the HPA was able to successfully calculate a replica count from {}", found.name);
                report.set("ScalingActive", true, "ValidMetricFound", words);
                metrics = Some(found.status);
                let bounds = Bounds { least, most, behavior: autoscaler.spec.behavior.as_ref() };
                let decision = past.decide(current, found.replicas, bounds, now);
                report.follow(&decision);
                why = if found.replicas > current {
                    format!("{} above target", found.name)
                } else {
                    "All metrics below target".into()
                };
                Some(decision.replicas)
            }
            Err((reason, words)) => {
                report.tell(EventType::Warning, reason, words.clone());
                report.tell(
                    EventType::Warning,
                    "FailedComputeMetricsReplicas",
                    format!("invalid metrics (1 invalid out of 1), first error is: {words}"),
                );
                report.set("ScalingActive", false, reason, format!("the HPA was unable to compute the replica count: {words}"));
                None
            }
        }
    };
    let mut scaled = false;
    if let Some(desired) = desired.filter(|desired| *desired != current) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": desired } }));
        match context.client().patch::<Value>(resource, &key.namespace, name, Some("scale"), patch).await {
            Ok(_) => {
                scaled = true;
                past.changed(desired - current, now);
                report.tell(EventType::Normal, "SuccessfulRescale", format!("New size: {desired}; reason: {why}"));
                let words = format!("the HPA controller was able to update the target scale to {desired}");
                report.set("AbleToScale", true, "SucceededRescale", words);
            }
            Err(error) => {
                report.tell(EventType::Warning, "FailedRescale", format!("New size: {desired}; reason: {why}; error: {error}"));
                let words = format!("the HPA controller was unable to update the target scale: {error}");
                report.set("AbleToScale", false, "FailedUpdateScale", words);
            }
        }
    }
    memory.lock().insert(key, past);
    let outcome = Outcome { current: scale.status.replicas, desired: desired.unwrap_or(current), metrics, scaled };
    report.write(Some(outcome)).await?;
    Ok(Some(EVERY))
}

/// What usage calls for.
struct Measured {
    replicas: i64,
    name: String,
    status: Vec<Value>,
}

/// The most that any metric calls for. One that cannot be read keeps the others from shrinking.
async fn measure(
    context: &Context,
    autoscaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    current: i64,
    now: Timestamp,
) -> Result<Measured, Failure> {
    if scale.status.selector.is_empty() {
        return Err(("InvalidSelector", "selector is required".to_owned()));
    }
    let selector = LabelSelector::parse(&scale.status.selector).map_err(|error| ("InvalidSelector", error))?;
    let namespace = &autoscaler.metadata.namespace;
    let mut pods = context.pods.in_namespace(namespace);
    pods.retain(|pod| selector.matches(&pod.metadata.labels));
    let (mut best, mut failure, mut status) = (None, None, Vec::new());
    for metric in &autoscaler.spec.metrics {
        match look(context, autoscaler, metric, &scale.status.selector, &pods, current, now).await {
            Ok((answer, name)) => {
                status.push(shown(metric, answer));
                if best.as_ref().is_none_or(|(replicas, _)| answer.replicas > *replicas) {
                    best = Some((answer.replicas, name));
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    match (best, failure) {
        (Some((replicas, name)), None) => Ok(Measured { replicas, name, status }),
        (Some((replicas, name)), Some(_)) if replicas >= current => Ok(Measured { replicas, name, status }),
        (_, Some(failure)) => Err(failure),
        (None, None) => Err(("FailedGetResourceMetric", "no metrics were given".to_owned())),
    }
}

fn tolerances(autoscaler: &HorizontalPodAutoscaler) -> Tolerances {
    let behavior = autoscaler.spec.behavior.as_ref();
    let of = |rules: Option<&Rules>| rules.and_then(|rules| rules.tolerance.as_ref()?.parse::<Quantity>().ok());
    // Thousandths are few.
    #[allow(clippy::cast_precision_loss)]
    let float = |quantity: Option<Quantity>| quantity.map_or(TOLERANCE, |quantity| quantity.milli() as f64 / 1000.0);
    Tolerances {
        down: float(of(behavior.and_then(|behavior| behavior.scale_down.as_ref()))),
        up: float(of(behavior.and_then(|behavior| behavior.scale_up.as_ref()))),
    }
}

/// The resource that a metric is about, if it needs no adapter.
fn resource(metric: &Metric) -> Option<&ResourceMetric> {
    match metric.r#type.as_str() {
        "Resource" => metric.resource.as_ref(),
        "ContainerResource" => metric.container_resource.as_ref(),
        _ => None,
    }
}

fn shown(metric: &Metric, answer: Answer) -> Value {
    let Some(own) = resource(metric) else { return Value::Null };
    let value = if own.name == "memory" { (answer.average / 1000).to_string() } else { format!("{}m", answer.average) };
    let current = json!({ "averageUtilization": answer.utilization, "averageValue": value });
    match metric.r#type.as_str() {
        "Resource" => json!({ "type": "Resource", "resource": { "name": own.name, "current": current } }),
        _ => {
            json!({ "type": "ContainerResource", "containerResource": { "name": own.name, "container": own.container, "current": current } })
        }
    }
}

#[allow(clippy::too_many_arguments)]
async fn look(
    context: &Context,
    autoscaler: &HorizontalPodAutoscaler,
    metric: &Metric,
    selector: &str,
    pods: &[Arc<Pod>],
    current: i64,
    now: Timestamp,
) -> Result<(Answer, String), Failure> {
    let Some(own) = resource(metric) else {
        let words = format!("unable to get metrics of type {}: no custom metrics API registered", metric.r#type);
        return Err(("FailedGetCustomMetric", words));
    };
    let reason = if metric.r#type == "Resource" { "FailedGetResourceMetric" } else { "FailedGetContainerResourceMetric" };
    let fail = |error: String| (reason, format!("failed to get {} utilization: {error}", own.name));
    let container = (metric.r#type == "ContainerResource").then_some(own.container.as_str());
    let (target, kind) = match (own.target.average_utilization, &own.target.average_value) {
        (Some(utilization), _) => (Target::Utilization(utilization), "utilization (percentage of request)"),
        (None, Some(value)) => {
            let value: Quantity = value.parse().map_err(|_| fail("the target is no quantity".to_owned()))?;
            (Target::Average(value.milli()), "value")
        }
        (None, None) => return Err(fail("invalid target".to_owned())),
    };
    let samples = samples(context, &autoscaler.metadata.namespace, selector, &own.name, container).await.map_err(fail)?;
    let resource = Resource { name: &own.name, container };
    let answer = usage::replicas(current, pods, &samples, resource, target, tolerances(autoscaler), now).map_err(fail)?;
    let what = match container {
        None => format!("{} resource {kind}", own.name),
        Some(container) => format!("{} container resource {kind} of container {container}", own.name),
    };
    Ok((answer, what))
}

/// What pods used, from `metrics.k8s.io`.
async fn samples(
    context: &Context,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<String, Sample>, String> {
    let params = kontiki_client::ListParams { label_selector: selector.to_owned(), ..Default::default() };
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?{}", params.query());
    let failed = |error: String| {
        format!("unable to get metrics for resource {resource}: unable to fetch metrics from resource metrics API: {error}")
    };
    let body = context.client().request(Method::GET, path, "", Bytes::new()).await.map_err(|error| failed(error.to_string()))?;
    let list: MetricsList = serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
    if list.items.is_empty() {
        return Err(format!("unable to get metrics for resource {resource}: no metrics returned from resource metrics API"));
    }
    let sample = |pod: PodMetrics| {
        let own = pod.containers.iter().filter(|one| container.is_none_or(|name| one.name == name));
        // A pod of which one container is not known is not known.
        let used: Option<Vec<i64>> = own.map(|one| Some(one.usage.get(resource)?.parse::<Quantity>().ok()?.milli())).collect();
        let used = used.filter(|used| !used.is_empty())?;
        let window = pod.window.parse::<SignedDuration>().unwrap_or(SignedDuration::from_secs(30));
        Some((pod.metadata.name, Sample { milli: used.into_iter().sum(), at: pod.timestamp, window }))
    };
    Ok(list.items.into_iter().filter_map(sample).collect())
}

/// What came of a look.
struct Outcome {
    current: i64,
    desired: i64,
    metrics: Option<Vec<Value>>,
    scaled: bool,
}

/// What is told of a look.
struct Report<'a> {
    conditions: Vec<Condition>,
    now: Timestamp,
    autoscaler: &'a HorizontalPodAutoscaler,
    context: &'a Context,
}

impl Report<'_> {
    fn tell(&self, type_: EventType, reason: &str, message: String) {
        self.context.recorder.event(&reference(&self.autoscaler.metadata, HORIZONTAL_POD_AUTOSCALERS), type_, reason, message);
    }

    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: String) {
        Condition::set(&mut self.conditions, kind, if holds { "True" } else { "False" }, reason, message, self.now);
    }

    fn follow(&mut self, decision: &super::behavior::Decision) {
        let (reason, words) = decision.stabilized.unwrap_or(("ReadyForNewScale", "recommended size matches current size"));
        self.set("AbleToScale", true, reason, words.to_owned());
        match decision.limited {
            Some((reason, words)) => self.set("ScalingLimited", true, reason, words.to_owned()),
            None => self.set(
                "ScalingLimited",
                false,
                "DesiredWithinRange",
                "the desired count is within the acceptable range".to_owned(),
            ),
        }
    }

    async fn write(self, outcome: Option<Outcome>) -> Result<(), Error> {
        let meta = &self.autoscaler.metadata;
        let mut want = json!({ "conditions": self.conditions });
        if let Some(outcome) = outcome {
            want["observedGeneration"] = json!(meta.generation);
            want["currentReplicas"] = json!(outcome.current);
            want["desiredReplicas"] = json!(outcome.desired);
            want["currentMetrics"] = json!(outcome.metrics);
            if outcome.scaled {
                want["lastScaleTime"] = json!(second(self.now));
            }
        }
        write_status(self.context, HORIZONTAL_POD_AUTOSCALERS, meta, &self.autoscaler.status, &want).await.map(drop)
    }
}
