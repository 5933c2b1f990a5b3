//! Commands in a running container.
//!
//! In: the command, the container's bundle, descriptors for its streams. Out: its process, and its terminal
//! if it has one.

use std::{
    error::Error,
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
};

use kontiki_shim::protocol::ExecProcess;
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::{
    console::Console,
    executor::ShimExecutor,
    launch::{STATE, explain},
    report, sandbox, seccomp,
};

/// The process to run, in OCI's words; one at a time, so one name will do.
const PROCESS: &str = "exec.json";

/// Starts a command; the error is for the user.
pub fn exec(request: &ExecProcess, bundle: &Path, descriptors: Vec<OwnedFd>) -> Result<(Pid, Option<OwnedFd>), String> {
    let mark = report::mark();
    let started = build(request, bundle, descriptors);
    sandbox::reset_oom_score();
    clean(&request.id);
    started.map_err(|error| explain(error.as_ref(), mark))
}

fn build(
    request: &ExecProcess,
    bundle: &Path,
    descriptors: Vec<OwnedFd>,
) -> Result<(Pid, Option<OwnedFd>), Box<dyn Error + Send + Sync>> {
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
    fs::write(PROCESS, serde_json::to_vec(&process(&config, request))?)?;
    let executor = ShimExecutor { filter: seccomp::of_bundle(&config)? };
    let builder =
        ContainerBuilder::new(request.id.clone(), SyscallType::default()).with_executor(executor).with_root_path(STATE)?;
    if request.tty {
        let console = Console::bind()?;
        let builder = builder.with_console_socket(Some(console.path()));
        let pid = builder.as_tenant().with_process(Some(PROCESS)).with_detach(true).build()?;
        return Ok((Pid::from_raw(pid.as_raw()), Some(console.terminal()?)));
    }
    let mut descriptors = descriptors.into_iter();
    let input = if request.stdin { descriptors.next() } else { Some(File::open("/dev/null")?.into()) };
    let (Some(input), Some(output), Some(errors)) = (input, descriptors.next(), descriptors.next()) else {
        return Err("descriptors are missing".into());
    };
    let builder = builder.with_stdin(input).with_stdout(output).with_stderr(errors);
    let pid = builder.as_tenant().with_process(Some(PROCESS)).build()?;
    Ok((Pid::from_raw(pid.as_raw()), None))
}

/// The container's own process with another command: user, environment and capabilities stay.
fn process(config: &Value, request: &ExecProcess) -> Value {
    let mut process = config.get("process").cloned().unwrap_or_else(|| json!({}));
    if let Some(fields) = process.as_object_mut() {
        fields.insert("args".into(), json!(request.command));
        fields.insert("terminal".into(), json!(request.tty));
    }
    process
}

/// libcontainer leaves a socket for each command; probes would fill the folder.
fn clean(id: &str) {
    let Ok(entries) = fs::read_dir(Path::new(STATE).join(id)) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("tenant-") {
            // Another attempt follows with the next command.
            let _ = fs::remove_file(entry.path());
        }
    }
}
