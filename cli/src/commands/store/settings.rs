//! What the flags, the environment and the file say together: a value for each flag, or every mistake.
//!
//! As with etcd, a file stands in the place of all flags and variables, and a flag wins over a variable.

use std::collections::BTreeMap;
use std::time::Duration;

use super::flags::{FLAGS, Fate, Flag, Kind, find, variable};

/// A value for each flag that was given; defaults for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    given: BTreeMap<&'static str, String>,
}

impl Settings {
    /// From arguments and environment variables.
    pub fn new(arguments: &[String], variables: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut settings = Self::default();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix("ETCD_") else { continue };
            let flag = rest.to_lowercase().replace('_', "-");
            // etcd warns of variables that it does not know, and goes on.
            if let Some(flag) = find(&flag).filter(|_| !value.is_empty()) {
                settings.set(flag, &flag_name(flag), value, &mut mistakes);
            }
        }
        let mut arguments = arguments.iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some(bare) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                mistakes.push(format!("{argument:?} is not a valid flag"));
                continue;
            };
            let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value.to_owned())));
            let Some(flag) = find(name) else {
                mistakes.push(format!("flag provided but not defined: -{name}"));
                continue;
            };
            let value = match value {
                Some(value) => value,
                None if flag.kind == Kind::Bool => "true".to_owned(),
                None => match arguments.next() {
                    Some(value) => value.clone(),
                    None => {
                        mistakes.push(format!("flag needs an argument: -{name}"));
                        continue;
                    }
                },
            };
            settings.set(flag, name, &value, &mut mistakes);
        }
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
    }

    /// From a file.
    pub fn from_file(text: &str) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut settings = Self::default();
        for (name, value) in super::file::read(text).map_err(|mistake| vec![mistake])? {
            match find(&name) {
                Some(flag) => settings.set(flag, &name, &value, &mut mistakes),
                None => mistakes.push(format!("unknown key {name:?} in the configuration file")),
            }
        }
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
    }

    fn set(&mut self, flag: &'static Flag, name: &str, value: &str, mistakes: &mut Vec<String>) {
        if !sound(flag.kind, value) {
            mistakes.push(format!("invalid value {value:?} for flag -{name}"));
            return;
        }
        if let Fate::Refused(why) = flag.fate
            && value != flag.default
            && !(flag.kind == Kind::Bool && value == "false")
            && !value.is_empty()
        {
            mistakes.push(format!("--{name} cannot be honoured: {why}"));
            return;
        }
        self.given.insert(flag.name, value.to_owned());
    }

    /// Whether a flag was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// A flag's text.
    pub fn text(&self, name: &str) -> &str {
        let default = || FLAGS.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default);
        self.given.get(name).map_or_else(default, String::as_str)
    }

    /// A list, separated by commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    /// Whether a flag is on.
    pub fn is_on(&self, name: &str) -> bool {
        boolean(self.text(name)).unwrap_or(false)
    }

    /// A flag's number.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A flag's duration.
    pub fn duration(&self, name: &str) -> Duration {
        duration(self.text(name)).unwrap_or_default()
    }
}

fn flag_name(flag: &Flag) -> String {
    variable(flag.name)
}

/// Whether a value is of a kind.
pub fn sound(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Bool => boolean(value).is_some(),
        Kind::Text => true,
        Kind::Number => value.parse::<i64>().is_ok(),
        Kind::Duration => duration(value).is_some(),
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration; in files they are nanoseconds.
fn duration(value: &str) -> Option<Duration> {
    kontiki_store::duration::parse(value).or_else(|| value.parse().ok().map(Duration::from_nanos))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::new(&arguments, &variables)
    }

    #[test]
    fn flags_win_over_variables_and_these_over_defaults() {
        let given = settings(&["--name=a", "-data-dir", "d", "--auto-tls"], &[("ETCD_NAME", "b"), ("ETCD_MAX_TXN_OPS", "5")]);
        let given = given.unwrap();
        assert_eq!(given.text("name"), "a");
        assert_eq!(given.text("data-dir"), "d");
        assert!(given.is_on("auto-tls"));
        assert_eq!(given.number("max-txn-ops"), 5);
        assert_eq!(given.duration("grpc-keepalive-interval"), Duration::from_secs(7200));
        assert_eq!(given.list("listen-client-urls"), ["http://localhost:2379"]);
        assert!(!given.is_given("listen-client-urls"));
    }

    #[test]
    fn every_mistake_is_told_and_what_cannot_be_honoured_is_refused() {
        let mistakes = settings(&["--nothing", "--max-txn-ops=x", "--unsafe-no-fsync", "rest", "--name"], &[]).unwrap_err();
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert!(mistakes[2].contains("what is acknowledged is on disk"), "{mistakes:?}");
        assert!(settings(&["--unsafe-no-fsync=false", "--cors=*", "--enable-pprof"], &[]).is_ok());
    }

    #[test]
    fn discovery_services_and_exported_traces_are_refused_with_a_sentence() {
        for (argument, why) in [
            ("--discovery=https://discovery.example/1", "clusters begin from --initial-cluster"),
            ("--discovery-srv=example.com", "clusters begin from --initial-cluster"),
            ("--discovery-token=t", "clusters begin from --initial-cluster"),
            ("--discovery-endpoints=http://a:1", "clusters begin from --initial-cluster"),
            ("--enable-distributed-tracing", "spans are not exported"),
            ("--experimental-enable-distributed-tracing", "spans are not exported"),
        ] {
            let mistakes = settings(&[argument], &[]).unwrap_err();
            let [mistake] = mistakes.as_slice() else { panic!("{argument}: {mistakes:?}") };
            assert!(mistake.contains("cannot be honoured") && mistake.contains(why), "{mistake}");
        }
        assert!(settings(&[], &[("ETCD_DISCOVERY", "https://discovery.example/1")]).is_err());
        assert!(settings(&["--enable-distributed-tracing=false", "--discovery="], &[]).is_ok());
    }

    #[test]
    fn a_file_says_everything() {
        let given =
            Settings::from_file("name: f\nquota-backend-bytes: 5\nclient-transport-security:\n  auto-tls: true\n").unwrap();
        assert_eq!((given.text("name"), given.number("quota-backend-bytes")), ("f", 5));
        assert!(given.is_on("auto-tls"));
        assert!(Settings::from_file("nothing: 1\n").is_err());
    }
}
