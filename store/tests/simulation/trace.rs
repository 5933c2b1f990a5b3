//! What happened, line by line, and when: the same for the same seed, byte for byte.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The clock of the world outside the members, and the record of everything.
#[derive(Default)]
pub struct Trace {
    now_ms: AtomicU64,
    text: Mutex<String>,
}

impl Trace {
    /// Milliseconds since the world began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    /// A millisecond later.
    pub fn tick(&self) -> u64 {
        self.now_ms.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Adds a line.
    pub fn note(&self, line: std::fmt::Arguments<'_>) {
        let now = self.now_ms();
        // A string takes everything.
        let _ = writeln!(self.text.lock(), "{now:>6} {line}");
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.text.lock().clone()
    }
}
