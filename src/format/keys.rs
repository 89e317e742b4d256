//! Object keys and what they name, in both directions.
//!
//! A key here is relative to the server's directory: `base/20261120T234333/data.tar.lz4`,
//! `wals/0000000100000000/…`. What belongs to the destination (bucket, prefix, the server's name)
//! is joined in front by the store.
//!
//! Reading is total and never guesses: what is not spelled exactly as Barman or barkeep spells it
//! is `Other`, so rendering what was read always gives the same key. `data_0001.tar` is an archive,
//! `database.tar` is not; `1638.tar` does not belong to the tablespace 16384. Layout: Barman 3.19's
//! cloud catalog; WAL directories are the first 16 digits of the segment in upper case.

use std::fmt;

use super::tail::{TAIL, TailPiece};
use crate::model::{
    backup::{ArchiveRoot, BackupId, StoredArchive},
    compression::Compression,
    wal::{SegmentName, WalFile},
};

/// Below it lie the backups, one directory each.
pub const BASE: &str = "base/";
/// Below it lies the WAL archive.
pub const WALS: &str = "wals/";
/// Below it lies what only barkeep knows.
pub const OWN: &str = "barkeep/";
/// The records of deletes.
pub const DELETED: &str = "barkeep/deleted/";
/// What collided, below [`OWN`].
const CONFLICTS: &str = "conflicts/";
/// How many hexadecimal digits of a content's SHA-256 name it among what collided.
pub const DIGEST_DIGITS: usize = 32;

/// What an object below a server's directory is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKey {
    /// Part of a backup.
    Base(BackupId, BaseObject),
    /// Part of the WAL archive.
    Wal(WalObject),
    /// barkeep's own.
    Own(OwnObject),
    /// Something else, left alone.
    Other(String),
}

/// What an object of a backup's directory is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseObject {
    /// `backup.info`: the record of the backup.
    Info,
    /// A tar archive.
    Archive(ArchiveName),
    /// `backup_label` of a snapshot backup.
    Label,
    /// `annotations/keep`.
    Keep,
    /// Anything else in the directory, by its path below it.
    Other(String),
}

/// The name of an archive: `data.tar`, `16384_0001.tar.lz4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveName {
    /// Whose files it holds.
    pub root: ArchiveRoot,
    /// Its place among the archives of that root, from 0.
    pub part: u32,
    /// How it is compressed; only codecs that Barman restores base backups from.
    pub compression: Compression,
}

/// An object of the WAL archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalObject {
    /// The file it holds.
    pub file: WalFile,
    /// How it is compressed.
    pub compression: Compression,
}

/// A content that came under the name of another, or gave its place to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CollidedWal {
    /// The file it came as.
    pub file: WalFile,
    /// The first [`DIGEST_DIGITS`] hexadecimal digits of the SHA-256 of the uncompressed content: the same content is there once.
    pub digest: String,
    /// How it is compressed.
    pub compression: Compression,
}

/// One of barkeep's own objects. The design says what each is for, and what its loss means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnObject {
    /// `identity`: the system identifier that the prefix belongs to.
    Identity,
    /// `attempts/<id>`
    Attempt(BackupId),
    /// `lease/attempt`
    AttemptLease,
    /// `lease/retention`
    RetentionLease,
    /// `marks/<id>`: to be deleted after the grace.
    Mark(BackupId),
    /// `deleted/<name>`: the tombstones of one run.
    Deleted(String),
    /// `baseline`: what the last run was configured to keep.
    Baseline,
    /// `keeps/<id>`: who keeps a backup, why, until when.
    Keep(BackupId),
    /// `conflicts/<file>/<digest>`: WAL that collided.
    Conflict(CollidedWal),
    /// `evidence/…`: results of verifications.
    Evidence(String),
    /// `manifest/<id>`: checksums of a backup's files.
    Manifest(BackupId),
    /// `tail/<segment>/<start>-<end>`: a piece of a segment that is not whole yet.
    Tail(TailPiece),
    /// Anything else, perhaps of a later version.
    Other(String),
}

