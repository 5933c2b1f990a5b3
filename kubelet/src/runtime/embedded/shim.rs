//! The way to a shim: start one, ask it, listen to it.

use std::{
    fs, io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use kontiki_shim::{
    frame,
    protocol::{ContainerStatus, READY, Reply, Request, SETTINGS, SOCKET, Settings},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

/// A shim that says nothing for this long after its start is given up.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// A shim that does not answer for this long is given up; making a container takes some time on a slow disk.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// A shim, by the folder of its sandbox.
#[derive(Clone, Debug)]
pub struct Shim {
    folder: PathBuf,
}

/// An answer, and what came with it.
pub struct Answer {
    /// The words.
    pub reply: Reply,
    /// Descriptors beside them.
    pub descriptors: Vec<OwnedFd>,
    /// The connection, for what follows.
    pub stream: UnixStream,
    /// What has been read of it and not been used.
    pub rest: Vec<u8>,
}

impl Shim {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Starts the program and waits until it listens; returns its process. `ended` is called once it ends.
    pub async fn start(&self, program: &Path, settings: &Settings, ended: impl FnOnce() + Send + 'static) -> Result<u32> {
        fs::write(self.folder.join(SETTINGS), serde_json::to_vec(settings)?).context("write the shim's settings")?;
        let log = fs::File::create(self.folder.join("shim.log")).context("make the shim's log")?;
        let mut child = Command::new(program)
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let pid = child.id().context("the shim has ended")?;
        let output = child.stdout.take().context("the shim has no output")?;
        let mut line = String::new();
        let mut output = BufReader::new(output);
        let read = tokio::time::timeout(START_DEADLINE, output.read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(_))) || line.trim() != READY {
            // It may have ended by itself.
            let _ = child.start_kill();
            let log = fs::read_to_string(self.folder.join("shim.log")).unwrap_or_default();
            bail!("the shim did not start: {}", log.lines().last().unwrap_or("no message"));
        }
        tokio::spawn(async move {
            // Only to reap it; the sandbox's state comes from its connection.
            let _ = child.wait().await;
            ended();
        });
        Ok(pid)
    }

    /// Asks and waits for the first answer. A refusal is an error with the shim's words.
    pub async fn ask(&self, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        let path = self.folder.join(SOCKET);
        let answer = tokio::task::spawn_blocking(move || ask(&path, &request, &descriptors)).await??;
        match answer.reply {
            Reply::Failed { message } => bail!(message),
            _ => Ok(answer),
        }
    }

    /// All containers as the shim knows them, then their ends as they come, until it is gone.
    pub async fn listen(&self, heard: impl Fn(ContainerStatus)) -> Result<()> {
        let answer = self.ask(Request::Watch, Vec::new()).await?;
        if let Reply::State { containers } = self.ask(Request::State, Vec::new()).await?.reply {
            containers.into_iter().for_each(&heard);
        }
        let mut replies = Replies::new(answer)?;
        while let Some(reply) = replies.next().await? {
            if let Reply::Exited(status) = reply {
                heard(status);
            }
        }
        Ok(())
    }
}

fn ask(path: &Path, request: &Request, descriptors: &[OwnedFd]) -> Result<Answer> {
    use std::os::fd::AsRawFd;
    let stream = UnixStream::connect(path).context("connect to the shim")?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    frame::send(&stream, request, &raw).context("ask the shim")?;
    let (mut rest, mut received) = (Vec::new(), Vec::new());
    let reply = frame::read(&stream, &mut rest, &mut received).context("hear from the shim")?;
    Ok(Answer { reply, descriptors: received, stream, rest })
}

/// Replies that follow on a connection.
pub struct Replies {
    stream: tokio::net::UnixStream,
    rest: Vec<u8>,
}

impl Replies {
    pub fn new(answer: Answer) -> io::Result<Self> {
        answer.stream.set_nonblocking(true)?;
        Ok(Self { stream: tokio::net::UnixStream::from_std(answer.stream)?, rest: answer.rest })
    }

    /// The next one, or none when the shim hangs up. Safe to cancel.
    pub async fn next(&mut self) -> io::Result<Option<Reply>> {
        loop {
            if let Some(reply) = frame::decode(&mut self.rest)? {
                return Ok(Some(reply));
            }
            if self.stream.read_buf(&mut self.rest).await? == 0 {
                return Ok(None);
            }
        }
    }
}
