//! Requests and answers of clouds that speak JSON over HTTP: tokens, time limits, tries.
//!
//! A request is tried again, with growing pauses, while its failure may pass; what changes something carries an identifier of its own or
//! a name, so a repetition changes nothing more. A cloud that asks for a pause gets it, up to a limit. A token goes to the origin that it was
//! asked for, and to no other.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde_json::Value;

use super::{Error, Result, StandIn};
use crate::{clock, failure::chain, model::time::Timestamp, secret::Secret};

/// Who does not answer a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_mins(1);
const TRIES_MAX: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A cloud that asks for more is not waited for.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// Whoever gives tokens.
#[async_trait]
pub(super) trait Tokens: Send + Sync {
    /// Headers that prove who asks; why there are none.
    async fn headers(&self) -> Result<HeaderMap, String>;
}

/// The header that carries a token.
pub(super) fn bearer(token: &str) -> Result<HeaderMap, String> {
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut bearer = bearer.map_err(|_| "the token is no text".to_owned())?;
    bearer.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
}

/// A token that is known beforehand.
struct Known(Secret);

#[async_trait]
impl Tokens for Known {
    async fn headers(&self) -> Result<HeaderMap, String> {
        bearer(self.0.expose())
    }
}

/// A client of one interface.
pub(super) struct Rest {
    http: reqwest::Client,
    tokens: Box<dyn Tokens>,
    base: Url,
}

impl fmt::Debug for Rest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Rest")
            .field(&self.base.as_str())
            .finish()
    }
}

/// One request, which can be sent any number of times.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// For messages.
    pub(super) doing: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) content: Option<Value>,
}

/// A successful answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Null where there is none.
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Rest {
    /// A client of what is at a URL. Contacts nobody.
    pub(super) fn new(cloud: &'static str, base: &str, tokens: Box<dyn Tokens>) -> Result<Self> {
        let failed = |why: String| Error::Client { cloud, why };
        let base = Url::parse(base).map_err(|error| failed(format!("`{base}`: {error}")))?;
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("barkeep/", env!("CARGO_PKG_VERSION")));
        let builder = match base.scheme() {
            // Certificates are not even read.
            "http" => builder.tls_certs_only([]),
            _ => builder,
        };
        let http = builder.build().map_err(|error| failed(chain(&error)))?;
        Ok(Self { http, tokens, base })
    }

    /// A client of a stand-in.
    pub(super) fn at_stand_in(cloud: &'static str, at: &StandIn) -> Result<Self> {
        Self::new(cloud, &at.url, Box::new(Known(at.secret.clone())))
    }

    /// A request about a path.
    pub(super) fn about(&self, method: Method, path: &[&str], doing: impl Into<String>) -> Ask {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ask {
            doing: doing.into(),
            method,
            url,
            content: None,
        }
    }

    /// A request about a place that the cloud has named.
    pub(super) fn at(&self, url: &str, doing: impl Into<String>) -> Result<Ask> {
        let doing = doing.into();
        let url = self.base.join(url).map_err(|error| Error::Answer {
            doing: doing.clone(),
            why: format!("`{url}`: {error}"),
        })?;
        Ok(Ask {
            doing,
            method: Method::GET,
            url,
            content: None,
        })
    }

    /// Sends it; the answer must be a success.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Answer> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let (error, asked) = match self.once(ask).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Now(error, asked)) => (error, asked),
            };
            let wait = asked.unwrap_or(pause);
            if tries == TRIES_MAX || wait > PAUSE_MAX {
                return Err(error);
            }
            clock::pause(wait).await;
            pause *= 2;
            tries += 1;
        }
    }

    /// The same; what is not there is nothing.
    pub(super) async fn find(&self, ask: &Ask) -> Result<Option<Answer>> {
        match self.ask(ask).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Answer, Failed> {
        let mut request = self.http.request(ask.method.clone(), ask.url.clone());
        if ask.url.origin() == self.base.origin() {
            let headers = self.tokens.headers().await;
            let headers = headers.map_err(|why| Failed::Finally(refused(ask, "NoToken", why)))?;
            request = request.headers(headers);
        }
        request = match &ask.content {
            Some(content) => request
                .header("content-type", HeaderValue::from_static("application/json"))
                .body(content.to_string()),
            // Some servers insist on a length.
            None if ask.method == Method::POST => request.body(""),
            None => request,
        };
        let unanswered = |error: reqwest::Error| {
            let error = Error::unreachable(&ask.doing, &error.without_url());
            Failed::Now(error, None)
        };
        let response = request.send().await.map_err(unanswered)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(unanswered)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            let status = status.as_u16();
            return Ok(Answer {
                status,
                headers,
                body,
            });
        }
        let error = told(ask, status.as_u16(), &body);
        match status.as_u16() {
            408 | 429 | 500 | 502..=504 => Err(Failed::Now(error, retry_after(&headers))),
            403 if error.is_called("rateLimitExceeded") => Err(Failed::Now(error, None)),
            _ => Err(Failed::Finally(error)),
        }
    }
}

/// One try that failed.
enum Failed {
    Finally(Error),
    /// It may work later: after what the cloud asks for, if it does.
    Now(Error, Option<Duration>),
}

/// What is not there, in the words of either cloud.
fn is_absent(error: &Error) -> bool {
    ["notFound", "ResourceNotFound", "NotFound"]
        .iter()
        .any(|code| error.is_called(code))
}

pub(super) fn refused(ask: &Ask, code: &str, message: impl Into<String>) -> Error {
    Error::Cloud {
        doing: ask.doing.clone(),
        code: code.to_owned(),
        message: message.into(),
    }
}

/// Both clouds wrap an error alike; Google's has a number for a code, and a word beside it.
fn told(ask: &Ask, status: u16, body: &Value) -> Error {
    let error = &body["error"];
    let code = error["code"].as_str();
    let reason = error["errors"][0]["reason"].as_str();
    let message = error["message"].as_str().unwrap_or_default();
    let code = reason
        .or(code)
        .map_or_else(|| format!("status {status}"), str::to_owned);
    refused(ask, &code, message)
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An instant as either cloud writes it, with its offset.
pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    let time = chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Some(Timestamp::from(time.with_timezone(&chrono::Utc)))
}
