//! JSON patch, RFC 6902.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::decode::go_syntax_error;
use crate::status::Status;

/// More operations than this are refused, as Kubernetes does.
const OPERATIONS_MAX: usize = 10_000;
/// What `copy` may add to an object all together: a patch of a few bytes must not become gigabytes.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

pub(super) fn json_patch(object: &Value, body: &[u8]) -> Result<Value, Status> {
    let parsed: Value = serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {}", go_syntax_error(&error, body))))?;
    if !parsed.is_array() {
        let message = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
        return Err(Status::bad_request(message));
    }
    let patch: Patch = match serde_json::from_value(parsed) {
        Ok(patch) => patch,
        // An operation without a known verb or a needed part fails when it is applied.
        Err(_) => return Err(unprocessable()),
    };
    if patch.len() > OPERATIONS_MAX {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            patch.len()
        );
        return Err(Status::failure(413, "RequestEntityTooLarge", message));
    }
    let mut patched = object.clone();
    let mut copied = 0;
    for operation in patch.iter() {
        match operation {
            // What is absent equals null.
            PatchOperation::Test(test) if test.value.is_null() && patched.pointer(test.path.as_str()).is_none() => continue,
            PatchOperation::Copy(copy) => {
                copied += patched.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
                if copied > COPIED_BYTES_MAX {
                    return Err(unprocessable());
                }
            }
            _ => {}
        }
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(|_| unprocessable())?;
    }
    Ok(patched)
}

/// 422 in the words for a patch that does not fit the object; they say no more than this.
pub(super) fn unprocessable() -> Status {
    let mut status = Status::failure(422, "Invalid", "the server rejected our request due to an error in our request");
    status.details = Some(crate::status::StatusDetails::default());
    status
}
