//! The first process of a pod whose containers share their processes: it reaps what they leave.
//!
//! In: nothing. Out: a PID namespace that lives as long as the shim does.

use std::fs::File;

use nix::{
    errno::Errno,
    sched::{CloneFlags, clone},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, dup2_stdout},
};

/// What the process needs of a stack.
const STACK_BYTES: usize = 256 * 1024;

/// Starts it; the number is as this process sees it.
#[allow(unsafe_code)]
pub fn start() -> Result<Pid, Errno> {
    let mut stack = vec![0; STACK_BYTES];
    // SAFETY: without CLONE_VM the child has a copy of this process's memory and of the stack, so neither outlives
    // its owner; this process has one thread, so no lock is held that nobody could release; the callback never
    // returns into code of the parent. Nothing safe makes a process in a new PID namespace without a second fork.
    unsafe { clone(Box::new(wait), &mut stack, CloneFlags::CLONE_NEWPID, Some(Signal::SIGCHLD as i32)) }
}

/// Reaps for ever; ends with its parent.
fn wait() -> isize {
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        return 1;
    }
    // The kubelet waits for a word of the shim on this pipe, not of this process.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(&null);
    }
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    if sigprocmask(SigmaskHow::SIG_BLOCK, Some(&children), None).is_err() {
        return 1;
    }
    loop {
        // One signal may stand for many; what counts is what waitpid says.
        if children.wait().is_err() {
            return 1;
        }
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
    }
}
