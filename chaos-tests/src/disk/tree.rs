//! Files, folders and links by number; every folder has the entries that are seen and those that the disk surely has.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use nix::errno::Errno;
use rand::rngs::StdRng;

use super::file::File;

/// Number of the root.
pub const ROOT: u64 = 1;

/// Entries of a folder.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// What a lookup finds.
    pub seen: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// What a number stands for.
#[derive(Clone, Debug)]
pub enum Body {
    /// Bytes.
    File(File),
    /// Entries.
    Folder(Folder),
    /// Another path.
    Link(PathBuf),
}

/// A file, folder or link with its owner and mode.
#[derive(Clone, Debug)]
pub struct Inode {
    /// What it is.
    pub body: Body,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub owner: (u32, u32),
    opened: u32,
}

/// A file system.
#[derive(Debug)]
pub struct Tree {
    inodes: BTreeMap<u64, Inode>,
    last: u64,
    /// Most bytes that all files together may have.
    pub capacity: Option<usize>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Inode { body: Body::Folder(Folder::default()), mode: 0o755, owner: (0, 0), opened: 0 };
        Self { inodes: BTreeMap::from([(ROOT, root)]), last: ROOT, capacity: None }
    }
}

type Result<T> = std::result::Result<T, Errno>;

impl Tree {
    /// What a number stands for.
    pub fn get(&self, number: u64) -> Result<&Inode> {
        self.inodes.get(&number).ok_or(Errno::ENOENT)
    }