impl ObjectKey {
    /// Says what a key names; it is relative to the server's directory and has no leading slash.
    pub fn parse(key: &str) -> Self {
        let known = if let Some(rest) = key.strip_prefix(BASE) {
            base(rest)
        } else if let Some(rest) = key.strip_prefix(WALS) {
            wal(rest).map(Self::Wal)
        } else {
            key.strip_prefix(OWN).map(|rest| Self::Own(own(rest)))
        };
        known.unwrap_or_else(|| Self::Other(key.to_owned()))
    }

    /// The backup whose directory the object lies in.
    pub fn backup(&self) -> Option<&BackupId> {
        match self {
            Self::Base(id, _) => Some(id),
            Self::Wal(_) | Self::Own(_) | Self::Other(_) => None,
        }
    }

    /// The key of a backup's `backup.info`.
    pub fn info(id: &BackupId) -> Self {
        Self::Base(id.clone(), BaseObject::Info)
    }

    /// The key of a backup's keep annotation.
    pub fn keep(id: &BackupId) -> Self {
        Self::Base(id.clone(), BaseObject::Keep)
    }

    /// The key of one of a backup's archives.
    pub fn archive(id: &BackupId, name: ArchiveName) -> Self {
        Self::Base(id.clone(), BaseObject::Archive(name))
    }
}

/// The directory of a backup with its trailing slash.
pub fn backup_directory(id: &BackupId) -> String {
    format!("{BASE}{id}/")
}

/// The directory of a segment in the WAL archive with its trailing slash.
pub fn wal_directory(segment: SegmentName) -> String {
    format!("{WALS}{}/", segment.directory())
}

/// The key of a WAL file without any compression's extension.
///
/// As a prefix it lists the file under every extension, and also the partial and backup history
/// files of the same segment.
pub fn wal_stem(file: WalFile) -> String {
    match file.segment() {
        Some(segment) => format!("{}{file}", wal_directory(segment)),
        None => format!("{WALS}{file}"),
    }
}

/// Where what collided with a file lies, or all that collided, relative to the server's directory; ends with a slash.
pub fn conflicts_directory(file: Option<WalFile>) -> String {
    match file {
        Some(file) => format!("{OWN}{CONFLICTS}{file}/"),
        None => format!("{OWN}{CONFLICTS}"),
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(id, object) => write!(formatter, "{BASE}{id}/{object}"),
            Self::Wal(object) => write!(formatter, "{object}"),
            Self::Own(object) => write!(formatter, "{OWN}{object}"),
            Self::Other(key) => formatter.write_str(key),
        }
    }
}

impl fmt::Display for BaseObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info => formatter.write_str("backup.info"),
            Self::Archive(name) => write!(formatter, "{name}"),
            Self::Label => formatter.write_str("backup_label"),
            Self::Keep => formatter.write_str("annotations/keep"),
            Self::Other(path) => formatter.write_str(path),
        }
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.root)?;
        if self.part > 0 {
            write!(formatter, "_{:04}", self.part)?;
        }
        write!(formatter, ".tar{}", self.compression.extension())
    }
}

impl fmt::Display for WalObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = self.compression.extension();
        write!(formatter, "{}{extension}", wal_stem(self.file))
    }
}

impl fmt::Display for OwnObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => formatter.write_str("identity"),
            Self::Attempt(id) => write!(formatter, "attempts/{id}"),
            Self::AttemptLease => formatter.write_str("lease/attempt"),
            Self::RetentionLease => formatter.write_str("lease/retention"),
            Self::Mark(id) => write!(formatter, "marks/{id}"),
            Self::Deleted(name) => write!(formatter, "deleted/{name}"),
            Self::Baseline => formatter.write_str("baseline"),
            Self::Keep(id) => write!(formatter, "keeps/{id}"),
            Self::Conflict(collided) => write!(formatter, "{CONFLICTS}{collided}"),
            Self::Evidence(path) => write!(formatter, "evidence/{path}"),
            Self::Manifest(id) => write!(formatter, "manifest/{id}"),
            Self::Tail(piece) => write!(formatter, "{TAIL}{piece}"),
            Self::Other(path) => formatter.write_str(path),
        }
    }
}

