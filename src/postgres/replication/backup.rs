//! `BASE_BACKUP`: the server reads its own files and sends them as tar archives.
//!
//! [`ServerBackup`] gives the pieces in the order in which they come, the same for every version: before each archive whose files
//! follow, at the end the manifest. PostgreSQL before 15 sends every archive as a copy of its own and without an end mark; later ones send
//! one copy in which a first byte tells what a message is. The server verifies page checksums itself while it reads.

use std::path::PathBuf;

use bytes::{Buf as _, Bytes};
use postgres_protocol::message::backend::Message;
use tokio_postgres::error::SqlState;

use super::{Replication, column, literal, only, timeline::timeline, unexpected, within};
use crate::{
    model::{compression::Compression, timeline::Position},
    postgres::{Cause, Checkpoint, Error},
};

const DOING: &str = "send a base backup";

/// When the syntax with a list of options in parentheses came, and one copy for all archives.
const VERSION_15: u32 = 150_000;

/// What kind of backup is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// All files.
    #[default]
    Full,
    /// What has changed since the backup whose manifest was uploaded. PostgreSQL 17 and later.
    Incremental,
}

/// What a backup is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The label, which ends up in `backup_label`; at most 1,024 bytes.
    pub label: String,
    /// How the first checkpoint is made.
    pub checkpoint: Checkpoint,
    /// All files, or what has changed.
    pub variant: Variant,
    /// How the server compresses what it sends: none, gzip, lz4 or zstd. PostgreSQL 15 and later; before that nothing is compressed.
    pub compression: Compression,
}

impl StreamRequest {
    fn command(&self, version: u32) -> String {
        let label = literal(&self.label);
        let fast = self.checkpoint == Checkpoint::Fast;
        if version < VERSION_15 {
            let fast = if fast { " FAST" } else { "" };
            return format!(
                "BASE_BACKUP LABEL {label} PROGRESS{fast} NOWAIT TABLESPACE_MAP MANIFEST 'yes'"
            );
        }
        let checkpoint = if fast { "fast" } else { "spread" };
        let incremental = match self.variant {
            Variant::Full => "",
            Variant::Incremental => ", INCREMENTAL",
        };
        let compression = match self.compression {
            Compression::None => String::new(),
            codec => format!(", COMPRESSION '{codec}'"),
        };
        format!(
            "BASE_BACKUP (LABEL {label}, PROGRESS, CHECKPOINT '{checkpoint}', WAIT 0, \
             TABLESPACE_MAP, MANIFEST 'yes'{compression}{incremental})"
        )
    }
}

/// What one archive of a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The data directory.
    Data,
    /// A tablespace in a directory of its own.
    Tablespace(u32),
    /// A tablespace that lies in the data directory, as `pg_tblspc/<oid>`.
    InPlace(u32),
}

/// An archive that the server is going to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentTablespace {
    /// What it holds.
    pub location: Location,
    /// How large its files are together, in bytes, as the server estimates.
    pub bytes: Option<u64>,
}

/// A piece of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// From here on what comes is this archive.
    Archive(Location),
    /// From here on what comes is the manifest.
    Manifest,
    /// Bytes of what was named last.
    Data(Bytes),
}

/// A backup that the server is sending.
#[derive(Debug)]
pub struct ServerBackup {
    session: Replication,
    start: Position,
    tablespaces: Vec<SentTablespace>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before 15: so many copies have begun; between them nothing is sent.
    Copies(usize),
    /// From 15 on: the one copy.
    Copying,
    /// All has come but the position of the end.
    Over,
}

impl Replication {
    /// Has the server begin a backup of itself; the answer comes when its checkpoint is made.
    ///
    /// The deadline is that of a start, and for a spread checkpoint `spread` on top.
    pub async fn base_backup(
        mut self,
        request: &StreamRequest,
        spread: std::time::Duration,
    ) -> Result<ServerBackup, Error> {
        let mut limit = self.deadlines.start;
        if request.checkpoint == Checkpoint::Spread {
            limit += spread;
        }
        let command = request.command(self.version);
        let begin = async {
            self.command(DOING, &command).await?;
            let start = position(&only(DOING, self.rows(DOING).await?)?)?;
            let rows = self.rows(DOING).await?;
            let tablespaces = rows.iter().map(tablespace).collect::<Result<_, _>>()?;
            Ok((start, tablespaces))
        };
        let (start, tablespaces) = within(limit, DOING, begin).await?;
        Ok(ServerBackup {
            state: match self.version {
                VERSION_15.. => State::Copying,
                _ => State::Copies(0),
            },
            session: self,
            start,
            tablespaces,
        })
    }
}

impl ServerBackup {
    /// Where it began.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The archives that come, in this order.
    pub fn tablespaces(&self) -> &[SentTablespace] {
        &self.tablespaces
    }

    /// Whether its archives end in the mark with which tar archives end.
    pub fn has_end_marks(&self) -> bool {
        self.session.version >= VERSION_15
    }

    /// The next piece; `None` when all have come.
    pub async fn next(&mut self) -> Result<Option<Piece>, Error> {
        // The server never pauses for long: it reads files and sends them.
        let limit = self.session.deadlines.start;
        within(limit, DOING, self.next_piece()).await
    }

