//! Mistakes in JSON, in the words of Go's decoder: what people who use Kubernetes know and search for.

use serde_json::error::Category;

/// Translates a syntax error; anything else keeps its own words.
#[must_use]
pub fn go_syntax_error(error: &serde_json::Error, body: &[u8]) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Eof => return "unexpected end of JSON input".to_owned(),
        Category::Syntax => {}
        Category::Io | Category::Data => return text,
    }
    let context = [
        ("key must be a string", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("trailing comma", "looking for beginning of value"),
        ("trailing characters", "after top-level value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
        ("expected ident", "in literal"),
        ("expected value", "looking for beginning of value"),
    ];
    match (context.iter().find(|(known, _)| text.starts_with(known)), byte_at(error, body)) {
        (Some((_, context)), Some(byte)) => format!("invalid character {} {context}", quote(byte)),
        _ => text,
    }
}

/// The byte at which the parser stopped.
fn byte_at(error: &serde_json::Error, body: &[u8]) -> Option<u8> {
    let line = body.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    match error.column() {
        0 => None,
        column => line.get(column - 1).copied(),
    }
}

fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        0x80.. => format!("'{}'", char::from(byte)),
        _ => format!("'\\x{byte:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mistakes_read_as_in_go() {
        for (body, expected) in [
            (r#"{"a":1"#, "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            ("kind: Pod", "invalid character 'k' looking for beginning of value"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(body).unwrap_err();
            assert_eq!(go_syntax_error(&error, body.as_bytes()), expected, "{body} {error}");
        }
    }
}
