//! What `method = "snapshot"` needs to know: whose disks, where they are, how their snapshots are locked.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use super::{Context, destination::tags, server::ends};
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{
            Written,
            settings::{LockMode as Mode, SnapshotLockTable, SnapshotProvider, SnapshotTable},
        },
        source::Span,
    },
    model::{
        desired::SnapshotOptions,
        lock::LockMode,
        schedule::Zone,
        snapshot::{LockEnd, Mount, MountsFrom, Place, SnapshotLock},
    },
};

/// What Barman waits.
const AWAIT_TIMEOUT: Duration = Duration::from_hours(1);

/// What a tag may have beside letters, digits and spaces, in the strictest cloud.
const TAG_SIGNS: &str = "_.:=+-@";

/// Days and hours for which AWS locks.
const DAYS_MAX: u32 = 36_500;
const COOL_OFF_HOURS_MAX: u64 = 72;

/// The options of an entry, whose instants are of this zone.
pub(super) fn options(
    written: &Written<SnapshotTable>,
    zone: &Zone,
    context: &mut Context<'_>,
) -> Option<SnapshotOptions> {
    let table = written.get();
    let Some(provider) = &table.provider else {
        context.report(missing(&written.span(), "provider"));
        return None;
    };
    foreign(table, *provider.get(), context);
    for (key, is_there) in needed(table, *provider.get()) {
        if !is_there {
            context.report(missing(&written.span(), key));
        }
    }
    let disks = table.disks.iter().flatten();
    let lock = table.lock.as_ref();
    Some(SnapshotOptions {
        place: place(table, *provider.get()),
        instance: text(table.instance.as_ref()).unwrap_or_default(),
        disks: disks.map(|disk| disk.get().clone()).collect(),
        await_timeout: table
            .await_timeout
            .as_ref()
            .map_or(AWAIT_TIMEOUT, |timeout| timeout.get().0),
        tags: tags(&table.tags, TAG_SIGNS, context),
        lock: lock.and_then(|lock| self::lock(lock, zone, context)),
        mounts: mounts(table, context),
    })
}

fn missing(span: &Span, key: &str) -> Diagnostic {
    let error = Diagnostic::error(format!("disk snapshots need `{key}`"));
    error.label(span, format!("should have `{key}`"))
}

fn text(written: Option<&Written<String>>) -> Option<String> {
    written.map(|written| written.get().clone())
}

fn place(table: &SnapshotTable, provider: SnapshotProvider) -> Place {
    match provider {
        SnapshotProvider::Aws => Place::Aws {
            profile: text(table.profile.as_ref()),
            region: text(table.region.as_ref()),
        },
        SnapshotProvider::Azure => Place::Azure {
            subscription: text(table.subscription.as_ref()),
            resource_group: text(table.resource_group.as_ref()),
            credential: table
                .credential
                .as_ref()
                .map(|credential| *credential.get()),
        },
        SnapshotProvider::Gcp => Place::Gcp {
            project: text(table.project.as_ref()),
            zone: text(table.zone.as_ref()),
        },
    }
}

/// What there must be, and whether it is.
fn needed(table: &SnapshotTable, provider: SnapshotProvider) -> Vec<(&'static str, bool)> {
    let disks = table.disks.iter().flatten().count();
    let mut needed = vec![("instance", table.instance.is_some()), ("disks", disks > 0)];
    needed.extend(match provider {
        SnapshotProvider::Aws => Vec::new(),
        SnapshotProvider::Azure => vec![
            ("subscription", table.subscription.is_some()),
            ("resource_group", table.resource_group.is_some()),
        ],
        SnapshotProvider::Gcp => vec![
            ("project", table.project.is_some()),
            ("zone", table.zone.is_some()),
        ],
    });
    needed
}

/// Keys of one provider are refused for another.
fn foreign(table: &SnapshotTable, provider: SnapshotProvider, context: &mut Context<'_>) {
    use SnapshotProvider::{Aws, Azure, Gcp};
    let span = |written: &Option<Written<String>>| written.as_ref().map(Written::span);
    let credential = table.credential.as_ref();
    let keys = [
        (Aws, "region", span(&table.region)),
        (Aws, "profile", span(&table.profile)),
        (Aws, "lock", table.lock.as_ref().map(Written::span)),
        (Azure, "subscription", span(&table.subscription)),
        (Azure, "resource_group", span(&table.resource_group)),
        (Azure, "credential", credential.map(Written::span)),
        (Gcp, "project", span(&table.project)),
        (Gcp, "zone", span(&table.zone)),
    ];
    for (of, key, span) in keys {
        if let Some(span) = span.filter(|_| of != provider) {
            let (of, provider) = (name(of), name(provider));
            let error = Diagnostic::error(format!("`{key}` is for snapshots on {of}"));
            context.report(error.label(&span, format!("the provider is {provider}")));
        }
    }
}

