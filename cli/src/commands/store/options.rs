//! From flags to what the store is started with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kontiki_store::tls::self_signed;
use kontiki_store::{Address, AutoCompaction, ClusterState, Options, Place, TlsFiles};

use super::settings::Settings;

/// etcd's default quota.
const QUOTA_BYTES: u64 = 2 << 30;
/// One TLS identity's flags: a prefix before each name.
const CLIENT: &str = "";
const PEER: &str = "peer-";
/// Flags that say where connections come in.
const LISTENING: [&str; 4] = ["listen-client-urls", "listen-client-http-urls", "listen-metrics-urls", "listen-peer-urls"];

/// Options, or every mistake.
pub fn options(settings: &Settings) -> Result<Options, Vec<String>> {
    let mut mistakes = Vec::new();
    let options = collect(settings, &mut mistakes);
    if mistakes.is_empty() { Ok(options) } else { Err(mistakes) }
}

fn collect(settings: &Settings, mistakes: &mut Vec<String>) -> Options {
    let name = settings.text("name").to_owned();
    let data_dir = match settings.text("data-dir") {
        "" => PathBuf::from(format!("{name}.etcd")),
        path => PathBuf::from(path),
    };
    let listen = |flag: &str, mistakes: &mut Vec<String>| -> Vec<Place> {
        urls(settings, flag).iter().filter_map(|url| or_mistake(place(flag, url), mistakes)).collect()
    };
    let nowhere = Place { address: Address::Port(String::new()), tls: false };
    let mut options = Options::new(&name, data_dir, nowhere.clone(), nowhere);
    options.listen_client = listen("listen-client-urls", mistakes);
    options.listen_client_http = listen("listen-client-http-urls", mistakes);
    options.listen_metrics = listen("listen-metrics-urls", mistakes);
    options.listen_peer = listen("listen-peer-urls", mistakes);
    no_file_twice(settings, mistakes);
    options.log_dir = Some(settings.text("wal-dir")).filter(|path| !path.is_empty()).map(PathBuf::from);
    options.advertise_client_urls = told(settings, "advertise-client-urls", mistakes);
    options.advertise_peer_urls = told(settings, "initial-advertise-peer-urls", mistakes);
    options.initial_cluster = initial_cluster(settings, &name, mistakes);
    options.initial_cluster_token = settings.text("initial-cluster-token").to_owned();
    options.initial_cluster_state = match settings.text("initial-cluster-state") {
        "new" => ClusterState::New,
        "existing" => ClusterState::Existing,
        other => {
            mistakes.push(format!("invalid value {other:?} for --initial-cluster-state: new or existing"));
            ClusterState::New
        }
    };
    options.force_new_cluster = settings.is_on("force-new-cluster");
    options.auto_compaction = or_mistake(auto_compaction(settings), mistakes).flatten();
    numbers(settings, &mut options, mistakes);
    elections(settings, &mut options, mistakes);
    identities(settings, &mut options, mistakes);
    features(settings, &mut options, mistakes);
    options
}

fn or_mistake<T>(result: Result<T, String>, mistakes: &mut Vec<String>) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// Each once, as with etcd.
fn urls(settings: &Settings, flag: &str) -> Vec<String> {
    let mut urls = settings.list(flag);
    let mut seen = BTreeSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    urls
}

fn place(flag: &str, url: &str) -> Result<Place, String> {
    url.parse().map_err(|mistake| format!("--{flag} {url:?}: {mistake}"))
}

/// What others are told, as it was written.
fn told(settings: &Settings, flag: &str, mistakes: &mut Vec<String>) -> Vec<String> {
    let urls = settings.list(flag);
    mistakes.extend(urls.iter().filter_map(|url| place(flag, url).err()));
    urls
}

/// A socket's file serves one thing; two ports that are the same are found when they are bound.
fn no_file_twice(settings: &Settings, mistakes: &mut Vec<String>) {
    let mut seen: Vec<(Address, &str)> = Vec::new();
    for flag in LISTENING {
        for url in urls(settings, flag) {
            let Ok(Place { address: address @ Address::File(_), .. }) = url.parse() else { continue };
            match seen.iter().find(|(other, _)| *other == address) {
                Some((_, other)) => mistakes.push(format!("cannot bind both --{other} and --{flag} on the same url {url}")),
                None => seen.push((address, flag)),
            }
        }
    }
}

fn initial_cluster(settings: &Settings, name: &str, mistakes: &mut Vec<String>) -> Vec<(String, String)> {
    let given = settings.list("initial-cluster");
    if given.is_empty() {
        return settings.list("initial-advertise-peer-urls").into_iter().map(|url| (name.to_owned(), url)).collect();
    }
    let member = |member: &String| {
        let Some((name, url)) = member.split_once('=') else {
            return Err(format!("--initial-cluster {member:?}: a member is NAME=URL"));
        };
        place("initial-cluster", url).map(|_| (name.to_owned(), url.to_owned()))
    };
    given.iter().filter_map(|given| or_mistake(member(given), mistakes)).collect()
}

