//! What is on the node: one record for each image, by its identifier.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name;

/// What an image says about its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// Command that the arguments follow.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub cmd: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// User and group, by name or number.
    pub user: String,
    /// Signal that ends a container, such as `SIGQUIT`.
    pub stop_signal: String,
}

impl ImageConfig {
    /// Reads the `config` part of an OCI image configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(bytes)?;
        let config = &value["config"];
        let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| -> Vec<String> {
            config[name].as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Ok(Self {
            env: list("Env"),
            entrypoint: list("Entrypoint"),
            cmd: list("Cmd"),
            working_dir: text("WorkingDir"),
            user: text("User"),
            stop_signal: text("StopSignal"),
        })
    }
}

/// An image that is on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// `sha256:...` of its configuration.
    pub id: String,
    /// Completed names with tags.
    pub tags: Vec<String>,
    /// Completed names with the manifest's digest.
    pub digests: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// Digests of its layers, lowest first.
    pub layers: Vec<String>,
    /// What it says about containers.
    pub config: ImageConfig,
}

/// The images of one node. Another process may add to the same folder (`kontiki image import`).
pub struct ImageStore {
    root: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    images: BTreeMap<String, Arc<ImageRecord>>,
    /// When the folder of records last changed, as of the last look.
    as_of: Option<SystemTime>,
}

impl ImageStore {
    /// Opens the folder, or makes it.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["images", "layers", "downloads"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let store = Self { root: root.to_owned(), known: Mutex::default() };
        store.refresh(&mut store.known.lock())?;
        Ok(store)
    }

    /// Throws downloads away that were not finished; for the one process that pulls, at its start.
    pub fn remove_unfinished(&self) -> io::Result<()> {
        let downloads = self.root.join("downloads");
        fs::remove_dir_all(&downloads)?;
        fs::create_dir_all(&downloads)
    }

    /// Looks for records of another process, if there can be any.
    fn refresh(&self, known: &mut Known) -> io::Result<()> {
        let folder = self.root.join("images");
        let changed = fs::metadata(&folder)?.modified()?;
        if known.as_of == Some(changed) {
            return Ok(());
        }
        known.images.clear();
        for entry in fs::read_dir(&folder)?.flatten() {
            let record: ImageRecord = serde_json::from_slice(&fs::read(entry.path())?)?;
            known.images.insert(record.id.clone(), Arc::new(record));
        }
        known.as_of = Some(changed);
        Ok(())
    }

    fn up_to_date(&self) -> parking_lot::MutexGuard<'_, Known> {
        let mut known = self.known.lock();
        if let Err(error) = self.refresh(&mut known) {
            tracing::warn!(%error, "cannot read the records of images");
        }
        known
    }

    /// Folder in which a layer's files lie once it is there.
    pub fn layer(&self, digest: &str) -> PathBuf {
        self.root.join("layers").join(digest.replace(':', "-"))
    }

    /// A place for something that is not whole yet; nobody else uses the same name.
    pub fn download(&self) -> PathBuf {
        self.root.join("downloads").join(uuid::Uuid::new_v4().to_string())
    }

    /// The folder of everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image of that identifier or name.
    pub fn find(&self, image: &str) -> Option<Arc<ImageRecord>> {
        let known = self.up_to_date();
        let images = &known.images;
        if let Some(record) = images.get(image) {
            return Some(Arc::clone(record));
        }
        let reference = name::parse(image).ok()?;
        let digest = reference.digest().map(|digest| format!("{}@{digest}", name::repository(&reference)));
        let tag = name::tagged(&reference);
        let named = |record: &&Arc<ImageRecord>| {
            digest.as_ref().is_some_and(|digest| record.digests.contains(digest))
                || tag.as_ref().is_some_and(|tag| record.tags.contains(tag))
        };
        images.values().find(named).cloned()
    }

    /// All images.
    pub fn list(&self) -> Vec<Arc<ImageRecord>> {
        self.up_to_date().images.values().cloned().collect()
    }

    /// Adds an image whose layers are there; its tags leave the images that had them.
    pub fn insert(&self, mut record: ImageRecord) -> io::Result<Arc<ImageRecord>> {
        // Whoever reads the record after a power cut must find the layers.
        nix::unistd::syncfs(fs::File::open(&self.root)?)?;
        let mut known = self.up_to_date();
        let images = &mut known.images;
        if let Some(before) = images.get(&record.id) {
            merge(&mut record.tags, &before.tags);
            merge(&mut record.digests, &before.digests);
        }
        let robbed: Vec<ImageRecord> = images
            .values()
            .filter(|other| other.id != record.id && other.tags.iter().any(|tag| record.tags.contains(tag)))
            .map(|other| {
                let mut other = ImageRecord::clone(other);
                other.tags.retain(|tag| !record.tags.contains(tag));
                other
            })
            .collect();
        for changed in robbed.into_iter().chain([record.clone()]) {
            self.write(&changed)?;
            images.insert(changed.id.clone(), Arc::new(changed));
        }
        Ok(Arc::new(record))
    }

    /// Removes an image, and the layers that no other image has.
    pub fn remove(&self, image: &str) -> io::Result<()> {
        let Some(record) = self.find(image) else { return Ok(()) };
        let mut known = self.up_to_date();
        let images = &mut known.images;
        images.remove(&record.id);
        remove_if_there(fs::remove_file(self.path(&record.id)))?;
        for layer in &record.layers {
            if !images.values().any(|other| other.layers.contains(layer)) {
                remove_if_there(fs::remove_dir_all(self.layer(layer)))?;
            }
        }
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.replace(':', "-")))
    }

    fn write(&self, record: &ImageRecord) -> io::Result<()> {
        let temporary = self.download();
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(&record.id))
    }
}

