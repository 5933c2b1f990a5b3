//! The chain: who is asked, in which order, about what.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kontiki_api::{registry::Resource, resources::ResourceKey, status::Status};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    auth::UserInfo,
    handlers::write::is_dry_run,
    service::{ApiServer, Call},
};

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// Its deletion is asked for.
    Delete,
    /// A connection to it is opened: `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

impl Operation {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`, as webhooks and policies name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What is asked for; the same for each attempt to commit it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// Resource of the path.
    pub resource: &'static Resource,
    /// Subresource of the path; empty for the object itself.
    pub subresource: &'a str,
    /// What is done.
    pub operation: Operation,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name of the object; empty for one whose name is generated.
    pub name: &'a str,
    /// Nothing is stored.
    pub dry_run: bool,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions` of the request; null where there are none.
    pub options: Value,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

impl<'a> Request<'a> {
    /// A request for an object itself that is stored if it is admitted.
    #[must_use]
    pub fn new(user: &'a UserInfo, resource: &'static Resource, operation: Operation, namespace: &'a str, name: &'a str) -> Self {
        let (subresource, dry_run, options, notes) = ("", false, Value::Null, Mutex::default());
        Self { user, resource, subresource, operation, namespace, name, dry_run, options, notes }
    }

    /// What a call asks for. `name` is the object's, which the path of a creation does not have.
    pub fn of(call: &'a Call, resource: &'static Resource, operation: Operation, name: &'a str) -> Result<Self, Status> {
        let info = &call.info;
        let mut request = Self::new(&call.user, resource, operation, info.namespace_of(resource), name);
        request.subresource = &info.subresource;
        request.dry_run = is_dry_run(call)?;
        let kind = match info.verb.as_str() {
            "create" if operation == Operation::Create => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            _ => return Ok(request),
        };
        let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        for field in ["fieldManager", "fieldValidation"] {
            if !info.parameter(field).is_empty() {
                options[field] = json!(info.parameter(field));
            }
        }
        if request.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        request.options = options;
        Ok(request)
    }

    /// Whether the request is about an object of that resource, and not about a subresource.
    #[must_use]
    pub fn is(&self, key: &ResourceKey) -> bool {
        self.is_part(key, "")
    }

    /// Whether the request is about that subresource.
    #[must_use]
    pub fn is_part(&self, key: &ResourceKey, subresource: &str) -> bool {
        self.subresource == subresource && self.resource.key.group == key.group && self.resource.key.plural == key.plural
    }

    /// 403, with a reason that follows the object's name.
    #[must_use]
    pub fn forbidden(&self, why: impl AsRef<str>) -> Status {
        Status::forbidden(self.resource.key.group, self.resource.key.plural, self.name, why.as_ref())
    }

    /// Adds a `Warning:` header to the answer; what was said before is not said again.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let warnings = &mut self.notes.lock().warnings;
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Adds an annotation to the audit event.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.notes.lock().annotations.insert(key.into(), value.into());
    }

    /// Warnings so far.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().warnings)
    }

    /// Annotations so far.
    #[must_use]
    pub fn take_annotations(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.notes.lock().annotations)
    }
}

/// One admission plugin. `object` is null for DELETE, `old` for CREATE and CONNECT; a subresource that has a kind of
/// its own (Scale, Binding, Eviction, PodExecOptions) shows that kind.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Name under which Kubernetes knows it.
    fn name(&self) -> &'static str;

    /// Whether it has a say in a request.
    fn handles(&self, request: &Request<'_>) -> bool;

    /// Changes the object, or refuses it.
    async fn mutate(&self, _: &ApiServer, _: &Request<'_>, _object: &mut Value, _old: &Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the object that would be stored.
    async fn validate(&self, _: &ApiServer, _: &Request<'_>, _object: &Value, _old: &Value) -> Result<(), Status> {
        Ok(())
    }
}

/// Plugins in their order.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// A chain of these.
    #[must_use]
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// The mutating phase.
    pub async fn mutate(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        for plugin in self.plugins.iter().filter(|plugin| plugin.handles(request)) {
            plugin.mutate(server, request, object, old).await?;
        }
        Ok(())
    }

    /// The validating phase.
    pub async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        for plugin in self.plugins.iter().filter(|plugin| plugin.handles(request)) {
            plugin.validate(server, request, object, old).await?;
        }
        Ok(())
    }

    /// Both phases, for what has no validation of its own between them: deletions, connections, reviews.
    pub async fn admit(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        self.mutate(server, request, object, old).await?;
        self.validate(server, request, object, old).await
    }
}
