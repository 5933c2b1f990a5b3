//! What the log says about the cluster as a whole: who members are, alarms, users, the API's version.

use std::sync::Arc;

use kontiki_proto::etcdserverpb::{self as pb, alarm_request::AlarmAction, request_op::Request};
use kontiki_proto::kontiki::store::v1 as wire_pb;
use prost::Message;
use wire_pb::auth_change::Change;
use wire_pb::proposal::Operation;

use super::apply::Writer;
use super::database::{ALARMS, ATTRIBUTES, AUTH, CLUSTER_VERSION, REMOVED};
use crate::auth::{Auth, Caller};
use crate::error::Error;
use crate::raft::types::Membership;

impl Writer<'_> {
    /// Whether alarms and permissions let an operation through.
    pub(super) fn allowed(&self, caller: &Caller, operation: &Operation) -> Result<(), Error> {
        use Operation::{Compact, DeleteRange, LeaseGrant, LeaseRevoke, Put, Txn};
        let about_keys = matches!(operation, Put(_) | DeleteRange(_) | Txn(_) | Compact(_) | LeaseGrant(_) | LeaseRevoke(_));
        if about_keys && self.memory.alarmed(pb::AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        self.permitted(caller, operation)?;
        let takes_room = match operation {
            Put(_) | LeaseGrant(_) => true,
            Txn(request) => puts(request),
            _ => false,
        };
        if takes_room && self.memory.alarmed(pb::AlarmType::Nospace) { Err(Error::NoSpace) } else { Ok(()) }
    }

    fn permitted(&self, caller: &Caller, operation: &Operation) -> Result<(), Error> {
        let auth = &self.memory.auth;
        if !auth.enabled || *caller == Caller::Trusted {
            return Ok(());
        }
        match operation {
            Operation::Put(request) => {
                auth.put(caller, request)?;
                self.may_attach(auth, caller, request.lease)
            }
            Operation::DeleteRange(request) => auth.delete(caller, request),
            Operation::Txn(request) => auth.txn(caller, request),
            Operation::LeaseRevoke(request) => {
                auth.user(caller)?;
                self.may_attach(auth, caller, request.id)
            }
            // A client that is not known gets no further than this.
            Operation::LeaseGrant(_) => auth.user(caller).map(drop),
            Operation::Alarm(_) | Operation::Compact(_) | Operation::ClusterVersion(_) => auth.admin(caller),
            // Checked where they are made, or made by members themselves.
            Operation::Auth(_) | Operation::Attributes(_) | Operation::LeaseCheckpoint(_) => Ok(()),
        }
    }

    /// Whoever decides about a lease decides about all keys that go with it.
    fn may_attach(&self, auth: &Auth, caller: &Caller, lease: i64) -> Result<(), Error> {
        let keys = self.memory.leases.get(&lease).map(|lease| &lease.keys);
        keys.into_iter().flatten().try_for_each(|key| auth.write(caller, key))
    }

    /// What a member says about itself.
    pub(super) fn attributes(&mut self, attributes: wire_pb::Attributes) {
        self.put_meta(&member_key(ATTRIBUTES, attributes.member_id), attributes.encode_to_vec());
        self.memory.attributes.insert(attributes.member_id, attributes);
    }

    /// Remembers whom a new membership leaves out: they never come back.
    pub(super) fn note_removed(&mut self, next: &Membership) {
        let before: Vec<u64> = self.memory.membership.membership().nodes().map(|(id, _)| *id).collect();
        for id in before {
            if next.get_node(&id).is_none() {
                self.put_meta(&member_key(REMOVED, id), vec![]);
                self.memory.removed.insert(id);
                self.memory.alarms.retain(|(_, member)| *member != id);
            }
        }
    }

    /// Raises or clears alarms; returns those that it concerned.
    pub(super) fn alarm(&mut self, request: pb::AlarmRequest) -> Vec<pb::AlarmMember> {
        let alarm = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let concerned = match request.action() {
            AlarmAction::Get => return vec![],
            AlarmAction::Activate => {
                self.memory.alarms.insert((alarm.alarm, alarm.member_id));
                vec![alarm]
            }
            AlarmAction::Deactivate if self.memory.alarms.remove(&(alarm.alarm, alarm.member_id)) => vec![alarm],
            AlarmAction::Deactivate => return vec![],
        };
        let alarms = alarms(&self.memory.alarms);
        self.put_meta(ALARMS, pb::AlarmResponse { header: None, alarms }.encode_to_vec());
        concerned
    }

    /// Which API all members serve.
    pub(super) fn cluster_version(&mut self, version: wire_pb::ClusterVersion) {
        self.put_meta(CLUSTER_VERSION, version.encode_to_vec());
        self.memory.cluster_version = version;
    }

    /// Changes users, roles or permissions.
    pub(super) fn auth(&mut self, caller: &Caller, request: &wire_pb::AuthChange) -> Result<(), Error> {
        // A newer member's change that this version does not know would let the states part.
        let change = request.change.as_ref().ok_or(Error::InvalidAuthManagement)?;
        let mut next = Auth::clone(&self.memory.auth);
        next.change(caller, change)?;
        match change {
            Change::Token(token) => self.applied.tokens.push((token.user.clone(), token.token.clone())),
            Change::Disable(_) => self.applied.tokens_over.push(None),
            Change::UserDelete(request) => self.applied.tokens_over.push(Some(request.name.clone())),
            Change::UserChangePassword(request) => self.applied.tokens_over.push(Some(request.name.clone())),
            _ => {}
        }
        if next != *self.memory.auth {
            self.put_meta(AUTH, next.encode());
            self.memory.auth = Arc::new(next);
        }
        Ok(())
    }
}

/// Alarms as they go over the wire.
#[must_use]
pub fn alarms(raised: &std::collections::BTreeSet<(i32, u64)>) -> Vec<pb::AlarmMember> {
    raised.iter().map(|(alarm, member_id)| pb::AlarmMember { member_id: *member_id, alarm: *alarm }).collect()
}

fn puts(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => puts(nested),
        _ => false,
    })
}

fn member_key(prefix: &[u8], member: u64) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&member.to_be_bytes());
    key
}
