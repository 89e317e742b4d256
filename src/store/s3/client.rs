//! The SDK's client, made so that a process of milliseconds can afford it.
//!
//! Making it contacts nobody: credentials are asked for with the first request, and of the network only where neither the environment
//! nor a profile has them. Root certificates are read only where there is TLS. What the options leave open follows
//! the SDK's own chain: environment, profiles, web identity, container, instance.

use std::{net::IpAddr, path::Path, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, meta::region::RegionProviderChain};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::{RetryConfig, RetryPartition},
        timeout::TimeoutConfig,
    },
};
use aws_types::service_config::ServiceConfigKey;

use super::{
    AccessKeys,
    credentials::{self, Signer},
    http,
    wire::Elsewhere,
};
use crate::{
    cloud::aws::shared_files,
    model::desired::{AddressingStyle, Checksums, S3Options},
};

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
    pub(super) signer: Signer,
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
    let http = variable("AWS_CA_BUNDLE").and_then(|bundle| http::trusting(Path::new(&bundle)));
    let region = region(options).region().await;
    let region = region.unwrap_or(Region::from_static(REGION));
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .profile_files(shared_files())
        .region(region.clone())
        .timeout_config(timeouts.usual());
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(http) = &http {
        loader = loader.http_client(http.clone());
    }
    if let Some(chosen) = credentials::chosen(options, keys, &region, http.as_ref()) {
        loader = loader.credentials_provider(chosen);
    }
    let config = loader.load().await;
    let endpoint = options.endpoint_url.clone().or_else(|| endpoint(&config));
    let signer = Signer::default();
    let provider = credentials::signing(&config, options, &signer).await;
    let (integrity, elsewhere) = (
        integrity(options.checksums, &config, endpoint.as_deref()),
        Elsewhere::default(),
    );
    let mut builder = builder(&config, options, endpoint, timeouts).interceptor(elsewhere.clone());
    builder.set_credentials_provider(provider);
    Connection {
        client: Client::from_conf(builder.build()),
        region,
        integrity,
        timeouts,
        elsewhere,
        signer,
    }
}

/// The URL of the store that the environment or a profile names, for S3 or for all services.
fn endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let own = config
        .service_config()
        .zip(key.ok())
        .and_then(|(services, key)| services.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

fn builder(
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
    // Nobody who says nothing gets fewer than ours.
    let tries = variable("AWS_MAX_ATTEMPTS").and_then(|tries| tries.parse().ok());
    let usual = config.retry_config().map_or(0, RetryConfig::max_attempts);
    let tries = tries.unwrap_or(usual.max(ATTEMPTS));
    let mut builder = Builder::from(config)
        .force_path_style(style)
        .timeout_config(timeouts.usual())
        .retry_config(RetryConfig::standard().with_max_attempts(tries.max(1)))
        // The SDK would have all stores of the process in one region share what they may retry.
        .retry_partition(RetryPartition::custom("destination").build())
        // Ours are set per request, and what is read is checked while it streams.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if endpoint.as_deref().is_some_and(is_plain) {
        builder.set_http_client(Some(http::without_tls()));
    }
    builder.set_endpoint_url(endpoint);
    builder
}

fn region(options: &S3Options) -> RegionProviderChain {
    // Never that of the instance: it costs requests, and boto does not ask either.
    let configured = options.region.clone().map(Region::new);
    let from_environment = || variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = configured.or_else(|| from_environment().map(Region::new));
    let mut profile = aws_config::profile::region::Builder::default().profile_files(shared_files());
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    RegionProviderChain::first_try(region)
        .or_else(profile.build())
        .or_else(Region::from_static(REGION))
}

/// A variable of the SDK's own, where it is not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the SDK's own chain, followed where the SDK would be slow"
)]
pub(super) fn variable(name: &str) -> Option<String> {
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
