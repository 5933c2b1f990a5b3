//! What creation and update do to the metadata of every kind.
//!
//! The server alone decides uid, creation time, deletion time and generation; clients may send them
//! back but not change them.

use jiff::Timestamp;
use serde_json::Value;

use super::{generate_name, meta};

/// Sets what the server decides at creation. `random` feeds `generateName`.
pub fn before_create(object: &mut Value, uid: &str, random: [u8; 5], now: Timestamp) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        meta::remove(object, field);
    }
    let base = meta::text(object, "generateName").to_owned();
    if meta::name(object).is_empty() && !base.is_empty() {
        meta::set(object, "name", generate_name(&base, random));
    }
    meta::set(object, "uid", uid);
    meta::set(object, "creationTimestamp", meta::time(now));
}

/// Restores what an update may not touch. A uid that the client sends is kept, so that validation
/// or the caller's precondition can refuse another object's.
pub fn before_update(new: &mut Value, old: &Value) {
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"] {
        // A deletion that was asked for cannot be taken back, nor begun by an update.
        meta::copy(new, old, field);
    }
    for field in ["uid", "name", "namespace"] {
        if meta::text(new, field).is_empty() {
            meta::copy(new, old, field);
        }
    }
}

/// Generation after an update: one more if anything but metadata and status changed.
#[must_use]
pub fn count_generation(new: &Value, old: &Value) -> i64 {
    let generation = meta::generation(old);
    let relevant = |object: &Value| -> Vec<(String, Value)> {
        let members = object.as_object().into_iter().flatten();
        members
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    if relevant(new) == relevant(old) { generation } else { generation + 1 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn creation_decides_identity() {
        let mut pod =
            json!({"metadata": {"generateName": "web-", "uid": "mine", "deletionTimestamp": "x", "resourceVersion": "1"}});
        before_create(&mut pod, "u", [0; 5], "2026-01-02T03:04:05.6Z".parse().unwrap());
        assert_eq!(
            pod["metadata"],
            json!({"generateName": "web-", "name": "web-bbbbb", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z"})
        );
    }

    #[test]
    fn updates_keep_what_the_server_decided() {
        let old = json!({"metadata": {"name": "a", "uid": "u", "creationTimestamp": "t", "generation": 3}, "spec": 1});
        let mut new = json!({"metadata": {"name": "a", "generation": 9, "deletionTimestamp": "x"}, "spec": 2, "status": 1});
        before_update(&mut new, &old);
        assert_eq!(new["metadata"], old["metadata"]);
        assert_eq!(count_generation(&new, &old), 4);
        assert_eq!(count_generation(&json!({"spec": 1, "status": 2}), &old), 3);
    }
}