    async fn next_piece(&mut self) -> Result<Option<Piece>, Error> {
        while self.state != State::Over {
            match self.session.message(DOING).await? {
                Message::CopyOutResponse(_) => {
                    if let Some(piece) = self.begin_copy() {
                        return Ok(Some(piece));
                    }
                }
                Message::CopyData(body) => {
                    if let Some(piece) = self.data(body.into_bytes())? {
                        return Ok(Some(piece));
                    }
                }
                Message::CopyDone => {
                    // Before 15 the manifest is the last copy, one after all archives.
                    let more = matches!(self.state,
                        State::Copies(begun) if begun <= self.tablespaces.len());
                    if !more {
                        self.state = State::Over;
                    }
                }
                other => return Err(unexpected(DOING, &other)),
            }
        }
        Ok(None)
    }

    /// Before 15 every copy is an archive, in the order announced, and the last one the manifest.
    fn begin_copy(&mut self) -> Option<Piece> {
        let State::Copies(begun) = &mut self.state else {
            return None;
        };
        let archive = self.tablespaces.get(*begun);
        *begun += 1;
        let archive = archive.map(|archive| Piece::Archive(archive.location.clone()));
        Some(archive.unwrap_or(Piece::Manifest))
    }

    fn data(&self, mut bytes: Bytes) -> Result<Option<Piece>, Error> {
        if matches!(self.state, State::Copies(_)) {
            return Ok(Some(Piece::Data(bytes)));
        }
        let kind = (!bytes.is_empty()).then(|| bytes.get_u8());
        match kind {
            Some(b'd') => Ok(Some(Piece::Data(bytes))),
            Some(b'm') => Ok(Some(Piece::Manifest)),
            // Progress of an archive that is sent elsewhere.
            Some(b'p') => Ok(None),
            Some(b'n') => archive(&bytes).map(Some).ok_or_else(|| Error::Answer {
                doing: DOING,
                answer: String::from_utf8_lossy(&bytes).into_owned(),
            }),
            _ => Err(Error::Answer {
                doing: DOING,
                answer: "a piece of an unknown kind".to_owned(),
            }),
        }
    }

    /// Where the backup ended, after its last piece.
    pub async fn finish(mut self) -> Result<(Position, Farewell), Error> {
        let limit = self.session.deadlines.stop;
        let end = async {
            let position = position(&only(DOING, self.session.rows(DOING).await?)?)?;
            // The server tells at the very end that it has met damaged pages; everything has been sent all the same.
            let damaged = match self.session.until_ready(DOING).await {
                Ok(()) => false,
                Err(Error::Request {
                    source: source @ Cause::Server { .. },
                    ..
                }) if source.is(&SqlState::DATA_CORRUPTED) => true,
                Err(error) => return Err(error),
            };
            Ok((position, damaged))
        };
        let (position, damaged) = within(limit, DOING, end).await?;
        let warnings = self.session.take_warnings();
        self.session.close().await;
        Ok((position, Farewell { damaged, warnings }))
    }
}

/// What a server has to say at the end of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Whether it has met pages whose checksums are wrong.
    pub damaged: bool,
    /// What it warned of, such pages first among them.
    pub warnings: Vec<String>,
}

fn position(row: &super::Row) -> Result<Position, Error> {
    Ok(Position {
        lsn: column(DOING, row, 0, |text| text.parse().ok())?,
        timeline: column(DOING, row, 1, timeline)?,
    })
}

fn tablespace(row: &super::Row) -> Result<SentTablespace, Error> {
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    let location = match text(0) {
        None => Location::Data,
        Some(_) => {
            let oid = column(DOING, row, 0, |text| text.parse().ok())?;
            outside(oid, text(1).unwrap_or_default())
        }
    };
    let kib: Option<u64> = text(2).and_then(|text| text.parse().ok());
    Ok(SentTablespace {
        location,
        bytes: kib.map(|kib| kib * 1024),
    })
}

/// A new archive: its name and the tablespace's path, each ended by a zero byte.
fn archive(bytes: &[u8]) -> Option<Piece> {
    let mut texts = bytes.split(|byte| *byte == 0);
    let name = std::str::from_utf8(texts.next()?).ok()?;
    let path = String::from_utf8_lossy(texts.next()?);
    // What follows tells how it is compressed, which was asked for.
    let (stem, _) = name.split_once(".tar")?;
    Some(Piece::Archive(match stem {
        "base" => Location::Data,
        oid => outside(oid.parse().ok()?, &path),
    }))
}

fn outside(oid: u32, path: &str) -> Location {
    if PathBuf::from(path).is_absolute() {
        Location::Tablespace(oid)
    } else {
        Location::InPlace(oid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_in_its_own_words() {
        let request = StreamRequest {
            label: "it's".to_owned(),
            checkpoint: Checkpoint::Fast,
            variant: Variant::Incremental,
            compression: Compression::Zstd,
        };
        assert_eq!(
            request.command(140_000),
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT TABLESPACE_MAP MANIFEST 'yes'"
        );
        assert_eq!(
            request.command(170_000),
            "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT 0, TABLESPACE_MAP, \
             MANIFEST 'yes', COMPRESSION 'zstd', INCREMENTAL)"
        );
    }

    #[test]
    fn an_archive_is_known_by_its_name_and_path() {
        let known = |bytes: &[u8]| archive(bytes);
        assert_eq!(known(b"base.tar\0\0"), Some(Piece::Archive(Location::Data)));
        let outside = Some(Piece::Archive(Location::Tablespace(16384)));
        assert_eq!(known(b"16384.tar\0/srv/space\0"), outside);
        let inside = Some(Piece::Archive(Location::InPlace(16384)));
        assert_eq!(known(b"16384.tar\0pg_tblspc/16384\0"), inside);
        assert_eq!(known(b"16384.tar.gz\0/srv/space\0"), outside);
        assert_eq!(known(b"x.tar\0/srv\0"), None);
    }
}
