//! What is remembered between decisions: per shape of pods, what each node said last.

use std::{collections::HashMap, sync::Arc};

use crate::{
    cluster::{Cluster, NodeInfo},
    model::{Pod, pod::Shape as Key},
    plugins::local::{Local, Subject},
};

/// Shapes that are remembered; the one that was not needed for longest goes first.
const SHAPES_MAX: usize = 32;

/// Shapes.
#[derive(Default)]
pub struct Shapes {
    known: HashMap<Key, Shape>,
    clock: u64,
}

/// One shape.
pub struct Shape {
    /// A pod of the shape amid its surroundings.
    pub subject: Subject,
    surroundings: u64,
    used: u64,
    locals: Vec<Local>,
}

impl Shapes {
    /// What is known of a pod's shape.
    pub fn of(&mut self, pod: &Arc<Pod>, cluster: &Cluster) -> &mut Shape {
        self.clock += 1;
        let stale = self.known.get(&pod.shape).is_none_or(|shape| shape.surroundings != cluster.surroundings());
        if stale {
            if self.known.len() >= SHAPES_MAX
                && let Some(oldest) = self.known.iter().min_by_key(|(_, shape)| shape.used).map(|(key, _)| *key)
            {
                self.known.remove(&oldest);
            }
            self.known.remove(&pod.shape);
        }
        let shape = self.known.entry(pod.shape).or_insert_with(|| Shape {
            subject: Subject::new(Arc::clone(pod), cluster),
            surroundings: cluster.surroundings(),
            used: 0,
            locals: Vec::new(),
        });
        shape.used = self.clock;
        if shape.locals.len() < cluster.slots() {
            shape.locals.resize_with(cluster.slots(), Local::default);
        }
        shape
    }
}

impl Shape {
    /// Looks at a node again if it has changed.
    pub fn refresh(&mut self, slot: usize, info: &NodeInfo, cluster: &Cluster) {
        if self.locals[slot].generation != info.generation {
            self.locals[slot] = Local::of(&self.subject, info, cluster);
        }
    }

    /// What a node said last.
    pub fn local(&self, slot: usize) -> &Local {
        &self.locals[slot]
    }
}
