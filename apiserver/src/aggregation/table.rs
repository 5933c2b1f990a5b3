//! Which group versions others serve, at one moment.

use std::{collections::HashMap, sync::Arc};

use kontiki_api::registry::priority::Priority;
use parking_lot::RwLock;
use rustls::ClientConfig;
use serde_json::Value;

use crate::outbound::Target;

/// A group version that is not kept in the store.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Its place in discovery.
    pub priority: Priority,
    /// Who answers.
    pub backend: Backend,
    /// What is known of its resources.
    pub documents: Arc<Documents>,
}

impl Extension {
    /// Whether it is known to serve a resource.
    #[must_use]
    pub fn has(&self, plural: &str) -> bool {
        let resources = self.documents.resources.as_ref().and_then(Value::as_array);
        resources.into_iter().flatten().any(|resource| resource["resource"] == plural)
    }

    /// Path of its documents and resources, without the slash at its beginning.
    #[must_use]
    pub fn path(&self) -> String {
        format!("apis/{}/{}", self.group, self.version)
    }
}

/// Who answers for a group version.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A server behind a Service.
    Remote(Arc<Remote>),
    /// This server, from the figures of the kubelets.
    Metrics,
}

/// A server behind a Service.
#[derive(Debug)]
pub struct Remote {
    /// Where it is.
    pub target: Target,
    /// How it is spoken to; why it cannot be.
    pub tls: Result<Arc<ClientConfig>, String>,
    /// Whether it answered when it was last looked at.
    pub is_available: bool,
}

/// What a server says of one of its group versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// Its resources, as aggregated discovery lists them; `None` before they were read.
    pub resources: Option<Value>,
    /// Whether the last look brought them.
    pub is_current: bool,
    /// Its part of OpenAPI v2: paths and definitions.
    pub openapi_v2: Option<Value>,
    /// The address of its OpenAPI v3 document, as its index gives it; the query changes with the content.
    pub openapi_v3: Option<String>,
}

/// The group versions at one moment.
#[derive(Debug, Default)]
pub struct Table {
    /// All of them.
    pub extensions: Vec<Extension>,
    by_path: HashMap<(String, String), usize>,
}

impl Table {
    /// A table of these.
    #[must_use]
    pub fn new(extensions: Vec<Extension>) -> Self {
        let path = |(index, one): (usize, &Extension)| ((one.group.clone(), one.version.clone()), index);
        let by_path = extensions.iter().enumerate().map(path).collect();
        Self { extensions, by_path }
    }

    /// Who serves a group version; `None` if this server does, from its store.
    #[must_use]
    pub fn find(&self, group: &str, version: &str) -> Option<&Extension> {
        // Most requests are for what is built in.
        if self.extensions.iter().all(|one| one.group != group) {
            return None;
        }
        self.by_path.get(&(group.to_owned(), version.to_owned())).and_then(|index| self.extensions.get(*index))
    }

    /// Whoever serves what a path is about: a resource, or the document of a group version.
    #[must_use]
    pub fn of_path(&self, path: &str) -> Option<&Extension> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        if parts.next()? != "apis" {
            return None;
        }
        self.find(parts.next()?, parts.next()?)
    }
}

/// The table as it is now.
#[derive(Debug, Default)]
pub struct Aggregator {
    table: RwLock<Arc<Table>>,
}

impl Aggregator {
    /// With what is known from the start.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table: RwLock::new(Arc::new(table)) }
    }

    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    pub(super) fn set(&self, table: Table) {
        *self.table.write() = Arc::new(table);
    }
}
