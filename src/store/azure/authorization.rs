//! What makes a request one of ours: the account's key, a shared access signature, or a token.
//!
//! The SDK knows only tokens, so this is a policy of its own below the SDK's retries: every try is signed anew, with its own date. The
//! parts of a batch, which are requests themselves, are signed by the same code.
//!
//! Source of the signature: Microsoft's "Authorize with Shared Key", for Blob Storage from version 2015-02-21 on.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use async_trait::async_trait;
use azure_core::{
    Error, Result,
    error::ErrorKind,
    http::{
        Context, Request, StatusCode,
        headers::Headers,
        policies::{Policy, PolicyResult},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{clock::Clock, cloud::azure::Chain, secret::Secret};

/// The headers that are signed by their place, in order.
const SIGNED_HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// How requests are signed.
#[derive(Clone)]
pub(super) enum Authorization {
    /// With the account's key.
    Key(AccountKey),
    /// With a signature that somebody else has made, in the query.
    Signature(Secret),
    /// With a token of an identity.
    Token(Arc<Chain>),
}

/// An account and its key.
#[derive(Clone)]
pub(super) struct AccountKey {
    account: String,
    key: Zeroizing<Vec<u8>>,
}

impl AccountKey {
    /// Takes a key in Base64; `None` if it is not.
    pub(super) fn new(account: &str, key: &Secret) -> Option<Self> {
        let key = STANDARD.decode(key.expose().trim()).ok()?;
        Some(Self {
            account: account.to_owned(),
            key: Zeroizing::new(key),
        })
    }

    fn sign(&self, request: &mut Request) {
        let date = Clock::System.now().utc();
        let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        request.insert_header("x-ms-date", date);
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(text_to_sign(&self.account, request).as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let account = &self.account;
        request.insert_header("authorization", format!("SharedKey {account}:{signature}"));
    }
}

impl Authorization {
    /// Signs a request, as it is now.
    pub(super) async fn sign(&self, request: &mut Request) -> Result<()> {
        match self {
            Self::Key(key) => key.sign(request),
            Self::Signature(signature) => with_query(request, signature),
            Self::Token(chain) => {
                if request.url().scheme() != "https" {
                    let why = "a token is never sent over plain http; use an account key";
                    return Err(Error::with_message(ErrorKind::Credential, why));
                }
                let token = chain.token().await?;
                let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
                request.insert_header("authorization", bearer.as_str().to_owned());
            }
        }
        Ok(())
    }

    /// Takes what must not be shown out of a text that may quote a URL.
    pub(super) fn blot(&self, text: &str) -> String {
        match self {
            Self::Signature(signature) => text.replace(signature.expose(), "…"),
            Self::Key(_) | Self::Token(_) => text.to_owned(),
        }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Key(_) => "Key",
            Self::Signature(_) => "Signature",
            Self::Token(_) => "Token",
        })
    }
}

#[async_trait]
impl Policy for Authorization {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        self.sign(request).await?;
        let response = next[0].send(context, request, &next[1..]).await?;
        if let Self::Token(chain) = self
            && response.status() == StatusCode::Unauthorized
        {
            chain.forget().await;
        }
        Ok(response)
    }
}

fn with_query(request: &mut Request, signature: &Secret) {
    // A request that is tried again has it already.
    if request.url().query_pairs().any(|(name, _)| name == "sig") {
        return;
    }
    let query = match request.url().query() {
        None | Some("") => signature.expose().to_owned(),
        Some(query) => format!("{query}&{}", signature.expose()),
    };
    request.url_mut().set_query(Some(&query));
}

fn text_to_sign(account: &str, request: &Request) -> String {
    let length = request.body().len().unwrap_or_default();
    let mut lines = vec![request.method().as_str().to_owned()];
    lines.extend(SIGNED_HEADERS.map(|name| match (name, length) {
        // `x-ms-date` takes the place of the date.
        ("content-length", 0) | ("date", _) => String::new(),
        ("content-length", length) => length.to_string(),
        (name, _) => header(request.headers(), name).to_owned(),
    }));
    let mut text = lines.join("\n");
    text.push('\n');
    let named: BTreeMap<&str, &str> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().trim()))
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .collect();
    for (name, value) in named {
        writeln!(text, "{name}:{value}").expect("a string takes all");
    }
    write!(text, "/{account}{}", request.url().path()).expect("a string takes all");
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.url().query_pairs() {
        query
            .entry(name.to_lowercase())
            .or_default()
            .push(value.into_owned());
    }
    for (name, mut values) in query {
        values.sort();
        write!(text, "\n{name}:{}", values.join(",")).expect("a string takes all");
    }
    text
}

fn header<'h>(headers: &'h Headers, name: &str) -> &'h str {
    let mut headers = headers.iter();
    let found = headers.find(|(key, _)| key.as_str() == name);
    found.map_or("", |(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use azure_core::http::{Method, Url};

    use super::*;

    fn request(method: Method, url: &str) -> Request {
        Request::new(Url::parse(url).expect("a URL"), method)
    }

    #[test]
    fn the_text_that_is_signed_is_as_the_service_documents_it() {
        let mut listing = request(
            Method::Get,
            "https://acc.blob.core.windows.net/c?restype=container&comp=list&prefix=a%20b&include=x&include=b",
        );
        listing.insert_header("x-ms-version", "2026-04-06");
        listing.insert_header("x-ms-date", "Sat, 21 Nov 2026 10:00:00 GMT");
        assert_eq!(
            text_to_sign("acc", &listing),
            "GET\n\n\n\n\n\n\n\n\n\n\n\n\
             x-ms-date:Sat, 21 Nov 2026 10:00:00 GMT\nx-ms-version:2026-04-06\n\
             /acc/c\ncomp:list\ninclude:b,x\nprefix:a b\nrestype:container"
        );
        let mut put = request(Method::Put, "http://127.0.0.1:10000/acc/c/a%2Fb");
        put.insert_header("content-type", "text/plain");
        put.insert_header("if-none-match", "*");
        put.insert_header("x-ms-blob-type", "BlockBlob");
        put.set_body("xyz");
        assert_eq!(
            text_to_sign("acc", &put),
            "PUT\n\n\n3\n\ntext/plain\n\n\n\n*\n\n\nx-ms-blob-type:BlockBlob\n/acc/acc/c/a%2Fb"
        );
    }

    #[tokio::test]
    async fn a_signature_is_in_the_query_once_and_never_in_a_message() {
        let sas = "sv=2025-01-05&sr=c&sig=abc%2Fd%3D";
        let signed = Authorization::Signature(Secret::new(sas.to_owned()));
        let mut once = request(Method::Get, "https://acc.blob.core.windows.net/c?comp=list");
        for _ in 0..2 {
            signed.sign(&mut once).await.expect("it is signed");
        }
        let url = once.url().as_str();
        assert!(url.ends_with(&format!("?comp=list&{sas}")), "{url}");
        assert!(!signed.blot(url).contains("sig="));
    }
}
