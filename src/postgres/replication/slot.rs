//! Physical replication slots: what makes a server keep the WAL that somebody has not received yet.

use super::{Replication, Row, column, identifier, only, timeline::timeline};
use crate::{model::timeline::Position, postgres::Error};

/// When a slot begins to hold WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// At once.
    Now,
    /// When somebody streams through it for the first time.
    WhenUsed,
}

/// How long a slot lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Until it is dropped.
    Permanent,
    /// As long as the session that made it.
    Temporary,
}

/// A physical slot as the server describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The first position that the server keeps for it; none before it holds anything.
    pub restart: Option<Position>,
}

impl Replication {
    /// Creates a physical slot.
    pub async fn create_slot(
        &mut self,
        name: &str,
        kind: SlotKind,
        reserve: Reserve,
    ) -> Result<(), Error> {
        let temporary = match kind {
            SlotKind::Permanent => "",
            SlotKind::Temporary => " TEMPORARY",
        };
        let reserve = match (reserve, self.version) {
            (Reserve::WhenUsed, _) => "",
            (Reserve::Now, 150_000..) => " (RESERVE_WAL)",
            (Reserve::Now, _) => " RESERVE_WAL",
        };
        let name = identifier(name);
        let command = format!("CREATE_REPLICATION_SLOT {name}{temporary} PHYSICAL{reserve}");
        self.ask("create the replication slot", &command).await?;
        Ok(())
    }

    /// Reads a physical slot; `None` if there is none of that name. PostgreSQL 15 and later.
    pub async fn read_slot(&mut self, name: &str) -> Result<Option<Slot>, Error> {
        const DOING: &str = "read the replication slot";
        let command = format!("READ_REPLICATION_SLOT {}", identifier(name));
        let row = only(DOING, self.ask(DOING, &command).await?)?;
        if text(&row, 0).is_none() {
            return Ok(None);
        }
        let restart = match (text(&row, 1), text(&row, 2)) {
            (Some(_), Some(_)) => Some(Position {
                timeline: column(DOING, &row, 2, timeline)?,
                lsn: column(DOING, &row, 1, |text| text.parse().ok())?,
            }),
            _ => None,
        };
        Ok(Some(Slot { restart }))
    }

    /// Drops a slot that nobody uses.
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), Error> {
        let command = format!("DROP_REPLICATION_SLOT {}", identifier(name));
        self.ask("drop the replication slot", &command).await?;
        Ok(())
    }
}

fn text(row: &Row, at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}
