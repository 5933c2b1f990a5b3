//! `/healthz`, `/livez` and `/readyz`: whether this server lives, and whether it can serve.
//!
//! <https://kubernetes.io/docs/reference/using-api/health-checks/>

use http::{Response, StatusCode};
use kontiki_api::status::Status;

use crate::{
    response::{self, Body},
    service::{ApiServer, Call},
};

/// A check's name and what is wrong, if something is.
pub type Check = (&'static str, Option<String>);

/// What `/healthz` and `/livez` check.
pub fn liveness(server: &ApiServer) -> Vec<Check> {
    let mut checks = vec![("ping", None)];
    // A configuration that may come to name key management services has their check from the beginning.
    if server.options.encryption.reloads() {
        checks.push(("kms-providers", None));
    }
    checks
}

/// What `/readyz` checks.
pub fn readiness(server: &ApiServer) -> Vec<Check> {
    let synced = server.storage.caches.current_revision() > 0;
    let leader = server.options.kv.leadership().borrow().leader_id.is_some();
    let shutting_down = server.shutdown.is_cancelled();
    let unless = |good: bool, problem: &str| (!good).then(|| problem.to_owned());
    let mut checks = liveness(server);
    checks.extend([
        ("etcd", unless(leader, "the store has no leader")),
        ("informer-sync", unless(synced, "the watch cache is not filled yet")),
        ("poststarthook/rbac/bootstrap-roles", unless(server.is_bootstrapped(), "not finished")),
        ("shutdown", unless(!shutting_down, "process is shutting down")),
    ]);
    checks
}

/// Answers with all checks, or with the one that the path names.
pub fn answer(call: &Call, checks: &[Check], path: &[&str]) -> Result<Response<Body>, Status> {
    if path.is_empty() {
        return Ok(all(call, checks));
    }
    let name = path.join("/");
    let (_, problem) = checks.iter().find(|(known, _)| *known == name).ok_or_else(Status::no_such_path)?;
    Ok(match problem {
        None => response::text(StatusCode::OK, "ok"),
        Some(problem) => response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {problem}\n")),
    })
}

fn all(call: &Call, checks: &[Check]) -> Response<Body> {
    let failed = checks.iter().any(|(_, problem)| problem.is_some());
    let code = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    if !failed && !call.info.query.contains_key("verbose") {
        return response::text(code, "ok");
    }
    let mut text = String::new();
    for (name, problem) in checks {
        match problem {
            None => text.push_str(&format!("[+]{name} ok\n")),
            Some(problem) => text.push_str(&format!("[-]{name} failed: {problem}\n")),
        }
    }
    let name = call.info.path.trim_matches('/');
    text.push_str(&format!("{name} check {}\n", if failed { "failed" } else { "passed" }));
    response::text(code, text)
}
