//! `global/pg_control`: what a cluster on disk says of itself.
//!
//! [`ControlFile::parse`] checks the length, the version and the checksum before it believes anything. A server rewrites the file in place,
//! so a copy or a read may catch it half written: a bad checksum is worth another read. Little-endian, 64-bit clusters of PostgreSQL 13 to
//! 18, which is every build of those versions that PostgreSQL's packages exist for. Format: `catalog/pg_control.h`.

use std::{fs::File, io::Read as _, path::Path};

use crate::{
    failure::Kind,
    model::{
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentSize, SystemId},
    },
};

/// How long the file is; only its beginning is used.
pub const LENGTH: usize = 8192;

/// The identity of the cluster in a data directory, if there is one.
///
/// Nothing else of the file is looked at, so it does not matter whether a server is writing it, or which version it is of.
pub fn system_id_of(data_directory: &Path) -> Option<SystemId> {
    let mut identity = [0; 8];
    let mut file = File::open(data_directory.join("global/pg_control")).ok()?;
    file.read_exact(&mut identity).ok()?;
    Some(SystemId(u64::from_le_bytes(identity)))
}

/// Why a control file cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("the control file has only {0} bytes")]
    Short(usize),
    /// It is of another version of PostgreSQL, or from a machine of another kind.
    #[error("control files of version {0} are not supported")]
    Version(u32),
    /// Its bytes are not those that were written. A server may be writing it right now.
    #[error("the control file's checksum does not match its content")]
    Checksum,
    /// Its checksum is right, but its content is not.
    #[error("the control file's {0} makes no sense")]
    Content(&'static str),
}

impl Error {
    /// A control file that cannot be believed fails verification.
    pub fn kind(&self) -> Kind {
        Kind::Verification
    }
}

/// What a cluster was doing when the file was last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It is being created.
    Starting,
    /// It was shut down cleanly.
    ShutDown,
    /// It was shut down cleanly while in recovery.
    ShutDownInRecovery,
    /// It was shutting down.
    ShuttingDown,
    /// It was recovering from a crash.
    InCrashRecovery,
    /// It was recovering from an archive, or a standby.
    InArchiveRecovery,
    /// It was taking writes.
    InProduction,
}

/// What a cluster on disk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// The identity that `initdb` gave the cluster.
    pub system_id: SystemId,
    /// The file's version, such as 1300.
    pub version: u32,
    /// The catalog's version, which tells the major version of PostgreSQL.
    pub catalog_version: u32,
    /// What the cluster was doing.
    pub state: ClusterState,
    /// When the file was last written.
    pub written_at: Timestamp,
    /// Where the last checkpoint is.
    pub checkpoint: Lsn,
    /// Where recovery from it begins.
    pub redo: Lsn,
    /// The timeline of the last checkpoint.
    pub timeline: TimelineId,
    /// When the last checkpoint was made.
    pub checkpoint_at: Timestamp,
    /// Up to where recovery must go before the cluster is consistent; zero outside recovery.
    pub min_recovery_end: Lsn,
    /// The timeline of that position, if there is one.
    pub min_recovery_end_timeline: Option<TimelineId>,
    /// The size of a data page in bytes.
    pub page_size: u32,
    /// How many pages a file of a large relation has.
    pub pages_per_file: u32,
    /// The size of WAL segments.
    pub segment_size: SegmentSize,
    /// Whether data pages carry checksums.
    pub data_checksums: bool,
}

