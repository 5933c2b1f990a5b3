//! The state machine on RocksDB against the model in memory: random operations in random batches,
//! with compactions, clean-ups and restarts between them; every answer, every read at every
//! revision and the whole history must be the same.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use proptest::prelude::*;
use prost::Message;
use wire_pb::proposal::Operation;

use super::apply::Outcome;
use super::rocks::Budget;
use super::store::{Identity, State};
use crate::error::Error;
use crate::memory::model::Model;
use crate::mvcc::check;
use crate::mvcc::range::KeyRange;
use crate::raft::types::{Batch, Entry, LeaderId, LogId};
use crate::watch::History;

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Operation>),
    Clean,
    Restart,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just("a"), Just("a\0"), Just("ab"), Just("b"), Just("c"), Just("\u{1}")].prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 2 => key()]
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    (key(), "[xyz]{0,3}", 0_i64..3, any::<bool>(), 0_u8..8).prop_map(|(key, value, lease, prev_kv, ignore)| {
        let (ignore_value, ignore_lease) = (ignore == 1, ignore == 2);
        pb::PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value.into() },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    })
}

fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest { key, range_end, prev_kv })
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let shape = (0_i64..4, 0_i64..30, 0_i32..3, 0_i32..5);
    let flags = (any::<bool>(), prop::bool::weighted(0.1), 0_i64..6, 0_i64..20);
    (key(), range_end(), shape, flags).prop_map(|(key, range_end, shape, flags)| pb::RangeRequest {
        key,
        range_end,
        limit: shape.0,
        revision: if shape.1 < 15 { 0 } else { shape.1 - 14 },
        sort_order: shape.2,
        sort_target: shape.3,
        keys_only: flags.0,
        count_only: flags.1,
        min_mod_revision: if flags.2 < 4 { 0 } else { flags.2 },
        max_create_revision: if flags.3 < 15 { 0 } else { flags.3 },
        ..Default::default()
    })
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let union = prop_oneof![
        (0_i64..4).prop_map(|version| (CompareTarget::Version, TargetUnion::Version(version))),
        (0_i64..10).prop_map(|revision| (CompareTarget::Mod, TargetUnion::ModRevision(revision))),
        (0_i64..10).prop_map(|revision| (CompareTarget::Create, TargetUnion::CreateRevision(revision))),
        "[xyz]{0,1}".prop_map(|value| (CompareTarget::Value, TargetUnion::Value(value.into()))),
        (0_i64..3).prop_map(|lease| (CompareTarget::Lease, TargetUnion::Lease(lease))),
    ];
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::NotEqual),
        Just(CompareResult::Greater),
        Just(CompareResult::Less)
    ];
    (key(), range_end(), union, result).prop_map(|(key, range_end, (target, union), result)| pb::Compare {
        result: result as i32,
        target: target as i32,
        key,
        target_union: Some(union),
        range_end,
    })
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let leaf = prop_oneof![
        3 => put().prop_map(Request::RequestPut),
        1 => delete().prop_map(Request::RequestDeleteRange),
        2 => range().prop_map(Request::RequestRange),
    ];
    let operation = leaf.prop_recursive(2, 8, 3, |inner| {
        let branch = prop::collection::vec(inner.prop_map(|request| pb::RequestOp { request: Some(request) }), 0..3);
        (prop::collection::vec(compare(), 0..2), branch.clone(), branch)
            .prop_map(|(compare, success, failure)| Request::RequestTxn(pb::TxnRequest { compare, success, failure }))
    });
    let branch = prop::collection::vec(operation.prop_map(|request| pb::RequestOp { request: Some(request) }), 0..4);
    (prop::collection::vec(compare(), 0..2), branch.clone(), branch)
        .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
        .prop_filter("a key is written twice", |request| check::txn(request, crate::limits::TXN_OPERATIONS_MAX).is_ok())
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => put().prop_map(Operation::Put),
        2 => delete().prop_map(Operation::DeleteRange),
        5 => txn().prop_map(Operation::Txn),
        1 => (1_i64..25).prop_map(|revision| Operation::Compact(pb::CompactionRequest { revision, physical: false })),
        1 => (1_i64..3).prop_map(|id| Operation::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 10 })),
        1 => (1_i64..3).prop_map(|id| Operation::LeaseRevoke(pb::LeaseRevokeRequest { id })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(operation(), 1..5).prop_map(Step::Apply),
        1 => Just(Step::Clean),
        1 => Just(Step::Restart),
    ]
}

