//! Randomness from the seed alone.
//!
//! Everything in a process that asks the kernel for random bytes (hash maps, `rand`, tokio's choice
//! between branches that are ready) asks the C library's `getrandom`. Here that function is ours, so
//! production code needs no seam for it. Each thread has a stream of its own: RocksDB's threads may
//! take from theirs whenever they like.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::rngs::StdRng;

static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Begins with a seed: before anything random happens in this process.
pub fn begin(seed: u64) {
    SEED.store(seed, Ordering::SeqCst);
}

/// A generator for one purpose, the same for the same seed.
pub fn generator(seed: u64, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(mix(seed, purpose))
}

/// A number that follows from two others.
#[must_use]
pub fn mix(one: u64, other: u64) -> u64 {
    let mut mixed = one ^ other.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn next() -> u64 {
    STATE.with(|state| {
        let now = state.get().unwrap_or_else(|| SEED.load(Ordering::SeqCst)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(Some(now));
        mix(now, 1)
    })
}

/// Stands in for the C library's function, for this whole process.
///
/// # Safety
/// As the original demands: `buffer` is valid for writes of `length` bytes.
// The symbol must have this name, and the C library's contract is the one kept: it fills all bytes
// and returns their number. Nothing safe can take the place of a symbol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: the caller promises that the bytes are there and that nobody else touches them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
