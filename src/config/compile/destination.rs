//! Destinations: a place and what its provider needs to know.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use super::{Context, azure, gcs};
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{
            DestinationTable, Written,
            provider::{AzureTable, EncryptionTable, GcsTable, S3Table, Sse},
        },
        quantity::{OrNone, Text},
        reader,
        source::Span,
        tree::{Item, Node, Table},
    },
    model::{
        desired::{Destination, ProviderOptions, S3Encryption, S3Options},
        location::Location,
        names::DestinationName,
    },
};

/// Compiles all destinations; one with an error is reported and left out.
pub(super) fn compile(
    root: &Node,
    context: &mut Context<'_>,
) -> BTreeMap<DestinationName, Destination> {
    let table = root.get("destinations").and_then(|item| item.node.table());
    let named = table.into_iter().flatten();
    named
        .filter(|(_, item)| item.node.table().is_some())
        .filter_map(|(name, item)| {
            let destination = one(name, item, context)?;
            control(
                &destination,
                &reader::read_again(&item.node),
                table,
                context,
            );
            Some((destination.name.clone(), destination))
        })
        .collect()
}

fn one(name: &str, item: &Item, context: &mut Context<'_>) -> Option<Destination> {
    let table: DestinationTable = reader::read_again(&item.node);
    let name = match DestinationName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => {
            let error = Diagnostic::error(error.to_string());
            context.report(error.label(&item.key, "not a name"));
            None
        }
    };
    if item.node.get("url").is_none() {
        context.report(
            Diagnostic::error("the destination has no `url`")
                .label(&item.key, "where is it?")
                .help("such as `url = \"s3://bucket/prefix\"` or `url = \"file:///srv/backup\"`"),
        );
    }
    let url = table.url.as_ref()?;
    let provider = provider(&url.get().0, &url.span(), &table, &item.node, context);
    let max_parallel = at_least_one(table.max_parallel.as_ref(), context);
    Some(Destination {
        name: name?,
        location: url.get().0.clone(),
        provider,
        max_bandwidth: table.max_bandwidth.and_then(|rate| {
            let OrNone(rate) = rate.get().0;
            rate.map(|rate| rate.0)
        }),
        max_parallel: max_parallel.unwrap_or(const { NonZeroUsize::new(4).expect("not zero") }),
        object_lock: table
            .object_lock
            .as_ref()
            .map_or_else(Default::default, |lock| *lock.get()),
        control: table
            .control
            .as_ref()
            .and_then(|name| DestinationName::parse(name.get()).ok()),
    })
}

/// Another destination holds barkeep's own objects, one that lets itself be overwritten.
fn control(
    destination: &Destination,
    written: &DestinationTable,
    all: Option<&Table>,
    context: &mut Context<'_>,
) {
    let Some(control) = &written.control else {
        return;
    };
    let name = control.get().as_str();
    let other = all.and_then(|all| all.get(name));
    let wrong = match other {
        None => "no such destination",
        Some(_) if name == destination.name.as_str() => "this is the one that forbids overwriting",
        Some(other) if other.node.get("control").is_some() => "this one forbids overwriting too",
        Some(_) => return,
    };
    context.report(
        Diagnostic::error(format!(
            "`{name}` cannot be the `control` of `{}`",
            destination.name
        ))
        .label(&control.span(), wrong)
        .help("name a destination whose objects can be written again"),
    );
}

/// A number that must not be zero, `None` if unset or reported.
pub(super) fn at_least_one(
    written: Option<&Written<u32>>,
    context: &mut Context<'_>,
) -> Option<NonZeroUsize> {
    let written = written?;
    let number = usize::try_from(*written.get())
        .ok()
        .and_then(NonZeroUsize::new);
    if number.is_none() {
        let error = Diagnostic::error("zero would mean that nothing is ever done");
        context.report(error.label(&written.span(), "should be 1 or more"));
    }
    number
}

fn provider(
    location: &Location,
    url: &Span,
    table: &DestinationTable,
    node: &Node,
    context: &mut Context<'_>,
) -> ProviderOptions {
    let own = match location {
        Location::S3 { .. } => "s3",
        Location::Gcs { .. } => "gcs",
        Location::Azure { .. } => "azure",
        Location::Directory { .. } => "",
    };
    for key in ["s3", "azure", "gcs"] {
        if let Some(item) = node.get(key).filter(|_| key != own) {
            let message = format!("`{key}` does not belong to this destination");
            context.report(
                Diagnostic::error(message)
                    .label(&item.key, "keys of another provider")
                    .label(url, "than this URL's"),
            );
        }
    }
    match location {
        Location::S3 { .. } => {
            let unset = S3Table::default();
            let table = table.s3.as_ref().map_or(&unset, Written::get);
            ProviderOptions::S3(s3(table, context))
        }
        Location::Gcs { .. } => {
            let unset = GcsTable::default();
            let table = table.gcs.as_ref().map_or(&unset, Written::get);
            ProviderOptions::Gcs(gcs::options(table, context))
        }
        Location::Azure { .. } => {
            let unset = AzureTable::default();
            let table = table.azure.as_ref().map_or(&unset, Written::get);
            ProviderOptions::Azure(azure::options(table, context))
        }
        Location::Directory { .. } => ProviderOptions::Directory,
    }
}