fn auto_compaction(settings: &Settings) -> Result<Option<AutoCompaction>, String> {
    let retention = settings.text("auto-compaction-retention");
    let mode = match settings.text("auto-compaction-mode") {
        "periodic" => match retention.parse::<u64>() {
            // A number alone is hours.
            Ok(hours) => AutoCompaction::Periodic(Duration::from_secs(hours * 3600)),
            Err(_) => match kontiki_store::duration::parse(retention) {
                Some(period) => AutoCompaction::Periodic(period),
                None => return Err(format!("error parsing auto-compaction-retention {retention:?}")),
            },
        },
        "revision" => match retention.parse::<i64>() {
            Ok(revisions) => AutoCompaction::Revision(revisions),
            Err(_) => return Err(format!("error parsing auto-compaction-retention {retention:?}")),
        },
        other => return Err(format!("unknown auto-compaction-mode {other:?}")),
    };
    let none = matches!(mode, AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revision(0));
    Ok(Some(mode).filter(|_| !none))
}

fn numbers(settings: &Settings, options: &mut Options, mistakes: &mut Vec<String>) {
    let positive = |flag: &str, mistakes: &mut Vec<String>| -> u64 {
        let number = settings.number(flag);
        u64::try_from(number).unwrap_or_else(|_| {
            mistakes.push(format!("invalid value {number} for --{flag}: it must not be negative"));
            0
        })
    };
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    options.flush_entries = positive("snapshot-count", mistakes).max(1);
    options.keep_entries = positive("snapshot-catchup-entries", mistakes);
    options.txn_operations_max = size(positive("max-txn-ops", mistakes));
    options.request_bytes_max = size(positive("max-request-bytes", mistakes));
    options.concurrent_streams_max = u32::try_from(positive("max-concurrent-streams", mistakes)).unwrap_or(u32::MAX);
    options.learners_max = size(positive("max-learners", mistakes));
    options.bcrypt_cost = u32::try_from(positive("bcrypt-cost", mistakes)).unwrap_or(10).clamp(4, 31);
    options.auth_token = settings.text("auth-token").to_owned();
    options.auth_token_ttl = Duration::from_secs(positive("auth-token-ttl", mistakes));
    options.quota_bytes = match settings.number("quota-backend-bytes") {
        0 => QUOTA_BYTES,
        // etcd's way to say: no bound.
        bytes => u64::try_from(bytes).unwrap_or(0),
    };
    options.client_keep_alive = (settings.duration("grpc-keepalive-interval"), settings.duration("grpc-keepalive-timeout"));
    options.watch_progress_interval = settings.duration("watch-progress-notify-interval");
    options.corrupt_check_interval = settings.duration("corrupt-check-time");
    options.gateway = settings.is_on("enable-grpc-gateway");
    options.strict_reconfig_check = settings.is_on("strict-reconfig-check");
    options.pre_vote = settings.is_on("pre-vote");
}

