//! What each node's pods refer to, kept up with one change at a time.
//!
//! A pod counts once it is bound to a node; it leads from its node to its account, secrets, config maps and claims; a
//! claim leads on to its volume, and a volume to the secrets that mounting it needs.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::references;

/// Kinds of objects in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pod.
    Pod,
    /// Secret.
    Secret,
    /// ConfigMap.
    ConfigMap,
    /// ServiceAccount.
    ServiceAccount,
    /// PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// PersistentVolume.
    PersistentVolume,
    /// ResourceClaim.
    ResourceClaim,
    /// VolumeAttachment.
    VolumeAttachment,
    /// ResourceSlice.
    ResourceSlice,
}

/// An object: kind, namespace (empty where there is none), name.
pub(super) type Vertex = (Kind, String, String);

/// An object that leads to a node, and what it refers to.
#[derive(Debug)]
struct Source {
    node: String,
    targets: Vec<Vertex>,
}

#[derive(Debug, Default)]
struct Volume {
    claim: (String, String),
    secrets: Vec<(String, String)>,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    /// Pods, attachments and slices.
    sources: HashMap<Vertex, Source>,
    /// How many sources of a node lead to an object.
    reached: HashMap<String, HashMap<Vertex, u32>>,
    volumes: HashMap<String, Volume>,
    /// Volumes that need a secret.
    by_secret: HashMap<(String, String), HashSet<String>>,
}

impl Graph {
    /// Takes in one change of a pod, volume, attachment or slice; `None` means deleted.
    pub fn set(&mut self, plural: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let kind = match plural {
            "pods" => Kind::Pod,
            "volumeattachments" => Kind::VolumeAttachment,
            "resourceslices" => Kind::ResourceSlice,
            "persistentvolumes" => return self.set_volume(name, object),
            _ => return,
        };
        let vertex: Vertex = (kind, namespace.to_owned(), name.to_owned());
        self.remove(&vertex);
        let Some(object) = object else { return };
        let node = references::text(object, "/spec/nodeName");
        if node.is_empty() {
            return;
        }
        let mut targets = vec![vertex.clone()];
        if kind == Kind::Pod {
            targets.extend(references::of_pod(namespace, object));
        }
        let reached = self.reached.entry(node.to_owned()).or_default();
        for target in &targets {
            *reached.entry(target.clone()).or_default() += 1;
        }
        self.sources.insert(vertex, Source { node: node.to_owned(), targets });
    }

    fn remove(&mut self, vertex: &Vertex) {
        let Some(source) = self.sources.remove(vertex) else { return };
        let Some(reached) = self.reached.get_mut(&source.node) else { return };
        for target in &source.targets {
            if let Some(count) = reached.get_mut(target) {
                *count -= 1;
                if *count == 0 {
                    reached.remove(target);
                }
            }
        }
        if reached.is_empty() {
            self.reached.remove(&source.node);
        }
    }

    fn set_volume(&mut self, name: &str, object: Option<&Value>) {
        if let Some(old) = self.volumes.remove(name) {
            for secret in old.secrets {
                if let Some(volumes) = self.by_secret.get_mut(&secret) {
                    volumes.remove(name);
                    if volumes.is_empty() {
                        self.by_secret.remove(&secret);
                    }
                }
            }
        }
        let Some((claim, secrets)) = object.and_then(references::of_volume) else { return };
        for secret in &secrets {
            self.by_secret.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        self.volumes.insert(name.to_owned(), Volume { claim, secrets });
    }

    /// Whether a node has to do with an object.
    #[must_use]
    pub fn leads_to(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(reached) = self.reached.get(node) else { return false };
        if reached.contains_key(&(kind, namespace.to_owned(), name.to_owned())) {
            return true;
        }
        let mounts = |volume: &str| {
            self.volumes.get(volume).is_some_and(|volume| {
                let (namespace, name) = volume.claim.clone();
                reached.contains_key(&(Kind::PersistentVolumeClaim, namespace, name))
            })
        };
        match kind {
            Kind::PersistentVolume => mounts(name),
            Kind::Secret => {
                let volumes = self.by_secret.get(&(namespace.to_owned(), name.to_owned()));
                volumes.into_iter().flatten().any(|volume| mounts(volume))
            }
            _ => false,
        }
    }
}
