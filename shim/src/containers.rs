//! The containers of this pod, from start to end.
//!
//! In: output that is ready, processes that have ended. Out: log entries and status files. A container's
//! status file says that it has ended only after all its output is in the log.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use kontiki_shim::protocol::{ContainerStatus, StartContainer};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    launch,
    logs::{Framer, PIECE_BYTES_MAX},
    status,
};

/// Bytes that may wait for whoever is attached; one that falls further behind is cut off.
const ATTACHED_BYTES_MAX: i32 = 1 << 20;

/// One container.
struct Container {
    status: ContainerStatus,
    bundle: PathBuf,
    status_path: PathBuf,
    memory_cgroup: Option<PathBuf>,
    log_path: PathBuf,
    log: File,
    outputs: Vec<Output>,
    /// Held so that the container's input stays open.
    stdin: Option<OwnedFd>,
    /// Who gets a copy of the output: the stream's name and a pipe.
    attached: Vec<(&'static str, File)>,
    shares_processes: bool,
}

/// One stream of a container.
struct Output {
    source: File,
    framer: Framer,
    is_terminal: bool,
}

/// All containers by identifier.
#[derive(Default)]
pub struct Containers(BTreeMap<String, Container>);

impl Containers {
    /// Creates and starts one; the error is for the user.
    pub fn start(&mut self, request: StartContainer) -> Result<(), String> {
        if self.0.contains_key(&request.id) {
            return Err("the container has been started before".to_owned());
        }
        let log = open_log(&request.log_path)?;
        let launched = launch::launch(&request)?;
        let started_at = status::nanoseconds(Timestamp::now());
        let status =
            ContainerStatus { id: request.id.clone(), pid: launched.pid.as_raw(), started_at, ..ContainerStatus::default() };
        note(&request.status_path, &status, false);
        let outputs = launched
            .outputs
            .into_iter()
            .map(|(stream, source)| Output { source: source.into(), framer: Framer::new(stream), is_terminal: request.tty })
            .collect();
        let container = Container {
            status,
            bundle: request.bundle,
            status_path: request.status_path,
            memory_cgroup: request.memory_cgroup,
            log_path: request.log_path,
            log,
            outputs,
            stdin: launched.stdin,
            attached: Vec::new(),
            shares_processes: request.shares_processes,
        };
        self.0.insert(request.id, container);
        Ok(())
    }

    /// Sends a signal to a container's first process; one that has ended is left alone.
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), String> {
        let Some(container) = self.0.get(id) else {
            return Err(format!("container {id} not found"));
        };
        let signal = Signal::try_from(signal).map_err(|_| format!("no signal {signal}"))?;
        if container.status.pid > 0 {
            kill(Pid::from_raw(container.status.pid), signal).map_err(|errno| format!("cannot kill: {errno}"))?;
        }
        Ok(())
    }

    /// Kills everything.
    pub fn kill_all(&self) {
        for id in self.0.keys() {
            // It may have ended meanwhile.
            let _ = self.kill(id, Signal::SIGKILL as i32);
        }
    }

    /// Whether any container runs.
    pub fn any_running(&self) -> bool {
        self.0.values().any(|container| container.status.pid > 0)
    }

    /// Bundle of a container that runs.
    pub fn running_bundle(&self, id: &str) -> Option<PathBuf> {
        self.0.get(id).filter(|container| container.status.pid > 0).map(|container| container.bundle.clone())
    }

    /// Copies output to two pipes from now on; what is returned leads to the input, or is the terminal.
    pub fn attach(&mut self, id: &str, pipes: Vec<OwnedFd>) -> Result<Option<OwnedFd>, String> {
        let container = self.0.get_mut(id).filter(|container| container.status.pid > 0);
        let Some(container) = container else { return Err(format!("container {id} is not running")) };
        for (stream, pipe) in ["stdout", "stderr"].into_iter().zip(pipes) {
            launch::set_nonblocking(&pipe).map_err(|errno| format!("cannot attach: {errno}"))?;
            // With less room it is cut off sooner.
            let _ = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(ATTACHED_BYTES_MAX));
            if container.outputs.iter().any(|output| output.framer.stream() == stream) {
                container.attached.push((stream, pipe.into()));
            }
        }
        let terminal = || container.outputs.first().filter(|output| output.is_terminal).map(|output| output.source.as_fd());
        let input = container.stdin.as_ref().map(AsFd::as_fd).or_else(terminal);
        input.map(|input| input.try_clone_to_owned()).transpose().map_err(|error| format!("cannot attach: {error}"))
    }

    /// Goes on with the log in the file of that name, made anew where there is none. Until then, and if it cannot be
    /// opened, all goes to the file that is open, whatever its name is now: no line is lost.
    pub fn reopen_log(&mut self, id: &str) -> Result<(), String> {
        let container = self.0.get_mut(id).filter(|container| container.status.pid > 0);
        let Some(container) = container else { return Err(format!("container {id} is not running")) };
        container.log = open_log(&container.log_path)?;
        Ok(())
    }

    /// Closes a container's input.
    pub fn close_input(&mut self, id: &str) {
        if let Some(container) = self.0.get_mut(id) {
            container.stdin = None;
        }
    }

    /// Forgets a container that has ended.
    pub fn delete(&mut self, id: &str) -> Result<(), String> {
        if self.0.get(id).is_some_and(|container| container.status.pid > 0) {
            return Err(format!("container {id} is running"));
        }
        self.0.remove(id);
        launch::forget(id);
        Ok(())
    }

    /// The state of all.
    pub fn statuses(&self) -> Vec<ContainerStatus> {
        self.0.values().map(|container| container.status.clone()).collect()
    }

    /// Streams to wait on: identifier, number within the container, descriptor.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, usize, BorrowedFd<'_>)> {
        self.0.iter().flat_map(|(id, container)| {
            let outputs = container.outputs.iter().enumerate();
            outputs.map(move |(index, output)| (id.as_str(), index, output.source.as_fd()))
        })
    }

    /// Moves what a stream has into the log; a stream that has ended goes.
    pub fn pump(&mut self, id: &str, index: usize) {
        let Some(container) = self.0.get_mut(id) else {
            return;
        };
        let Some(output) = container.outputs.get_mut(index) else {
            return;
        };
        let more = output.pump(&mut container.log, &mut container.attached);
        if !matches!(more, Progress::Read | Progress::Empty) {
            output.finish(&mut container.log);
            container.outputs.remove(index);
        }
    }

    /// Notes the end of a process, if it was a container's first.
    pub fn exited(&mut self, pid: Pid, code: i32, signal: i32) -> Option<ContainerStatus> {
        let container = self.0.values_mut().find(|container| container.status.pid == pid.as_raw())?;
        if let (true, Some(group)) = (container.shares_processes, &container.memory_cgroup) {
            kill_group(group);
        }
        for output in &mut container.outputs {
            while matches!(output.pump(&mut container.log, &mut container.attached), Progress::Read) {}
            output.finish(&mut container.log);
        }
        container.outputs.clear();
        container.attached.clear();
        container.stdin = None;
        let oom_kills = container.memory_cgroup.as_deref().map_or(0, status::oom_kills);
        status::end(&mut container.status, code, signal, oom_kills, Timestamp::now());
        note(&container.status_path, &container.status, true);
        Some(container.status.clone())
    }
}

