//! A member that joins a running cluster learns there who it is.

use std::time::Duration;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use tokio::time::Instant;
use wire_pb::peer_client::PeerClient;

use super::identity::{self, Begin};
use super::options::Options;
use super::start::StartError;
use crate::tls::Connector;

/// How long the running members may take to answer.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// How long one of them may.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Before they are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks each of the others until one answers.
pub async fn identity(options: &Options, connector: Connector) -> Result<Begin, StartError> {
    let deadline = Instant::now() + FOUND_WITHIN;
    let others: Vec<&String> =
        options.initial_cluster.iter().filter(|(name, _)| *name != options.name).map(|(_, url)| url).collect();
    let mut last = "there is nobody else in --initial-cluster".to_owned();
    while !others.is_empty() && Instant::now() < deadline {
        for url in &others {
            let mut peer = PeerClient::new(connector.channel(url));
            match tokio::time::timeout(ANSWER_TIMEOUT, peer.members(wire_pb::MembersRequest {})).await {
                Ok(Ok(members)) => return identity::of_joining(options, &members.into_inner()),
                Ok(Err(status)) => last = format!("{url}: {}", status.message()),
                Err(_) => last = format!("{url}: no answer"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(StartError::Options(format!("cannot fetch cluster info from peer urls: {last}")))
}
