//! The SDK's client, made so that a process of milliseconds can afford it.
//!
//! Making it contacts nobody: credentials are asked for with the first request, and of the network only where neither the environment
//! nor a profile has them. Root certificates are read only where there is TLS. What the options leave open follows
//! the SDK's own chain: environment, profiles, web identity, container, instance.

use std::{net::IpAddr, path::Path, time::Duration};

use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, meta::region::RegionProviderChain,
    sts::AssumeRoleProvider,
};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, Credentials, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedCredentialsProvider, SharedHttpClient, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder as HttpBuilder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};

use super::{AccessKeys, wire::Elsewhere};
use crate::model::desired::{AddressingStyle, Checksums, S3Options};

/// Who does not answer a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// One more than a rolling restart of a store's front ends takes from us.
const ATTEMPTS: u32 = 5;
/// What boto takes when nobody says; AWS redirects from there.
const REGION: &str = "us-east-1";

/// A client and what it was made with.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) region: Region,
    pub(super) integrity: Integrity,
    pub(super) timeouts: Timeouts,
    pub(super) elsewhere: Elsewhere,
}

/// What proves that what arrived is what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integrity {
    /// A CRC-32 in a signed header. The store keeps it.
    Crc32,
    /// The same, and the signature covers the content: nothing else protects it on the way.
    Crc32Signed,
    /// The signature alone, for stores that refuse checksums they do not know.
    Signature,
}

impl Integrity {
    pub(super) fn has_crc32(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32Signed)
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    read: Duration,
}

impl Timeouts {
    /// For requests that send and receive little, each try and all of them.
    fn usual(self) -> TimeoutConfig {
        Self::within(self.read)
    }

    /// For a request that sends so much: the slowest line that is still a line takes 64 KiB a second.
    pub(super) fn sending(self, bytes: usize) -> TimeoutConfig {
        Self::within(self.read + Duration::from_secs((bytes >> 16) as u64))
    }

    // The time of a try and not the connector's: the SDK makes a connector, with connections of its own, for each of those.
    fn within(read: Duration) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(read)
            .operation_timeout(read * ATTEMPTS)
            .build()
    }
}

/// Makes the client for a bucket.
pub(super) async fn connect(options: &S3Options, keys: Option<&AccessKeys>) -> Connection {
    let timeouts = Timeouts {
        read: options.read_timeout.unwrap_or(READ_TIMEOUT),
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region(options))
        .timeout_config(timeouts.usual());
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(client) = http_client(Tls::Needed) {
        loader = loader.http_client(client);
    }
    let config = with_credentials(loader, options, keys).load().await;
    let endpoint = options
        .endpoint_url
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| config.endpoint_url().map(str::to_owned));
    let integrity = integrity(options.checksums, &config, endpoint.as_deref());
    let elsewhere = Elsewhere::default();
    let builder = builder(&config, options, endpoint, timeouts).await;
    let builder = builder.interceptor(elsewhere.clone());
    Connection {
        client: Client::from_conf(builder.build()),
        region: config
            .region()
            .cloned()
            .unwrap_or(Region::from_static(REGION)),
        integrity,
        timeouts,
        elsewhere,
    }
}

async fn builder(
    config: &SdkConfig,
    options: &S3Options,
    endpoint: Option<String>,
    timeouts: Timeouts,
) -> Builder {
    let style = match options.addressing_style {
        AddressingStyle::Path => true,
        AddressingStyle::Virtual => false,
        AddressingStyle::Auto => endpoint.as_deref().is_some_and(|url| !is_aws(url)),
    };
    let tries = config.retry_config().map_or(0, RetryConfig::max_attempts);
    let mut builder = Builder::from(config)
        .force_path_style(style)
        .timeout_config(timeouts.usual())
        .retry_config(RetryConfig::standard().with_max_attempts(tries.max(ATTEMPTS)))
        // Ours are set per request, and what is read is checked while it streams.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if endpoint.as_deref().is_some_and(is_plain) {
        builder.set_http_client(http_client(Tls::Absent));
    }
    builder.set_endpoint_url(endpoint);
    if let Some(role) = &options.role {
        let provider = AssumeRoleProvider::builder(role)
            .session_name("barkeep")
            .configure(config)
            .build()
            .await;
        builder = builder.credentials_provider(provider);
    }
    builder
}

