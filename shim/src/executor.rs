//! The last steps in a container's process: find the program, put signals right, bind it to its filter, become it.
//!
//! In: the OCI process. Out: never back on success; on failure words that a user of other runtimes knows.

use std::path::{Path, PathBuf};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorValidationError, default},
};
use nix::{
    errno::Errno,
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    unistd::{AccessFlags, access},
};

use crate::seccomp::Filter;

/// Runs the program as it stands in the specification.
#[derive(Clone)]
pub struct ShimExecutor {
    /// System calls that it may make.
    pub filter: Option<Filter>,
}

impl Executor for ShimExecutor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        inherit_default_signals();
        if let Some(filter) = &self.filter {
            let refused = |errno| ExecutorError::Execution(format!("cannot install the seccomp filter: {errno}").into());
            filter.install().map_err(refused)?;
        }
        default::get_executor().exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let arguments = process.and_then(|process| process.args().as_ref());
        let program = arguments.and_then(|arguments| arguments.first()).map(String::as_str).unwrap_or_default();
        let environment = process.and_then(|process| process.env().as_ref());
        let path = environment
            .and_then(|environment| environment.iter().find_map(|entry| entry.strip_prefix("PATH=")))
            .unwrap_or_default();
        find(program, path).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }
}

/// Where the program is, or why it cannot be run.
fn find(program: &str, path: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return runnable(Path::new(program)).map_err(|errno| match errno {
            Errno::ENOENT => {
                format!("exec: \"{program}\": stat {program}: no such file or directory")
            }
            errno => format!("exec: \"{program}\": {}", errno.desc().to_lowercase()),
        });
    }
    let not_found = || format!("exec: \"{program}\": executable file not found in $PATH");
    if program.is_empty() {
        return Err(not_found());
    }
    path.split(':').find_map(|folder| runnable(&Path::new(folder).join(program)).ok()).ok_or_else(not_found)
}

fn runnable(path: &Path) -> Result<PathBuf, Errno> {
    let metadata = std::fs::metadata(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if metadata.is_dir() {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)?;
    Ok(path.to_owned())
}

/// The shim blocks SIGCHLD (it reads a descriptor instead), Rust ignores SIGPIPE, and what a shell starts in the
/// background ignores SIGINT and SIGQUIT. All would be inherited, and a shell cannot trap what was ignored before it.
#[allow(unsafe_code)]
fn inherit_default_signals() {
    // No call can fail with these arguments.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    for caught in Signal::iterator().filter(|caught| !matches!(caught, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: sets the default disposition, no handler of ours runs; the process has one thread and is about to
        // replace itself. The standard library has no safe call for it.
        let _ = unsafe { signal(caught, SigHandler::SigDfl) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_a_program_cannot_run() {
        let cases = [
            ("sh", "/usr/bin:/bin", None),
            ("no-such-program", "/usr/bin", Some("exec: \"no-such-program\": executable file not found in $PATH")),
            ("/no/such", "", Some("exec: \"/no/such\": stat /no/such: no such file or directory")),
            ("/usr", "", Some("exec: \"/usr\": permission denied")),
            ("", "/bin", Some("exec: \"\": executable file not found in $PATH")),
        ];
        for (program, path, error) in cases {
            assert_eq!(find(program, path).err().as_deref(), error, "{program}");
        }
    }
}
