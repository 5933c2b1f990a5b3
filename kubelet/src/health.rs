//! What the node says of itself, for whoever must know: the node's status, and admission of pods.
//!
//! One writer each: the eviction manager for pressure, the shutdown for its flag. Cheap to clone.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

/// What a node can be short of, under the names of its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Memory.
    Memory,
    /// Bytes or inodes of a file system.
    Disk,
    /// Numbers for processes.
    Pid,
}

impl Pressure {
    /// Name of the condition.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// How the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The machine goes down.
    pub shutting_down: bool,
    /// What it is short of.
    pub pressures: BTreeSet<Pressure>,
}

/// How the node is, followed.
#[derive(Clone, Debug)]
pub struct NodeHealth {
    now: watch::Sender<Health>,
    /// What the API server was told last.
    told: watch::Sender<Health>,
}

impl Default for NodeHealth {
    fn default() -> Self {
        Self { now: watch::Sender::new(Health::default()), told: watch::Sender::new(Health::default()) }
    }
}

impl NodeHealth {
    /// As it is.
    pub fn now(&self) -> Health {
        self.now.borrow().clone()
    }

    /// Follows it.
    pub fn follow(&self) -> watch::Receiver<Health> {
        self.now.subscribe()
    }

    /// The machine goes down.
    pub fn shut_down(&self) {
        self.now.send_modify(|health| health.shutting_down = true);
    }

    /// What the node is short of now.
    pub fn set_pressures(&self, pressures: BTreeSet<Pressure>) {
        self.now.send_if_modified(|health| {
            let changed = health.pressures != pressures;
            health.pressures = pressures;
            changed
        });
    }

    /// The API server knows it.
    pub fn was_told(&self, health: Health) {
        self.told.send_replace(health);
    }

    /// Waits until the API server knows how the node is, for so long.
    pub async fn until_told(&self, deadline: Duration) {
        let mut told = self.told.subscribe();
        let knows = told.wait_for(|told| *told == *self.now.borrow());
        // Without an API server there is nobody to tell.
        let _ = tokio::time::timeout(deadline, knows).await;
    }
}
