//! Volumes: folders of the node that containers see.
//!
//! In: a pod's volumes, and the ConfigMaps, Secrets and tokens that they name. Out: a folder for each, kept up
//! to date. Files of an API object change together: a new folder is written beside the old one and a link
//! (`..data`) is turned in one step, as Kubernetes does it.

mod atomic;
mod contents;

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
    for volume in volumes {
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
    let plugin = |kind: &str| folder.join(format!("kubernetes.io~{kind}")).join(&volume.name);
    if let Some(empty) = &volume.empty_dir {
        let path = plugin("empty-dir");
        let memory = empty.medium.as_deref() == Some("Memory");
        let limit = empty.size_limit.as_ref().and_then(|limit| limit.0.parse::<kontiki_api::quantity::Quantity>().ok());
        empty_dir(&path, memory, limit.map(|limit| limit.whole())).map_err(|error| error.to_string())?;
        return Ok(path);
    }
    let (kind, files) = contents::files(access, pod, volume, sources).await?;
    let path = plugin(kind);
    let group = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|security| security.fs_group);
    let (target, group) = (path.clone(), group.and_then(|group| u32::try_from(group).ok()));
    let written = tokio::task::spawn_blocking(move || atomic::write(&target, &files, group)).await;
    written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(path)
}

fn empty_dir(path: &Path, memory: bool, limit: Option<i64>) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    if memory {
        let size = limit.filter(|limit| *limit > 0).map(|limit| format!(",size={limit}")).unwrap_or_default();
        let options = format!("mode=1777{size}");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o1777))
}

/// <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>
fn host_path(path: &str, kind: &str) -> Result<PathBuf, String> {
    let path_buf = PathBuf::from(path);
    let found = fs::metadata(&path_buf).ok();
    let is = |matches: fn(&fs::Metadata) -> bool| found.as_ref().is_some_and(matches);
    use std::os::unix::fs::FileTypeExt;
    let fits = match kind {
        "" => true,
        "DirectoryOrCreate" => {
            if found.is_none() {
                fs::create_dir_all(&path_buf).map_err(|error| error.to_string())?;
            }
            found.is_none() || is(fs::Metadata::is_dir)
        }
        "FileOrCreate" => {
            if found.is_none() {
                fs::File::create(&path_buf).map_err(|error| error.to_string())?;
            }
            found.is_none() || is(fs::Metadata::is_file)
        }
        "Directory" => is(fs::Metadata::is_dir),
        "File" => is(fs::Metadata::is_file),
        "Socket" => is(|metadata| metadata.file_type().is_socket()),
        "CharDevice" => is(|metadata| metadata.file_type().is_char_device()),
        "BlockDevice" => is(|metadata| metadata.file_type().is_block_device()),
        _ => false,
    };
    let words = match kind {
        "Directory" | "DirectoryOrCreate" => "directory",
        "File" | "FileOrCreate" => "file",
        "Socket" => "socket",
        "CharDevice" => "character device",
        _ => "block device",
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
