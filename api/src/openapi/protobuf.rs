//! OpenAPI version 2 in protobuf, as client-go and kubectl before 1.29 ask for it.
//!
//! In: the document as JSON. Out: the same as a message of `openapi.v2.Document`, whose field numbers the tables
//! below hold. Members whose names begin with `x-` become vendor extensions with their JSON as text, which is YAML too.
//! <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>

use serde_json::{Map, Value};

/// Media type that clients ask for.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// Media type of the answer.
pub const ANSWER_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// How a member is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Boolean,
    Integer,
    Double,
    /// Anything: its JSON as text.
    Any,
    Anys,
    /// A message.
    Message(&'static Table),
    Messages(&'static Table),
    /// A map, as pairs of a name and a message, in this field of a message of its own.
    Pairs(u32, &'static Table),
    /// A message within messages that JSON does not have: their numbers, outermost first.
    Within(&'static [u32], &'static Table),
    /// Text, or several, in a message of its own.
    Words,
    /// A schema, or a plain yes or no.
    SchemaOrBoolean,
    /// Scopes of each way to prove who one is.
    Requirements,
}

/// Names of members, numbers of fields, and how they are written.
struct Table {
    fields: &'static [(&'static str, u32, Form)],
    /// Field of the vendor extensions.
    extensions: u32,
}

static DOCUMENT: Table = Table {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::Message(&INFO)),
        ("paths", 8, Form::Pairs(2, &PATH)),
        ("definitions", 9, Form::Pairs(1, &SCHEMA)),
        ("security", 12, Form::Requirements),
        ("securityDefinitions", 13, Form::Pairs(1, &SECURITY)),
    ],
    extensions: 16,
};
static INFO: Table = Table { fields: &[("title", 1, Form::Text), ("version", 2, Form::Text)], extensions: 7 };
/// A definition of type `apiKey`: the second choice of its message.
static SECURITY: Table = Table { fields: &[("", 2, Form::Message(&API_KEY))], extensions: 0 };
static API_KEY: Table = Table {
    fields: &[("type", 1, Form::Text), ("name", 2, Form::Text), ("in", 3, Form::Text), ("description", 4, Form::Text)],
    extensions: 5,
};
static PATH: Table = Table {
    fields: &[
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("options", 6, Form::Message(&OPERATION)),
        ("head", 7, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Form::Messages(&PARAMETER)),
    ],
    extensions: 10,
};
static OPERATION: Table = Table {
    fields: &[
        ("tags", 1, Form::Texts),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Messages(&PARAMETER)),
        ("responses", 9, Form::Pairs(1, &RESPONSE)),
    ],
    extensions: 13,
};
/// Which of these a parameter is, its member `in` says.
static PARAMETER: Table = Table {
    fields: &[
        ("body", 1, Form::Within(&[1], &BODY_PARAMETER)),
        ("query", 1, Form::Within(&[2, 3], &QUERY_PARAMETER)),
        ("path", 1, Form::Within(&[2, 4], &PATH_PARAMETER)),
    ],
    extensions: 0,
};
static BODY_PARAMETER: Table = Table {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Boolean),
        ("schema", 5, Form::Message(&SCHEMA)),
    ],
    extensions: 6,
};
static QUERY_PARAMETER: Table = Table {
    fields: &[
        ("required", 1, Form::Boolean),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Boolean),
    ],
    extensions: 23,
};
static PATH_PARAMETER: Table = Table {
    fields: &[
        ("required", 1, Form::Boolean),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Boolean),
    ],
    extensions: 22,
};
/// A response itself is the first choice of its message.
static RESPONSE: Table = Table { fields: &[("", 1, Form::Message(&RESPONSE_BODY))], extensions: 0 };
static RESPONSE_BODY: Table =
    Table { fields: &[("description", 1, Form::Text), ("schema", 2, Form::Within(&[1], &SCHEMA))], extensions: 5 };
static SCHEMA: Table = Table {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Double),
        ("maximum", 7, Form::Double),
        ("exclusiveMaximum", 8, Form::Boolean),
        ("minimum", 9, Form::Double),
        ("exclusiveMinimum", 10, Form::Boolean),
        ("maxLength", 11, Form::Integer),
        ("minLength", 12, Form::Integer),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Integer),
        ("minItems", 15, Form::Integer),
        ("uniqueItems", 16, Form::Boolean),
        ("maxProperties", 17, Form::Integer),
        ("minProperties", 18, Form::Integer),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrBoolean),
        ("type", 22, Form::Words),
        ("items", 23, Form::Within(&[1], &SCHEMA)),
        ("allOf", 24, Form::Messages(&SCHEMA)),
        ("properties", 25, Form::Pairs(1, &SCHEMA)),
        ("example", 30, Form::Any),
    ],
    extensions: 31,
};

/// The document as a message.
#[must_use]
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&DOCUMENT, document, &mut out);
    out
}

fn message(table: &'static Table, value: &Value, out: &mut Vec<u8>) {
    let empty = Map::new();
    let members = value.as_object().unwrap_or(&empty);
    for (name, number, form) in table.fields {
        // A choice without a name of its own is made of the value itself; a parameter's, by where the parameter stands.
        let member = match (name, form) {
            (&"", _) => Some(value),
            (name, _) if std::ptr::eq(table, &raw const PARAMETER) => Some(value).filter(|value| value["in"] == **name),
            (name, _) => members.get(*name),
        };
        if let Some(member) = member {
            field(*number, *form, member, out);
        }
    }
    if table.extensions > 0 {
        for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut pair = Vec::new();
            bytes(1, name.as_bytes(), &mut pair);
            any(2, value, &mut pair);
            bytes(table.extensions, &pair, out);
        }
    }
}

