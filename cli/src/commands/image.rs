//! `kontiki image`: images on the nodes of a local cluster, or of this machine.

use std::{fs::File, path::PathBuf};

use anyhow::{Context, Result};
use kontiki_deploy::local::{paths::Paths, provision};
use kontiki_kubelet::images::{ImageStore, import};

use super::agent::image_folder;

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Import the images of a docker archive or an OCI layout, packed as one tar file
    Import {
        /// The file
        file: PathBuf,
        /// Name of the local cluster all of whose nodes get them
        #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
        name: String,
        /// Folder of this machine's agent, instead of a local cluster
        #[arg(long, conflicts_with = "name")]
        data_dir: Option<PathBuf>,
    },
}

/// Runs the subcommand.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Import { file, name, data_dir } => {
            let folders = match data_dir {
                Some(folder) => vec![folder],
                None => {
                    let paths = Paths::new(&name);
                    let shape = provision::read_shape(&paths)?;
                    shape.nodes().iter().map(|node| paths.node(&node.name).join("agent")).collect()
                }
            };
            for folder in folders {
                let store = ImageStore::open(&image_folder(&folder)).context("open the image store")?;
                let archive = File::open(&file).with_context(|| format!("open {}", file.display()))?;
                for image in import(&store, archive).with_context(|| format!("import {}", file.display()))? {
                    println!("{}: {}", folder.display(), image.tags.first().unwrap_or(&image.id));
                }
            }
            Ok(())
        }
    }
}
