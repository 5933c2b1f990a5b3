//! Parts of a custom resource's schema that may be one of two things: in JSON one tells them apart by looking, in
//! protobuf each has a field of its own.

use serde_json::{Map, Value, json};

use super::{Parts, ProtobufError, Wire, encode, message};
use crate::schema::{self, Type};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
/// Field of the schema, and of the schemas or texts.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

/// What else than a schema a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alternative {
    /// A boolean.
    Bool,
    /// A list of schemas.
    Schemas,
    /// A list of texts.
    Texts,
}

impl Alternative {
    /// The alternatives of a type that the schema table does not look into.
    pub(super) fn of(any: &str) -> Option<Self> {
        match any.rsplit('.').next()? {
            "JSONSchemaPropsOrBool" => Some(Self::Bool),
            "JSONSchemaPropsOrArray" => Some(Self::Schemas),
            "JSONSchemaPropsOrStringArray" => Some(Self::Texts),
            _ => None,
        }
    }

    pub(super) fn decode(self, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let mut parts = Parts(bytes);
        let (mut schema, mut flag, mut list) = (None, false, Vec::new());
        while let Some((number, wire)) = parts.next()? {
            match (self, number, wire) {
                (Self::Bool, FIRST, Wire::Number(number)) => flag = number != 0,
                (Self::Bool, SECOND, Wire::Bytes(bytes)) => schema = Some(decode_schema(bytes, depth)?),
                (Self::Schemas | Self::Texts, FIRST, Wire::Bytes(bytes)) => schema = Some(decode_schema(bytes, depth)?),
                (Self::Schemas, SECOND, Wire::Bytes(bytes)) => list.push(decode_schema(bytes, depth)?),
                (Self::Texts, SECOND, Wire::Bytes(bytes)) => list.push(super::text(bytes)?.into()),
                _ => {}
            }
        }
        Ok(match (schema, self) {
            (Some(schema), _) => schema,
            (None, Self::Bool) => flag.into(),
            (None, _) => list.into(),
        })
    }

    pub(super) fn encode(self, bytes: &mut Vec<u8>, value: &Value) {
        match (self, value) {
            (Self::Bool, Value::Object(_)) => encode_schema(bytes, SECOND, value),
            (_, Value::Object(_)) => encode_schema(bytes, FIRST, value),
            (Self::Bool, flag) => {
                encode::put_tag(bytes, FIRST, encode::VARINT);
                bytes.push(u8::from(flag == &json!(true)));
            }
            (Self::Schemas, list) => items(list).iter().for_each(|schema| encode_schema(bytes, SECOND, schema)),
            (Self::Texts, list) => {
                items(list)
                    .iter()
                    .for_each(|text| encode::put_bytes(bytes, SECOND, text.as_str().unwrap_or_default().as_bytes()));
            }
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn schema_type() -> Option<&'static Type> {
    schema::find(SCHEMA)
}

fn decode_schema(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let type_ = schema_type().ok_or_else(|| ProtobufError::Illegal("a schema".to_owned()))?;
    let mut object = Map::new();
    message(type_, &[], bytes, &mut object, depth + 1)?;
    Ok(object.into())
}

fn encode_schema(bytes: &mut Vec<u8>, number: u32, schema: &Value) {
    if let (Some(type_), Some(members)) = (schema_type(), schema.as_object()) {
        encode::put_message(bytes, number, |bytes| encode::put_members(bytes, type_, members));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protobuf::decode;

    #[test]
    fn a_schema_travels_with_all_its_alternatives() {
        let schema = json!({
            "type": "object",
            "additionalProperties": {"type": "string"},
            "properties": {
                "a": {"additionalProperties": false, "default": 0, "items": {"type": "string"}},
                "b": {"items": [{"type": "string"}], "enum": ["x", 1, {"y": null}], "default": {"z": []}},
            },
            "dependencies": {"d": ["e", "f"], "g": {"type": "integer"}},
        });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "x"},
            "spec": {"group": "g", "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        });
        let read = decode(&encode::encode_any(&definition).unwrap()).unwrap();
        assert_eq!(read["spec"]["versions"][0]["schema"], definition["spec"]["versions"][0]["schema"]);
    }
}
