//! What no key shows by itself: settings that contradict each other, and places that overlap.

use std::{path::Path, time::Duration};

use super::Context;
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{EntryTable, Written},
        source::Span,
        tree::Node,
    },
    model::{
        desired::{CatchUp, Desired, Destination, Entry, ProviderOptions},
        location::Location,
        retention::RetentionPolicy,
        time::{Span as Time, Timestamp},
    },
};

/// Whether what is said about one entry can all be had.
pub(super) fn within(table: &EntryTable, entry: &Entry, context: &mut Context<'_>) {
    history(table, entry, context);
    starts(table, entry, context);
}

/// Whether backups can start when they are due.
fn starts(table: &EntryTable, entry: &Entry, context: &mut Context<'_>) {
    let (Some(schedule), Some(written)) = (&entry.schedule, &table.schedule) else {
        return;
    };
    if let Some(splay) = table
        .splay
        .as_ref()
        .filter(|_| entry.splay >= schedule.period())
    {
        context.report(
            Diagnostic::error("the splay is not shorter than the schedule's period")
                .label(&splay.span(), "backups may be delayed so long")
                .label(
                    &written.span(),
                    format!("and are due every {}", Time(schedule.period())),
                ),
        );
    }
    let (Some(window), Some(text)) = (&entry.window, &table.window) else {
        return;
    };
    // A year from a fixed day, so that the answer does not depend on today.
    let start = Timestamp::from_unix_seconds(1_767_225_600);
    let following = |due: &Timestamp| schedule.next_due(*due);
    let mut instants = std::iter::successors(start, following).skip(1).take(366);
    if entry.catch_up == CatchUp::Skip && !instants.any(|due| window.contains(due, &entry.zone)) {
        context.report(
            Diagnostic::error("no backup would ever start")
                .label(&written.span(), "due only")
                .label(&text.span(), "outside this window")
                .help(
                    "what is missed is skipped; with `catch_up = \"once\"` it would be made up for",
                ),
        );
    }
}

/// Whether a schedule, a retention and a minimum can all be had.
fn history(table: &EntryTable, entry: &Entry, context: &mut Context<'_>) {
    let (Some(retention), Some(written)) = (entry.retention, &table.retention) else {
        return;
    };
    let minimum = entry.minimum_redundancy;
    let schedule = entry.schedule.as_ref().zip(table.schedule.as_ref());
    let (kept, because) = match (retention, schedule) {
        (RetentionPolicy::Redundancy(count), _) => (u64::from(count), None),
        (RetentionPolicy::RecoveryWindow(_), None) => return,
        (RetentionPolicy::RecoveryWindow(window), Some((schedule, text))) => {
            if window.duration() < schedule.period() {
                let (window, period) = (Time(window.duration()), Time(schedule.period()));
                context.report(
                    Diagnostic::error("the retention is shorter than the schedule's period")
                        .label(&written.span(), format!("only {window}"))
                        .label(
                            &text.span(),
                            format!("{period} from one backup to the next"),
                        )
                        .help("every backup would be obsolete before the next one exists"),
                );
                return;
            }
            (
                fitting(window.duration(), schedule.period()),
                Some(text.span()),
            )
        }
    };
    if u64::from(minimum) > kept
        && let Some(written) = &table.minimum_redundancy
    {
        unreachable(written, table, kept, because, context);
    }
}

/// How many backups a window holds at most, the one that it begins with included.
fn fitting(window: Duration, period: Duration) -> u64 {
    window.as_secs() / period.as_secs().max(1) + 1
}

fn unreachable(
    minimum: &Written<u32>,
    table: &EntryTable,
    kept: u64,
    schedule: Option<Span>,
    context: &mut Context<'_>,
) {
    let mut error = Diagnostic::error("the retention never holds so many backups")
        .label(&minimum.span(), format!("more than {kept}"));
    if let Some(retention) = &table.retention {
        error = error.label(&retention.span(), format!("holds {kept} at most"));
    }
    if let Some(schedule) = schedule {
        error = error.label(&schedule, "with this schedule");
    }
    context.report(error.help("the minimum is a safeguard; to keep more, lengthen the retention"));
}

/// Whether two servers, or two destinations, are in each other's way.
pub(super) fn places(root: &Node, desired: &Desired, diagnostics: &mut Vec<Diagnostic>) {
    overlapping(root, desired, diagnostics);
    same_catalog(root, diagnostics);
}

fn overlapping(root: &Node, desired: &Desired, diagnostics: &mut Vec<Diagnostic>) {
    let destinations: Vec<&Destination> = desired.destinations.values().collect();
    for (index, one) in destinations.iter().enumerate() {
        for other in &destinations[index + 1..] {
            let message = if same_store(one, other) && one.location == other.location {
                "two destinations are one place"
            } else if same_store(one, other)
                && (contains(&one.location, &other.location)
                    || contains(&other.location, &one.location))
            {
                "one destination lies inside another"
            } else {
                continue;
            };
            let span = |destination: &Destination| url_span(root, destination.name.as_str());
            diagnostics.push(
                Diagnostic::error(message)
                    .label(&span(other), format!("`{}` is here", other.name))
                    .label(&span(one), format!("`{}` is here", one.name))
                    .help("what one holds could be taken for what belongs to the other"),
            );
        }
    }
}

fn same_store(one: &Destination, other: &Destination) -> bool {
    let endpoint = |destination: &Destination| match &destination.provider {
        ProviderOptions::S3(options) => options.endpoint_url.clone(),
        ProviderOptions::Gcs(options) => options.endpoint_url.clone(),
        // The URL says it all.
        ProviderOptions::Directory | ProviderOptions::Azure(_) => None,
    };
    endpoint(one) == endpoint(other)
}

/// Whether a place lies strictly inside another.
fn contains(outer: &Location, inner: &Location) -> bool {
    let inside =
        |outer: &str, inner: &str| outer != inner && Path::new(inner).starts_with(Path::new(outer));
    match (outer, inner) {
        (
            Location::S3 { bucket, prefix },
            Location::S3 {
                bucket: other,
                prefix: path,
            },
        )
        | (
            Location::Gcs { bucket, prefix },
            Location::Gcs {
                bucket: other,
                prefix: path,
            },
        ) => bucket == other && inside(prefix, path),
        (
            Location::Azure {
                account_url,
                container,
                prefix,
            },
            Location::Azure {
                account_url: account,
                container: other,
                prefix: path,
            },
        ) => (account_url, container) == (account, other) && inside(prefix, path),
        (Location::Directory { path }, Location::Directory { path: other }) => {
            path != other && other.starts_with(path)
        }
        _ => false,
    }
}

fn url_span(root: &Node, name: &str) -> Span {
    let destination = root
        .get("destinations")
        .and_then(|item| item.node.get(name));
    let url = destination.and_then(|item| item.node.get("url"));
    url.map_or(0..0, |item| item.node.span.clone())
}

/// Two tables whose servers would write to one catalog.
fn same_catalog(root: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(table) = root.get("servers").and_then(|item| item.node.table()) else {
        return;
    };
    let mut seen: Vec<(&str, &Span)> = Vec::new();
    for (key, item) in table {
        let renamed = item.node.get("name").map(|name| &name.node);
        let text = renamed.and_then(Node::text).unwrap_or(key);
        let span = renamed.map_or(&item.key, |name| &name.span);
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == text) {
            diagnostics.push(
                Diagnostic::error(format!("two servers are called `{text}` in the catalog"))
                    .label(span, "again here")
                    .label(first, "first here")
                    .help("their backups and their WAL would be mixed"),
            );
        }
        seen.push((text, span));
    }
}
