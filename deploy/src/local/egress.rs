//! The nodes' way to registries outside: an HTTP proxy on the link that only tunnels (CONNECT).
//!
//! A local node has no way to the host's network; images are the one thing that it must fetch from there. The
//! listener belongs to the link's namespace, connections outward are made in the host's, and a socket stays
//! in the namespace it was made in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::shape::{EGRESS_PORT, LINK_ADDRESS};

/// Tunnels at the same time.
const TUNNELS_MAX: usize = 256;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long a client may take to ask, and a registry to answer the connection.
const DEADLINE: Duration = Duration::from_secs(10);

/// Accepts on the link, in the link's namespace, and hands connections to [`serve`].
pub async fn accept(sender: mpsc::Sender<std::net::TcpStream>, cancel: CancellationToken) -> Result<()> {
    let address = SocketAddr::from((LINK_ADDRESS, EGRESS_PORT));
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} of the link"))?;
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                if sender.send(stream).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => {
                tracing::warn!("accept a connection of a node: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Tunnels, in the host's namespace.
pub async fn serve(mut accepted: mpsc::Receiver<std::net::TcpStream>, cancel: CancellationToken) {
    let permits = Arc::new(Semaphore::new(TUNNELS_MAX));
    while let Some(stream) = tokio::select! { next = accepted.recv() => next, () = cancel.cancelled() => None } {
        let (Ok(permit), Ok(stream)) = (Arc::clone(&permits).acquire_owned().await, TcpStream::from_std(stream)) else {
            continue;
        };
        tokio::spawn(async move {
            if let Err(error) = tunnel(stream).await {
                tracing::debug!("a node's way out: {error:#}");
            }
            drop(permit);
        });
    }
}

async fn tunnel(mut near: TcpStream) -> Result<()> {
    let head = tokio::time::timeout(DEADLINE, read_head(&mut near)).await.context("no request in time")??;
    let Some(target) = target(&head) else {
        near.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return Ok(());
    };
    let connected = tokio::time::timeout(DEADLINE, TcpStream::connect(target)).await;
    let Ok(Ok(mut far)) = connected else {
        near.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        anyhow::bail!("cannot connect to {target}");
    };
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    // Either side may end the connection as it likes.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    Ok(())
}

async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            anyhow::bail!("the head of the request is too long");
        }
        // Byte by byte: what follows the head belongs to the tunnel.
        head.push(stream.read_u8().await?);
    }
    String::from_utf8(head).context("the head of the request is no text")
}

/// `host:port` of a CONNECT request.
fn target(head: &str) -> Option<&str> {
    let mut words = head.lines().next()?.split(' ');
    let target = words.next().filter(|method| *method == "CONNECT").and_then(|_| words.next())?;
    target.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())?;
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tunnels_are_understood() {
        assert_eq!(target("CONNECT registry-1.docker.io:443 HTTP/1.1\r\nHost: x\r\n\r\n"), Some("registry-1.docker.io:443"));
        for head in ["GET http://x/ HTTP/1.1\r\n\r\n", "CONNECT x HTTP/1.1\r\n\r\n", "CONNECT :1 HTTP/1.1\r\n\r\n", ""] {
            assert_eq!(target(head), None, "{head}");
        }
    }
}
