//! Two fingerprints: of what a plan would do, and of the catalog that it was made from.

use sha2::{Digest as _, Sha256};

use super::{Plan, Step};
use crate::model::{
    catalog::Catalog,
    names::DestinationName,
    observed::{Knowledge, ServerFacts, Stored},
    reason::Waiting,
};

impl Plan {
    /// The digest of what the plan does and why, and of what it would do if it were approved, without ages: equal plans made at
    /// different times agree.
    pub fn digest(&self) -> String {
        let steps: Vec<_> = self.steps.iter().map(shape).collect();
        let does = (&self.server, self.mode, steps);
        let approvable = self.approvable();
        if approvable.is_empty() {
            return short(&canonical(&does));
        }
        short(&canonical(&(does, approvable)))
    }

    /// What is withheld until somebody approves it.
    fn approvable(&self) -> Vec<(&DestinationName, &Waiting)> {
        let waiting = self.targets.iter().flat_map(|(destination, target)| {
            let waiting = target.waiting.iter();
            waiting.map(move |waiting| (destination, waiting))
        });
        waiting
            .filter(|(_, waiting)| waiting.is_approvable())
            .collect()
    }
}

/// A step without what changes while one waits: how much WAL there is by now.
fn shape(step: &Step) -> impl serde::Serialize {
    (&step.destination, &step.action, &step.reasons)
}

/// The fingerprint of what a plan's destructive steps rest on: backups with their statuses, keeps, marks, and timelines, but not every new segment.
pub(super) fn fingerprint(
    destination: &DestinationName,
    stored: &Stored,
    postgres: &Knowledge<ServerFacts>,
) -> String {
    let of = |catalog: &Catalog| {
        canonical(&(
            &catalog.backups,
            &catalog.versions,
            catalog.unreadable.keys().collect::<Vec<_>>(),
            &catalog.orphans,
            catalog.wal.histories.keys().collect::<Vec<_>>(),
            stored.marks.known(),
            &catalog.lost_snapshots,
            stored.snapshots.known(),
        ))
    };
    let catalog = match &stored.catalog {
        Knowledge::Known(catalog) => of(catalog),
        // The first WAL may arrive between plan and application like any other.
        Knowledge::Absent => of(&Catalog::default()),
        Knowledge::Unknown(_) => b"unknown".to_vec(),
    };
    // A prefix that belongs to nobody yet is pinned by the server's first WAL. When does not matter.
    let pinned = stored.identity.known().map(|identity| identity.system_id);
    let identity = pinned.or_else(|| postgres.known().map(|facts| facts.system_id));
    let identity = canonical(&identity);
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

#[cfg(test)]
mod tests {
    use crate::plan::testing::World;

    #[test]
    fn what_waits_for_an_approval_is_part_of_what_is_approved() {
        let plan = |text: &str| World::parse(text).plan();
        let one = "retention=1x budget=1/100 | done 1d | done 8d | done 9d";
        let (less, more) = (plan(one), plan(&format!("{one} | done 7d")));
        assert_eq!(less.steps, more.steps);
        assert_ne!(less.digest(), more.digest());
    }
}
