//! The files of the log: segments with room made beforehand, one frame a write, each write synced.
//!
//! In come records, out go bytes at the end of the newest segment; `<number>.log` are the segments. The first frame of each has
//! the vote, the committed and the purged position, so that the segments before it can go with their last entry.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use parking_lot::Mutex;

use super::codec::Damaged;
use super::device::{Device, Held, Record};
use super::frame::{self, Found, Frame, Part};
use super::index::{Index, Located};
use crate::limits::LOG_SEGMENT_BYTES;

/// What an older version kept its log in; it lies where the segments would.
const OLDER: &str = "CURRENT";
const LOCK: &str = "LOCK";
/// A segment that is not ready yet.
const UNFINISHED: &str = "unfinished";

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("cannot read the log")]
    Io(#[from] IoError),
    /// Another member has it.
    #[error("the log in {0} is in use by another process")]
    InUse(PathBuf),
    /// It is of a version that nobody can read any more.
    #[error("the log in {0} was written by an older version; remove this member's data and let it join again")]
    Older(PathBuf),
    /// A file is not what was written.
    #[error("the log is damaged: {file} at byte {offset}: {reason}; remove this member's data and let it join again")]
    Segment {
        /// Which.
        file: PathBuf,
        /// Where.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A record of ours fails its check.
    #[error("the log is damaged; remove this member's data and let it join again")]
    Damaged(#[from] Damaged),
}

/// The segment that is written to.
struct Newest {
    file: Arc<File>,
    sequence: u64,
    end: usize,
    capacity: usize,
}

/// What readers see.
struct Seen {
    index: Index,
    files: BTreeMap<u64, Arc<File>>,
}

/// The open files.
pub struct Files {
    folder: PathBuf,
    newest: Mutex<Newest>,
    seen: Mutex<Seen>,
    _lock: Flock<File>,
}

impl Files {
    /// Opens them. Only an incomplete last write is cut off; anything else that is not as it was written is an error.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        if folder.join(OLDER).exists() {
            return Err(OpenError::Older(folder.to_owned()));
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| OpenError::InUse(folder.to_owned()))?;
        match fs::remove_file(folder.join(UNFINISHED)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let sequences = sequences(folder)?;
        let Some(oldest) = sequences.first().copied() else {
            let index = Index::new(1);
            let newest = create(folder, 1, 0, &index, LOG_SEGMENT_BYTES)?;
            return Ok(Self::of(folder, newest, index, BTreeMap::new(), lock));
        };
        let (mut index, mut files, mut newest) = (Index::new(oldest), BTreeMap::new(), None);
        for (sequence, is_last) in sequences.iter().map(|sequence| (*sequence, Some(sequence) == sequences.last())) {
            let before = newest.take().map(|before: Newest| {
                index.next_segment();
                files.insert(before.sequence, before.file);
                (before.sequence, before.end)
            });
            newest = Some(read_segment(folder, sequence, before, is_last, &mut index)?);
        }
        let newest = newest.ok_or_else(|| IoError::other("a segment vanished"))?;
        let files = Self::of(folder, newest, index, files, lock);
        files.remove_useless()?;
        Ok(files)
    }

    fn of(folder: &Path, newest: Newest, index: Index, mut files: BTreeMap<u64, Arc<File>>, lock: Flock<File>) -> Self {
        files.insert(newest.sequence, newest.file.clone());
        Self { folder: folder.to_owned(), newest: Mutex::new(newest), seen: Mutex::new(Seen { index, files }), _lock: lock }
    }

    /// Writes and syncs; only the log's writer is here, and readers do not wait for it.
    fn append(&self, records: &[Record]) -> Result<(), IoError> {
        let newest = &mut *self.newest.lock();
        let bytes = records.iter().map(bytes_of).sum::<usize>();
        if newest.end + frame::bytes_of(bytes) > newest.capacity {
            self.rotate(newest, bytes)?;
        }
        let mut frame = Frame::new(offset32(newest.end), bytes);
        records.iter().for_each(|record| frame.add(record));
        let (written, places) = frame.seal(newest.sequence);
        newest.file.write_all_at(&written, newest.end as u64)?;
        newest.file.sync_data()?;
        newest.end += written.len();
        let mut places = places.into_iter();
        let seen = &mut *self.seen.lock();
        for record in records {
            match record {
                Record::Entry(..) => {
                    let fits = places.next().and_then(|place| seen.index.entry(place));
                    fits.ok_or_else(|| IoError::other("an entry does not follow the one before it"))?;
                }
                other => seen.index.record(other.clone()),
            }
        }
        Ok(())
    }

    /// Goes on in a new segment with room for so many bytes at least.
    fn rotate(&self, newest: &mut Newest, bytes: usize) -> Result<(), IoError> {
        let capacity = LOG_SEGMENT_BYTES.max(frame::bytes_of(bytes) * 2);
        let next = create(&self.folder, newest.sequence + 1, offset32(newest.end), &self.seen.lock().index, capacity)?;
        let seen = &mut *self.seen.lock();
        seen.index.next_segment();
        seen.files.insert(next.sequence, next.file.clone());
        *newest = next;
        Ok(())
    }

    /// Removes segments that hold nothing any more, the oldest first: never one in the middle.
    fn remove_useless(&self) -> Result<(), IoError> {
        let dropped = {
            let seen = &mut *self.seen.lock();
            let dropped = seen.index.drop_useless();
            dropped.iter().for_each(|sequence| drop(seen.files.remove(sequence)));
            dropped
        };
        for sequence in dropped {
            fs::remove_file(path(&self.folder, sequence))?;
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    fn fetch(&self, find: impl FnOnce(&Index) -> Vec<Located>) -> Result<Vec<(u64, Vec<u8>)>, IoError> {
        let located: Vec<_> = {
            let seen = self.seen.lock();
            let file = |(segment, place)| (seen.files.get(&segment).cloned(), place);
            find(&seen.index).into_iter().map(file).collect()
        };
        let read = |(file, place): (Option<Arc<File>>, frame::Place)| {
            let file = file.ok_or_else(|| IoError::other("a segment of the log is gone"))?;
            let mut record = vec![0; place.length as usize];
            file.read_exact_at(&mut record, u64::from(place.offset))?;
            Ok((place.index, record))
        };
        located.into_iter().map(read).collect()
    }
}

#[async_trait]
impl Device for Files {
    async fn write(&self, records: Vec<Record>) -> Result<(), IoError> {
        self.append(&records)?;
        if records.iter().any(|record| matches!(record, Record::Purged(..))) { self.remove_useless() } else { Ok(()) }
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, IoError> {
        self.fetch(|index| index.range(start, end))
    }

    fn held(&self) -> Result<Held, IoError> {
        let last = self.fetch(|index| index.last().into_iter().collect())?.pop();
        let index = &self.seen.lock().index;
        Ok(Held { vote: index.vote.clone(), committed: index.committed.clone(), purged: index.purged.clone(), last })
    }
}

fn bytes_of(record: &Record) -> usize {
    match record {
        Record::Entry(_, bytes) | Record::Vote(bytes) | Record::Committed(bytes) | Record::Purged(_, bytes) => bytes.len() + 16,
        Record::Truncated(_) => 16,
    }
}

fn offset32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

fn path(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:020}.log"))
}

fn sync_folder(folder: &Path) -> Result<(), IoError> {
    File::open(folder)?.sync_all()
}

/// Numbers of the segments in order; they have no gap.
fn sequences(folder: &Path) -> Result<Vec<u64>, OpenError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|name| name.parse::<u64>().ok()));
    }
    found.sort_unstable();
    for pair in found.windows(2) {
        if pair[1] != pair[0] + 1 {
            let file = path(folder, pair[0] + 1);
            return Err(OpenError::Segment { file, offset: 0, reason: "the file is missing" });
        }
    }
    Ok(found)
}

