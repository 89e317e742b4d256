//! What libpq reads from a server's certificate beyond what webpki offers: its validity, its key, and the names it is for.
//!
//! A host name is compared with the alternative names, and with the common name only where there is no alternative name of the
//! host's kind. A wildcard stands for exactly one label, the leftmost. Source: the documentation of `sslmode=verify-full` and RFC 6125.

use rustls::{
    CertificateError,
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::{
    Certificate,
    der::{Decode, Encode, asn1::ObjectIdentifier, oid::db::rfc5912},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const MD5_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
const SHA_1_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, CertificateError> {
    Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)
}

/// Refuses a certificate before and after its time.
pub(super) fn check_validity(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), CertificateError> {
    let validity = parse(certificate)?.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet);
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// The public key, as `SubjectPublicKeyInfo` in DER.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, CertificateError> {
    let key = parse(certificate)?.tbs_certificate.subject_public_key_info;
    key.to_der().map_err(|_| CertificateError::BadEncoding)
}

/// What SCRAM is bound to: `tls-server-end-point` of RFC 5929, the certificate's digest by the hash of its signature, or by SHA-256
/// where that is an older one. `None` for signatures without a hash of their own.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let signed_with = parse(certificate).ok()?.signature_algorithm.oid;
    match signed_with {
        MD5_WITH_RSA
        | SHA_1_WITH_RSA
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => Some(Sha256::digest(certificate).to_vec()),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => {
            Some(Sha384::digest(certificate).to_vec())
        }
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

/// Whether a certificate is for a host.
pub(super) fn is_for(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let by_alternative_name = ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, host))
        .is_ok();
    by_alternative_name || is_for_by_common_name(certificate, host)
}

fn is_for_by_common_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Ok(certificate) = parse(certificate) else {
        return false;
    };
    let alternatives = certificate.tbs_certificate.get::<SubjectAltName>();
    let same_kind = |name: &GeneralName| match name {
        GeneralName::DnsName(_) => matches!(host, ServerName::DnsName(_)),
        GeneralName::IpAddress(_) => matches!(host, ServerName::IpAddress(_)),
        _ => false,
    };
    match alternatives {
        Ok(None) => {}
        Ok(Some((_, names))) if !names.0.iter().any(same_kind) => {}
        _ => return false,
    }
    let names = certificate.tbs_certificate.subject.0.iter();
    let names = names.flat_map(|relative| relative.0.iter());
    let mut common = names.filter(|attribute| attribute.oid == COMMON_NAME);
    // As OpenSSL, which libpq asks: the first one.
    common
        .next()
        .and_then(|name| std::str::from_utf8(name.value.value()).ok())
        .is_some_and(|name| matches(name, &host.to_str()))
}

fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(suffix) = pattern.strip_prefix('*').filter(|rest| rest.len() > 2) else {
        return false;
    };
    let split = host.find('.').map(|at| host.split_at(at));
    suffix.starts_with('.')
        && split.is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let cases = [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*", "db", false),
            ("*.", "db.", false),
        ];
        for (pattern, host, expected) in cases {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
