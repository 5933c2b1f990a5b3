//! Who a member is: written once when its data begins, read ever after.
//!
//! In come the options and, for a member that joins, what the running members say; out come the
//! identity and, for a cluster that begins, its members. Invariant: a member never changes its
//! identity, whatever the options of a later start say.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use prost::Message;

use super::options::{ClusterState, Options};
use super::start::StartError;
use crate::raft::types::Peer;

/// The only layout so far.
const VERSION: u32 = 1;
/// Name of the file.
const FILE: &str = "identity";

/// Who a member is, and with whom its cluster begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// The first members of a new cluster; empty for a member that joins one or comes back.
    pub members: BTreeMap<u64, Peer>,
}

/// Reads the identity, if there is one.
pub fn read(data_dir: &Path) -> Result<Option<Begin>, StartError> {
    let stored = match std::fs::read(data_dir.join(FILE)) {
        Ok(stored) => stored,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StartError::Io { what: "cannot read this member's identity".to_owned(), source }),
    };
    let identity = wire_pb::Identity::decode(stored.as_slice()).ok().filter(|identity| identity.version == VERSION);
    let identity =
        identity.ok_or_else(|| StartError::Options("this member's identity is damaged, or of a newer version".into()))?;
    Ok(Some(Begin { cluster_id: identity.cluster_id, member_id: identity.member_id, members: BTreeMap::new() }))
}

/// Writes the identity, so that a crash leaves none or a whole one.
pub fn write(data_dir: &Path, begin: &Begin) -> Result<(), StartError> {
    let identity = wire_pb::Identity { version: VERSION, cluster_id: begin.cluster_id, member_id: begin.member_id };
    let writing = || -> std::io::Result<()> {
        let temporary = data_dir.join("identity.new");
        std::fs::write(&temporary, identity.encode_to_vec())?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, data_dir.join(FILE))?;
        std::fs::File::open(data_dir)?.sync_all()
    };
    writing().map_err(|source| StartError::Io { what: "cannot write this member's identity".to_owned(), source })
}

/// The first members of a cluster, by identity. A name that comes more than once has several URLs.
#[must_use]
pub fn first_members(initial_cluster: &[(String, String)]) -> BTreeMap<u64, Peer> {
    let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, url) in initial_cluster {
        urls.entry(name).or_default().push(url.clone());
    }
    let member = |(name, mut urls): (&str, Vec<String>)| {
        urls.sort_unstable();
        (member_id(name, &urls.join(",")), Peer { name: name.to_owned(), urls, learner: false })
    };
    urls.into_iter().map(member).collect()
}

/// The identity of a member of a cluster that begins.
pub fn of_new(options: &Options) -> Result<Begin, StartError> {
    let members = first_members(&options.initial_cluster);
    let mut mine = members.iter().filter(|(_, peer)| peer.name == options.name);
    let Some((member_id, peer)) = mine.next() else {
        let text = format!("couldn't find local name {:?} in the initial cluster configuration", options.name);
        return Err(StartError::Options(text));
    };
    check_advertised(options, peer)?;
    let mut all: Vec<_> = options.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
    all.sort_unstable();
    if !options.initial_cluster_token.is_empty() {
        all.push(options.initial_cluster_token.clone());
    }
    Ok(Begin { cluster_id: hash(&all.join(",")), member_id: *member_id, members: members.clone() })
}

fn check_advertised(options: &Options, peer: &Peer) -> Result<(), StartError> {
    let mut advertised = options.advertise_peer_urls.clone();
    advertised.sort_unstable();
    if advertised.is_empty() || advertised == peer.urls {
        return Ok(());
    }
    let text = format!(
        "--initial-cluster has {}={} but --initial-advertise-peer-urls has {}",
        options.name,
        peer.urls.join(","),
        advertised.join(",")
    );
    Err(StartError::Options(text))
}

