//! Event: `events.k8s.io/v1`, stored as the core group's.

use serde_json::Value;

use super::{Conversion, rename};

/// Names in `events.k8s.io/v1`, names in the core group.
const FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Names in selectors.
const SELECTABLE: [(&str, &str); 10] = [
    ("reason", "reason"),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];

/// Event.
pub struct EventConversion;

impl Conversion for EventConversion {
    fn to_stored(&self, mut served: Value) -> Value {
        served["apiVersion"] = "v1".into();
        for (there, here) in FIELDS {
            served.as_object_mut().into_iter().for_each(|object| rename(object, there, here));
        }
        served
    }

    fn to_served(&self, mut stored: Value) -> Value {
        stored["apiVersion"] = "events.k8s.io/v1".into();
        for (there, here) in FIELDS {
            stored.as_object_mut().into_iter().for_each(|object| rename(object, here, there));
        }
        stored
    }

    fn stored_field(&self, served: &str) -> Option<&'static str> {
        SELECTABLE.iter().find(|(there, _)| *there == served).map(|(_, here)| *here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_keeps_everything_on_its_way_there_and_back() {
        let served = json!({"kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "x"}, "note": "n",
            "regarding": {"kind": "Pod", "name": "a"}, "reportingController": "c", "reportingInstance": "i", "action": "Do",
            "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}, "deprecatedCount": 3});
        let stored = EventConversion.to_stored(served.clone());
        assert_eq!((&stored["message"], &stored["count"], &stored["apiVersion"]), (&json!("n"), &json!(3), &json!("v1")));
        assert_eq!(stored["involvedObject"]["name"], "a");
        assert_eq!(EventConversion.to_served(stored), served);
        assert_eq!(EventConversion.stored_field("regarding.name"), Some("involvedObject.name"));
        assert_eq!(EventConversion.stored_field("involvedObject.name"), None);
    }
}
