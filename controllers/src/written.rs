//! Writing statuses: only where something differs, and only over the version that was looked at.

use kontiki_api::resources::ResourceKey;
use kontiki_client::{Error, Patch};
use serde_json::{Value, json};

use crate::{context::Context, model::Meta, run::gone};

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

/// Whether two values differ, where what is absent is as good as what is empty or 0.
fn differ(have: &Value, want: &Value) -> bool {
    match (have, want) {
        (Value::Object(have), Value::Object(want)) => {
            let fields = have.keys().chain(want.keys());
            fields
                .into_iter()
                .any(|name| differ(&have.get(name).cloned().unwrap_or_default(), &want.get(name).cloned().unwrap_or_default()))
        }
        (Value::Array(have), Value::Array(want)) => {
            have.len() != want.len() || have.iter().zip(want).any(|(have, want)| differ(have, want))
        }
        (have, want) => have != want && !(is_nothing(have) && is_nothing(want)),
    }
}

/// Whether any field that `want` names is otherwise in `have`. What it does not name is somebody else's.
pub fn differs(have: &Value, want: &Value) -> bool {
    let fields = want.as_object().into_iter().flatten();
    fields.into_iter().any(|(name, value)| differ(&have[name], value))
}

/// Writes a status where it differs, null for what is to be absent. Returns the version written, if any; that the
/// object is gone is no error.
pub async fn write_status(
    context: &Context,
    key: ResourceKey,
    meta: &Meta,
    have: &Value,
    want: &Value,
) -> Result<Option<Value>, Error> {
    if !differs(have, want) {
        return Ok(None);
    }
    let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version }, "status": want });
    let written = context.client().patch(key, &meta.namespace, &meta.name, Some("status"), Patch::Merge(patch)).await;
    match written {
        Ok(object) => Ok(Some(object)),
        Err(error) => gone(Err(error)).map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_where_nothing_differs() {
        let cases = [
            (json!({"a": 1, "theirs": 2}), json!({"a": 1}), false),
            (json!({"a": 1}), json!({"a": 2}), true),
            (json!({}), json!({"a": 0, "b": null, "c": [], "d": {"e": null}}), false),
            (json!({"c": [{"type": "x", "at": null}]}), json!({"c": [{"type": "x"}]}), false),
            (json!({"c": [{"type": "x"}]}), json!({"c": []}), true),
            (json!({"d": {"e": [1], "f": [2]}}), json!({"d": {"e": [1]}}), true),
            (Value::Null, json!({"a": 1}), true),
        ];
        for (have, want, wanted) in cases {
            assert_eq!(differs(&have, &want), wanted, "{have} {want}");
        }
    }
}
