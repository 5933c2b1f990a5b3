//! One line of the audit log: an `audit.k8s.io/v1` Event.

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::policy::{Decision, Level, Stage};
use crate::{auth::UserInfo, request::RequestInfo};

/// Largest body that is recorded.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What is known of a request from its beginning.
#[derive(Clone, Debug)]
pub struct Record {
    /// What is recorded.
    pub decision: Decision,
    id: String,
    received: Timestamp,
    user: UserInfo,
    impersonated: Option<UserInfo>,
    info: RequestInfo,
    uri: String,
    agent: String,
    peer: String,
    request: Option<Value>,
}

impl Record {
    /// Begins a record.
    #[must_use]
    pub fn new(
        decision: Decision,
        user: &UserInfo,
        info: &RequestInfo,
        headers: &HeaderMap,
        peer: Option<std::net::IpAddr>,
        received: Timestamp,
    ) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let sent = text("audit-id");
        let id = if sent.is_empty() || sent.len() > 64 { uuid::Uuid::new_v4().to_string() } else { sent };
        let query: Vec<String> = info.repeated.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let uri = if query.is_empty() { info.path.clone() } else { format!("{}?{}", info.path, query.join("&")) };
        let agent = text(header::USER_AGENT.as_str());
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        Self {
            decision,
            id,
            received,
            user: user.clone(),
            impersonated: None,
            info: info.clone(),
            uri,
            agent,
            peer,
            request: None,
        }
    }

    /// Identifier, which answers carry too.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whom the request spoke as, if not as its user.
    pub fn impersonates(&mut self, user: &UserInfo) {
        if *user != self.user {
            self.impersonated = Some(user.clone());
        }
    }

    /// Keeps what was sent, where the level asks for it.
    pub fn sent(&mut self, body: &[u8]) {
        if self.decision.level >= Level::Request && body.len() <= BODY_BYTES_MAX {
            self.request = serde_json::from_slice(body).ok().map(|body| self.cleaned(body));
        }
    }

    fn cleaned(&self, mut body: Value) -> Value {
        if self.decision.omit_managed_fields
            && let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("managedFields");
        }
        body
    }

    /// The event of a stage.
    #[must_use]
    pub fn event(&self, stage: Stage, code: Option<StatusCode>, response: Option<&[u8]>, now: Timestamp) -> Value {
        let micro = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.decision.level.name(),
            "auditID": self.id,
            "stage": stage.name(),
            "requestURI": self.uri,
            "verb": self.info.verb,
            "user": self.user,
            "requestReceivedTimestamp": micro(self.received),
            "stageTimestamp": micro(now),
        });
        if !self.peer.is_empty() {
            event["sourceIPs"] = json!([self.peer]);
        }
        if !self.agent.is_empty() {
            event["userAgent"] = json!(self.agent);
        }
        if let Some(user) = &self.impersonated {
            event["impersonatedUser"] = json!(user);
        }
        if self.info.is_resource {
            event["objectRef"] = self.reference();
        }
        if let Some(code) = code {
            event["responseStatus"] = json!({ "metadata": {}, "code": code.as_u16() });
        }
        if let Some(request) = &self.request {
            event["requestObject"] = request.clone();
        }
        let answered = response.filter(|body| self.decision.level == Level::RequestResponse && body.len() <= BODY_BYTES_MAX);
        if let Some(body) = answered.and_then(|body| serde_json::from_slice(body).ok()) {
            event["responseObject"] = self.cleaned(body);
        }
        event
    }

    fn reference(&self) -> Value {
        let mut reference = serde_json::Map::new();
        for (field, text) in [
            ("resource", &self.info.resource),
            ("namespace", &self.info.namespace),
            ("name", &self.info.name),
            ("apiGroup", &self.info.group),
            ("apiVersion", &self.info.version),
            ("subresource", &self.info.subresource),
        ] {
            if !text.is_empty() {
                reference.insert(field.to_owned(), json!(text));
            }
        }
        Value::Object(reference)
    }
}
