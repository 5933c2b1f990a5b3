//! Who may read and write which keys.

use bytes::Bytes;
use kontiki_proto::authpb;
use kontiki_proto::authpb::permission::Type;
use kontiki_proto::etcdserverpb::{self as pb, request_op::Request};

use super::{Auth, Caller, ROOT, User};
use crate::error::Error;

/// Keys from one on to before another, or without end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    begin: Bytes,
    end: Option<Bytes>,
}

impl Interval {
    /// Reads etcd's convention.
    #[must_use]
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            // One key ends where the next possible one begins.
            [] => Some([key.as_ref(), b"\0"].concat().into()),
            [0] => None,
            _ => Some(range_end.clone()),
        };
        Self { begin: key.clone(), end }
    }

    /// Whether a permission may be given for it.
    #[must_use]
    pub fn is_sound(key: &Bytes, range_end: &Bytes) -> bool {
        let interval = Self::new(key, range_end);
        !key.is_empty() && interval.end.is_none_or(|end| interval.begin < end)
    }
}

/// Whether the union of intervals covers another one.
fn covered(mut granted: Vec<Interval>, wanted: &Interval) -> bool {
    granted.sort_by(|left, right| left.begin.cmp(&right.begin));
    let mut reached = wanted.begin.clone();
    for interval in granted {
        if interval.begin > reached {
            break;
        }
        match (interval.end, &wanted.end) {
            (None, _) => return true,
            (Some(end), Some(wanted)) if end >= *wanted => return true,
            (Some(end), _) => reached = reached.max(end),
        }
    }
    false
}

/// What is wanted of keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Auth {
    fn keys(&self, user: Option<&User>, access: Access, key: &Bytes, range_end: &Bytes) -> Result<(), Error> {
        let Some(user) = user.filter(|user| !user.roles.contains(ROOT)) else {
            return Ok(());
        };
        let allows = |permission: &&authpb::Permission| match permission.perm_type() {
            Type::Read => access == Access::Read,
            Type::Write => access == Access::Write,
            Type::Readwrite => true,
        };
        let held = user.roles.iter().filter_map(|role| self.roles.get(role)).flatten().filter(allows);
        let granted = held.map(|permission| Interval::new(&permission.key, &permission.range_end)).collect();
        if covered(granted, &Interval::new(key, range_end)) { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    /// Whether a caller may read keys.
    pub fn read(&self, caller: &Caller, key: &Bytes, range_end: &Bytes) -> Result<(), Error> {
        self.keys(self.user(caller)?, Access::Read, key, range_end)
    }

    /// Whether a caller may write one key.
    pub fn write(&self, caller: &Caller, key: &Bytes) -> Result<(), Error> {
        self.keys(self.user(caller)?, Access::Write, key, &Bytes::new())
    }

    /// Whether a caller may put.
    pub fn put(&self, caller: &Caller, request: &pb::PutRequest) -> Result<(), Error> {
        self.write(caller, &request.key)?;
        if request.prev_kv { self.read(caller, &request.key, &Bytes::new()) } else { Ok(()) }
    }

    /// Whether a caller may remove.
    pub fn delete(&self, caller: &Caller, request: &pb::DeleteRangeRequest) -> Result<(), Error> {
        self.keys(self.user(caller)?, Access::Write, &request.key, &request.range_end)?;
        if request.prev_kv { self.read(caller, &request.key, &request.range_end) } else { Ok(()) }
    }

    /// Whether a caller may do everything that a transaction might.
    pub fn txn(&self, caller: &Caller, request: &pb::TxnRequest) -> Result<(), Error> {
        if self.user(caller)?.is_none() {
            return Ok(());
        }
        for condition in &request.compare {
            self.read(caller, &condition.key, &condition.range_end)?;
        }
        for operation in request.success.iter().chain(&request.failure) {
            match &operation.request {
                Some(Request::RequestRange(nested)) => self.read(caller, &nested.key, &nested.range_end)?,
                Some(Request::RequestPut(nested)) => self.put(caller, nested)?,
                Some(Request::RequestDeleteRange(nested)) => self.delete(caller, nested)?,
                Some(Request::RequestTxn(nested)) => self.txn(caller, nested)?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(permissions: &[(Type, &'static str, &'static str)]) -> Auth {
        let mut auth = Auth { enabled: true, ..Auth::default() };
        let permission = |(kind, key, end): &(Type, &'static str, &'static str)| authpb::Permission {
            perm_type: *kind as i32,
            key: (*key).into(),
            range_end: (*end).into(),
        };
        auth.roles.insert("r".into(), permissions.iter().map(permission).collect());
        auth.users.insert("u".into(), User { roles: ["r".to_owned()].into(), ..User::default() });
        auth.users.insert("root".into(), User { roles: [ROOT.to_owned()].into(), ..User::default() });
        auth
    }

    fn caller(name: &str) -> Caller {
        Caller::User { name: name.into(), revision: None }
    }

    #[test]
    fn reads_need_permissions_that_cover_them() {
        let check = |permissions: &[(Type, &'static str, &'static str)], key: &'static str, end: &'static str, allowed: bool| {
            let result = auth(permissions).read(&caller("u"), &key.into(), &end.into());
            assert_eq!(result.is_ok(), allowed, "{permissions:?} for {key}..{end}");
        };
        check(&[(Type::Read, "a", "")], "a", "", true);
        check(&[(Type::Read, "a", "")], "aa", "", false);
        check(&[(Type::Write, "a", "")], "a", "", false);
        check(&[(Type::Readwrite, "a", "c")], "b", "", true);
        check(&[(Type::Read, "a", "c")], "a", "c", true);
        check(&[(Type::Read, "a", "c")], "a", "d", false);
        check(&[(Type::Read, "a", "b"), (Type::Read, "b", "d")], "a", "d", true);
        check(&[(Type::Read, "a", "b"), (Type::Read, "c", "d")], "a", "d", false);
        check(&[(Type::Read, "a", "\0")], "b", "\0", true);
        check(&[(Type::Read, "a", "z")], "b", "\0", false);
        check(&[], "a", "", false);
    }

    #[test]
    fn transactions_need_what_either_branch_does() {
        let auth = auth(&[(Type::Read, "a", ""), (Type::Write, "b", "")]);
        let operation = |request| pb::RequestOp { request: Some(request) };
        let put = |key: &'static str, prev_kv| {
            operation(Request::RequestPut(pb::PutRequest { key: key.into(), prev_kv, ..Default::default() }))
        };
        let check = |failure: pb::RequestOp, allowed: bool| {
            let request = pb::TxnRequest { failure: vec![failure], ..Default::default() };
            assert_eq!(auth.txn(&caller("u"), &request).is_ok(), allowed, "{request:?}");
            assert!(auth.txn(&caller("root"), &request).is_ok());
        };
        check(put("b", false), true);
        check(put("b", true), false);
        check(put("a", false), false);
        check(operation(Request::RequestRange(pb::RangeRequest { key: "a".into(), ..Default::default() })), true);
        check(operation(Request::RequestRange(pb::RangeRequest { key: "b".into(), ..Default::default() })), false);
    }
}
