//! A backup as PostgreSQL sees it: from start to stop, in one session.
//!
//! A [`BackupSession`] holds the session in which the backup was started, because PostgreSQL forgets the backup with it. It is ended by
//! [`stop`](BackupSession::stop), which waits for archiving only if told to, or by [`abort`](BackupSession::abort); both consume it. Dropping it
//! ends the session and so the backup too, and is reported as a warning. Works on a primary and on a standby, where a switch of WAL must be
//! asked of the primary. Source: "Making a Base Backup Using the Low Level API" in PostgreSQL's documentation.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::{Connector, Error, identify::Answer, session::Session};
use crate::model::{time::Timestamp, timeline::TimelineId, wal::Lsn};

const VERSION_14: u32 = 140_000;
/// When start and stop got new names, and backups in one session became the only kind.
const VERSION_15: u32 = 150_000;

/// How the checkpoint at the start of a backup is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// At once, whatever I/O that costs.
    Fast,
    /// Spread over `checkpoint_completion_target`, as any other.
    #[default]
    Spread,
}

/// What a backup is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRequest {
    /// The label, which ends up in `backup_label`; at most 1,024 bytes.
    pub label: String,
    /// How the first checkpoint is made.
    pub checkpoint: Checkpoint,
}

/// Whether PostgreSQL answers a stop only when its archiver has everything that the backup needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiverWait {
    /// It answers at once: whoever stores the backup looks for its WAL.
    #[default]
    No,
    /// It waits, however long that takes; not on a standby, and not where nothing is archived.
    Yes,
}

/// Where a backup began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupStart {
    /// The position from which WAL is needed.
    pub lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// The server's clock at the start.
    pub time: Timestamp,
}

/// Where a backup ended, and the files that PostgreSQL wants in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupStop {
    /// The position up to which WAL is needed.
    pub lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// The server's clock at the stop.
    pub time: Timestamp,
    /// The text of `backup_label`.
    pub backup_label: String,
    /// The text of `tablespace_map`, unless empty.
    pub tablespace_map: Option<String>,
}

/// A backup under way.
#[derive(Debug)]
pub struct BackupSession {
    /// `None` once the backup is over.
    session: Option<Session>,
    backend: i32,
    started: BackupStart,
}

/// A backup that PostgreSQL has finished, and the session in which it ran.
#[derive(Debug)]
pub struct Stopped {
    /// Where it ended, and what must be stored with it.
    pub stop: BackupStop,
    /// The session, for whatever comes next.
    pub session: Session,
}

/// What became of a switch of WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalSwitch {
    /// The segment that ends here is complete and will be archived.
    Switched(Lsn),
    /// The server is a standby and no primary was named: the segment is archived when it fills.
    NoPrimary,
}

impl BackupSession {
    /// Starts a backup. Waits for a checkpoint, which without [`Checkpoint::Fast`] takes minutes.
    pub async fn begin(session: Session, request: &BackupRequest) -> Result<Self, Error> {
        const DOING: &str = "start the backup";
        if session.version() >= VERSION_14 {
            // Nothing is asked in the session while files are copied.
            session.run(DOING, "SET idle_session_timeout = 0").await?;
        }
        let limit = match request.checkpoint {
            Checkpoint::Fast => session.deadlines().start,
            Checkpoint::Spread => session.deadlines().start + session.checkpoint_patience().await?,
        };
        let call = match session.version() {
            VERSION_15.. => "pg_backup_start($1, $2)",
            _ => "pg_start_backup($1, $2, false)",
        };
        let sql = format!("SELECT {call}::text, now(), pg_backend_pid()");
        let fast = request.checkpoint == Checkpoint::Fast;
        let parameters: [&(dyn ToSql + Sync); 2] = [&request.label, &fast];
        let row = session.row_within(limit, DOING, &sql, &parameters).await?;
        let answer = Answer {
            row: &row,
            doing: DOING,
        };
        // A question of its own, because the control file must be read after the checkpoint that the call waited for.
        let sql = "SELECT timeline_id FROM pg_control_checkpoint()";
        let checkpoint = session.row(DOING, sql, &[]).await?;
        let started = BackupStart {
            lsn: answer.parsed(0)?,
            timeline: Answer {
                row: &checkpoint,
                doing: DOING,
            }
            .timeline(0)?,
            time: answer.instant(1)?,
        };
        Ok(Self {
            started,
            backend: answer.get(2)?,
            session: Some(session),
        })
    }

