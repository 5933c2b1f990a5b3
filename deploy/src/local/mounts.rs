//! Folders and files of the host that a node sees at places of its own.
//!
//! Nodes see the host's files; a place that is not there has to be made on the host. What was made
//! is written down first, so that [`remove_places`] takes it away again, whatever happened between.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use super::paths::Paths;
use crate::shape::{Mount, Shape};

/// Checks that all that nodes are to see is there.
pub fn check(shape: &Shape) -> Result<()> {
    let missing = |mount: &&Mount| !mount.from.exists();
    let all: Vec<_> = shape.extras.values().flat_map(|extras| &extras.mounts).filter(missing).collect();
    match all.first() {
        None => Ok(()),
        Some(mount) => {
            bail!("{} is to be seen as {} by a node, and is not there: make it first", mount.from.display(), mount.to.display())
        }
    }
}

/// Shows a node what the shape says. To be called in the node's own mount namespace.
pub fn bind(paths: &Paths, mounts: &[Mount]) -> Result<()> {
    for one in mounts {
        let said = || format!("show {} as {}", one.from.display(), one.to.display());
        make_place(paths, one).with_context(said)?;
        mount(Some(&one.from), &one.to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).with_context(said)?;
        if one.read_only {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, &one.to, None::<&str>, flags, None::<&str>).with_context(said)?;
        }
    }
    Ok(())
}

/// Paths that have to be made, the outermost first.
fn missing(place: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> =
        place.ancestors().take_while(|path| fs::symlink_metadata(path).is_err()).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn make_place(paths: &Paths, mount: &Mount) -> Result<()> {
    let missing = missing(&mount.to);
    let Some((last, folders)) = missing.split_last() else { return Ok(()) };
    let mut list = OpenOptions::new().create(true).append(true).open(paths.made_places())?;
    for path in &missing {
        writeln!(list, "{}", path.display())?;
    }
    list.sync_data()?;
    for folder in folders {
        make_folder(folder)?;
    }
    if mount.from.is_dir() { make_folder(last) } else { fs::write(last, b"").map_err(Into::into) }
}

/// Another node may make the same one.
fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes the places that were made; one that somebody has put something into stays.
pub fn remove_places(paths: &Paths) {
    let list = fs::read_to_string(paths.made_places()).unwrap_or_default();
    let mut places: Vec<&Path> = list.lines().map(Path::new).collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.components().count()));
    for place in places {
        let is_empty_file = fs::metadata(place).is_ok_and(|found| found.is_file() && found.len() == 0);
        let removed = if is_empty_file { fs::remove_file(place) } else { fs::remove_dir(place) };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("{} stays: {error}", place.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_that_were_made_go_again_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path(), "c");
        fs::create_dir_all(paths.root()).unwrap();
        let there = folder.path().join("there");
        fs::create_dir(&there).unwrap();
        for to in [there.join("a/b"), there.clone(), there.join("kept")] {
            make_place(&paths, &Mount { from: "/".into(), to, read_only: false }).unwrap();
        }
        fs::write(there.join("kept/mine"), "x").unwrap();
        assert!(there.join("a/b").is_dir());
        remove_places(&paths);
        assert!(!there.join("a").exists() && there.join("kept/mine").exists());
    }
}
