//! TokenReview and SelfSubjectReview: questions about who somebody is.

use jiff::Timestamp;
use kontiki_api::{
    registry::reviews::{SELF_SUBJECT_REVIEWS, TOKEN_REVIEWS},
    resources::ResourceKey,
    status::Status,
};
use serde_json::{Value, json};

use super::{Authenticator, TokenError, UserInfo};

/// Answers a review: the object with its status filled in.
pub async fn answer(
    authenticator: &Authenticator,
    key: &ResourceKey,
    user: &UserInfo,
    mut review: Value,
    now: Timestamp,
) -> Result<Value, Status> {
    let status = match *key {
        SELF_SUBJECT_REVIEWS => json!({"userInfo": user}),
        TOKEN_REVIEWS => token_status(authenticator, &review["spec"], now).await?,
        _ => return Err(Status::no_such_path()),
    };
    review["kind"] = json!(key.kind);
    review["apiVersion"] = json!(key.api_version());
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    review["metadata"]["creationTimestamp"] = if *key == SELF_SUBJECT_REVIEWS { json!(format!("{now:.0}")) } else { Value::Null };
    review["status"] = status;
    Ok(review)
}

async fn token_status(authenticator: &Authenticator, spec: &Value, now: Timestamp) -> Result<Value, Status> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if asked.is_empty() { authenticator.audiences() } else { &asked };
    Ok(match authenticator.token(token, audiences, now).await {
        Ok(token) => {
            let claims = &token.claims;
            let meant: Vec<&String> = audiences.iter().filter(|audience| claims.aud.contains(audience)).collect();
            json!({"authenticated": true, "user": claims.user(), "audiences": meant})
        }
        Err(TokenError::Invalid(reason)) => json!({"user": {}, "error": reason}),
        Err(TokenError::Unknown(status)) => return Err(*status),
    })
}