/// What a tag on S3 may have beside letters, digits and spaces.
const S3_TAG_SIGNS: &str = "_.:/=+-@";

fn s3(table: &S3Table, context: &mut Context<'_>) -> S3Options {
    let text = |written: &Option<Written<String>>| written.as_ref().map(|text| text.get().clone());
    if let Some(url) = &table.endpoint_url
        && !url.get().starts_with("http://")
        && !url.get().starts_with("https://")
    {
        let error = Diagnostic::error(format!("`{}` is no URL of a store", url.get()));
        context.report(error.label(&url.span(), "should begin with `https://` or `http://`"));
    }
    let encryption = table.encryption.as_ref();
    S3Options {
        endpoint_url: text(&table.endpoint_url),
        region: text(&table.region),
        profile: text(&table.profile),
        addressing_style: table
            .addressing_style
            .as_ref()
            .map_or_else(Default::default, |style| *style.get()),
        read_timeout: read_timeout(table.read_timeout.as_ref(), context),
        checksums: table
            .checksums
            .as_ref()
            .map_or_else(Default::default, |checksums| *checksums.get()),
        role: text(&table.role),
        encryption: encryption.and_then(|written| encrypted(written, context)),
        tags: tags(&table.tags, S3_TAG_SIGNS, context),
        history_tags: tags(&table.history_tags, S3_TAG_SIGNS, context),
    }
}

/// How long an answer may take, if that is said.
pub(super) fn read_timeout(
    written: Option<&Written<Text<Duration>>>,
    context: &mut Context<'_>,
) -> Option<Duration> {
    let timeout = written?;
    if timeout.get().0.is_zero() {
        let error = Diagnostic::error("no store answers in no time");
        context.report(error.label(&timeout.span(), "should be at least 1s"));
    }
    Some(timeout.get().0)
}

fn encrypted(
    written: &Written<EncryptionTable>,
    context: &mut Context<'_>,
) -> Option<S3Encryption> {
    let table = written.get();
    let Some(sse) = &table.sse else {
        let error = Diagnostic::error("`encryption` does not say how");
        context.report(error.label(
            &written.span(),
            "should have `sse = \"AES256\"` or `\"aws:kms\"`",
        ));
        return None;
    };
    match (*sse.get(), &table.key) {
        (Sse::Aes256, None) => Some(S3Encryption::Aes256),
        (Sse::Aes256, Some(key)) => {
            let error = Diagnostic::error("a key is for `aws:kms` only");
            context.report(
                error
                    .label(&key.span(), "this key would not be used")
                    .label(&sse.span(), "with the store's own keys"),
            );
            None
        }
        (Sse::Kms, key) => Some(S3Encryption::Kms {
            key: key.as_ref().map(|key| key.get().clone()),
        }),
    }
}

/// The tags of every object, after checking what stores demand of them; `signs` are allowed beside letters, digits and spaces.
pub(super) fn tags(
    tags: &BTreeMap<String, Written<String>>,
    signs: &str,
    context: &mut Context<'_>,
) -> BTreeMap<String, String> {
    const TAGS_MAX: usize = 10;
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || signs.contains(c);
    for (index, (key, value)) in tags.iter().enumerate() {
        let text = value.get();
        let wrong = if index >= TAGS_MAX {
            "an object has at most 10 tags".to_owned()
        } else if key.is_empty() || key.chars().count() > 128 {
            "a tag's key has 1 to 128 characters".to_owned()
        } else if key.to_ascii_lowercase().starts_with("aws:") {
            "keys that begin with `aws:` are reserved".to_owned()
        } else if text.chars().count() > 256 {
            "a tag's value has at most 256 characters".to_owned()
        } else if !key.chars().chain(text.chars()).all(allowed) {
            format!("tags have letters, digits, spaces and `{signs}` only")
        } else {
            continue;
        };
        let error = Diagnostic::error(format!("tag `{key}` cannot be set: {wrong}"));
        context.report(error.label(&value.span(), "this tag"));
    }
    let pair = |(key, value): (&String, &Written<String>)| (key.clone(), value.get().clone());
    tags.iter().map(pair).collect()
}
