//! What the `ssl…` keywords mean together, libpq's usual files in `~/.postgresql` included.

use std::path::{Path, PathBuf};

use super::{
    Environment, Error,
    settings::{Settings, Words},
};

/// How hard a session must be encrypted: `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// Only if the server refuses otherwise.
    Allow,
    /// If the server can.
    Prefer,
    /// Always.
    Require,
    /// Always, with a certificate from a trusted authority.
    VerifyCa,
    /// Always, with a certificate from a trusted authority for this very host.
    VerifyFull,
}

/// How encryption is begun: `sslnegotiation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslNegotiation {
    /// PostgreSQL is asked first.
    Postgres,
    /// At once; PostgreSQL 17 and later.
    Direct,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustRoots {
    /// Nobody's: certificates are not verified.
    None,
    /// The operating system's.
    System,
    /// Those in this file.
    File(PathBuf),
}

/// The certificate that this side shows, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with its chain if there is one; PEM.
    pub certificate: PathBuf,
    /// Its private key; PEM, not encrypted.
    pub key: PathBuf,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    Any,
    /// 1.2 only.
    Only12,
    /// 1.3 only.
    Only13,
}

/// How a session is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// How hard.
    pub mode: SslMode,
    /// How it is begun.
    pub negotiation: SslNegotiation,
    /// Whose certificates are trusted. Unless nobody's, the chain is verified in every mode, as libpq does.
    pub roots: TrustRoots,
    /// The certificate that this side shows.
    pub client: Option<ClientCertificate>,
    /// Whether the host's name is sent before the handshake.
    pub server_name_indication: bool,
    /// Which versions are spoken.
    pub versions: TlsVersions,
}

const SSL_MODES: Words<SslMode> = (
    &[
        ("prefer", SslMode::Prefer),
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ],
    "`disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`",
);
const SSL_NEGOTIATIONS: Words<SslNegotiation> = (
    &[
        ("postgres", SslNegotiation::Postgres),
        ("direct", SslNegotiation::Direct),
    ],
    "`postgres` or `direct`",
);
const SWITCHES: Words<bool> = (&[("1", true), ("0", false)], "`0` or `1`");
/// Whether TLS 1.2, and whether TLS 1.3, lies at or above a lower bound.
const LOWER_BOUNDS: Words<(bool, bool)> = (
    &[
        ("TLSv1.2", (true, true)),
        ("TLSv1", (true, true)),
        ("TLSv1.1", (true, true)),
        ("TLSv1.3", (false, true)),
    ],
    "`TLSv1`, `TLSv1.1`, `TLSv1.2` or `TLSv1.3`",
);
/// The same for an upper bound.
const UPPER_BOUNDS: Words<(bool, bool)> = (
    &[("TLSv1.3", (true, true)), ("TLSv1.2", (true, false))],
    "`TLSv1.2` or `TLSv1.3`; older versions are not spoken",
);

/// Works out how a session is encrypted.
pub(super) fn resolve(
    settings: &Settings,
    environment: &Environment,
) -> Result<TlsSettings, Error> {
    let own = environment.home().map(|home| home.join(".postgresql"));
    let own = own.as_deref();
    let system = settings.get("sslrootcert") == Some("system");
    let mode = match settings.get("sslmode") {
        None if system => SslMode::VerifyFull,
        _ => settings.choice("sslmode", SSL_MODES)?,
    };
    if system && mode != SslMode::VerifyFull {
        return Err(Error::Contradiction(
            "`sslrootcert=system` needs `sslmode=verify-full`: anybody can get a certificate there",
        ));
    }
    let negotiation = settings.choice("sslnegotiation", SSL_NEGOTIATIONS)?;
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        return Err(Error::Contradiction(
            "`sslnegotiation=direct` needs `sslmode=require` or stricter",
        ));
    }
    let roots = match mode {
        SslMode::Disable => TrustRoots::None,
        _ if system => TrustRoots::System,
        _ => trust_roots(settings, own, mode)?,
    };
    Ok(TlsSettings {
        mode,
        negotiation,
        roots,
        client: client_certificate(settings, own, mode)?,
        server_name_indication: settings.choice("sslsni", SWITCHES)?,
        versions: tls_versions(settings)?,
    })
}

fn trust_roots(
    settings: &Settings,
    own: Option<&Path>,
    mode: SslMode,
) -> Result<TrustRoots, Error> {
    let named = settings.get("sslrootcert").map(PathBuf::from);
    let file = named.or_else(|| own.map(|own| own.join("root.crt")));
    if let Some(file) = file.filter(|file| file.exists()) {
        // libpq would load it, and refuse revoked certificates.
        if own.is_some_and(|own| own.join("root.crl").exists()) {
            return Err(Error::Refused {
                keyword: "sslcrl",
                reason: "certificate revocation lists are not supported, but there is \
                    `~/.postgresql/root.crl`",
            });
        }
        return Ok(TrustRoots::File(file));
    }
    if mode >= SslMode::VerifyCa {
        return Err(Error::Contradiction(
            "`sslmode` asks for verification, but the file of `sslrootcert` does not exist",
        ));
    }
    Ok(TrustRoots::None)
}

fn client_certificate(
    settings: &Settings,
    own: Option<&Path>,
    mode: SslMode,
) -> Result<Option<ClientCertificate>, Error> {
    if mode == SslMode::Disable || settings.get("sslcertmode") == Some("disable") {
        return Ok(None);
    }
    let named = settings.get("sslcert").map(PathBuf::from);
    let usual = |name: &str| own.map(|own| own.join(name));
    let usual_certificate = || usual("postgresql.crt").filter(|path| path.exists());
    let Some(certificate) = named.or_else(usual_certificate) else {
        return Ok(None);
    };
    let key = match settings.get("sslkey") {
        Some(key) if key.contains(':') => {
            return Err(Error::Refused {
                keyword: "sslkey",
                reason: "keys in a cryptographic engine are not supported",
            });
        }
        Some(key) => PathBuf::from(key),
        None => usual("postgresql.key")
            .ok_or(Error::Contradiction("`sslcert` is given without `sslkey`"))?,
    };
    Ok(Some(ClientCertificate { certificate, key }))
}

fn tls_versions(settings: &Settings) -> Result<TlsVersions, Error> {
    let lower = settings.choice("ssl_min_protocol_version", LOWER_BOUNDS)?;
    let upper = settings.choice("ssl_max_protocol_version", UPPER_BOUNDS)?;
    match (lower.0 && upper.0, lower.1 && upper.1) {
        (true, true) => Ok(TlsVersions::Any),
        (true, false) => Ok(TlsVersions::Only12),
        (false, true) => Ok(TlsVersions::Only13),
        (false, false) => Err(Error::Contradiction(
            "`ssl_min_protocol_version` lies above `ssl_max_protocol_version`",
        )),
    }
}

#[cfg(test)]
#[path = "encryption_tests.rs"]
mod tests;
