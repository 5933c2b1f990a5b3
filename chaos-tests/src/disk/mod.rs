//! A disk that can fail: a FUSE file system in this process's memory that forgets what was not synced.
//!
//! In: a folder to lie at. Out: a file system that on a power cut loses each file's and folder's unsynced changes (some
//! of them, the last one torn), that stalls, that is full. `kill -9` proves no fsync, for the page cache survives it;
//! this does. Invariant: what a successful fsync covered is there after any power cut.
//! `tree` decides and knows neither kernel nor clock; `mount` answers the kernel.

mod file;
mod mount;
mod tree;

pub use mount::{Disk, lacking};