fn field(number: u32, form: Form, value: &Value, out: &mut Vec<u8>) {
    let items = || value.as_array().into_iter().flatten();
    match form {
        Form::Text => bytes(number, value.as_str().unwrap_or_default().as_bytes(), out),
        Form::Texts => items().filter_map(Value::as_str).for_each(|text| bytes(number, text.as_bytes(), out)),
        Form::Boolean => integer(number, u64::from(value.as_bool().unwrap_or(false)), out),
        Form::Integer => integer(number, value.as_i64().unwrap_or(0).cast_unsigned(), out),
        Form::Double => {
            varint(u64::from(number) << 3 | 1, out);
            out.extend_from_slice(&value.as_f64().unwrap_or(0.0).to_le_bytes());
        }
        Form::Any => any(number, value, out),
        Form::Anys => items().for_each(|item| any(number, item, out)),
        Form::Message(table) => nested(number, table, value, out),
        Form::Messages(table) => items().for_each(|item| nested(number, table, item, out)),
        Form::Pairs(inner, table) => {
            let mut pairs = Vec::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                let mut pair = Vec::new();
                bytes(1, name.as_bytes(), &mut pair);
                nested(2, table, value, &mut pair);
                bytes(inner, &pair, &mut pairs);
            }
            bytes(number, &pairs, out);
        }
        Form::Within(path, table) => {
            let mut inner = Vec::new();
            message(table, value, &mut inner);
            for step in path.iter().rev() {
                let mut outer = Vec::new();
                bytes(*step, &inner, &mut outer);
                inner = outer;
            }
            bytes(number, &inner, out);
        }
        Form::Words => {
            let mut words = Vec::new();
            let several = items().filter_map(Value::as_str);
            value.as_str().into_iter().chain(several).for_each(|word| bytes(1, word.as_bytes(), &mut words));
            bytes(number, &words, out);
        }
        Form::SchemaOrBoolean => {
            let mut inner = Vec::new();
            match value.as_bool() {
                Some(value) => integer(2, u64::from(value), &mut inner),
                None => nested(1, &SCHEMA, value, &mut inner),
            }
            bytes(number, &inner, out);
        }
        Form::Requirements => items().for_each(|requirement| {
            let mut pairs = Vec::new();
            for (name, scopes) in requirement.as_object().into_iter().flatten() {
                let mut pair = Vec::new();
                bytes(1, name.as_bytes(), &mut pair);
                field(2, Form::Words, scopes, &mut pair);
                bytes(1, &pair, &mut pairs);
            }
            bytes(number, &pairs, out);
        }),
    }
}

fn nested(number: u32, table: &'static Table, value: &Value, out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    message(table, value, &mut inner);
    bytes(number, &inner, out);
}

/// Anything, as text.
fn any(number: u32, value: &Value, out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    bytes(2, format!("{value}\n").as_bytes(), &mut inner);
    bytes(number, &inner, out);
}

fn bytes(number: u32, contents: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(contents.len() as u64, out);
    out.extend_from_slice(contents);
}

fn integer(number: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    /// Fields of a message that hold bytes: numbers and contents.
    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        let varint = |message: &mut &[u8]| {
            let mut value = 0;
            for shift in (0..64).step_by(7) {
                let byte = message[0];
                *message = &message[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return value;
                }
            }
            panic!("a number has an end");
        };
        while !message.is_empty() {
            let tag = varint(&mut message);
            match tag & 7 {
                0 => drop(varint(&mut message)),
                1 => message = &message[8..],
                2 => {
                    let length = usize::try_from(varint(&mut message)).unwrap();
                    found.push((tag >> 3, message[..length].to_vec()));
                    message = &message[length..];
                }
                other => panic!("no such wire type: {other}"),
            }
        }
        found
    }

    fn only(message: &[u8], number: u64) -> Vec<u8> {
        fields(message).into_iter().find(|(found, _)| *found == number).unwrap().1
    }

    #[test]
    fn definitions_and_their_extensions_are_found_again() {
        let property = json!({"type": "array", "items": {"$ref": "#/definitions/B"}, "x-kubernetes-list-type": "map"});
        let document = json!({"swagger": "2.0", "paths": {"/a": {"get": {"operationId": "readA", "parameters": [
            {"name": "q", "in": "query", "type": "string"}], "responses": {"200": {"description": "OK", "schema": {"type": "object"}}}}}},
            "definitions": {"A": {"required": ["list"], "properties": {"list": property}, "maximum": 2.5}}});
        let encoded = encode(&document);
        assert_eq!(only(&encoded, 1), b"2.0");
        let pair = only(&only(&encoded, 9), 1);
        assert_eq!(only(&pair, 1), b"A");
        let schema = only(&pair, 2);
        assert_eq!(only(&schema, 19), b"list");
        let list = only(&only(&only(&schema, 25), 1), 2);
        assert_eq!(only(&only(&list, 22), 1), b"array");
        assert_eq!(only(&only(&only(&list, 23), 1), 1), b"#/definitions/B");
        let extension = only(&list, 31);
        assert_eq!(only(&extension, 1), b"x-kubernetes-list-type");
        assert_eq!(only(&only(&extension, 2), 2), b"\"map\"\n");
        let operation = only(&only(&only(&only(&encoded, 8), 2), 2), 2);
        assert_eq!(only(&operation, 5), b"readA");
        // A parameter within an item, a choice, and the choice of a query's.
        let parameter = only(&only(&only(&operation, 8), 1), 2);
        assert_eq!(only(&only(&parameter, 3), 4), b"q");
        let response = only(&only(&only(&operation, 9), 1), 2);
        assert_eq!(only(&only(&response, 1), 1), b"OK");
    }
}
