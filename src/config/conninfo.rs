//! What a validation must know of a libpq connection string, and no more.
//!
//! Whether it holds a password, which has no place in a configuration, and which hosts it names.
//! Both forms are read, keyword and URI; what is not understood is left to whoever connects.

/// Whether a password is written in the text.
pub(super) fn has_password(text: &str) -> bool {
    match uri(text) {
        Some(uri) => {
            let (authority, parameters) = split_uri(uri);
            let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
            user.contains(':') || parameters.iter().any(|(key, _)| *key == "password")
        }
        None => pairs(text).iter().any(|(key, _)| key == "password"),
    }
}

/// The text without a password, and whether there was one.
pub(super) fn without_password(text: &str) -> (String, bool) {
    if !has_password(text) {
        return (text.to_owned(), false);
    }
    let Some(uri) = uri(text) else {
        let kept = pairs(text).into_iter().filter(|(key, _)| key != "password");
        let kept: Vec<_> = kept
            .map(|(key, value)| format!("{key}={}", quoted(&value)))
            .collect();
        return (kept.join(" "), true);
    };
    let scheme = &text[..text.len() - uri.len()];
    let (place, parameters) = uri.split_once('?').unwrap_or((uri, ""));
    let (user, rest) = place.split_once('@').unwrap_or(("", place));
    let user = user.split(':').next().unwrap_or_default();
    let at = if user.is_empty() { "" } else { "@" };
    let kept = parameters
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("password="));
    let kept = kept.collect::<Vec<_>>().join("&");
    let question = if kept.is_empty() { "" } else { "?" };
    (format!("{scheme}{user}{at}{rest}{question}{kept}"), true)
}

/// A value of the keyword form.
pub(super) fn quoted(value: &str) -> String {
    if !value.is_empty() && !value.contains([' ', '\'', '\\']) {
        return value.to_owned();
    }
    let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

/// The hosts that the text names, in its order; empty if the environment or libpq's default
/// decides.
pub(super) fn hosts(text: &str) -> Vec<String> {
    let listed = |text: &str| -> Vec<String> {
        let hosts = text.split(',').filter(|host| !host.is_empty());
        hosts.map(ToOwned::to_owned).collect()
    };
    let Some(uri) = uri(text) else {
        let of = |wanted: &str| pairs(text).into_iter().find(|(key, _)| key == wanted);
        let host = of("host").or_else(|| of("hostaddr"));
        return host.map_or_else(Vec::new, |(_, value)| listed(&value));
    };
    let (authority, parameters) = split_uri(uri);
    if let Some((_, host)) = parameters.iter().find(|(key, _)| *key == "host") {
        return listed(&host.replace("%2F", "/").replace("%2f", "/"));
    }
    let places = authority
        .rsplit_once('@')
        .map_or(authority, |(_, places)| places);
    let without_port = |place: &str| match place.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default().to_owned(),
        None => place.split(':').next().unwrap_or_default().to_owned(),
    };
    let hosts = places.split(',').map(without_port);
    let hosts = hosts.map(|host| host.replace("%2F", "/").replace("%2f", "/"));
    hosts.filter(|host| !host.is_empty()).collect()
}

/// Whether a host is certainly this machine.
pub(super) fn is_local(host: &str) -> bool {
    let loopback = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    host.starts_with(['/', '@']) || host.eq_ignore_ascii_case("localhost") || loopback
}

fn uri(text: &str) -> Option<&str> {
    let schemes = ["postgresql://", "postgres://"];
    schemes.iter().find_map(|scheme| text.strip_prefix(scheme))
}

fn split_uri(uri: &str) -> (&str, Vec<(&str, &str)>) {
    let (place, parameters) = uri.split_once('?').unwrap_or((uri, ""));
    let authority = place.split('/').next().unwrap_or_default();
    let parameters = parameters
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    (authority, parameters.collect())
}

/// The `key = value` pairs of the keyword form; values may be quoted, with backslashes before
/// quotes and backslashes.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let mut characters = after.trim_start().chars();
        let quoted = characters.as_str().starts_with('\'');
        if quoted {
            characters.next();
        }
        let mut value = String::new();
        while let Some(character) = characters.next() {
            match character {
                '\\' => value.extend(characters.next()),
                '\'' if quoted => break,
                space if space.is_whitespace() && !quoted => break,
                character => value.push(character),
            }
        }
        found.push((key.trim().to_owned(), value));
        rest = characters.as_str().trim_start();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_noticed_in_every_form() {
        let cases = [
            ("host=a password=x", true),
            ("host=a password = 'x y'", true),
            ("postgresql://u:x@h/db", true),
            ("postgres://u@h/db?password=x", true),
            ("host=a user='password=x'", false),
            ("postgresql://u@h:5432/db", false),
            ("host=a passfile=/p", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(has_password(text), expected, "{text}");
        }
    }

    #[test]
    fn a_password_is_taken_out_of_every_form() {
        let cases = [
            ("host=a password='x y' user='b c'", "host=a user='b c'"),
            (
                "postgresql://u:x@h:1/db?a=b&password=y",
                "postgresql://u@h:1/db?a=b",
            ),
            ("postgres://u@h?password=x", "postgres://u@h"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                without_password(text),
                (expected.to_owned(), true),
                "{text}"
            );
        }
        assert_eq!(without_password("host=a"), ("host=a".to_owned(), false));
    }

    #[test]
    fn hosts_are_found_in_every_form() {
        let cases = [
            ("host=/run/postgresql user=b", "/run/postgresql"),
            ("host = 'a,b' port=1,2", "a b"),
            ("service=billing", ""),
            ("postgresql://u@a:5432,b/db", "a b"),
            ("postgresql://%2Frun%2Fpostgresql/db", "/run/postgresql"),
            ("postgresql:///db?host=/run", "/run"),
            ("postgresql://[::1]:5432/db", "::1"),
        ];
        for (text, expected) in cases {
            assert_eq!(hosts(text).join(" "), expected, "{text}");
        }
        let local = ["/run", "localhost", "127.0.0.1", "::1"].map(is_local);
        assert_eq!(local, [true; 4]);
        assert!(!is_local("db1.example"));
    }
}