/// The identity of a member that joins a cluster, which must know it by its peer URLs.
pub fn of_joining(options: &Options, running: &wire_pb::MembersResponse) -> Result<Begin, StartError> {
    let mut own: Vec<_> = match options.advertise_peer_urls.as_slice() {
        [] => options.initial_cluster.iter().filter(|(name, _)| *name == options.name).map(|(_, url)| url.clone()).collect(),
        urls => urls.to_vec(),
    };
    own.sort_unstable();
    let sorted = |member: &wire_pb::Member| {
        let mut urls = member.peer_urls.clone();
        urls.sort_unstable();
        urls
    };
    let listed = first_members(&options.initial_cluster).len();
    if listed != running.members.len() {
        return Err(StartError::Options(
            "error validating peerURLs: member count is unequal: --initial-cluster must list the members that there are".into(),
        ));
    }
    match running.members.iter().find(|member| sorted(member) == own) {
        Some(member) => Ok(Begin { cluster_id: running.cluster_id, member_id: member.id, members: BTreeMap::new() }),
        None => Err(StartError::Options(format!(
            "error validating peerURLs: the running members were not told of one at {}: add it first",
            own.join(",")
        ))),
    }
}

/// Whether a member that starts without data should ask the running ones.
#[must_use]
pub fn joins(options: &Options) -> bool {
    options.initial_cluster_state == ClusterState::Existing
}

/// The identity of a member, the same wherever it is computed.
#[must_use]
pub fn member_id(name: &str, peer_urls: &str) -> u64 {
    hash(&format!("{name}={peer_urls}"))
}

/// FNV-1a with a final mix: stable for ever, unlike the standard library's hashes.
fn hash(text: &str) -> u64 {
    let mut hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Zero means "nobody" in etcd's messages.
    (hash ^ (hash >> 29)).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::SocketAddr;

    fn options(name: &str, cluster: &[(&str, &str)]) -> Options {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Options::new(name, "unused".into(), nowhere, nowhere);
        options.initial_cluster = cluster.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect();
        options
    }

    #[test]
    fn identities_are_stable_and_distinct() {
        assert_eq!(member_id("a", "https://10.0.0.1:2380"), member_id("a", "https://10.0.0.1:2380"));
        assert_ne!(member_id("a", "https://10.0.0.1:2380"), member_id("b", "https://10.0.0.1:2380"));
        let one = of_new(&options("a", &[("a", "http://a"), ("b", "http://b")])).unwrap();
        let other = of_new(&options("b", &[("b", "http://b"), ("a", "http://a")])).unwrap();
        assert_eq!(one.cluster_id, other.cluster_id);
        assert_ne!(one.member_id, other.member_id);
        let mut token = options("a", &[("a", "http://a"), ("b", "http://b")]);
        token.initial_cluster_token = "other".into();
        assert_ne!(of_new(&token).unwrap().cluster_id, one.cluster_id);
    }

    #[test]
    fn a_member_must_be_part_of_what_it_begins() {
        assert!(of_new(&options("c", &[("a", "http://a")])).is_err());
        let mut elsewhere = options("a", &[("a", "http://a")]);
        elsewhere.advertise_peer_urls = vec!["http://b".into()];
        assert!(of_new(&elsewhere).is_err());
        let two = of_new(&options("a", &[("a", "http://b"), ("a", "http://a")])).unwrap();
        assert_eq!(two.members[&two.member_id].urls, ["http://a", "http://b"]);
    }

    #[test]
    fn a_member_joins_under_the_identity_that_it_was_given() {
        let member = |id, url: &str| wire_pb::Member { id, peer_urls: vec![url.to_owned()], ..Default::default() };
        let running = wire_pb::MembersResponse { cluster_id: 9, members: vec![member(1, "http://a"), member(2, "http://b")] };
        let begin = of_joining(&options("b", &[("a", "http://a"), ("b", "http://b")]), &running).unwrap();
        assert_eq!(begin, Begin { cluster_id: 9, member_id: 2, members: BTreeMap::new() });
        assert!(of_joining(&options("c", &[("a", "http://a"), ("c", "http://c")]), &running).is_err(), "nobody knows c");
        assert!(of_joining(&options("b", &[("b", "http://b")]), &running).is_err(), "a is left out");
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let begin = Begin { cluster_id: 1, member_id: 2, members: BTreeMap::new() };
        write(folder.path(), &begin).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(begin));
        std::fs::write(folder.path().join(FILE), b"\xff\xff").unwrap();
        assert!(read(folder.path()).is_err());
    }
}
