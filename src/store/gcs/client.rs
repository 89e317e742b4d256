//! Requests and answers over HTTP: credentials, time limits, tries.
//!
//! Connections are of HTTP/1.1, one per request under way: parts that are sent at once must not share the window of one connection.
//! A request is tried again, with growing pauses, while its failure may pass; its pieces are shared and not copied, so a repetition
//! costs no memory. No request waits without a bound.

use std::{
    collections::VecDeque,
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::{Frame, SizeHint};
use reqwest::{Body, Response};

use super::{
    super::{Error, Key, Meaning, Operation, Result},
    endpoint::{Caller, Endpoint, Url},
    failure::{Answered, Asked, refused},
};
use crate::{
    cloud::google::Credentials,
    failure::{Disposition, chain},
    model::time::Timestamp,
};

/// Who does not answer a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, or its next bytes, unless the destination says otherwise.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const TRIES_MAX: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A server that asks for more is not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A client of one service, in the name of one caller.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    pub(super) credentials: Credentials,
    pub(super) endpoint: Endpoint,
    pub(super) location: String,
    pub(super) read_timeout: Duration,
}

/// One request, which can be sent any number of times.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) key: Option<Key>,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) content: Vec<Bytes>,
    /// How many times as long as usual the answer may take.
    pub(super) patience: u32,
}

impl Request {
    pub(super) fn new(operation: Operation, method: Method, url: Url) -> Self {
        Self {
            operation,
            key: None,
            method,
            url,
            headers: HeaderMap::new(),
            content: Vec::new(),
            patience: 1,
        }
    }

    #[must_use]
    pub(super) fn about(mut self, key: &Key) -> Self {
        self.key = Some(key.clone());
        self
    }

    #[must_use]
    pub(super) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        // What no header can hold, such as a line end in a tag, the service would refuse as well.
        let value = HeaderValue::from_bytes(value.as_bytes());
        self.headers
            .insert(name, value.unwrap_or(HeaderValue::from_static("")));
        self
    }

    /// With a word of the object's metadata.
    #[must_use]
    pub(super) fn with_metadata(mut self, name: &str, value: &str) -> Self {
        let name = http::HeaderName::try_from(format!("x-goog-meta-{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            self.headers.insert(name, value);
        }
        self
    }

    #[must_use]
    pub(super) fn with_content(mut self, media_type: &str, content: Vec<Bytes>) -> Self {
        self.content = content;
        self.with_header(header::CONTENT_TYPE.as_str(), media_type)
    }

    fn length(&self) -> usize {
        self.content.iter().map(Bytes::len).sum()
    }

    /// How long one try may take: the slowest line that is still a line takes 64 KiB a second.
    fn time(&self, read_timeout: Duration) -> Duration {
        read_timeout * self.patience + Duration::from_secs((self.length() >> 16) as u64)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn date(&self) -> Timestamp {
        date(&self.headers)
    }
}

/// When the service answered. One without a clock answered in 1970: too early for anything to expire.
pub(super) fn date(headers: &HeaderMap) -> Timestamp {
    let date = text(headers, header::DATE.as_str());
    let date = date.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
    date.map_or(chrono::DateTime::UNIX_EPOCH, |date| date.to_utc())
        .into()
}

/// A header's text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

impl Client {
    pub(super) fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        location: String,
        read_timeout: Option<Duration>,
    ) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("barkeep/", env!("CARGO_PKG_VERSION")));
        if endpoint.caller == Caller::Anonymous {
            // Some emulators serve one connection at a time, and wait on one that is kept for later.
            builder = builder.pool_max_idle_per_host(0);
        }
        if endpoint.is_plain() {
            // Certificates are not even read.
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let tls = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .map_err(|error| chain(&error))?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder = builder.tls_backend_preconfigured(tls);
        }
        Ok(Self {
            http: builder.build().map_err(|error| chain(&error))?,
            credentials,
            endpoint,
            location,
            read_timeout: read_timeout.unwrap_or(READ_TIMEOUT),
        })
    }

    /// Sends it and takes the whole answer, which must be a success.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer> {
        let mut tries = Tries::new(request.time(self.read_timeout));
        loop {
            let answer = async {
                let response = self.once(request).await?;
                let headers = response.headers().clone();
                let body = response.bytes().await;
                let body = body.map_err(|error| self.unanswered(request, &chain(&error)))?;
                Ok(Answer { headers, body })
            };
            match tokio::time::timeout(request.time(self.read_timeout), answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => tries.again(failed).await?,
                Err(_) => tries.again(self.late(request)).await?,
            }
        }
    }

    /// Sends it and takes the beginning of an answer, which must be a success.
    pub(super) async fn open(&self, request: &Request) -> Result<Response> {
        let mut tries = Tries::new(request.time(self.read_timeout));
        loop {
            match tokio::time::timeout(request.time(self.read_timeout), self.once(request)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(failed)) => tries.again(failed).await?,
                Err(_) => tries.again(self.late(request)).await?,
            }
        }
    }

    async fn once(&self, request: &Request) -> Result<Response, Failed> {
        let proof = self.credentials.headers().await;
        // The library has tried as often as is good.
        let proof = proof.map_err(|failed| Failed {
            error: self
                .error(request, meaning(failed.disposition))
                .because(failed.why),
            again: Again::No,
        })?;
        let sent = self
            .http
            .request(request.method.clone(), request.url.as_str())
            .headers(proof)
            .headers(request.headers.clone())
            .body(body(&request.content))
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(error) => return Err(self.unanswered(request, &chain(&error.without_url()))),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // The status alone says enough where the rest is lost.
        let body = response.bytes().await.unwrap_or_default();
        let asked = Asked {
            location: &self.location,
            principal: self.credentials.principal(),
            request,
        };
        let error = refused(
            &asked,
            &Answered {
                status,
                body: &body,
            },
        );
        let again = match status {
            408 | 429 | 500 | 502..=504 => Again::After(retry_after(&headers)),
            _ => Again::No,
        };
        Err(Failed { error, again })
    }

    fn error(&self, request: &Request, meaning: Meaning) -> Error {
        let error = Error::new(meaning, request.operation, self.location.as_str());
        match &request.key {
            Some(key) => error.about(key),
            None => error,
        }
    }

    fn unanswered(&self, request: &Request, why: &str) -> Failed {
        Failed {
            error: self
                .error(request, Meaning::Unreachable)
                .because(why.to_owned()),
            again: Again::After(None),
        }
    }

    fn late(&self, request: &Request) -> Failed {
        let seconds = request.time(self.read_timeout).as_secs();
        self.unanswered(request, &format!("no answer within {seconds} seconds"))
    }
}

