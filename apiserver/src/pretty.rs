//! JSON indented, for people: `?pretty=true`, and programs that people read.
//!
//! Answers are made without indentation; those that are asked for so are indented as they leave, members in their order.

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::{
    request::RequestInfo,
    response::{self, Body},
};

/// Longer answers are for programs, whatever they ask for.
const BYTES_MAX: u64 = 16 << 20;
/// What the names of programs begin with that show people what they get.
const SHOWING: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// Whether a client wants to read the answer itself.
#[must_use]
pub fn is_wanted(info: &RequestInfo, headers: &HeaderMap) -> bool {
    match info.parameter("pretty") {
        "" => {
            let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            SHOWING.iter().any(|program| agent.starts_with(program))
        }
        asked => matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

/// The answer indented, where it is JSON that is there as a whole.
pub async fn indented(answer: Response<Body>) -> Response<Body> {
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|media| media == "application/json");
    if !is_json || answer.body().size_hint().exact().is_none_or(|length| length > BYTES_MAX) {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    // A body of pieces that are all there cannot fail.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, response::full(Bytes::from(indent(&body))))
}

/// JSON without white space, indented by two. Text that is no JSON stays as harmless as it was.
fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    for (index, &byte) in json.iter().enumerate() {
        if in_text {
            out.push(byte);
            in_text = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        let is_empty = |open: u8| index > 0 && json.get(index - 1) == Some(&open);
        match byte {
            b'"' => {
                in_text = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                depth += 1;
                out.push(byte);
                let close = if byte == b'{' { b'}' } else { b']' };
                if json.get(index + 1) != Some(&close) {
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !is_empty(if byte == b'}' { b'{' } else { b'[' }) {
                    line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn it_is_indented_as_by_serde() {
        let value = json!({
            "a": {}, "b": [], "c": [1, [2.5, null], {"d": true}], "text": "{\"quoted\": [1,2]}\\", "é": "\u{1F600}: \n",
        });
        let wanted = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(String::from_utf8(indent(value.to_string().as_bytes())).unwrap(), wanted);
        for text in ["", "\"", "]]]}", "{\"a", "\\\"[", ",:"] {
            indent(text.as_bytes());
        }
    }

    #[tokio::test]
    async fn people_get_lines() {
        let handle = testing::server().await;
        let path = "/api/v1/namespaces/default";
        let agents: [(&str, &str, bool); 5] = [
            (path, "kubectl/v1.33", false),
            (path, "curl/8.0", true),
            ("/api/v1/namespaces/default?pretty=true", "", true),
            ("/api/v1/namespaces/default?pretty=false", "curl/8.0", false),
            ("/api/v1/namespaces/missing?pretty=1", "", true),
        ];
        for (path, agent, lines) in agents {
            let answer = testing::send(&handle, Method::GET, path, &[("user-agent", agent)], Bytes::new()).await;
            assert_eq!(
                answer.body.starts_with(b"{\n  \"kind\"") || answer.body.starts_with(b"{\n  \"apiVersion\""),
                lines,
                "{path} {agent}"
            );
            assert!(answer.json()["kind"].is_string());
        }
    }
}
