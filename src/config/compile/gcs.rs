//! What Google Cloud Storage needs to know.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Context, destination::read_timeout};
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{Written, provider::GcsTable},
    },
    model::desired::GcsOptions,
};

/// The options of a destination.
pub(super) fn options(table: &GcsTable, context: &mut Context<'_>) -> GcsOptions {
    let text = |written: &Option<Written<String>>| written.as_ref().map(|text| text.get().clone());
    if let Some(url) = &table.endpoint_url
        && !is_safe(url.get())
    {
        let error = Diagnostic::error(format!("`{}` is no URL of the service", url.get()));
        let label = "should begin with `https://`: credentials are sent there";
        context.report(error.label(&url.span(), label));
    }
    GcsOptions {
        credentials: table
            .credentials
            .as_ref()
            .map(|written| written.get().clone()),
        endpoint_url: text(&table.endpoint_url),
        project: text(&table.project),
        read_timeout: read_timeout(table.read_timeout.as_ref(), context),
        kms_key: text(&table.kms_key),
        tags: metadata(&table.tags, context),
        history_tags: metadata(&table.history_tags, context),
    }
}

/// A token travels in the clear only as far as this machine.
fn is_safe(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return url.starts_with("https://");
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The metadata of every object, after checking what can be sent over both interfaces.
fn metadata(
    written: &BTreeMap<String, Written<String>>,
    context: &mut Context<'_>,
) -> BTreeMap<String, String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let in_text = |c: char| c == ' ' || c.is_ascii_graphic();
    for (key, value) in written {
        let wrong = if key.is_empty() || !key.chars().all(in_name) {
            "a name has ASCII letters, digits and `-_.` only"
        } else if !value.get().chars().all(in_text) {
            "a text has printable ASCII characters only"
        } else {
            continue;
        };
        let error = Diagnostic::error(format!("metadata `{key}` cannot be set: {wrong}"));
        context.report(error.label(&value.span(), "this metadata"));
    }
    let pair = |(key, value): (&String, &Written<String>)| (key.clone(), value.get().clone());
    written.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leaves_the_machine_only_over_tls() {
        let cases = [
            ("https://storage-x.p.googleapis.com", true),
            ("http://127.0.0.1:4443", true),
            ("http://localhost", true),
            ("http://[::1]:4443/", true),
            ("http://10.0.0.1:4443", false),
            ("http://127.0.0.1.example.org", false),
            ("storage.googleapis.com", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_safe(url), expected, "{url}");
        }
    }
}
