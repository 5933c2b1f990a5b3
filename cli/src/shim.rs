//! The shim's program, carried in this binary and written out where it is run.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

static PROGRAM: &[u8] = include_bytes!(env!("KONTIKI_SHIM_FILE"));

/// Writes the program into a folder unless it is there; its name holds its contents' digest, so that the shims
/// of an earlier version keep running theirs.
pub fn install(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let digest = hex::encode(Sha256::digest(PROGRAM));
    let path = folder.join(format!("kontiki-shim-{}", &digest[..16]));
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == PROGRAM.len() as u64) {
        return Ok(path);
    }
    let temporary = folder.join(format!("kontiki-shim.{}", std::process::id()));
    let file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o700).open(&temporary);
    let mut file = file.with_context(|| format!("make {}", temporary.display()))?;
    file.write_all(PROGRAM).with_context(|| format!("write {}", temporary.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o700))?;
    drop(file);
    fs::rename(&temporary, &path).with_context(|| format!("make {}", path.display()))?;
    Ok(path)
}