    /// The same, to change owner or mode.
    pub fn get_mut(&mut self, number: u64) -> Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    /// A folder's entries.
    pub fn folder(&self, number: u64) -> Result<&Folder> {
        match &self.get(number)?.body {
            Body::Folder(folder) => Ok(folder),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn folder_mut(&mut self, number: u64) -> Result<&mut Folder> {
        match &mut self.get_mut(number)?.body {
            Body::Folder(folder) => Ok(folder),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// A file's contents.
    pub fn file(&self, number: u64) -> Result<&File> {
        match &self.get(number)?.body {
            Body::File(file) => Ok(file),
            _ => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, number: u64) -> Result<&mut File> {
        match &mut self.get_mut(number)?.body {
            Body::File(file) => Ok(file),
            _ => Err(Errno::EISDIR),
        }
    }

    /// Number of an entry.
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64> {
        self.folder(parent)?.seen.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// How many entries lead to a number.
    pub fn links(&self, number: u64) -> u32 {
        let folders = self.inodes.values().filter_map(|inode| match &inode.body {
            Body::Folder(folder) => Some(folder.seen.values().filter(|entry| **entry == number).count()),
            _ => None,
        });
        u32::try_from(folders.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Bytes of all files.
    pub fn used(&self) -> usize {
        let lengths = self.inodes.values().map(|inode| match &inode.body {
            Body::File(file) => file.seen().len(),
            _ => 0,
        });
        lengths.sum()
    }

    /// Makes something new.
    pub fn create(&mut self, parent: u64, name: &OsStr, body: Body, mode: u32, owner: (u32, u32)) -> Result<u64> {
        if self.folder(parent)?.seen.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.make_room(1)?;
        self.last += 1;
        let number = self.last;
        self.inodes.insert(number, Inode { body, mode, owner, opened: 0 });
        self.folder_mut(parent)?.seen.insert(name.to_owned(), number);
        Ok(number)
    }

    /// A second entry for a file.
    pub fn link(&mut self, number: u64, parent: u64, name: &OsStr) -> Result<()> {
        self.get(number)?;
        match self.folder_mut(parent)?.seen.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(Errno::EEXIST),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(number);
                Ok(())
            }
        }
    }

    /// Takes an entry away.
    pub fn remove(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        let number = self.lookup(parent, name)?;
        if self.folder(number).is_ok_and(|folder| !folder.seen.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.folder_mut(parent)?.seen.remove(name);
        self.forget_unreachable();
        Ok(())
    }

    /// Moves an entry, over another one if there is one.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<()> {
        let number = self.lookup(from.0, from.1)?;
        if let Ok(there) = self.lookup(to.0, to.1)
            && self.folder(there).is_ok_and(|folder| !folder.seen.is_empty())
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.folder_mut(from.0)?.seen.remove(from.1);
        self.folder_mut(to.0)?.seen.insert(to.1.to_owned(), number);
        Ok(())
    }

    /// A file that is open is kept even without an entry.
    pub fn open(&mut self, number: u64) -> Result<()> {
        self.get_mut(number)?.opened += 1;
        Ok(())
    }

    /// Ends one opening.
    pub fn close(&mut self, number: u64) {
        if let Ok(inode) = self.get_mut(number) {
            inode.opened = inode.opened.saturating_sub(1);
        }
        self.forget_unreachable();
    }

    fn make_room(&self, more: usize) -> Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    /// Writes into a file.
    pub fn write(&mut self, number: u64, offset: usize, data: &[u8]) -> Result<()> {
        let length = self.file(number)?.seen().len();
        self.make_room((offset + data.len()).saturating_sub(length))?;
        self.file_mut(number)?.write(offset, data);
        Ok(())
    }

    /// Gives a file another length.
    pub fn resize(&mut self, number: u64, length: usize) -> Result<()> {
        self.make_room(length.saturating_sub(self.file(number)?.seen().len()))?;
        self.file_mut(number)?.resize(length);
        Ok(())
    }

    /// What an fsync of a file or folder does; a file's entry is its folder's business.
    pub fn sync(&mut self, number: u64) -> Result<()> {
        match &mut self.get_mut(number)?.body {
            Body::File(file) => file.sync(),
            Body::Folder(folder) => folder.durable.clone_from(&folder.seen),
            Body::Link(_) => {}
        }
        self.forget_unreachable();
        Ok(())
    }

    /// What a power cut does.
    pub fn lose(&mut self, luck: &mut StdRng) {
        for inode in self.inodes.values_mut() {
            inode.opened = 0;
            match &mut inode.body {
                Body::File(file) => file.lose(luck),
                Body::Folder(folder) => folder.seen.clone_from(&folder.durable),
                Body::Link(_) => {}
            }
        }
        self.forget_unreachable();
    }

    fn forget_unreachable(&mut self) {
        let opened = self.inodes.iter().filter(|(_, inode)| inode.opened > 0).map(|(number, _)| *number);
        let mut left: Vec<u64> = opened.chain([ROOT]).collect();
        let mut reached: BTreeSet<u64> = BTreeSet::new();
        while let Some(number) = left.pop() {
            if reached.insert(number)
                && let Some(Inode { body: Body::Folder(folder), .. }) = self.inodes.get(&number)
            {
                left.extend(folder.seen.values().chain(folder.durable.values()));
            }
        }
        self.inodes.retain(|number, _| reached.contains(number));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;

    use super::*;

    fn file(tree: &mut Tree, name: &str, data: &[u8]) -> u64 {
        let number = tree.create(ROOT, OsStr::new(name), Body::File(File::default()), 0o600, (0, 0)).unwrap();
        tree.write(number, 0, data).unwrap();
        number
    }

    fn after_a_power_cut(tree: &mut Tree) -> Vec<(String, Vec<u8>)> {
        tree.lose(&mut StdRng::seed_from_u64(7));
        let entries = tree.folder(ROOT).unwrap().seen.clone();
        entries
            .iter()
            .map(|(name, number)| (name.to_string_lossy().into(), tree.file(*number).unwrap().seen().to_vec()))
            .collect()
    }

    #[test]
    fn an_entry_needs_its_folders_sync() {
        let mut tree = Tree::default();
        let number = file(&mut tree, "a", b"x");
        tree.sync(number).unwrap();
        assert_eq!(after_a_power_cut(&mut tree), []);
        let number = file(&mut tree, "b", b"y");
        tree.sync(number).unwrap();
        tree.sync(ROOT).unwrap();
        assert_eq!(after_a_power_cut(&mut tree), [("b".to_owned(), b"y".to_vec())]);
        assert_eq!(tree.lookup(ROOT, OsStr::new("a")), Err(Errno::ENOENT));
    }

    #[test]
    fn a_replaced_file_is_the_old_or_the_new_one() {
        let mut tree = Tree::default();
        let old = file(&mut tree, "current", b"old");
        tree.sync(old).unwrap();
        tree.sync(ROOT).unwrap();
        let new = file(&mut tree, "new", b"new");
        tree.sync(new).unwrap();
        tree.rename((ROOT, OsStr::new("new")), (ROOT, OsStr::new("current"))).unwrap();
        assert_eq!(tree.file(tree.lookup(ROOT, OsStr::new("current")).unwrap()).unwrap().seen(), b"new");
        assert_eq!(after_a_power_cut(&mut tree), [("current".to_owned(), b"old".to_vec())]);
    }

    #[test]
    fn a_full_disk_takes_nothing_more_and_gives_what_it_has() {
        let mut tree = Tree { capacity: Some(4), ..Tree::default() };
        let number = file(&mut tree, "a", b"abc");
        assert_eq!(tree.write(number, 3, b"de"), Err(Errno::ENOSPC));
        tree.write(number, 0, b"ABC").unwrap();
        tree.resize(number, 0).unwrap();
        tree.write(number, 0, b"abcd").unwrap();
    }

    #[test]
    fn what_is_open_outlives_its_entry() {
        let mut tree = Tree::default();
        let number = file(&mut tree, "a", b"abc");
        tree.open(number).unwrap();
        tree.remove(ROOT, OsStr::new("a")).unwrap();
        assert_eq!(tree.file(number).unwrap().seen(), b"abc");
        tree.close(number);
        assert!(tree.get(number).is_err());
    }
}
