//! `kontiki logs`: what the processes of a node of a cluster on this machine say.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom, Write, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use kontiki_deploy::local::{paths::Paths, provision};

/// How often a file is looked at for more.
const POLL: Duration = Duration::from_millis(200);

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the node
    node: String,
    /// One of its processes: server or agent; all of them if not given
    #[arg(long)]
    part: Option<String>,
    /// Go on with what is written from now on
    #[arg(long, short)]
    follow: bool,
    /// Name of the cluster
    #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
    name: String,
}

/// Prints them, one process after the other.
pub fn run(arguments: &Arguments) -> Result<()> {
    let paths = Paths::new(&arguments.name);
    let shape = provision::read_shape(&paths)?;
    let Some(node) = shape.node(&arguments.node) else {
        let names: Vec<_> = shape.nodes().into_iter().map(|node| node.name).collect();
        bail!("cluster {} has no node {}; it has {}", arguments.name, arguments.node, names.join(", "));
    };
    let parts: Vec<&str> =
        node.role.processes().iter().copied().filter(|part| arguments.part.as_deref().is_none_or(|only| only == *part)).collect();
    if parts.is_empty() {
        bail!("{} runs {}", node.name, node.role.processes().join(" and "));
    }
    let mut files: Vec<Followed> = parts.iter().map(|part| Followed::new(paths.node_log(&node.name, part))).collect();
    loop {
        for (file, part) in files.iter_mut().zip(&parts) {
            let text = file.more()?;
            if text.is_empty() {
                continue;
            }
            if parts.len() > 1 {
                println!("==> {part} <==");
            }
            match stdout().write_all(&text).and_then(|()| stdout().flush()) {
                // Whoever reads has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written.context("print the log")?,
            }
        }
        if !arguments.follow {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// A file that grows.
struct Followed {
    path: PathBuf,
    read: u64,
}

impl Followed {
    fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// What was written since the last time; nothing while there is no file.
    fn more(&mut self) -> Result<Vec<u8>> {
        let path: &Path = &self.path;
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            opened => opened.with_context(|| format!("open {}", path.display()))?,
        };
        file.seek(SeekFrom::Start(self.read)).context("find the place in the log")?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(|| format!("read {}", path.display()))?;
        self.read += text.len() as u64;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_is_told_once() {
        let path = std::env::temp_dir().join(format!("kontiki-logs-{}", std::process::id()));
        let mut followed = Followed::new(path.clone());
        assert_eq!(followed.more().unwrap(), b"");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(followed.more().unwrap(), b"one\n");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(followed.more().unwrap(), b"two\n");
        std::fs::remove_file(&path).unwrap();
    }
}
