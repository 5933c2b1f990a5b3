//! Images from a file: an OCI layout, or what `docker save` writes, as one tar archive.
//!
//! In: the archive. Out: records in the store, under the names that the archive gives or the caller.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    ImageConfig, ImageRecord, ImageStore, name,
    pull::{known_size, unpack_file},
};

/// Entries that an archive may have.
const ENTRIES_MAX: usize = 100_000;

/// Imports every image of an archive; returns them.
pub fn import(store: &ImageStore, archive: impl Read) -> io::Result<Vec<Arc<ImageRecord>>> {
    let folder = store.download();
    let result = extract(archive, &folder).and_then(|()| read_images(store, &folder));
    fs::remove_dir_all(&folder)?;
    result
}

/// Plain files alone, so that nothing in an archive can lead elsewhere.
fn extract(archive: impl Read, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    for (number, entry) in archive.entries()?.enumerate() {
        if number > ENTRIES_MAX {
            return Err(invalid("the archive has too many entries".to_owned()));
        }
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_symlink() && entry.link_name()?.is_some_and(|to| !to.is_absolute()) {
            fs::create_dir_all(folder)?;
            entry.unpack_in(folder)?;
        }
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn read_json(path: &Path) -> io::Result<Value> {
    let bytes = fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn read_images(store: &ImageStore, folder: &Path) -> io::Result<Vec<Arc<ImageRecord>>> {
    if folder.join("manifest.json").exists() {
        let manifest = read_json(&folder.join("manifest.json"))?;
        return manifest.as_array().into_iter().flatten().map(|image| docker_image(store, folder, image)).collect();
    }
    if folder.join("index.json").exists() {
        let index = read_json(&folder.join("index.json"))?;
        let images = index["manifests"].as_array().into_iter().flatten();
        return images.map(|image| layout_image(store, folder, image)).collect();
    }
    Err(invalid("neither an OCI layout (index.json) nor a docker archive (manifest.json)".to_owned()))
}

/// One entry of a docker archive's manifest.json.
fn docker_image(store: &ImageStore, folder: &Path, image: &Value) -> io::Result<Arc<ImageRecord>> {
    let path = |value: &Value| -> io::Result<PathBuf> {
        let name = value.as_str().ok_or_else(|| invalid("manifest.json names no file".to_owned()))?;
        inside(folder, name)
    };
    let config = fs::read(path(&image["Config"])?)?;
    let tags = image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let files = image["Layers"].as_array().into_iter().flatten().map(path).collect::<io::Result<Vec<_>>>()?;
    add(store, &config, tags.map(str::to_owned).collect(), None, &files)
}

/// One manifest that an OCI layout's index.json names.
fn layout_image(store: &ImageStore, folder: &Path, entry: &Value) -> io::Result<Arc<ImageRecord>> {
    let blob = |descriptor: &Value| -> io::Result<PathBuf> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        inside(folder, &format!("blobs/{}", digest.replace(':', "/")))
    };
    let manifest = read_json(&blob(entry)?)?;
    let annotations = &entry["annotations"];
    let named = annotations["io.containerd.image.name"].as_str().or(annotations["org.opencontainers.image.ref.name"].as_str());
    let config = fs::read(blob(&manifest["config"])?)?;
    let files = manifest["layers"].as_array().into_iter().flatten().map(blob).collect::<io::Result<Vec<_>>>()?;
    let digest = entry["digest"].as_str().map(str::to_owned);
    add(store, &config, named.map(str::to_owned).into_iter().collect(), digest, &files)
}

fn inside(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(name).canonicalize().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    if path.starts_with(folder.canonicalize()?) { Ok(path) } else { Err(invalid(format!("{name} leads out of the archive"))) }
}

fn add(
    store: &ImageStore,
    config: &[u8],
    names: Vec<String>,
    digest: Option<String>,
    files: &[PathBuf],
) -> io::Result<Arc<ImageRecord>> {
    let id = format!("sha256:{}", hex::encode(Sha256::digest(config)));
    let mut layers = Vec::new();
    let mut sizes = BTreeMap::new();
    for file in files {
        let digest = format!("sha256:{}", digest_of(file)?);
        let target = store.layer(&digest);
        let size = match known_size(&target) {
            Some(size) => size,
            None => {
                // A copy, because the same file may be a layer twice.
                let copy = store.download();
                fs::copy(file, &copy)?;
                unpack_file(&copy, &store.download(), &target)?
            }
        };
        sizes.insert(digest.clone(), size);
        layers.push(digest);
    }
    let references: Vec<_> = names.iter().filter_map(|given| name::parse(given).ok()).collect();
    let digest = digest.unwrap_or_else(|| id.clone());
    store.insert(ImageRecord {
        tags: references.iter().filter_map(name::tagged).collect(),
        digests: references.iter().map(|reference| format!("{}@{digest}", name::repository(reference))).collect(),
        size: sizes.values().sum(),
        config: ImageConfig::parse(config)?,
        id,
        layers,
    })
}

fn digest_of(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut fs::File::open(file)?, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, contents: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, name, contents).unwrap();
    }

    #[test]
    fn a_docker_archive_becomes_an_image() {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, "hello", b"world");
        let layer = layer.into_inner().unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "c.json", br#"{"config":{"Cmd":["/hello"]}}"#);
        append(&mut archive, "l.tar", &layer);
        append(&mut archive, "manifest.json", br#"[{"Config":"c.json","RepoTags":["hello:1"],"Layers":["l.tar"]}]"#);
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let images = import(&store, &archive.into_inner().unwrap()[..]).unwrap();
        assert_eq!(images[0].config.cmd, ["/hello"]);
        let found = store.find("hello:1").unwrap();
        assert_eq!(fs::read_to_string(store.layer(&found.layers[0]).join("hello")).unwrap(), "world");
    }

    #[test]
    fn anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "other", b"x");
        assert!(import(&store, &archive.into_inner().unwrap()[..]).is_err());
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#);
        assert!(import(&store, &archive.into_inner().unwrap()[..]).is_err());
    }
}
