//! One member that runs alone, and ways to it.

use std::net::SocketAddr;
use std::time::Duration;

use kontiki_store::{Options, Service};
use tonic::transport::Channel;

use crate::common::{Running, own_address};

const DEADLINE: Duration = Duration::from_secs(20);

/// A member without others, whose files lie in a folder.
pub async fn member(folder: &tempfile::TempDir) -> Running {
    let ip = own_address();
    let (clients, peers) = (SocketAddr::new(ip, 2379), SocketAddr::new(ip, 2380));
    let mut options = Options::new("a", folder.path().join("a"), clients, peers);
    options.initial_cluster = vec![("a".to_owned(), format!("http://{peers}"))];
    options.advertise_client_urls = vec![format!("http://{clients}")];
    let handle = Running(Service::start(options).await.unwrap());
    within(handle.ready()).await.unwrap();
    handle
}

/// A connection of a client to a member.
pub async fn channel(handle: &Running) -> Channel {
    within(Channel::from_shared(format!("http://{}", handle.client_address())).unwrap().connect()).await.unwrap()
}

/// What must come to an end soon.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}
