//! Health checks of load balancers: for each Service whose outside traffic stays on its node, a port that says
//! whether this node has endpoints.
//!
//! <https://kubernetes.io/docs/tasks/access-application-cluster/create-external-load-balancer/>

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ::http::{Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use parking_lot::RwLock;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{self, Answer},
    index::Key,
};

/// A Service that is asked about, and how many endpoints the node has.
pub type Check = (Key, usize);
/// Checks by port.
pub type Checks = BTreeMap<u16, Check>;

/// What a load balancer is told.
#[must_use]
pub fn answer((key, endpoints): &Check) -> Answer {
    let code = if *endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "service": { "namespace": key.0, "name": key.1 }, "localEndpoints": endpoints, "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", header::HeaderValue::from(*endpoints));
    response
}

/// The open ports.
#[derive(Default)]
pub struct Ports {
    open: HashMap<u16, (Arc<RwLock<Check>>, CancellationToken)>,
}

impl Ports {
    /// Opens, changes and closes ports so that they are these.
    pub async fn set(&mut self, wanted: &Checks) {
        self.open.retain(|port, (_, cancel)| {
            let kept = wanted.contains_key(port);
            if !kept {
                cancel.cancel();
            }
            kept
        });
        for (port, check) in wanted {
            if let Some((known, _)) = self.open.get(port) {
                known.write().clone_from(check);
                continue;
            }
            match TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))).await {
                Ok(listener) => {
                    let (check, cancel) = (Arc::new(RwLock::new(check.clone())), CancellationToken::new());
                    let asked = Arc::clone(&check);
                    tokio::spawn(http::serve(listener, move |_| answer(&asked.read()), cancel.clone()));
                    self.open.insert(*port, (check, cancel));
                }
                Err(error) => {
                    tracing::warn!(port, %error, "cannot open a health check's port; it is tried again with the next change");
                }
            }
        }
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.open.values().for_each(|(_, cancel)| cancel.cancel());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    #[tokio::test]
    async fn a_port_says_whether_the_node_has_endpoints() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let key = ("n".to_owned(), "web".to_owned());
        let mut ports = Ports::default();
        ports.set(&BTreeMap::from([(port, (key.clone(), 2))])).await;
        let found = ask(port).await.unwrap();
        assert!(found.starts_with("HTTP/1.1 200"), "{found}");
        assert!(found.contains(r#""localEndpoints":2"#), "{found}");
        ports.set(&BTreeMap::from([(port, (key, 0))])).await;
        assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 503"));
        ports.set(&BTreeMap::new()).await;
    }
}
