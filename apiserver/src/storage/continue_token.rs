//! Tokens by which a client asks for the next page of a list.
//!
//! A token says at which revision the list is and with which key the next page begins. One without a revision goes on
//! with what is there now: it is offered when history is gone. The form is kube-apiserver's, so that a list that
//! was begun there can be continued here.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kontiki_api::status::Status;
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";
/// Stands for "now".
const NOW: i64 = -1;
/// Longer tokens hold no key.
const TOKEN_BYTES_MAX: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "v", default)]
    version: String,
    #[serde(rename = "rv", default)]
    revision: i64,
    #[serde(default)]
    start: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// First key of the page.
    pub start: String,
    /// Revision of the list; `None` for what is there now.
    pub revision: Option<i64>,
}

/// The token for a page that begins with a key below `prefix`.
#[must_use]
pub fn encode(prefix: &str, start: &str, revision: Option<i64>) -> String {
    let start = start.strip_prefix(prefix).unwrap_or(start).to_owned();
    let wire = Wire { version: VERSION.into(), revision: revision.unwrap_or(NOW), start };
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
}

/// Reads a token for a list of the keys below `prefix`.
///
/// # Errors
/// 400, in the words of Kubernetes.
pub fn decode(text: &str, prefix: &str) -> Result<Token, Status> {
    let refuse = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    if text.len() > TOKEN_BYTES_MAX {
        return Err(refuse("it is too long"));
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| refuse(&error.to_string()))?;
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| refuse(&error.to_string()))?;
    if wire.version != VERSION {
        let message = format!("server does not recognize this encoded version {}", wire.version);
        return Err(refuse(&message));
    }
    if wire.revision == 0 {
        return Err(refuse("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
    }
    if wire.start.is_empty() {
        return Err(refuse("encoded start key empty (version meta.k8s.io/v1)"));
    }
    let start = wire.start.strip_prefix('/').unwrap_or(&wire.start);
    if start.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refuse(start));
    }
    Ok(Token { start: format!("{prefix}{start}"), revision: (wire.revision != NOW).then_some(wire.revision) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PREFIX: &str = "/registry/pods/a/";

    #[test]
    fn a_token_leads_to_where_the_list_stopped() {
        for revision in [Some(7), None] {
            let token = decode(&encode(PREFIX, "/registry/pods/a/x\0", revision), PREFIX).unwrap();
            assert_eq!(token, Token { start: "/registry/pods/a/x\0".into(), revision });
        }
    }

    #[test]
    fn no_token_leads_out_of_its_list() {
        let forged = |start: &str, revision: i64, version: &str| {
            let text = serde_json::json!({"v": version, "rv": revision, "start": start}).to_string();
            decode(&BASE64_URL_SAFE_NO_PAD.encode(text), PREFIX)
        };
        assert!(forged("x", 1, VERSION).is_ok());
        for (start, revision, version) in
            [("../b/x", 1, VERSION), ("a//b", 1, VERSION), ("", 1, VERSION), ("x", 0, VERSION), ("x", 1, "v2")]
        {
            assert_eq!(forged(start, revision, version).unwrap_err().code, 400, "{start} {revision} {version}");
        }
        for text in ["", "%", "e30", "bm8", &"a".repeat(5000)] {
            assert_eq!(decode(text, PREFIX).unwrap_err().code, 400);
        }
    }
}