impl ControlFile {
    /// Reads the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let fields = Fields(bytes);
        let version = fields.u32(8)?;
        // PostgreSQL 18 put a byte before the nonce, which moved the checksum to the next aligned place.
        let checksum_at = match version {
            1300 | 1700 => 288,
            1800 => 292,
            _ => return Err(Error::Version(version)),
        };
        let covered = bytes.get(..checksum_at).ok_or(Error::Short(bytes.len()))?;
        if crc32c::crc32c(covered) != fields.u32(checksum_at)? {
            return Err(Error::Checksum);
        }
        let timeline = TimelineId::new(fields.u32(48)?);
        let segment_size = SegmentSize::new(u64::from(fields.u32(228)?));
        Ok(Self {
            system_id: SystemId(fields.u64(0)?),
            version,
            catalog_version: fields.u32(12)?,
            state: state(fields.u32(16)?).ok_or(Error::Content("state"))?,
            written_at: fields.time(24)?,
            checkpoint: Lsn(fields.u64(32)?),
            redo: Lsn(fields.u64(40)?),
            timeline: timeline.ok_or(Error::Content("timeline"))?,
            checkpoint_at: fields.time(104)?,
            min_recovery_end: Lsn(fields.u64(136)?),
            min_recovery_end_timeline: TimelineId::new(fields.u32(144)?),
            page_size: fields.u32(216)?,
            pages_per_file: fields.u32(220)?,
            segment_size: segment_size.map_err(|_| Error::Content("WAL segment size"))?,
            data_checksums: fields.u32(252)? != 0,
        })
    }

    /// The major version of PostgreSQL that wrote the file, if it is a released one from 13 to 18.
    pub fn major(&self) -> Option<u32> {
        const CATALOGS: [(u32, u32); 6] = [
            (202_007_201, 13),
            (202_107_181, 14),
            (202_209_061, 15),
            (202_307_071, 16),
            (202_406_281, 17),
            (202_506_291, 18),
        ];
        let found = CATALOGS
            .iter()
            .find(|(catalog, _)| *catalog == self.catalog_version);
        found.map(|(_, major)| *major)
    }
}

/// `DBState`.
fn state(number: u32) -> Option<ClusterState> {
    const STATES: [ClusterState; 7] = [
        ClusterState::Starting,
        ClusterState::ShutDown,
        ClusterState::ShutDownInRecovery,
        ClusterState::ShuttingDown,
        ClusterState::InCrashRecovery,
        ClusterState::InArchiveRecovery,
        ClusterState::InProduction,
    ];
    usize::try_from(number)
        .ok()
        .and_then(|number| STATES.get(number).copied())
}

/// The file's bytes by their offsets in `ControlFileData`.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Error> {
        let slice = self.0.get(at..at + N);
        slice
            .and_then(|slice| slice.try_into().ok())
            .ok_or(Error::Short(self.0.len()))
    }

    fn u32(&self, at: usize) -> Result<u32, Error> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Error> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    fn time(&self, at: usize) -> Result<Timestamp, Error> {
        let seconds = self.bytes(at).map(i64::from_le_bytes)?;
        Timestamp::from_unix_seconds(seconds).ok_or(Error::Content("time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a file that `initdb` of PostgreSQL 18 left, words in hexadecimal.
    const OF_18: &str = include_str!("control_file_18.hex");

    fn bytes() -> Vec<u8> {
        let words = OF_18.split_whitespace();
        let word = |text| u32::from_str_radix(text, 16).expect("a hexadecimal word");
        words.flat_map(|text| word(text).to_le_bytes()).collect()
    }

    #[test]
    fn a_file_says_what_pg_controldata_says() {
        let file = ControlFile::parse(&bytes()).expect("a valid file");
        assert_eq!(file.system_id, SystemId(7_710_423_798_527_020_819));
        assert_eq!(file.major(), Some(18));
        assert_eq!(file.state, ClusterState::ShutDown);
        assert_eq!(file.checkpoint.to_string(), "0/1765CE8");
        assert_eq!(file.redo, file.checkpoint);
        assert_eq!(file.timeline, TimelineId::FIRST);
        assert_eq!(file.written_at.to_string(), "2026-11-21T01:02:16Z");
        assert_eq!(file.checkpoint_at.to_string(), "2026-11-21T01:02:16Z");
        assert_eq!((file.page_size, file.pages_per_file), (8192, 131_072));
        assert_eq!(file.segment_size, SegmentSize::DEFAULT);
        assert!(file.data_checksums);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let whole = bytes();
        for at in 0..292 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(ControlFile::parse(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_file_cut_short_or_of_another_version_is_said_to_be_so() {
        assert_eq!(ControlFile::parse(&bytes()[..200]), Err(Error::Short(200)));
        let mut other = bytes();
        other[8..12].copy_from_slice(&1201_u32.to_le_bytes());
        assert_eq!(ControlFile::parse(&other), Err(Error::Version(1201)));
    }
}
