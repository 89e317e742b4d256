//! The little of Python's literals that `backup.info` is written in.
//!
//! [`Value::parse`] reads what Python's `ast.literal_eval` reads, as far as any Barman writes it:
//! strings of either quote, numbers, `None`, booleans, tuples, lists, dictionaries. `Display`
//! writes what Python 3's `repr` writes: single quotes unless the text holds one and no double
//! quote, the shortest digits that read back as the same number.
//!
//! Which characters count as printable follows the Unicode version of the Rust library; Python
//! escapes what is unassigned in its own. Either form reads back as the same text.

use std::fmt::{self, Write as _};

/// A Python literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A finite number with a fraction or an exponent.
    Float(f64),
    /// A text.
    Str(String),
    /// `(1, 2)`
    Tuple(Vec<Value>),
    /// `[1, 2]`
    List(Vec<Value>),
    /// `{'a': 1}`, in the order written.
    Dict(Vec<(Value, Value)>),
}

/// Why a text is no literal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no Python literal at character {at}: expected {expected}")]
pub struct Error {
    /// How many bytes were understood.
    pub at: usize,
    /// What would have been.
    pub expected: &'static str,
}

impl Value {
    /// Reads one literal; white space around it is allowed, anything else is not.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if !reader.rest().is_empty() {
            return Err(reader.error("the end"));
        }
        Ok(value)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list or a tuple.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Tuple(items) | Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// What a dictionary holds for a key; the last entry counts, as in Python.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Self::Dict(entries) = self else {
            return None;
        };
        let entry = entries.iter().rfind(|(name, _)| name.as_str() == Some(key));
        entry.map(|(_, value)| value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::Bool(true) => formatter.write_str("True"),
            Self::Bool(false) => formatter.write_str("False"),
            Self::Int(number) => write!(formatter, "{number}"),
            Self::Float(number) => write_float(formatter, *number),
            Self::Str(text) => write_str(formatter, text),
            Self::Tuple(items) if items.len() == 1 => write!(formatter, "({},)", items[0]),
            Self::Tuple(items) => write_items(formatter, '(', items, ')'),
            Self::List(items) => write_items(formatter, '[', items, ']'),
            Self::Dict(entries) => {
                formatter.write_char('{')?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(formatter, "{comma}{key}: {value}")?;
                }
                formatter.write_char('}')
            }
        }
    }
}

fn write_items(
    formatter: &mut fmt::Formatter<'_>,
    open: char,
    items: &[Value],
    close: char,
) -> fmt::Result {
    formatter.write_char(open)?;
    for (index, item) in items.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(formatter, "{comma}{item}")?;
    }
    formatter.write_char(close)
}

fn write_str(formatter: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let double = text.contains('\'') && !text.contains('"');
    let quote = if double { '"' } else { '\'' };
    formatter.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\\' => formatter.write_str("\\\\")?,
            '\n' => formatter.write_str("\\n")?,
            '\r' => formatter.write_str("\\r")?,
            '\t' => formatter.write_str("\\t")?,
            _ if character == quote => write!(formatter, "\\{quote}")?,
            _ if is_printable(character) => formatter.write_char(character)?,
            _ => match u32::from(character) {
                code @ ..=0xFF => write!(formatter, "\\x{code:02x}")?,
                code @ ..=0xFFFF => write!(formatter, "\\u{code:04x}")?,
                code => write!(formatter, "\\U{code:08x}")?,
            },
        }
    }
    formatter.write_char(quote)
}

/// Whether Python calls a character printable: not of the Unicode categories for control, format,
/// unassigned and separators.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    // The library's debug form escapes exactly those, and at the beginning of a text combining
    // marks too.
    let mut text = [0; 5];
    text[0] = b'a';
    let end = 1 + character.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..end]).expect("an ASCII letter and one character");
    text.escape_debug().nth(1) == Some(character)
}

