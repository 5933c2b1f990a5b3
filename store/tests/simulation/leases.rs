//! A client that holds leases: grants one, binds a key to it, renews it for a while, lets it end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_store::Handle;
use kontiki_store::kv::Kv;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use crate::check::leases::Lease;
use crate::history::{Answer, Call, History, Key, Outcome, Step};
use crate::trace::Trace;
use crate::workload::{key, value};

/// Keys of leases; those of other clients are smaller.
const FIRST_KEY: Key = 1 << 16;

/// All leases that were ever granted, by their keys.
pub type Leases = Mutex<BTreeMap<Key, Lease>>;

/// One client, until it dies.
pub async fn client(
    name: String,
    handle: Handle,
    history: Arc<History>,
    leases: Arc<Leases>,
    trace: Arc<Trace>,
    mut random: StdRng,
) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
        let id = random.random_range(1..i64::MAX);
        let ttl = random.random_range(2..4);
        let bound = random.random_range(FIRST_KEY..Key::MAX);
        let begin = trace.now_ms();
        let Ok(granted) = handle.lease_grant(pb::LeaseGrantRequest { id, ttl }).await else { continue };
        let ttl_ms = u64::try_from(granted.ttl).unwrap_or(0) * 1000;
        leases.lock().insert(bound, Lease { ttl_ms, renewed_ms: begin, revoked: false });
        bind(&name, &handle, &history, bound, id).await;
        for _ in 0..random.random_range(0..5) {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..1500))).await;
            let begin = trace.now_ms();
            match handle.lease_keep_alive(id).await {
                Ok(answer) if answer.ttl > 0 => {
                    if let Some(lease) = leases.lock().get_mut(&bound) {
                        lease.renewed_ms = begin;
                    }
                }
                _ => break,
            }
        }
        if random.random_bool(0.2) {
            if let Some(lease) = leases.lock().get_mut(&bound) {
                lease.revoked = true;
            }
            drop(handle.lease_revoke(pb::LeaseRevokeRequest { id }).await);
        }
    }
}

/// Writes a key that goes with the lease. Its end is a request that nobody hears the answer of.
async fn bind(name: &str, handle: &Handle, history: &History, bound: Key, id: i64) {
    let put = Call { success: vec![Step::Put(bound, 1)], ..Call::default() };
    let number = history.begin(name, put);
    history.begin(name, Call { success: vec![Step::Delete(bound)], ..Call::default() });
    let request = pb::PutRequest { key: key(bound), value: value(1), lease: id, ..Default::default() };
    match handle.put(request).await {
        Ok(answer) => {
            let revision = answer.header.map_or(0, |header| header.revision);
            history.answered(number, Answer { revision, succeeded: true, outcomes: vec![Outcome::Put] });
        }
        Err(error) if error.certainly_not_applied() => history.refused(number),
        Err(error) => history.unknown(number, &error),
    }
}
