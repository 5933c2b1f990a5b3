//! How a request reaches an API server: over HTTPS, or by a call in this process.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use crate::error::Error;

/// What a body may fail with while it streams.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Body of an answer: whole for a read, endless for a watch.
pub type ResponseBody = UnsyncBoxBody<Bytes, BodyError>;

/// One way to an API server. The identity of the caller belongs to the transport.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request whose URI is a path and query, and returns as soon as the head of the
    /// answer is there.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<ResponseBody>, Error>;
}
