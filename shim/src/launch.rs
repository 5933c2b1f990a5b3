//! Containers by libcontainer: create and start in one step.
//!
//! In: a bundle. Out: the first process and the descriptors of its output.

use std::{
    error::Error,
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
};

use kontiki_shim::protocol::StartContainer;
use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::{Pid, pipe2},
};
use serde_json::Value;

use crate::{console::Console, executor::ShimExecutor, report, sandbox, seccomp};

/// Folder of libcontainer's own state, within the sandbox's folder.
pub const STATE: &str = "oci";

/// A container that runs.
pub struct Launched {
    /// Its first process.
    pub pid: Pid,
    /// Where its output comes from, with the stream's name.
    pub outputs: Vec<(&'static str, OwnedFd)>,
    /// Its input, where it stays open.
    pub stdin: Option<OwnedFd>,
}

/// Creates and starts a container; the error is for the user.
pub fn launch(request: &StartContainer) -> Result<Launched, String> {
    let mark = report::mark();
    let launched = build(request);
    sandbox::reset_oom_score();
    launched.map_err(|error| {
        forget(&request.id);
        explain(error.as_ref(), mark)
    })
}

/// Removes what libcontainer keeps of a container.
pub fn forget(id: &str) {
    // Not there if the container never got that far.
    let _ = fs::remove_dir_all(Path::new(STATE).join(id));
}

fn build(request: &StartContainer) -> Result<Launched, Box<dyn Error + Send + Sync>> {
    fs::create_dir_all(STATE)?;
    forget(&request.id);
    let config: Value = serde_json::from_slice(&fs::read(request.bundle.join("config.json"))?)?;
    let executor = ShimExecutor { filter: seccomp::of_bundle(&config)? };
    let builder =
        ContainerBuilder::new(request.id.clone(), SyscallType::default()).with_executor(executor).with_root_path(STATE)?;
    if request.tty {
        let console = Console::bind()?;
        let builder = builder.with_console_socket(Some(console.path()));
        let mut container = builder.as_init(&request.bundle).with_systemd(false).build()?;
        let pid = first_process(&container)?;
        let terminal = console.terminal().map_err(|error| abandon(pid, error.into()))?;
        container.start().map_err(|error| abandon(pid, error.into()))?;
        set_nonblocking(&terminal)?;
        return Ok(Launched { pid, outputs: vec![("stdout", terminal)], stdin: None });
    }
    let (output, output_writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (errors, errors_writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (input_reader, input) = input(request.stdin)?;
    set_nonblocking(&output)?;
    set_nonblocking(&errors)?;
    let builder = builder.with_stdin(input_reader).with_stdout(output_writer).with_stderr(errors_writer);
    let mut container = builder.as_init(&request.bundle).with_systemd(false).build()?;
    let pid = first_process(&container)?;
    container.start().map_err(|error| abandon(pid, error.into()))?;
    Ok(Launched { pid, outputs: vec![("stdout", output), ("stderr", errors)], stdin: input })
}

/// The end that the container reads, and the other one if input is to stay open.
fn input(open: bool) -> Result<(OwnedFd, Option<OwnedFd>), Box<dyn Error + Send + Sync>> {
    if open {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        return Ok((reader, Some(writer)));
    }
    Ok((File::open("/dev/null")?.into(), None))
}

fn first_process(container: &Container) -> Result<Pid, Box<dyn Error + Send + Sync>> {
    let pid = container.pid().ok_or("the container has no process")?;
    Ok(Pid::from_raw(pid.as_raw()))
}

/// Kills a process that was made but cannot be used.
fn abandon(pid: Pid, error: Box<dyn Error + Send + Sync>) -> Box<dyn Error + Send + Sync> {
    // It may have ended by itself.
    let _ = kill(pid, Signal::SIGKILL);
    error
}

/// Makes reading return instead of waiting: the shim has one thread.
pub fn set_nonblocking(descriptor: &OwnedFd) -> nix::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

/// An error with its causes, and what the cloned child said about it, which does not travel in the error.
pub fn explain(error: &(dyn Error + 'static), mark: u64) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    if let Some(start) = message.find("exec: \"") {
        return message[start..].trim_end_matches([')', ';']).to_owned();
    }
    match report::first_since(mark) {
        Some(detail) if !message.contains(&detail) => format!("{message}: {detail}"),
        _ => message,
    }
}
