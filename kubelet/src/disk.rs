//! What is left of a file system, and what lies in a folder.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use nix::sys::statvfs::statvfs;

use crate::runtime::FileSystem;

/// Room of the file system that holds a folder; zero where it cannot be asked.
pub fn file_system(folder: &Path) -> FileSystem {
    statvfs(folder).map_or_else(
        |_| FileSystem::default(),
        |stat| FileSystem {
            capacity_bytes: stat.blocks() * stat.fragment_size(),
            available_bytes: stat.blocks_available() * stat.fragment_size(),
            inodes: stat.files(),
            inodes_free: stat.files_available(),
        },
    )
}

/// Bytes and number of the files and folders below a folder, links not followed.
pub fn size(folder: &Path) -> (u64, u64) {
    let mut total = (0, 0);
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total = (total.0 + metadata.blocks() * 512, total.1 + 1);
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_size_of_what_lies_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 10_000]).unwrap();
        let (bytes, inodes) = size(folder.path());
        assert!(bytes >= 10_000, "{bytes}");
        assert_eq!(inodes, 2);
        assert_eq!(size(&folder.path().join("none")), (0, 0));
    }
}
