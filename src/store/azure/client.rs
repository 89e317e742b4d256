//! The SDK's client for one container, and its pipeline for what the SDK has no call for.
//!
//! Making it contacts nobody. Both share one transport, whose answers are never unpacked (a stored encoding is part of the object),
//! and one policy of retries with few tries; every try has a time limit that grows with what it sends, and all tries together have
//! one too, whatever a server asks to wait.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    Error,
    error::ErrorKind,
    http::{
        AsyncRawResponse, ClientMethodOptions, ClientOptions, Context, Method, Pipeline,
        RawResponse, Request, Url,
        policies::{Policy, PolicyResult},
    },
};
use azure_storage_blob::{
    BlobClient, BlobContainerClient, BlobContainerClientOptions, BlockBlobClient,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use tokio::time::timeout;

use super::{
    authorization::Authorization,
    identity::{Asker, Identity, Problem, identify},
};
use crate::{
    cloud::azure::{Environment, RETRIES, Tls, options as connections},
    model::desired::AzureOptions,
};

/// The version of the service's interface that the requests here are written for; the SDK sends the same.
const VERSION: &str = "2026-04-06";
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// A client and what it was made with.
pub(super) struct Connection {
    container: BlobContainerClient,
    pipeline: Pipeline,
    pub(super) authorization: Authorization,
    pub(super) asker: Asker,
    account: Url,
    read_timeout: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("authorization", &self.authorization)
            .field("asker", &self.asker)
            .finish_non_exhaustive()
    }
}

/// Makes the client for a container of an account.
pub(super) fn connect(
    account_url: &str,
    container: &str,
    options: &AzureOptions,
) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    let read_timeout = options.read_timeout.unwrap_or(READ_TIMEOUT);
    let Identity {
        endpoint,
        authorization,
        asker,
    } = identify(account_url, options, &Environment::process())?;
    let tls = if endpoint.scheme() == "https" {
        Tls::Needed
    } else {
        Tls::Absent
    };
    let account = endpoint.clone();
    let mut url = endpoint;
    url.path_segments_mut()
        .map_err(|()| Problem::Url(account_url.to_owned()))?
        .pop_if_empty()
        .push(container);
    let policies: Vec<Arc<dyn Policy>> = vec![
        Arc::new(Patience(read_timeout)),
        Arc::new(authorization.clone()),
    ];
    let client_options = ClientOptions {
        per_call_policies: vec![Arc::new(Fingerprint)],
        per_try_policies: policies,
        ..connections(tls)?
    };
    let pipeline = Pipeline::new(
        option_env!("CARGO_PKG_NAME"),
        option_env!("CARGO_PKG_VERSION"),
        client_options.clone(),
        Vec::new(),
        Vec::new(),
        None,
    );
    let options = BlobContainerClientOptions {
        client_options,
        version: VERSION.to_owned(),
    };
    Ok(Connection {
        container: BlobContainerClient::new(url, None, Some(options))?,
        pipeline,
        authorization,
        asker,
        account,
        read_timeout,
    })
}

impl Connection {
    pub(super) fn container(&self) -> &BlobContainerClient {
        &self.container
    }

    pub(super) fn blob(&self, name: &str) -> BlobClient {
        self.container.blob_client(name)
    }

    pub(super) fn block_blob(&self, name: &str) -> BlockBlobClient {
        self.blob(name).block_blob_client()
    }

    /// A request about the container, or about a blob of it.
    pub(super) fn request(&self, method: Method, blob: Option<&str>) -> Request {
        let url = match blob {
            Some(name) => self.blob(name).url().clone(),
            None => self.container.url().clone(),
        };
        let mut request = Request::new(url, method);
        request.insert_header("x-ms-version", VERSION);
        request
    }

    /// A request about the account.
    pub(super) fn account_request(&self, method: Method) -> Request {
        let mut request = Request::new(self.account.clone(), method);
        request.insert_header("x-ms-version", VERSION);
        request
    }

    /// Sends a request whose answer is small.
    pub(super) async fn send(&self, mut request: Request) -> azure_core::Result<RawResponse> {
        let sent = request.body().len().unwrap_or_default();
        let context = Context::new();
        self.within(sent, self.pipeline.send(&context, &mut request, None))
            .await
    }

    /// Sends a request whose answer is read as it comes.
    pub(super) async fn stream(
        &self,
        mut request: Request,
    ) -> azure_core::Result<AsyncRawResponse> {
        let context = Context::new();
        self.within(0, self.pipeline.stream(&context, &mut request, None))
            .await
    }

    /// Bounds a call that sends so much, with all its tries.
    pub(super) async fn within<T>(
        &self,
        sent: u64,
        call: impl Future<Output = azure_core::Result<T>>,
    ) -> azure_core::Result<T> {
        let limit = (self.read_timeout + sending(sent)) * (RETRIES + 1);
        timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(late(limit)))
    }

    /// How long the next piece of an answer may take.
    pub(super) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }
}

/// The slowest line that is still a line takes 64 KiB a second.
fn sending(bytes: u64) -> Duration {
    Duration::from_secs(bytes >> 16)
}

fn late(limit: Duration) -> Error {
    let message = format!("no answer within {} s", limit.as_secs());
    Error::with_message(ErrorKind::Io, message)
}

/// Bounds one try.
#[derive(Debug)]
struct Patience(Duration);

#[async_trait]
impl Policy for Patience {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let limit = self.0 + sending(request.body().len().unwrap_or_default());
        let sent = next[0].send(context, request, &next[1..]);
        timeout(limit, sent)
            .await
            .unwrap_or_else(|_| Err(late(limit)))
    }
}

/// The MD5 of what is sent, for a call of the SDK that has no option for it: the service refuses what arrives otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentMd5(Vec<u8>);

impl ContentMd5 {
    pub(super) fn of(content: &[u8]) -> Self {
        Self(Md5::digest(content).to_vec())
    }

    pub(super) fn digest(&self) -> Vec<u8> {
        self.0.clone()
    }

    /// In Base64.
    pub(super) fn text(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// The options of a call that sends it.
    pub(super) fn options(&self) -> ClientMethodOptions<'static> {
        ClientMethodOptions {
            context: Context::new().with_value(self.clone()),
        }
    }
}

#[derive(Debug)]
struct Fingerprint;

#[async_trait]
impl Policy for Fingerprint {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        if let Some(md5) = context.value::<ContentMd5>() {
            request.insert_header("content-md5", md5.text());
        }
        next[0].send(context, request, &next[1..]).await
    }
}
