//! Who owns whom. Pure.
//!
//! Invariant: an object is among the dependents of exactly those UIDs that its owner references name.

use std::collections::{BTreeSet, HashMap};

use kontiki_api::resources::ResourceKey;

use crate::model::{Meta, OwnerReference};

/// Finalizer of an object that goes after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents are let go first.
pub const ORPHAN: &str = "orphan";

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its kind.
    pub key: ResourceKey,
    /// What matters of its metadata: names, owners, finalizers, deletion.
    pub meta: Meta,
}

impl Node {
    fn new(key: ResourceKey, meta: &Meta) -> Self {
        let meta = Meta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            deletion_timestamp: meta.deletion_timestamp,
            finalizers: meta.finalizers.clone(),
            owner_references: meta.owner_references.clone(),
            ..Meta::default()
        };
        Self { key, meta }
    }

    /// Whether it waits for its dependents to be deleted.
    pub fn waits(&self) -> bool {
        self.meta.is_deleted() && self.meta.has_finalizer(FOREGROUND)
    }

    /// Whether a reference of a dependent means this object.
    fn is_meant(&self, reference: &OwnerReference, dependent: &Meta) -> bool {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let near = !self.key.namespaced || self.meta.namespace == dependent.namespace;
        near && self.key.kind == reference.kind && self.key.group == group && self.meta.name == reference.name
    }
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is there.
    Solid,
    /// It is there and waits for its dependents to be deleted.
    Waiting,
    /// It is gone.
    Gone,
    /// The graph does not know it: the API has to say.
    Unknown,
}

/// What to do about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Some owners are gone while others are there: references to these go.
    Forget(Vec<String>),
    /// It goes; before that, where there is a circle, it blocks nobody any more.
    Delete {
        /// Whether its own dependents go first.
        foreground: bool,
        /// Whether it has to stop blocking its owners.
        unblock: bool,
    },
    /// Its deletion waits for nothing more.
    Finish,
    /// Its dependents are looked at, for it waits for them.
    Press(Vec<String>),
    /// Its dependents forget it, then it goes.
    Orphan(Vec<String>),
}

