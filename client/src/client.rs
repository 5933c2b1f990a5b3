//! Typed requests over any [`Transport`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kontiki_api::{resources::ResourceKey, status::Status};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::Error,
    metrics,
    params::{DeleteOptions, List, ListParams, Patch},
    transport::{ResponseBody, Transport},
    watch::{WatchParams, WatchStream},
};

/// How long a request that is no watch may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// A client of one cluster with one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

impl Client {
    /// A client that names itself `user_agent` over that transport.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Self {
        Self { transport, user_agent: user_agent.into() }
    }

    /// A client with its own connections to one or more API servers.
    pub fn https(config: crate::https::HttpsConfig, user_agent: &str) -> Result<Self, Error> {
        Ok(Self::new(Arc::new(crate::https::HttpsTransport::new(config)?), user_agent))
    }

    /// Reads one object. `namespace` is empty for resources without namespaces.
    pub async fn get<T: DeserializeOwned>(&self, key: ResourceKey, namespace: &str, name: &str) -> Result<T, Error> {
        self.decoded(Method::GET, key.path(namespace, name), "", Bytes::new()).await
    }

    /// Reads a list; an empty `namespace` means all of them.
    pub async fn list<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        params: &ListParams,
    ) -> Result<List<T>, Error> {
        let path = with_query(key.path(namespace, ""), &params.query());
        self.decoded(Method::GET, path, "", Bytes::new()).await
    }

    /// Creates an object.
    pub async fn create<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let path = key.path(namespace, "");
        let body = encode(&path, body)?;
        self.decoded(Method::POST, path, JSON, body).await
    }

    /// Replaces an object; its `metadata.resourceVersion`, if set, must be the current one.
    pub async fn update<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        name: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let path = key.path(namespace, name);
        let body = encode(&path, body)?;
        self.decoded(Method::PUT, path, JSON, body).await
    }

    /// Replaces an object's status.
    pub async fn update_status<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        name: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.update_subresource(key, namespace, name, "status", body).await
    }

    /// Replaces a subresource, such as `status` or `finalize`.
    pub async fn update_subresource<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let path = format!("{}/{subresource}", key.path(namespace, name));
        let body = encode(&path, body)?;
        self.decoded(Method::PUT, path, JSON, body).await
    }

    /// Changes an object or one of its subresources.
    pub async fn patch<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<T, Error> {
        let mut path = key.path(namespace, name);
        if let Some(subresource) = subresource {
            path.push('/');
            path.push_str(subresource);
        }
        let body = encode(&path, patch.body())?;
        self.decoded(Method::PATCH, path, patch.content_type(), body).await
    }

    /// Deletes an object. That it is there until its finalizers or its grace period end is no error.
    pub async fn delete(&self, key: ResourceKey, namespace: &str, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        let path = key.path(namespace, name);
        let body = encode(&path, options)?;
        self.request(Method::DELETE, path, JSON, body).await.map(drop)
    }

    /// Creates a subresource, such as `binding` or `token`.
    pub async fn create_subresource<T: DeserializeOwned>(
        &self,
        key: ResourceKey,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let path = format!("{}/{subresource}", key.path(namespace, name));
        let body = encode(&path, body)?;
        self.decoded(Method::POST, path, JSON, body).await
    }

    /// Begins a watch.
    pub async fn watch(&self, key: ResourceKey, namespace: &str, params: &WatchParams) -> Result<WatchStream, Error> {
        let path = with_query(key.path(namespace, ""), &params.query());
        let response = self.send(Method::GET, &path, "", Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(failure(&path, response).await);
        }
        Ok(WatchStream::new(path, response.into_body()))
    }

    /// Sends any request and returns the body of a successful answer.
    pub async fn request(&self, method: Method, path: String, content_type: &str, body: Bytes) -> Result<Bytes, Error> {
        let work = async {
            let response = self.send(method.clone(), &path, content_type, body).await?;
            if !response.status().is_success() {
                return Err(failure(&path, response).await);
            }
            collect(&path, response.into_body()).await
        };
        let result = tokio::time::timeout(REQUEST_DEADLINE, work).await;
        let timeout = |_| Error::Timeout { method: method.to_string(), path: path.clone(), deadline: REQUEST_DEADLINE };
        let result = result.map_err(timeout).flatten();
        metrics::count_request(&method, &result);
        result
    }

    async fn decoded<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let bytes = self.request(method, path.clone(), content_type, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Decode { path, message: error.to_string() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<http::Response<ResponseBody>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, &*self.user_agent)
            .header(header::ACCEPT, JSON);
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|error| Error::Encode { path: path.to_owned(), message: error.to_string() })?;
        self.transport.send(request).await
    }
}

const JSON: &str = "application/json";

fn with_query(mut path: String, query: &str) -> String {
    if !query.is_empty() {
        path.push('?');
        path.push_str(query);
    }
    path
}

fn encode(path: &str, body: &impl Serialize) -> Result<Bytes, Error> {
    match serde_json::to_vec(body) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => Err(Error::Encode { path: path.to_owned(), message: error.to_string() }),
    }
}

async fn collect(path: &str, body: ResponseBody) -> Result<Bytes, Error> {
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Error::Decode { path: path.to_owned(), message: error.to_string() }),
    }
}

/// The Status in the answer, or one made from its code where the body is none.
async fn failure(path: &str, response: http::Response<ResponseBody>) -> Error {
    let code = response.status();
    let body = match collect(path, response.into_body()).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) if status.kind == "Status" => Error::Status(Box::new(status)),
        _ => {
            let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
            Error::Status(Box::new(Status::failure(code.as_u16(), &reason, String::from_utf8_lossy(&body))))
        }
    }
}