    /// Where the backup began.
    pub fn started(&self) -> &BackupStart {
        &self.started
    }

    /// Makes sure that the session, and with it the backup, is still there.
    pub async fn check(&self) -> Result<(), Error> {
        const DOING: &str = "answer in the backup's session";
        let row = self
            .session()
            .row(DOING, "SELECT pg_backend_pid()", &[])
            .await?;
        let backend: i32 = Answer {
            row: &row,
            doing: DOING,
        }
        .get(0)?;
        if backend == self.backend {
            Ok(())
        } else {
            Err(Error::OtherSession)
        }
    }

    /// Waits until the session is gone, and with it the backup. Meant to be raced against the copy.
    pub async fn lost(&mut self) {
        self.session.as_mut().expect(UNDER_WAY).closed().await;
    }

    /// Ends the backup.
    pub async fn stop(mut self, wait: ArchiverWait) -> Result<Stopped, Error> {
        let checked = self.check().await;
        // From here on the backup is over, one way or the other: its session ends with an error, too.
        let session = self.session.take().expect(UNDER_WAY);
        checked?;
        let stop = self.ask_to_stop(&session, wait).await?;
        Ok(Stopped { stop, session })
    }

    async fn ask_to_stop(
        &self,
        session: &Session,
        wait: ArchiverWait,
    ) -> Result<BackupStop, Error> {
        const DOING: &str = "stop the backup";
        let (waits, limit) = match wait {
            ArchiverWait::No => (false, session.deadlines().stop),
            ArchiverWait::Yes => (true, Duration::MAX),
        };
        let call = match session.version() {
            VERSION_15.. => format!("pg_backup_stop({waits})"),
            _ => format!("pg_stop_backup(false, {waits})"),
        };
        let sql = format!(
            "SELECT stop.lsn::text, stop.labelfile, nullif(stop.spcmapfile, ''), \
                CASE WHEN pg_is_in_recovery() \
                    THEN (SELECT min_recovery_end_timeline FROM pg_control_recovery() \
                          WHERE stop.lsn IS NOT NULL) \
                    ELSE ('x' || left(pg_walfile_name(stop.lsn), 8))::bit(32)::int END, \
                clock_timestamp() \
             FROM {call} stop"
        );
        let row = session.row_within(limit, DOING, &sql, &[]).await?;
        let answer = Answer {
            row: &row,
            doing: DOING,
        };
        let stop = BackupStop {
            lsn: answer.parsed(0)?,
            backup_label: answer.get(1)?,
            tablespace_map: answer.get(2)?,
            timeline: answer.timeline(3)?,
            time: answer.instant(4)?,
        };
        // The label is what recovery starts from; one of another backup would restore to garbage.
        let labelled = label_start(&stop.backup_label);
        if labelled == Some((self.started.lsn, self.started.timeline)) {
            Ok(stop)
        } else {
            Err(Error::Answer {
                doing: DOING,
                answer: stop.backup_label,
            })
        }
    }

    /// Makes PostgreSQL forget the backup, by ending its session.
    pub async fn abort(mut self) {
        self.session.take().expect(UNDER_WAY).close().await;
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect(UNDER_WAY)
    }
}

const UNDER_WAY: &str = "a backup under way has its session";

impl Drop for BackupSession {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            let endpoint = session.endpoint();
            tracing::warn!(
                endpoint,
                "a backup was neither stopped nor aborted; its session ends"
            );
        }
    }
}

