//! `/health`, `/livez` and `/readyz`: etcd's checks and words.

use std::collections::BTreeSet;

use kontiki_proto::etcdserverpb as pb;

use crate::error::Error;
use crate::kv::Kv;
use crate::service::Handle;

/// What is checked, in etcd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    const LIVE: [Self; 1] = [Self::SerializableRead];
    const READY: [Self; 4] = [Self::DataCorruption, Self::SerializableRead, Self::LinearizableRead, Self::NonLearner];

    /// The checks of `/livez` or `/readyz`, or the single one of a longer path.
    pub(super) fn of(path: &str) -> Option<Vec<Self>> {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let all: &[Self] = match parts.next()? {
            "livez" => &Self::LIVE,
            "readyz" => &Self::READY,
            _ => return None,
        };
        match parts.next() {
            None | Some("") => Some(all.to_vec()),
            Some(name) => all.iter().find(|check| check.name() == name).map(|check| vec![*check]),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    pub(super) async fn run(self, handle: &Handle) -> Result<(), String> {
        match self {
            Self::DataCorruption if handle.core.state.alarmed(pb::AlarmType::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::SerializableRead => read(handle, true).await.map_err(|error| error.to_string()),
            Self::LinearizableRead => read(handle, false).await.map_err(|error| error.to_string()),
            Self::NonLearner if handle.is_learner() => Err(Error::NotSupportedForLearner.to_string()),
            Self::DataCorruption | Self::NonLearner => Ok(()),
        }
    }
}

/// Reads a key that nobody has to own.
async fn read(handle: &Handle, serializable: bool) -> Result<(), Error> {
    // A corrupt member still reads; the alarm is told apart.
    if serializable && handle.core.state.alarmed(pb::AlarmType::Corrupt) {
        return Ok(());
    }
    let request = pb::RangeRequest { key: "health".into(), limit: 1, serializable, keys_only: true, ..Default::default() };
    handle.range(request).await.map(drop)
}

/// The outcome of checks, in etcd's lines.
pub(super) fn report(results: &[(Check, Result<(), String>)]) -> (bool, String) {
    let line = |(check, result): &(Check, Result<(), String>)| match result {
        Ok(()) => format!("[+]{} ok\n", check.name()),
        Err(reason) => format!("[-]{} failed: {reason}\n", check.name()),
    };
    (results.iter().all(|(_, result)| result.is_ok()), results.iter().map(line).collect())
}

/// Why `/health` is not true, if it is not.
pub(super) async fn unhealthy(handle: &Handle, excluded: &BTreeSet<String>, serializable: bool) -> Option<String> {
    let name = |kind: i32| pb::AlarmType::try_from(kind).map_or("UNKNOWN", |kind| kind.as_str_name());
    let alarms = handle.core.state.alarms();
    if let Some(alarm) = alarms.iter().map(|(kind, _)| name(*kind)).find(|alarm| !excluded.contains(*alarm)) {
        return Some(format!("ALARM {alarm}"));
    }
    if !serializable && handle.core.leader().is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    read(handle, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_checks() {
        assert_eq!(Check::of("/livez"), Some(vec![Check::SerializableRead]));
        assert_eq!(Check::of("/readyz").map(|checks| checks.len()), Some(4));
        assert_eq!(Check::of("/readyz/non_learner"), Some(vec![Check::NonLearner]));
        assert_eq!(Check::of("/livez/non_learner"), None);
        assert_eq!(Check::of("/other"), None);
    }

    #[test]
    fn reports_have_etcds_lines() {
        let (healthy, text) = report(&[(Check::SerializableRead, Ok(())), (Check::DataCorruption, Err("x".to_owned()))]);
        assert!(!healthy);
        assert_eq!(text, "[+]serializable_read ok\n[-]data_corruption failed: x\n");
    }
}
