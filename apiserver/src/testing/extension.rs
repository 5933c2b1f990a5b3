//! A server that extends the API server: TLS on loopback, with an authority of its own.
#![allow(clippy::unwrap_used)]

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{auth::certificate, outbound::Identity};

/// An authority that signs certificates.
pub struct Authority {
    /// Its certificate, as PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate with a common name, for whoever is reached by these names.
    pub fn sign(&self, common_name: &str, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
    }

    /// Its certificate as a `caBundle`.
    pub fn bundle(&self) -> String {
        BASE64_STANDARD.encode(&self.certificate)
    }
}

/// A running server; it ends with the runtime of its test.
pub struct Extension {
    /// Its port on loopback.
    pub port: u16,
    /// Whom its clients must trust.
    pub authority: Authority,
}

/// Header in which a handler finds the common name of the certificate that a client showed.
pub const CLIENT: &str = "test-client";

impl Extension {
    /// Starts one for these names. With `clients` it wants certificates of that authority.
    pub async fn start<H, F>(names: &[&str], clients: Option<&Authority>, handler: H) -> Self
    where
        H: Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let authority = Authority::new();
        let own = authority.sign("extension", names);
        let chain = CertificateDer::pem_slice_iter(&own.certificate).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(&own.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(clients.certificate.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler) = (acceptor.clone(), handler.clone());
                tokio::spawn(async move {
                    // Some clients are to be refused.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| certificate::user(chain.first()?));
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (handler, shown) = (handler.clone(), shown.clone());
                        async move {
                            let (mut head, body) = request.into_parts();
                            if let Some(user) = shown {
                                head.headers.insert(CLIENT, user.name.parse().unwrap());
                            }
                            let body = body.collect().await.unwrap().to_bytes();
                            Ok::<_, Infallible>(handler(Request::from_parts(head, body)).await)
                        }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, authority }
    }

    /// A `clientConfig` that leads to a path of it.
    pub fn client_config(&self, path: &str) -> serde_json::Value {
        serde_json::json!({ "url": format!("https://localhost:{}{path}", self.port), "caBundle": self.authority.bundle() })
    }
}

/// An answer with a body of JSON.
pub fn json(code: u16, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.body(Full::new(Bytes::from(value.to_string()))).unwrap()
}
