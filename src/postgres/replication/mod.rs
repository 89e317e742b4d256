//! A session that speaks the replication protocol: what no SQL can ask for.
//!
//! [`Replication`] is opened by [`Connector::replicate`](super::Connector::replicate) with the settings of any other session. It tells who the
//! server is, sends a base backup ([`Replication::base_backup`]), takes the manifest of an earlier one, streams WAL
//! ([`Replication::stream_wal`]) and looks after slots. Every wait has a deadline; after an error the session is good for nothing but to be
//! closed. PostgreSQL 13 to 18. The source is "Streaming Replication Protocol" in PostgreSQL's documentation.

mod backup;
mod login;
mod manifest;
mod open;
mod settings;
mod slot;
mod timeline;
mod wal;
mod wire;

use std::{io, time::Duration};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::{
    backend::{DataRowBody, ErrorFields, Message},
    frontend,
};
use tokio::time::timeout;

use self::wire::{Incoming, Wire};
pub use self::{
    backup::{Farewell, Location, Piece, SentTablespace, ServerBackup, StreamRequest, Variant},
    manifest::ManifestText,
    slot::{Reserve, Slot, SlotKind},
    timeline::SystemIdentity,
    wal::{Reply, WalMessage, WalProgress, WalStart, WalStream},
};
use super::{Cause, Error, session::Deadlines};
pub use crate::model::timeline::Position;

/// How many of the server's warnings are kept.
const WARNINGS_MAX: usize = 1000;

/// A session for replication. It ends with [`close`](Self::close), or hard when dropped.
pub struct Replication {
    wire: Wire,
    deadlines: Deadlines,
    endpoint: String,
    user: String,
    version: u32,
    is_encrypted: bool,
    told: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Replication")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A row of an answer, in the order that the protocol gives its columns.
type Row = Vec<Option<String>>;

impl Replication {
    /// `server_version_num`, such as 170005.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where the server was found: a socket, or host and port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether the session is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// What the server has warned of since this was last asked; at most a thousand are kept.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let goodbye = async {
            let terminate = |buffer: &mut bytes::BytesMut| {
                frontend::terminate(buffer);
                Ok(())
            };
            // A server that is gone need not be told.
            let _sent = self.wire.send(terminate).await;
            self.wire.shut_down().await;
        };
        let _ended = timeout(Duration::from_secs(5), goodbye).await;
    }

    /// Sends a command.
    async fn command(&mut self, doing: &'static str, command: &str) -> Result<(), Error> {
        let sent = self.wire.send(|buffer| frontend::query(command, buffer));
        let sent = sent.await.map_err(Cause::Broken);
        sent.map_err(|source| self.failed(doing, source))
    }

    /// Sends a command and reads its one set of rows, within the usual deadline.
    async fn ask(&mut self, doing: &'static str, command: &str) -> Result<Vec<Row>, Error> {
        let limit = self.deadlines.answer;
        let answer = async {
            self.command(doing, command).await?;
            let rows = self.rows(doing).await?;
            self.until_ready(doing).await?;
            Ok(rows)
        };
        within(limit, doing, answer).await
    }

    /// Reads one set of rows.
    async fn rows(&mut self, doing: &'static str) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        loop {
            match self.message(doing).await? {
                Message::DataRow(body) => {
                    rows.push(row(&body).map_err(|error| self.broken(doing, error))?);
                }
                Message::CommandComplete(_) | Message::EmptyQueryResponse => return Ok(rows),
                Message::RowDescription(_) => {}
                other => return Err(unexpected(doing, &other)),
            }
        }
    }

    /// Reads on until the server waits for a command.
    async fn until_ready(&mut self, doing: &'static str) -> Result<(), Error> {
        loop {
            match self.message(doing).await? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::CommandComplete(_) => {}
                other => return Err(unexpected(doing, &other)),
            }
        }
    }

    /// The next message that says something: warnings and changes of settings are taken note of.
    async fn message(&mut self, doing: &'static str) -> Result<Message, Error> {
        match self.incoming(doing).await? {
            Incoming::Message(message) => Ok(message),
            Incoming::CopyBoth => Err(Error::Answer {
                doing,
                answer: "CopyBoth".to_owned(),
            }),
        }
    }

    async fn incoming(&mut self, doing: &'static str) -> Result<Incoming, Error> {
        loop {
            let received = self.wire.receive().await;
            match received.map_err(|error| self.broken(doing, error))? {
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(self.failed(doing, body.fields().into()));
                }
                Incoming::Message(Message::NoticeResponse(body)) => self.note(&mut body.fields()),
                Incoming::Message(
                    Message::ParameterStatus(_) | Message::NotificationResponse(_),
                ) => {}
                other => return Ok(other),
            }
        }
    }

    fn note(&mut self, fields: &mut ErrorFields<'_>) {
        let (mut severity, mut text) = (String::new(), String::new());
        while let Ok(Some(field)) = fields.next() {
            match field.type_() {
                b'V' => severity = lossy(field.value_bytes()),
                b'M' => text = lossy(field.value_bytes()),
                _ => {}
            }
        }
        tracing::debug!(endpoint = self.endpoint, severity, "{text}");
        if severity == "WARNING" && self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(text);
        }
    }

    fn failed(&self, doing: &'static str, source: Cause) -> Error {
        Error::Request {
            doing,
            user: self.user.clone(),
            source,
        }
    }

    fn broken(&self, doing: &'static str, error: io::Error) -> Error {
        self.failed(doing, Cause::Broken(error))
    }
}

async fn within<T>(
    limit: Duration,
    doing: &'static str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Deadline { doing, limit }),
    }
}

fn row(body: &DataRowBody) -> io::Result<Row> {
    let text =
        |range: Option<std::ops::Range<usize>>| Ok(range.map(|range| lossy(&body.buffer()[range])));
    body.ranges().map(text).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A message that has no place in the answer.
fn unexpected(doing: &'static str, message: &Message) -> Error {
    let answer = match message {
        Message::CopyData(_) => "CopyData",
        Message::CopyDone => "CopyDone",
        Message::CopyInResponse(_) => "CopyIn",
        Message::CopyOutResponse(_) => "CopyOut",
        Message::CommandComplete(_) => "CommandComplete",
        Message::ReadyForQuery(_) => "ReadyForQuery",
        Message::RowDescription(_) => "RowDescription",
        Message::DataRow(_) => "DataRow",
        _ => "a message out of place",
    };
    Error::Answer {
        doing,
        answer: answer.to_owned(),
    }
}

/// A column that must be there and mean something.
fn column<T>(
    doing: &'static str,
    row: &Row,
    at: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Error> {
    let text = row.get(at).and_then(Option::as_deref).unwrap_or_default();
    parse(text).ok_or_else(|| Error::Answer {
        doing,
        answer: text.to_owned(),
    })
}

/// The only row of an answer.
fn only(doing: &'static str, rows: Vec<Row>) -> Result<Row, Error> {
    let answer = format!("{} rows", rows.len());
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        _ => Err(Error::Answer { doing, answer }),
    }
}

/// A text as the replication grammar quotes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as the replication grammar quotes it.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
