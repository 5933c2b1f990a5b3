//! Asks the webhooks: the mutating ones one after another, the validating ones at once.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use kontiki_api::{
    object::meta,
    patch::{self, PatchType},
    registry::{self, Resource},
    resources::{MUTATING_WEBHOOK_CONFIGURATIONS, NAMESPACES, ResourceKey, VALIDATING_WEBHOOK_CONFIGURATIONS},
    status::Status,
};
use serde_json::Value;

use super::{conditions, matching, review};
use crate::{
    admission::{Operation, Plugin, Request},
    outbound::{self, Target},
    service::ApiServer,
};

/// What a webhook may take that says nothing else.
const DEADLINE_SECONDS: u64 = 10;

/// Webhooks that may change an object.
pub struct MutatingAdmissionWebhook;

/// Webhooks that may refuse one.
pub struct ValidatingAdmissionWebhook;

/// One webhook of a configuration.
struct Webhook {
    configuration: String,
    hook: Value,
}

impl Webhook {
    fn name(&self) -> &str {
        self.hook["name"].as_str().unwrap_or_default()
    }

    fn ignores_failures(&self) -> bool {
        self.hook["failurePolicy"] == "Ignore"
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.hook["timeoutSeconds"].as_u64().unwrap_or(DEADLINE_SECONDS))
    }
}

/// The webhooks of all configurations, in the order of their names.
fn webhooks(server: &ApiServer, key: &ResourceKey) -> Vec<Webhook> {
    let Some(cache) = registry::of(key).and_then(|resource| server.storage.caches.of(resource)) else { return Vec::new() };
    let mut all = Vec::new();
    for object in cache.snapshot().values() {
        let configuration = object.encoded.value();
        let name = meta::name(&configuration).to_owned();
        let hooks = configuration["webhooks"].as_array().into_iter().flatten();
        all.extend(hooks.map(|hook| Webhook { configuration: name.clone(), hook: hook.clone() }));
    }
    all
}

/// The other served versions of a resource: what matches one of them matches this one too.
#[must_use]
pub fn versions(server: &ApiServer, resource: &'static Resource) -> Vec<&'static Resource> {
    if resource.strategy.custom().is_some() {
        return server.storage.caches.custom.table().versions_of(resource).collect();
    }
    registry::all().iter().filter(|other| other.prefix == resource.prefix && other.is_stored()).collect()
}

/// The namespace of a request.
#[must_use]
pub fn namespace_of(server: &ApiServer, request: &Request<'_>) -> Option<Value> {
    if request.namespace.is_empty() || request.resource.key == NAMESPACES {
        return None;
    }
    let object = server.storage.get_cached(registry::of(&NAMESPACES)?, "", request.namespace).ok()?;
    Some(object.encoded.value())
}

/// An object in another version of its kind.
pub async fn in_version(server: &ApiServer, from: &Resource, to: &'static Resource, object: &Value) -> Result<Value, Status> {
    if from.key == to.key || object.is_null() || object["kind"] != from.key.kind {
        return Ok(object.clone());
    }
    match to.strategy.custom() {
        Some(_) => server.storage.to_served(to, object.clone()).await,
        None => Ok(to.to_served(object.clone())),
    }
}

/// A request whose webhooks are chosen.
struct Dispatch<'a> {
    server: &'a ApiServer,
    request: &'a Request<'a>,
    versions: Vec<&'static Resource>,
    namespace: Option<Value>,
}

/// How a call ended.
enum Failure {
    /// The webhook could not be asked or did not answer as it must.
    Calling(String),
    /// It said no, or the request may not go on whatever the policy is.
    Refused(Box<Status>),
}

impl<'a> Dispatch<'a> {
    fn new(server: &'a ApiServer, request: &'a Request<'a>) -> Self {
        Self { server, request, versions: versions(server, request.resource), namespace: namespace_of(server, request) }
    }

