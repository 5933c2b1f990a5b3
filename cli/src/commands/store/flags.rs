//! Every flag of etcd, and what becomes of it here.
//!
//! One table: from it come parsing, environment variables, the file's keys and `--help`. A flag is
//! honoured, or satisfied by what the store does anyway, or refused with a sentence; none is ignored.

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or `true` or `false`.
    Bool,
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// A duration as Go writes it.
    Duration,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does what it does in etcd.
    Honoured,
    /// Any value is accepted; this is why its purpose is met.
    Satisfied(&'static str),
    /// Only the default is accepted; this is why.
    Refused(&'static str),
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// etcd's default.
    pub default: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// For `--help`.
    pub help: &'static str,
}

use Fate::{Honoured, Refused, Satisfied};
use Kind::{Bool, Duration, Number, Text};

const fn flag(name: &'static str, kind: Kind, default: &'static str, fate: Fate, help: &'static str) -> Flag {
    Flag { name, kind, default, fate, help }
}

const STATE: &str = "the state is not kept in bbolt";
const DISCOVERY: &str = "clusters begin from --initial-cluster; discovery services are not asked";
const TRACING: &str = "spans are not exported";
const APPLIED: &str = "log entries are applied in batches";

/// The table, in the order of etcd's help.
pub const FLAGS: &[Flag] = &[
    flag("name", Text, "default", Honoured, "Human-readable name for this member"),
    flag("data-dir", Text, "", Honoured, "Path to the data directory; NAME.etcd by default"),
    flag("wal-dir", Text, "", Honoured, "Path of the log, if not in the data directory"),
    flag("snapshot-count", Number, "10000", Honoured, "Entries after which the state is flushed and the log before may go"),
    flag("snapshot-catchup-entries", Number, "5000", Honoured, "Entries kept for followers that are behind"),
    flag("heartbeat-interval", Number, "100", Honoured, "Milliseconds between heartbeats"),
    flag("election-timeout", Number, "1000", Honoured, "Milliseconds within which a lost leader is replaced"),
    flag(
        "initial-election-tick-advance",
        Bool,
        "true",
        Satisfied("the first election waits for nothing"),
        "Whether the first election is hastened",
    ),
    flag("listen-peer-urls", Text, "http://localhost:2380", Honoured, "URLs to listen on for peers"),
    flag("listen-client-urls", Text, "http://localhost:2379", Honoured, "URLs to listen on for clients' gRPC and HTTP"),
    flag(
        "listen-client-http-urls",
        Text,
        "",
        Honoured,
        "URLs to listen on for clients' HTTP alone; the others then serve gRPC alone",
    ),
    flag(
        "max-snapshots",
        Number,
        "5",
        Satisfied("a snapshot is made when one is asked for, and none is kept"),
        "Snapshot files to keep",
    ),
    flag("max-wals", Number, "5", Satisfied("the log keeps what is needed and nothing else"), "Log files to keep"),
    flag(
        "quota-backend-bytes",
        Number,
        "0",
        Honoured,
        "Bytes of keys and values beyond which writes are refused; 0 is 2 GiB, negative is no bound",
    ),
    flag("backend-bbolt-freelist-type", Text, "map", Satisfied(STATE), "bbolt's list of free pages"),
    flag("backend-batch-interval", Duration, "0s", Satisfied(APPLIED), "Longest time before a commit to the backend"),
    flag("backend-batch-limit", Number, "0", Satisfied(APPLIED), "Most operations before a commit to the backend"),
    flag("max-txn-ops", Number, "128", Honoured, "Operations in a transaction"),
    flag("max-request-bytes", Number, "1572864", Honoured, "Bytes of a request"),
    flag("max-concurrent-streams", Number, "4294967295", Honoured, "Streams that a client may have open on a connection"),
    flag(
        "grpc-keepalive-min-time",
        Duration,
        "5s",
        Satisfied("no client is disconnected for pinging often"),
        "Time that clients should leave between pings",
    ),
    flag("grpc-keepalive-interval", Duration, "2h0m0s", Honoured, "Time after which a silent client is pinged; 0 is never"),
    flag("grpc-keepalive-timeout", Duration, "20s", Honoured, "Time that a client may take to answer a ping"),
    flag("socket-reuse-port", Bool, "false", Refused("one process owns a port"), "Share ports with other processes"),
    flag(
        "socket-reuse-address",
        Bool,
        "false",
        Satisfied("addresses of closed connections are always used again"),
        "Bind to addresses in TIME_WAIT",
    ),
    flag(
        "raft-read-timeout",
        Duration,
        "5s",
        Satisfied("connections between peers are pinged every second"),
        "Read timeout of connections between peers",
    ),
    flag(
        "raft-write-timeout",
        Duration,
        "5s",
        Satisfied("connections between peers are pinged every second"),
        "Write timeout of connections between peers",
    ),
    flag(
        "initial-advertise-peer-urls",
        Text,
        "http://localhost:2380",
        Honoured,
        "This member's peer URLs, as the others are told",
    ),
    flag("initial-cluster", Text, "", Honoured, "Members of a new cluster: NAME=URL,..."),
    flag("initial-cluster-state", Text, "new", Honoured, "new, or existing for a member that joins"),
    flag("initial-cluster-token", Text, "etcd-cluster", Honoured, "Tells clusters with the same URLs apart"),
    flag("advertise-client-urls", Text, "http://localhost:2379", Honoured, "This member's client URLs, as clients are told"),
    flag("discovery-token", Text, "", Refused(DISCOVERY), "Discovery token"),
    flag("discovery-endpoints", Text, "", Refused(DISCOVERY), "Discovery endpoints"),
    flag("discovery-dial-timeout", Duration, "2s", Satisfied(DISCOVERY), "Discovery dial timeout"),
    flag("discovery-request-timeout", Duration, "5s", Satisfied(DISCOVERY), "Discovery request timeout"),
    flag("discovery-keepalive-time", Duration, "2s", Satisfied(DISCOVERY), "Discovery keep-alive time"),
    flag("discovery-keepalive-timeout", Duration, "6s", Satisfied(DISCOVERY), "Discovery keep-alive timeout"),
    flag("discovery-insecure-transport", Bool, "true", Satisfied(DISCOVERY), "Discovery without TLS"),
    flag("discovery-insecure-skip-tls-verify", Bool, "false", Satisfied(DISCOVERY), "Discovery without verification"),
    flag("discovery-cert", Text, "", Refused(DISCOVERY), "Discovery certificate"),
    flag("discovery-key", Text, "", Refused(DISCOVERY), "Discovery key"),
    flag("discovery-cacert", Text, "", Refused(DISCOVERY), "Discovery authorities"),
    flag("discovery-user", Text, "", Refused(DISCOVERY), "Discovery user"),
    flag("discovery-password", Text, "", Refused(DISCOVERY), "Discovery password"),
    flag("discovery-srv", Text, "", Refused(DISCOVERY), "DNS domain of a cluster"),
    flag("discovery-srv-name", Text, "", Refused(DISCOVERY), "Suffix of the DNS service"),
    flag("discovery", Text, "", Refused(DISCOVERY), "Discovery URL"),
    flag("discovery-fallback", Text, "proxy", Satisfied(DISCOVERY), "What follows a failed discovery"),
    flag("discovery-proxy", Text, "", Refused(DISCOVERY), "HTTP proxy of discovery"),
    flag("strict-reconfig-check", Bool, "true", Honoured, "Refuse changes of membership that endanger the quorum"),
    flag("pre-vote", Bool, "true", Honoured, "Ask before an election"),
    flag("auto-compaction-retention", Text, "0", Honoured, "How much history is kept; 0 is all"),
    flag("auto-compaction-mode", Text, "periodic", Honoured, "periodic or revision"),
    flag("cert-file", Text, "", Honoured, "Certificate towards clients"),
    flag("key-file", Text, "", Honoured, "Its key"),
    flag("client-cert-file", Text, "", Satisfied("this member is no client of itself"), "Certificate of this member as a client"),
    flag("client-key-file", Text, "", Satisfied("this member is no client of itself"), "Its key"),
    flag("client-cert-auth", Bool, "false", Honoured, "Demand certificates of clients"),
    flag("client-crl-file", Text, "", Honoured, "Clients' certificates that were revoked"),
    flag("client-cert-allowed-hostname", Text, "", Honoured, "Host names that a client's certificate may have"),
    flag("trusted-ca-file", Text, "", Honoured, "Authorities of clients' certificates"),
    flag("auto-tls", Bool, "false", Honoured, "Serve clients with a certificate of one's own"),
    flag("peer-cert-file", Text, "", Honoured, "Certificate towards peers"),
    flag("peer-key-file", Text, "", Honoured, "Its key"),
    flag("peer-client-cert-file", Text, "", Honoured, "Certificate as a client of peers, if another"),
    flag("peer-client-key-file", Text, "", Honoured, "Its key"),
    flag("peer-client-cert-auth", Bool, "false", Honoured, "Demand certificates of peers"),
    flag("peer-trusted-ca-file", Text, "", Honoured, "Authorities of peers' certificates"),
    flag("peer-cert-allowed-cn", Text, "", Honoured, "Common names that a peer's certificate may have"),
    flag("peer-cert-allowed-hostname", Text, "", Honoured, "Host names that a peer's certificate may have"),
    flag("peer-auto-tls", Bool, "false", Honoured, "Talk to peers with a certificate of one's own"),
    flag("self-signed-cert-validity", Number, "1", Honoured, "Years that a certificate of one's own is valid"),
    flag("peer-crl-file", Text, "", Honoured, "Peers' certificates that were revoked"),
    flag(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        Satisfied("the address of a connecting peer is not compared with its certificate"),
        "Do not compare a peer's address with its certificate",
    ),
    flag("cipher-suites", Text, "", Honoured, "Cipher suites of TLS 1.2"),
    flag("tls-min-version", Text, "TLS1.2", Honoured, "Least version of TLS"),
    flag("tls-max-version", Text, "", Honoured, "Greatest version of TLS"),
    flag("cors", Text, "*", Refused("browsers are not served across origins"), "Origins that browsers may come from"),
    flag(
        "host-whitelist",
        Text,
        "*",
        Refused("requests are not told apart by their Host"),
        "Host names that HTTP requests may use",
    ),
    flag("auth-token", Text, "simple", Honoured, "simple, or jwt with its options"),
    flag("bcrypt-cost", Number, "10", Honoured, "Rounds of bcrypt, as a power of two"),
    flag("auth-token-ttl", Number, "300", Honoured, "Seconds that a token lives unused"),
    flag(
        "enable-pprof",
        Bool,
        "false",
        Satisfied("there is no Go runtime to look at; /metrics tells the rest"),
        "Serve Go's profiles",
    ),
    flag("metrics", Text, "basic", Satisfied("all metrics are always served"), "basic or extensive"),
    flag("listen-metrics-urls", Text, "", Honoured, "URLs to listen on for metrics and health"),
    flag("logger", Text, "zap", Satisfied("lines are JSON with zap's fields"), "Kind of logger"),
    flag("log-outputs", Text, "default", Honoured, "stderr, stdout, or files"),
    flag("log-level", Text, "info", Honoured, "debug, info, warn, error, panic or fatal"),
    flag("log-format", Text, "json", Honoured, "json or console"),
    flag(
        "enable-log-rotation",
        Bool,
        "false",
        Refused("files of logs are not rotated; leave that to logrotate"),
        "Rotate the log file",
    ),
    flag(
        "log-rotation-config-json",
        Text,
        "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}",
        Satisfied("without --enable-log-rotation it means nothing"),
        "How the log file is rotated",
    ),
    flag("enable-distributed-tracing", Bool, "false", Refused(TRACING), "Export spans"),
    flag("distributed-tracing-address", Text, "localhost:4317", Satisfied(TRACING), "Where spans go"),
    flag("distributed-tracing-service-name", Text, "etcd", Satisfied(TRACING), "Name of the service in spans"),
    flag("distributed-tracing-instance-id", Text, "", Satisfied(TRACING), "Name of the instance in spans"),
    flag("distributed-tracing-sampling-rate", Number, "0", Satisfied(TRACING), "Spans of a million"),
    flag("enable-grpc-gateway", Bool, "true", Honoured, "Serve JSON over HTTP under /v3"),
    flag("corrupt-check-time", Duration, "0s", Honoured, "Time between comparisons of what members hold"),
    flag(
        "compact-hash-check-time",
        Duration,
        "1m0s",
        Satisfied("--corrupt-check-time compares everything that is readable"),
        "Time between comparisons of compacted history",
    ),
    flag(
        "compaction-batch-limit",
        Number,
        "1000",
        Satisfied("compaction cleans up in steps of 500"),
        "Revisions that a step of compaction removes",
    ),
    flag(
        "compaction-sleep-interval",
        Duration,
        "10ms",
        Satisfied("compaction never holds up a write"),
        "Pause between steps of compaction",
    ),
    flag("watch-progress-notify-interval", Duration, "10m0s", Honoured, "Time between notes of progress to idle watches"),
    flag(
        "downgrade-check-time",
        Duration,
        "5s",
        Satisfied("there is no older version to go back to"),
        "Time between checks of a downgrade",
    ),
    flag(
        "warning-apply-duration",
        Duration,
        "100ms",
        Satisfied("etcd_server_apply_duration_seconds tells every case"),
        "Time of applying that is told to the log",
    ),
    flag(
        "warning-unary-request-duration",
        Duration,
        "300ms",
        Satisfied("grpc_server_handled_total and the histograms tell every case"),
        "Time of a request that is told to the log",
    ),
    flag("memory-mlock", Bool, "false", Refused("memory is bounded, not locked"), "Lock memory"),
    flag(
        "bootstrap-defrag-threshold-megabytes",
        Number,
        "0",
        Satisfied("space is given back while the store runs"),
        "Space for which to defragment at the start",
    ),
    flag("max-learners", Number, "1", Honoured, "Learners at a time"),
    flag("feature-gates", Text, "", Honoured, "InitialCorruptCheck=true compares before serving; the others are satisfied"),
    flag(
        "unsafe-no-fsync",
        Bool,
        "false",
        Refused("what is acknowledged is on disk; there is no mode without"),
        "Do not write to disk",
    ),
    flag("force-new-cluster", Bool, "false", Honoured, "Go on alone with what this member has"),
    flag("v2-deprecation", Text, "not-yet", Satisfied("there is no v2 API"), "Phase of the v2 API's end"),
    flag("version", Bool, "false", Honoured, "Print the version and exit"),
    flag("config-file", Text, "", Honoured, "A YAML file in the place of all other flags and variables"),
];

/// Names that flags had before, or still have with `experimental-` before them.
const RENAMED: &[(&str, &str)] = &[
    ("experimental-initial-corrupt-check", "initial-corrupt-check"),
    ("experimental-compact-hash-check-enabled", "compact-hash-check-enabled"),
    ("experimental-enable-lease-checkpoint", "enable-lease-checkpoint"),
    ("experimental-enable-lease-checkpoint-persist", "enable-lease-checkpoint-persist"),
    ("experimental-txn-mode-write-with-shared-buffer", "txn-mode-write-with-shared-buffer"),
    ("experimental-stop-grpc-service-on-defrag", "stop-grpc-service-on-defrag"),
];

/// Flags that exist only under an older name.
const OLD: &[Flag] = &[
    flag("initial-corrupt-check", Bool, "false", Honoured, "Compare what members hold before serving"),
    flag(
        "compact-hash-check-enabled",
        Bool,
        "false",
        Satisfied("--corrupt-check-time compares everything that is readable"),
        "Compare compacted history",
    ),
    flag(
        "enable-lease-checkpoint",
        Bool,
        "false",
        Satisfied("what leases have left is always noted"),
        "Note what leases have left",
    ),
    flag(
        "enable-lease-checkpoint-persist",
        Bool,
        "false",
        Satisfied("what leases have left is always noted"),
        "Keep what leases have left",
    ),
    flag("txn-mode-write-with-shared-buffer", Bool, "true", Satisfied(STATE), "Share the buffer of write transactions"),
    flag(
        "stop-grpc-service-on-defrag",
        Bool,
        "false",
        Satisfied("defragmentation holds up nobody"),
        "Stop serving while defragmenting",
    ),
];

/// The flag of a name, new or old.
pub fn find(name: &str) -> Option<&'static Flag> {
    let by_name = |name: &str| FLAGS.iter().chain(OLD).find(|flag| flag.name == name);
    let renamed = RENAMED.iter().find(|(old, _)| *old == name).map(|(_, new)| *new);
    let plain = name.strip_prefix("experimental-");
    match renamed {
        Some(new) => by_name(new),
        None => FLAGS.iter().find(|flag| flag.name == name).or_else(|| plain.and_then(by_name)),
    }
}

