//! A physical replication slot, as SQL describes it: how much WAL it holds, and how long it may.

use super::{
    Error,
    identify::Answer,
    session::{Session, get},
};
use crate::model::slot::{SlotFacts, WalStatus};

/// One row if there is such a slot. A standby's end is what it has received. Who streams is known with `pg_read_all_stats`.
const SLOT: &str = "\
    SELECT s.active, s.restart_lsn::text, s.wal_status, s.safe_wal_size, \
        (CASE WHEN pg_is_in_recovery() \
            THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
            ELSE pg_current_wal_lsn() END)::text, \
        coalesce((SELECT r.sync_state IN ('sync', 'quorum') FROM pg_stat_replication r \
            WHERE r.pid = s.active_pid), false) \
    FROM pg_replication_slots s WHERE s.slot_type = 'physical' AND s.slot_name = $1";

impl Session {
    /// Asks about a physical slot; `None` if there is none of that name.
    pub async fn slot(&self, name: &str) -> Result<Option<SlotFacts>, Error> {
        const DOING: &str = "describe the replication slot";
        let rows = self.rows_with(DOING, SLOT, &[&name]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let answer = Answer { row, doing: DOING };
        let restart: Option<String> = get(row, DOING, 1)?;
        let status: Option<String> = get(row, DOING, 2)?;
        let safe: Option<i64> = get(row, DOING, 3)?;
        Ok(Some(SlotFacts {
            name: name.to_owned(),
            active: answer.get(0)?,
            restart: restart.and_then(|text| text.parse().ok()),
            status: match status.as_deref() {
                Some("unreserved") => WalStatus::Unreserved,
                Some("lost") => WalStatus::Lost,
                _ => WalStatus::Reserved,
            },
            // Below zero it is only a matter of the next checkpoint.
            safe_bytes: safe.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
            end: answer.parsed(4)?,
            synchronous: answer.get(5)?,
        }))
    }
}
