//! `kontiki snapshot`: the whole state of a store in one file, and a new cluster from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kontiki_store::{Options, backup};

/// What to do.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write what a member holds into a file
    Save(Save),
    /// Make a new member's data from a file
    Restore(Restore),
    /// Say what is in a file
    Status {
        /// The file
        file: PathBuf,
    },
}

#[derive(clap::Args)]
struct Save {
    /// The file
    file: PathBuf,
    /// URL on which a member serves clients: http, https, unix or unixs
    #[arg(long, default_value = "http://127.0.0.1:2379")]
    endpoint: String,
    /// Certificate authority of the store
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// Certificate to show
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    key: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Restore {
    /// The file
    file: PathBuf,
    /// Folder for the member's data
    #[arg(long)]
    data_dir: PathBuf,
    /// Name of the member
    #[arg(long, default_value = "default")]
    name: String,
    /// Every member of the new cluster as NAME=URL, separated by commas
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// Tells clusters with the same URLs apart
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
}

/// Does it.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Save(save) => {
            let client = backup::Client { endpoint: save.endpoint, cacert: save.cacert, identity: save.cert.zip(save.key) };
            super::runtime()?.block_on(client.save(&save.file)).context("save a snapshot")?;
            println!("Snapshot saved at {}", save.file.display());
            Ok(())
        }
        Command::Restore(restore) => self::restore(restore),
        Command::Status { file } => {
            let scratch = std::env::temp_dir().join(format!("kontiki-snapshot-{}", uuid::Uuid::new_v4()));
            let found = backup::status(&file, &scratch).with_context(|| format!("look into {}", file.display()))?;
            println!("{:x}, {}, {}, {}", found.hash, found.revision, found.total_keys, found.total_size);
            Ok(())
        }
    }
}

fn restore(arguments: Restore) -> Result<()> {
    // Nothing listens: the addresses only fill their places.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = Options::new(&arguments.name, arguments.data_dir, nowhere, nowhere);
    options.initial_cluster_token = arguments.initial_cluster_token;
    for member in arguments.initial_cluster.split(',') {
        let Some((name, url)) = member.split_once('=') else {
            bail!("--initial-cluster {member:?}: a member is NAME=URL");
        };
        options.initial_cluster.push((name.to_owned(), url.to_owned()));
    }
    let begin = backup::restore(&arguments.file, &options).with_context(|| format!("restore {}", arguments.file.display()))?;
    println!("restored member {:x} of cluster {:x} in {}", begin.member_id, begin.cluster_id, options.data_dir.display());
    Ok(())
}