impl fmt::Display for CollidedWal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = self.compression.extension();
        write!(formatter, "{}/{}{extension}", self.file, self.digest)
    }
}

impl CollidedWal {
    /// Reads what [`Display`](fmt::Display) writes.
    fn parse(path: &str) -> Option<Self> {
        let (file, name) = path.split_once('/')?;
        let (digest, compression) = Compression::split(name);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = digest.len() == DIGEST_DIGITS && digest.bytes().all(is_digit);
        Some(Self {
            file: file.parse().ok()?,
            digest: is_digest.then(|| digest.to_owned())?,
            compression,
        })
    }
}

impl ArchiveName {
    /// Reads the name of an archive; `None` if it is none that Barman would restore.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, compression) = Compression::split(name);
        let stem = stem.strip_suffix(".tar")?;
        let (root, part) = match stem.split_once('_') {
            Some((root, part)) => (root, part.parse().ok()?),
            None => (stem, 0),
        };
        let root = match root {
            "data" => ArchiveRoot::Data,
            oid => ArchiveRoot::Tablespace(oid.parse().ok()?),
        };
        let archive = Self {
            root,
            part,
            compression,
        };
        // Leading zeros, signs and `data_0000` are refused by writing the name again.
        let exact = compression.is_supported_for_base() && archive.to_string() == name;
        exact.then_some(archive)
    }

    /// The archive with its size as listed.
    pub fn stored(self, bytes: u64) -> StoredArchive {
        StoredArchive {
            root: self.root,
            part: self.part,
            compression: self.compression,
            bytes,
        }
    }
}

impl From<&StoredArchive> for ArchiveName {
    fn from(archive: &StoredArchive) -> Self {
        Self {
            root: archive.root,
            part: archive.part,
            compression: archive.compression,
        }
    }
}

fn base(rest: &str) -> Option<ObjectKey> {
    let (id, path) = rest.split_once('/')?;
    if id.is_empty() || path.is_empty() {
        return None;
    }
    let object = match path {
        "backup.info" => BaseObject::Info,
        "backup_label" => BaseObject::Label,
        "annotations/keep" => BaseObject::Keep,
        _ => ArchiveName::parse(path)
            .map_or_else(|| BaseObject::Other(path.to_owned()), BaseObject::Archive),
    };
    Some(ObjectKey::Base(BackupId::new(id), object))
}

fn wal(rest: &str) -> Option<WalObject> {
    let name = rest.rsplit('/').next()?;
    let (stem, compression) = Compression::split(name);
    let object = WalObject {
        file: stem.parse().ok()?,
        compression,
    };
    let exact = object.to_string().strip_prefix(WALS) == Some(rest);
    exact.then_some(object)
}