/// Makes a segment: under another name until its first frame is on disk.
fn create(folder: &Path, sequence: u64, previous_end: u32, index: &Index, capacity: usize) -> Result<Newest, IoError> {
    let unfinished = folder.join(UNFINISHED);
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&unfinished)?;
    make_room(&file, capacity)?;
    let mut frame = Frame::new(0, 0);
    frame.begin(previous_end);
    index.positions().iter().for_each(|record| frame.add(record));
    let (written, _) = frame.seal(sequence);
    file.write_all_at(&written, 0)?;
    file.sync_all()?;
    fs::rename(&unfinished, path(folder, sequence))?;
    sync_folder(folder)?;
    Ok(Newest { file: Arc::new(file), sequence, end: written.len(), capacity })
}

/// A file that grows with each write has its length written with each sync.
fn make_room(file: &File, bytes: usize) -> Result<(), IoError> {
    let length = i64::try_from(bytes).map_err(IoError::other)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => file.set_len(bytes as u64),
        other => other.map_err(IoError::from),
    }
}

/// Reads a segment into the index. `before` is the one before it: its number, and where it ends.
fn read_segment(
    folder: &Path,
    sequence: u64,
    before: Option<(u64, usize)>,
    is_last: bool,
    index: &mut Index,
) -> Result<Newest, OpenError> {
    let file_path = path(folder, sequence);
    let bytes = fs::read(&file_path)?;
    let damaged = |offset, reason| OpenError::Segment { file: file_path.clone(), offset, reason };
    let mut offset = 0;
    let cut = loop {
        match frame::look(&bytes, offset, sequence) {
            Found::Frame(parts, next) => {
                if offset == 0 {
                    check_begin(&parts, before).map_err(|reason| damaged(0, reason))?;
                }
                for part in parts {
                    index.part(part).ok_or_else(|| damaged(offset, "entries before one of its entries are missing"))?;
                }
                offset = next;
            }
            // A segment gets its name once its first frame is on disk.
            Found::Nothing | Found::Incomplete if offset == 0 => return Err(damaged(0, "its beginning is missing")),
            Found::Nothing => break false,
            Found::Incomplete if is_last => break true,
            Found::Incomplete => return Err(damaged(offset, "a write is incomplete, and more was written after it")),
            Found::Damaged(reason) => return Err(damaged(offset, reason)),
        }
    };
    let file = OpenOptions::new().read(true).write(true).open(&file_path)?;
    if cut {
        tracing::warn!(file = %file_path.display(), offset, "the last write of the log did not come to its end; it is cut off");
        file.write_all_at(&vec![0; bytes.len().saturating_sub(offset)], offset as u64)?;
        file.sync_data()?;
    }
    Ok(Newest { file: Arc::new(file), sequence, end: offset, capacity: bytes.len() })
}

/// A segment says where the one before it ended: what is missing at an end is found so.
fn check_begin(parts: &[Part], before: Option<(u64, usize)>) -> Result<(), &'static str> {
    match (parts.first(), before) {
        (Some(Part::Begin(_)), None) => Ok(()),
        (Some(Part::Begin(end)), Some((_, found))) if *end as usize == found => Ok(()),
        (Some(Part::Begin(_)), Some(_)) => Err("writes at the end of the file before it are missing"),
        _ => Err("it does not begin as a segment does"),
    }
}
