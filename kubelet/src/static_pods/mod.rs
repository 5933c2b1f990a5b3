//! Static pods: from files on the node, whatever the API says; the API shows them as mirrors.
//!
//! In: the files of a folder. Out: pods that the kubelet runs like those of the API ([`crate::pods::Pods`] has both), and
//! for each a mirror pod, owned by the node ([`mirror`]). A file that changes is another pod: its UID is the hash of
//! what it says.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/>

pub mod mirror;
mod read;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Annotation with the hash of what a static pod's file says.
pub const HASH: &str = "kubernetes.io/config.hash";
/// Annotation that says where a pod comes from.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of a mirror pod: the hash of its static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// How often the folder is looked at; files are read only where something has changed.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest file that is read.
const BYTES_MAX: u64 = 10 << 20;

/// The static pods; `None` until the folder was read.
pub type StaticPods = watch::Receiver<Option<Arc<Vec<Arc<Pod>>>>>;

/// Value of an annotation.
pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Begins to follow a folder; without one there are no static pods.
pub fn start(
    folder: Option<PathBuf>,
    node_name: String,
    changed: impl Fn() + Send + 'static,
    cancel: CancellationToken,
) -> StaticPods {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let Some(folder) = folder else {
            sender.send_replace(Some(Arc::default()));
            changed();
            // Whoever follows must not take an end for news.
            return cancel.cancelled().await;
        };
        let mut known = Files::new();
        let mut period = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                () = cancel.cancelled() => return,
            }
            let looked = folder.clone();
            let files = tokio::task::spawn_blocking(move || files(&looked)).await.map_err(io::Error::other).flatten();
            let files = match files {
                Ok(files) => files,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Files::new(),
                Err(error) => {
                    // What runs goes on.
                    tracing::warn!(folder = %folder.display(), %error, "cannot look for static pods");
                    continue;
                }
            };
            if sender.borrow().is_some() && files == known {
                continue;
            }
            let (paths, node) = (files.keys().cloned().collect::<Vec<_>>(), node_name.clone());
            let pods = tokio::task::spawn_blocking(move || pods(&paths, &node)).await.unwrap_or_default();
            known = files;
            sender.send_replace(Some(Arc::new(pods)));
            changed();
        }
    });
    receiver
}

/// Files by path, with what changes when they do.
type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Files of a folder that may be static pods: hidden ones are somebody's in the middle of writing.
fn files(folder: &Path) -> io::Result<Files> {
    let mut found = Files::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = fs::metadata(entry.path());
        let Some(metadata) = metadata.ok().filter(fs::Metadata::is_file) else { continue };
        if !entry.file_name().to_string_lossy().starts_with('.') && metadata.len() <= BYTES_MAX {
            found.insert(entry.path(), (metadata.modified()?, metadata.len()));
        }
    }
    Ok(found)
}

/// The pods of files; one that cannot be read costs only its own. Of two with one name the first counts.
fn pods(paths: &[PathBuf], node_name: &str) -> Vec<Arc<Pod>> {
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        match text.and_then(|text| read::read(&text, path, node_name)) {
            Ok(pod) => {
                let name = |pod: &Pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
                if !pods.iter().any(|known| name(known) == name(&pod)) {
                    pods.push(Arc::new(pod));
                }
            }
            Err(error) => tracing::warn!(path = %path.display(), error, "a file is no static pod"),
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(name: &str) -> String {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]}}}}")
    }

    #[test]
    fn every_file_of_the_folder_but_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", &text("a"));
        write("b", &text("b"));
        write("c.yaml", &text("a"));
        write("d.yaml", "no pod");
        write(".e.yaml", &text("e"));
        fs::create_dir(folder.path().join("f")).unwrap();
        let found = files(folder.path()).unwrap();
        assert_eq!(found.len(), 4);
        let paths: Vec<PathBuf> = found.into_keys().collect();
        let names: Vec<_> = pods(&paths, "n").iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["a-n", "b-n"]);
    }
}