fn merge(into: &mut Vec<String>, from: &[String]) {
    for item in from {
        if !into.contains(item) {
            into.push(item.clone());
        }
    }
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(id: &str, tag: &str, layers: &[&str]) -> ImageRecord {
        ImageRecord {
            id: id.into(),
            tags: vec![tag.into()],
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            ..ImageRecord::default()
        }
    }

    #[test]
    fn images_are_found_by_any_name_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        store.insert(record("sha256:a", "docker.io/library/nginx:1.21", &["sha256:l1"])).unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        for name in ["nginx:1.21", "docker.io/library/nginx:1.21", "sha256:a"] {
            assert!(store.find(name).is_some(), "{name}");
        }
        assert!(store.find("nginx").is_none());
    }

    #[test]
    fn a_tag_belongs_to_one_image_and_shared_layers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        for layer in ["sha256:l1", "sha256:l2", "sha256:l3"] {
            fs::create_dir_all(store.layer(layer)).unwrap();
        }
        store.insert(record("sha256:a", "docker.io/library/x:1", &["sha256:l1", "sha256:l2"])).unwrap();
        store.insert(record("sha256:b", "docker.io/library/x:1", &["sha256:l1", "sha256:l3"])).unwrap();
        assert_eq!(store.find("x:1").unwrap().id, "sha256:b");
        assert!(store.find("sha256:a").unwrap().tags.is_empty());
        store.remove("sha256:a").unwrap();
        let there = ["sha256:l1", "sha256:l2", "sha256:l3"].map(|layer| store.layer(layer).exists());
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn the_configuration_is_read() {
        let text = br#"{"config":{"Env":["A=b"],"Cmd":["x"],"User":"nginx","StopSignal":"SIGQUIT","Entrypoint":null}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!((config.env.len(), config.cmd.len(), config.entrypoint.len()), (1, 1, 0));
        assert_eq!((config.user.as_str(), config.stop_signal.as_str()), ("nginx", "SIGQUIT"));
    }
}
