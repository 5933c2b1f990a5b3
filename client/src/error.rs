//! Why a request had no result.

use std::time::Duration;

use kontiki_api::status::Status;

/// Why a request had no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a failure.
    #[error("{0}")]
    Status(Box<Status>),
    /// No server could be reached, or the connection broke.
    #[error("{method} {path}: {message}")]
    Transport {
        /// HTTP method.
        method: String,
        /// Path of the request.
        path: String,
        /// What went wrong.
        message: String,
    },
    /// The server did not answer in time: the request may or may not have taken effect.
    #[error("{method} {path}: no answer within {deadline:?}")]
    Timeout {
        /// HTTP method.
        method: String,
        /// Path of the request.
        path: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The answer is not what was asked for.
    #[error("cannot decode the answer to {path}: {message}")]
    Decode {
        /// Path of the request.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The request could not be made.
    #[error("cannot encode the request for {path}: {message}")]
    Encode {
        /// Path of the request.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Keys, certificates or addresses that cannot be used.
    #[error("client configuration: {0}")]
    Configuration(String),
}

impl Error {
    /// The server's answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    /// 404 `NotFound`.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.has_reason("NotFound")
    }

    /// 409 `Conflict`: read again and retry.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    /// 409 `AlreadyExists`.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// 410: the resource version is gone; list again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status().is_some_and(|status| status.code == 410)
    }

    /// 403 because the namespace is being removed: nothing more will succeed there.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        self.status()
            .and_then(|status| status.details.as_ref())
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }
}
