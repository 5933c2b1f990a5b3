//! Strategic merge patch: lists merge by the keys that the schema table names.
//!
//! Directives in a patch: `$patch: delete | replace | merge`, `$retainKeys`, `$setElementOrder/F`,
//! `$deleteFromPrimitiveList/F`. Behaviour follows
//! <https://git.k8s.io/community/contributors/devel/sig-api-machinery/strategic-merge-patch.md> and
//! what a v1.36 server does where that is silent, order of list items included.

use serde_json::{Map, Value};

use super::{go, json::unprocessable};
use crate::schema::{self, Field, Shape, Type};
use crate::status::Status;

mod list;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";

/// Why a patch cannot be applied.
#[derive(Debug)]
enum Refusal {
    /// The patch is malformed: 400.
    Malformed(&'static str),
    /// The patch asks for something unsupported: 422, without saying what.
    Unsupported,
    /// Anything else: 500, as Kubernetes answers it.
    Other(String),
}

type Merged<T> = Result<T, Refusal>;

/// Applies a strategic merge patch to an object of a type.
///
/// # Errors
/// 400, 422 or 500 with the words of Kubernetes.
pub fn strategic_merge(object: Value, patch: Value, type_: &'static Type) -> Result<Value, Status> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    let merged = merge_map(object, patch, Schema::Type(type_)).map_err(|refusal| match refusal {
        Refusal::Malformed(message) => Status::bad_request(message),
        Refusal::Unsupported => unprocessable(),
        Refusal::Other(message) => Status::failure(500, "", message),
    })?;
    Ok(Value::Object(merged))
}

/// What is known of the members of a map.
#[derive(Clone, Copy)]
enum Schema {
    /// The fields of a type.
    Type(&'static Type),
    /// Every member has this shape.
    Members(&'static Shape),
    /// Nothing.
    Unknown,
}

/// What is known of one member.
#[derive(Clone, Copy)]
struct Member {
    shape: &'static Shape,
    field: Option<&'static Field>,
}

impl Schema {
    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object(name) => schema::find(name).map_or(Self::Unknown, Self::Type),
            Shape::Map(item) => Self::Members(item),
            Shape::Scalar(_) | Shape::List(_) | Shape::Any => Self::Unknown,
        }
    }

    fn member(self, name: &str) -> Merged<Member> {
        match self {
            Self::Type(type_) => match type_.field(name) {
                Some(field) => Ok(Member { shape: &field.shape, field: Some(field) }),
                None => Err(Refusal::Other(format!(
                    "unable to find api field in struct {} for the json field {name:?}",
                    type_.short_name()
                ))),
            },
            Self::Members(shape) => Ok(Member { shape, field: None }),
            Self::Unknown => Ok(Member { shape: &Shape::Any, field: None }),
        }
    }
}

impl Member {
    fn merges_list(self) -> bool {
        self.field.is_some_and(Field::merges)
    }

    fn replaces_map(self) -> bool {
        self.field.is_some_and(|field| field.patch_strategy.split(',').any(|strategy| strategy == "replace"))
    }

    fn merge_key(self) -> &'static str {
        self.field.and_then(|field| field.merge_key).unwrap_or_default()
    }

    /// Schema of a list's items.
    fn items(self) -> Schema {
        if let Shape::List(item) = self.shape { Schema::of(item) } else { Schema::Unknown }
    }
}

fn merge_map(mut original: Map<String, Value>, mut patch: Map<String, Value>, schema: Schema) -> Merged<Map<String, Value>> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(&directive.clone(), &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    list::merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        merge_member(&mut original, key, value, schema)?;
    }
    Ok(original)
}

fn merge_member(original: &mut Map<String, Value>, key: String, value: Value, schema: Schema) -> Merged<()> {
    let deleted_from = key.starts_with(DELETE_FROM_LIST);
    let key = if deleted_from {
        let name = key.strip_prefix(DELETE_FROM_LIST).and_then(|rest| rest.strip_prefix('/'));
        name.ok_or(Refusal::Malformed("invalid patch format of primitive list"))?.to_owned()
    } else {
        key
    };
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    match (original.get_mut(&key), value) {
        (Some(Value::Object(members)), Value::Object(patch)) => {
            let member = schema.member(&key)?;
            if member.replaces_map() {
                *members = patch;
            } else {
                *members = merge_map(std::mem::take(members), patch, Schema::of(member.shape))?;
            }
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            let member = schema.member(&key)?;
            *items = if deleted_from {
                list::delete_from(std::mem::take(items), &patch)?
            } else if member.merges_list() {
                list::merge_list(std::mem::take(items), patch, member)?
            } else {
                patch
            };
        }
        (_, _) if deleted_from => {}
        (_, mut value) => {
            discard_nulls(&mut value);
            match without_directives(value) {
                Some(value) => original.insert(key, value),
                None => original.remove(&key),
            };
        }
    }
    Ok(())
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> Refusal {
    let map = go::print(&Value::Object(patch.clone()));
    Refusal::Other(format!("unknown patch type: {} in map: {map}", go::print(directive)))
}

/// `$retainKeys` clears what it does not name; the patch may set only what it names.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Merged<()> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || Refusal::Malformed("invalid patch format of retainKeys");
    let Value::Array(retained) = directive else { return Err(malformed()) };
    let is_retained = |key: &str| retained.iter().any(|name| name.as_str() == Some(key));
    for (key, value) in patch.iter() {
        let is_directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ELEMENT_ORDER);
        if !value.is_null() && !is_directive && !is_retained(key) {
            return Err(malformed());
        }
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

/// In what a patch adds, null means nothing.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What a patch adds must not leave directives in the object: a map that carries one goes.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => {
            let kept = members.into_iter().filter_map(|(name, member)| Some((name, without_directives(member)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}
