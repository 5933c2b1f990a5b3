//! Writing small files so that a reader sees the old or the new one, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result};

/// Writes `contents` to `path` with `mode`, through a temporary file beside it that is synced and
/// renamed. Missing folders are made. A file that already says this is left alone: a running node may
/// have it mounted, and a pod cannot mount in its turn what has been renamed away.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    if says(path, contents, mode) {
        return Ok(());
    }
    let folder = path.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn says(path: &Path, contents: &[u8], mode: u32) -> bool {
    let same_mode = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o7777 == mode);
    same_mode && fs::read(path).is_ok_and(|found| found == contents)
}

/// Mode of files that hold keys.
pub const SECRET: u32 = 0o600;
/// Mode of files that anyone may read.
pub const PUBLIC: u32 = 0o644;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_that_says_the_same_stays_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/hosts");
        write_atomically(&path, b"127.0.0.1 localhost\n", PUBLIC).unwrap();
        let mounted = File::open(&path).unwrap();
        write_atomically(&path, b"127.0.0.1 localhost\n", PUBLIC).unwrap();
        assert_eq!(mounted.metadata().unwrap().nlink(), 1, "whoever has it mounted has no deleted file");
    }

    #[test]
    fn other_contents_and_another_mode_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_atomically(&path, b"one", PUBLIC).unwrap();
        write_atomically(&path, b"one", SECRET).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SECRET);
        write_atomically(&path, b"two", SECRET).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
