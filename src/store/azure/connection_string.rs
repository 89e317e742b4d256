//! Azure's connection strings: `Key=value` pairs joined by semicolons, as the portal shows them.
//!
//! Source of the format: Microsoft's "Configure Azure Storage connection strings". The shortcut for the emulator,
//! `UseDevelopmentStorage`, is not read: its published key would be a secret in this text.

use crate::secret::Secret;

/// What a connection string says of Blob Storage.
#[derive(Clone)]
pub(super) struct ConnectionString {
    /// The account, if it is named.
    pub(super) account: Option<String>,
    /// What opens it.
    pub(super) opens: Opens,
    /// The URL of the account's blobs.
    pub(super) endpoint: String,
}

/// What opens an account.
#[derive(Clone)]
pub(super) enum Opens {
    /// Its key, in Base64.
    Key(Secret),
    /// A shared access signature, without a question mark.
    Signature(Secret),
}

/// Why a text is no connection string. Never shows its values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// A piece without an equals sign.
    #[error("a piece of the connection string is no `Key=value`")]
    Pair,
    /// Nothing that opens the account.
    #[error("the connection string has neither `AccountKey` nor `SharedAccessSignature`")]
    Credential,
    /// A key without the name that goes with it.
    #[error("the connection string has an `AccountKey` but no `AccountName`")]
    Account,
    /// Nothing that says where the account is.
    #[error("the connection string has neither `BlobEndpoint` nor `AccountName`")]
    Endpoint,
    /// The shortcut.
    #[error(
        "`UseDevelopmentStorage` is not supported; write out the emulator's account, key and `BlobEndpoint`"
    )]
    Shortcut,
}

impl ConnectionString {
    /// Reads one.
    pub(super) fn parse(text: &Secret) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for piece in text.expose().split(';').map(str::trim) {
            if !piece.is_empty() {
                pairs.push(piece.split_once('=').ok_or(Problem::Pair)?);
            }
        }
        let value = |name: &str| {
            let mut named = pairs
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| (*value).to_owned())
        };
        if value("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(Problem::Shortcut);
        }
        let account = value("AccountName");
        let opens = match (value("AccountKey"), value("SharedAccessSignature")) {
            (Some(_), _) if account.is_none() => return Err(Problem::Account),
            (Some(key), _) => Opens::Key(Secret::new(key)),
            (None, Some(text)) => {
                Opens::Signature(Secret::new(text.trim_start_matches('?').to_owned()))
            }
            (None, None) => return Err(Problem::Credential),
        };
        let derived = || {
            let scheme = value("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
            let suffix = value("EndpointSuffix").unwrap_or_else(|| "core.windows.net".to_owned());
            let account = account.as_ref()?;
            Some(format!("{scheme}://{account}.blob.{suffix}"))
        };
        let endpoint = value("BlobEndpoint")
            .or_else(derived)
            .ok_or(Problem::Endpoint)?;
        Ok(Self {
            account,
            opens,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ConnectionString, Problem> {
        ConnectionString::parse(&Secret::new(text.to_owned()))
    }

    #[test]
    fn the_endpoint_is_written_out_or_follows_from_the_account() {
        let cases = [
            (
                "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.windows.net",
                "https://acc.blob.core.windows.net",
            ),
            (
                "AccountName=acc;AccountKey=a2V5==",
                "https://acc.blob.core.windows.net",
            ),
            (
                "accountname=acc; AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:10000/acc/;",
                "http://127.0.0.1:10000/acc",
            ),
            (
                "BlobEndpoint=https://acc.blob.core.chinacloudapi.cn;SharedAccessSignature=?sv=1&sig=x%3D",
                "https://acc.blob.core.chinacloudapi.cn",
            ),
        ];
        for (text, endpoint) in cases {
            let parsed = parsed(text).expect(text);
            assert_eq!(parsed.endpoint, endpoint);
        }
    }

    #[test]
    fn values_keep_their_equals_signs_and_signatures_lose_their_question_mark() {
        let key = parsed("AccountName=acc;AccountKey=a2V5==")
            .expect("a key")
            .opens;
        assert!(matches!(key, Opens::Key(key) if key.expose() == "a2V5=="));
        let signed = parsed("BlobEndpoint=https://a;SharedAccessSignature=?sv=1&sig=x%3D");
        let signature = signed.expect("a signature").opens;
        assert!(matches!(signature, Opens::Signature(text) if text.expose() == "sv=1&sig=x%3D"));
    }

    #[test]
    fn what_opens_nothing_is_refused_without_being_shown() {
        let cases = [
            ("AccountName", Problem::Pair),
            ("AccountName=acc", Problem::Credential),
            ("AccountKey=a2V5", Problem::Account),
            ("SharedAccessSignature=sig=x", Problem::Endpoint),
            ("UseDevelopmentStorage=true", Problem::Shortcut),
        ];
        for (text, problem) in cases {
            assert_eq!(parsed(text).err(), Some(problem), "{text}");
        }
    }
}
