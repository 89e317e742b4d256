//! A session that owns its connection.
//!
//! A [`Session`] holds the task that moves its bytes and ends it with itself. Every request has a deadline whose error names what was
//! waited for; at the deadline the server is asked to cancel. Nobody can reach it by another way, so nothing is asked without one.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};
use tokio_postgres::{
    CancelToken, Client, Config, NoTls, Row, Socket, tls::MakeTlsConnect, types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Error,
    conninfo::{Endpoint, SessionAttributes},
};

/// How long things may take before they count as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect to one address and log in, unless the connection has `connect_timeout`.
    pub connect: Duration,
    /// To answer a question.
    pub answer: Duration,
    /// To start a backup with a fast checkpoint. A spread one gets twice the server's `checkpoint_timeout` on top.
    pub start: Duration,
    /// To stop a backup, archiving not included.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_mins(1),
            start: Duration::from_mins(15),
            stop: Duration::from_mins(5),
        }
    }
}

/// A session with a server.
///
/// It ends with [`close`](Self::close), or hard when dropped; either way its connection ends with it.
pub struct Session {
    wire: Wire,
    canceller: Canceller,
    deadlines: Deadlines,
    endpoint: String,
    user: String,
    version: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What every session is set to: no limits that a role may carry, and no functions but PostgreSQL's own.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
    SET search_path = pg_catalog; SET client_min_messages = error";

impl Session {
    pub(super) fn over(
        wire: Wire,
        tls: Option<MakeRustlsConnect>,
        deadlines: Deadlines,
        endpoint: &Endpoint,
        user: &str,
    ) -> Self {
        Self {
            canceller: Canceller {
                token: wire.client.cancel_token(),
                tls,
            },
            wire,
            deadlines,
            endpoint: endpoint.to_string(),
            user: user.to_owned(),
            version: 0,
        }
    }

    /// Sets a fresh session up, and checks that it is of the kind wanted.
    pub(super) async fn set_up(mut self, wanted: SessionAttributes) -> Result<Self, Error> {
        const DOING: &str = "prepare the session";
        self.run(DOING, SETTINGS).await?;
        let sql = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
            current_setting('transaction_read_only') = 'on'";
        let row = self.row(DOING, sql, &[]).await?;
        let version: i32 = get(&row, DOING, 0)?;
        self.version = u32::try_from(version).unwrap_or_default();
        if self.version < 130_000 {
            return Err(Error::Version(self.version / 10_000));
        }
        match unsuited(wanted, get(&row, DOING, 1)?, get(&row, DOING, 2)?) {
            None => Ok(self),
            Some((is, wanted)) => Err(Error::Unsuited {
                endpoint: self.endpoint,
                is,
                wanted,
            }),
        }
    }

    /// `server_version_num`, such as 170005.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The major version, such as 17.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Where the server was found: a socket, or host and port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether the session is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.canceller.tls.is_some()
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.wire.client.is_closed()
    }

    /// Waits until the connection is gone, whoever ended it.
    pub async fn closed(&mut self) {
        // None means that it was waited for before.
        let _ended = self.wire.connection.join_next().await;
    }

    /// Whether the server is in recovery.
    pub async fn is_in_recovery(&self) -> Result<bool, Error> {
        const DOING: &str = "say whether it is in recovery";
        let row = self.row(DOING, "SELECT pg_is_in_recovery()", &[]).await?;
        get(&row, DOING, 0)
    }

