//! Files of a volume for the pod's group: `fsGroup`.
//!
//! <https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#set-the-security-context-for-a-pod>

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::Path,
};

use k8s_openapi::api::core::v1::Pod;

/// What the group may do with files: of a volume that is written to, and of one that is only read.
const WRITABLE: u32 = 0o660;
const READABLE: u32 = 0o440;
/// What folders have beside it: to be entered, and new files belong to the group as well.
const FOLDER: u32 = 0o2110;

/// The pod's group, if it has one.
pub fn group(pod: &Pod) -> Option<u32> {
    let security = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(security.fs_group?).ok()
}

/// Whether a volume that has the right owner already is left as it is.
pub fn only_on_mismatch(pod: &Pod) -> bool {
    let security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    security.and_then(|security| security.fs_group_change_policy.as_deref()) == Some("OnRootMismatch")
}

/// Mode of a file or folder that the group is to use.
pub fn mode(mode: u32, is_folder: bool, read_only: bool) -> u32 {
    mode | if read_only { READABLE } else { WRITABLE } | if is_folder { FOLDER } else { 0 }
}

/// Gives a volume to the group, with all that is in it.
pub fn give(path: &Path, group: u32, only_on_mismatch: bool) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let wanted = mode(metadata.mode() & 0o7777, metadata.is_dir(), false);
    if only_on_mismatch && metadata.gid() == group && metadata.mode() & 0o7777 == wanted {
        return Ok(());
    }
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata()?;
        lchown(&path, None, Some(group))?;
        if metadata.is_symlink() {
            continue;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode(metadata.mode() & 0o7777, metadata.is_dir(), false)))?;
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modes_for_a_group() {
        assert_eq!(mode(0o777, true, false), 0o2777);
        assert_eq!(mode(0o755, true, false), 0o2775);
        assert_eq!(mode(0o644, false, false), 0o664);
        assert_eq!(mode(0o400, false, true), 0o440);
    }

    #[test]
    fn all_that_is_in_a_volume_is_given() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), "").unwrap();
        fs::set_permissions(folder.path().join("a/b"), fs::Permissions::from_mode(0o600)).unwrap();
        let group = nix::unistd::getgid().as_raw();
        give(folder.path(), group, false).unwrap();
        let mode = |path: &str| folder.path().join(path).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("a/b"), mode("a") & 0o2070), (0o660, 0o2070));
        give(folder.path(), group, true).unwrap();
    }
}
