//! SPDY/3.1 as Kubernetes' clients speak it for commands and forwarded ports: streams over one connection.
//!
//! In: a connection that was taken over. Out: the streams that the client opens, each with its headers, what comes
//! in on it and a way to answer. No flow control: neither kubectl nor client-go ever waits for a window.
//! Invariant: what a stream's owner sends goes out in order, and nothing after its end.

mod connection;
mod frame;
mod headers;

pub use self::connection::{Stream, serve};
#[cfg(test)]
pub use self::{connection::Sender, frame::Frame};
