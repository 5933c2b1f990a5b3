//! HTTP requests to a Service from a node's own network, one connection each, no retries.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Clock, Record};
use crate::{
    cluster::Records,
    history::Request,
    node::{enter_network, init},
};

/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(2);
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n";

/// Requests that go on until they are stopped.
pub struct Requests {
    /// What became of each.
    pub record: Record<Request>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Requests {
    /// No node yet.
    #[must_use]
    pub fn new() -> Self {
        Self { record: Record::default(), stop: Arc::default(), threads: Vec::new() }
    }

    /// Asks `service` from `node`, once each `period`.
    pub fn from_node(&mut self, cluster: &Records, clock: Clock, node: &str, service: SocketAddr, period: Duration) {
        let (cluster, node) = (cluster.clone(), node.to_owned());
        let (record, stop) = (self.record.clone(), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || {
            let mut entered = 0;
            while !stop.load(Ordering::Relaxed) {
                let began = clock.now();
                let failure = enter(&cluster, &node, &mut entered).and_then(|()| ask(service)).err();
                let ended = clock.now();
                record.push(Request { node: node.clone(), began, ended, failure: failure.map(|error| format!("{error:#}")) });
                std::thread::sleep(period.saturating_sub(ended - began));
            }
        }));
    }

    /// Ends all and waits for them.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has no more requests; its record stays.
            let _ = thread.join();
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A node that was started anew has another namespace.
fn enter(cluster: &Records, node: &str, entered: &mut i32) -> Result<()> {
    let now = init(cluster, node)?;
    if now != *entered {
        enter_network(cluster, node)?;
        *entered = now;
    }
    Ok(())
}

fn ask(service: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&service, DEADLINE).context("connect")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(ASK).context("ask")?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page).context("read the answer")?;
    ensure!(
        page.starts_with(b"HTTP/1.1 200") && page.windows(7).any(|part| part == b"</html>"),
        "{}",
        String::from_utf8_lossy(&page)
    );
    Ok(())
}
