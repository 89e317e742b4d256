//! What differs between Barman's judgement and the safer one: one value with two constants.
//!
//! Under a Barman name the program judges as Barman does, [`BARMAN`]; under its own it judges by
//! [`SAFE`]. Every difference of meaning is a field here, and nothing else in the program asks
//! which of the two is at work. What `SAFE` lets go is always a subset of what `BARMAN` lets go, given
//! the same meaning of chains.

use std::time::Duration;

/// How backups and WAL are judged, and what carrying it out comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Semantics {
    /// Which backups are compared, and which of two is the newer one.
    pub order: Order,
    /// Which backups count for the policy.
    pub counts: Counts,
    /// What incremental backups are to the policy.
    pub chains: Chains,
    /// When WAL goes.
    pub wal: WalRule,
    /// What goes with a backup.
    pub goes: Goes,
    /// When locks are looked at.
    pub locks: LockRule,
    /// Whether what is done is written down beside the catalog.
    pub records: Records,
}

/// Which backups are compared, and which of two is the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of them, by the text of their ids.
    ByText,
    /// Those of one cluster and one major version, by the time of their end.
    ByLineage {
        /// How long a lineage without a new backup keeps the protection of its newest good one,
        /// if another one has newer backups.
        retire_after: Duration,
    },
}

/// Which backups count for the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Those that say that they are complete.
    Done,
    /// Those that a restore would succeed from, as far as the listing tells.
    Good,
}

/// What incremental backups are to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chains {
    /// Nothing: they are passed over, and where a full backup says that some build on it, nothing goes at all. So do Barman's cloud
    /// commands, which know no chains.
    Apart,
    /// Parts of the full backup that their chain begins with, whose fate they share. So does a Barman server.
    Together,
}

/// When WAL goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalRule {
    /// Together with a backup, up to the next one in the order of ids.
    WithBackups,
    /// At any time, where no backup that stays can need it.
    Unneeded,
}

/// What goes with a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// Its archives, its label and its `backup.info`; what else lies in its directory stays.
    Archives,
    /// All of its directory, and what barkeep noted about it.
    Directory,
}

/// When the locks of objects are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockRule {
    /// Where a command line asks for it, of the archives, once.
    Asked,
    /// As the destination is configured, of all that goes, and again just before.
    Configured,
}

/// Whether what is done is written down beside the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// Nothing but the catalog is read or written.
    None,
    /// Whose catalog it is, attempts, evidence, what collided; who set a keep and what was deleted, for the budget and for people.
    #[default]
    Written,
}

impl Semantics {
    /// The same, but for how long a lineage without a new backup keeps its newest good one. Whoever has no lineages has nothing to retire.
    #[must_use]
    pub fn retiring_after(self, retire_after: Duration) -> Self {
        let order = match self.order {
            Order::ByText => Order::ByText,
            Order::ByLineage { .. } => Order::ByLineage { retire_after },
        };
        Self { order, ..self }
    }
}

/// How long a lineage keeps its newest good backup unless the configuration says otherwise.
pub const RETIRE_AFTER: Duration = Duration::from_hours(90 * 24);

/// Barman 3.19's judgement, for its catalog and its command lines.
pub const BARMAN: Semantics = Semantics {
    order: Order::ByText,
    counts: Counts::Done,
    chains: Chains::Apart,
    wal: WalRule::WithBackups,
    goes: Goes::Archives,
    locks: LockRule::Asked,
    records: Records::None,
};

/// barkeep's judgement.
pub const SAFE: Semantics = Semantics {
    order: Order::ByLineage {
        retire_after: RETIRE_AFTER,
    },
    counts: Counts::Good,
    chains: Chains::Together,
    wal: WalRule::Unneeded,
    goes: Goes::Directory,
    locks: LockRule::Configured,
    records: Records::Written,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_lineages_retires_them() {
        let week = Duration::from_hours(7 * 24);
        assert_eq!(BARMAN.retiring_after(week), BARMAN);
        let retire_after = week;
        assert_eq!(
            SAFE.retiring_after(week).order,
            Order::ByLineage { retire_after }
        );
    }
}
