//! Unpacks a layer the way overlayfs wants it: deletions become character devices 0/0 and opaque folders.
//!
//! In: a tar stream. Out: a folder. The rules for deletions are the OCI image specification's:
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md>.

use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use nix::sys::stat::{Mode, SFlag, mknod};

/// Marks a deletion in a layer.
const WHITEOUT: &str = ".wh.";
/// Marks a folder that hides all of the same folder below.
const OPAQUE: &str = ".wh..wh..opq";

/// Unpacks into an empty folder; returns the bytes of the files.
pub fn unpack(tar: impl Read, target: &Path) -> io::Result<u64> {
    fs::create_dir_all(target)?;
    let mut archive = tar::Archive::new(tar);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.set_overwrite(true);
    let mut size = 0;
    // Folders come last: writing into them changes their times and a read-only one takes nothing.
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let parent = inside(target, path.parent().unwrap_or(Path::new("")))?;
            fs::create_dir_all(&parent)?;
            if name == OPAQUE {
                xattr::set(&parent, "trusted.overlay.opaque", b"y")?;
            } else {
                mknod(&parent.join(hidden), SFlag::S_IFCHR, Mode::empty(), 0)?;
            }
        } else if entry.header().entry_type().is_dir() {
            fs::create_dir_all(inside(target, &path)?)?;
            folders.push(entry);
        } else {
            size += entry.size();
            entry.unpack_in(target)?;
        }
    }
    folders.sort_by(|left, right| right.path_bytes().cmp(&left.path_bytes()));
    for mut folder in folders {
        folder.unpack_in(target)?;
    }
    Ok(size)
}

/// `path` below `target`, provided that nothing on the way leads out of it.
fn inside(target: &Path, path: &Path) -> io::Result<PathBuf> {
    let refused = || io::Error::new(io::ErrorKind::InvalidData, format!("{} leads out of the layer", path.display()));
    let mut whole = target.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(part) => whole.push(part),
            Component::CurDir | Component::RootDir => continue,
            _ => return Err(refused()),
        }
        if whole.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(refused());
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layer(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, contents) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(if contents.is_some() { 0o644 } else { 0o755 });
            header.set_entry_type(if contents.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(contents.map_or(0, |contents| contents.len() as u64));
            // As a hostile archive would: the builder itself refuses such names.
            let name = path.as_bytes();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name);
            header.set_cksum();
            builder.append(&header, contents.unwrap_or_default().as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_and_folders_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let size = unpack(&layer(&[("etc/", None), ("etc/passwd", Some("root"))])[..], folder.path()).unwrap();
        assert_eq!(size, 4);
        assert_eq!(fs::read_to_string(folder.path().join("etc/passwd")).unwrap(), "root");
    }

    #[test]
    fn deletions_become_what_overlayfs_reads() {
        use std::os::unix::fs::FileTypeExt;
        if !nix::unistd::geteuid().is_root() {
            // Device nodes and trusted attributes are root's alone.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        unpack(&layer(&[("a/.wh.gone", Some("")), ("b/.wh..wh..opq", Some(""))])[..], folder.path()).unwrap();
        assert!(folder.path().join("a/gone").symlink_metadata().unwrap().file_type().is_char_device());
        let opaque = xattr::get(folder.path().join("b"), "trusted.overlay.opaque");
        // Not every file system keeps trusted attributes.
        assert_eq!(opaque.unwrap_or(Some(b"y".to_vec())), Some(b"y".to_vec()));
    }

    #[test]
    fn nothing_is_written_outside() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("layer");
        let result = unpack(&layer(&[("../outside", Some("x"))])[..], &target);
        assert!(!folder.path().join("outside").exists(), "{result:?}");
        assert!(unpack(&layer(&[("../.wh.victim", Some(""))])[..], &target).is_err());
    }
}
