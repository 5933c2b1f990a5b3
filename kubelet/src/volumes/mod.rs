//! Volumes: folders of the node that containers see.
//!
//! In: a pod's volumes, and the ConfigMaps, Secrets and tokens that they name. Out: a folder for each, kept up
//! to date. Files of an API object change together: a new folder is written beside the old one and a link
//! (`..data`) is turned in one step, as Kubernetes does it.

mod atomic;
mod claims;
mod contents;
pub mod objects;
mod ownership;
pub mod sub_path;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Pod, Volume};
use kontiki_client::Client;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parking_lot::Mutex;

use crate::pods::{environment::Sources, model};

/// Folder of the volumes that begin empty, among a pod's.
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// Service-account tokens of the pods here, by what they are for, until most of their time is over.
#[derive(Default)]
pub struct Tokens(Mutex<HashMap<String, (String, Instant)>>);

impl Tokens {
    fn get(&self, key: &str) -> Option<String> {
        let tokens = self.0.lock();
        tokens.get(key).filter(|(_, until)| *until > Instant::now()).map(|(token, _)| token.clone())
    }

    fn keep(&self, key: String, token: &str, seconds: u64) {
        let now = Instant::now();
        let mut tokens = self.0.lock();
        tokens.retain(|_, (_, until)| *until > now);
        // As Kubernetes renews: after four fifths of the time.
        tokens.insert(key, (token.to_owned(), now + Duration::from_secs(seconds * 4 / 5)));
    }
}

/// The way to what volumes are filled with.
pub struct Access<'a> {
    /// The API.
    pub client: &'a Client,
    /// Tokens that were fetched before.
    pub tokens: &'a Tokens,
}

/// Folder of a volume by its name.
pub type Folders = BTreeMap<String, PathBuf>;

/// Makes or refreshes all volumes of a pod below `folder`. The error is the text of a `FailedMount` event.
pub async fn prepare(access: &Access<'_>, pod: &Pod, folder: &Path, sources: &Sources) -> Result<Folders, String> {
    let mut folders = Folders::new();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    // An image's files are the runtime's to show.
    for volume in volumes.iter().filter(|volume| volume.image.is_none()) {
        let made = one(access, pod, volume, folder, sources).await;
        let path = made.map_err(|error| format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name))?;
        folders.insert(volume.name.clone(), path);
    }
    Ok(folders)
}

