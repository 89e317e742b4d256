//! What was typed, in types: what several commands take, and how the parser's values are taken by name.
//!
//! Made of the parser's values and of nothing else, so nothing fails here. What depends on the provider, or on several options
//! together, is checked where it is used, for Barman gives that other exit codes than a wrong command line.

use super::argparse::Values;
use crate::{
    format::python::Value,
    model::{compression::Compression, desired::AddressingStyle},
};

/// Where the catalog is, how to reach it, and how much to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// `--cloud-provider`
    pub(super) provider: CloudProvider,
    /// The URL, as typed.
    pub(super) url: String,
    /// The server's name, as typed.
    pub(super) server: String,
    pub(super) endpoint_url: Option<String>,
    pub(super) profile: Option<String>,
    /// Seconds; nobody has looked whether they make sense.
    pub(super) read_timeout: Option<i128>,
    pub(super) addressing_style: AddressingStyle,
    pub(super) azure_credential: Option<String>,
    /// So many `-v`, less so many `-q`.
    pub(super) verbosity: i16,
    /// `--test`: only see whether the store answers.
    pub(super) test: bool,
}

/// `--cloud-provider`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloudProvider {
    AwsS3,
    AzureBlobStorage,
    GoogleCloudStorage,
}

/// A tag: its key and its value.
pub(super) type Tag = (String, String);

/// How the store encrypts and tags what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upload {
    /// `--encryption`: `AES256` or `aws:kms`.
    pub(super) encryption: Option<String>,
    pub(super) sse_kms_key_id: Option<String>,
    pub(super) kms_key_name: Option<String>,
    pub(super) encryption_scope: Option<String>,
    pub(super) tags: Vec<Tag>,
    /// Azure: from how many bytes on an object is sent in blocks.
    pub(super) max_single_put_size: Option<u64>,
    /// Azure: how many bytes a block has.
    pub(super) max_block_size: Option<u64>,
    /// Azure: how many blocks are sent at once.
    pub(super) max_concurrency: Option<u64>,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Console,
    Json,
}

/// The parser's values, taken by name.
pub(super) struct Taken(pub(super) Values);

impl Taken {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A text that is required or has a default.
    pub(super) fn word(&mut self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    pub(super) fn number(&mut self, name: &str) -> Option<i128> {
        match self.0.remove(name)? {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// A number that the parser has found not to be negative.
    pub(super) fn count(&mut self, name: &str) -> Option<u64> {
        let number = self.number(name)?;
        Some(u64::try_from(number).unwrap_or(u64::MAX))
    }

    /// Such a number with a default.
    pub(super) fn counted(&mut self, name: &str) -> u64 {
        self.count(name).unwrap_or_default()
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.0.remove(name) == Some(Value::Bool(true))
    }

    fn list(&mut self, name: &str) -> Vec<Value> {
        match self.0.remove(name) {
            Some(Value::List(values)) => values,
            _ => Vec::new(),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        let text = |value: Value| value.as_str().map(str::to_owned);
        self.list(name).into_iter().filter_map(text).collect()
    }

    /// Those of one spelling, or else those of the other.
    pub(super) fn tags(&mut self, [each, all]: [&str; 2]) -> Vec<Tag> {
        let mut values = self.list(each);
        let others = self.list(all);
        if values.is_empty() {
            values = others;
        }
        let tag = |value: Value| match value.items()? {
            [Value::Str(key), Value::Str(value)] => Some((key.clone(), value.clone())),
            _ => None,
        };
        values.into_iter().filter_map(tag).collect()
    }

    fn connection(&mut self, url: &str) -> Connection {
        let verbose = self.counted("verbose");
        let quiet = self.counted("quiet");
        let level = |count| i16::try_from(count).unwrap_or(i16::MAX);
        Connection {
            provider: match self.word("cloud_provider").as_str() {
                "azure-blob-storage" => CloudProvider::AzureBlobStorage,
                "google-cloud-storage" => CloudProvider::GoogleCloudStorage,
                _ => CloudProvider::AwsS3,
            },
            url: self.word(url),
            server: self.word("server_name"),
            endpoint_url: self.text("endpoint_url"),
            profile: self.text("aws_profile"),
            read_timeout: self.number("read_timeout"),
            addressing_style: match self.word("addressing_style").as_str() {
                "virtual" => AddressingStyle::Virtual,
                "path" => AddressingStyle::Path,
                _ => AddressingStyle::Auto,
            },
            azure_credential: self.text("azure_credential"),
            verbosity: level(verbose).saturating_sub(level(quiet)),
            test: self.flag("test"),
        }
    }

    pub(super) fn source(&mut self) -> Connection {
        self.connection("source_url")
    }

    pub(super) fn destination(&mut self) -> Connection {
        self.connection("destination_url")
    }

    pub(super) fn upload(&mut self) -> Upload {
        Upload {
            encryption: self.text("encryption"),
            sse_kms_key_id: self.text("sse_kms_key_id"),
            kms_key_name: self.text("kms_key_name"),
            encryption_scope: self.text("encryption_scope"),
            tags: self.tags(["tags_append", "tags_list"]),
            max_single_put_size: self.count("max_single_put_size"),
            max_block_size: self.count("max_block_size"),
            max_concurrency: self.count("max_concurrency"),
        }
    }

    pub(super) fn compression(&mut self) -> Compression {
        match self.word("compression").as_str() {
            "gz" | "gzip" => Compression::Gzip,
            "bz2" | "bzip2" => Compression::Bzip2,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "xz" => Compression::Xz,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        }
    }

    pub(super) fn form(&mut self) -> Form {
        match self.word("format").as_str() {
            "console" => Form::Console,
            _ => Form::Json,
        }
    }
}
