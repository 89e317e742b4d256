//! The `keyword = value` form of a connection string.
//!
//! Blanks separate the pairs and may surround the `=`. A value in single quotes may hold blanks; in and out of quotes a backslash takes
//! the next character as it is. Where a keyword is given twice the later one counts. Messages point at a byte, never
//! quote the text, which may hold a password. Source: "Connection Strings" in libpq's documentation.

use super::{Error, Settings};

/// Reads the pairs.
pub(super) fn parse(text: &str) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    let mut rest = Cursor { text, at: 0 };
    loop {
        rest.skip_blanks();
        if rest.peek().is_none() {
            return Ok(settings);
        }
        let keyword_at = rest.at;
        let keyword = rest.take_until(|c| c == '=' || c.is_ascii_whitespace());
        rest.skip_blanks();
        if rest.peek() != Some('=') {
            return Err(Error::NoEquals { at: keyword_at });
        }
        rest.next();
        rest.skip_blanks();
        let value = rest.value()?;
        settings.set(keyword, value)?;
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.next();
        }
    }

    fn take_until(&mut self, end: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.find(end).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn value(&mut self) -> Result<String, Error> {
        let start = self.at;
        let quoted = self.peek() == Some('\'');
        if quoted {
            self.next();
        }
        let mut value = String::new();
        loop {
            match self.peek() {
                None if quoted => return Err(Error::OpenQuote { at: start }),
                None => return Ok(value),
                Some('\'') if quoted => {
                    self.next();
                    return Ok(value);
                }
                Some(c) if !quoted && c.is_ascii_whitespace() => return Ok(value),
                Some('\\') => {
                    self.next();
                    value.extend(self.next());
                }
                Some(c) => {
                    self.next();
                    value.push(c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(settings) => settings.shown(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn pairs_quotes_and_escapes_are_read_as_libpq_reads_them() {
        let cases = [
            ("", ""),
            ("  host = a   port=1 ", "host=a port=1"),
            ("user='a b' dbname=''", "dbname= user=a b"),
            (r"user='it\'s' dbname=a\ b", "dbname=a b user=it's"),
            (r"user='a\\b'", r"user=a\b"),
            ("host=a host=b", "host=b"),
            ("host=\tport=1", "host=port=1"),
            ("options='-c a=b'", "options=-c a=b"),
            ("user=größe\nport=2", "port=2 user=größe"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_said_without_quoting_the_text() {
        let cases = [
            (
                "host=a secret",
                "no `=` after the word at byte 7 of the connection string",
            ),
            (
                "password='secret",
                "the quote opened at byte 9 of the connection string is never closed",
            ),
            (
                "hots=a",
                "`hots` is no keyword of a connection string; did you mean `host`?",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
