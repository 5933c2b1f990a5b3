//! The part of a read that comes after the keys were found: filter, sort, cut, strip.

use kontiki_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kontiki_proto::etcdserverpb::{RangeRequest, RangeResponse};
use kontiki_proto::mvccpb::KeyValue;

/// How many keys a scan has to return at least for [`finish`] to be exact; `None` is all of them.
#[must_use]
pub fn scan_limit(request: &RangeRequest) -> Option<usize> {
    let all = request.sort_order != SortOrder::None as i32
        || request.sort_target != SortTarget::Key as i32
        || request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if request.count_only {
        Some(0)
    } else if all || request.limit <= 0 {
        None
    } else {
        usize::try_from(request.limit).ok().and_then(|limit| limit.checked_add(1))
    }
}

/// Makes the answer from the keys found in key order and their count before any filter.
#[must_use]
pub fn finish(request: &RangeRequest, mut found: Vec<KeyValue>, count: i64) -> RangeResponse {
    let outside = |revision: i64, min: i64, max: i64| (min != 0 && revision < min) || (max != 0 && revision > max);
    found.retain(|kv| {
        !outside(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && !outside(kv.create_revision, request.min_create_revision, request.max_create_revision)
    });
    sort(request, &mut found);
    let mut more = false;
    if let Ok(limit) = usize::try_from(request.limit)
        && limit > 0
        && found.len() > limit
    {
        found.truncate(limit);
        more = true;
    }
    if request.keys_only {
        for kv in &mut found {
            kv.value.clear();
        }
    }
    RangeResponse { header: None, kvs: found, more, count }
}

/// Keys that are equal in what is sorted by stay in key order, whichever way it goes.
fn sort(request: &RangeRequest, found: &mut [KeyValue]) {
    let descending = request.sort_order == SortOrder::Descend as i32;
    if !descending && request.sort_target == SortTarget::Key as i32 {
        // They were found in this order.
        return;
    }
    let order = |left: &KeyValue, right: &KeyValue| match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => left.version.cmp(&right.version),
        Ok(SortTarget::Create) => left.create_revision.cmp(&right.create_revision),
        Ok(SortTarget::Mod) => left.mod_revision.cmp(&right.mod_revision),
        Ok(SortTarget::Value) => left.value.cmp(&right.value),
        Ok(SortTarget::Key) | Err(_) => left.key.cmp(&right.key),
    };
    found.sort_by(|left, right| if descending { order(left, right).reverse() } else { order(left, right) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(request: &RangeRequest) -> (String, bool) {
        let found = [("a", 3, 9), ("b", 2, 2), ("c", 1, 5)];
        let found = found.into_iter().map(|(key, create_revision, mod_revision)| KeyValue {
            key: key.into(),
            create_revision,
            mod_revision,
            value: key.into(),
            ..Default::default()
        });
        let response = finish(request, found.collect(), 3);
        let keys = response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
        (keys, response.more)
    }

    #[test]
    fn filters_sorts_and_cuts() {
        let request = RangeRequest::default();
        assert_eq!(keys(&request), ("abc".to_owned(), false));
        assert_eq!(keys(&RangeRequest { limit: 2, ..request.clone() }), ("ab".to_owned(), true));
        let descend = RangeRequest { sort_order: SortOrder::Descend as i32, ..request.clone() };
        assert_eq!(keys(&descend), ("cba".to_owned(), false));
        let by_mod = RangeRequest { sort_target: SortTarget::Mod as i32, limit: 2, ..request.clone() };
        assert_eq!(keys(&by_mod), ("bc".to_owned(), true));
        let equal =
            RangeRequest { sort_target: SortTarget::Version as i32, sort_order: SortOrder::Descend as i32, ..request.clone() };
        assert_eq!(keys(&equal), ("abc".to_owned(), false), "equal ones stay in key order");
        let bounded = RangeRequest { min_mod_revision: 3, max_create_revision: 2, ..request };
        assert_eq!(keys(&bounded), ("c".to_owned(), false));
    }
}