impl Stopped {
    /// Completes the segment in which the backup ended, so that it is archived now. On a standby the primary must do that.
    pub async fn switch_wal(&self, primary: Option<&Connector>) -> Result<WalSwitch, Error> {
        self.session.complete_segment(primary).await
    }
}

const SWITCH_WAL: &str = "switch to a new WAL segment";

impl Session {
    /// Completes the current WAL segment, so that it is archived now. On a standby the primary must do that.
    pub async fn complete_segment(&self, primary: Option<&Connector>) -> Result<WalSwitch, Error> {
        if let Some(lsn) = self.switch_wal().await? {
            return Ok(WalSwitch::Switched(lsn));
        }
        let Some(primary) = primary else {
            return Ok(WalSwitch::NoPrimary);
        };
        let session = primary.connect().await?;
        let switched = session.switch_wal().await;
        session.close().await;
        let doing = SWITCH_WAL;
        let lsn = switched?.ok_or(Error::InRecovery { doing })?;
        Ok(WalSwitch::Switched(lsn))
    }

    /// The server's clock.
    pub async fn clock(&self) -> Result<Timestamp, Error> {
        const DOING: &str = "tell the time";
        let row = self.row(DOING, "SELECT clock_timestamp()", &[]).await?;
        Answer {
            row: &row,
            doing: DOING,
        }
        .instant(0)
    }

    /// How long a spread checkpoint may take beyond what a fast one takes.
    pub async fn checkpoint_patience(&self) -> Result<Duration, Error> {
        const DOING: &str = "tell its checkpoint timeout";
        let sql = "SELECT setting::int FROM pg_settings WHERE name = 'checkpoint_timeout'";
        let row = self.row(DOING, sql, &[]).await?;
        let seconds: i32 = Answer {
            row: &row,
            doing: DOING,
        }
        .get(0)?;
        let seconds = u64::try_from(seconds).unwrap_or_default();
        Ok(2 * Duration::from_secs(seconds))
    }

    /// Completes the current WAL segment. `None` in recovery, where that is not possible.
    pub async fn switch_wal(&self) -> Result<Option<Lsn>, Error> {
        if self.is_in_recovery().await? {
            return Ok(None);
        }
        let row = self
            .row(SWITCH_WAL, "SELECT pg_switch_wal()::text", &[])
            .await?;
        Answer {
            row: &row,
            doing: SWITCH_WAL,
        }
        .parsed(0)
        .map(Some)
    }

    /// Writes a named point into the WAL that recovery can stop at. `None` in recovery, where that is not possible.
    pub async fn create_restore_point(&self, name: &str) -> Result<Option<Lsn>, Error> {
        const DOING: &str = "create the restore point";
        if self.is_in_recovery().await? {
            return Ok(None);
        }
        let sql = "SELECT pg_create_restore_point($1)::text";
        let row = self.row(DOING, sql, &[&name]).await?;
        Answer {
            row: &row,
            doing: DOING,
        }
        .parsed(0)
        .map(Some)
    }
}

/// The lines `START WAL LOCATION: 0/3000028 (file …)` and `START TIMELINE: 1` of a backup label.
fn label_start(label: &str) -> Option<(Lsn, TimelineId)> {
    let value = |name: &str| label.lines().find_map(|line| line.strip_prefix(name));
    let lsn = value("START WAL LOCATION: ")?.split_whitespace().next()?;
    let timeline = value("START TIMELINE: ")?.trim().parse().ok()?;
    Some((lsn.parse().ok()?, TimelineId::new(timeline)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_where_its_backup_began() {
        let label = "START WAL LOCATION: 0/3000028 (file 000000020000000000000003)\n\
            CHECKPOINT LOCATION: 0/3000060\nBACKUP METHOD: streamed\nLABEL: START TIMELINE: 9\n\
            START TIMELINE: 2\n";
        let start = label_start(label).map(|(lsn, timeline)| (lsn.0, timeline.number()));
        assert_eq!(start, Some((0x0300_0028, 2)));
        assert_eq!(label_start("LABEL: x\n"), None);
    }
}