    /// Says goodbye and waits for the connection to end.
    pub async fn close(self) {
        let Wire {
            client,
            mut connection,
        } = self.wire;
        drop(client);
        // What does not end by then is ended by dropping the set.
        let _ended = timeout(Duration::from_secs(5), connection.join_next()).await;
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Asks for exactly one row within the usual deadline.
    pub(super) async fn row(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        let limit = self.deadlines.answer;
        self.row_within(limit, doing, sql, parameters).await
    }

    /// Asks for exactly one row.
    pub(super) async fn row_within(
        &self,
        limit: Duration,
        doing: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        let answer = timeout(limit, self.wire.client.query_one(sql, parameters)).await;
        self.answer(doing, limit, answer).await
    }

    /// Asks for any number of rows within the usual deadline.
    pub(super) async fn rows(&self, doing: &'static str, sql: &str) -> Result<Vec<Row>, Error> {
        self.rows_with(doing, sql, &[]).await
    }

    /// The same with parameters.
    pub(super) async fn rows_with(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let limit = self.deadlines.answer;
        let answer = timeout(limit, self.wire.client.query(sql, parameters)).await;
        self.answer(doing, limit, answer).await
    }

    /// Has the server do something that has no answer.
    pub(super) async fn run(&self, doing: &'static str, sql: &str) -> Result<(), Error> {
        let limit = self.deadlines.answer;
        let answer = timeout(limit, self.wire.client.batch_execute(sql)).await;
        self.answer(doing, limit, answer).await
    }

    async fn answer<T>(
        &self,
        doing: &'static str,
        limit: Duration,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Error> {
        let Ok(answer) = answer else {
            self.canceller.cancel().await;
            return Err(Error::Deadline { doing, limit });
        };
        answer.map_err(|error| Error::Request {
            doing,
            user: self.user.clone(),
            source: error.into(),
        })
    }
}

/// A connection and the task that moves its bytes.
pub(super) struct Wire {
    client: Client,
    connection: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Wire {
    /// Connects, logs in and starts the task.
    pub(super) async fn open<T>(config: &Config, tls: T) -> Result<Self, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, moves_bytes) = config.connect(tls).await?;
        let mut connection = JoinSet::new();
        connection.spawn(moves_bytes);
        Ok(Self { client, connection })
    }
}

struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    /// Asks the server to give up what the session is doing. Failing to ask changes nothing: the session is given up anyway.
    async fn cancel(&self) {
        const LIMIT: Duration = Duration::from_secs(5);
        let asked = match &self.tls {
            Some(tls) => timeout(LIMIT, self.token.cancel_query(tls.clone())).await,
            None => timeout(LIMIT, self.token.cancel_query(NoTls)).await,
        };
        if !matches!(asked, Ok(Ok(()))) {
            tracing::debug!("the server could not be asked to cancel a request");
        }
    }
}

/// What a server is and should be, if these differ.
pub(super) fn unsuited(
    wanted: SessionAttributes,
    in_recovery: bool,
    read_only: bool,
) -> Option<(&'static str, &'static str)> {
    match wanted {
        SessionAttributes::ReadWrite if read_only => Some(("read-only", "read-write")),
        SessionAttributes::ReadOnly if !read_only => Some(("read-write", "read-only")),
        SessionAttributes::Primary if in_recovery => Some(("a standby", "a primary")),
        SessionAttributes::Standby if !in_recovery => Some(("a primary", "a standby")),
        _ => None,
    }
}

/// One column of an answer.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    doing: &'static str,
    column: usize,
) -> Result<T, Error> {
    row.try_get(column).map_err(|error| Error::Answer {
        doing,
        answer: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_session_is_told_from_recovery_and_its_default() {
        use SessionAttributes::{Any, Primary, ReadOnly, ReadWrite, Standby};
        // Whether the server is in recovery, and whether transactions are read-only, with whom that suits.
        let cases = [
            ((false, false), vec![Any, ReadWrite, Primary]),
            ((false, true), vec![Any, ReadOnly, Primary]),
            ((true, true), vec![Any, ReadOnly, Standby]),
        ];
        for ((in_recovery, read_only), suited) in cases {
            let all = [Any, ReadWrite, ReadOnly, Primary, Standby];
            let seen = all
                .into_iter()
                .filter(|wanted| unsuited(*wanted, in_recovery, read_only).is_none());
            let expected = all.into_iter().filter(|wanted| suited.contains(wanted));
            assert!(seen.eq(expected), "{in_recovery} {read_only}");
        }
    }
}
