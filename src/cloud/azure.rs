//! Tokens of an identity: whose, and in which order one is looked for.
//!
//! The order is that of Azure's own libraries: a client secret or a workload identity of the environment, then the managed
//! identity of the machine, then whoever is signed in to the `az` command. What is configured and fails ends the search: another
//! identity would be a surprise. Nothing is looked for before the first request.

use std::{fmt, sync::Arc, time::Duration};

use azure_core::{
    Error, Result,
    credentials::{AccessToken, Secret as SdkSecret, TokenCredential},
    error::ErrorKind,
    http::{
        ClientOptions, Context, ExponentialRetryOptions, Request, RetryOptions, Transport, Url,
        policies::{Policy, PolicyResult},
    },
    time::OffsetDateTime,
};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};

use super::{Cloud, Principal};
use crate::{clock::Clock, model::desired::AzureCredential, secret::Secret};

/// Where a virtual machine asks for its tokens.
const METADATA: &str = "http://169.254.169.254";

/// Off Azure nobody is there; on it, the machine itself answers.
const PROBE: Duration = Duration::from_secs(1);

/// How long a token may take, all tries together.
const PATIENCE: Duration = Duration::from_secs(30);

/// A token that ends so soon is asked for anew.
const MARGIN: i64 = 300;

/// Who does not answer a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often after the first try.
pub(crate) const RETRIES: u32 = 4;

/// Where variables are read.
#[derive(Clone)]
pub(crate) struct Environment(pub(crate) Arc<Lookup>);

pub(crate) type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// The variables of this process, where they are not empty.
    #[expect(
        clippy::disallowed_methods,
        reason = "the variables that Azure's own programs read"
    )]
    pub(crate) fn process() -> Self {
        Self(Arc::new(|name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        }))
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

/// Whether certificates are needed.
#[derive(Clone, Copy)]
pub(crate) enum Tls {
    Needed,
    Absent,
}

