//! TLS with the meaning that libpq gives `sslmode`, on rustls.
//!
//! A certificate's chain is verified whenever there are authorities to verify it with, whatever the mode; its name only under `verify-full`.
//! Without authorities the session is encrypted and nothing more. The handshake's signature is always verified, so that channel binding
//! means something in every mode. Stricter than libpq in two points: certificates of X.509 version 1 cannot be verified, and TLS
//! before 1.2 is not spoken. How modes fall back is `connector`'s matter.

use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
        verify_tls13_signature, verify_tls13_signature_with_raw_key,
    },
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, pem,
        pem::PemObject,
    },
    server::ParsedCertificate,
    version::{TLS12, TLS13},
};

use super::{
    certificate,
    conninfo::{ClientCertificate, SslMode, SslNegotiation, TlsSettings, TlsVersions, TrustRoots},
};

/// Why a session cannot be encrypted as asked. Found before anything is contacted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of certificates cannot be read.
    #[error("cannot read certificates from `{path}`")]
    ReadCertificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no certificate that can be used.
    #[error("`{0}` holds no usable certificate")]
    NoCertificate(PathBuf),
    /// The operating system has no authorities.
    #[error("the operating system offers no trusted certificates")]
    NoSystemRoots,
    /// The private key cannot be read.
    #[error("cannot read the private key `{path}`")]
    ReadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The private key is encrypted.
    #[error("the private key `{0}` is encrypted, which is not supported; decrypt it")]
    KeyEncrypted(PathBuf),
    /// Others may read the private key.
    #[error(
        "the private key `{0}` has group or world access; it must be 0600, or 0640 if root owns it"
    )]
    KeyExposed(PathBuf),
    /// The key and the certificate do not work together.
    #[error("the certificate `{certificate}` cannot be used with its key")]
    ClientCertificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What rustls needs for these settings. Reads the files that they name.
pub(super) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, Error> {
    let provider = aws_lc_rs::default_provider();
    let verifier = Verifier::new(settings, &provider)?;
    let versions = match settings.versions {
        TlsVersions::Any => vec![&TLS13, &TLS12],
        TlsVersions::Only12 => vec![&TLS12],
        TlsVersions::Only13 => vec![&TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .map_err(Error::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = (certificates(&client.certificate)?, private_key(client)?);
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| Error::ClientCertificate {
                    certificate: client.certificate.clone(),
                    source,
                })?
        }
    };
    config.enable_sni = settings.server_name_indication;
    if settings.negotiation == SslNegotiation::Direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |source| Error::ReadCertificates {
        path: path.clone(),
        source,
    };
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() {
        Err(Error::NoCertificate(path.clone()))
    } else {
        Ok(certificates)
    }
}

fn private_key(client: &ClientCertificate) -> Result<PrivateKeyDer<'static>, Error> {
    let path = &client.key;
    let failed = |source| Error::ReadKey {
        path: path.clone(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(pem::Error::Io(error)))?;
    // As libpq: root may own a key that a group reads, for it cannot belong to everyone who needs it.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(Error::KeyExposed(path.clone()));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|source| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // Both forms, PKCS #8 and the older one with a header, have the word.
        if text.contains("ENCRYPTED") {
            Error::KeyEncrypted(path.clone())
        } else {
            failed(source)
        }
    })
}

/// Whose certificates are trusted.
#[derive(Debug)]
struct Trust {
    anchors: RootCertStore,
    /// The same certificates as they stand: one of them may be the server's own.
    pinned: Vec<CertificateDer<'static>>,
}

impl Trust {
    fn new(roots: &TrustRoots) -> Result<Option<Self>, Error> {
        let pinned = match roots {
            TrustRoots::None => return Ok(None),
            TrustRoots::File(path) => certificates(path)?,
            TrustRoots::System => rustls_native_certs::load_native_certs().certs,
        };
        let mut anchors = RootCertStore::empty();
        let (usable, _) = anchors.add_parsable_certificates(pinned.iter().cloned());
        match (roots, usable) {
            (TrustRoots::File(path), 0) => Err(Error::NoCertificate(path.clone())),
            (_, 0) => Err(Error::NoSystemRoots),
            _ => Ok(Some(Self { anchors, pinned })),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameCheck {
    None,
    Full,
}

#[derive(Debug)]
struct Verifier {
    trust: Option<Trust>,
    name: NameCheck,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Self, Error> {
        Ok(Self {
            trust: Trust::new(&settings.roots)?,
            name: match settings.mode {
                SslMode::VerifyFull => NameCheck::Full,
                _ => NameCheck::None,
            },
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        // A self-signed certificate that is itself trusted needs no chain, only to be valid today.
        if trust.pinned.iter().any(|pinned| pinned == end_entity) {
            certificate::check_validity(end_entity, now)?;
        } else {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &trust.anchors,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if self.name == NameCheck::Full && !certificate::is_for(end_entity, server_name) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if ParsedCertificate::try_from(cert).is_ok() {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        }
        // Version 1 of X.509, which much advice on the web produces: its key serves as well.
        let key = SubjectPublicKeyInfoDer::from(certificate::public_key(cert)?);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
