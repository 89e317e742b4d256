//! A replication slot: what makes a server keep the WAL that has not been received yet, and what may become of it.

use serde::{Deserialize, Serialize};

use super::wal::Lsn;

/// What a server says of a physical slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// Whether somebody streams through it.
    pub active: bool,
    /// The first position that is kept for it; none before it was used.
    pub restart: Option<Lsn>,
    /// Whether what it holds is still there.
    pub status: WalStatus,
    /// How much more may be written before the server gives it up, in bytes; none without `max_slot_wal_keep_size`.
    pub safe_bytes: Option<u64>,
    /// The end of the server's WAL.
    pub end: Lsn,
    /// Whether commits wait for who streams through it.
    pub synchronous: bool,
}

impl SlotFacts {
    /// How much WAL it holds, in bytes.
    pub fn held_bytes(&self) -> u64 {
        let restart = self.restart.unwrap_or(self.end);
        self.end.0.saturating_sub(restart.0)
    }
}

/// Whether the WAL that a slot holds is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalStatus {
    /// It is.
    Reserved,
    /// It is, until the next checkpoint.
    Unreserved,
    /// It is gone, and the slot is good for nothing.
    Lost,
}

/// Whether a list of synchronous standbys means a name, which is `application_name`.
///
/// The list is PostgreSQL's `synchronous_standby_names`: names, perhaps quoted, perhaps within `FIRST 1 (…)` or `ANY 1 (…)`; `*` is anyone.
pub fn is_synchronous(names: &str, name: &str) -> bool {
    let list = match names.split_once('(') {
        Some((_, inside)) => inside.trim_end().trim_end_matches(')'),
        None => names,
    };
    list.split(',').any(|word| {
        let word = word.trim().trim_matches('"');
        word == "*" || word.eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_synchronous_standbys_means_those_in_it() {
        for (names, is) in [
            ("", false),
            ("other", false),
            ("other, barkeep", true),
            ("FIRST 1 (other, \"Barkeep\")", true),
            ("ANY 2 (a, b)", false),
            ("2 (*)", true),
            ("*", true),
            ("barkeeper", false),
        ] {
            assert_eq!(is_synchronous(names, "barkeep"), is, "{names}");
        }
    }
}
