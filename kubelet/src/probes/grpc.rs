//! `grpc.health.v1.Health/Check`, asked over HTTP/2 by hand: the two messages have one field each.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use std::{net::SocketAddr, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Key of the first field where it is text, and where it is a number.
const TEXT: u8 = 0x0a;
const NUMBER: u8 = 0x08;
const SERVING: u64 = 1;

/// Statuses of the service, by number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// A frame with one request that names the service.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(TEXT);
        put_number(service.len() as u64, &mut message);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put_slice(&message);
    frame.freeze()
}

fn put_number(mut number: u64, to: &mut BytesMut) {
    while number >= 0x80 {
        to.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.put_u8(number as u8);
}

/// The status in a frame; 0 where it is left out.
fn status(mut frame: Bytes) -> Option<u64> {
    let compressed = frame.try_get_u8().ok()?;
    let length = frame.try_get_u32().ok()? as usize;
    if compressed != 0 || frame.len() < length {
        return None;
    }
    if length == 0 {
        return Some(0);
    }
    (frame.try_get_u8().ok()? == NUMBER).then(|| frame.try_get_u8().ok().map(u64::from)).flatten()
}

/// Asks once; the words of a failure go into an event.
pub async fn ask(address: SocketAddr, service: &str, timeout: Duration) -> Result<(), String> {
    let unreachable = |error: &dyn std::fmt::Display| {
        format!("timeout: failed to connect service {:?} within {}s: {error}", address.to_string(), timeout.as_secs())
    };
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let connection = tokio::spawn(connection);
    let asked = async {
        let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.36")
            .body(Full::new(request(service)))
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| format!("error: health rpc probe failed: {error}"))?;
        let (head, body) = response.into_parts();
        let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let collected = collected.map_err(|error| format!("error: health rpc probe failed: {error}"))?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        verdict(&head.headers, &trailers, collected.to_bytes(), service)
    };
    let verdict = asked.await;
    connection.abort();
    verdict
}

fn verdict(headers: &HeaderMap, trailers: &HeaderMap, body: Bytes, service: &str) -> Result<(), String> {
    let of = |name: &str| trailers.get(name).or(headers.get(name)).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match of("grpc-status") {
        "0" => {}
        "12" => return Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()),
        code => {
            let message = of("grpc-message");
            return Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}"));
        }
    }
    match status(body) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|other| STATUSES.get(other)).copied().unwrap_or("UNKNOWN");
            Err(format!("service unhealthy (responded with {name:?})"))
        }
        None => Err(format!("error: health rpc probe failed: the answer for {service:?} makes no sense")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_question_and_the_answer() {
        assert_eq!(request(""), &b"\0\0\0\0\0"[..]);
        assert_eq!(request("ab"), &b"\0\0\0\0\x04\x0a\x02ab"[..]);
        assert_eq!(status(Bytes::from_static(b"\0\0\0\0\x02\x08\x01")), Some(1));
        assert_eq!(status(Bytes::from_static(b"\0\0\0\0\0")), Some(0));
        assert_eq!(status(Bytes::from_static(b"\0\0")), None);
        let mut long = BytesMut::new();
        put_number(300, &mut long);
        assert_eq!(long, &b"\xac\x02"[..]);
    }

    #[test]
    fn verdicts_by_status() {
        let headers = |code: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        let none = HeaderMap::new();
        let body = |status: &'static [u8]| Bytes::from_static(status);
        assert_eq!(verdict(&none, &headers("0"), body(b"\0\0\0\0\x02\x08\x01"), ""), Ok(()));
        let sick = verdict(&none, &headers("0"), body(b"\0\0\0\0\x02\x08\x02"), "").unwrap_err();
        assert_eq!(sick, "service unhealthy (responded with \"NOT_SERVING\")");
        assert!(verdict(&headers("12"), &none, Bytes::new(), "").unwrap_err().contains("does not implement"));
        assert!(verdict(&headers("5"), &none, Bytes::new(), "x").unwrap_err().contains("code = 5"));
    }
}
