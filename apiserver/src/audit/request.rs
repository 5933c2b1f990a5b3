//! A request on its way through the audit log.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::{Level, Record, Stage};
use crate::{
    handlers::write,
    response::{self, Body},
    service::{ApiServer, Call},
};

impl ApiServer {
    /// Begins what the audit log says of a request, if it says anything.
    pub(crate) fn begin_record(&self, call: &Call) -> Option<Record> {
        let log = self.options.audit.as_ref()?;
        let decision = log.policy().decide(&call.user, &call.info);
        if decision.level == Level::None {
            return None;
        }
        let now = Timestamp::now();
        let mut record = Record::new(decision, &call.user, &call.info, &call.headers, call.peer, now);
        if record.decision.records(Stage::RequestReceived) {
            log.record(&record.event(Stage::RequestReceived, None, None, now));
        }
        if record.decision.level >= Level::Request
            && let Ok(body) = write::json_body(call)
        {
            record.sent(&body);
        }
        Some(record)
    }

    /// Says how it was answered; the answer carries the record's identifier.
    pub(crate) async fn end_record(&self, mut record: Record, call: &Call, response: Response<Body>) -> Response<Body> {
        let Some(log) = &self.options.audit else { return response };
        record.impersonates(&call.user);
        let goes_on = call.info.verb == "watch" || response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
        let stage = if goes_on { Stage::ResponseStarted } else { Stage::ResponseComplete };
        let (mut head, mut body) = response.into_parts();
        let mut answered = None;
        if record.decision.level == Level::RequestResponse
            && !goes_on
            && let Ok(collected) = std::mem::replace(&mut body, response::full(Bytes::new())).collect().await
        {
            let bytes = collected.to_bytes();
            body = response::full(bytes.clone());
            answered = Some(bytes);
        }
        if record.decision.records(stage) {
            log.record(&record.event(stage, Some(head.status), answered.as_deref(), Timestamp::now()));
        }
        if let Ok(id) = http::HeaderValue::from_str(record.id()) {
            head.headers.insert("audit-id", id);
        }
        Response::from_parts(head, body)
    }
}
