//! Finds the links in a page of HTML. Pure.
//!
//! A small scanner, not a parser: it knows tags, their attributes and comments, and leaves every byte that is not
//! the value of a link as it is.

/// Attributes that hold a link, by tag.
const LINKS: [(&str, &[&str]); 24] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
];

/// The page with every link replaced by what `rewrite` makes of it.
pub fn rewrite(page: &[u8], rewrite: impl Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 8);
    let mut rest = page;
    while let Some(open) = rest.iter().position(|byte| *byte == b'<') {
        out.extend_from_slice(&rest[..open]);
        rest = &rest[open..];
        let length = if rest.starts_with(b"<!--") {
            find(rest, b"-->").map_or(rest.len(), |at| at + 3)
        } else {
            tag(rest, &rewrite, &mut out)
        };
        if rest.starts_with(b"<!--") {
            out.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    out
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn run(text: &[u8], within: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !within(*byte)).unwrap_or(text.len())
}

/// Writes one tag, which begins at `<`, and says how long it was.
fn tag(text: &[u8], rewrite: &impl Fn(&str) -> String, out: &mut Vec<u8>) -> usize {
    let name_length = run(&text[1..], |byte| byte.is_ascii_alphanumeric());
    let name = String::from_utf8_lossy(&text[1..=name_length]).to_ascii_lowercase();
    let mut at = 1 + name_length;
    out.extend_from_slice(&text[..at]);
    let Some((_, wanted)) = LINKS.iter().find(|(known, _)| *known == name) else { return at };
    loop {
        let gap = run(&text[at..], |byte| byte.is_ascii_whitespace() || byte == b'/');
        out.extend_from_slice(&text[at..at + gap]);
        at += gap;
        let length = run(&text[at..], |byte| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'>' | b'/'));
        if length == 0 {
            return at;
        }
        let attribute = String::from_utf8_lossy(&text[at..at + length]).to_ascii_lowercase();
        out.extend_from_slice(&text[at..at + length]);
        at += length;
        let equals = run(&text[at..], |byte| byte.is_ascii_whitespace() || byte == b'=');
        if !text[at..at + equals].contains(&b'=') {
            continue;
        }
        out.extend_from_slice(&text[at..at + equals]);
        at += equals;
        let quote = text.get(at).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let start = at + usize::from(quote.is_some());
        let length = match quote {
            Some(quote) => run(&text[start..], |byte| byte != quote),
            None => run(&text[start..], |byte| !byte.is_ascii_whitespace() && byte != b'>'),
        };
        let value = &text[start..start + length];
        out.extend(quote);
        match std::str::from_utf8(value) {
            Ok(link) if wanted.contains(&attribute.as_str()) => out.extend_from_slice(rewrite(link).as_bytes()),
            _ => out.extend_from_slice(value),
        }
        at = start + length;
        if let Some(quote) = quote.filter(|_| at < text.len()) {
            out.push(quote);
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn check(page: &str, wanted: &str) {
        let found = rewrite(page.as_bytes(), |link| format!("P{link}"));
        assert_eq!(String::from_utf8(found).unwrap(), wanted);
    }

    #[test]
    fn links_are_found_and_nothing_else_changes() {
        check(r#"<a href="/x">test</a>"#, r#"<a href="P/x">test</a>"#);
        check("<IMG alt='a > b' SRC=/i.png><p title=\"/x\">", "<IMG alt='a > b' SRC=P/i.png><p title=\"/x\">");
        check(
            "<!-- <a href='/x'> --><script async src='/s.js'></script>",
            "<!-- <a href='/x'> --><script async src='P/s.js'></script>",
        );
        check("1 < 2 <b>bold</b> <a href", "1 < 2 <b>bold</b> <a href");
    }

    proptest! {
        #[test]
        fn whatever_comes_no_byte_is_lost(page in "[<>a-z \"'=/!-]{0,80}") {
            prop_assert_eq!(rewrite(page.as_bytes(), str::to_owned), page.as_bytes());
        }
    }
}
