//! Who the server is, and where its timelines come from.

use super::{Replication, column, only};
use crate::{
    model::{
        timeline::TimelineId,
        wal::{Lsn, SystemId},
    },
    postgres::Error,
};

/// Who a server is: the answer of `IDENTIFY_SYSTEM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The identity that `initdb` gave the cluster.
    pub system_id: SystemId,
    /// The timeline that it writes or replays.
    pub timeline: TimelineId,
    /// The end of the WAL that it has flushed.
    pub position: Lsn,
}

impl Replication {
    /// Asks who the server is.
    pub async fn identify(&mut self) -> Result<SystemIdentity, Error> {
        const DOING: &str = "identify the system";
        let row = only(DOING, self.ask(DOING, "IDENTIFY_SYSTEM").await?)?;
        Ok(SystemIdentity {
            system_id: column(DOING, &row, 0, |text| text.parse().ok())?,
            timeline: column(DOING, &row, 1, timeline)?,
            position: column(DOING, &row, 2, |text| text.parse().ok())?,
        })
    }

    /// The text of a timeline's history file; `None` for one that has none, as the first.
    pub async fn timeline_history(
        &mut self,
        timeline: TimelineId,
    ) -> Result<Option<String>, Error> {
        const DOING: &str = "tell where the timeline comes from";
        // The first has no history, and asking for it is an error.
        if timeline.number() == 1 {
            return Ok(None);
        }
        let command = format!("TIMELINE_HISTORY {}", timeline.number());
        let row = only(DOING, self.ask(DOING, &command).await?)?;
        column(DOING, &row, 1, |text| Some(Some(text.to_owned())))
    }
}

pub(super) fn timeline(text: &str) -> Option<TimelineId> {
    TimelineId::new(text.parse().ok()?)
}