/// The graph.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Takes an object in, new or changed. Returns the UIDs that are to be looked at.
    pub fn put(&mut self, key: ResourceKey, meta: &Meta) -> Vec<String> {
        let node = Node::new(key, meta);
        let mut touched = vec![meta.uid.clone()];
        if let Some(old) = self.nodes.get(&meta.uid) {
            // Those that it does not depend on any more, or does not block, may go now.
            let owners: Vec<_> = old.meta.owner_references.iter().map(|owner| owner.uid.clone()).collect();
            self.unlink(&meta.uid, &owners);
            touched.extend(owners);
        }
        for owner in &node.meta.owner_references {
            self.dependents.entry(owner.uid.clone()).or_default().insert(meta.uid.clone());
        }
        self.nodes.insert(meta.uid.clone(), node);
        touched
    }

    fn unlink(&mut self, uid: &str, owners: &[String]) {
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }

    /// Takes an object out. Returns the UIDs that are to be looked at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut touched: Vec<_> = node.meta.owner_references.into_iter().map(|owner| owner.uid).collect();
        self.unlink(uid, &touched);
        touched.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        touched
    }

    /// Takes all objects of a kind out that is not served any more.
    pub fn remove_kind(&mut self, key: ResourceKey) {
        let gone: Vec<_> = self.nodes.iter().filter(|(_, node)| node.key == key).map(|(uid, _)| uid.clone()).collect();
        gone.iter().for_each(|uid| drop(self.remove(uid)));
    }

    /// One object.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Objects that something may be due for.
    pub fn concerned(&self) -> Vec<String> {
        let concerned =
            |node: &&Node| !node.meta.owner_references.is_empty() || (node.meta.is_deleted() && !node.meta.finalizers.is_empty());
        self.nodes.values().filter(concerned).map(|node| node.meta.uid.clone()).collect()
    }

    fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// What is known of an owner of an object.
    pub fn owner(&self, reference: &OwnerReference, dependent: &Meta) -> Owner {
        match self.nodes.get(&reference.uid) {
            Some(owner) if owner.is_meant(reference, dependent) => {
                if owner.waits() {
                    Owner::Waiting
                } else {
                    Owner::Solid
                }
            }
            _ => Owner::Unknown,
        }
    }

    /// Decides about an object. `owners` say what is known of each of its references.
    pub fn judge(&self, uid: &str, owners: &[Owner]) -> Verdict {
        let Some(node) = self.nodes.get(uid) else { return Verdict::Keep };
        let uids = |nodes: &mut dyn Iterator<Item = &Node>| nodes.map(|node| node.meta.uid.clone()).collect::<Vec<_>>();
        if node.meta.is_deleted() {
            if node.meta.has_finalizer(ORPHAN) {
                return Verdict::Orphan(uids(&mut self.dependents(uid)));
            }
            if !node.waits() {
                return Verdict::Keep;
            }
            let blocks = |dependent: &Node| {
                dependent.meta.owner_references.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
            };
            if !self.dependents(uid).any(blocks) {
                return Verdict::Finish;
            }
            return Verdict::Press(uids(&mut self.dependents(uid).filter(|dependent| !dependent.waits())));
        }
        let of = |state: Owner| node.meta.owner_references.iter().zip(owners).filter(move |(_, owner)| **owner == state);
        if node.meta.owner_references.is_empty() || of(Owner::Unknown).next().is_some() {
            return Verdict::Keep;
        }
        if of(Owner::Solid).next().is_some() {
            let others = of(Owner::Gone).chain(of(Owner::Waiting)).map(|(reference, _)| reference.uid.clone());
            let others: Vec<_> = others.collect();
            return if others.is_empty() { Verdict::Keep } else { Verdict::Forget(others) };
        }
        let waiting = of(Owner::Waiting).next().is_some();
        let mut dependents = self.dependents(uid).peekable();
        if waiting && dependents.peek().is_some() {
            // One that waits itself may wait for this one in a circle.
            return Verdict::Delete { foreground: true, unblock: dependents.any(Node::waits) };
        }
        Verdict::Delete { foreground: false, unblock: false }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kontiki_api::resources::{CONFIG_MAPS, NODES};
    use serde_json::json;

    use super::*;

    /// `name>owner>owner` with marks after the name: `-` being deleted, `f` in the foreground, `o` orphaning; after an
    /// owner `^`: blocking.
    fn graph(texts: &str) -> Graph {
        let mut graph = Graph::default();
        for text in texts.split(' ') {
            let mut parts = text.split('>');
            let (name, marks) = parts.next().unwrap().split_once(':').unwrap();
            let owners: Vec<_> = parts
                .map(|owner| {
                    let name = owner.trim_end_matches('^');
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name, "blockOwnerDeletion": owner != name})
                })
                .collect();
            let finalizers: Vec<_> = [('f', FOREGROUND), ('o', ORPHAN)]
                .iter()
                .filter(|(mark, _)| marks.contains(*mark))
                .map(|(_, name)| *name)
                .collect();
            let deleted = marks.contains('-').then_some("2026-01-01T00:00:00Z");
            let meta = json!({"name": name, "uid": name, "namespace": "n", "ownerReferences": owners, "finalizers": finalizers, "deletionTimestamp": deleted});
            graph.put(CONFIG_MAPS, &serde_json::from_value(meta).unwrap());
        }
        graph
    }

    /// What the graph does not know is gone.
    fn judge(graph: &Graph, uid: &str) -> Verdict {
        let node = graph.get(uid).unwrap();
        let gone = |owner| if owner == Owner::Unknown { Owner::Gone } else { owner };
        let owners: Vec<_> = node.meta.owner_references.iter().map(|owner| gone(graph.owner(owner, &node.meta))).collect();
        graph.judge(uid, &owners)
    }

    #[test]
    fn who_goes_and_who_stays() {
        let one = |name: &str| vec![name.to_owned()];
        let delete = |foreground, unblock| Verdict::Delete { foreground, unblock };
        let cases = [
            ("x:", Verdict::Keep),
            ("a: x:>a", Verdict::Keep),
            ("x:>a", delete(false, false)),
            ("a: x:>a>b", Verdict::Forget(one("b"))),
            ("a: b:-f x:>a>b", Verdict::Forget(one("b"))),
            ("a:-f x:>a", delete(false, false)),
            ("a:-f x:>a^ y:>x", delete(true, false)),
            ("a:-f>x^ x:>a^", delete(true, true)),
            ("a:- x:>a", Verdict::Keep),
            ("x:-", Verdict::Keep),
            ("x:-f", Verdict::Finish),
            ("x:-f y:>x", Verdict::Finish),
            ("x:-f y:>x^", Verdict::Press(one("y"))),
            ("x:-f y:-f>x^", Verdict::Press(vec![])),
            ("x:-o y:>x", Verdict::Orphan(one("y"))),
        ];
        for (texts, wanted) in cases {
            assert_eq!(judge(&graph(texts), "x"), wanted, "{texts}");
        }
    }

    #[test]
    fn what_changes_is_looked_at_with_what_waits_for_it() {
        let mut graph = graph("a:-f x:>a^ y:>x");
        assert_eq!(graph.remove("x"), ["a", "y"]);
        assert_eq!(judge(&graph, "a"), Verdict::Finish);
        let meta: Meta = serde_json::from_value(json!({"name": "y", "uid": "y", "namespace": "n"})).unwrap();
        assert_eq!(graph.put(CONFIG_MAPS, &meta), ["y", "x"]);
        assert_eq!(judge(&graph, "y"), Verdict::Keep);
        graph.remove_kind(CONFIG_MAPS);
        assert!(graph.concerned().is_empty() && graph.get("y").is_none());
    }

    #[test]
    fn owners_elsewhere_are_not_meant() {
        let mut graph = graph("a: x:>a");
        let reference = graph.get("x").unwrap().meta.owner_references[0].clone();
        let far = Meta { namespace: "m".into(), ..Meta::default() };
        assert_eq!(graph.owner(&reference, &far), Owner::Unknown);
        graph.put(NODES, &serde_json::from_value(json!({"name": "a", "uid": "node"})).unwrap());
        let node = OwnerReference { kind: "Node".into(), uid: "node".into(), ..reference };
        assert_eq!(graph.owner(&node, &far), Owner::Solid, "what has no namespace may own everywhere");
    }
}
