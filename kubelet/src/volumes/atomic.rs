//! Files that change together.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Component, Path},
};

use super::ownership;

/// Name of the link that is turned.
const DATA: &str = "..data";

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is in it.
    pub contents: Vec<u8>,
    /// Permissions.
    pub mode: u32,
}

/// Files by their path within the volume.
pub type Entries = BTreeMap<String, Entry>;

/// Makes a folder hold exactly these files; nothing is done if it does. Files belong to `group`, if given.
pub fn write(folder: &Path, entries: &Entries, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    if is_current(folder, entries, group) {
        return Ok(());
    }
    let old = fs::read_link(folder.join(DATA)).ok();
    let name = format!("..{}", uuid::Uuid::new_v4());
    let new = folder.join(&name);
    fs::create_dir(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (path, entry) in entries {
        check(path)?;
        let file = new.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, &entry.contents)?;
        if let Some(group) = group {
            chown(&file, None, Some(group))?;
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(file_mode(entry, group)))?;
    }
    let turned = folder.join("..data_tmp");
    let _ = fs::remove_file(&turned);
    symlink(&name, &turned)?;
    fs::rename(&turned, folder.join(DATA))?;
    link_names(folder, entries)?;
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(())
}

fn check(path: &str) -> io::Result<()> {
    let sound = !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if sound && !path.starts_with("..") {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} must be a relative path without '..'")))
}

fn file_mode(entry: &Entry, group: Option<u32>) -> u32 {
    group.map_or(entry.mode, |_| ownership::mode(entry.mode, false, true))
}

fn is_current(folder: &Path, entries: &Entries, group: Option<u32>) -> bool {
    let data = folder.join(DATA);
    let same = |path: &String, entry: &Entry| {
        let file = data.join(path);
        let mode = fs::metadata(&file).map(|metadata| metadata.permissions().mode() & 0o7777);
        mode.is_ok_and(|mode| mode == file_mode(entry, group)) && fs::read(&file).is_ok_and(|read| read == entry.contents)
    };
    data.exists() && count(&data) == entries.len() && entries.iter().all(|(path, entry)| same(path, entry))
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

/// The names that users see lead through the link.
fn link_names(folder: &Path, entries: &Entries) -> io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: std::collections::BTreeSet<String> = entries.keys().map(first).collect();
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = folder.join(&name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(&name), link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries(list: &[(&str, &str)]) -> Entries {
        list.iter().map(|(path, text)| ((*path).to_owned(), Entry { contents: text.as_bytes().to_vec(), mode: 0o644 })).collect()
    }

    #[test]
    fn files_change_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(path, &entries(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(path.join("d/b")).unwrap(), "2");
        let before = fs::read_link(path.join(DATA)).unwrap();
        write(path, &entries(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(path.join(DATA)).unwrap(), before, "nothing to do");
        write(path, &entries(&[("c", "3")]), None).unwrap();
        assert!(!path.join("a").exists() && !path.join(&before).exists());
        assert_eq!(fs::read_to_string(path.join("c")).unwrap(), "3");
    }

    #[test]
    fn nothing_is_written_outside() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "", "..x"] {
            assert!(write(folder.path(), &entries(&[(path, "")]), None).is_err(), "{path}");
        }
    }
}
