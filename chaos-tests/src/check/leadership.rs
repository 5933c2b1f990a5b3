//! Leadership changes hands only when the last claim has run out or was given up: two leaders never write at once.

use serde_json::Value;

use crate::history::Event;

/// What a Lease says at one version.
#[derive(Debug, PartialEq)]
struct Claim {
    holder: String,
    renewed: f64,
    seconds: f64,
}

fn claim(lease: &Value) -> Claim {
    let spec = &lease["spec"];
    let seconds = spec["leaseDurationSeconds"].as_f64().unwrap_or(0.0);
    let renewed = spec["renewTime"].as_str().and_then(seconds_of_day_and_date).unwrap_or(0.0);
    Claim { holder: spec["holderIdentity"].as_str().unwrap_or_default().into(), renewed, seconds }
}

/// Seconds since the epoch of `2026-01-31T10:20:30.123456Z`.
fn seconds_of_day_and_date(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Vec<i64> = date.split('-').filter_map(|part| part.parse().ok()).collect();
    let time: Vec<f64> = time.split(':').filter_map(|part| part.parse().ok()).collect();
    let ([year, month, day], [hours, minutes, seconds]) = (date.as_slice(), time.as_slice()) else { return None };
    // Days of the proleptic Gregorian calendar, years beginning in March.
    let (year, month) = if *month > 2 { (*year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 719_469;
    Some(days as f64 * 86_400.0 + hours * 3600.0 + minutes * 60.0 + seconds)
}

/// Successors that came too early. `events` are those of one Lease.
#[must_use]
pub fn overlaps(events: &[Event]) -> Vec<String> {
    let claims: Vec<Claim> = events.iter().filter(|event| event.change != "ERROR").map(|event| claim(&event.object)).collect();
    let mut findings = Vec::new();
    for pair in claims.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let changed = before.holder != after.holder && !before.holder.is_empty() && !after.holder.is_empty();
        let ended = before.renewed + before.seconds;
        if changed && after.renewed < ended {
            findings.push(format!(
                "{} claims {:.3} s before {}'s claim ends",
                after.holder,
                ended - after.renewed,
                before.holder
            ));
        }
    }
    findings
}

/// How often leadership changed hands.
#[must_use]
pub fn changes(events: &[Event]) -> usize {
    let holders: Vec<String> =
        events.iter().map(|event| claim(&event.object).holder).filter(|holder| !holder.is_empty()).collect();
    holders.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(holder: &str, second: &str) -> Event {
        let spec =
            json!({"holderIdentity": holder, "leaseDurationSeconds": 4, "renewTime": format!("2026-02-28T23:59:{second}Z")});
        Event { change: "MODIFIED".into(), name: "lease".into(), version: 0, object: json!({ "spec": spec }) }
    }

    #[test]
    fn a_second_leader_within_the_firsts_time_is_found() {
        let orderly =
            [event("a", "10.000000"), event("a", "12.000000"), event("b", "16.100000"), event("", "17.0"), event("c", "17.1")];
        assert_eq!(overlaps(&orderly), [""; 0]);
        assert_eq!(changes(&orderly), 2);
        let planted = [event("a", "10.000000"), event("b", "12.000000")];
        assert_eq!(overlaps(&planted), ["b claims 2.000 s before a's claim ends"]);
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds_of_day_and_date("1970-01-01T00:00:01.500000Z"), Some(1.5));
        assert_eq!(seconds_of_day_and_date("2000-03-01T00:00:00Z"), Some(951_868_800.0));
        assert_eq!(seconds_of_day_and_date("yesterday"), None);
    }
}
