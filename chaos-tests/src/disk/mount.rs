//! The disk as the kernel sees it: FUSE requests answered from the tree, and the handle that makes the disk fail.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use nix::{errno::Errno as SystemErrno, mount::MntFlags};
use rand::{SeedableRng, rngs::StdRng};

use super::tree::{Body, ROOT, Tree};

/// The kernel asks again each time: after a power cut nothing that it remembers is true.
const REMEMBERED: Duration = Duration::ZERO;
const BLOCK: usize = 4096;
/// What a disk without a limit says of itself.
const SIZE: usize = 8 << 30;

/// Why this machine can have no such disk.
#[must_use]
pub fn lacking() -> Option<&'static str> {
    (!Path::new("/dev/fuse").exists()).then_some("needs /dev/fuse for a disk that loses what was not synced")
}

struct State {
    tree: Tree,
    is_off: bool,
    stalled_until: Option<Instant>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

fn locked(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted disk; unmounted when dropped.
pub struct Disk {
    shared: Shared,
    folder: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts an empty disk at a folder.
    pub fn mount(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let state = State { tree: Tree::default(), is_off: false, stalled_until: None };
        let shared: Shared = Arc::new((Mutex::new(state), Condvar::new()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("kontiki-lossy".into()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(Answers(Arc::clone(&shared)), folder, &config);
        let session = Some(session.with_context(|| format!("mount a disk at {}", folder.display()))?);
        Ok(Self { shared, folder: folder.to_owned(), session })
    }

    /// Switches the power off: nothing more is written and everything fails until [`Self::power_on`].
    pub fn power_off(&self) {
        locked(&self.shared).is_off = true;
    }

    /// What was not synced is lost, as `seed` decides; then the disk works again.
    pub fn power_on(&self, seed: u64) {
        let mut state = locked(&self.shared);
        state.tree.lose(&mut StdRng::seed_from_u64(seed));
        state.is_off = false;
    }

    /// Lets every request wait so long.
    pub fn stall(&self, time: Duration) {
        locked(&self.shared).stalled_until = Some(Instant::now() + time);
    }

    /// Leaves no room for another byte.
    pub fn fill(&self) {
        let mut state = locked(&self.shared);
        state.tree.capacity = Some(state.tree.used());
    }

    /// There is room again.
    pub fn clear(&self) {
        locked(&self.shared).tree.capacity = None;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> usize {
        locked(&self.shared).tree.used()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        {
            let mut state = locked(&self.shared);
            (state.is_off, state.stalled_until) = (true, None);
        }
        self.shared.1.notify_all();
        // Nodes have the mount in namespaces of their own; the session ends when the last of them lets go.
        if let Err(error) = nix::mount::umount2(&self.folder, MntFlags::MNT_DETACH) {
            eprintln!("{} is left mounted: {error}", self.folder.display());
        }
        drop(self.session.take());
    }
}

/// Answers the kernel, one request after the other, as a disk does.
struct Answers(Shared);

type Answer<T> = std::result::Result<T, SystemErrno>;

fn code(error: SystemErrno) -> Errno {
    Errno::from_i32(error as i32)
}

fn attributes(tree: &Tree, number: u64) -> Answer<FileAttr> {
    let inode = tree.get(number)?;
    let (kind, size) = match &inode.body {
        Body::File(file) => (FileType::RegularFile, file.seen().len()),
        Body::Folder(_) => (FileType::Directory, BLOCK),
        Body::Link(target) => (FileType::Symlink, target.as_os_str().len()),
    };
    let time = SystemTime::UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(number),
        size: size as u64,
        blocks: size.div_ceil(512) as u64,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: u16::try_from(inode.mode & 0o7777).unwrap_or(0o600),
        nlink: tree.links(number).max(1),
        uid: inode.owner.0,
        gid: inode.owner.1,
        rdev: 0,
        blksize: u32::try_from(BLOCK).unwrap_or(512),
        flags: 0,
    })
}

impl Answers {
    /// Acts on the tree when the disk is ready to.
    fn act<T>(&self, act: impl FnOnce(&mut Tree) -> Answer<T>) -> std::result::Result<T, Errno> {
        let mut state = locked(&self.0);
        while let Some(left) = state.stalled_until.map(|until| until.saturating_duration_since(Instant::now())) {
            if left.is_zero() {
                state.stalled_until = None;
            } else {
                state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        if state.is_off {
            return Err(Errno::EIO);
        }
        act(&mut state.tree).map_err(code)
    }

    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        body: Body,
        mode: u32,
    ) -> std::result::Result<FileAttr, Errno> {
        self.act(|tree| {
            let number = tree.create(parent.0, name, body, mode, (request.uid(), request.gid()))?;
            attributes(tree, number)
        })
    }
}

fn entry(reply: ReplyEntry, answer: std::result::Result<FileAttr, Errno>) {
    match answer {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, answer: std::result::Result<(), Errno>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Filesystem for Answers {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.act(|tree| attributes(tree, tree.lookup(parent.0, name)?)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.act(|tree| attributes(tree, number.0)) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        length: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let answer = self.act(|tree| {
            if let Some(length) = length {
                tree.resize(number.0, size(length))?;
            }
            let inode = tree.get_mut(number.0)?;
            inode.mode = mode.unwrap_or(inode.mode);
            inode.owner = (user.unwrap_or(inode.owner.0), group.unwrap_or(inode.owner.1));
            attributes(tree, number.0)
        });
        match answer {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let answer = self.act(|tree| match &tree.get(number.0)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(SystemErrno::EINVAL),
        });
        match answer {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entry(reply, self.make(request, parent, name, Body::Folder(Default::default()), mode & !umask));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.act(|tree| tree.remove(parent.0, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.act(|tree| tree.remove(parent.0, name)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        entry(reply, self.make(request, parent, name, Body::Link(target.to_owned()), 0o777));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.act(|tree| tree.rename((parent.0, name), (new_parent.0, new_name))));
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let answer = self.act(|tree| {
            tree.link(number.0, parent.0, name)?;
            attributes(tree, number.0)
        });
        entry(reply, answer);
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.act(|tree| tree.open(number.0)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let made = self.make(request, parent, name, Body::File(Default::default()), mode & !umask);
        let opened = made.and_then(|attributes| self.act(|tree| tree.open(attributes.ino.0)).map(|()| attributes));
        match opened {
            Ok(attributes) => reply.created(&REMEMBERED, &attributes, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let answer = self.act(|tree| {
            let bytes = tree.file(number.0)?.seen();
            let begin = size(offset).min(bytes.len());
            let end = begin.saturating_add(length as usize).min(bytes.len());
            Ok(bytes[begin..end].to_vec())
        });
        match answer {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.act(|tree| tree.write(number.0, size(offset), data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // A disk without power has closed everything already.
        locked(&self.0).tree.close(number.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.act(|tree| tree.sync(number.0)));
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.act(|tree| tree.sync(number.0)));
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let answer = self.act(|tree| {
            let mut entries = vec![(number.0, FileType::Directory, ".".into()), (ROOT, FileType::Directory, "..".into())];
            for (name, entry) in &tree.folder(number.0)?.seen {
                entries.push((*entry, attributes(tree, *entry)?.kind, name.clone()));
            }
            Ok(entries)
        });
        match answer {
            Ok(entries) => {
                for (place, (entry, kind, name)) in entries.into_iter().enumerate().skip(size(offset)) {
                    if reply.add(INodeNo(entry), place as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.act(|tree| Ok((tree.used(), tree.capacity.unwrap_or(SIZE)))) {
            Ok((used, capacity)) => {
                let blocks = |bytes: usize| bytes.div_ceil(BLOCK) as u64;
                let free = blocks(capacity.saturating_sub(used));
                reply.statfs(blocks(capacity), free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
            }
            Err(error) => reply.error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs::{self, File},
        io::Write,
    };

    use super::*;

    /// Through the kernel, its caches included.
    #[test]
    fn programs_see_a_disk_that_loses_and_fills_up() {
        if lacking().is_some() || !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root and /dev/fuse");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(folder.path()).unwrap();
        let path = folder.path().join("log");
        let mut log = File::create(&path).unwrap();
        log.write_all(b"synced ").unwrap();
        log.sync_all().unwrap();
        File::open(folder.path()).unwrap().sync_all().unwrap();
        log.write_all(b"not synced").unwrap();
        fs::write(folder.path().join("other"), b"without a sync of its folder").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"synced not synced");
        disk.power_off();
        assert!(fs::read(&path).is_err() && log.sync_all().is_err());
        drop(log);
        disk.power_on(1);
        let left = fs::read(&path).unwrap();
        assert!(left.starts_with(b"synced ") && b"synced not synced".starts_with(&left), "{left:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        disk.fill();
        let refused = fs::write(folder.path().join("more"), b"x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(SystemErrno::ENOSPC as i32));
        disk.clear();
        fs::write(folder.path().join("more"), b"x").unwrap();
        let began = Instant::now();
        disk.stall(Duration::from_millis(300));
        fs::write(folder.path().join("more"), b"y").unwrap();
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
}
