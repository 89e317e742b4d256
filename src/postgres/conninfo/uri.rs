//! The URI form of a connection string.
//!
//! `postgresql://user:password@host:port,host:port/dbname?keyword=value&…`, every part optional and percent-encoded; an IPv6 address stands in
//! brackets, a socket directory is written with `%2F`. A keyword in the query beats the same thing further left. Messages name the part,
//! never quote it. Source: "Connection URIs" in libpq's documentation and RFC 3986.

use super::{Error, Settings};

/// The text after the scheme, if the text is a URI.
pub(super) fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// Reads what follows the scheme.
pub(super) fn parse(text: &str) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    // As libpq has it: the first `@` before any `/` ends the user, whatever else stands before it.
    let credentials = text
        .find(['@', '/'])
        .filter(|&at| text[at..].starts_with('@'));
    let rest = match credentials {
        Some(at) => {
            let (user, password) = split(&text[..at], ':');
            set_decoded(&mut settings, "user", user)?;
            set_decoded(&mut settings, "password", password.unwrap_or_default())?;
            &text[at + 1..]
        }
        None => text,
    };
    let (path, query) = split(rest, '?');
    let (servers, database) = split(path, '/');
    set_servers(&mut settings, servers)?;
    set_decoded(&mut settings, "dbname", database.unwrap_or_default())?;
    for pair in query.iter().flat_map(|query| query.split('&')) {
        set_pair(&mut settings, pair)?;
    }
    Ok(settings)
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((left, right)) => (left, Some(right)),
        None => (text, None),
    }
}

fn set_servers(settings: &mut Settings, servers: &str) -> Result<(), Error> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for server in servers.split(',') {
        let (host, port) = split_port(server)?;
        hosts.push(decode(host, "host")?);
        ports.push(decode(port, "port")?);
    }
    for (keyword, values) in [("host", hosts), ("port", ports)] {
        if values.iter().any(|value| !value.is_empty()) {
            settings.set(keyword, values.join(","))?;
        }
    }
    Ok(())
}

fn split_port(server: &str) -> Result<(&str, &str), Error> {
    let Some(rest) = server.strip_prefix('[') else {
        let (host, port) = split(server, ':');
        return Ok((host, port.unwrap_or_default()));
    };
    let bad = || Error::Uri("the address in brackets");
    let (address, after) = rest.split_once(']').ok_or_else(bad)?;
    match after.strip_prefix(':') {
        _ if address.is_empty() => Err(bad()),
        Some(port) => Ok((address, port)),
        None if after.is_empty() => Ok((address, "")),
        None => Err(bad()),
    }
}

fn set_pair(settings: &mut Settings, pair: &str) -> Result<(), Error> {
    if pair.is_empty() {
        return Ok(());
    }
    let bad = || Error::Uri("the query");
    let (keyword, value) = pair.split_once('=').ok_or_else(bad)?;
    if value.contains('=') {
        return Err(bad());
    }
    let keyword = decode(keyword, "query")?;
    let value = decode(value, "query")?;
    match keyword.as_str() {
        // A courtesy of libpq to URIs written for JDBC.
        "ssl" if value == "true" => settings.set("sslmode", "require".to_owned()),
        _ => settings.set(&keyword, value),
    }
}

fn set_decoded(settings: &mut Settings, keyword: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Ok(());
    }
    settings.set(keyword, decode(text, keyword)?)
}

fn decode(text: &str, part: &'static str) -> Result<String, Error> {
    let bad = || Error::Encoding(part);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(*high).zip(digit(*low)).ok_or_else(bad)?;
                let byte = u8::try_from(value.0 * 16 + value.1).map_err(|_| bad())?;
                (Some(byte).filter(|byte| *byte != 0).ok_or_else(bad)?, after)
            }
            (b'%', _) => return Err(bad()),
            (byte, after) => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(after_scheme(text).expect("a URI")) {
            Ok(settings) => settings.shown(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_part_of_a_uri_finds_its_keyword() {
        let cases = [
            ("postgresql://", ""),
            ("postgres://localhost", "host=localhost"),
            (
                "postgresql://u:p%40ss@h:5433/db?sslmode=require&connect_timeout=3",
                "connect_timeout=3 dbname=db host=h password=*** port=5433 sslmode=require user=u",
            ),
            ("postgresql://a:1,b,c:3/", "host=a,b,c port=1,,3"),
            (
                "postgresql://[::1]:5433,[fe80::1]/x",
                "dbname=x host=::1,fe80::1 port=5433,",
            ),
            ("postgresql://%2Fvar%2Frun/x", "dbname=x host=/var/run"),
            (
                "postgresql:///x?host=/tmp&port=6",
                "dbname=x host=/tmp port=6",
            ),
            ("postgresql://h/?ssl=true", "host=h sslmode=require"),
            ("postgresql://h?dbname=a%20b", "dbname=a b host=h"),
            ("postgresql://h/a?dbname=b", "dbname=b host=h"),
            ("postgresql://u@/x", "dbname=x user=u"),
            ("postgresql://u:p?w@h", "host=h password=*** user=u"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_malformed_part_is_named_but_not_shown() {
        let cases = [
            (
                "postgresql://u:%zz@h",
                "`password` in the connection URI is not valid percent-encoded text",
            ),
            (
                "postgresql://u:%00@h",
                "`password` in the connection URI is not valid percent-encoded text",
            ),
            (
                "postgresql://%ff@h",
                "`user` in the connection URI is not valid percent-encoded text",
            ),
            (
                "postgresql://h/?x",
                "the query of the connection URI is malformed",
            ),
            (
                "postgresql://h/?user=a=b",
                "the query of the connection URI is malformed",
            ),
            (
                "postgresql://[::1",
                "the address in brackets of the connection URI is malformed",
            ),
            (
                "postgresql://[]",
                "the address in brackets of the connection URI is malformed",
            ),
            (
                "postgresql://[::1]x",
                "the address in brackets of the connection URI is malformed",
            ),
            (
                "postgresql://h/?userr=a",
                "`userr` is no keyword of a connection string; did you mean `user`?",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
