//! ServiceCIDR.

use serde_json::{Value, json};

use super::cidr;
use crate::kinds::{
    check::At,
    common::{AGE, NAME, age, column, items, joined, name},
    kind::{Errors, Kind},
};

/// ServiceCIDR.
pub static SERVICE_CIDR: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    validate: |object, errors| check(&At::root(object).get("spec.cidrs"), errors),
    validate_update: |new, old, errors| {
        let (new, old) = (At::root(new).get("spec.cidrs"), At::root(old).get("spec.cidrs"));
        match (old.len(), new.len()) {
            // A cluster may become dual-stack; what was given out stays.
            (1, 2) if new.value[0] == old.value[0] => {}
            _ => new.immutable(&old, errors),
        }
    },
    columns: &[NAME, column("CIDRs", "string", 0, "Ranges that Services get their addresses from."), AGE],
    cells: |object, now| {
        let ranges = items(object, "/spec/cidrs").filter_map(Value::as_str).map(str::to_owned);
        vec![name(object), json!(joined(ranges)), age(object, now)]
    },
    ..Kind::WITH_STATUS
};

fn check(cidrs: &At<'_>, errors: &mut Errors) {
    if cidrs.is_empty() {
        return cidrs.required("at least one CIDR required", errors);
    }
    if cidrs.len() > 2 {
        return cidrs.invalid("may only hold up to 2 values", errors);
    }
    let mut parsed = Vec::new();
    for at in cidrs.each() {
        let Some(range) = cidr::check(&at, errors) else { continue };
        if !range.is_network() {
            at.invalid("must not have bits set beyond the prefix length", errors);
        }
        parsed.push(range);
    }
    if let [first, second] = parsed.as_slice()
        && first.is_v6() == second.is_v6()
    {
        cidrs.invalid("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_range_stays_and_a_second_may_join_it() {
        let object = |cidrs: Value| json!({"spec": {"cidrs": cidrs}});
        assert_eq!(SERVICE_CIDR.validate(&object(json!(["10.96.0.0/16", "fd00::/112"]))), vec![]);
        for wrong in [json!([]), json!(["10.96.0.1/16"]), json!(["10.0.0.0/16", "10.1.0.0/16"]), json!(["x"])] {
            assert_eq!(SERVICE_CIDR.validate(&object(wrong)).len(), 1);
        }
        let old = object(json!(["10.96.0.0/16"]));
        assert_eq!(SERVICE_CIDR.validate_update(&object(json!(["10.96.0.0/16", "fd00::/112"])), &old), vec![]);
        assert_eq!(SERVICE_CIDR.validate_update(&object(json!(["10.97.0.0/16"])), &old).len(), 1);
    }
}