async fn one(access: &Access<'_>, pod: &Pod, volume: &Volume, folder: &Path, sources: &Sources) -> Result<PathBuf, String> {
    if let Some(host) = &volume.host_path {
        return host_path(&host.path, host.type_.as_deref().unwrap_or_default());
    }
    let group = ownership::group(pod);
    if let Some(claim) = claims::claim_name(pod, volume) {
        let place = claims::find(access.client, pod, &claim).await?;
        let path = host_path(&place.path, &place.kind)?;
        let (target, only_on_mismatch) = (path.clone(), ownership::only_on_mismatch(pod));
        if let Some(group) = group.filter(|_| !place.read_only) {
            let given = tokio::task::spawn_blocking(move || ownership::give(&target, group, only_on_mismatch)).await;
            given.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        return Ok(path);
    }
    let plugin = |kind: &str| folder.join(format!("kubernetes.io~{kind}")).join(&volume.name);
    if let Some(empty) = &volume.empty_dir {
        let path = folder.join(EMPTY_DIR).join(&volume.name);
        let memory = empty.medium.as_deref() == Some("Memory");
        let limit = empty.size_limit.as_ref().and_then(|limit| limit.0.parse::<kontiki_api::quantity::Quantity>().ok());
        empty_dir(&path, memory, limit.map(|limit| limit.whole()), group).map_err(|error| error.to_string())?;
        return Ok(path);
    }
    let (kind, files) = contents::files(access, pod, volume, sources).await?;
    let path = plugin(kind);
    let target = path.clone();
    let written = tokio::task::spawn_blocking(move || atomic::write(&target, &files, group)).await;
    written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(path)
}

fn empty_dir(path: &Path, memory: bool, limit: Option<i64>, group: Option<u32>) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    if memory {
        let size = limit.filter(|limit| *limit > 0).map(|limit| format!(",size={limit}")).unwrap_or_default();
        let options = format!("mode=0777{size}");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    group.map_or(Ok(()), |group| ownership::give(path, group, false))
}

/// <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>
fn host_path(path: &str, kind: &str) -> Result<PathBuf, String> {
    let path_buf = PathBuf::from(path);
    let found = fs::metadata(&path_buf).ok();
    let is = |matches: fn(&fs::Metadata) -> bool| found.as_ref().is_some_and(matches);
    use std::os::unix::fs::FileTypeExt;
    let (fits, words) = match kind {
        "" => {
            if found.is_none() {
                // As other runtimes do for a source that is not there.
                fs::create_dir_all(&path_buf).map_err(|error| error.to_string())?;
            }
            (true, "")
        }
        "DirectoryOrCreate" => {
            if found.is_none() {
                fs::create_dir_all(&path_buf).map_err(|error| error.to_string())?;
            }
            (found.is_none() || is(fs::Metadata::is_dir), "directory")
        }
        "FileOrCreate" => {
            if found.is_none() {
                fs::File::create(&path_buf).map_err(|error| error.to_string())?;
            }
            (found.is_none() || is(fs::Metadata::is_file), "file")
        }
        "Directory" => (is(fs::Metadata::is_dir), "directory"),
        "File" => (is(fs::Metadata::is_file), "file"),
        "Socket" => (is(|metadata| metadata.file_type().is_socket()), "socket file"),
        "CharDevice" => (is(|metadata| metadata.file_type().is_char_device()), "character device"),
        "BlockDevice" => (is(|metadata| metadata.file_type().is_block_device()), "block device"),
        _ => (false, "known type"),
    };
    if fits { Ok(path_buf) } else { Err(format!("hostPath type check failed: {path} is not a {words}")) }
}

/// Takes a pod's volumes away. Blocks.
pub fn remove(folder: &Path) -> std::io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for at in mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new).filter(|at| at.starts_with(folder)) {
        // It may go with another one.
        let _ = umount2(at, MntFlags::MNT_DETACH);
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether a pod has volumes whose contents change with objects.
pub fn changes(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().any(|volume| {
        volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some() || volume.downward_api.is_some()
    })
}

/// Folder of a volume that begins empty.
pub fn empty_dir_folder(root: &Path, pod: &Pod, volume: &str) -> PathBuf {
    folder(root, pod).join(EMPTY_DIR).join(volume)
}

/// Folder of a pod's volumes.
pub fn folder(root: &Path, pod: &Pod) -> PathBuf {
    root.join("pods").join(model::uid(pod)).join("volumes")
}

/// Contents of a Secret by key.
pub fn secret_bytes(secret: &serde_json::Value) -> BTreeMap<String, Vec<u8>> {
    contents::bytes_of(secret, true)
}

/// Contents of a ConfigMap by key.
pub fn config_map_bytes(config_map: &serde_json::Value) -> BTreeMap<String, Vec<u8>> {
    contents::bytes_of(config_map, false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_empty_folder_is_everybodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e");
        empty_dir(&path, false, None, None).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o777);
        let path = folder.path().join("g");
        empty_dir(&path, false, None, Some(nix::unistd::getgid().as_raw())).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o2777);
    }

    #[test]
    fn host_paths_are_what_they_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        assert!(host_path(&path("none"), "Directory").unwrap_err().ends_with("is not a directory"));
        assert!(host_path(&path("f"), "FileOrCreate").unwrap().is_file());
        assert!(host_path(&path("d"), "DirectoryOrCreate").unwrap().is_dir());
        assert!(host_path(&path("any"), "").unwrap().is_dir());
        for (name, kind) in [("f", "Directory"), ("d", "File"), ("f", "Socket"), ("d", "BlockDevice"), ("f", "Nonsense")] {
            assert!(host_path(&path(name), kind).is_err(), "{name} {kind}");
        }
    }
}
