//! `kontiki store`, or the binary under the name `etcd`: one member of a store, with etcd's flags.

mod file;
mod flags;
mod logging;
mod options;
mod settings;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use kontiki_store::Service;

use self::settings::Settings;

/// Everything behind the subcommand: etcd's flags are read by a table of their own.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// etcd's flags; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    start(&arguments.flags)
}

/// Whether a program's name says that it is the store.
pub fn is_called_etcd(name: Option<&std::ffi::OsStr>) -> bool {
    name.map(std::path::Path::new).and_then(std::path::Path::file_name).is_some_and(|name| name == "etcd")
}

/// Runs a member with etcd's flags until it is told to end.
pub fn start(arguments: &[String]) -> Result<ExitCode> {
    if arguments.iter().any(|argument| matches!(argument.as_str(), "-h" | "--help" | "-help")) {
        print!("{}", flags::help());
        return Ok(ExitCode::SUCCESS);
    }
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")).collect();
    let settings = match settings(arguments, &variables) {
        Ok(settings) => settings,
        Err(mistakes) => return Ok(refuse(&mistakes)),
    };
    if settings.is_on("version") {
        let (system, machine) =
            (std::env::consts::OS, std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"));
        println!("etcd Version: {}", kontiki_store::ETCD_VERSION);
        println!("Git SHA: kontiki-{}", env!("CARGO_PKG_VERSION"));
        println!("Go Version: none, this is Kontiki's store in Rust");
        println!("Go OS/Arch: {system}/{machine}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(mistake) = logging::start(&settings) {
        return Ok(refuse(&[mistake]));
    }
    match options::options(&settings) {
        Ok(options) => super::runtime()?.block_on(serve(options)),
        Err(mistakes) => {
            for error in &mistakes {
                tracing::error!(error, "failed to verify flags");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A file stands in the place of everything else.
fn settings(arguments: &[String], variables: &BTreeMap<String, String>) -> Result<Settings, Vec<String>> {
    let given = Settings::new(arguments, variables)?;
    let path = given.text("config-file");
    if path.is_empty() {
        return Ok(given);
    }
    let text = std::fs::read_to_string(path).map_err(|error| vec![format!("open {path}: {error}")])?;
    Settings::from_file(&text)
}

fn refuse(mistakes: &[String]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(2)
}

async fn serve(options: kontiki_store::Options) -> Result<ExitCode> {
    let cancel = super::until_signal()?;
    tracing::info!(name = options.name, data_dir = %options.data_dir.display(), version = kontiki_store::ETCD_VERSION, "starting etcd server");
    let store = tokio::select! {
        started = Service::start(options) => match started {
            Ok(store) => store,
            Err(error) => {
                tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "discovery failed");
                return Ok(ExitCode::FAILURE);
            }
        },
        () = cancel.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let ready = async {
        if store.ready().await.is_ok() {
            tracing::info!("ready to serve client requests");
        }
        std::future::pending::<()>().await;
    };
    let mut code = ExitCode::SUCCESS;
    tokio::select! {
        () = ready => {}
        () = store.failed() => code = ExitCode::FAILURE,
        () = store.removed() => tracing::warn!("the member has been permanently removed from the cluster"),
        () = cancel.cancelled() => {}
    }
    store.shutdown().await;
    tracing::info!("closed etcd server");
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn the_name_of_the_program_decides() {
        assert!(is_called_etcd(Some(OsStr::new("/usr/bin/etcd"))));
        assert!(!is_called_etcd(Some(OsStr::new("/usr/bin/kontiki"))));
        assert!(!is_called_etcd(None));
    }
}