/// Python switches to an exponent below 1e-4 and from 1e16 on.
fn write_float(formatter: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        return write!(formatter, "{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(formatter, "{digits}e{sign}{:02}", exponent.abs())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Deeper than anything that is ever written, shallow enough for any stack.
    const DEPTH_MAX: usize = 32;

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, expected: &'static str) -> Error {
        Error {
            at: self.at,
            expected,
        }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > Self::DEPTH_MAX {
            return Err(self.error("fewer levels"));
        }
        self.space();
        match self.rest().chars().next() {
            Some('\'' | '"') => self.string().map(Value::Str),
            Some('(') => self.tuple(depth),
            Some('[') => {
                self.at += 1;
                self.items("]", depth).map(|(items, _)| Value::List(items))
            }
            Some('{') => self.dict(depth),
            Some('0'..='9' | '-' | '+' | '.') => self.number(),
            _ => {
                let words = [
                    ("None", Value::None),
                    ("True", Value::Bool(true)),
                    ("False", Value::Bool(false)),
                ];
                let found = words.into_iter().find(|(word, _)| self.take(word));
                found
                    .map(|(_, value)| value)
                    .ok_or_else(|| self.error("a value"))
            }
        }
    }

    /// Reads up to the closing bracket; also says whether there was a comma after the last item.
    fn items(&mut self, close: &str, depth: usize) -> Result<(Vec<Value>, bool), Error> {
        let mut items = Vec::new();
        let mut comma = false;
        while !self.take(close) {
            if !items.is_empty() && !comma {
                return Err(self.error("a comma or a closing bracket"));
            }
            items.push(self.value(depth + 1)?);
            comma = self.take(",");
        }
        Ok((items, comma))
    }

    /// `(1)` is a number, `(1,)` is a tuple.
    fn tuple(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let (mut items, comma) = self.items(")", depth)?;
        match (items.len(), comma) {
            (1, false) => Ok(items.remove(0)),
            _ => Ok(Value::Tuple(items)),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut entries = Vec::new();
        let mut comma = true;
        while !self.take("}") {
            if !comma {
                return Err(self.error("a comma or a closing bracket"));
            }
            let key = self.value(depth + 1)?;
            if !self.take(":") {
                return Err(self.error("a colon"));
            }
            entries.push((key, self.value(depth + 1)?));
            comma = self.take(",");
        }
        Ok(Value::Dict(entries))
    }

    fn number(&mut self) -> Result<Value, Error> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
        let rest = self.rest();
        let digits = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let whole = digits
            .strip_prefix(['-', '+'])
            .unwrap_or(digits)
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        let number = match whole {
            true => digits.parse().map(Value::Int).ok(),
            // Rust would also read `inf`, which is no literal.
            false if digits.contains(|c: char| c.is_ascii_digit()) => {
                let finite = digits
                    .parse()
                    .ok()
                    .filter(|number: &f64| number.is_finite());
                finite.map(Value::Float)
            }
            false => None,
        };
        let number = number.ok_or_else(|| self.error("a number"))?;
        self.at += digits.len();
        Ok(number)
    }

    fn string(&mut self) -> Result<String, Error> {
        let quote = self.rest().chars().next().unwrap_or('\'');
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(character) = self.rest().chars().next() else {
                return Err(self.error("a closing quote"));
            };
            self.at += character.len_utf8();
            match character {
                '\\' => self.escape(&mut text)?,
                '\n' => return Err(self.error("a closing quote")),
                _ if character == quote => return Ok(text),
                _ => text.push(character),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Error> {
        let Some(letter) = self.rest().chars().next() else {
            return Err(self.error("an escape"));
        };
        self.at += letter.len_utf8();
        let simple = match letter {
            '\\' | '\'' | '"' => Some(letter),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0C'),
            'v' => Some('\x0B'),
            'x' => Some(self.code(2)?),
            'u' => Some(self.code(4)?),
            'U' => Some(self.code(8)?),
            '0'..='7' => Some(self.octal(letter)),
            _ => None,
        };
        match simple {
            Some(character) => text.push(character),
            // Python keeps an escape that it does not know.
            None => text.extend(['\\', letter]),
        }
        Ok(())
    }

    fn code(&mut self, digits: usize) -> Result<char, Error> {
        let code = self.rest().get(..digits);
        let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let character = code
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32);
        let character = character.ok_or_else(|| self.error("hexadecimal digits"))?;
        self.at += digits;
        Ok(character)
    }

    fn octal(&mut self, first: char) -> char {
        let mut code = first.to_digit(8).unwrap_or_default();
        for _ in 0..2 {
            let Some(digit) = self.rest().chars().next().and_then(|c| c.to_digit(8)) else {
                break;
            };
            code = code * 8 + digit;
            self.at += 1;
        }
        char::from_u32(code).unwrap_or('\0')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a literal and writes it again.
    fn normal(text: &str) -> String {
        Value::parse(text).map_or_else(|error| error.to_string(), |value| value.to_string())
    }

    #[test]
    fn literals_are_written_as_python_writes_them() {
        for same in [
            "None",
            "True",
            "-12",
            "0.0",
            "4.628825",
            "1e-05",
            "0.0001",
            "1e+16",
            "1234567890123456.0",
            "1.5e+300",
            "()",
            "(1,)",
            "[]",
            "{}",
            "[('ts_one', 16384, '/srv/ts1'), (\"ts 'in\", 16395, '/srv/tsin')]",
            "{'a': {'b': [1, None]}, 'c': 0.5}",
            r"'a\nb\r\t\\ \x00\x7f\xa0\u200b\U000e0001'",
            r#"'both \' and "'"#,
            "'é ü 語 🐘'",
        ] {
            assert_eq!(normal(same), same);
        }
    }

    #[test]
    fn other_spellings_are_read() {
        for (text, same) in [
            (" [ 1 , 2 , ] ", "[1, 2]"),
            ("(1)", "1"),
            ("+1", "1"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("1E5", "100000.0"),
            (r#""a\x41\u0042\103\q""#, r"'aABC\\q'"),
            (r"'\0\7x\a\b\f\v\r'", r"'\x00\x07x\x07\x08\x0c\x0b\r'"),
        ] {
            assert_eq!(normal(text), same);
        }
    }

    #[test]
    fn what_is_no_literal_is_refused_where_it_stops_making_sense() {
        for (text, at) in [
            ("", 0),
            ("[1 2]", 3),
            ("'a", 2),
            ("'a\n'", 3),
            ("'a\\", 3),
            ("{1}", 2),
            ("{1: 2 3: 4}", 6),
            ("-inf", 0),
            ("open('x')", 0),
            ("1 + 2", 2),
            ("inf", 0),
            (r"'\x4'", 3),
            (r"'\ud800'", 3),
        ] {
            assert_eq!(
                Value::parse(text).map_err(|error| error.at),
                Err(at),
                "{text}"
            );
        }
        assert!(Value::parse(&"[".repeat(100_000)).is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| Value::Int(number.into())),
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(Value::Float),
            any::<String>().prop_map(Value::Str),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Tuple),
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_read_back_from_its_text(value in value()) {
            prop_assert_eq!(Value::parse(&value.to_string()), Ok(value));
        }
    }

    #[test]
    fn only_a_dictionary_has_keys_and_its_last_entry_counts() {
        let value = |text: &str| Value::parse(text).expect("a literal");
        assert_eq!(value("{'a': 1, 'a': 2}").get("a"), Some(&Value::Int(2)));
        assert_eq!(value("{'a': 1}").get("b"), None);
        assert_eq!(value("['a']").get("a"), None);
    }

    #[test]
    fn what_is_no_number_is_written_as_python_writes_it() {
        assert_eq!(Value::Float(f64::NEG_INFINITY).to_string(), "-inf");
    }
}
