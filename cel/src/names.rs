//! What may be a name in an expression, and how other names are written there.
//!
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>

/// How letters that names may not have are written.
const ESCAPES: [(&str, &str); 4] = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];
/// Words of the language.
const WORDS: [&str; 4] = ["true", "false", "null", "in"];
/// Words that name nothing.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a word names nothing, though it looks like a name.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

fn is_keyword(name: &str) -> bool {
    WORDS.contains(&name) || is_reserved(name)
}

fn begins(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Whether a name can stand in an expression as it is.
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    begins(name) && name.chars().all(is_plain) && !is_keyword(name)
}

/// A property's name as expressions write it; `None` for one that they cannot.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if is_keyword(name) {
        return Some(format!("__{name}__"));
    }
    if !begins(name) || !name.chars().all(|letter| is_plain(letter) || matches!(letter, '.' | '-' | '/')) {
        return None;
    }
    Some(ESCAPES.iter().fold(name.to_owned(), |name, (plain, escaped)| name.replace(plain, escaped)))
}

/// The property that an expression means.
#[must_use]
pub fn unescape(name: &str) -> String {
    if !name.contains("__") {
        return name.to_owned();
    }
    if let Some(inner) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && is_keyword(inner)
    {
        return inner.to_owned();
    }
    let mut plain = String::new();
    let mut rest = name;
    'letters: while !rest.is_empty() {
        for (letter, escaped) in ESCAPES {
            if let Some(after) = rest.strip_prefix(escaped) {
                plain.push_str(letter);
                rest = after;
                continue 'letters;
            }
        }
        let length = rest.chars().next().map_or(1, char::len_utf8);
        plain.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_language_are_no_names() {
        for (name, is) in [("a", true), ("_b2", true), ("2", false), ("a-b", false), ("", false), ("in", false), ("loop", false)]
        {
            assert_eq!(is_identifier(name), is, "{name}");
        }
    }

    #[test]
    fn names_are_escaped_and_come_back() {
        for (name, escaped) in [
            ("plain", "plain"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("if", "__if__"),
            ("a__b", "a__underscores__b"),
            ("namespace", "__namespace__"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(escaped));
            assert!(is_identifier(escaped), "{escaped}");
            assert_eq!(unescape(escaped), name);
        }
        assert_eq!(escape("1a"), None);
    }
}
