//! `mounts`: which disks this host has and where they are mounted, for whoever takes snapshots of them from another one.

use std::fmt;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, table::Table},
    failure::Failure,
    snapshot::mounts::{Host, HostDisk, Report},
};

pub(in crate::cli) fn run(arguments: &args::Mounts, session: &Session) -> Result<Exit, Error> {
    let report = Host::here().report(&arguments.paths);
    let report = report.map_err(|error| {
        let failure = Failure::of(error.kind(), &error);
        Error::failed("cannot tell what is mounted where", failure)
    })?;
    session.output.result(&Told(&report), &report)?;
    Ok(Exit::Done)
}

/// A report for people.
struct Told<'a>(&'a Report);

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut disks = Table::new(["DISK", "KNOWN BY", "ON IT", "MOUNTED ON"]);
        for disk in &self.0.disks {
            let mounts = disk.mounts.iter().map(ToString::to_string);
            let cells = [
                disk.device.clone(),
                known_by(disk),
                disk.blocks[1..].join(", "),
                mounts.collect::<Vec<_>>().join(", "),
            ];
            disks.noted(cells, disk.doubt.iter().cloned().collect());
        }
        write!(formatter, "{disks}")?;
        if self.0.paths.is_empty() {
            return Ok(());
        }
        let mut paths = Table::new(["PATH", "FILE SYSTEM", "ON"]);
        for held in &self.0.paths {
            paths.row([
                held.path.display().to_string(),
                held.mount.to_string(),
                held.blocks.join(", "),
            ]);
        }
        write!(formatter, "\n{paths}")
    }
}

/// What a cloud may know a disk by: what it says itself, else its first link.
fn known_by(disk: &HostDisk) -> String {
    let lun = disk.lun.map(|lun| format!("lun {lun}"));
    let itself = disk.serial.clone().or(lun);
    itself
        .or_else(|| disk.names.get(1).cloned())
        .unwrap_or_default()
}