/// The environment variable of a flag.
pub fn variable(name: &str) -> String {
    format!("ETCD_{}", name.replace('-', "_").to_uppercase())
}

/// All flags with what becomes of them.
pub fn help() -> String {
    let mut text = String::from(
        "Usage:\n\n  etcd [flags]\n    Start a store that speaks etcd's API.\n\nEvery flag of etcd is known. Each is also an environment variable (ETCD_DATA_DIR) and a key of the\nfile that --config-file names.\n\n",
    );
    for flag in FLAGS {
        let note = match flag.fate {
            Honoured => String::new(),
            Satisfied(why) => format!("\n    Accepted: {why}."),
            Refused(why) => format!("\n    Refused: {why}."),
        };
        text.push_str(&format!("  --{} '{}'\n    {}.{note}\n", flag.name, flag.default, flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn flags_are_found_under_old_names_too() {
        assert_eq!(find("data-dir").unwrap().name, "data-dir");
        assert_eq!(find("experimental-watch-progress-notify-interval").unwrap().name, "watch-progress-notify-interval");
        assert_eq!(find("experimental-initial-corrupt-check").unwrap().name, "initial-corrupt-check");
        assert!(find("experimental-nothing").is_none());
        assert!(find("initial-corrupt-check").is_none(), "it never had that name");
        assert_eq!(variable("listen-client-urls"), "ETCD_LISTEN_CLIENT_URLS");
    }

    #[test]
    fn every_flag_has_a_sound_default_and_one_place() {
        let mut names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FLAGS.len());
        for flag in FLAGS {
            assert!(super::super::settings::sound(flag.kind, flag.default) || flag.default.is_empty(), "{}", flag.name);
        }
    }
}
