//! The conditions of a transaction.

use std::cmp::Ordering;

use kontiki_proto::etcdserverpb::Compare;
use kontiki_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kontiki_proto::mvccpb::KeyValue;

/// Whether a condition holds for the keys it names: for each of them, or, where there is none,
/// for a key that never was. A value that is missing equals nothing, not even the empty one.
#[must_use]
pub fn holds(compare: &Compare, found: &[KeyValue]) -> bool {
    if !found.is_empty() {
        return found.iter().all(|kv| holds_for(compare, kv));
    }
    compare.target != CompareTarget::Value as i32 && holds_for(compare, &KeyValue::default())
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let Ok(target) = CompareTarget::try_from(compare.target) else {
        return true;
    };
    let ordering = match (target, &compare.target_union) {
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => kv.value.cmp(value),
        (CompareTarget::Value, _) => kv.value.as_ref().cmp(&[]),
        (CompareTarget::Version, Some(TargetUnion::Version(version))) => kv.version.cmp(version),
        (CompareTarget::Version, _) => kv.version.cmp(&0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(revision))) => kv.create_revision.cmp(revision),
        (CompareTarget::Create, _) => kv.create_revision.cmp(&0),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(revision))) => kv.mod_revision.cmp(revision),
        (CompareTarget::Mod, _) => kv.mod_revision.cmp(&0),
        (CompareTarget::Lease, Some(TargetUnion::Lease(lease))) => kv.lease.cmp(lease),
        (CompareTarget::Lease, _) => kv.lease.cmp(&0),
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(result: CompareResult, union: TargetUnion, target: CompareTarget, found: &[KeyValue], expected: bool) {
        let compare = Compare {
            result: result as i32,
            target: target as i32,
            key: "k".into(),
            target_union: Some(union),
            range_end: Default::default(),
        };
        assert_eq!(holds(&compare, found), expected, "{compare:?} on {found:?}");
    }

    #[test]
    fn conditions_compare_each_key_or_the_absent_one() {
        use CompareResult::{Equal, Greater, Less, NotEqual};
        let kv = KeyValue { version: 3, mod_revision: 7, value: "v".into(), ..Default::default() };
        let other = KeyValue { version: 4, ..kv.clone() };
        check(Equal, TargetUnion::ModRevision(0), CompareTarget::Mod, &[], true);
        check(Equal, TargetUnion::Value(Default::default()), CompareTarget::Value, &[], false);
        check(NotEqual, TargetUnion::Value("x".into()), CompareTarget::Value, &[], false);
        check(Equal, TargetUnion::Value("v".into()), CompareTarget::Value, std::slice::from_ref(&kv), true);
        check(Greater, TargetUnion::Version(2), CompareTarget::Version, &[kv.clone(), other.clone()], true);
        check(Less, TargetUnion::Version(4), CompareTarget::Version, &[kv, other], false);
    }
}