/// etcd's timeout T becomes T/3 to T/2, since a campaign begins only after the leader's lease is over too.
fn elections(settings: &Settings, options: &mut Options, mistakes: &mut Vec<String>) {
    let milliseconds = |flag: &str| Duration::from_millis(u64::try_from(settings.number(flag)).unwrap_or(0));
    let (heartbeat, election) = (milliseconds("heartbeat-interval"), milliseconds("election-timeout"));
    if heartbeat.is_zero() || election.is_zero() {
        mistakes.push("--heartbeat-interval and --election-timeout must be >0".to_owned());
    }
    if election < heartbeat * 5 {
        let (election, heartbeat) = (election.as_millis(), heartbeat.as_millis());
        mistakes.push(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > Duration::from_secs(50) {
        mistakes.push("--election-timeout is too long, and should be set less than 50000ms".to_owned());
    }
    if !settings.is_given("heartbeat-interval") && !settings.is_given("election-timeout") {
        // The store's own defaults, which are quicker than etcd's.
        return;
    }
    options.election = (election / 3, election / 2);
    // Several heartbeats have to fit.
    options.heartbeat = heartbeat.min(election / 9);
}

fn identities(settings: &Settings, options: &mut Options, mistakes: &mut Vec<String>) {
    let hosts = |places: &[Place]| -> Vec<String> {
        // What is no ASCII cannot stand in a certificate.
        let names = places.iter().map(Place::host).filter(|host| !host.is_empty() && host.is_ascii());
        names.map(str::to_owned).collect()
    };
    let years = u32::try_from(settings.number("self-signed-cert-validity")).unwrap_or(1);
    let folder = |name: &str| options.data_dir.join("fixtures").join(name);
    let clients_secure = options.listen_client.iter().chain(&options.listen_client_http).any(|listen| listen.tls);
    let metrics_secure = options.listen_metrics.iter().any(|listen| listen.tls);
    let peers_secure = options.listen_peer.iter().any(|listen| listen.tls);
    let client = identity(settings, CLIENT, &folder("client"), &hosts(&options.listen_client), years);
    let peer = identity(settings, PEER, &folder("peer"), &hosts(&options.listen_peer), years);
    let (client, peer) = (or_mistake(client, mistakes).flatten(), or_mistake(peer, mistakes).flatten());
    if clients_secure && client.is_none() {
        mistakes.push("TLS key/cert (--cert-file, --key-file) must be provided for client url with HTTPS scheme".to_owned());
    } else if metrics_secure && client.is_none() {
        mistakes.push("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned());
    }
    if peers_secure && peer.is_none() {
        mistakes
            .push("TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url with HTTPS scheme".to_owned());
    }
    options.client_tls = client;
    options.peer_tls = peer;
}

fn identity(settings: &Settings, prefix: &str, folder: &Path, hosts: &[String], years: u32) -> Result<Option<TlsFiles>, String> {
    let path = |flag: &str| Some(settings.text(&format!("{prefix}{flag}"))).filter(|text| !text.is_empty()).map(PathBuf::from);
    let mut files = match (path("cert-file"), path("key-file")) {
        (Some(cert), Some(key)) => TlsFiles { cert, key, ..TlsFiles::default() },
        (None, None) if settings.is_on(&format!("{prefix}auto-tls")) => {
            self_signed::keep(folder, hosts, years).map_err(|error| format!("--{prefix}auto-tls: {error}"))?
        }
        (None, None) => return Ok(None),
        _ => return Err(format!("--{prefix}cert-file and --{prefix}key-file must both be present")),
    };
    files.ca = path("trusted-ca-file");
    let demands = settings.is_on(&format!("{prefix}client-cert-auth"));
    if demands && files.ca.is_none() {
        return Err(format!(
            "--{prefix}client-cert-auth needs --{prefix}trusted-ca-file: the authorities that are trusted must be named"
        ));
    }
    if prefix == PEER {
        if files.ca.is_none() && !settings.is_on("peer-auto-tls") {
            return Err("--peer-cert-file needs --peer-trusted-ca-file: a peer that nobody vouches for is not trusted".to_owned());
        }
        files.client = path("client-cert-file").zip(path("client-key-file"));
        files.common_names = settings.list("peer-cert-allowed-cn");
        files.host_names = settings.list("peer-cert-allowed-hostname");
        files.revoked = path("crl-file");
    } else {
        files.host_names = settings.list("client-cert-allowed-hostname");
        files.revoked = path("client-crl-file");
    }
    files.cipher_suites = settings.list("cipher-suites");
    files.only_tls13 = settings.text("tls-min-version") == "TLS1.3";
    files.only_tls12 = settings.text("tls-max-version") == "TLS1.2";
    for (flag, value) in ["tls-min-version", "tls-max-version"].map(|flag| (flag, settings.text(flag))) {
        if !matches!(value, "" | "TLS1.2" | "TLS1.3") {
            return Err(format!("--{flag} {value:?}: TLS1.2 or TLS1.3"));
        }
    }
    if files.only_tls12 && files.only_tls13 {
        return Err("min version (TLS1.3) is greater than max version (TLS1.2)".to_owned());
    }
    if files.only_tls13 && !files.cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    Ok(Some(files))
}

/// Gates of etcd, and whether one may be switched on here.
const GATES: [(&str, bool); 9] = [
    ("InitialCorruptCheck", true),
    ("CompactHashCheck", true),
    ("LeaseCheckpoint", true),
    ("LeaseCheckpointPersist", true),
    ("StopGRPCServiceOnDefrag", true),
    ("TxnModeWriteWithSharedBuffer", true),
    ("FastLeaseKeepAlive", true),
    ("PriorityRequest", true),
    ("SetMemberLocalAddr", false),
];

fn features(settings: &Settings, options: &mut Options, mistakes: &mut Vec<String>) {
    options.initial_corrupt_check = settings.is_on("initial-corrupt-check");
    for gate in settings.list("feature-gates") {
        let (name, value) = gate.split_once('=').unwrap_or((&gate, ""));
        let on = match value {
            "true" => true,
            "false" => false,
            _ => {
                mistakes.push(format!("missing bool value for feature gate {name:?}"));
                continue;
            }
        };
        match GATES.iter().find(|(known, _)| *known == name) {
            None => mistakes.push(format!("unrecognized feature gate: {name}")),
            Some((_, false)) if on => {
                mistakes.push(format!("feature gate {name} cannot be honoured: peers are reached from any local address"));
            }
            Some(_) if name == "InitialCorruptCheck" => options.initial_corrupt_check = on,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(arguments: &[&str]) -> Result<Options, Vec<String>> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        options(&Settings::new(&arguments, &Default::default())?)
    }

    #[test]
    fn without_flags_it_is_etcds_default_member() {
        let options = given(&[]).unwrap();
        assert_eq!(options.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(options.initial_cluster, [("default".to_owned(), "http://localhost:2380".to_owned())]);
        assert_eq!(options.listen_client, [Place { address: Address::Port("localhost:2379".to_owned()), tls: false }]);
        assert_eq!(options.quota_bytes, QUOTA_BYTES);
        assert_eq!(options.auto_compaction, None);
    }

    #[test]
    fn what_is_given_is_honoured() {
        let options = given(&[
            "--name=a",
            "--initial-cluster=a=http://1.1.1.1:1,a=http://1.1.1.1:2,b=http://2.2.2.2:1",
            "--election-timeout=900",
            "--heartbeat-interval=50",
            "--auto-compaction-retention=2",
            "--quota-backend-bytes=-1",
            "--feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=false",
        ]);
        let options = options.unwrap();
        assert_eq!(options.initial_cluster.len(), 3);
        assert_eq!(options.election, (Duration::from_millis(300), Duration::from_millis(450)));
        assert_eq!(options.auto_compaction, Some(AutoCompaction::Periodic(Duration::from_secs(7200))));
        assert_eq!(options.quota_bytes, 0);
        assert!(options.initial_corrupt_check);
    }

    #[test]
    fn sockets_files_stand_wherever_ports_do() {
        let options = given(&[
            "--listen-client-urls=unix://localhost:m10,http://127.0.0.1:2379,unix://localhost:m10",
            "--listen-client-http-urls=unix:///run/http",
            "--listen-metrics-urls=unix:///run/metrics",
            "--listen-peer-urls=unixs://peer",
            "--advertise-client-urls=unix://localhost:m10",
            "--initial-advertise-peer-urls=unixs://peer",
            "--peer-cert-file=c",
            "--peer-key-file=k",
            "--peer-trusted-ca-file=a",
        ]);
        let options = options.unwrap();
        let file = |path: &str, tls: bool| Place { address: Address::File(PathBuf::from(path)), tls };
        let port = Place { address: Address::Port("127.0.0.1:2379".to_owned()), tls: false };
        assert_eq!(options.listen_client, [file("localhost:m10", false), port]);
        assert_eq!(options.listen_client_http, [file("/run/http", false)]);
        assert_eq!(options.listen_metrics, [file("/run/metrics", false)]);
        assert_eq!(options.listen_peer, [file("peer", true)]);
        assert_eq!(options.advertise_client_urls, ["unix://localhost:m10"]);
        assert_eq!(options.initial_cluster, [("default".to_owned(), "unixs://peer".to_owned())]);
    }

    #[test]
    fn mistakes_are_told_in_etcds_words() {
        let check = |arguments: &[&str], part: &str| {
            let mistakes = given(arguments).unwrap_err();
            assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{arguments:?}: {mistakes:?}");
        };
        check(&["--election-timeout=100"], "should be at least as 5 times as");
        check(&["--listen-metrics-urls=https://localhost:1"], "must be provided for metrics secure url");
        check(&["--listen-client-urls=https://localhost:1"], "must be provided for client url with HTTPS scheme");
        check(&["--listen-client-urls=localhost:1"], "URL scheme must be http, https, unix, or unixs");
        check(&["--advertise-client-urls=localhost:1"], "URL scheme must be http, https, unix, or unixs");
        check(&["--initial-cluster=a=http://a"], "does not have the form");
        check(&["--listen-client-urls=unixs://a:1"], "must be provided for client url with HTTPS scheme");
        check(&["--listen-metrics-urls=unix://"], "the URL names no file");
        check(
            &["--listen-client-urls=unix://a:1", "--listen-client-http-urls=unix://a:1"],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url unix://a:1",
        );
        check(&["--listen-peer-urls=http://localhost"], "does not have the form");
        check(&["--initial-cluster=a"], "a member is NAME=URL");
        check(&["--auto-compaction-mode=x"], "unknown auto-compaction-mode");
        check(&["--feature-gates=Nothing=true"], "unrecognized feature gate: Nothing");
        check(&["--cert-file=a"], "must both be present");
        check(&["--initial-cluster-state=x"], "new or existing");
    }
}
