//! A part of a volume: `subPath`. It never leads out of the volume, whatever links are in it.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// The path of a part; folders that are missing are made as the volume's own is.
pub fn resolve(volume: &Path, part: &str) -> Result<PathBuf, String> {
    let wanted = Path::new(part);
    if wanted.is_absolute() {
        return Err(format!("failed to prepare subPath for volumeMount: subPath {part:?} must be a relative path"));
    }
    if wanted.components().any(|component| component == Component::ParentDir) {
        return Err(format!("failed to prepare subPath for volumeMount: subPath {part:?} must not contain '..'"));
    }
    let whole = volume.canonicalize().map_err(|error| error.to_string())?;
    let outside = || format!("failed to prepare subPath for volumeMount: subPath {part:?} leads out of the volume");
    let mut at = whole.clone();
    for component in wanted.components().filter(|component| matches!(component, Component::Normal(_))) {
        let next = at.join(component);
        if next.symlink_metadata().is_err() {
            let made = fs::create_dir(&next).and_then(|()| fs::set_permissions(&next, fs::metadata(&whole)?.permissions()));
            made.map_err(|error| format!("failed to create subPath directory for volumeMount: {error}"))?;
        }
        // Each step is looked at, so that no folder is made behind a link that leads elsewhere.
        at = next.canonicalize().map_err(|error| format!("failed to prepare subPath for volumeMount: {error}"))?;
        if !at.starts_with(&whole) {
            return Err(outside());
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_part_stays_in_its_volume() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        let made = resolve(&volume, "a/b").unwrap();
        assert!(made.ends_with("v/a/b"));
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o777);
        symlink("/", volume.join("out")).unwrap();
        symlink("a", volume.join("in")).unwrap();
        assert!(resolve(&volume, "in/b").unwrap().ends_with("v/a/b"));
        for part in ["../x", "/etc", "a/../../x", "out", "out/tmp"] {
            assert!(resolve(&volume, part).is_err(), "{part}");
        }
        assert!(!folder.path().join("x").exists());
    }
}
