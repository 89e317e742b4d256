//! Who asks: the credential, in Barman's order of precedence, and what is said of it in messages.
//!
//! A credential that is asked for by name comes first, then a connection string, a shared access signature, the account's key, and last
//! Azure's default chain. A key in the environment never silently takes the place of an identity that was asked for.

use std::sync::Arc;

use azure_core::http::Url;

use super::{
    authorization::{AccountKey, Authorization},
    connection_string::{self, ConnectionString, Opens},
};
use crate::{
    cloud::{
        Cloud, Principal,
        azure::{Chain, Environment, sources},
    },
    model::desired::AzureOptions,
    secret::{self, Secret},
};

/// What a token is for.
const SCOPE: &str = "https://storage.azure.com/.default";

/// Why nobody can ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The connection string's place is wrong.
    #[error("cannot have the connection string")]
    Reference(#[source] secret::Error),
    /// The connection string is wrong.
    #[error("cannot use the connection string from {origin}")]
    ConnectionString {
        /// Where it is.
        origin: String,
        /// Why.
        source: connection_string::Problem,
    },
    /// It opens another account.
    #[error(
        "the connection string from {origin} is of the account `{theirs}`, the URL names `{ours}`"
    )]
    Account {
        /// Where it is.
        origin: String,
        /// Its account.
        theirs: String,
        /// The URL's.
        ours: String,
    },
    /// The key is not Base64.
    #[error("the account key from {0} is not Base64")]
    Key(String),
    /// The URL is none.
    #[error("`{0}` is no URL of an account")]
    Url(String),
}

/// Who asks, and where.
pub(super) struct Identity {
    /// The URL of the account.
    pub(super) endpoint: Url,
    pub(super) authorization: Authorization,
    pub(super) asker: Asker,
}

/// Who asks, for messages.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// Always this one.
    Known(Principal),
    /// Whichever identity of a chain has been found.
    Chain(Arc<Chain>),
}

impl Asker {
    fn key(account: &str, origin: String) -> Self {
        Self::named(format!("account `{account}`, by its key,"), origin)
    }

    fn signature(origin: String) -> Self {
        Self::named("shared access signature".to_owned(), origin)
    }

    fn named(name: String, origin: String) -> Self {
        Self::Known(Principal {
            cloud: Cloud::Azure,
            name,
            origin,
        })
    }

    /// As it can be told now.
    pub(super) fn principal(&self) -> Principal {
        match self {
            Self::Known(principal) => principal.clone(),
            Self::Chain(chain) => chain.principal(),
        }
    }
}

/// Decides who asks at an account. Contacts nobody.
pub(super) fn identify(
    account_url: &str,
    options: &AzureOptions,
    environment: &Environment,
) -> Result<Identity, Problem> {
    let url = |text: &str| Url::parse(text).map_err(|_| Problem::Url(text.to_owned()));
    let account = account(account_url);
    if options.credential.is_none() {
        if let Some((origin, text)) = connection_string(options, environment)? {
            return from_connection_string(origin, &text, &account);
        }
        if let Some(text) = environment.get("AZURE_STORAGE_SAS_TOKEN") {
            let signature = Secret::new(text.trim_start_matches('?').to_owned());
            return Ok(Identity {
                endpoint: url(account_url)?,
                authorization: Authorization::Signature(signature),
                asker: Asker::signature("AZURE_STORAGE_SAS_TOKEN".to_owned()),
            });
        }
        if let Some(key) = environment.get("AZURE_STORAGE_KEY") {
            let origin = "AZURE_STORAGE_KEY".to_owned();
            return keyed(url(account_url)?, &account, &Secret::new(key), origin);
        }
    }
    let sources = sources(options.credential);
    let chain = Arc::new(Chain::new(sources, SCOPE, environment.clone()));
    Ok(Identity {
        endpoint: url(account_url)?,
        authorization: Authorization::Token(chain.clone()),
        asker: Asker::Chain(chain),
    })
}

fn connection_string(
    options: &AzureOptions,
    environment: &Environment,
) -> Result<Option<(String, Secret)>, Problem> {
    if let Some(reference) = &options.connection_string {
        let text = secret::resolve(reference).map_err(Problem::Reference)?;
        return Ok(Some(("the configuration".to_owned(), text)));
    }
    let name = "AZURE_STORAGE_CONNECTION_STRING";
    let text = environment.get(name);
    Ok(text.map(|text| (name.to_owned(), Secret::new(text))))
}