/// What reading a stream came to.
enum Progress {
    Read,
    Empty,
    Ended,
}

impl Output {
    fn pump(&mut self, log: &mut File, attached: &mut Vec<(&'static str, File)>) -> Progress {
        let mut chunk = [0_u8; PIECE_BYTES_MAX];
        match self.source.read(&mut chunk) {
            Ok(0) => Progress::Ended,
            Ok(read) => {
                let mut entries = Vec::with_capacity(read + 64);
                self.framer.push(&chunk[..read], Timestamp::now(), &mut entries);
                append(log, &entries);
                let stream = self.framer.stream();
                // A pipe that is full or gone is given up: the container waits for nobody.
                attached.retain_mut(|(name, pipe)| *name != stream || pipe.write_all(&chunk[..read]).is_ok());
                Progress::Read
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Progress::Read,
            // A terminal says EIO once nobody has it open any more.
            Err(_) => Progress::Ended,
        }
    }

    fn finish(&mut self, log: &mut File) {
        let mut entries = Vec::new();
        self.framer.finish(Timestamp::now(), &mut entries);
        append(log, &entries);
    }
}

/// Kills what is left in a group.
fn kill_group(group: &Path) {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn append(log: &mut File, entries: &[u8]) {
    if let Err(error) = log.write_all(entries) {
        // A full disk must not stop the container.
        eprintln!("cannot write to a log: {error}");
    }
}

fn open_log(path: &Path) -> Result<File, String> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    let opened = made.and_then(|()| File::options().append(true).create(true).open(path));
    opened.map_err(|error| format!("cannot open {}: {error}", path.display()))
}

fn note(path: &Path, status: &ContainerStatus, durable: bool) {
    if let Err(error) = status::write(path, status, durable) {
        eprintln!("cannot write {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    /// Aim: a log that is rotated loses no line, whenever it is. Method: lines before the new name, between the names and
    /// after the new file, and a line that is half written in between.
    #[test]
    fn a_log_goes_on_in_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (log_path, old) = (folder.path().join("c/0.log"), folder.path().join("c/0.log.1"));
        let source = folder.path().join("output");
        let mut writer = File::create(&source).unwrap();
        let output = Output { source: File::open(&source).unwrap(), framer: Framer::new("stdout"), is_terminal: false };
        let container = Container {
            status: ContainerStatus { pid: i32::MAX, ..ContainerStatus::default() },
            bundle: PathBuf::new(),
            status_path: PathBuf::new(),
            memory_cgroup: None,
            log: open_log(&log_path).unwrap(),
            log_path: log_path.clone(),
            outputs: vec![output],
            stdin: None,
            attached: Vec::new(),
            shares_processes: false,
        };
        let mut containers = Containers(BTreeMap::from([("c".to_owned(), container)]));
        let mut write = |containers: &mut Containers, text: &str| {
            writer.write_all(text.as_bytes()).unwrap();
            let Container { log, attached, outputs, .. } = containers.0.get_mut("c").unwrap();
            while matches!(outputs[0].pump(log, attached), Progress::Read) {}
        };
        write(&mut containers, "one\ntw");
        fs::rename(&log_path, &old).unwrap();
        write(&mut containers, "o\nthree\nfo");
        containers.reopen_log("c").unwrap();
        write(&mut containers, "ur\n");
        let lines = |path: &Path| -> Vec<String> {
            let text = fs::read_to_string(path).unwrap();
            text.lines().filter_map(|line| line.split(' ').nth(3).map(str::to_owned)).collect()
        };
        assert_eq!((lines(&old), lines(&log_path)), (vec!["one".into(), "two".into(), "three".into()], vec!["four".into()]));
        assert!(containers.reopen_log("other").is_err());
    }
}
