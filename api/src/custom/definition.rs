//! A CustomResourceDefinition, read into what serving its objects needs.
//!
//! In: the stored object. Out: [`Definition`] with a [`Version`] for each version, schemas parsed and paths compiled.

use serde_json::{Value, json};

use super::{json_path::JsonPath, schema::Schema};
use crate::object::{meta, text};

/// Finalizer of a definition: its objects go before it does.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Names under which a kind is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Plural, in paths.
    pub plural: String,
    /// Singular.
    pub singular: String,
    /// Abbreviations.
    pub short_names: Vec<String>,
    /// Kind.
    pub kind: String,
    /// Kind of a list.
    pub list_kind: String,
    /// Groups such as `all`.
    pub categories: Vec<String>,
}

/// A definition.
#[derive(Debug)]
pub struct Definition {
    /// Name of the object, `PLURAL.GROUP`.
    pub name: String,
    /// Identifier of the object: another definition of the same name is another one.
    pub uid: String,
    /// Group.
    pub group: String,
    /// Names as they were accepted.
    pub names: Names,
    /// Whether objects lie in namespaces.
    pub namespaced: bool,
    /// Versions in the order of the specification.
    pub versions: Vec<Version>,
    /// `spec.conversion`, where a webhook converts.
    pub webhook: Option<Value>,
    /// `spec.preserveUnknownFields` of old definitions.
    pub preserve_unknown_fields: bool,
    /// Whether names were accepted or the definition is established: it is served.
    pub is_served: bool,
    /// Whether it is on its way out: nothing may be created.
    pub is_terminating: bool,
}

/// One version.
#[derive(Debug)]
pub struct Version {
    /// Such as `v1`.
    pub name: String,
    /// Whether it is served.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// What a use of it is told, where it is deprecated.
    pub deprecation_warning: Option<String>,
    /// Schema; `None` for old definitions without one.
    pub schema: Option<Schema>,
    /// The schema as it was written, for OpenAPI.
    pub raw_schema: Value,
    /// Whether there is a status subresource.
    pub has_status: bool,
    /// Scale subresource.
    pub scale: Option<Scale>,
    /// Columns beside the name.
    pub columns: Vec<Column>,
    /// Fields that a field selector may name, without the leading dot.
    pub selectable_fields: Vec<(String, JsonPath)>,
}

/// Where the fields of a `Scale` are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// JSON pointer of the wanted replicas.
    pub spec_replicas: String,
    /// JSON pointer of the real replicas.
    pub status_replicas: String,
    /// JSON pointer of the selector; empty for none.
    pub label_selector: String,
}

/// One printer column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// OpenAPI format.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown.
    pub priority: i64,
    /// Where the value is; `None` for a path that cannot be read.
    pub path: Option<JsonPath>,
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let items = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Names {
    /// Names in `spec.names` or `status.acceptedNames`.
    #[must_use]
    pub fn parse(names: &Value) -> Self {
        Self {
            plural: text(names, "/plural").to_owned(),
            singular: text(names, "/singular").to_owned(),
            short_names: texts(names, "/shortNames"),
            kind: text(names, "/kind").to_owned(),
            list_kind: text(names, "/listKind").to_owned(),
            categories: texts(names, "/categories"),
        }
    }

    /// As an object carries them.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut names = json!({ "plural": self.plural, "kind": self.kind });
        for (field, name) in [("singular", &self.singular), ("listKind", &self.list_kind)] {
            if !name.is_empty() {
                names[field] = json!(name);
            }
        }
        for (field, list) in [("shortNames", &self.short_names), ("categories", &self.categories)] {
            if !list.is_empty() {
                names[field] = json!(list);
            }
        }
        names
    }
}

/// Whether a condition of a definition is true.
#[must_use]
pub fn has_condition(object: &Value, type_: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

impl Definition {
    /// Reads an object of kind CustomResourceDefinition.
    #[must_use]
    pub fn parse(object: &Value) -> Self {
        let accepted = object.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
        let spec = object.pointer("/spec").unwrap_or(&Value::Null);
        let accepted = Names::parse(accepted);
        let requested = Names::parse(&spec["names"]);
        let group = text(spec, "/group");
        let versions = spec["versions"].as_array().into_iter().flatten();
        Self {
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            group: group.to_owned(),
            names: if accepted.plural.is_empty() { requested } else { accepted },
            namespaced: spec["scope"] == "Namespaced",
            versions: versions.map(|version| Version::parse(version, group, text(spec, "/names/kind"))).collect(),
            webhook: Some(&spec["conversion"]).filter(|conversion| conversion["strategy"] == "Webhook").cloned(),
            preserve_unknown_fields: spec["preserveUnknownFields"] == true,
            is_served: has_condition(object, "Established") || has_condition(object, "NamesAccepted"),
            is_terminating: has_condition(object, "Terminating"),
        }
    }

    /// A version by its name.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version in which objects are stored.
    #[must_use]
    pub fn storage_version(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.storage)
    }

    /// `GROUP/VERSION`.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        format!("{}/{version}", self.group)
    }
}

/// `.spec.replicas` as a JSON pointer.
fn pointer(path: &str) -> String {
    JsonPath::parse(path).ok().and_then(|path| path.fields().map(|fields| format!("/{}", fields.join("/")))).unwrap_or_default()
}

impl Version {
    fn parse(version: &Value, group: &str, kind: &str) -> Self {
        let name = text(version, "/name");
        let raw_schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or(Value::Null);
        let told = version["deprecationWarning"].as_str().map(str::to_owned);
        let usual = || format!("{group}/{name} {kind} is deprecated");
        let scale = version.pointer("/subresources/scale").filter(|scale| scale.is_object()).map(|scale| Scale {
            spec_replicas: pointer(text(scale, "/specReplicasPath")),
            status_replicas: pointer(text(scale, "/statusReplicasPath")),
            label_selector: Some(text(scale, "/labelSelectorPath"))
                .filter(|path| !path.is_empty())
                .map(pointer)
                .unwrap_or_default(),
        });
        let selectable = version["selectableFields"].as_array().into_iter().flatten().filter_map(|field| {
            let path = field["jsonPath"].as_str()?;
            Some((path.trim_start_matches('.').to_owned(), JsonPath::parse(path).ok()?))
        });
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten().map(Column::parse);
        let mut columns: Vec<Column> = columns.collect();
        if columns.is_empty() {
            columns.push(Column {
                name: "Age".into(),
                type_: "date".into(),
                format: String::new(),
                description: "Time since the object was created.".into(),
                priority: 0,
                path: JsonPath::parse(".metadata.creationTimestamp").ok(),
            });
        }
        Self {
            name: name.to_owned(),
            served: version["served"] == true,
            storage: version["storage"] == true,
            deprecation_warning: (version["deprecated"] == true).then(|| told.unwrap_or_else(usual)),
            schema: raw_schema.is_object().then(|| Schema::parse(&raw_schema)),
            raw_schema,
            has_status: version.pointer("/subresources/status").is_some_and(Value::is_object),
            scale,
            columns,
            selectable_fields: selectable.collect(),
        }
    }
}

impl Column {
    fn parse(column: &Value) -> Self {
        Self {
            name: text(column, "/name").to_owned(),
            type_: text(column, "/type").to_owned(),
            format: text(column, "/format").to_owned(),
            description: text(column, "/description").to_owned(),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(text(column, "/jsonPath")).ok(),
        }
    }
}