/// Connections with few tries. Where there is no TLS, the machine's certificates are not read.
pub(crate) fn options(tls: Tls) -> std::result::Result<ClientOptions, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    let builder = match tls {
        Tls::Needed => builder,
        Tls::Absent => builder.tls_certs_only([]),
    };
    Ok(ClientOptions {
        retry: RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: RETRIES,
            max_delay: azure_core::time::Duration::seconds(5),
            ..ExponentialRetryOptions::default()
        }),
        transport: Some(Transport::new(Arc::new(builder.build()?))),
        ..ClientOptions::default()
    })
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`.
    ClientSecret,
    /// `AZURE_FEDERATED_TOKEN_FILE`, as Kubernetes gives it to a pod.
    WorkloadIdentity,
    /// The machine.
    ManagedIdentity,
    /// The `az` command.
    AzureCli,
}

/// All of them, in the order in which they are tried.
const DEFAULT: [Source; 4] = [
    Source::ClientSecret,
    Source::WorkloadIdentity,
    Source::ManagedIdentity,
    Source::AzureCli,
];

/// What is tried for a credential that is asked for by name, or for none.
pub(crate) fn sources(credential: Option<AzureCredential>) -> &'static [Source] {
    match credential {
        Some(AzureCredential::AzureCli) => &[Source::AzureCli],
        Some(AzureCredential::ManagedIdentity) => &[Source::ManagedIdentity],
        Some(AzureCredential::Default) | None => &DEFAULT,
    }
}

/// Identities, of which the first that answers is taken for good.
pub(crate) struct Chain {
    sources: Vec<Source>,
    scope: &'static str,
    environment: Environment,
    state: Mutex<State>,
    chosen: std::sync::OnceLock<Source>,
}

#[derive(Default)]
struct State {
    credential: Option<Arc<dyn TokenCredential>>,
    token: Option<AccessToken>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Chain").field(&self.sources).finish()
    }
}

impl Chain {
    pub(crate) fn new(sources: &[Source], scope: &'static str, environment: Environment) -> Self {
        Self {
            sources: sources.to_vec(),
            scope,
            environment,
            state: Mutex::default(),
            chosen: std::sync::OnceLock::new(),
        }
    }

    /// A token that is good for some minutes.
    pub(crate) async fn token(&self) -> Result<Secret> {
        let mut state = self.state.lock().await;
        let now = Clock::System.now().unix_seconds();
        let fresh = state.token.as_ref().filter(|token| lasts(token, now));
        if let Some(token) = fresh {
            return Ok(Secret::new(token.token.secret().to_owned()));
        }
        let token = match &state.credential {
            Some(credential) => self.ask(credential.as_ref()).await?,
            None => {
                let (credential, token) = self.find().await?;
                state.credential = Some(credential);
                token
            }
        };
        let secret = Secret::new(token.token.secret().to_owned());
        state.token = Some(token);
        Ok(secret)
    }

    /// Asks for a new token next time: the service has refused this one.
    pub(crate) async fn forget(&self) {
        self.state.lock().await.token = None;
    }

    /// Whose tokens these are, for messages.
    pub(crate) fn principal(&self) -> Principal {
        let only = self.sources.first().filter(|_| self.sources.len() == 1);
        match self.chosen.get().or(only) {
            Some(source) => self.describe(*source),
            None => Principal {
                cloud: Cloud::Azure,
                name: "identity".to_owned(),
                origin: "the default credential chain".to_owned(),
            },
        }
    }

    fn describe(&self, source: Source) -> Principal {
        let client = self.environment.get("AZURE_CLIENT_ID");
        let client = client.as_deref();
        let (name, origin) = match (source, client) {
            (Source::AzureCli, _) => ("account that is signed in".to_owned(), "`az`"),
            (Source::ManagedIdentity, None) => ("managed identity".to_owned(), "this machine"),
            (Source::ManagedIdentity, Some(client)) => (
                format!("managed identity `{client}`"),
                "AZURE_CLIENT_ID and this machine",
            ),
            (Source::WorkloadIdentity, client) => {
                let client = client.unwrap_or("-");
                (
                    format!("workload identity `{client}`"),
                    "AZURE_FEDERATED_TOKEN_FILE",
                )
            }
            (Source::ClientSecret, client) => {
                let client = client.unwrap_or("-");
                (format!("application `{client}`"), "AZURE_CLIENT_SECRET")
            }
        };
        Principal {
            cloud: Cloud::Azure,
            name,
            origin: origin.to_owned(),
        }
    }

    async fn find(&self) -> Result<(Arc<dyn TokenCredential>, AccessToken)> {
        let mut reasons = Vec::new();
        for source in &self.sources {
            if let Some(missing) = self.missing(*source).await {
                reasons.push(missing);
                continue;
            }
            let found = match self.make(*source) {
                Ok(credential) => self
                    .ask(credential.as_ref())
                    .await
                    .map(|token| (credential, token)),
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => {
                    let _ = self.chosen.set(*source);
                    return Ok(found);
                }
                Err(error) if source.is_configured() => {
                    let who = self.describe(*source);
                    return Err(refused(format!(
                        "no token for {who}: {}",
                        first_line(&error)
                    )));
                }
                Err(error) => {
                    let who = self.describe(*source);
                    reasons.push(format!("{who}: {}", first_line(&error)));
                }
            }
        }
        Err(refused(format!(
            "no Azure credential: {}",
            reasons.join("; ")
        )))
    }

    /// Why a source cannot be asked at all.
    async fn missing(&self, source: Source) -> Option<String> {
        let unset = source
            .variables()
            .iter()
            .find(|name| self.environment.get(name).is_none());
        if let Some(name) = unset {
            return Some(format!("{}: `{name}` is not set", source.as_str()));
        }
        if source != Source::ManagedIdentity || self.environment.get("IDENTITY_ENDPOINT").is_some()
        {
            return None;
        }
        let url = self.metadata().ok()?;
        let address = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        match timeout(PROBE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => None,
            _ => Some("managed identity: this machine has none".to_owned()),
        }
    }

    /// Where the machine answers: as the Python libraries, overridden by a variable for stand-ins and proxies in pods.
    fn metadata(&self) -> Result<Url> {
        let host = self.environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        Ok(Url::parse(host.as_deref().unwrap_or(METADATA))?)
    }

    async fn ask(&self, credential: &dyn TokenCredential) -> Result<AccessToken> {
        match timeout(PATIENCE, credential.get_token(&[self.scope], None)).await {
            Ok(token) => token,
            Err(_) => Err(refused(format!("no token within {} s", PATIENCE.as_secs()))),
        }
    }

    fn make(&self, source: Source) -> Result<Arc<dyn TokenCredential>> {
        let client = self.environment.get("AZURE_CLIENT_ID");
        let value = |name: &str| self.environment.get(name).unwrap_or_default();
        let options = options(Tls::Needed);
        let mut client_options =
            options.map_err(|error| Error::new(ErrorKind::Credential, error))?;
        Ok(match source {
            Source::ClientSecret => ClientSecretCredential::new(
                &value("AZURE_TENANT_ID"),
                client.unwrap_or_default(),
                SdkSecret::new(value("AZURE_CLIENT_SECRET")),
                Some(ClientSecretCredentialOptions { client_options }),
            )?,
            Source::WorkloadIdentity => {
                let credential_options = ClientAssertionCredentialOptions { client_options };
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options,
                    client_id: client,
                    tenant_id: Some(value("AZURE_TENANT_ID")),
                    token_file_path: Some(value("AZURE_FEDERATED_TOKEN_FILE").into()),
                }))?
            }
            Source::ManagedIdentity => {
                client_options
                    .per_call_policies
                    .push(Arc::new(Elsewhere(self.metadata()?)));
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: client.map(UserAssignedId::ClientId),
                    client_options,
                }))?
            }
            Source::AzureCli => AzureCliCredential::new(None)?,
        })
    }
}

impl Source {
    /// Without which it is not configured.
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::ClientSecret => &["AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"],
            Self::WorkloadIdentity => &[
                "AZURE_FEDERATED_TOKEN_FILE",
                "AZURE_TENANT_ID",
                "AZURE_CLIENT_ID",
            ],
            Self::ManagedIdentity | Self::AzureCli => &[],
        }
    }

    /// Whether somebody has asked for exactly this one.
    fn is_configured(self) -> bool {
        !self.variables().is_empty()
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecret => "client secret",
            Self::WorkloadIdentity => "workload identity",
            Self::ManagedIdentity => "managed identity",
            Self::AzureCli => "Azure CLI",
        }
    }
}

/// Sends what is meant for the metadata service to where it is.
#[derive(Debug)]
struct Elsewhere(Url);

#[async_trait::async_trait]
impl Policy for Elsewhere {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        if request.url().as_str().starts_with(METADATA) {
            let url = request.url_mut();
            let moved =
                url.set_host(self.0.host_str()).is_ok() && url.set_port(self.0.port()).is_ok();
            if !moved {
                let why = "AZURE_POD_IDENTITY_AUTHORITY_HOST names no host";
                return Err(Error::with_message(ErrorKind::Credential, why));
            }
        }
        next[0].send(context, request, &next[1..]).await
    }
}

fn lasts(token: &AccessToken, now: i64) -> bool {
    let end: OffsetDateTime = token.expires_on;
    end.unix_timestamp() - now > MARGIN
}

fn refused(message: String) -> Error {
    Error::with_message(ErrorKind::Credential, message)
}

/// The SDK's messages go on with links.
fn first_line(error: &Error) -> String {
    let text = error.to_string();
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}
