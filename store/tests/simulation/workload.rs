//! What clients do. Each is a task on its member's runtime and dies with it; what it asked stays in
//! the history, unanswered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kontiki_proto::etcdserverpb::{self as pb, compare, request_op::Request, response_op::Response};
use kontiki_proto::mvccpb::KeyValue;
use kontiki_store::Handle;
use kontiki_store::error::Error;
use kontiki_store::kv::Kv;
use rand::Rng;
use rand::rngs::StdRng;

use crate::history::{Answer, Call, Entry, History, Key, Outcome, Step, Value};

/// How many keys there are.
const KEYS: Key = 5;

/// The bytes of a key.
pub fn key(key: Key) -> Bytes {
    format!("key/{key}").into()
}

/// A stored key; none if it is no key of the workload.
pub fn to_key(bytes: &[u8]) -> Option<Key> {
    std::str::from_utf8(bytes.strip_prefix(b"key/")?).ok()?.parse().ok()
}

/// The bytes of a value.
pub fn value(value: Value) -> Bytes {
    value.to_string().into()
}

/// A stored version.
pub fn to_entry(kv: &KeyValue) -> Option<Entry> {
    let value = std::str::from_utf8(&kv.value).ok()?.parse().ok()?;
    Some(Entry { value, created: kv.create_revision, modified: kv.mod_revision, version: kv.version })
}

/// What a client saw last of each key: the revision that wrote it; 0 if it was not there.
type Seen = BTreeMap<Key, i64>;

/// One client, until it dies.
pub async fn client(name: String, handle: Handle, history: Arc<History>, mut random: StdRng, pause_ms: u64) {
    let mut next: Value = random.random::<u32>().into();
    next <<= 16;
    // For conditions that often hold.
    let mut seen = Seen::new();
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..=pause_ms))).await;
        let call = draw(&mut random, &mut next, &seen);
        let number = history.begin(&name, call.clone());
        match ask(&handle, &call).await {
            Ok(answer) => {
                remember(&mut seen, &call, &answer);
                history.answered(number, answer);
            }
            Err(error) if error.certainly_not_applied() => history.refused(number),
            Err(error) => history.unknown(number, &error),
        }
    }
}

fn draw(random: &mut StdRng, next: &mut Value, seen: &Seen) -> Call {
    let mut fresh = || {
        *next += 1;
        *next
    };
    let key = random.random_range(0..KEYS);
    let other = (key + random.random_range(1..KEYS)) % KEYS;
    let last = |key: Key| seen.get(&key).copied().unwrap_or(0);
    let single = |step| Call { success: vec![step], ..Call::default() };
    match random.random_range(0..10) {
        0..=2 => single(Step::Put(key, fresh())),
        3..=4 => single(Step::Get(key)),
        5 => single(Step::Delete(key)),
        6..=7 => Call {
            transaction: true,
            compares: vec![(key, last(key))],
            success: vec![Step::Put(key, fresh()), Step::Get(other)],
            failure: vec![Step::Get(key)],
        },
        8 => Call {
            transaction: true,
            compares: vec![(key, last(key)), (other, last(other))],
            success: vec![Step::Put(key, fresh()), Step::Put(other, fresh())],
            failure: vec![Step::Delete(key), Step::Get(other)],
        },
        _ => Call { transaction: true, success: (0..KEYS).map(Step::Get).collect(), ..Call::default() },
    }
}

fn remember(seen: &mut Seen, call: &Call, answer: &Answer) {
    let steps = if answer.succeeded { &call.success } else { &call.failure };
    for (step, outcome) in steps.iter().zip(&answer.outcomes) {
        match (step, outcome) {
            (Step::Put(key, _), _) => drop(seen.insert(*key, answer.revision)),
            (Step::Delete(key), _) => drop(seen.remove(key)),
            (Step::Get(key), Outcome::Got(found)) => drop(seen.insert(*key, found.map_or(0, |entry| entry.modified))),
            _ => {}
        }
    }
}

async fn ask(handle: &Handle, call: &Call) -> Result<Answer, Error> {
    let header = |header: Option<pb::ResponseHeader>| header.map_or(0, |header| header.revision);
    let single = |revision, outcome| Answer { revision, succeeded: true, outcomes: vec![outcome] };
    match call.success.first() {
        Some(Step::Put(to, new)) if !call.transaction => {
            let answer = handle.put(pb::PutRequest { key: key(*to), value: value(*new), ..Default::default() }).await?;
            Ok(single(header(answer.header), Outcome::Put))
        }
        Some(Step::Get(of)) if !call.transaction => {
            let answer = handle.range(pb::RangeRequest { key: key(*of), ..Default::default() }).await?;
            Ok(single(header(answer.header), Outcome::Got(answer.kvs.first().and_then(to_entry))))
        }
        Some(Step::Delete(of)) if !call.transaction => {
            let answer = handle.delete_range(pb::DeleteRangeRequest { key: key(*of), ..Default::default() }).await?;
            Ok(single(header(answer.header), Outcome::Deleted(answer.deleted)))
        }
        _ => {
            let answer = handle.txn(transaction(call)).await?;
            let outcomes = answer.responses.into_iter().filter_map(|response| outcome(response.response?)).collect();
            Ok(Answer { revision: header(answer.header), succeeded: answer.succeeded, outcomes })
        }
    }
}

fn transaction(call: &Call) -> pb::TxnRequest {
    let condition = |(of, revision): &(Key, i64)| pb::Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: key(*of),
        target_union: Some(compare::TargetUnion::ModRevision(*revision)),
        ..Default::default()
    };
    let branch = |steps: &[Step]| steps.iter().map(|step| pb::RequestOp { request: Some(request(step)) }).collect();
    pb::TxnRequest {
        compare: call.compares.iter().map(condition).collect(),
        success: branch(&call.success),
        failure: branch(&call.failure),
    }
}

fn request(step: &Step) -> Request {
    match step {
        Step::Put(to, new) => Request::RequestPut(pb::PutRequest { key: key(*to), value: value(*new), ..Default::default() }),
        Step::Delete(of) => Request::RequestDeleteRange(pb::DeleteRangeRequest { key: key(*of), ..Default::default() }),
        Step::Get(of) => Request::RequestRange(pb::RangeRequest { key: key(*of), ..Default::default() }),
    }
}

fn outcome(response: Response) -> Option<Outcome> {
    match response {
        Response::ResponsePut(_) => Some(Outcome::Put),
        Response::ResponseDeleteRange(answer) => Some(Outcome::Deleted(answer.deleted)),
        Response::ResponseRange(answer) => Some(Outcome::Got(answer.kvs.first().and_then(to_entry))),
        Response::ResponseTxn(_) => None,
    }
}
