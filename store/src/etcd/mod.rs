//! The etcd v3 services over a running member, and HTTP beside them on the same ports.
//!
//! In come gRPC requests on the client port; each is one call of [`crate::kv::Kv`] on behalf of the
//! user whom its token or certificate names. Beside them are server reflection, the standard health
//! service, and over HTTP health, version, metrics and the gateway from JSON.
//! Invariant: messages, codes and error texts are etcd's, so that every etcd client works.

mod auth;
mod cluster;
mod election;
mod gateway;
mod health;
mod http;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod meter;
mod progress;
mod queue;
mod serve;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use tonic::Request;

use crate::auth::Caller;
use crate::error::Error;
use crate::service::Handle;

pub(crate) use self::serve::{Listener, Serves, serve};

/// The services' shared part.
#[derive(Clone)]
struct Services {
    handle: Handle,
}

/// The common name in the certificate that a client showed.
#[derive(Clone)]
struct CommonName(Arc<str>);

/// Where clients put their token: the name of gRPC's metadata, and that of HTTP's header.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];

impl Services {
    /// The member, on behalf of whoever makes a request.
    fn of<T>(&self, request: &Request<T>) -> Result<Handle, Error> {
        let caller = self.caller(request)?;
        Ok(self.handle.on_behalf_of(caller))
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Error> {
        let state = &self.handle.core.state;
        if !state.auth().enabled {
            return Ok(Caller::Anonymous);
        }
        let token = TOKEN_KEYS.iter().find_map(|key| request.metadata().get(*key)).and_then(|token| token.to_str().ok());
        if let Some(token) = token {
            return state.tokens().read(token.trim_start_matches("Bearer "), Instant::now());
        }
        let name = request.extensions().get::<CommonName>();
        Ok(name.map_or(Caller::Anonymous, |name| Caller::User { name: name.0.clone(), revision: None }))
    }
}
