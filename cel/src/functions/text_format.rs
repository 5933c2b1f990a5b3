//! `string.format`: `%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o`.

use super::Result;
use crate::{error::EvalError, value::Value};

/// Most digits after the point.
const PRECISION_MAX: usize = 100;

/// Fills a template.
pub fn format(template: &str, values: &[Value]) -> Result {
    let mut text = String::new();
    let mut values = values.iter().enumerate();
    let mut letters = template.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        if letters.peek() == Some(&'%') {
            letters.next();
            text.push('%');
            continue;
        }
        let mut precision = None;
        if letters.peek() == Some(&'.') {
            letters.next();
            let mut digits = String::new();
            while let Some(digit) = letters.peek().filter(|letter| letter.is_ascii_digit()) {
                digits.push(*digit);
                letters.next();
            }
            let parsed = digits.parse::<usize>().ok().filter(|digits| *digits <= PRECISION_MAX);
            precision = Some(parsed.ok_or_else(|| EvalError::new("invalid precision in formatting clause"))?);
        }
        let clause = letters.next().ok_or_else(|| EvalError::new("unexpected end of string"))?;
        let (index, value) = values.next().ok_or_else(|| EvalError::new("index out of range: too few arguments to format"))?;
        let wrong =
            || EvalError::new(format!("error during formatting: argument {index}: unsupported type {}", value.type_name()));
        let shown = clause_text(clause, precision, value).ok_or_else(wrong)?;
        text.push_str(&shown);
    }
    Ok(Value::text(&text))
}

fn clause_text(clause: char, precision: Option<usize>, value: &Value) -> Option<String> {
    let number = || match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        _ => None,
    };
    Some(match (clause, value) {
        ('s', value) => value.to_string(),
        ('d', Value::Int(_) | Value::Uint(_) | Value::Double(_)) => value.to_string(),
        ('f', _) => format!("{:.*}", precision.unwrap_or(6), number()?),
        ('e', _) => scientific(number()?, precision.unwrap_or(6)),
        ('b', Value::Int(number)) => signed(*number, |number| format!("{number:b}")),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('x', Value::Int(number)) => signed(*number, |number| format!("{number:x}")),
        ('X', Value::Int(number)) => signed(*number, |number| format!("{number:X}")),
        ('x', Value::Uint(number)) => format!("{number:x}"),
        ('X', Value::Uint(number)) => format!("{number:X}"),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('x', Value::Bytes(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Bytes(bytes)) => bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
        ('o', Value::Int(number)) => signed(*number, |number| format!("{number:o}")),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        _ => return None,
    })
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    format!("{}{}", if number < 0 { "-" } else { "" }, digits(number.unsigned_abs()))
}

fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}
