//! JSON as Python's library writes it: a space behind every comma and colon, nothing but ASCII.

use std::fmt::{self, Write as _};

use crate::format::python::Value;

/// A value as JSON. Tuples are arrays, and whatever names an entry is a text.
pub(super) struct Json<'a>(pub(super) &'a Value);

impl fmt::Display for Json<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::None => formatter.write_str("null"),
            Value::Bool(value) => write!(formatter, "{value}"),
            // Numbers look the same in both languages.
            Value::Int(_) | Value::Float(_) => write!(formatter, "{}", self.0),
            Value::Str(text) => string(formatter, text),
            Value::Tuple(items) | Value::List(items) => {
                formatter.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    write!(formatter, "{}{}", comma(index), Json(item))?;
                }
                formatter.write_char(']')
            }
            Value::Dict(entries) => {
                formatter.write_char('{')?;
                for (index, (name, value)) in entries.iter().enumerate() {
                    formatter.write_str(comma(index))?;
                    match name {
                        Value::Str(text) => string(formatter, text)?,
                        other => string(formatter, &Json(other).to_string())?,
                    }
                    write!(formatter, ": {}", Json(value))?;
                }
                formatter.write_char('}')
            }
        }
    }
}

fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { ", " }
}

fn string(formatter: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    formatter.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(formatter, "\\{character}")?,
            '\n' => formatter.write_str("\\n")?,
            '\r' => formatter.write_str("\\r")?,
            '\t' => formatter.write_str("\\t")?,
            '\x08' => formatter.write_str("\\b")?,
            '\x0C' => formatter.write_str("\\f")?,
            ' '..='~' => formatter.write_char(character)?,
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(formatter, "\\u{unit:04x}")?;
                }
            }
        }
    }
    formatter.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_pythons_library_writes_them() {
        let cases = [
            ("[1, (2, None), True, 1e-05]", "[1, [2, null], true, 1e-05]"),
            ("{'a': {}, 1: 'x'}", r#"{"a": {}, "1": "x"}"#),
            (
                r#"'é 🐘 "\\ \n\x00\x7f'"#,
                r#""\u00e9 \ud83d\udc18 \"\\ \n\u0000\u007f""#,
            ),
        ];
        for (literal, json) in cases {
            let value = Value::parse(literal).expect("a literal");
            assert_eq!(Json(&value).to_string(), json, "{literal}");
        }
    }
}