fn name(provider: SnapshotProvider) -> &'static str {
    match provider {
        SnapshotProvider::Aws => "AWS",
        SnapshotProvider::Azure => "Azure",
        SnapshotProvider::Gcp => "Google Cloud",
    }
}

fn lock(
    written: &Written<SnapshotLockTable>,
    zone: &Zone,
    context: &mut Context<'_>,
) -> Option<SnapshotLock> {
    let table = written.get();
    let Some(mode) = &table.mode else {
        let error = Diagnostic::error("a lock needs `mode`");
        context.report(error.label(&written.span(), "`governance` or `compliance`"));
        return None;
    };
    let cool_off = table.cool_off.as_ref();
    if let Some(span) = cool_off.filter(|_| *mode.get() == Mode::Governance) {
        let error = Diagnostic::error("`cool_off` is for the mode `compliance`");
        context.report(error.label(&span.span(), "governance can always be changed"));
    }
    let hours = cool_off.and_then(|span| {
        let seconds = span.get().0.as_secs();
        let hours = u32::try_from(seconds / 3600).ok().and_then(NonZeroU32::new);
        let fits = seconds % 3600 == 0 && seconds <= COOL_OFF_HOURS_MAX * 3600;
        if hours.is_none() || !fits {
            let error = Diagnostic::error("a lock can be changed for 1 to 72 whole hours");
            context.report(error.label(&span.span(), "not for so long"));
        }
        hours
    });
    Some(SnapshotLock {
        mode: match mode.get() {
            Mode::Governance => LockMode::Governance,
            Mode::Compliance => LockMode::Compliance,
        },
        end: lock_end(written, zone, context),
        cool_off_hours: hours,
    })
}

fn lock_end(
    written: &Written<SnapshotLockTable>,
    zone: &Zone,
    context: &mut Context<'_>,
) -> Option<LockEnd> {
    let table = written.get();
    match (&table.days, &table.until) {
        (Some(days), None) => {
            let count = NonZeroU32::new(*days.get()).filter(|days| days.get() <= DAYS_MAX);
            if count.is_none() {
                let error = Diagnostic::error("a lock lasts 1 to 36500 days");
                context.report(error.label(&days.span(), "not that long"));
            }
            count.map(LockEnd::Days)
        }
        (None, Some(until)) => ends(until.get().0, zone).map(LockEnd::At),
        _ => {
            let error = Diagnostic::error("a lock needs either `days` or `until`");
            context.report(error.label(&written.span(), "for how long?"));
            None
        }
    }
}

/// Who says where the disks are mounted: one of those who can.
fn mounts(table: &SnapshotTable, context: &mut Context<'_>) -> MountsFrom {
    let Some(command) = &table.mounts_command else {
        return if table.mounts.is_empty() {
            MountsFrom::Here
        } else {
            MountsFrom::Declared(declared(&table.mounts))
        };
    };
    let mut refuse = |message: &str, label: &str| {
        context.report(Diagnostic::error(message).label(&command.span(), label));
    };
    if !table.mounts.is_empty() {
        refuse(
            "`mounts` and `mounts_command` exclude each other",
            "`mounts` says where the disks are mounted already",
        );
    }
    if command.get().first().is_none_or(String::is_empty) {
        refuse("a command needs a program", "which one?");
    }
    MountsFrom::Command(command.get().clone())
}

/// `"/mnt/pgdata"`, or with the options of the mount behind a space.
fn declared(table: &BTreeMap<String, String>) -> BTreeMap<String, Mount> {
    let mount = |text: &String| {
        let (point, options) = text.split_once(' ').unwrap_or((text, ""));
        Mount {
            point: point.to_owned(),
            options: options.trim().to_owned(),
        }
    };
    let mounts = table.iter();
    mounts
        .map(|(disk, text)| (disk.clone(), mount(text)))
        .collect()
}
