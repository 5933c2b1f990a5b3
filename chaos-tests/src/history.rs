//! What workloads record and checkers read: plain data, times since the scenario began.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

/// A write that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the object.
    pub name: String,
    /// Its resource version in the answer.
    pub version: u64,
    /// The number that was written into it.
    pub number: u64,
    /// When the answer came.
    pub at: Duration,
}

/// An event of a watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `ERROR`.
    pub change: String,
    /// Name of the object.
    pub name: String,
    /// Its resource version.
    pub version: u64,
    /// The object.
    pub object: Value,
}

/// A request to a Service.
#[derive(Clone, Debug)]
pub struct Request {
    /// Node that it came from.
    pub node: String,
    /// When it began.
    pub began: Duration,
    /// When it was answered or given up.
    pub ended: Duration,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A time in which requests from some nodes may fail, because a fault keeps them from the endpoints.
#[derive(Clone, Debug)]
pub struct Disturbance {
    /// The nodes.
    pub nodes: BTreeSet<String>,
    /// When it began.
    pub began: Duration,
    /// When it was over.
    pub ended: Duration,
}
