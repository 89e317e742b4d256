//! Whether the disks that a server's backups are to consist of are where the configuration says, and hold all of it.

use std::path::PathBuf;

use super::{Found, bad};
use crate::{
    failure::{Failure, Kind},
    model::{
        desired::{Server, SnapshotOptions},
        names::DestinationName,
        observed::{Knowledge, Observed},
        snapshot::DiskSurvey,
    },
    observe::disks::look,
    reconcile::Ports,
};

const MEND: &str =
    "check `snapshot`, the credentials and the rights: `barkeep permissions` lists these";

/// One row for each destination whose backups are snapshots, if the server tells what it has.
pub(super) async fn check(
    ports: &Ports,
    server: &Server,
    observed: &mut Observed,
) -> Vec<(String, Found)> {
    let entries = server.entries.iter();
    let of_disks: Vec<(&DestinationName, &SnapshotOptions)> = entries
        .filter_map(|entry| Some((&entry.destination, entry.snapshot.as_ref()?)))
        .collect();
    let wanted = of_disks.iter().map(|(name, _)| (*name).clone()).collect();
    look(server, &wanted, observed, &*ports.clouds, ports.clock).await;
    let Some(facts) = observed.postgres.known() else {
        return Vec::new();
    };
    let row = |(name, options): (&DestinationName, &SnapshotOptions)| {
        let stored = observed.destinations.get(name)?;
        let found = match &stored.disks {
            Knowledge::Absent => return None,
            Knowledge::Unknown(failure) => bad(failure, MEND),
            Knowledge::Known(survey) => judged(survey, options, &facts.files.outside),
        };
        Some((format!("disks for {name}"), found))
    };
    of_disks.into_iter().filter_map(row).collect()
}

fn judged(survey: &DiskSurvey, options: &SnapshotOptions, outside: &[PathBuf]) -> Found {
    if !survey.faults.is_empty() {
        let each = |told: fn(&Failure) -> Option<String>| {
            let mut all: Vec<String> = survey.faults.iter().filter_map(told).collect();
            all.dedup();
            all.join("; ")
        };
        return Found::Bad {
            why: each(|fault| Some(fault.message.clone())),
            mend: each(|fault| fault.hint.clone()),
            kind: Kind::Refused,
        };
    }
    if outside.is_empty() {
        let (disks, instance) = (options.disks.join(", "), &options.instance);
        return Found::Good {
            detail: format!("{disks} of {instance} hold all files"),
        };
    }
    let paths = outside.iter().map(|path| format!("`{}`", path.display()));
    let paths = paths.collect::<Vec<_>>().join(", ");
    Found::Limited {
        why: format!("outside of the data directory, and in no snapshot: {paths}"),
        mend: "keep these files where they can be had after a restore".to_owned(),
    }
}
