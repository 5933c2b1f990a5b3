//! Who is asking: from a TLS connection and a request's headers to a [`UserInfo`].
//!
//! In: the client's verified certificate and the `Authorization` header. Out: a user with groups, or
//! 401. A certificate speaks first (CN is the name, O are the groups), then a service account's
//! token; who shows neither is `system:anonymous`, and who shows a bad one is refused.
//! Invariant: a token is good only while the objects it is bound to exist under the same UID.
//!
//! Start at [`Authenticator`].

mod authenticator;
pub mod bound;
pub mod certificate;
pub mod claims;
pub mod impersonation;
pub mod keys;
pub mod legacy;
mod objects;
pub mod reviews;
pub mod signing_request;
pub mod token_request;
pub mod token_secrets;
pub mod user;

pub use authenticator::{Authenticator, TokenError};
pub use objects::{Objects, StoredObjects};
pub use user::UserInfo;
