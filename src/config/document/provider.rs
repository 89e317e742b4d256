//! The tables that only one provider knows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Written;
use crate::{
    config::quantity::{Bytes, Text},
    model::desired::{AddressingStyle, AzureCredential, Checksums, SecretRef},
};

/// What S3 needs to know. What is unset comes from the SDK's own chain: environment, shared files,
/// instance.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Table {
    /// The region.
    pub region: Option<Written<String>>,
    /// The URL of a store that is not AWS.
    pub endpoint_url: Option<Written<String>>,
    /// The named profile of the shared configuration files.
    pub profile: Option<Written<String>>,
    /// How the bucket appears in requests: `auto`, `virtual` (in the host name) or `path`.
    pub addressing_style: Option<Written<AddressingStyle>>,
    /// How long a response may take.
    pub read_timeout: Option<Written<Text<std::time::Duration>>>,
    /// When checksums are sent and expected: `when_supported`, or `when_required` for stores that
    /// refuse them.
    pub checksums: Option<Written<Checksums>>,
    /// The role to assume, as an ARN.
    pub role: Option<Written<String>>,
    /// How the store encrypts: `{ sse = "AES256" }` or `{ sse = "aws:kms", key = "alias/pg" }`.
    pub encryption: Option<Written<EncryptionTable>>,
    /// Tags on every object; at most 10.
    #[serde(default)]
    pub tags: BTreeMap<String, Written<String>>,
    /// Tags on timeline history files instead of `tags`.
    #[serde(default)]
    pub history_tags: BTreeMap<String, Written<String>>,
}

/// How S3 encrypts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptionTable {
    /// `AES256` for the store's own keys, `aws:kms` for a key of the key management service.
    pub sse: Option<Written<Sse>>,
    /// The key, with `aws:kms`; the service's default key if unset.
    pub key: Option<Written<String>>,
}

/// The kinds of server-side encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Sse {
    /// With the store's own keys.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of the key management service.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// What Azure needs to know. What is unset comes from the environment, in Barman's order:
/// `AZURE_STORAGE_CONNECTION_STRING`, `AZURE_STORAGE_SAS_TOKEN`, `AZURE_STORAGE_KEY`, then the
/// default chain.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureTable {
    /// Whose identity is used, whatever keys the environment has.
    pub credential: Option<Written<AzureCredential>>,
    /// Where a connection string is: `{ env = "NAME" }`, `{ file = "/path" }` or `{ command =
    /// ["program", "argument"] }`. Never the string. Its endpoint takes the place of the URL's.
    pub connection_string: Option<Written<SecretRef>>,
    /// The encryption scope of what is written.
    pub encryption_scope: Option<Written<String>>,
    /// How long a response may take.
    pub read_timeout: Option<Written<Text<std::time::Duration>>>,
    /// The size of the blocks in which a longer object is sent; `8MiB` if unset. Base backups have
    /// their own `part_size`.
    pub max_block_size: Option<Written<Text<Bytes>>>,
    /// How many of these blocks are sent at once; 4 if unset.
    pub max_concurrency: Option<Written<u32>>,
    /// Up to which size an object is sent in one request; `64MiB` if unset.
    pub max_single_put_size: Option<Written<Text<Bytes>>>,
    /// Tags on every object; at most 10.
    #[serde(default)]
    pub tags: BTreeMap<String, Written<String>>,
    /// Tags on timeline history files instead of `tags`.
    #[serde(default)]
    pub history_tags: BTreeMap<String, Written<String>>,
}

/// What Google Cloud Storage needs to know. What is unset comes from where Google's own clients look: environment, login, instance.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GcsTable {
    /// Where the file with the credentials is, of any kind that Google's clients take: `{ env = "NAME" }`, `{ file = "/path" }` or
    /// `{ command = ["program", "argument"] }`. Never the credentials.
    pub credentials: Option<Written<SecretRef>>,
    /// The URL of the service, if not the usual one: a private endpoint.
    pub endpoint_url: Option<Written<String>>,
    /// How long a response may take.
    pub read_timeout: Option<Written<Text<std::time::Duration>>>,
    /// The project in which a missing bucket is created.
    pub project: Option<Written<String>>,
    /// The key that encrypts what is written.
    pub kms_key: Option<Written<String>>,
    /// Metadata on every object.
    #[serde(default)]
    pub tags: BTreeMap<String, Written<String>>,
    /// Metadata on timeline history files instead of `tags`.
    #[serde(default)]
    pub history_tags: BTreeMap<String, Written<String>>,
}
