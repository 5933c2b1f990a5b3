//! Writing small files so that a reader sees the old or the new one, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};

/// Writes `contents` to `path` with `mode`, through a temporary file beside it that is synced and
/// renamed. Missing folders are made.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
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

/// Mode of files that hold keys.
pub const SECRET: u32 = 0o600;
/// Mode of files that anyone may read.
pub const PUBLIC: u32 = 0o644;
