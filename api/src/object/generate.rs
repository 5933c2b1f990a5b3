//! Names that the server makes from `generateName`.

/// Letters and digits that form no words and are not mistaken for one another.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const LENGTH_MAX: usize = 63;
const SUFFIX_LENGTH: usize = 5;

/// Appends five random letters to a base, cut so that the name stays a DNS label's length.
#[must_use]
pub fn generate_name(base: &str, random: [u8; SUFFIX_LENGTH]) -> String {
    let mut name = String::with_capacity(LENGTH_MAX);
    for letter in base.chars() {
        if name.len() + letter.len_utf8() > LENGTH_MAX - SUFFIX_LENGTH {
            break;
        }
        name.push(letter);
    }
    name.extend(random.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_label() {
        assert_eq!(generate_name("web-", [0, 1, 2, 26, 27]), "web-bcd9b");
        let long = generate_name(&"a".repeat(80), [0; 5]);
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("bbbbb"));
    }
}
