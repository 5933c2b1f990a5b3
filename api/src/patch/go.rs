//! Values as Go prints them, which is how messages quote a strategic merge patch.

use serde_json::Value;

/// `map[spec:map[replicas:3]]`, `[a b]`, `<nil>`.
pub(crate) fn print(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::String(string) => text.push_str(string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                write(text, item);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            text.push_str("map[");
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(name);
                text.push(':');
                write(text, member);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}
