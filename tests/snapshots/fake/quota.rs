//! How many snapshots a cloud allows. The numbers are the clouds' own, and so is how each of them refuses one more.

use super::{Kind, State};

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Of one disk: how many at once that are not complete.
    pub(crate) pending: usize,
    /// Of one disk, in all.
    pub(crate) of_disk: usize,
    /// Of one disk: how many in how many seconds.
    pub(crate) rate: (usize, u64),
    /// In the region or the project.
    pub(crate) in_all: usize,
}

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Pending,
    OfDisk,
    Rate,
    InAll,
}

impl Quota {
    /// Sources: *Amazon EBS quotas*; *Create an incremental snapshot for managed disks*; *Create archive and standard disk snapshots* and
    /// *Allocation quotas* of Compute Engine.
    pub(crate) fn of(kind: Kind) -> Self {
        let unlimited = usize::MAX;
        match kind {
            Kind::Aws => Self {
                pending: 5,
                of_disk: unlimited,
                rate: (1, 15),
                in_all: 100_000,
            },
            Kind::Azure => Self {
                pending: unlimited,
                of_disk: 500,
                rate: (7, 300),
                in_all: unlimited,
            },
            Kind::Google => Self {
                pending: unlimited,
                of_disk: unlimited,
                rate: (6, 3600),
                in_all: 1000,
            },
        }
    }
}

impl State {
    /// What one more snapshot of a disk would exceed.
    pub(super) fn exceeded(&self, disk: &str) -> Option<Exceeded> {
        let quota = self.quota?;
        let of_disk: Vec<_> = self
            .snapshots
            .values()
            .filter(|snapshot| snapshot.disk == disk)
            .collect();
        let (often, span) = quota.rate;
        let lately = of_disk.iter().filter(|one| one.taken + span > self.now);
        let pending = of_disk.iter().filter(|one| self.stage(one) < 2);
        let rules = [
            (self.snapshots.len() >= quota.in_all, Exceeded::InAll),
            (of_disk.len() >= quota.of_disk, Exceeded::OfDisk),
            (pending.count() >= quota.pending, Exceeded::Pending),
            (lately.count() >= often, Exceeded::Rate),
        ];
        let broken = rules.into_iter().find(|(is_broken, _)| *is_broken);
        broken.map(|(_, exceeded)| exceeded)
    }
}
