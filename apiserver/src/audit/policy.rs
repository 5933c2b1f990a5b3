//! What is recorded of which request: an `audit.k8s.io/v1` Policy, its first rule that covers a request deciding.

use serde::Deserialize;

use crate::{auth::UserInfo, request::RequestInfo};

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what when.
    Metadata,
    /// And what was sent.
    Request,
    /// And what was answered.
    RequestResponse,
}

impl Level {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When an event is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// When the request has come.
    RequestReceived,
    /// When the answer has begun, for requests that go on.
    ResponseStarted,
    /// When all of it was answered.
    ResponseComplete,
    /// When the server failed.
    Panic,
}

impl Stage {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// The policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    metadata: serde_json::Value,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("audit policy: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// It is of another kind.
    #[error("audit policy: expected kind Policy of audit.k8s.io/v1, found {kind} of {version}")]
    Kind {
        /// What was found.
        kind: String,
        /// In which version.
        version: String,
    },
}

/// What is recorded of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// How much.
    pub level: Level,
    omitted: Vec<Stage>,
    /// Without managed fields.
    pub omit_managed_fields: bool,
}

impl Decision {
    /// Whether an event is recorded at that stage.
    #[must_use]
    pub fn records(&self, stage: Stage) -> bool {
        self.level > Level::None && !self.omitted.contains(&stage)
    }
}

impl Policy {
    /// Reads YAML or JSON.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let policy: Self = serde_norway::from_slice(text)?;
        if (policy.api_version.as_str(), policy.kind.as_str()) == ("audit.k8s.io/v1", "Policy") {
            return Ok(policy);
        }
        Err(PolicyError::Kind { kind: policy.kind, version: policy.api_version })
    }

    /// What is recorded of a request.
    #[must_use]
    pub fn decide(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        let Some(rule) = self.rules.iter().find(|rule| rule.covers(user, info)) else { return Decision::default() };
        Decision {
            level: rule.level,
            omitted: [self.omit_stages.as_slice(), &rule.omit_stages].concat(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn any_or_has(list: &[String], item: &str) -> bool {
    list.is_empty() || list.iter().any(|own| own == item)
}

impl Rule {
    fn covers(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let groups = self.user_groups.is_empty() || user.groups.iter().any(|group| self.user_groups.contains(group));
        if !any_or_has(&self.users, &user.name) || !groups || !any_or_has(&self.verbs, &info.verb) {
            return false;
        }
        if self.namespaces.is_empty() && self.resources.is_empty() && self.paths.is_empty() {
            return true;
        }
        if info.is_resource { self.covers_resource(info) } else { self.paths.iter().any(|path| path_matches(path, &info.path)) }
    }

    fn covers_resource(&self, info: &RequestInfo) -> bool {
        if !self.paths.is_empty() && self.namespaces.is_empty() && self.resources.is_empty() {
            return false;
        }
        any_or_has(&self.namespaces, &info.namespace)
            && (self.resources.is_empty() || self.resources.iter().any(|group| group.covers(info)))
    }
}

impl GroupResources {
    fn covers(&self, info: &RequestInfo) -> bool {
        let matches = |own: &String| match own.split_once('/') {
            None => own == "*" || *own == info.qualified_resource(),
            Some((resource, "*")) => resource == info.resource,
            Some(("*", subresource)) => subresource == info.subresource,
            Some(_) => *own == info.qualified_resource(),
        };
        let names = self.resource_names.is_empty() || self.resource_names.contains(&info.name);
        self.group == info.group && names && (self.resources.is_empty() || self.resources.iter().any(matches))
    }
}

fn path_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;

    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: ["RequestReceived"]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: ["watch"]
  resources: [{group: "", resources: ["endpoints", "services"]}]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Metadata
  resources: [{group: "", resources: ["secrets", "pods/log"]}]
- level: Request
  namespaces: ["kube-system"]
  resources: [{group: "", resources: ["configmaps"], resourceNames: ["a"]}]
- level: RequestResponse
  userGroups: ["system:masters"]
  resources: [{group: "apps"}]
  omitStages: ["ResponseStarted"]
"#;

    fn level(user: &UserInfo, method: &str, path: &str) -> Level {
        let info = RequestInfo::parse(&Method::from_bytes(method.as_bytes()).unwrap(), &path.parse().unwrap());
        Policy::parse(POLICY.as_bytes()).unwrap().decide(user, &info).level
    }

    #[test]
    fn the_first_rule_that_covers_a_request_decides() {
        let (proxy, admin) = (UserInfo::authenticated("system:kube-proxy", [""; 0]), UserInfo::apiserver());
        for (user, method, path, expected) in [
            (&proxy, "GET", "/api/v1/services?watch=1", Level::None),
            (&proxy, "GET", "/api/v1/namespaces/a/secrets/b", Level::Metadata),
            (&admin, "GET", "/healthz/ping", Level::None),
            (&admin, "GET", "/metrics", Level::None),
            (&admin, "GET", "/api/v1/namespaces/a/pods/b/log", Level::Metadata),
            (&admin, "GET", "/api/v1/namespaces/a/pods/b", Level::None),
            (&admin, "PUT", "/api/v1/namespaces/kube-system/configmaps/a", Level::Request),
            (&admin, "PUT", "/api/v1/namespaces/kube-system/configmaps/b", Level::None),
            (&admin, "DELETE", "/apis/apps/v1/namespaces/a/deployments/b", Level::RequestResponse),
            (&proxy, "DELETE", "/apis/apps/v1/namespaces/a/deployments/b", Level::None),
        ] {
            assert_eq!(level(user, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn stages_are_left_out_and_other_kinds_refused() {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        let info = RequestInfo::parse(&Method::GET, &"/apis/apps/v1/deployments".parse().unwrap());
        let decision = policy.decide(&UserInfo::apiserver(), &info);
        let recorded =
            [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete].map(|stage| decision.records(stage));
        assert_eq!(recorded, [false, false, true]);
        assert!(Policy::parse(b"apiVersion: v1\nkind: Policy").is_err());
        assert!(Policy::parse(b"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{levle: None}]").is_err());
    }
}
