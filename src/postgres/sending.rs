//! What a server can send over the replication protocol, and to how many: its settings, the places that are taken, what the role may.
//!
//! All of it is asked by SQL, and nothing of it needs a privilege: a server that lets nobody in for replication still says why.

use std::time::Duration;

use super::{
    Error, Role,
    identify::Answer,
    session::{Session, get},
};

/// What a server can send, and to how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The role that asks.
    pub user: String,
    /// Whether it may replicate.
    pub may_replicate: bool,
    /// Whether the server takes writes.
    pub role: Role,
    /// `wal_level`: `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// `max_wal_senders`: connections that receive WAL or a backup.
    pub senders: Places,
    /// `max_replication_slots`.
    pub slots: Places,
    /// `max_slot_wal_keep_size`: how much WAL a slot may hold, in bytes; any amount if unset.
    pub slot_keeps: Option<u64>,
    /// `idle_replication_slot_timeout`: how long a slot may be used by nobody; for ever if unset, and before PostgreSQL 18.
    pub slot_idles: Option<Duration>,
    /// What the slot that was asked about is, if there is one of that name.
    pub slot_kind: Option<SlotKind>,
    /// `summarize_wal`; `None` before PostgreSQL 17.
    pub summarizes: Option<bool>,
    /// `wal_summary_keep_time`: how long summaries stay; for ever if unset.
    pub summaries_keep: Option<Duration>,
    /// `synchronous_standby_names`: those whose word a commit waits for.
    pub synchronous: String,
}

/// Places of which there are only so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// How many there are.
    pub all: u32,
    /// How many of them are taken.
    pub taken: u32,
}

impl Places {
    /// How many are free.
    pub fn free(self) -> u32 {
        self.all.saturating_sub(self.taken)
    }
}

/// What a replication slot is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// For whoever receives WAL as it is.
    Physical,
    /// For whoever receives rows.
    Logical,
    /// For nobody but the session that made it.
    Temporary,
}

/// Sizes of slots are kept in MiB.
const SENDING: &str = "\
    SELECT session_user::text, \
        coalesce((SELECT rolreplication OR rolsuper FROM pg_roles \
            WHERE rolname = session_user), false), \
        pg_is_in_recovery(), \
        current_setting('wal_level'), \
        current_setting('max_wal_senders')::int, \
        (SELECT count(*) FROM pg_stat_replication)::int, \
        current_setting('max_replication_slots')::int, \
        (SELECT count(*) FROM pg_replication_slots)::int, \
        (SELECT nullif(setting::bigint, -1) FROM pg_settings \
            WHERE name = 'max_slot_wal_keep_size'), \
        nullif(extract(epoch FROM \
            current_setting('idle_replication_slot_timeout', true)::interval)::bigint, 0), \
        (SELECT CASE WHEN temporary THEN 'temporary' ELSE slot_type END \
            FROM pg_replication_slots WHERE slot_name = $1), \
        current_setting('summarize_wal', true) = 'on', \
        nullif(extract(epoch FROM \
            current_setting('wal_summary_keep_time', true)::interval)::bigint, 0), \
        current_setting('synchronous_standby_names')";

impl Session {
    /// Asks what the server can send, and what the slot of a name is.
    pub async fn sending(&self, slot: Option<&str>) -> Result<Sending, Error> {
        const DOING: &str = "tell what it can send";
        let row = self.row(DOING, SENDING, &[&slot]).await?;
        let answer = Answer {
            row: &row,
            doing: DOING,
        };
        let count = |column| answer.checked(column, |count: i32| u32::try_from(count).ok());
        let number = |column| -> Result<Option<u64>, Error> {
            let number: Option<i64> = get(&row, DOING, column)?;
            Ok(number.and_then(|number| u64::try_from(number).ok()))
        };
        let kind: Option<String> = answer.get(10)?;
        Ok(Sending {
            user: answer.get(0)?,
            may_replicate: answer.get(1)?,
            role: if answer.get(2)? {
                Role::Standby
            } else {
                Role::Primary
            },
            wal_level: answer.get(3)?,
            senders: Places {
                all: count(4)?,
                taken: count(5)?,
            },
            slots: Places {
                all: count(6)?,
                taken: count(7)?,
            },
            slot_keeps: number(8)?.map(|mebibytes| mebibytes << 20),
            slot_idles: number(9)?.map(Duration::from_secs),
            slot_kind: kind.map(|kind| match kind.as_str() {
                "physical" => SlotKind::Physical,
                "temporary" => SlotKind::Temporary,
                _ => SlotKind::Logical,
            }),
            summarizes: answer.get(11)?,
            summaries_keep: number(12)?.map(Duration::from_secs),
            synchronous: answer.get(13)?,
        })
    }
}
