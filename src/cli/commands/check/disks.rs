//! Whether the disks that a server's backups are to consist of are where the configuration says.

use super::{Found, bad};
use crate::{
    execute::base_backup::{self, Disks},
    failure::{Failure, Kind},
    model::desired::{Server, SnapshotOptions},
    reconcile::Ports,
    store::Archive,
};

const MEND: &str =
    "check `snapshot`, the credentials and the rights: `barkeep permissions` lists these";

/// One row for each destination whose backups are snapshots.
pub(super) async fn check(ports: &Ports, server: &Server) -> Vec<(String, Found)> {
    let mut rows = Vec::new();
    for (destination, archive) in ports.archives(server) {
        let entry = server.entry(&destination);
        let options = entry.and_then(|entry| entry.snapshot.as_ref());
        if let (Some(options), Ok(archive)) = (options, archive) {
            let found = look(ports, server, options, &archive).await;
            let found = found.unwrap_or_else(|failure| bad(&failure, MEND));
            rows.push((format!("disks for {destination}"), found));
        }
    }
    rows
}

/// Finds them, and what of the server's files is on others.
async fn look(
    ports: &Ports,
    server: &Server,
    options: &SnapshotOptions,
    archive: &Archive,
) -> Result<Found, Failure> {
    let disks = Disks::configured(options, archive, &*ports.clouds).await;
    let disks = disks.map_err(|error| Failure::of(error.kind(), &error))?;
    let connector = ports.connector(server).transpose()?;
    let connector = connector
        .ok_or_else(|| Failure::new(Kind::Usage, "no connection is configured".to_owned()))?;
    let mut postgres = base_backup::Server::new(connector, None);
    let facts = base_backup::Postgres::facts(&mut postgres).await;
    base_backup::Postgres::close(&mut postgres).await;
    let facts = facts.map_err(|error| Failure::of(error.kind(), &error))?;
    let warnings = disks.check(&facts).await;
    let warnings = warnings.map_err(|error| Failure::of(error.kind(), &error))?;
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    if told.is_empty() {
        let (disks, instance) = (options.disks.join(", "), &options.instance);
        return Ok(Found::Good {
            detail: format!("{disks} of {instance} hold all files"),
        });
    }
    Ok(Found::Limited {
        why: told.join("; "),
        mend: "keep these files where they can be had after a restore".to_owned(),
    })
}