/// What it means that there is no token.
fn meaning(disposition: Disposition) -> Meaning {
    match disposition {
        Disposition::Transient => Meaning::Unreachable,
        Disposition::Permanent | Disposition::Unknown => Meaning::PermissionDenied,
    }
}

/// One try that failed.
struct Failed {
    error: Error,
    again: Again,
}

enum Again {
    No,
    /// After what the server asks for, if it does.
    After(Option<Duration>),
}

/// How often a request has been tried, and for how long.
struct Tries {
    failed: u32,
    pause: Duration,
    until: Instant,
}

impl Tries {
    /// As many as fit into twice the time that one may take.
    fn new(time: Duration) -> Self {
        Self {
            failed: 0,
            pause: FIRST_PAUSE,
            until: Instant::now() + time * 2,
        }
    }

    /// Waits until it is time for the next try, or says that there is none.
    async fn again(&mut self, failed: Failed) -> Result<()> {
        let Again::After(asked) = failed.again else {
            return Err(failed.error);
        };
        self.failed += 1;
        let pause = asked.unwrap_or_else(|| jittered(self.pause)).min(PAUSE_MAX);
        if self.failed == TRIES_MAX || Instant::now() + pause > self.until {
            return Err(failed.error);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "waits for the service to recover, a bounded number of times"
        )]
        tokio::time::sleep(pause).await;
        self.pause *= 2;
        Ok(())
    }
}

/// Up to half as long again, so that those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // The standard library's hashers are seeded at random, which is all that is needed here.
    let random = RandomState::new().hash_one(()) % 512;
    pause + pause * u32::try_from(random).unwrap_or(0) / 1024
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = text(headers, header::RETRY_AFTER.as_str())?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn body(pieces: &[Bytes]) -> Body {
    match pieces {
        [] => Body::from(Bytes::new()),
        [whole] => Body::from(whole.clone()),
        pieces => Body::wrap(Pieces(pieces.iter().cloned().collect())),
    }
}

/// A body of several pieces, whose length is known.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}
