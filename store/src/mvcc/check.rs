//! Refuses requests that make no sense, before they reach the log.

use std::collections::BTreeSet;

use bytes::Bytes;
use kontiki_proto::etcdserverpb::{self as pb, range_request, request_op};

use super::range::KeyRange;
use crate::error::Error;
use crate::limits::TXN_DEPTH_MAX;

/// Checks a read.
pub fn range(request: &pb::RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if range_request::SortOrder::try_from(request.sort_order).is_err()
        || range_request::SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a write.
pub fn put(request: &pb::PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a removal.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(())
}

/// Checks a transaction with all that is nested in it.
pub fn txn(request: &pb::TxnRequest, operations_max: usize) -> Result<(), Error> {
    operations(request, operations_max, 1)?;
    disjoint(&request.success)?;
    disjoint(&request.failure)?;
    Ok(())
}

fn operations(request: &pb::TxnRequest, max: usize, depth: usize) -> Result<(), Error> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    if most > max || depth > TXN_DEPTH_MAX {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(request_op::Request::RequestRange(nested)) => range(nested)?,
            Some(request_op::Request::RequestPut(nested)) => put(nested)?,
            Some(request_op::Request::RequestDeleteRange(nested)) => delete_range(nested)?,
            Some(request_op::Request::RequestTxn(nested)) => operations(nested, max - most, depth + 1)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations writes: the keys it puts and the intervals it removes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

/// No key may be written twice at one revision; the two branches of a transaction never both run.
fn disjoint(operations: &[pb::RequestOp]) -> Result<Writes, Error> {
    let mut writes = Writes::default();
    for operation in operations {
        if let Some(request_op::Request::RequestDeleteRange(nested)) = &operation.request {
            writes.deletes.push(KeyRange::new(&nested.key, &nested.range_end));
        }
    }
    for operation in operations {
        let Some(request_op::Request::RequestTxn(nested)) = &operation.request else {
            continue;
        };
        let success = disjoint(&nested.success)?;
        let failure = disjoint(&nested.failure)?;
        conflict(&writes, &success)?;
        conflict(&writes, &failure)?;
        for branch in [success, failure] {
            writes.puts.extend(branch.puts);
            writes.deletes.extend(branch.deletes);
        }
    }
    for operation in operations {
        let Some(request_op::Request::RequestPut(nested)) = &operation.request else {
            continue;
        };
        if writes.deletes.iter().any(|range| range.contains(&nested.key)) || !writes.puts.insert(nested.key.clone()) {
            return Err(Error::DuplicateKey);
        }
    }
    Ok(writes)
}

fn conflict(outer: &Writes, inner: &Writes) -> Result<(), Error> {
    let twice = inner.puts.iter().any(|key| outer.puts.contains(key))
        || inner.puts.iter().any(|key| outer.deletes.iter().any(|range| range.contains(key)))
        || outer.puts.iter().any(|key| inner.deletes.iter().any(|range| range.contains(key)));
    if twice { Err(Error::DuplicateKey) } else { Ok(()) }
}

/// Whether a transaction writes nothing on either branch, so that it need not go through the log.
#[must_use]
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(request_op::Request::RequestRange(_)) => true,
        Some(request_op::Request::RequestTxn(nested)) => is_read_only(nested),
        _ => false,
    })
}

/// Whether a read-only transaction asks only for what this member has.
#[must_use]
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(request_op::Request::RequestRange(nested)) => nested.serializable,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TXN_OPERATIONS_MAX;

    fn put_op(key: &'static str) -> pb::RequestOp {
        let request = pb::PutRequest { key: Bytes::from_static(key.as_bytes()), ..Default::default() };
        pb::RequestOp { request: Some(request_op::Request::RequestPut(request)) }
    }

    fn delete_op(key: &'static str, end: &'static str) -> pb::RequestOp {
        let request = pb::DeleteRangeRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            prev_kv: false,
        };
        pb::RequestOp { request: Some(request_op::Request::RequestDeleteRange(request)) }
    }

    fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        let request = pb::TxnRequest { compare: vec![], success, failure };
        pb::RequestOp { request: Some(request_op::Request::RequestTxn(request)) }
    }

    fn check(success: Vec<pb::RequestOp>, expected: &Result<(), Error>) {
        assert_eq!(txn(&pb::TxnRequest { compare: vec![], success, failure: vec![] }, TXN_OPERATIONS_MAX), *expected);
    }

    #[test]
    fn a_key_is_written_once() {
        check(vec![put_op("a"), put_op("b")], &Ok(()));
        check(vec![put_op("a"), put_op("a")], &Err(Error::DuplicateKey));
        check(vec![put_op("b"), delete_op("a", "c")], &Err(Error::DuplicateKey));
        check(vec![delete_op("a", "c"), delete_op("b", "")], &Ok(()));
        check(vec![txn_op(vec![put_op("a")], vec![put_op("a")])], &Ok(()));
        check(vec![put_op("a"), txn_op(vec![put_op("a")], vec![])], &Err(Error::DuplicateKey));
        check(vec![delete_op("a", ""), txn_op(vec![], vec![put_op("a")])], &Err(Error::DuplicateKey));
    }

    #[test]
    fn operations_are_bounded() {
        let many = (0..TXN_OPERATIONS_MAX + 1).map(|_| delete_op("a", "")).collect();
        check(many, &Err(Error::TooManyOps));
        check(vec![put_op("")], &Err(Error::EmptyKey));
    }
}
