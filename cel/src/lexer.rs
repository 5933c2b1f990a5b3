//! Source text becomes tokens.

use std::sync::Arc;

use crate::{error::Issue, value::Value};

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned {
    /// Byte offset.
    pub at: usize,
    /// The token.
    pub token: Token,
}

/// Tokens.
#[derive(Clone, Debug)]
pub enum Token {
    /// Identifier.
    Ident(String),
    /// Field name between backticks.
    Quoted(String),
    /// Literal.
    Literal(Value),
    /// Operator or punctuation.
    Sign(&'static str),
    /// End of the source.
    End,
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Sign(left), Self::Sign(right)) if left == right)
            || matches!((self, other), (Self::End, Self::End))
    }
}

impl Token {
    /// As messages quote it.
    pub fn text(&self) -> String {
        match self {
            Self::Ident(name) | Self::Quoted(name) => name.clone(),
            Self::Literal(value) => value.to_string(),
            Self::Sign(sign) => (*sign).to_owned(),
            Self::End => "<EOF>".to_owned(),
        }
    }
}

const SIGNS: [&str; 28] = [
    "&&", "||", "==", "!=", "<=", ">=", ".?", "[?", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[",
    "]", "{", "}", "=", "|",
];

/// Tokens of a source.
pub fn tokens(source: &str) -> Result<Vec<Spanned>, Issue> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token()?;
        let is_end = matches!(token, Token::End);
        tokens.push(Spanned { at, token });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn skip_blank(&mut self) {
        loop {
            let trimmed = self.rest().trim_start();
            self.at = self.source.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn issue(&self, at: usize, message: impl Into<String>) -> Issue {
        Issue { at, message: message.into() }
    }

    fn token(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some((prefix, raw, bytes)) = string_prefix(rest) {
            return self.string(prefix, raw, bytes);
        }
        let next_is_digit = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || first == '.' && next_is_digit {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.at += length;
            return Ok(match &rest[..length] {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                "in" => Token::Sign("in"),
                name => Token::Ident(name.to_owned()),
            });
        }
        if first == '`' {
            let Some(end) = rest[1..].find('`') else {
                return Err(self.issue(self.at, format!("Syntax error: token recognition error at: '{rest}'")));
            };
            self.at += end + 2;
            return Ok(Token::Quoted(rest[1..=end].to_owned()));
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(&("=" | "|")) => {
                let shown: String = rest.chars().take(2).collect();
                Err(self.issue(self.at, format!("Syntax error: token recognition error at: '{shown}'")))
            }
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => Err(self.issue(self.at, format!("Syntax error: token recognition error at: '{first}'"))),
        }
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let (rest, at) = (self.rest(), self.at);
        let invalid = |lexer: &Self, kind: &str| lexer.issue(at, format!("invalid {kind} literal"));
        if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let length = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            self.at += 2 + length;
            let value = u64::from_str_radix(&digits[..length], 16).map_err(|_| invalid(self, "int"))?;
            return self.integer(value);
        }
        let bytes = rest.as_bytes();
        let digits = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut is_double = false;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            is_double = true;
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                is_double = true;
                end = digits(end + 1 + sign);
            }
        }
        self.at += end;
        if is_double {
            return rest[..end].parse().map(|number| Token::Literal(Value::Double(number))).map_err(|_| invalid(self, "double"));
        }
        let value = rest[..end].parse::<u64>().map_err(|_| invalid(self, "int"))?;
        self.integer(value)
    }

    fn integer(&mut self, value: u64) -> Result<Token, Issue> {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Ok(Token::Literal(Value::Uint(value)));
        }
        // The largest magnitude belongs to a negative number only; the parser negates it.
        if value == 1 << 63 {
            return Ok(Token::Literal(Value::Int(i64::MIN)));
        }
        i64::try_from(value)
            .map(|value| Token::Literal(Value::Int(value)))
            .map_err(|_| self.issue(self.at, "invalid int literal"))
    }

    fn string(&mut self, prefix: usize, raw: bool, bytes: bool) -> Result<Token, Issue> {
        let at = self.at;
        let unterminated = Issue { at, message: format!("Syntax error: token recognition error at: '{}'", self.rest()) };
        self.at += prefix;
        let rest = self.rest();
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| rest.starts_with(quote)).unwrap_or("\"");
        let mut letters = rest[quote.len()..].char_indices();
        let mut plain: Vec<u8> = Vec::new();
        loop {
            let Some((offset, letter)) = letters.next() else { return Err(unterminated) };
            if rest[quote.len() + offset..].starts_with(quote) {
                self.at += quote.len() + offset + quote.len();
                break;
            }
            if letter == '\n' && quote.len() == 1 {
                return Err(unterminated);
            }
            if letter != '\\' || raw {
                push(&mut plain, letter);
                continue;
            }
            match escape(&mut letters, bytes) {
                Some(Escaped::Letter(letter)) => push(&mut plain, letter),
                Some(Escaped::Byte(byte)) => plain.push(byte),
                None => return Err(Issue { at, message: "unable to unescape string".to_owned() }),
            }
        }
        if bytes {
            return Ok(Token::Literal(Value::Bytes(plain.into())));
        }
        let text = String::from_utf8(plain).map_err(|_| Issue { at, message: "invalid string literal".to_owned() })?;
        Ok(Token::Literal(Value::String(Arc::from(text))))
    }
}

/// Length of the letters before a string's quote, whether it is raw, whether it is bytes.
fn string_prefix(rest: &str) -> Option<(usize, bool, bool)> {
    let quoted = |text: &str| text.starts_with(['"', '\'']);
    let mut letters = rest.char_indices();
    let (mut raw, mut bytes) = (false, false);
    for _ in 0..=2 {
        let (at, letter) = letters.next()?;
        match letter {
            _ if quoted(&rest[at..]) => return Some((at, raw, bytes)),
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes => bytes = true,
            _ => return None,
        }
    }
    None
}

fn push(plain: &mut Vec<u8>, letter: char) {
    plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

enum Escaped {
    Letter(char),
    Byte(u8),
}

fn escape(letters: &mut std::str::CharIndices<'_>, bytes: bool) -> Option<Escaped> {
    let (_, letter) = letters.next()?;
    let mut number = |first: Option<char>, count: usize, radix: u32| -> Option<u32> {
        let mut value = match first {
            Some(digit) => digit.to_digit(radix)?,
            None => 0,
        };
        for _ in 0..count {
            value = value.checked_mul(radix)? + letters.next()?.1.to_digit(radix)?;
        }
        Some(value)
    };
    let plain = match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '\'' | '"' | '`' | '?' => letter,
        'x' | 'X' => return number(None, 2, 16).and_then(|value| code(value, bytes)),
        'u' => return number(None, 4, 16).and_then(char::from_u32).map(Escaped::Letter),
        'U' => return number(None, 8, 16).and_then(char::from_u32).map(Escaped::Letter),
        '0'..='3' => return number(Some(letter), 2, 8).and_then(|value| code(value, bytes)),
        _ => return None,
    };
    Some(Escaped::Letter(plain))
}

fn code(value: u32, bytes: bool) -> Option<Escaped> {
    if bytes { u8::try_from(value).ok().map(Escaped::Byte) } else { char::from_u32(value).map(Escaped::Letter) }
}
