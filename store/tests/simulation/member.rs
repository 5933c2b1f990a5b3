//! One member: the production code on a runtime of its own, whose clock the world moves.
//!
//! The runtime has one thread, which is the world's, and time that stands still between two steps. To
//! drop it is a power cut: every task of the member ends where it is.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::mvccpb::event::EventType;
use kontiki_store::kv::Kv;
use kontiki_store::tls::Connection;
use kontiki_store::{Handle, Options, Service, Surroundings};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::check::watch::{Event, Message, Watched};
use crate::disk::Disk;
use crate::network::{Network, Way, host};
use crate::trace::Trace;
use crate::workload::{to_entry, to_key};

/// What outlives a member's runs.
pub struct Member {
    /// Its number.
    pub number: usize,
    /// Its log's disk.
    pub disk: Arc<Disk>,
    /// What a watcher on it was told, over all its runs.
    pub watched: Arc<Mutex<Watched>>,
    root: PathBuf,
    /// How often it was started: each run has a folder of its own.
    run: u64,
    running: Option<Running>,
    /// It is one of the cluster: it runs unless something keeps it from that.
    pub belongs: bool,
    /// A bit on its disk turned: it may stop, but not go on with something else than it wrote.
    pub damaged: bool,
    /// Its process stands still.
    pub paused: bool,
    /// Thousandths of the right speed of its clock.
    pub speed: u64,
    /// Thousandths of a millisecond that its clock did not move yet.
    owed: u64,
}

struct Running {
    runtime: Runtime,
    handle: Arc<Mutex<Option<Handle>>>,
    /// Why it did not start.
    refused: Arc<Mutex<Option<String>>>,
}

impl Member {
    /// One that never ran.
    pub fn new(number: usize, disk: Disk, root: &Path) -> Self {
        let watched = Watched { name: format!("the watcher on member {number}"), from: 2, messages: vec![] };
        Self {
            number,
            disk: Arc::new(disk),
            watched: Arc::new(Mutex::new(watched)),
            root: root.join(host(number)),
            run: 0,
            running: None,
            belongs: true,
            damaged: false,
            paused: false,
            speed: 1000,
            owed: 0,
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The way to it, once it has started.
    pub fn handle(&self) -> Option<Handle> {
        self.running.as_ref()?.handle.lock().clone()
    }

    /// Why it did not start, if it didn't.
    pub fn refused(&self) -> Option<String> {
        self.running.as_ref()?.refused.lock().clone()
    }

    /// Whether it has stopped because of what it read, as only a damaged one may.
    pub fn gave_up(&self) -> bool {
        let failed = |handle: Handle| handle.failed().now_or_never().is_some();
        self.damaged && (self.refused().is_some_and(|why| why.contains("damaged")) || self.handle().is_some_and(failed))
    }

    fn folder(&self, run: u64) -> PathBuf {
        self.root.join(run.to_string())
    }

    /// Starts it; `then` is what its clients do.
    pub fn start(
        &mut self,
        mut options: Options,
        network: &Arc<Network>,
        trace: Arc<Trace>,
        then: impl FnOnce(Handle) + Send + 'static,
    ) -> std::io::Result<()> {
        std::fs::create_dir_all(self.folder(self.run))?;
        options.data_dir = self.folder(self.run);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let number = self.number;
        let peers: mpsc::Receiver<std::io::Result<Connection>> = network.join(number);
        let dial = Arc::new(Way { network: network.clone(), member: number });
        let surroundings = Surroundings { log: self.disk.clone(), dial, peers };
        let handle = Arc::new(Mutex::new(None));
        let refused = Arc::new(Mutex::new(None));
        let (slot, refusal, watched) = (handle.clone(), refused.clone(), self.watched.clone());
        runtime.spawn(async move {
            match Service::start_within(options, surroundings).await {
                Ok(started) => {
                    trace.note(format_args!("member {number} runs"));
                    *slot.lock() = Some(started.clone());
                    tokio::spawn(follow(number, started.clone(), trace.clone()));
                    tokio::spawn(watch(started.clone(), watched, trace));
                    then(started);
                }
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    trace.note(format_args!("member {number} does not start: {why}"));
                    *refusal.lock() = Some(why);
                }
            }
        });
        self.running = Some(Running { runtime, handle, refused });
        Ok(())
    }

    /// Moves its clock by what a millisecond of the world is for it.
    pub fn step(&mut self) {
        if self.paused {
            return;
        }
        let Some(running) = &self.running else { return };
        self.owed += self.speed;
        while self.owed >= 1000 {
            self.owed -= 1000;
            running.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        }
    }

    /// Ends it at once. What its disk did not sync is lost, and what its state machine did not flush.
    pub fn power_cut(&mut self, network: &Network) -> std::io::Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        network.leave(self.number);
        // An orderly end would flush, so what is there now is put aside first.
        copy(&self.folder(self.run), &self.folder(self.run + 1))?;
        drop(running);
        std::fs::remove_dir_all(self.folder(self.run))?;
        self.run += 1;
        self.paused = false;
        self.disk.power_cut();
        Ok(())
    }

