//! What a container sees of the node: volumes, and the files that the kubelet writes for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, VolumeMount};

use super::{environment::expand, model, names};
use crate::{
    Options,
    runtime::{Mount, Propagation},
    volumes::{Folders, sub_path},
};

/// Where a container leaves words on its end, unless it says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

fn pod_folder(options: &Options, pod: &Pod) -> PathBuf {
    options.root.join("pods").join(model::uid(pod))
}

/// The file behind a container's termination message.
pub fn message_file(options: &Options, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    pod_folder(options, pod).join("containers").join(container).join(attempt.to_string())
}

/// The part of a volume that a container sees, its variables replaced.
fn part(mount: &VolumeMount, environment: &[(String, String)]) -> Result<Option<String>, String> {
    let expression = mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty());
    if let Some(expression) = expression {
        let path = expand(expression, environment);
        if path.contains("$(") {
            return Err(format!("failed to expand subPath expression {expression:?}: a variable is not set"));
        }
        return Ok(Some(path));
    }
    Ok(mount.sub_path.clone().filter(|path| !path.is_empty()))
}

fn volume(mount: &VolumeMount, folder: &Path, environment: &[(String, String)]) -> Result<Mount, String> {
    let host_path = match part(mount, environment)? {
        Some(part) => sub_path::resolve(folder, &part)?,
        None => folder.to_owned(),
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::Private,
    };
    let read_only = mount.read_only.unwrap_or(false);
    Ok(Mount {
        host_path,
        container_path: Path::new("/").join(&mount.mount_path),
        read_only,
        recursive_read_only: read_only && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation,
    })
}

/// Everything that a container sees of the node.
pub fn mounts(
    options: &Options,
    pod: &Pod,
    spec: &ContainerSpec,
    attempt: u32,
    folders: &Folders,
    environment: &[(String, String)],
    address: &str,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in spec.volume_mounts.iter().flatten() {
        let folder = folders.get(&mount.name).ok_or_else(|| format!("volume {} is not mounted", mount.name))?;
        mounts.push(volume(mount, folder, environment)?);
    }
    let own = pod_folder(options, pod);
    fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let file = |name: &str, contents: String| -> Result<PathBuf, String> {
        let path = own.join(name);
        fs::write(&path, contents).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    };
    let node_hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut managed = vec![
        ("/etc/resolv.conf", file("resolv.conf", names::resolv_conf(options, pod))?),
        ("/etc/hostname", file("hostname", names::hostname(options, pod) + "\n")?),
        ("/etc/hosts", file("etc-hosts", names::hosts(options, pod, address, &node_hosts))?),
    ];
    let message = message_file(options, pod, &spec.name, attempt);
    let parent = message.parent().unwrap_or(&own);
    let made = fs::create_dir_all(parent)
        .and_then(|()| fs::write(&message, ""))
        .and_then(|()| fs::set_permissions(&message, fs::Permissions::from_mode(0o666)));
    made.map_err(|error| format!("cannot write {}: {error}", message.display()))?;
    let at = spec.termination_message_path.as_deref().filter(|path| !path.is_empty());
    managed.push((at.unwrap_or(TERMINATION_LOG), message));
    for (at, host_path) in managed {
        if !mounts.iter().any(|mount| mount.container_path.as_os_str() == at) {
            mounts.push(Mount { host_path, container_path: at.into(), ..Mount::default() });
        }
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_part_of_a_volume_may_have_variables() {
        let environment = [("POD".to_owned(), "web".to_owned())];
        let mount = |expression: &str| VolumeMount { sub_path_expr: Some(expression.to_owned()), ..VolumeMount::default() };
        assert_eq!(part(&mount("$(POD)/logs"), &environment).unwrap().as_deref(), Some("web/logs"));
        assert!(part(&mount("$(OTHER)/logs"), &environment).is_err());
        let folder = tempfile::tempdir().unwrap();
        let read = VolumeMount { read_only: Some(true), recursive_read_only: Some("Enabled".into()), ..mount("$(POD)") };
        let found = volume(&read, folder.path(), &environment).unwrap();
        assert!(found.read_only && found.recursive_read_only && found.host_path.ends_with("web"));
        assert!(volume(&mount("/tmp"), folder.path(), &environment).is_err());
    }
}
