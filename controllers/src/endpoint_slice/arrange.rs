//! Which slices come, change and go so that they hold given endpoints. Pure.
//!
//! Invariant: an endpoint that stays stays in its slice, so that a change of one pod writes one slice.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::Slice;

/// Endpoints of one slice.
pub const ENDPOINTS_MAX: usize = 100;

/// Endpoints of one address type that have the same ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// `IPv4` or `IPv6`.
    pub address_type: String,
    /// Ports.
    pub ports: Value,
    /// Endpoints.
    pub endpoints: Vec<Value>,
}

/// What to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrangement {
    /// Slices to create.
    pub create: Vec<Group>,
    /// Slices that hold these endpoints from now on.
    pub keep: Vec<(Arc<Slice>, Vec<Value>)>,
    /// Slices to delete.
    pub delete: Vec<Arc<Slice>>,
}

/// Whom an endpoint is about.
fn identity(endpoint: &Value) -> String {
    endpoint["targetRef"]["uid"].as_str().or_else(|| endpoint["addresses"][0].as_str()).unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Arranges `groups`, one of each address type and ports, over the slices that there are.
pub fn arrange(existing: &[Arc<Slice>], groups: Vec<Group>) -> Arrangement {
    let mut arrangement = Arrangement::default();
    let mut left: Vec<_> = existing.iter().filter(|slice| !slice.metadata.is_deleted()).cloned().collect();
    for group in groups {
        let fits = |slice: &Arc<Slice>| slice.address_type == group.address_type && list(&slice.ports) == list(&group.ports);
        let (own, others): (Vec<_>, Vec<_>) = left.into_iter().partition(fits);
        left = others;
        let mut wanted: BTreeMap<String, Value> =
            group.endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
        let mut filled: Vec<_> = own
            .into_iter()
            .map(|slice| {
                let kept: Vec<_> = list(&slice.endpoints).iter().filter_map(|old| wanted.remove(&identity(old))).collect();
                (slice, kept)
            })
            .collect();
        // Where something changes anyway there is room first.
        filled.sort_by_key(|(slice, kept)| (list(&slice.endpoints) == kept, std::cmp::Reverse(kept.len())));
        let mut rest: Vec<Value> = wanted.into_values().collect();
        for (_, kept) in &mut filled {
            let room = ENDPOINTS_MAX.saturating_sub(kept.len()).min(rest.len());
            kept.extend(rest.drain(..room));
        }
        let some = filled.iter().any(|(_, kept)| !kept.is_empty()) || !rest.is_empty();
        for (slice, kept) in filled {
            // One empty slice says that nothing is there; more say nothing.
            let first = !some && !arrangement.keep.iter().any(|(known, _)| known.address_type == slice.address_type);
            if kept.is_empty() && !first { arrangement.delete.push(slice) } else { arrangement.keep.push((slice, kept)) }
        }
        if rest.is_empty() && !some && !arrangement.keep.iter().any(|(slice, _)| slice.address_type == group.address_type) {
            arrangement.create.push(Group {
                endpoints: Vec::new(),
                ports: group.ports.clone(),
                address_type: group.address_type.clone(),
            });
        }
        for chunk in rest.chunks(ENDPOINTS_MAX) {
            arrangement.create.push(Group {
                endpoints: chunk.to_vec(),
                ports: group.ports.clone(),
                address_type: group.address_type.clone(),
            });
        }
    }
    arrangement.delete.extend(left);
    arrangement
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn endpoint(number: usize) -> Value {
        json!({"addresses": [format!("10.0.0.{number}")]})
    }

    fn group(numbers: impl Iterator<Item = usize>) -> Group {
        Group { address_type: "IPv4".into(), ports: json!([{"port": 80}]), endpoints: numbers.map(endpoint).collect() }
    }

    fn slice(name: &str, numbers: impl Iterator<Item = usize>) -> Arc<Slice> {
        let group = group(numbers);
        let slice =
            json!({"metadata": {"name": name}, "addressType": "IPv4", "ports": group.ports, "endpoints": group.endpoints});
        Arc::new(serde_json::from_value(slice).unwrap())
    }

    fn show(arrangement: &Arrangement) -> String {
        let keep: Vec<_> =
            arrangement.keep.iter().map(|(slice, kept)| format!("{}:{}", slice.metadata.name, kept.len())).collect();
        let create: Vec<_> = arrangement.create.iter().map(|group| group.endpoints.len().to_string()).collect();
        let delete: Vec<_> = arrangement.delete.iter().map(|slice| slice.metadata.name.clone()).collect();
        format!("{} +{} -{}", keep.join(","), create.join(","), delete.join(","))
    }

    #[test]
    fn endpoints_stay_where_they_are() {
        let cases = [
            (vec![], group(0..0), " +0 -"),
            (vec![], group(0..150), " +100,50 -"),
            (vec![slice("a", 0..0)], group(0..0), "a:0 + -"),
            (vec![slice("a", 0..0)], group(0..3), "a:3 + -"),
            (vec![slice("a", 0..100), slice("b", 100..150)], group(1..150), "a:99,b:50 + -"),
            (vec![slice("a", 0..100), slice("b", 100..150)], group(0..151), "b:51,a:100 + -"),
            (vec![slice("a", 0..100), slice("b", 100..150)], group(0..100), "a:100 + -b"),
            (vec![slice("a", 0..2), slice("b", 2..4)], group(0..0), "a:0 + -b"),
        ];
        for (existing, group, wanted) in cases {
            let mut found = arrange(&existing, vec![group.clone()]);
            found.keep.sort_by_key(|(_, kept)| kept.len() == ENDPOINTS_MAX);
            assert_eq!(show(&found), wanted);
        }
    }

    #[test]
    fn what_has_other_ports_gives_way() {
        let mut other = group(0..1);
        other.ports = json!([{"port": 81}]);
        let found = arrange(&[slice("a", 0..1)], vec![other]);
        assert_eq!(show(&found), " +1 -a");
    }
}