    /// Lets a task run on it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(running) = &self.running {
            running.runtime.spawn(task);
        }
    }
}

/// How often a copy is begun again because RocksDB's own threads changed the folder meanwhile.
const COPIES_MAX: u32 = 1000;

/// Copies a folder as a crash would leave it: as it was at one moment. RocksDB's threads may end a
/// compaction between two files, and then the list of files and the files would not belong together.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for _ in 0..COPIES_MAX {
        std::fs::create_dir_all(to)?;
        let before = contents(from)?;
        let copied = before.iter().try_for_each(|(name, _)| copy_file(&from.join(name), &to.join(name)));
        if contents(from)? == before {
            return copied;
        }
        std::fs::remove_dir_all(to)?;
        std::thread::yield_now();
    }
    Err(std::io::Error::new(ErrorKind::ResourceBusy, format!("{} changes all the time", from.display())))
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::copy(from, to).map(drop)
}

/// The files that a start needs, each with its size and when it was written last.
fn contents(folder: &Path) -> std::io::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for file in std::fs::read_dir(folder.join(&below))? {
            let file = file?;
            let name = below.join(file.file_name());
            // A file may be gone again before it is looked at.
            let Ok(about) = file.metadata() else { continue };
            if about.is_dir() {
                folders.push(name);
            } else if !(file.file_name() == "LOCK" || file.file_name().to_string_lossy().starts_with("LOG")) {
                found.insert(name, (about.len(), about.modified()?));
            }
        }
    }
    Ok(found)
}

/// Notes whom the member follows.
async fn follow(number: usize, handle: Handle, trace: Arc<Trace>) {
    let mut leadership = handle.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        let leader = now.leader_id.map_or_else(|| "nobody".to_owned(), |id| format!("{id:x}"));
        trace.note(format_args!("member {number} follows {leader} in term {}", now.term));
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Watches all keys, from where the last run was told everything.
async fn watch(handle: Handle, watched: Arc<Mutex<Watched>>, trace: Arc<Trace>) {
    loop {
        let next = {
            let watched = watched.lock();
            watched.messages.last().map_or(watched.from, |message| message.revision + 1)
        };
        let request = pb::WatchCreateRequest {
            key: "key/".into(),
            range_end: "key0".into(),
            start_revision: next,
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        let Ok(mut stream) = handle.watch(request).await else { return };
        while let Some(response) = stream.recv().await {
            watched.lock().messages.push(message(&response, trace.now_ms()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn message(response: &pb::WatchResponse, at_ms: u64) -> Message {
    let event = |event: &kontiki_proto::mvccpb::Event| {
        let kv = event.kv.as_ref()?;
        let entry = if event.r#type == EventType::Put as i32 { to_entry(kv) } else { None };
        let previous = event.prev_kv.as_ref().and_then(to_entry);
        Some(Event { key: to_key(&kv.key)?, entry, revision: kv.mod_revision, previous })
    };
    let events = response.events.iter().filter_map(event).collect();
    let revision = match response.compact_revision {
        0 => response.header.as_ref().map_or(0, |header| header.revision),
        // What comes after it can be asked for again.
        compacted => compacted - 1,
    };
    Message { at_ms, revision, events, compacted: response.compact_revision > 0 }
}
