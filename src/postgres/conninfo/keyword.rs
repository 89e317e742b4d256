//! Every keyword that libpq of PostgreSQL 18 or earlier accepts, and what becomes of it here.
//!
//! A keyword is honoured, or has no effect that anybody could miss, or is refused with the reason. None is ignored in silence, because a
//! connection that is less strict than its string says would be worse than none. Source: the list of parameter keywords and
//! environment variables in libpq's documentation.

use super::Error;

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// It means here what it means to libpq.
    Honoured,
    /// Nothing that it asks for could be noticed.
    Harmless,
    /// Only these values can be honoured, for this reason.
    Only(&'static [&'static str], &'static str),
    /// Any value is refused, for this reason.
    Refused(&'static str),
}

/// One keyword of a connection string.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyword {
    /// Its name.
    pub(super) name: &'static str,
    /// The environment variable that supplies it.
    pub(super) variable: Option<&'static str>,
    /// What becomes of it.
    pub(super) rule: Rule,
}

const NO_GSS: &str = "Kerberos and GSSAPI are not supported";
const NO_OAUTH: &str = "OAuth is not supported";
const NO_CRL: &str = "certificate revocation lists are not supported";
const NO_KEYS: &str = "SCRAM keys are not supported; use a password";

const fn keyword(name: &'static str, variable: &'static str, rule: Rule) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        rule,
    }
}

const fn only_written(name: &'static str, rule: Rule) -> Keyword {
    Keyword {
        name,
        variable: None,
        rule,
    }
}

/// Every keyword, in libpq's order.
pub(super) const KEYWORDS: &[Keyword] = &[
    keyword("service", "PGSERVICE", Rule::Honoured),
    keyword("servicefile", "PGSERVICEFILE", Rule::Honoured),
    keyword("user", "PGUSER", Rule::Honoured),
    keyword("password", "PGPASSWORD", Rule::Honoured),
    keyword("passfile", "PGPASSFILE", Rule::Honoured),
    keyword("channel_binding", "PGCHANNELBINDING", Rule::Honoured),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Rule::Honoured),
    keyword("dbname", "PGDATABASE", Rule::Honoured),
    keyword("host", "PGHOST", Rule::Honoured),
    keyword("hostaddr", "PGHOSTADDR", Rule::Honoured),
    keyword("port", "PGPORT", Rule::Honoured),
    // The session is always in UTF-8, and nothing else of it can be seen from outside.
    keyword("client_encoding", "PGCLIENTENCODING", Rule::Harmless),
    keyword("options", "PGOPTIONS", Rule::Honoured),
    keyword("application_name", "PGAPPNAME", Rule::Honoured),
    only_written("fallback_application_name", Rule::Honoured),
    only_written("keepalives", Rule::Honoured),
    only_written("keepalives_idle", Rule::Honoured),
    only_written("keepalives_interval", Rule::Honoured),
    only_written("keepalives_count", Rule::Honoured),
    only_written("tcp_user_timeout", Rule::Honoured),
    keyword("sslmode", "PGSSLMODE", Rule::Honoured),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", Rule::Honoured),
    // TLS 1.2 and 1.3 as spoken here have no compression; libpq ignores it since 14.
    keyword("sslcompression", "PGSSLCOMPRESSION", Rule::Harmless),
    keyword("sslcert", "PGSSLCERT", Rule::Honoured),
    keyword("sslkey", "PGSSLKEY", Rule::Honoured),
    keyword(
        "sslcertmode",
        "PGSSLCERTMODE",
        Rule::Only(
            &["disable", "allow"],
            "whether the server asked for the certificate cannot be told",
        ),
    ),
    only_written(
        "sslpassword",
        Rule::Refused("encrypted private keys are not supported; decrypt the key"),
    ),
    keyword("sslrootcert", "PGSSLROOTCERT", Rule::Honoured),
    keyword("sslcrl", "PGSSLCRL", Rule::Refused(NO_CRL)),
    keyword("sslcrldir", "PGSSLCRLDIR", Rule::Refused(NO_CRL)),
    keyword("sslsni", "PGSSLSNI", Rule::Honoured),
    keyword(
        "requirepeer",
        "PGREQUIREPEER",
        Rule::Refused("the user behind a socket cannot be checked"),
    ),
    keyword(
        "require_auth",
        "PGREQUIREAUTH",
        Rule::Refused("the authentication method cannot be chosen; use `pg_hba.conf`"),
    ),
    keyword(
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        Rule::Only(&["3.0"], "only protocol 3.0 is spoken"),
    ),
    keyword(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        Rule::Only(&["3.0", "3.2", "latest"], "only protocol 3.0 is spoken"),
    ),
    keyword(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Rule::Honoured,
    ),
    keyword(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        Rule::Honoured,
    ),
    keyword(
        "gssencmode",
        "PGGSSENCMODE",
        Rule::Only(&["disable", "prefer"], NO_GSS),
    ),
    // They matter only once GSSAPI is used, which the server would have to ask for, and that fails.
    keyword("krbsrvname", "PGKRBSRVNAME", Rule::Harmless),
    keyword("gsslib", "PGGSSLIB", Rule::Harmless),
    keyword(
        "gssdelegation",
        "PGGSSDELEGATION",
        Rule::Only(&["0"], NO_GSS),
    ),
    only_written(
        "replication",
        Rule::Only(
            &["false", "off", "no", "0"],
            "this must be an ordinary session",
        ),
    ),
    keyword(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        Rule::Honoured,
    ),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", Rule::Honoured),
    only_written("scram_client_key", Rule::Refused(NO_KEYS)),
    only_written("scram_server_key", Rule::Refused(NO_KEYS)),
    only_written("oauth_issuer", Rule::Refused(NO_OAUTH)),
    only_written("oauth_client_id", Rule::Refused(NO_OAUTH)),
    only_written("oauth_client_secret", Rule::Refused(NO_OAUTH)),
    only_written("oauth_scope", Rule::Refused(NO_OAUTH)),
    only_written(
        "sslkeylogfile",
        Rule::Refused("the keys of a session are never written down"),
    ),
    // Accepted and without effect in libpq itself, up to 13.
    keyword("authtype", "PGAUTHTYPE", Rule::Harmless),
    keyword("tty", "PGTTY", Rule::Harmless),
];

