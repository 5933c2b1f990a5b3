//! Which requests are old enough to go.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{request, sign};

const PENDING: SignedDuration = SignedDuration::from_hours(24);
const DECIDED: SignedDuration = SignedDuration::from_hours(1);

/// Whether a request has waited for a day, was decided an hour ago, or its certificate is over.
pub fn is_old(object: &Value, now: Timestamp) -> bool {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let passed = |since: Timestamp, span: SignedDuration| now.duration_since(since) > span;
    if object["status"]["certificate"].as_str().and_then(sign::expiry).is_some_and(|end| end < now) {
        return true;
    }
    let decided = object["status"]["conditions"].as_array().into_iter().flatten();
    let decided = decided.filter_map(|condition| time(&condition["lastUpdateTime"])).max();
    match decided.filter(|_| request::is_decided(object)) {
        Some(decided) => passed(decided, DECIDED),
        None => time(&object["metadata"]["creationTimestamp"]).is_some_and(|created| passed(created, PENDING)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_waits_a_day_and_stays_an_hour_when_it_is_decided() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let pending = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(!is_old(&pending, at("2026-01-01T23:00:00Z")));
        assert!(is_old(&pending, at("2026-01-02T00:00:01Z")));
        let mut denied = pending;
        denied["status"]["conditions"] = json!([{"type": "Denied", "status": "True", "lastUpdateTime": "2026-01-01T01:00:00Z"}]);
        assert!(!is_old(&denied, at("2026-01-01T02:00:00Z")));
        assert!(is_old(&denied, at("2026-01-01T02:00:01Z")));
    }
}
