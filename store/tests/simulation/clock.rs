//! The machine's clock, as the world's thread reads it: the world's time.
//!
//! Production code asks tokio for the time, which the simulation moves. Libraries below it ask the
//! kernel (h2 forgets a stream that was reset after a while), and would bring the machine's own pace
//! into a run. The C library's function is ours here, as `getrandom` is: on the thread on which the
//! members run it tells the world's milliseconds, on all others (RocksDB's) what the kernel says.
#![allow(unsafe_code)]

use std::cell::Cell;

use nix::libc;

/// What the clock showed when the world began: an hour, so that nothing reaches back before zero.
const BEGIN_MS: u64 = 3_600_000;

thread_local! {
    static NOW_MS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread reads a time since the world began.
pub fn set(now_ms: u64) {
    NOW_MS.with(|now| now.set(Some(BEGIN_MS + now_ms)));
}

/// Stands in for the C library's function, for this whole process.
///
/// # Safety
/// As the original demands: `time` is valid for a write.
// The symbol must have this name, and the C library's contract is the one kept. Nothing safe can
// take the place of a symbol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let now = if clock == libc::CLOCK_MONOTONIC { NOW_MS.with(Cell::get) } else { None };
    let Some(now) = now else {
        // SAFETY: the arguments are the caller's, for the call that it wanted to make.
        let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return libc::c_int::try_from(answer).unwrap_or(-1);
    };
    let part = |number: u64| libc::c_long::try_from(number).unwrap_or(libc::c_long::MAX);
    let seconds = libc::time_t::try_from(now / 1000).unwrap_or(libc::time_t::MAX);
    // SAFETY: the caller promises that there is room for a time.
    unsafe { time.write(libc::timespec { tv_sec: seconds, tv_nsec: part(now % 1000 * 1_000_000) }) };
    0
}
