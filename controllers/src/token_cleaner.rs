//! Tokens in Secrets that accounts once got without asking and nobody uses: marked as good no more, and after as long
//! again deleted.
//!
//! In: Secrets of tokens with the days on which they were used last, since when that is written down, accounts, and
//! Secrets that pods name. Out: Secrets that are marked or deleted. A token that somebody has asked for is left alone:
//! no account names its Secret. Once a day everything is read; nothing is followed.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-cleaner>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use kontiki_api::{
    object::{meta, text},
    resources::{CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS},
};
use kontiki_client::{
    Client, DeleteOptions, Error, Patch,
    params::{ListParams, Preconditions},
    reflector::ObjectKey,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    run::{self, Reconciled, gone},
};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Says since when the use of tokens is written down.
const TRACKING: (&str, &str) = ("kube-system", "kube-apiserver-legacy-service-account-token-tracking");
/// How often everything is looked at.
const PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// Objects of one page.
const PAGE: u32 = 500;

/// What is to be done with a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its token is good no more from this day on.
    Mark(Date),
    /// It goes.
    Delete,
}

/// When what is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Now.
    pub now: Timestamp,
    /// How long a token may lie unused, and then be marked.
    pub period: SignedDuration,
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

impl Clock {
    /// Before this nothing counts as long ago.
    fn limit(self) -> Timestamp {
        self.now.checked_sub(self.period).unwrap_or(Timestamp::MIN)
    }

    /// Whether the use of tokens has been written down for long enough; the first day is no whole one.
    fn has_tracked_since(self, since: &str) -> bool {
        let next = since.parse::<Date>().ok().and_then(|day| day.checked_add(1.day()).ok());
        let began = next.and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|began| began.timestamp());
        began.is_some_and(|began| began <= self.limit())
    }

    /// What is to be done with a Secret of a token. `account` is the one it is for, `mounted` whether a pod names it.
    fn decide(self, secret: &Value, account: Option<&Value>, mounted: bool) -> Option<Action> {
        let label = |name: &str| meta::label(secret, name);
        let created: Timestamp = meta::text(secret, "creationTimestamp").parse().ok()?;
        if created >= self.limit() || meta::is_deleting(secret) || mounted {
            return None;
        }
        // Without a day it has not been used since that is written down; what is no day says nothing.
        if let Some(used) = label(LAST_USED)
            && used.parse::<Date>().ok()? >= day(self.limit())
        {
            return None;
        }
        let named = |reference: &Value| reference["name"].as_str() == Some(meta::name(secret));
        let generated = account?["secrets"].as_array().is_some_and(|secrets| secrets.iter().any(named));
        if !generated {
            return None;
        }
        match label(INVALID_SINCE).and_then(|since| since.parse::<Date>().ok()) {
            None => Some(Action::Mark(day(self.now))),
            Some(since) if since < day(self.limit()) => Some(Action::Delete),
            Some(_) => None,
        }
    }
}

/// The account that a Secret is for, if it is the one that it was made for.
fn account_of<'a>(secret: &Value, accounts: &'a BTreeMap<(String, String), Value>) -> Option<&'a Value> {
    let name = meta::annotation(secret, ACCOUNT_NAME).unwrap_or_default();
    let account = accounts.get(&(meta::namespace(secret).to_owned(), name.to_owned()))?;
    let uid = meta::annotation(secret, ACCOUNT_UID).unwrap_or_default();
    (uid.is_empty() || uid == meta::uid(account)).then_some(account)
}

