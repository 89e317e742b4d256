//! PostgreSQL's write-ahead log in PostgreSQL's own words: positions, segments, and the files of an archive.
//!
//! A segment's name holds the timeline and, split into two numbers, the segment's number. How a number maps to a position
//! depends on the cluster's segment size, which a name does not tell; whoever computes with names therefore carries a
//! [`SegmentSize`]. Formats: PostgreSQL's `access/xlog_internal.h` (file names) and `pg_lsn` (positions).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::timeline::TimelineId;

/// Why a text is no WAL name or position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form `X/X` with two hexadecimal numbers of 32 bits.
    #[error("`{0}` is no WAL position")]
    Lsn(String),
    /// Not 24 hexadecimal digits with a timeline above zero.
    #[error("`{0}` is no WAL segment name")]
    SegmentName(String),
    /// No name that PostgreSQL archives.
    #[error("`{0}` is an invalid name for a WAL file")]
    WalFile(String),
    /// Not a power of two from 1 MiB to 1 GiB.
    #[error("{0} bytes is no WAL segment size")]
    SegmentSize(u64),
    /// No system identifier.
    #[error("`{0}` is no system identifier")]
    SystemId(String),
}

/// The identity that `initdb` gave a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl FromStr for SystemId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse()
            .map(Self)
            .map_err(|_| Error::SystemId(text.to_owned()))
    }
}

/// A position in the WAL, in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// The segment that holds the byte at this position.
    pub fn segment(self, timeline: TimelineId, size: SegmentSize) -> SegmentName {
        SegmentNumber(self.0 / size.bytes()).name(timeline, size)
    }

    /// The segment that holds the last byte before this position, which is where a backup that stops here ends.
    pub fn segment_before(self, timeline: TimelineId, size: SegmentSize) -> SegmentName {
        Self(self.0.saturating_sub(1)).segment(timeline, size)
    }

    /// How far into its segment this position is, in bytes.
    pub fn offset(self, size: SegmentSize) -> u64 {
        self.0 % size.bytes()
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::Lsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(error)?;
        let half = |digits: &str| -> Result<u64, Error> {
            let valid = (1..=8).contains(&digits.len()) && is_hex(digits);
            let digits = Some(digits).filter(|_| valid).ok_or_else(error)?;
            u64::from_str_radix(digits, 16).map_err(|_| error())
        };
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

/// The size of every WAL segment of one cluster, in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What `initdb` chooses unless asked otherwise.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Checks a number of bytes.
    pub fn new(bytes: u64) -> Result<Self, Error> {
        let valid = bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes);
        u32::try_from(bytes)
            .ok()
            .filter(|_| valid)
            .map(Self)
            .ok_or(Error::SegmentSize(bytes))
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// How many segments share the first 16 digits of their names: 4 GiB worth.
    pub fn segments_per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = Error;
    fn try_from(bytes: u64) -> Result<Self, Error> {
        Self::new(bytes)
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> Self {
        size.bytes()
    }
}

/// A segment's number on any timeline: its first position divided by the segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The name that the segment has on a timeline.
    pub fn name(self, timeline: TimelineId, size: SegmentSize) -> SegmentName {
        let per_log = size.segments_per_log();
        SegmentName {
            timeline,
            log: u32::try_from(self.0 / per_log).unwrap_or(u32::MAX),
            segment: u32::try_from(self.0 % per_log).unwrap_or(u32::MAX),
        }
    }

    /// The position of the segment's first byte.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.0.saturating_mul(size.bytes()))
    }

    /// The following segment.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The name of a WAL segment: 24 hexadecimal digits.
///
/// Names order by timeline first, as their texts do. That is not the order in which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentName {
    /// The timeline that wrote the segment.
    pub timeline: TimelineId,
    /// The second eight digits: which 4 GiB of the WAL.
    pub log: u32,
    /// The last eight digits: which segment of them.
    pub segment: u32,
}

impl SegmentName {
    /// The segment's number, given the cluster's segment size.
    pub fn number(self, size: SegmentSize) -> SegmentNumber {
        SegmentNumber(u64::from(self.log) * size.segments_per_log() + u64::from(self.segment))
    }

    /// The following segment on the same timeline.
    #[must_use]
    pub fn next(self, size: SegmentSize) -> Self {
        self.number(size).next().name(self.timeline, size)
    }

    /// The first 16 digits in upper case: the directory that holds the segment in an archive.
    pub fn directory(self) -> String {
        format!("{}{:08X}", self.timeline, self.log)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}{:08X}{:08X}",
            self.timeline, self.log, self.segment
        )
    }
}

impl FromStr for SegmentName {
    type Err = Error;
    /// Reads 24 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::SegmentName(text.to_owned());
        if text.len() != 24 || !is_hex(text) {
            return Err(error());
        }
        let number = |range: std::ops::Range<usize>| {
            u32::from_str_radix(&text[range], 16).map_err(|_| error())
        };
        Ok(Self {
            timeline: TimelineId::new(number(0..8)?).ok_or_else(error)?,
            log: number(8..16)?,
            segment: number(16..24)?,
        })
    }
}