    /// The resource as which a webhook wants to see the request; `None` if it does not.
    async fn matches(&self, webhook: &Webhook, object: &Value, old: &Value) -> Result<Option<&'static Resource>, Status> {
        let hook = &webhook.hook;
        let namespace = self.namespace.as_ref();
        if !matching::namespace_matches(&hook["namespaceSelector"], self.request, object, old, namespace)
            || !matching::object_matches(&hook["objectSelector"], object, old)
        {
            return Ok(None);
        }
        let equivalent = hook["matchPolicy"] != "Exact";
        let Some(matched) = matching::matched_resource(&hook["rules"], self.request, &self.versions, equivalent) else {
            return Ok(None);
        };
        if hook["matchConditions"].as_array().is_none_or(Vec::is_empty) {
            return Ok(Some(matched));
        }
        let object = in_version(self.server, self.request.resource, matched, object).await?;
        let old = in_version(self.server, self.request.resource, matched, old).await?;
        let variables = conditions::variables(&self.server.authorizer, self.request, matched, &object, &old, namespace);
        match conditions::all_hold(&hook["matchConditions"], &variables) {
            Ok(holds) => Ok(holds.then_some(matched)),
            Err(_) if webhook.ignores_failures() => Ok(None),
            Err(error) => Err(self.request.forbidden(error)),
        }
    }

    async fn call(
        &self,
        webhook: &Webhook,
        matched: &'static Resource,
        object: &Value,
        old: &Value,
        mutating: bool,
    ) -> Result<review::Answer, Failure> {
        let (name, effects) = (webhook.name(), webhook.hook["sideEffects"].as_str().unwrap_or_default());
        if self.request.dry_run && !matches!(effects, "None" | "NoneOnDryRun") {
            let message = format!("admission webhook {name:?} does not support dry run");
            return Err(Failure::Refused(Box::new(Status::bad_request(message))));
        }
        let target = Target::of_client_config(&webhook.hook["clientConfig"])
            .map_err(|error| Failure::Calling(format!("could not get REST client: {error}")))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let asked = review::question(&uid, self.request, matched, object, old);
        let (deadline, storage) = (webhook.deadline(), &self.server.storage);
        let answer = outbound::post_json(storage, &target, &target.path_with_timeout(deadline), &asked, deadline).await;
        let answer = answer.map_err(|error| Failure::Calling(format!("failed to call webhook: {error}")))?;
        let answer = review::answer(&uid, &answer, mutating)
            .map_err(|error| Failure::Calling(format!("received invalid webhook response: {error}")))?;
        for (key, value) in &answer.annotations {
            self.request.annotate(format!("{name}/{key}"), value.clone());
        }
        answer.warnings.iter().for_each(|text| self.request.warn(text.clone()));
        if answer.allowed { Ok(answer) } else { Err(Failure::Refused(Box::new(review::refusal(name, &answer.result)))) }
    }

    /// What a failure means for the request.
    fn judge(&self, webhook: &Webhook, failure: Failure) -> Result<(), Status> {
        match failure {
            Failure::Refused(status) => Err(*status),
            Failure::Calling(error) => {
                let error = format!("failed calling webhook {:?}: {error}", webhook.name());
                let configuration = webhook.configuration.as_str();
                if webhook.ignores_failures() {
                    tracing::warn!(configuration, error, "a webhook is left out, as its policy says");
                    return Ok(());
                }
                Err(Status::internal_error(error))
            }
        }
    }

    /// Asks one mutating webhook; whether it has changed the object.
    async fn mutate(&self, webhook: &Webhook, object: &mut Value, old: &Value) -> Result<Option<bool>, Status> {
        let Some(matched) = self.matches(webhook, object, old).await? else { return Ok(None) };
        let own = self.request.resource;
        let seen = in_version(self.server, own, matched, object).await?;
        let old = in_version(self.server, own, matched, old).await?;
        let answer = match self.call(webhook, matched, &seen, &old, true).await {
            Ok(answer) => answer,
            Err(failure) => return self.judge(webhook, failure).map(|()| Some(false)),
        };
        if answer.patch.is_empty() || answer.patch == b"[]" {
            return Ok(Some(false));
        }
        if object.is_null() {
            let name = webhook.name();
            let message =
                format!("admission webhook {name:?} attempted to modify the object, which is not supported for this operation");
            return Err(Status::internal_error(message));
        }
        let patched = patch::apply_untyped(PatchType::Json, &seen, &answer.patch);
        let patched = patched.map_err(|status| Status::internal_error(status.message))?;
        let mut patched = in_version(self.server, matched, own, &patched).await?;
        if self.request.subresource.is_empty() || patched["kind"] == own.key.kind {
            own.clean(&mut patched)?;
            own.strategy.set_defaults(&mut patched);
        }
        let changed = patched != *object;
        *object = patched;
        Ok(Some(changed))
    }
}

fn handles(request: &Request<'_>) -> bool {
    !matching::is_exempt(request) && (request.resource.is_stored() || request.operation == Operation::Create)
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        handles(request)
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        let webhooks = webhooks(server, &MUTATING_WEBHOOK_CONFIGURATIONS);
        if webhooks.is_empty() {
            return Ok(());
        }
        let dispatch = Dispatch::new(server, request);
        // A webhook that wants it is asked again if one that came later has changed the object.
        let mut again = Vec::new();
        for webhook in &webhooks {
            let Some(changed) = dispatch.mutate(webhook, object, old).await? else { continue };
            if changed {
                again.iter_mut().for_each(|(_, needed)| *needed = true);
            }
            if webhook.hook["reinvocationPolicy"] == "IfNeeded" {
                again.push((webhook, false));
            }
        }
        for (webhook, _) in again.into_iter().filter(|(_, needed)| *needed) {
            dispatch.mutate(webhook, object, old).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        handles(request)
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let webhooks = webhooks(server, &VALIDATING_WEBHOOK_CONFIGURATIONS);
        if webhooks.is_empty() {
            return Ok(());
        }
        let dispatch = Dispatch::new(server, request);
        let ask = async |webhook: &Webhook| {
            let Some(matched) = dispatch.matches(webhook, object, old).await? else { return Ok(()) };
            let object = in_version(server, request.resource, matched, object).await?;
            let old = in_version(server, request.resource, matched, old).await?;
            match dispatch.call(webhook, matched, &object, &old, false).await {
                Ok(_) => Ok(()),
                Err(failure) => dispatch.judge(webhook, failure),
            }
        };
        join_all(webhooks.iter().map(ask)).await.into_iter().collect()
    }
}
