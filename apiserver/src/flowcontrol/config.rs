//! FlowSchemas and PriorityLevelConfigurations as decisions need them, and the decision which one a request falls under.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::defaults;
use crate::{
    auth::{UserInfo, user},
    request::RequestInfo,
};

/// Where a request belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Name of the FlowSchema.
    pub schema: String,
    /// Its UID.
    pub schema_uid: String,
    /// Name of the priority level.
    pub level: String,
    /// Its UID.
    pub level_uid: String,
    /// What tells flows of the schema apart.
    pub flow: String,
}

/// What a priority level may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelSpec {
    /// UID of the object.
    pub uid: String,
    /// Never waits.
    pub exempt: bool,
    /// Share of all seats.
    pub shares: u32,
    /// Percent of its seats that others may use meanwhile.
    pub lendable: u32,
    /// Percent of its seats that it may borrow beside them; `None`: whatever is lent.
    pub borrowing: Option<u32>,
    /// Queues, hand size, requests a queue; `None` refuses what cannot run.
    pub queuing: Option<(usize, usize, usize)>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Configuration {
    schemas: Vec<Schema>,
    /// Priority levels by name.
    pub levels: BTreeMap<String, LevelSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Schema {
    metadata: Meta,
    spec: SchemaSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SchemaSpec {
    matching_precedence: i64,
    priority_level_configuration: Meta,
    distinguisher_method: Option<Distinguisher>,
    rules: Vec<Rules>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Distinguisher {
    #[serde(rename = "type")]
    by: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rules {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Meta>,
    group: Option<Meta>,
    service_account: Option<Account>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|own| own == "*" || own == item)
}

impl Subject {
    fn covers(&self, user: &UserInfo) -> bool {
        let any = |name: &str, own: &str| name == "*" || name == own;
        match self.kind.as_str() {
            "User" => self.user.as_ref().is_some_and(|one| any(&one.name, &user.name)),
            "Group" => self.group.as_ref().is_some_and(|group| user.groups.iter().any(|own| any(&group.name, own))),
            "ServiceAccount" => {
                let own = user::split_service_account_name(&user.name);
                let wanted = self.service_account.as_ref();
                own.zip(wanted)
                    .is_some_and(|((namespace, name), wanted)| wanted.namespace == namespace && any(&wanted.name, name))
            }
            _ => false,
        }
    }
}

impl ResourceRule {
    fn covers(&self, info: &RequestInfo) -> bool {
        let place = if info.namespace.is_empty() { self.cluster_scope } else { has(&self.namespaces, &info.namespace) };
        place
            && has(&self.verbs, &info.verb)
            && has(&self.api_groups, &info.group)
            && has(&self.resources, &info.qualified_resource())
    }
}

impl PathRule {
    fn covers(&self, info: &RequestInfo) -> bool {
        let under = |own: &String| own.strip_suffix('*').is_some_and(|prefix| info.path.starts_with(prefix));
        has(&self.verbs, &info.verb) && (has(&self.urls, &info.path) || self.urls.iter().any(under))
    }
}

impl Rules {
    fn covers(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let what = if info.is_resource {
            self.resource_rules.iter().any(|rule| rule.covers(info))
        } else {
            self.non_resource_rules.iter().any(|rule| rule.covers(info))
        };
        what && self.subjects.iter().any(|subject| subject.covers(user))
    }
}

impl Default for Configuration {
    fn default() -> Self {
        let objects: Vec<Value> = defaults::objects().into_iter().map(|(_, object)| object).collect();
        Self::of(&objects)
    }
}

impl Configuration {
    /// Reads objects of both kinds. The mandatory ones are there even if somebody has deleted them.
    #[must_use]
    pub fn of(objects: &[Value]) -> Self {
        let mut configuration = Self { schemas: Vec::new(), levels: BTreeMap::new() };
        let is_there = |object: &Value| {
            objects.iter().any(|own| own["kind"] == object["kind"] && own["metadata"]["name"] == object["metadata"]["name"])
        };
        let mandatory: Vec<Value> = defaults::mandatory().into_iter().filter(|object| !is_there(object)).collect();
        for object in objects.iter().chain(&mandatory) {
            if object["kind"] == "PriorityLevelConfiguration" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                configuration.levels.insert(name.to_owned(), level(object));
            } else if let Ok(schema) = Schema::deserialize(object) {
                configuration.schemas.push(schema);
            }
        }
        let levels = &configuration.levels;
        configuration.schemas.retain(|schema| levels.contains_key(&schema.spec.priority_level_configuration.name));
        configuration.schemas.sort_by(|one, other| {
            let key = |schema: &Schema| (schema.spec.matching_precedence, schema.metadata.name.clone());
            key(one).cmp(&key(other))
        });
        configuration
    }

    /// The first schema that covers a request.
    #[must_use]
    pub fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Class {
        let covers = |schema: &&Schema| schema.spec.rules.iter().any(|rules| rules.covers(user, info));
        let Some(schema) = self.schemas.iter().find(covers) else {
            return Class { schema: "catch-all".into(), level: "catch-all".into(), flow: user.name.clone(), ..Class::default() };
        };
        let level = schema.spec.priority_level_configuration.name.clone();
        let flow = match schema.spec.distinguisher_method.as_ref().map(|method| method.by.as_str()) {
            Some("ByUser") => user.name.clone(),
            Some("ByNamespace") => info.namespace.clone(),
            _ => String::new(),
        };
        let level_uid = self.levels.get(&level).map(|level| level.uid.clone()).unwrap_or_default();
        Class { schema: schema.metadata.name.clone(), schema_uid: schema.metadata.uid.clone(), level, level_uid, flow }
    }
}

fn level(object: &Value) -> LevelSpec {
    let spec = &object["spec"];
    let exempt = spec["type"] == "Exempt";
    let part = if exempt { &spec["exempt"] } else { &spec["limited"] };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let queuing = &part["limitResponse"]["queuing"];
    let size =
        |field: &str, default: usize| queuing[field].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(default);
    let queues = part["limitResponse"]["type"] == "Queue";
    LevelSpec {
        uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        exempt,
        shares: number(&part["nominalConcurrencyShares"]).unwrap_or(if exempt { 0 } else { 30 }),
        lendable: number(&part["lendablePercent"]).unwrap_or(0),
        borrowing: number(&part["borrowingLimitPercent"]),
        queuing: queues.then(|| (size("queues", 64).max(1), size("handSize", 8).max(1), size("queueLengthLimit", 50).max(1))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Method;

    #[test]
    fn requests_fall_where_kubernetes_has_them_fall() {
        let configuration = Configuration::default();
        let node = UserInfo::authenticated("system:node:n", ["system:nodes"]);
        let account = |namespace: &str| UserInfo::service_account(namespace, "a", "");
        for (user, method, path, schema, level, flow) in [
            (UserInfo::apiserver(), "GET", "/api/v1/pods", "exempt", "exempt", ""),
            (UserInfo::anonymous(), "GET", "/readyz", "probes", "exempt", ""),
            (UserInfo::anonymous(), "GET", "/version", "global-default", "global-default", "system:anonymous"),
            (node.clone(), "PATCH", "/api/v1/nodes/n/status", "system-node-high", "node-high", "system:node:n"),
            (node, "GET", "/api/v1/namespaces/a/pods/b", "system-nodes", "system", "system:node:n"),
            (
                UserInfo::authenticated("system:kube-scheduler", [""; 0]),
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x",
                "system-leader-election",
                "leader-election",
                "system:kube-scheduler",
            ),
            (
                UserInfo::authenticated("system:kube-scheduler", [""; 0]),
                "GET",
                "/api/v1/namespaces/a/pods/x",
                "kube-scheduler",
                "workload-high",
                "a",
            ),
            (account("kube-system"), "GET", "/api/v1/pods", "kube-system-service-accounts", "workload-high", ""),
            (account("b"), "GET", "/api/v1/pods", "service-accounts", "workload-low", "system:serviceaccount:b:a"),
            (UserInfo::authenticated("jane", [""; 0]), "GET", "/api/v1/pods", "global-default", "global-default", "jane"),
        ] {
            let info = RequestInfo::parse(&Method::from_bytes(method.as_bytes()).unwrap(), &path.parse().unwrap());
            let class = configuration.classify(&user, &info);
            assert_eq!((class.schema.as_str(), class.level.as_str(), class.flow.as_str()), (schema, level, flow), "{path}");
        }
    }

    #[test]
    fn what_must_be_there_is_there() {
        let configuration = Configuration::of(&[]);
        assert_eq!(configuration.levels.keys().collect::<Vec<_>>(), ["catch-all", "exempt"]);
        let info = RequestInfo::parse(&Method::GET, &"/api/v1/pods".parse().unwrap());
        assert_eq!(configuration.classify(&UserInfo::anonymous(), &info).schema, "catch-all");
    }
}
