//! The HTTP client below the SDK, where the SDK's own will not do.

use std::{io, path::Path};

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::{
    Builder as HttpBuilder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::failure::chain;

/// For a store that is reached without TLS: no certificates are read.
pub(super) fn without_tls() -> SharedHttpClient {
    client(None)
}

/// For a store whose certificate is signed by one in this file, which takes the place of the system's.
pub(super) fn trusting(bundle: &Path) -> Option<SharedHttpClient> {
    match trust(bundle) {
        Ok(context) => Some(client(Some(context))),
        // The SDK's own client, which knows the system's certificates, may do as well, and else says what is missing.
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(bundle = %bundle.display(), error, "cannot use AWS_CA_BUNDLE");
            None
        }
    }
}

fn trust(bundle: &Path) -> io::Result<TlsContext> {
    let text = std::fs::read(bundle)?;
    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    // The SDK panics over one that cannot be understood, and bundles have old ones.
    let usable = certificates
        .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok())
        .collect::<Vec<_>>();
    if usable.is_empty() {
        return Err(io::Error::other("it holds no certificate"));
    }
    let mut trust = TrustStore::empty();
    for certificate in usable {
        let text = STANDARD.encode(certificate);
        trust.add_pem_certificate(format!(
            "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
        ));
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    context.map_err(io::Error::other)
}

fn client(context: Option<TlsContext>) -> SharedHttpClient {
    HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default();
        connector.set_connector_settings(settings.cloned());
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        match &context {
            None => connector.build_http(),
            Some(context) => connector
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(context.clone())
                .build(),
        }
    })
}
