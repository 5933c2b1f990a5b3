//! Clients of the past: one reads at revisions that are over, one compacts them away.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_store::Handle;
use kontiki_store::error::Error;
use kontiki_store::kv::Kv;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use crate::check::past::{Look, Past};
use crate::trace::Trace;
use crate::workload::{to_entry, to_key};

/// Reads at up to this many revisions ago.
const BACK_MAX: i64 = 40;
/// What compaction leaves, at most: now and then less than what somebody still reads or watches.
const KEPT_MAX: i64 = 30;

/// Reads the past from one member's state.
pub async fn reader(handle: Handle, past: Arc<Mutex<Past>>, trace: Arc<Trace>, mut random: StdRng) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..400))).await;
        let revision = handle.revision() - random.random_range(0..BACK_MAX);
        if revision < 1 {
            continue;
        }
        let (key, range_end) = ("key/".into(), "key0".into());
        let request = pb::RangeRequest { key, range_end, revision, serializable: true, ..Default::default() };
        let found = match handle.range(request).await {
            Ok(answer) => Some(answer.kvs.iter().filter_map(|kv| Some((to_key(&kv.key)?, to_entry(kv)?))).collect()),
            Err(Error::Compacted) => None,
            Err(error) => {
                trace.note(format_args!("no look at revision {revision}: {error}"));
                continue;
            }
        };
        past.lock().looks.push(Look { revision, found });
    }
}

/// Compacts, through one member.
pub async fn compactor(handle: Handle, past: Arc<Mutex<Past>>, trace: Arc<Trace>, mut random: StdRng) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..1500))).await;
        let revision = handle.revision() - random.random_range(0..KEPT_MAX);
        if revision < 2 {
            continue;
        }
        {
            let past = &mut *past.lock();
            past.compacted = past.compacted.max(revision);
        }
        let request = pb::CompactionRequest { revision, physical: random.random_bool(0.5) };
        match handle.compact(request).await {
            Ok(_) => trace.note(format_args!("compacted up to {revision}")),
            Err(error) => trace.note(format_args!("no compaction up to {revision}: {error}")),
        }
    }
}
