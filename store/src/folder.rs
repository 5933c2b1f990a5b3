//! Folders that a power cut does not take.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a folder and those above it, each synced into the one above: syncing a file, and its folder, does not save the
/// folder's own name, without which all that was synced below it is gone (POSIX says nothing else of `fsync`).
///
/// One that is there is synced too, for whoever made it may have died before; that fails silently only where the folder
/// above may not be read.
pub fn make(folder: &Path) -> io::Result<()> {
    let above = folder.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let made = match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            above.map_or(Err(error), make)?;
            fs::create_dir(folder)
        }
        made => made,
    };
    let is_new = made.is_ok();
    if let Err(error) = made
        && !folder.is_dir()
    {
        return Err(error);
    }
    let Some(above) = above else { return Ok(()) };
    match File::open(above).and_then(|above| above.sync_all()) {
        Err(error) if !is_new && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn folders_above_are_made_and_one_that_is_there_is_fine() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");
        make(&folder).unwrap();
        make(&folder).unwrap();
        assert!(folder.is_dir());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), b"").unwrap();
        assert!(make(&root.path().join("a")).is_err());
        assert!(make(&root.path().join("a/b")).is_err());
    }
}
