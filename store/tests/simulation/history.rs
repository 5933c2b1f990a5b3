//! What clients asked and what they were told, in the order in which it happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::trace::Trace;

/// A key; there are few, so that clients meet.
pub type Key = u32;
/// A value; each is written once.
pub type Value = u64;

/// A key with its value and where it stands in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What was written.
    pub value: Value,
    /// The revision that made the key.
    pub created: i64,
    /// The revision that wrote the value.
    pub modified: i64,
    /// How often the key was written since it was made.
    pub version: i64,
}

/// One step of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a key.
    Put(Key, Value),
    /// Removes a key.
    Delete(Key),
    /// Reads a key.
    Get(Key),
}

/// A request: conditions on the revision that last wrote a key (0: it is not there), and what is done
/// if all hold, or else. A single put, read or removal is one without conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Whether it goes out as a transaction.
    pub transaction: bool,
    /// Conditions.
    pub compares: Vec<(Key, i64)>,
    /// Steps if they hold.
    pub success: Vec<Step>,
    /// Steps if they do not.
    pub failure: Vec<Step>,
}

/// What a step led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Put,
    /// So many keys were removed.
    Deleted(i64),
    /// It was read.
    Got(Option<Entry>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The store's revision.
    pub revision: i64,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// One outcome for each step.
    pub outcomes: Vec<Outcome>,
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What it asked.
    pub call: Call,
    /// When it asked.
    pub begin: u64,
    /// When it was answered, and what. Without, it may have happened at any time after it began, or not.
    pub end: Option<(u64, Answer)>,
}

/// All requests of a run.
pub struct History {
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    clock: u64,
    operations: BTreeMap<u64, Operation>,
    last_revision: i64,
}

impl History {
    /// An empty one, which goes into the trace as well.
    pub fn new(trace: Arc<Trace>) -> Self {
        Self { trace, inner: Mutex::default() }
    }

    /// A client asks; the number under which it is told of the answer.
    pub fn begin(&self, client: &str, call: Call) -> u64 {
        let inner = &mut *self.inner.lock();
        inner.clock += 1;
        let begin = inner.clock;
        self.trace.note(format_args!("{client} asks {begin}: {call:?}"));
        inner.operations.insert(begin, Operation { call, begin, end: None });
        begin
    }

    /// It was answered.
    pub fn answered(&self, number: u64, answer: Answer) {
        let inner = &mut *self.inner.lock();
        inner.clock += 1;
        self.trace.note(format_args!("answer to {number}: {answer:?}"));
        inner.last_revision = inner.last_revision.max(answer.revision);
        if let Some(operation) = inner.operations.get_mut(&number) {
            operation.end = Some((inner.clock, answer));
        }
    }

    /// Whether it had an effect is not known.
    pub fn unknown(&self, number: u64, error: &dyn std::error::Error) {
        self.trace.note(format_args!("no answer to {number}: {error}"));
    }

    /// It certainly had no effect.
    pub fn refused(&self, number: u64) {
        self.trace.note(format_args!("refusal of {number}"));
        self.inner.lock().operations.remove(&number);
    }

    /// The highest revision that anyone was told of.
    pub fn last_revision(&self) -> i64 {
        self.inner.lock().last_revision
    }

    /// All requests, in the order in which they began.
    pub fn operations(&self) -> Vec<Operation> {
        self.inner.lock().operations.values().cloned().collect()
    }
}