fn from_connection_string(
    origin: String,
    text: &Secret,
    account: &str,
) -> Result<Identity, Problem> {
    let parsed = ConnectionString::parse(text).map_err(|source| Problem::ConnectionString {
        origin: origin.clone(),
        source,
    })?;
    if let Some(theirs) = parsed.account.as_ref().filter(|theirs| *theirs != account) {
        return Err(Problem::Account {
            origin,
            theirs: theirs.clone(),
            ours: account.to_owned(),
        });
    }
    let endpoint = Url::parse(&parsed.endpoint).map_err(|_| Problem::Url(parsed.endpoint))?;
    match parsed.opens {
        Opens::Key(key) => keyed(endpoint, account, &key, origin),
        Opens::Signature(signature) => Ok(Identity {
            endpoint,
            authorization: Authorization::Signature(signature),
            asker: Asker::signature(origin),
        }),
    }
}

fn keyed(endpoint: Url, account: &str, key: &Secret, origin: String) -> Result<Identity, Problem> {
    let Some(key) = AccountKey::new(account, key) else {
        return Err(Problem::Key(origin));
    };
    Ok(Identity {
        endpoint,
        authorization: Authorization::Key(key),
        asker: Asker::key(account, origin),
    })
}

/// The account that a URL names: the last component of an emulator's path, else the first label of the host.
fn account(account_url: &str) -> String {
    let (_, rest) = account_url.split_once("://").unwrap_or(("", account_url));
    match rest.split_once('/') {
        Some((_, path)) => path.to_owned(),
        None => rest.split('.').next().unwrap_or(rest).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::AzureCredential;

    const URL: &str = "https://acc.blob.core.windows.net";
    const STRING: &str = "AccountName=acc;AccountKey=a2V5";

    fn environment(variables: &[(&'static str, &'static str)]) -> Environment {
        let variables = variables.to_vec();
        Environment(Arc::new(move |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        }))
    }

    fn who(
        variables: &[(&'static str, &'static str)],
        credential: Option<AzureCredential>,
    ) -> Result<String, String> {
        let options = AzureOptions {
            credential,
            ..AzureOptions::default()
        };
        let identity = identify(URL, &options, &environment(variables));
        identity
            .map(|identity| identity.asker.principal().to_string())
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_first_of_barmans_credentials_is_taken() {
        let string = ("AZURE_STORAGE_CONNECTION_STRING", STRING);
        let signature = ("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=x");
        let key = ("AZURE_STORAGE_KEY", "a2V5");
        let cases = [
            (
                &[string, signature, key][..],
                "Azure account `acc`, by its key, from AZURE_STORAGE_CONNECTION_STRING",
            ),
            (
                &[signature, key],
                "Azure shared access signature from AZURE_STORAGE_SAS_TOKEN",
            ),
            (
                &[key],
                "Azure account `acc`, by its key, from AZURE_STORAGE_KEY",
            ),
            (&[], "Azure identity from the default credential chain"),
        ];
        for (variables, principal) in cases {
            assert_eq!(who(variables, None).as_deref(), Ok(principal));
        }
        let named = who(&[string, signature, key], Some(AzureCredential::AzureCli));
        assert_eq!(
            named.as_deref(),
            Ok("Azure account that is signed in from `az`")
        );
    }

    #[test]
    fn a_credential_of_another_account_is_refused_without_being_shown() {
        let other = "AccountName=other;AccountKey=c2VjcmV0";
        let refused = who(&[("AZURE_STORAGE_CONNECTION_STRING", other)], None);
        let message = refused.expect_err("it is another account");
        assert!(
            message.contains("`other`") && !message.contains("c2VjcmV0"),
            "{message}"
        );
        assert!(who(&[("AZURE_STORAGE_KEY", "not base64!")], None).is_err());
    }

    #[test]
    fn an_account_is_named_by_its_host_or_by_an_emulators_path() {
        assert_eq!(account(URL), "acc");
        assert_eq!(account("http://127.0.0.1:10000/acc"), "acc");
    }
}
