//! Two fingerprints: of what a plan would do, and of the catalog that it was made from.

use sha2::{Digest as _, Sha256};

use super::{Plan, Step};
use crate::model::{
    names::DestinationName,
    observed::{Knowledge, Stored},
};

impl Plan {
    /// The digest of what the plan does and why, without ages: equal plans made at different times agree.
    pub fn digest(&self) -> String {
        short(&canonical(&(
            &self.server,
            self.mode,
            self.steps.iter().map(shape).collect::<Vec<_>>(),
        )))
    }
}

/// A step without what changes while one waits: how much WAL there is by now.
fn shape(step: &Step) -> impl serde::Serialize {
    (&step.destination, &step.action, &step.reasons)
}

/// The fingerprint of what a plan's destructive steps rest on: backups with their statuses, keeps, and timelines, but not every new segment.
pub(super) fn fingerprint(destination: &DestinationName, stored: &Stored) -> String {
    let catalog = match &stored.catalog {
        Knowledge::Known(catalog) => canonical(&(
            &catalog.backups,
            catalog.unreadable.keys().collect::<Vec<_>>(),
            &catalog.orphans,
            catalog.wal.histories.keys().collect::<Vec<_>>(),
        )),
        Knowledge::Absent => b"absent".to_vec(),
        Knowledge::Unknown(_) => b"unknown".to_vec(),
    };
    let identity = canonical(&stored.identity.known());
    short(&[destination.as_str().as_bytes(), &catalog, &identity].concat())
}

fn canonical(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("values of the model have only string keys")
}

/// The first eight hexadecimal digits of SHA-256: for people to compare and type.
fn short(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let head = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    format!("{head:08x}")
}