impl Keyword {
    /// The keyword of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KEYWORDS.iter().find(|keyword| keyword.name == name)
    }

    /// Whether a value can be honoured. An empty value is none, as in libpq.
    pub(super) fn check(&self, value: &str) -> Result<(), Error> {
        let reason = match self.rule {
            _ if value.is_empty() => return Ok(()),
            Rule::Honoured | Rule::Harmless => return Ok(()),
            Rule::Only(values, _) if values.contains(&value) => return Ok(()),
            Rule::Only(_, reason) | Rule::Refused(reason) => reason,
        };
        Err(Error::Refused {
            keyword: self.name,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_honoured_is_refused_and_nothing_else() {
        let cases = [
            ("sslcrl", "/crl", false),
            ("sslcrl", "", true),
            ("gssencmode", "require", false),
            ("gssencmode", "prefer", true),
            ("replication", "database", false),
            ("max_protocol_version", "latest", true),
            ("min_protocol_version", "3.2", false),
            ("sslcompression", "1", true),
            ("oauth_issuer", "https://x", false),
        ];
        for (name, value, accepted) in cases {
            let keyword = Keyword::named(name).expect("a keyword of libpq");
            assert_eq!(keyword.check(value).is_ok(), accepted, "{name}={value}");
        }
    }

    #[test]
    fn the_documentation_names_every_keyword() {
        let documentation = include_str!("../../../docs/connection.md");
        for Keyword { name, .. } in KEYWORDS {
            let families = ["keepalives", "oauth_"]
                .into_iter()
                .find(|f| name.starts_with(f));
            let shown = families.map_or(format!("`{name}`"), |family| format!("`{family}…`"));
            assert!(documentation.contains(&shown), "{name}");
        }
    }

    #[test]
    fn no_keyword_is_listed_twice() {
        for (position, keyword) in KEYWORDS.iter().enumerate() {
            let first = KEYWORDS.iter().position(|other| other.name == keyword.name);
            assert_eq!(first, Some(position), "{}", keyword.name);
        }
    }
}
