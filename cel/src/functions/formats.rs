//! `format`: named formats of strings.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use regex::Regex;

use super::Result;
use crate::value::Value;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    let known = |name: &str| NAMES.iter().find(|known| **known == name).map(|name| Value::Format(name));
    match (function, target, arguments) {
        ("format.named", None, [Value::String(name)]) => Some(Ok(Value::Optional(known(name).map(Box::new)))),
        ("validate", Some(Value::Format(name)), [Value::String(text)]) => {
            let problems = problems(name, text);
            let problems: Vec<Value> = problems.iter().map(|problem| Value::text(problem)).collect();
            Some(Ok(Value::Optional((!problems.is_empty()).then(|| Box::new(Value::list(problems))))))
        }
        (function, None, []) => function.strip_prefix("format.").and_then(known).map(Ok),
        _ => None,
    }
}

fn regex(pattern: String) -> Option<Regex> {
    Regex::new(&format!("^({pattern})$")).ok()
}

static DNS_LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| regex(LABEL.to_owned()));
static DNS_SUBDOMAIN: LazyLock<Option<Regex>> = LazyLock::new(|| regex(format!("{LABEL}(\\.{LABEL})*")));
static DNS_1035: LazyLock<Option<Regex>> = LazyLock::new(|| regex("[a-z]([-a-z0-9]*[a-z0-9])?".to_owned()));
static QUALIFIED: LazyLock<Option<Regex>> = LazyLock::new(|| regex("([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]".to_owned()));
static UUID: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex("[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}".to_owned()));

fn fits(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// What is wrong with a text, in short.
fn problems(format: &str, text: &str) -> Vec<String> {
    let masked = text.strip_suffix('-').map_or_else(|| text.to_owned(), |text| format!("{text}a"));
    let limit = |max: usize| (text.len() > max).then(|| format!("must be no more than {max} bytes"));
    let shape = |fits: bool, what: &str| (!fits).then(|| what.to_owned());
    let found = match format {
        "dns1123Label" => [
            limit(63),
            shape(
                fits(&DNS_LABEL, text),
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            ),
        ],
        "dns1123Subdomain" => [
            limit(253),
            shape(
                fits(&DNS_SUBDOMAIN, text),
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            ),
        ],
        "dns1035Label" => [
            limit(63),
            shape(
                fits(&DNS_1035, text),
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            ),
        ],
        "dns1123LabelPrefix" => [
            limit(63),
            shape(
                fits(&DNS_LABEL, &masked),
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            ),
        ],
        "dns1123SubdomainPrefix" => [
            limit(253),
            shape(
                fits(&DNS_SUBDOMAIN, &masked),
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            ),
        ],
        "dns1035LabelPrefix" => [
            limit(63),
            shape(
                fits(&DNS_1035, &masked),
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            ),
        ],
        "labelValue" => [
            limit(63),
            shape(
                text.is_empty() || fits(&QUALIFIED, text),
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            ),
        ],
        "qualifiedName" => [
            None,
            shape(
                is_qualified(text),
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            ),
        ],
        "uri" => [None, shape(url::Url::parse(text).is_ok() || text.starts_with('/'), "invalid URI")],
        "uuid" => [None, shape(fits(&UUID, text), "does not match the UUID format")],
        "byte" => [None, shape(BASE64_STANDARD.decode(text).is_ok(), "invalid base64")],
        "date" => [None, shape(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "invalid date")],
        "datetime" => [None, shape(text.parse::<jiff::Timestamp>().is_ok(), "invalid datetime")],
        _ => [None, None],
    };
    found.into_iter().flatten().collect()
}

fn is_qualified(text: &str) -> bool {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| prefix.len() <= 253 && fits(&DNS_SUBDOMAIN, prefix)) && name.len() <= 63 && fits(&QUALIFIED, name)
}
