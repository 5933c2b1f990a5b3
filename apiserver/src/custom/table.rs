//! Which custom resources are served.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kontiki_api::{
    custom::{definition::Definition, resource::Entries, versions},
    registry::{self, Resource},
};
use parking_lot::RwLock;

use crate::cache::ResourceCache;

/// The custom resources of a server.
#[derive(Default)]
pub struct CustomResources {
    entries: Entries,
    table: RwLock<Arc<Table>>,
}

/// The custom resources at one moment.
#[derive(Default)]
pub struct Table {
    /// Changes of the definitions that went into it.
    pub(crate) changes: (u64, i64),
    definitions: BTreeMap<String, (i64, Arc<Definition>)>,
    by_path: HashMap<String, &'static Resource>,
    /// Served resources, in the order of discovery.
    pub resources: Vec<&'static Resource>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

impl CustomResources {
    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// A served resource.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        let table = self.table.read();
        if table.by_path.is_empty() { None } else { table.by_path.get(&path(group, version, plural)).copied() }
    }

    /// Whether the table is what the definitions say.
    pub(crate) fn is_current(&self, definitions: &ResourceCache) -> bool {
        self.table.read().changes == definitions.version()
    }

    /// Makes the table anew. A definition that has not changed is not read again.
    pub(crate) fn rebuild(&self, definitions: &ResourceCache) -> Arc<Table> {
        let changes = definitions.version();
        let old = self.table();
        let mut table = Table { changes, ..Table::default() };
        for object in definitions.snapshot().values() {
            let name = object.header.name.clone();
            let known = old.definitions.get(&name).filter(|(revision, _)| *revision == object.revision);
            let definition = match known {
                Some((_, definition)) => Arc::clone(definition),
                None => Arc::new(Definition::parse(&object.encoded.value())),
            };
            table.definitions.insert(name, (object.revision, definition));
        }
        for (_, definition) in table.definitions.values().filter(|(_, definition)| definition.is_served) {
            for resource in self.entries.of(definition) {
                let key = resource.key;
                if registry::of(&key).is_none() {
                    table.by_path.insert(path(key.group, key.version, key.plural), resource);
                    table.resources.push(resource);
                }
            }
        }
        table.resources.sort_by_key(|resource| (resource.key.group, versions::rank(resource.key.version), resource.key.plural));
        let table = Arc::new(table);
        *self.table.write() = Arc::clone(&table);
        table
    }
}

impl Table {
    /// One resource for each definition that has any served: its prefix names the cache.
    #[must_use]
    pub fn by_prefix(&self) -> BTreeMap<&str, &'static Resource> {
        self.resources.iter().map(|resource| (resource.prefix.as_str(), *resource)).collect()
    }

    /// The served versions of a resource, itself among them.
    pub fn versions_of<'a>(&'a self, resource: &'a Resource) -> impl Iterator<Item = &'static Resource> + 'a {
        self.resources.iter().filter(|other| other.prefix == resource.prefix).copied()
    }
}
