//! Settings from a YAML file: each key is a flag of the same name, and a flag wins over the file.

use std::{ffi::OsString, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The subcommands whose `--config` is a file of flags; `kontiki up` has one of another kind.
const WITH_SETTINGS: [&str; 2] = ["server", "agent"];

/// Puts the keys of the file that `--config` names before the flags that were given.
pub fn expand(arguments: Vec<OsString>) -> Result<Vec<OsString>> {
    if !arguments.get(1).is_some_and(|subcommand| WITH_SETTINGS.iter().any(|known| subcommand == known)) {
        return Ok(arguments);
    }
    let Some(at) = arguments.iter().position(|argument| argument == "--config") else { return Ok(arguments) };
    let Some(path) = arguments.get(at + 1).cloned() else { bail!("--config needs the name of a file") };
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", Path::new(&path).display()))?;
    let flags = flags(&text).with_context(|| format!("{}", Path::new(&path).display()))?;
    let mut expanded: Vec<OsString> = arguments[..at].to_vec();
    // The subcommand comes first; everything after it may be overridden.
    let subcommand = expanded.len().min(2);
    expanded.splice(subcommand..subcommand, flags);
    expanded.extend_from_slice(&arguments[at + 2..]);
    Ok(expanded)
}

fn flags(text: &str) -> Result<Vec<OsString>> {
    let value: Value = serde_norway::from_str(text).context("not YAML")?;
    let Some(map) = value.as_object() else { bail!("the file must hold a map of settings") };
    let flag = |(key, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => bail!("{key}: must be text, a number, true or false"),
        };
        Ok(OsString::from(format!("--{key}={text}")))
    };
    map.iter().map(flag).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_flags_and_given_flags_come_after_them() {
        let path = std::env::temp_dir().join(format!("kontiki-settings-{}.yaml", std::process::id()));
        std::fs::write(&path, "secure-port: 6443\nname: a\n").unwrap();
        let given = ["kontiki", "server", "--config", path.to_str().unwrap(), "--name", "b"].map(OsString::from);
        let expanded = expand(given.to_vec()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(expanded, ["kontiki", "server", "--name=a", "--secure-port=6443", "--name", "b"].map(OsString::from));
    }

    #[test]
    fn a_file_that_is_no_map_is_refused() {
        assert!(flags("- a").is_err());
        assert!(flags("a: [1]").is_err());
    }
}