/// Names of the Secrets that a pod uses.
fn secrets_of(pod: &Value) -> BTreeSet<&str> {
    fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
        object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
    }
    const REFERENCES: [&str; 2] = ["secretRef", "nodePublishSecretRef"];
    let mut names: BTreeSet<&str> = items(pod, "/spec/imagePullSecrets").map(|secret| text(secret, "/name")).collect();
    for container in
        ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"].iter().flat_map(|list| items(pod, list))
    {
        names.extend(items(container, "/env").map(|variable| text(variable, "/valueFrom/secretKeyRef/name")));
        names.extend(items(container, "/envFrom").map(|source| text(source, "/secretRef/name")));
    }
    for volume in items(pod, "/spec/volumes") {
        names.extend([text(volume, "/secret/secretName"), text(volume, "/azureFile/secretName")]);
        names.extend(items(volume, "/projected/sources").map(|source| text(source, "/secret/name")));
        for source in volume.as_object().into_iter().flatten().map(|(_, source)| source) {
            names.extend(REFERENCES.iter().filter_map(|field| source.get(field)).map(|reference| text(reference, "/name")));
        }
    }
    names.remove("");
    names
}

/// Begins to look once a day.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("legacy_serviceaccount_token_cleaner");
    queue.add(ObjectKey::new("", "all"));
    run::controller(context, &queue, "legacy_serviceaccount_token_cleaner", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, _key: ObjectKey) -> Reconciled {
    let period = SignedDuration::try_from(context.options.legacy_token_clean_up_period).unwrap_or(SignedDuration::MAX);
    clean(context.client(), Clock { now: Timestamp::now(), period }).await?;
    Ok(Some(PERIOD))
}

async fn clean(client: &Client, clock: Clock) -> Result<(), Error> {
    let tracking: Value = match client.get(CONFIG_MAPS, TRACKING.0, TRACKING.1).await {
        Err(error) if error.is_not_found() => return Ok(()),
        found => found?,
    };
    if !clock.has_tracked_since(text(&tracking, "/data/since")) {
        return Ok(());
    }
    let tokens = all(client, SECRETS, "", &format!("type={TYPE}")).await?;
    let accounts = if tokens.is_empty() { Vec::new() } else { all(client, SERVICE_ACCOUNTS, "", "").await? };
    let key = |object: &Value| (meta::namespace(object).to_owned(), meta::name(object).to_owned());
    let accounts = accounts.into_iter().map(|account| (key(&account), account)).collect();
    let mut pods: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for secret in &tokens {
        let account = account_of(secret, &accounts);
        // Pods are asked for only where everything else speaks against the Secret.
        if clock.decide(secret, account, false).is_none() {
            continue;
        }
        let namespace = meta::namespace(secret);
        if !pods.contains_key(namespace) {
            pods.insert(namespace.to_owned(), all(client, PODS, namespace, "").await?);
        }
        let mounted = pods[namespace].iter().any(|pod| secrets_of(pod).contains(meta::name(secret)));
        if let Some(action) = clock.decide(secret, account, mounted) {
            act(client, secret, action).await?;
        }
    }
    Ok(())
}

async fn act(client: &Client, secret: &Value, action: Action) -> Result<(), Error> {
    let (namespace, name) = (meta::namespace(secret), meta::name(secret));
    match action {
        Action::Mark(day) => {
            tracing::info!(namespace, name, "a token that nobody uses is good no more");
            let labels = json!({ INVALID_SINCE: day.to_string() });
            let patch = Patch::Merge(json!({ "metadata": { "uid": meta::uid(secret), "labels": labels } }));
            gone(client.patch::<Value>(SECRETS, namespace, name, None, patch).await.map(drop))
        }
        Action::Delete => {
            tracing::info!(namespace, name, "a token that nobody has used is deleted");
            // Somebody may have used it or taken the mark away: only the version that was judged is deleted.
            let version = Some(meta::text(secret, "resourceVersion").to_owned());
            let preconditions = Some(Preconditions { resource_version: version, ..Preconditions::default() });
            match client.delete(SECRETS, namespace, name, &DeleteOptions { preconditions, ..DeleteOptions::default() }).await {
                Err(error) if error.is_conflict() => Ok(()),
                deleted => gone(deleted),
            }
        }
    }
}