fn region(options: &S3Options) -> RegionProviderChain {
    // Never that of the instance: it costs requests, and boto does not ask either.
    let configured = options.region.clone().map(Region::new);
    let from_environment = || variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = configured.or_else(|| from_environment().map(Region::new));
    let mut profile = aws_config::profile::region::Builder::default();
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    RegionProviderChain::first_try(region)
        .or_else(profile.build())
        .or_else(Region::from_static(REGION))
}

/// Takes credentials straight from the environment where it has them, as the chain would after building all of itself.
fn with_credentials(
    loader: ConfigLoader,
    options: &S3Options,
    keys: Option<&AccessKeys>,
) -> ConfigLoader {
    let given = keys.map(|keys| (keys.id.clone(), keys.secret.expose().to_owned(), None));
    let from_environment = || match options.profile {
        Some(_) => None,
        None => Some((
            variable("AWS_ACCESS_KEY_ID")?,
            variable("AWS_SECRET_ACCESS_KEY")?,
            variable("AWS_SESSION_TOKEN"),
        )),
    };
    match given.or_else(from_environment) {
        Some((id, secret, token)) => {
            let credentials = Credentials::new(id, secret, token, None, "barkeep");
            loader.credentials_provider(SharedCredentialsProvider::new(credentials))
        }
        None => loader,
    }
}

/// A variable of the SDK's own, where it is not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the SDK's own chain, followed where the SDK would be slow"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn integrity(checksums: Checksums, config: &SdkConfig, endpoint: Option<&str>) -> Integrity {
    let refused_by_environment =
        config.request_checksum_calculation() == Some(RequestChecksumCalculation::WhenRequired);
    match checksums {
        Checksums::WhenRequired => Integrity::Signature,
        Checksums::WhenSupported if refused_by_environment => Integrity::Signature,
        Checksums::WhenSupported if endpoint.is_some_and(is_exposed) => Integrity::Crc32Signed,
        Checksums::WhenSupported => Integrity::Crc32,
    }
}

#[derive(Clone, Copy)]
enum Tls {
    Needed,
    Absent,
}

/// The HTTP client, where the SDK's own will not do: without TLS no certificates are read, and a bundle of one's own is honoured.
fn http_client(tls: Tls) -> Option<SharedHttpClient> {
    let context = match tls {
        Tls::Absent => None,
        Tls::Needed => Some(own_certificates(variable("AWS_CA_BUNDLE")?.as_ref())?),
    };
    let client = HttpBuilder::new().build_with_connector_fn(move |settings, components| {
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
    });
    Some(client)
}

fn own_certificates(path: &Path) -> Option<TlsContext> {
    // What cannot be read is left to the SDK, whose refusal of the store's certificate then says what is missing.
    let bundle = std::fs::read(path).ok()?;
    let trust = TrustStore::empty().with_pem_certificate(bundle);
    TlsContext::builder().with_trust_store(trust).build().ok()
}

fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

fn is_exposed(url: &str) -> bool {
    is_plain(url) && !is_loopback(host(url))
}

fn is_aws(url: &str) -> bool {
    let host = host(url);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The host of a URL, without user, port and path.
fn host(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let address = authority.rsplit('@').next().unwrap_or(authority);
    match address.find(']') {
        Some(end) => &address[..=end],
        None => address.split(':').next().unwrap_or(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_ones_own_has_its_bucket_in_the_path() {
        let cases = [
            ("https://s3.eu-south-1.amazonaws.com", true),
            ("https://s3.cn-north-1.amazonaws.com.cn/", true),
            ("https://minio.example.org:9000", false),
            ("https://amazonaws.com.example.org", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_aws(url), expected, "{url}");
        }
    }

    #[test]
    fn what_leaves_the_machine_in_the_clear_is_signed() {
        let cases = [
            ("http://127.0.0.1:9000", false),
            ("http://localhost/x", false),
            ("http://[::1]:9000/", false),
            ("http://user@10.0.0.1:9000", true),
            ("http://minio", true),
            ("https://minio", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_exposed(url), expected, "{url}");
        }
    }
}
