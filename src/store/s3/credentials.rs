//! Whose credentials sign the requests.
//!
//! Those of the configuration come first, then the environment, then the SDK's own chain: profiles with all that they can name (keys, roles, SSO,
//! processes, web identity), the web identity token, the container, the instance. A profile that the configuration names is
//! taken before the environment, as the AWS command line and Barman do. Who signed is remembered for messages.

use std::sync::{Arc, PoisonError, RwLock};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, ecs::EcsCredentialsProvider,
    imds::credentials::ImdsCredentialsProvider, meta::credentials::CredentialsProviderChain,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    sts::AssumeRoleProvider,
};
use aws_credential_types::{
    credential_feature::AwsCredentialFeature,
    provider::{Result, future},
};
use aws_sdk_s3::config::{
    Credentials, ProvideCredentials, SharedCredentialsProvider, SharedHttpClient,
};

use super::{
    super::permission::{Cloud, Principal, abbreviated},
    AccessKeys,
    client::variable,
};
use crate::{cloud::aws::shared_files, model::desired::S3Options};

/// Credentials that are chosen before the SDK's own chain is; it is built only where that decides.
pub(super) fn chosen(
    options: &S3Options,
    keys: Option<&AccessKeys>,
    region: &Region,
    http: Option<&SharedHttpClient>,
) -> Option<SharedCredentialsProvider> {
    if let Some(keys) = keys {
        let secret = keys.secret.expose().to_owned();
        let mut given = fixed(keys.id.clone(), secret, None);
        given.set_property(vec![AwsCredentialFeature::CredentialsCode]);
        return Some(SharedCredentialsProvider::new(given));
    }
    if let Some(profile) = &options.profile {
        return Some(of_profile(profile, region, http));
    }
    let id = variable("AWS_ACCESS_KEY_ID")?;
    let secret = variable("AWS_SECRET_ACCESS_KEY")?;
    let found = fixed(id, secret, variable("AWS_SESSION_TOKEN"));
    Some(SharedCredentialsProvider::new(found))
}

fn fixed(id: String, secret: String, token: Option<String>) -> Credentials {
    Credentials::new(id, secret, token, None, "barkeep")
}

/// A profile, and where it says nothing of credentials what the machine gives; never the environment, which may mean another profile.
fn of_profile(
    profile: &str,
    region: &Region,
    http: Option<&SharedHttpClient>,
) -> SharedCredentialsProvider {
    let mut config = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_behavior_version(Some(BehaviorVersion::latest()));
    if let Some(http) = http {
        config = config.with_http_client(http.clone());
    }
    let profile = ProfileFileCredentialsProvider::builder()
        .profile_files(shared_files())
        .profile_name(profile);
    let container = EcsCredentialsProvider::builder().configure(&config).build();
    let instance = ImdsCredentialsProvider::builder()
        .configure(&config)
        .build();
    let chain = CredentialsProviderChain::first_try("Profile", profile.configure(&config).build())
        .or_else("EcsContainer", container)
        .or_else("Ec2InstanceMetadata", instance);
    SharedCredentialsProvider::new(chain)
}

/// Credentials for the requests to the store: those of the SDK's configuration, or of the role that is assumed with them.
pub(super) async fn signing(
    config: &SdkConfig,
    options: &S3Options,
    signer: &Signer,
) -> Option<SharedCredentialsProvider> {
    let inner = match &options.role {
        None => config.credentials_provider()?,
        Some(role) => {
            let assuming = AssumeRoleProvider::builder(role).session_name("barkeep");
            SharedCredentialsProvider::new(assuming.configure(config).build().await)
        }
    };
    let profile = options.profile.clone().or_else(|| variable("AWS_PROFILE"));
    Some(SharedCredentialsProvider::new(Witness {
        inner,
        signer: signer.clone(),
        profile,
        role: options.role.clone(),
    }))
}

/// The principal of the last request that was signed.
#[derive(Clone, Debug, Default)]
pub(super) struct Signer(Arc<RwLock<Option<Principal>>>);

impl Signer {
    /// Who it is; `None` before the first request, and where there are no credentials at all.
    pub(super) fn principal(&self) -> Option<Principal> {
        let principal = self.0.read().unwrap_or_else(PoisonError::into_inner);
        principal.clone()
    }

    fn remember(&self, principal: Principal) {
        let mut last = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *last = Some(principal);
    }
}

/// Passes credentials on.
#[derive(Debug)]
struct Witness {
    inner: SharedCredentialsProvider,
    signer: Signer,
    /// The profile that the configuration or the environment names.
    profile: Option<String>,
    /// The role that is assumed.
    role: Option<String>,
}

impl Witness {
    async fn credentials(&self) -> Result {
        let credentials = self.inner.provide_credentials().await?;
        self.signer.remember(Principal {
            cloud: Cloud::Aws,
            name: format!("access key `{}`", abbreviated(credentials.access_key_id())),
            origin: self.origin(&credentials),
        });
        Ok(credentials)
    }

    fn origin(&self, credentials: &Credentials) -> String {
        if let Some(role) = &self.role {
            return format!("role `{role}`");
        }
        let features = credentials.get_property::<Vec<AwsCredentialFeature>>();
        let passed = |wanted: &AwsCredentialFeature| {
            features.is_some_and(|features| features.contains(wanted))
        };
        let places = [
            (AwsCredentialFeature::CredentialsProfile, self.of_profile()),
            (
                AwsCredentialFeature::CredentialsProfileStsWebIdToken,
                "the web identity token".to_owned(),
            ),
            (
                AwsCredentialFeature::CredentialsHttp,
                "the container".to_owned(),
            ),
            (
                AwsCredentialFeature::CredentialsImds,
                "the instance".to_owned(),
            ),
            (
                AwsCredentialFeature::CredentialsCode,
                "its caller".to_owned(),
            ),
        ];
        let found = places.into_iter().find(|(feature, _)| passed(feature));
        found.map_or_else(|| "the environment".to_owned(), |(_, place)| place)
    }

    fn of_profile(&self) -> String {
        let profile = self.profile.as_deref().unwrap_or("default");
        format!("profile `{profile}`")
    }
}

impl ProvideCredentials for Witness {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.inner.fallback_on_interrupt()
    }
}