/// What the model answers, in the shape of the real one's outcome.
fn expected(model: &mut Model, operation: &Operation) -> Result<String, Error> {
    Ok(match operation {
        Operation::Put(request) => format!("{:?}", model.put(request)?),
        Operation::DeleteRange(request) => format!("{:?}", model.delete_range(request)?),
        Operation::Txn(request) => format!("{:?}", model.txn(request)?),
        Operation::Compact(request) => format!("{:?}", model.compact(request.revision)?),
        Operation::LeaseGrant(request) => format!("{:?}", model.lease_grant(request.id, request.ttl)?),
        Operation::LeaseRevoke(request) => format!("{:?}", model.lease_revoke(request.id)?),
        // The model knows keys and leases alone.
        Operation::Attributes(_)
        | Operation::LeaseCheckpoint(_)
        | Operation::Alarm(_)
        | Operation::Auth(_)
        | Operation::ClusterVersion(_) => "()".to_owned(),
    })
}

fn shown(outcome: Outcome) -> String {
    match outcome {
        Outcome::Put(response) => format!("{response:?}"),
        Outcome::DeleteRange(response) => format!("{response:?}"),
        Outcome::Txn(response) => format!("{response:?}"),
        Outcome::LeaseGrant(ttl) => format!("{ttl:?}"),
        Outcome::Done | Outcome::Alarms(_) => "()".to_owned(),
    }
}

/// A folder in memory where there is one: nothing here depends on the disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

struct Real {
    state: Option<State>,
    // Dropped after the state, which still writes when it is closed.
    folder: tempfile::TempDir,
    index: u64,
}

impl Real {
    fn open(&mut self) -> &State {
        // One at a time: RocksDB locks its folder.
        self.state = None;
        let identity = Identity { cluster_id: 1, member_id: 1 };
        let budget = Arc::new(Budget::new(4 << 20));
        self.state.insert(State::open(self.folder.path(), identity, budget, Default::default()).unwrap())
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Result<String, Error>> {
        self.index += 1;
        let proposals = operations.iter().map(|operation| wire_pb::Proposal {
            proposer: 1,
            number: 1,
            operation: Some(operation.clone()),
            ..Default::default()
        });
        let batch = wire_pb::Batch { proposals: proposals.collect() }.encode_to_vec();
        let log_id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index: self.index };
        let entry = Entry { log_id, payload: openraft::EntryPayload::Normal(Batch(batch.into())) };
        let (decided, _) = self.state.as_ref().unwrap().apply(vec![entry]).unwrap();
        decided.into_iter().map(|decided| decided.result.map(shown)).collect()
    }
}

fn same_reads(real: &State, model: &Model, request: &pb::RangeRequest) -> Result<(), TestCaseError> {
    let answer = real.range(request).map(|mut response| {
        response.header = None;
        response
    });
    prop_assert_eq!(answer, model.range(request), "{:?}", request);
    Ok(())
}

fn same_history(real: &State, model: &Model) -> Result<(), TestCaseError> {
    let all = KeyRange::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let from = model.compacted().max(1);
    let to = model.revision();
    let recent = runtime.block_on(real.events(&all, from, to)).unwrap().events;
    let mut stored = super::history::read(&real.database(), &all, from, to).unwrap().events;
    let mut wanted = model.events(&all, from, to);
    // Previous values at the compacted revision itself may be gone, and what was removed there too.
    let strip = |events: &mut Vec<kontiki_proto::mvccpb::Event>| {
        for event in events {
            event.prev_kv = None;
        }
    };
    let mut recent = recent;
    strip(&mut recent);
    strip(&mut stored);
    strip(&mut wanted);
    prop_assert_eq!(&recent, &wanted);
    prop_assert_eq!(&stored, &wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_answers_like_the_model(
        steps in prop::collection::vec(step(), 1..12),
        reads in prop::collection::vec(range(), 4),
    ) {
        let mut model = Model::new();
        let mut real = Real { folder: folder(), state: None, index: 0 };
        real.open();
        for step in &steps {
            match step {
                Step::Apply(operations) => {
                    let answers = real.apply(operations);
                    for (operation, answer) in operations.iter().zip(answers) {
                        prop_assert_eq!(answer, expected(&mut model, operation), "{:?}", operation);
                    }
                }
                Step::Clean => real.state.as_ref().unwrap().clean(),
                Step::Restart => {
                    real.state.as_ref().unwrap().flush().unwrap();
                    real.open();
                }
            }
            let state = real.state.as_ref().unwrap();
            prop_assert_eq!(state.current_revision(), model.revision());
            prop_assert_eq!(state.compacted(), model.compacted());
            let ids: Vec<i64> = state.leases().into_iter().map(|(id, ..)| id).collect();
            prop_assert_eq!(&ids, &model.leases());
            for id in ids {
                prop_assert_eq!(&state.lease(id).unwrap().keys, &model.lease(id).unwrap().keys);
            }
            for read in &reads {
                same_reads(state, &model, read)?;
            }
        }
        same_history(real.state.as_ref().unwrap(), &model)?;
    }
}