/// Every object, page by page.
async fn all(
    client: &Client,
    key: kontiki_api::resources::ResourceKey,
    namespace: &str,
    field_selector: &str,
) -> Result<Vec<Value>, Error> {
    let mut params = ListParams { limit: PAGE, field_selector: field_selector.to_owned(), ..ListParams::default() };
    let mut found = Vec::new();
    loop {
        let page = client.list::<Value>(key, namespace, &params).await?;
        found.extend(page.items);
        if page.metadata.continue_token.is_empty() {
            return Ok(found);
        }
        params.continue_token = page.metadata.continue_token;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn clock() -> Clock {
        Clock { now: "2026-06-15T12:00:00Z".parse().unwrap(), period: SignedDuration::from_hours(365 * 24) }
    }

    fn secret(labels: Value) -> Value {
        json!({"metadata": {"name": "s", "namespace": "a", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": labels}})
    }

    fn account() -> Value {
        json!({"metadata": {"name": "builder", "uid": "1"}, "secrets": [{"name": "s"}]})
    }

    #[test]
    fn a_token_is_marked_after_a_year_and_goes_after_another() {
        let decide = |labels: Value| clock().decide(&secret(labels), Some(&account()), false);
        let mark = Some(Action::Mark("2026-06-15".parse().unwrap()));
        for (labels, expected) in [
            (json!({}), mark.clone()),
            (json!({LAST_USED: "2025-06-14"}), mark.clone()),
            (json!({LAST_USED: "2025-06-15"}), None),
            (json!({LAST_USED: "yesterday"}), None),
            (json!({INVALID_SINCE: "2025-06-14"}), Some(Action::Delete)),
            (json!({INVALID_SINCE: "2025-06-15"}), None),
            (json!({INVALID_SINCE: "once"}), mark),
            (json!({INVALID_SINCE: "2024-01-01", LAST_USED: "2026-06-01"}), None),
        ] {
            assert_eq!(decide(labels.clone()), expected, "{labels}");
        }
    }

    #[test]
    fn what_is_young_mounted_leaving_or_asked_for_stays() {
        let stays = |secret: &Value, account: Option<&Value>, mounted| {
            assert_eq!(clock().decide(secret, account, mounted), None, "{secret}");
        };
        let old = secret(json!({}));
        stays(&old, Some(&account()), true);
        stays(&old, Some(&json!({"metadata": {"name": "builder"}})), false);
        stays(&old, None, false);
        let mut young = old.clone();
        young["metadata"]["creationTimestamp"] = json!("2025-06-15T12:00:00Z");
        stays(&young, Some(&account()), false);
        let mut leaving = old;
        leaving["metadata"]["deletionTimestamp"] = json!("2026-06-15T00:00:00Z");
        stays(&leaving, Some(&account()), false);
    }

    #[test]
    fn nothing_is_judged_by_days_that_were_not_written_down() {
        assert!(clock().has_tracked_since("2025-06-14"));
        assert!(!clock().has_tracked_since("2025-06-15"));
        assert!(!clock().has_tracked_since(""));
    }

    #[test]
    fn a_secret_belongs_to_the_account_that_it_was_made_for() {
        let accounts = BTreeMap::from([(("a".to_owned(), "builder".to_owned()), account())]);
        let with = |uid: &str| {
            let mut secret = secret(json!({}));
            secret["metadata"]["annotations"] = json!({ACCOUNT_NAME: "builder", ACCOUNT_UID: uid});
            account_of(&secret, &accounts).is_some()
        };
        assert_eq!((with("1"), with(""), with("2")), (true, true, false));
    }

    #[test]
    fn pods_name_secrets_in_many_places() {
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]}],
            "containers": [{"envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "no"}}]}],
            "volumes": [
                {"secret": {"secretName": "volume"}},
                {"projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "no"}}]}},
                {"azureFile": {"secretName": "azure"}},
                {"csi": {"nodePublishSecretRef": {"name": "csi"}}},
                {"iscsi": {"secretRef": {"name": "iscsi"}}},
            ],
        }});
        let expected = ["azure", "csi", "env", "from", "iscsi", "projected", "pull", "volume"];
        assert_eq!(secrets_of(&pod).into_iter().collect::<Vec<_>>(), expected);
    }
}
