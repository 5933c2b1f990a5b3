//! Who is asking: from a TLS connection and a request's headers to a [`UserInfo`].
//!
//! In: the client's verified certificate and the request's headers. Out: a user with groups, or
//! 401. A front proxy's headers speak first, then a certificate (CN is the name, O are the groups), then a
//! service account's token; who shows neither is `system:anonymous`, and who shows a bad one is refused.
//! Invariant: a token is good only while the objects it is bound to exist under the same UID.
//!
//! Start at [`Authenticator`].

mod authenticator;
pub mod bound;
pub mod certificate;
pub mod claims;
pub mod front_proxy;
pub mod impersonation;
pub mod keys;
pub mod legacy;
mod metrics;
mod objects;
pub mod reviews;
pub mod signing_request;
pub mod token_request;
pub mod token_secrets;
pub mod token_tracking;
pub mod user;

pub use authenticator::{Authenticated, Authenticator, TokenError};
pub use certificate::Peer;
pub use front_proxy::FrontProxy;
pub use objects::{Objects, StoredObjects};
pub use user::UserInfo;
