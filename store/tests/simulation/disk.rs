//! The disk under a member's log: it takes its time, and a power cut takes what was not synced.

use std::collections::BTreeMap;
use std::io::Error as IoError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kontiki_store::raft::log::device::{Device, Held, Record};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

/// Entries that a member has probably not flushed into its state yet.
const NEWEST: usize = 12;

/// How slow a disk is.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// A sync takes up to this long.
    pub sync_ms: u64,
}

/// One member's disk.
pub struct Disk {
    speed: Speed,
    inner: Mutex<Inner>,
    /// It says that it synced, and did not.
    pub lies: AtomicBool,
    /// It takes no more writes.
    pub broken: AtomicBool,
    /// Syncs take at least this long, for now.
    pub stall_ms: Mutex<u64>,
}

struct Inner {
    random: StdRng,
    /// What a reader sees.
    seen: Image,
    /// What a power cut leaves.
    durable: Image,
    /// Writes that are not yet durable.
    unsynced: Vec<Vec<Record>>,
}

#[derive(Clone, Default)]
struct Image {
    entries: BTreeMap<u64, Vec<u8>>,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<Vec<u8>>,
}

impl Image {
    fn apply(&mut self, records: &[Record]) {
        for record in records.iter().cloned() {
            match record {
                Record::Entry(index, entry) => drop(self.entries.insert(index, entry)),
                Record::Vote(vote) => self.vote = Some(vote),
                Record::Committed(position) => self.committed = Some(position),
                Record::Truncated(from) => drop(self.entries.split_off(&from)),
                Record::Purged(upto, position) => {
                    self.entries = self.entries.split_off(&(upto + 1));
                    self.purged = Some(position);
                }
            }
        }
    }
}

impl Disk {
    /// An empty one.
    pub fn new(speed: Speed, random: StdRng) -> Self {
        let inner = Inner { random, seen: Image::default(), durable: Image::default(), unsynced: vec![] };
        let (lies, broken) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { speed, inner: Mutex::new(inner), lies, broken, stall_ms: Mutex::new(0) }
    }

    /// The power goes. Of the writes that were not synced, some of the first may have made it.
    pub fn power_cut(&self) {
        let inner = &mut *self.inner.lock();
        let kept = inner.random.random_range(0..=inner.unsynced.len());
        for records in inner.unsynced.drain(..).take(kept) {
            inner.durable.apply(&records);
        }
        inner.seen = inner.durable.clone();
    }

    /// A bit of what is stored is no longer what it was; which, follows from the number. Mostly in one of the newest entries,
    /// which a start reads again.
    pub fn flip(&self, number: u64) {
        let Image { entries, vote, committed, purged } = &mut self.inner.lock().durable;
        let many = if number.is_multiple_of(4) { usize::MAX } else { NEWEST };
        let records = entries.values_mut().rev().take(many).chain(vote).chain(committed).chain(purged);
        let mut records: Vec<&mut Vec<u8>> = records.collect();
        let bits = records.iter().map(|record| record.len() * 8).sum::<usize>();
        let Some(mut bit) = usize::try_from(number).ok().and_then(|number| number.checked_rem(bits)) else { return };
        for record in &mut records {
            match bit.checked_sub(record.len() * 8) {
                Some(rest) => bit = rest,
                None => return record[bit / 8] ^= 1 << (bit % 8),
            }
        }
    }

    fn sync_time(&self) -> Duration {
        let drawn = self.inner.lock().random.random_range(0..=self.speed.sync_ms);
        Duration::from_millis(drawn.max(*self.stall_ms.lock()))
    }
}

#[async_trait]
impl Device for Disk {
    async fn write(&self, records: Vec<Record>) -> Result<(), IoError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(IoError::other("input/output error"));
        }
        let upto = {
            let inner = &mut *self.inner.lock();
            inner.seen.apply(&records);
            inner.unsynced.push(records);
            inner.unsynced.len()
        };
        let time = self.sync_time();
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        if !self.lies.load(Ordering::SeqCst) {
            let inner = &mut *self.inner.lock();
            for records in inner.unsynced.drain(..upto) {
                inner.durable.apply(&records);
            }
        }
        Ok(())
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, IoError> {
        if start >= end {
            return Ok(vec![]);
        }
        Ok(self.inner.lock().seen.entries.range(start..end).map(|(index, entry)| (*index, entry.clone())).collect())
    }

    fn held(&self) -> Result<Held, IoError> {
        let Image { entries, vote, committed, purged } = self.inner.lock().seen.clone();
        Ok(Held { vote, committed, purged, last: entries.into_iter().next_back() })
    }
}
