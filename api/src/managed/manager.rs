//! Names of managers.

use crate::field::FieldError;

/// Longest name, in bytes.
const LENGTH_MAX: usize = 128;

/// The name that a request gives, or the program's name in its `User-Agent`.
#[must_use]
pub fn default_manager(named: &str, user_agent: &str) -> String {
    if !named.is_empty() {
        return named.to_owned();
    }
    let program = user_agent.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for letter in program.chars().filter(|letter| is_printable(*letter)) {
        if name.len() + letter.len_utf8() > LENGTH_MAX {
            break;
        }
        name.push(letter);
    }
    name
}

/// Mistakes in a name that a request gives.
#[must_use]
pub fn validate_manager(name: &str, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > LENGTH_MAX {
        errors.push(FieldError::too_long(path, LENGTH_MAX));
    }
    for (position, letter) in name.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
        let code = format!("U+{:04X}", u32::from(letter));
        errors.push(FieldError::invalid(path, &name.into(), format!("invalid character {code} (at position {position})")));
    }
    errors
}

/// Letters, marks, numbers, punctuation, symbols and the space.
fn is_printable(letter: char) -> bool {
    let other_space = letter.is_whitespace() && letter != ' ';
    let unassigned_or_format = matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}');
    !letter.is_control() && !other_space && !unassigned_or_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_name_is_the_default() {
        for (named, agent, expected) in [
            ("mine", "kubectl/v1.33", "mine"),
            ("", "kubectl/v1.33 (linux/amd64)", "kubectl"),
            ("", "", ""),
            ("", "a\u{7}b c/1", "ab c"),
        ] {
            assert_eq!(default_manager(named, agent), expected);
        }
        assert_eq!(default_manager("", &"é".repeat(100)).len(), 128);
    }

    #[test]
    fn names_are_short_and_printable() {
        assert!(validate_manager("kubectl client", "fieldManager").is_empty());
        assert_eq!(
            validate_manager(&"x".repeat(129), "fieldManager")[0].to_string(),
            "fieldManager: Too long: may not be more than 128 bytes"
        );
        let error = validate_manager("a\u{1}", "fieldManager").remove(0).to_string();
        assert!(error.ends_with("invalid character U+0001 (at position 1)"), "{error}");
    }
}