fn own(rest: &str) -> OwnObject {
    let other = || OwnObject::Other(rest.to_owned());
    match rest {
        "identity" => return OwnObject::Identity,
        "baseline" => return OwnObject::Baseline,
        "lease/attempt" => return OwnObject::AttemptLease,
        "lease/retention" => return OwnObject::RetentionLease,
        _ => {}
    }
    let Some((directory, path)) = rest.split_once('/').filter(|(_, path)| !path.is_empty()) else {
        return other();
    };
    match directory {
        "conflicts" => return CollidedWal::parse(path).map_or_else(other, OwnObject::Conflict),
        "evidence" => return OwnObject::Evidence(path.to_owned()),
        "tail" => return TailPiece::parse(path).map_or_else(other, OwnObject::Tail),
        "deleted" if !path.contains('/') => return OwnObject::Deleted(path.to_owned()),
        _ => {}
    }
    let of_backup = match directory {
        "attempts" => OwnObject::Attempt,
        "marks" => OwnObject::Mark,
        "keeps" => OwnObject::Keep,
        "manifest" => OwnObject::Manifest,
        _ => return other(),
    };
    if path.contains('/') {
        return other();
    }
    of_backup(BackupId::new(path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::timeline::TimelineId;

    fn kind(key: &str) -> String {
        let parsed = ObjectKey::parse(key);
        assert_eq!(
            parsed.to_string(),
            key,
            "reading and writing a key changes it"
        );
        match parsed {
            ObjectKey::Base(id, BaseObject::Archive(name)) => {
                format!(
                    "{id}: {} {} {}",
                    name.root,
                    name.part,
                    name.compression.word()
                )
            }
            ObjectKey::Base(id, BaseObject::Other(path)) => format!("{id}: other {path}"),
            ObjectKey::Base(id, object) => format!("{id}: {object:?}"),
            ObjectKey::Wal(object) => format!("{} {}", object.file, object.compression.word()),
            ObjectKey::Own(object) => format!("{object:?}"),
            ObjectKey::Other(_) => "other".to_owned(),
        }
    }

    #[test]
    fn every_key_of_barmans_catalog_is_understood() {
        let segment = "000000010000000A000000FF";
        let cases = [
            ("base/20261120T234333/backup.info", "20261120T234333: Info"),
            (
                "base/20261120T234333/backup_label",
                "20261120T234333: Label",
            ),
            (
                "base/20261120T234333/annotations/keep",
                "20261120T234333: Keep",
            ),
            ("base/x/data.tar", "x: data 0 none"),
            ("base/x/data_0001.tar.bz2", "x: data 1 bzip2"),
            ("base/x/data_12345.tar.snappy", "x: data 12345 snappy"),
            ("base/x/16384.tar.gz", "x: 16384 0 gzip"),
            ("base/x/16384_0002.tar.lz4", "x: 16384 2 lz4"),
            ("wals/0000000A.history.gz", "0000000A.history gzip"),
        ];
        for (key, expected) in cases {
            assert_eq!(kind(key), expected, "{key}");
        }
        for (suffix, codec) in [("", "none"), (".xz", "xz"), (".zst", "zstd")] {
            for file in ["", ".partial", ".00000028.backup"] {
                let key = format!("wals/000000010000000A/{segment}{file}{suffix}");
                assert_eq!(kind(&key), format!("{segment}{file} {codec}"));
            }
        }
    }

    #[test]
    fn what_only_looks_alike_is_left_alone() {
        let others = [
            "base/x/database.tar",
            "base/x/data.tar.xz",
            "base/x/data_1.tar",
            "base/x/data_0000.tar",
            "base/x/data_.tar",
            "base/x/016384.tar",
            "base/x/+16384.tar",
            "base/x/data.tar.gz.part",
            "base/x/annotations/keeper",
        ];
        for key in others {
            let path = key.strip_prefix("base/x/").expect("the prefix");
            assert_eq!(kind(key), format!("x: other {path}"));
        }
        for key in [
            "",
            "base/",
            "base/x",
            "base//backup.info",
            "base/x/",
            "wals/",
            "wals/000000010000000a/000000010000000A000000FF",
            "wals/000000010000000A/000000010000000a000000ff",
            "wals/000000010000000B/000000010000000A000000FF",
            "wals/000000010000000A000000FF",
            "wals/0000000100000000/00000001.history",
            "wals/000000010000000A/000000010000000A000000FF.gz.gz",
            "walsx/y",
        ] {
            assert_eq!(kind(key), "other", "{key}");
        }
    }

    #[test]
    fn a_tablespaces_number_is_never_the_beginning_of_anothers() {
        let roots = ["1638.tar", "16384.tar"].map(|name| ArchiveName::parse(name).map(|a| a.root));
        let expected = [1638, 16384].map(|oid| Some(ArchiveRoot::Tablespace(oid)));
        assert_eq!(roots, expected);
    }

    #[test]
    fn barkeeps_own_objects_are_told_apart() {
        for key in [
            "identity",
            "attempts/20261120T234333",
            "lease/attempt",
            "lease/retention",
            "marks/a",
            "deleted/a",
            "baseline",
            "keeps/a",
            "conflicts/000000010000000A000000FF/0123456789abcdef0123456789abcdef.lz4",
            "conflicts/00000002.history/0123456789abcdef0123456789abcdef",
            "evidence/a/b",
            "manifest/a",
        ] {
            let parsed = ObjectKey::parse(&format!("{OWN}{key}"));
            assert!(
                !matches!(&parsed, ObjectKey::Own(OwnObject::Other(_))),
                "{key}"
            );
            assert_eq!(parsed.to_string(), format!("{OWN}{key}"));
        }
        for key in [
            "later",
            "lease/other",
            "marks/",
            "marks/a/b",
            "later/a",
            "conflicts/000000010000000A000000FF/x",
            "conflicts/x/0123456789abcdef0123456789abcdef",
        ] {
            let parsed = ObjectKey::parse(&format!("{OWN}{key}"));
            assert_eq!(parsed, ObjectKey::Own(OwnObject::Other(key.to_owned())));
        }
    }

    #[test]
    fn a_segments_directory_is_in_upper_case() {
        let file: WalFile = "00000001000000ab000000ff".parse().expect("a segment");
        assert_eq!(
            wal_stem(file),
            "wals/00000001000000AB/00000001000000AB000000FF"
        );
    }

    prop_compose! {
        fn segment()(timeline in 1_u32.., log: u32, segment: u32) -> SegmentName {
            let timeline = TimelineId::new(timeline).expect("not zero");
            SegmentName { timeline, log, segment }
        }
    }

    fn wal_file() -> impl Strategy<Value = WalFile> {
        prop_oneof![
            segment().prop_map(WalFile::Segment),
            segment().prop_map(WalFile::Partial),
            (segment(), any::<u32>()).prop_map(|(name, at)| WalFile::BackupHistory(name, at)),
            segment().prop_map(|name| WalFile::History(name.timeline)),
        ]
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_from_its_key(
            file in wal_file(),
            codec in 0_usize..7,
            base_codec in 0_usize..5,
            part: u32,
            oid: Option<u32>,
        ) {
            let wal = WalObject { file, compression: Compression::ALL[codec] };
            let key = ObjectKey::Wal(wal);
            prop_assert_eq!(ObjectKey::parse(&key.to_string()), key);
            let name = ArchiveName {
                root: oid.map_or(ArchiveRoot::Data, ArchiveRoot::Tablespace),
                part,
                compression: Compression::ALL[base_codec],
            };
            let key = ObjectKey::archive(&BackupId::new("20261120T234333"), name);
            prop_assert_eq!(ObjectKey::parse(&key.to_string()), key);
        }

        #[test]
        fn any_key_survives_being_read(
            key in "((base|wals|barkeep)/)?[a-z0-9A-F_]{0,12}(/[a-z0-9A-F_.]{0,24}){0,3}"
        ) {
            prop_assert_eq!(ObjectKey::parse(&key).to_string(), key);
        }
    }

    #[test]
    fn only_what_lies_in_a_backups_directory_is_of_that_backup() {
        let of = |key: &str| ObjectKey::parse(key).backup().map(ToString::to_string);
        assert_eq!(
            of("base/20261120T020004/data.tar"),
            Some("20261120T020004".to_owned())
        );
        for key in [
            "wals/0000000100000003/000000010000000300000001",
            "barkeep/keeps/20261120T020004",
            "base",
        ] {
            assert_eq!(of(key), None, "{key}");
        }
    }
}