/// A file that PostgreSQL hands to `archive_command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A whole segment.
    Segment(SegmentName),
    /// The last segment of a timeline that ended inside it: `.partial`.
    Partial(SegmentName),
    /// What a backup left at its stop: `<segment>.<offset>.backup`.
    BackupHistory(SegmentName, u32),
    /// Where a timeline branched off: `<timeline>.history`.
    History(TimelineId),
}

impl WalFile {
    /// The segment that the file is or belongs to; none for a timeline's history.
    pub fn segment(self) -> Option<SegmentName> {
        match self {
            Self::Segment(name) | Self::Partial(name) | Self::BackupHistory(name, _) => Some(name),
            Self::History(_) => None,
        }
    }

    /// The timeline that the file belongs to.
    pub fn timeline(self) -> TimelineId {
        match self {
            Self::History(timeline) => timeline,
            Self::Segment(name) | Self::Partial(name) | Self::BackupHistory(name, _) => {
                name.timeline
            }
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => write!(formatter, "{name}"),
            Self::Partial(name) => write!(formatter, "{name}.partial"),
            Self::BackupHistory(name, offset) => write!(formatter, "{name}.{offset:08X}.backup"),
            Self::History(timeline) => write!(formatter, "{timeline}.history"),
        }
    }
}

impl FromStr for WalFile {
    type Err = Error;
    /// Reads the four forms of a WAL file's name, hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::WalFile(text.to_owned());
        let Some((stem, rest)) = text.split_once('.') else {
            return text.parse().map(Self::Segment).map_err(|_| error());
        };
        if rest == "history" {
            return TimelineId::parse(stem).map(Self::History).ok_or_else(error);
        }
        let segment: SegmentName = stem.parse().map_err(|_| error())?;
        if rest == "partial" {
            return Ok(Self::Partial(segment));
        }
        let offset = rest.strip_suffix(".backup").ok_or_else(error)?;
        let offset = Some(offset)
            .filter(|digits| digits.len() == 8 && is_hex(digits))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        offset
            .map(|offset| Self::BackupHistory(segment, offset))
            .ok_or_else(error)
    }
}

macro_rules! text_in_serde {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}
text_in_serde!(SystemId, Lsn, SegmentName);

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_kinds_of_file_are_read_and_written_alike() {
        for name in [
            "000000010000000A000000FF",
            "000000010000000A000000FF.partial",
            "000000010000000A000000FF.00000028.backup",
            "0000000A.history",
        ] {
            assert_eq!(
                name.parse::<WalFile>()
                    .map(|file| file.to_string())
                    .as_deref(),
                Ok(name)
            );
        }
    }

    #[test]
    fn what_postgresql_never_archives_is_no_wal_file() {
        for name in [
            "",
            "RECOVERYXLOG",
            "RECOVERYHISTORY",
            "000000000000000A000000FF",
            "000000010000000A000000FF.gz",
            "000000010000000A000000FF.28.backup",
            "000000010000000A000000F",
            "+00000010000000A000000FF",
            "1.history",
        ] {
            assert!(name.parse::<WalFile>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_position_falls_into_the_segment_of_its_size() {
        let one = TimelineId::FIRST;
        let cases = [
            ("0/3000028", 16, "000000010000000000000003"),
            ("1/0", 16, "000000010000000100000000"),
            ("1/40000000", 1024, "000000010000000100000001"),
            ("0/300000", 1, "000000010000000000000003"),
        ];
        for (lsn, mebibytes, segment) in cases {
            let size = SegmentSize::new(mebibytes << 20).expect("a valid size");
            let lsn: Lsn = lsn.parse().expect("a position");
            assert_eq!(lsn.segment(one, size).to_string(), segment);
            let name: SegmentName = segment.parse().expect("a name");
            assert_eq!(name.number(size).start(size).0, lsn.0 - lsn.offset(size));
        }
    }

    #[test]
    fn the_segment_before_a_boundary_is_the_one_that_ends_there() {
        let lsn: Lsn = "0/4000000".parse().expect("a position");
        let name = lsn.segment_before(TimelineId::FIRST, SegmentSize::DEFAULT);
        assert_eq!(name.to_string(), "000000010000000000000003");
        let last: SegmentName = "0000000100000000000000FF".parse().expect("a name");
        let next = last.next(SegmentSize::DEFAULT);
        assert_eq!(next.to_string(), "000000010000000100000000");
    }

    #[test]
    fn a_position_is_two_numbers_of_32_bits() {
        for bad in ["", "/", "1", "0/", "0/123456789", "x/1", "0/+1", "1/2/3"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
        assert_eq!("0/3000028".parse(), Ok(Lsn(0x0300_0028)));
    }

    #[test]
    fn a_segment_size_is_read_back_and_no_other_number_is_one() {
        let json = serde_json::to_string(&SegmentSize::DEFAULT).expect("JSON");
        let read: SegmentSize = serde_json::from_str(&json).expect("a size");
        assert_eq!(read, SegmentSize::DEFAULT);
        for bytes in [0, 1 << 19, (16 << 20) + 1, 1 << 31] {
            assert!(SegmentSize::try_from(bytes).is_err(), "{bytes}");
        }
    }
}
