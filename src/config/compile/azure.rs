//! What Azure needs to know.

use super::{
    Context,
    destination::{at_least_one, read_timeout, tags},
};
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{Written, provider::AzureTable},
        quantity::{Bytes, Text},
    },
    model::desired::AzureOptions,
};

/// The longest object that one request may write.
const SINGLE_PUT_BYTES_MAX: u64 = 5000 << 20;
/// The shortest block that is worth a request, and the longest.
const BLOCK_BYTES: (u64, u64) = (64 << 10, 4000 << 20);

/// What a tag may have beside letters, digits and spaces.
const TAG_SIGNS: &str = "_.:/=+-";

/// The options of a destination.
pub(super) fn options(table: &AzureTable, context: &mut Context<'_>) -> AzureOptions {
    if let (Some(credential), Some(string)) = (&table.credential, &table.connection_string) {
        let error = Diagnostic::error("`credential` and `connection_string` exclude one another");
        context.report(
            error
                .label(&string.span(), "this would not be used")
                .label(&credential.span(), "with this"),
        );
    }
    let single = table.max_single_put_size.as_ref();
    AzureOptions {
        credential: table
            .credential
            .as_ref()
            .map(|credential| *credential.get()),
        connection_string: table
            .connection_string
            .as_ref()
            .map(|string| string.get().clone()),
        encryption_scope: table
            .encryption_scope
            .as_ref()
            .map(|scope| scope.get().clone()),
        read_timeout: read_timeout(table.read_timeout.as_ref(), context),
        max_single_put_bytes: within(single, (1, SINGLE_PUT_BYTES_MAX), context),
        max_block_bytes: within(table.max_block_size.as_ref(), BLOCK_BYTES, context),
        max_concurrency: at_least_one(table.max_concurrency.as_ref(), context),
        tags: tags(&table.tags, TAG_SIGNS, context),
        history_tags: tags(&table.history_tags, TAG_SIGNS, context),
    }
}

fn within(
    written: Option<&Written<Text<Bytes>>>,
    (least, most): (u64, u64),
    context: &mut Context<'_>,
) -> Option<u64> {
    let Text(Bytes(bytes)) = written?.get();
    if !(least..=most).contains(bytes) {
        let error = Diagnostic::error("Azure takes no such size");
        let label = format!("should be between {least} B and {} MiB", most >> 20);
        context.report(error.label(&written?.span(), label));
    }
    Some(*bytes)
}
