//! The header of a WAL segment's first page, which tells whose segment it is and where it belongs.
//!
//! A segment's name says nothing about the cluster that wrote it; its first 40 bytes do. Whoever archives or delivers a segment
//! reads them and refuses what does not belong where its name puts it. Format: `XLogLongPageHeaderData` of PostgreSQL's
//! `access/xlog_internal.h`, in the byte order of the machine that wrote it, which the magic number gives away.
//!
//! The magic number changes with every major version. One that is newer than this table is accepted and said to be unknown: the
//! header's layout has not changed since PostgreSQL 9.3, and refusing WAL because of an upgrade would stop archiving.

use crate::model::{
    timeline::TimelineId,
    wal::{Lsn, SegmentName, SegmentSize, SystemId},
};

/// How many bytes of a segment [`SegmentHeader::parse`] needs.
pub const HEADER_BYTES: usize = 40;

/// The bit of the page's flags that marks a long header.
const LONG_HEADER: u16 = 0x0002;

/// The magic numbers of the majors that are known here.
const MAGICS: [(u16, u32); 6] = [
    (0xD106, 13),
    (0xD10D, 14),
    (0xD110, 15),
    (0xD113, 16),
    (0xD116, 17),
    (0xD118, 18),
];

/// Why bytes are not the beginning of the segment that they are said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There are fewer bytes than a header has.
    #[error("it has {0} bytes, less than a WAL page header")]
    Short(usize),
    /// Neither byte order makes a magic number of it that PostgreSQL 13 or later writes.
    #[error("it does not begin like a WAL segment of PostgreSQL 13 or later")]
    Magic,
    /// The first page lacks what only the first page of a segment has.
    #[error("its first page is not the first page of a WAL segment")]
    NotFirst,
    /// The fields hold what PostgreSQL never writes.
    #[error("its page header is damaged: {0}")]
    Damaged(&'static str),
    /// It is another segment.
    #[error("it begins at {found}, but `{name}` begins at {expected}")]
    Address {
        /// The name it goes by.
        name: SegmentName,
        /// Where a segment of this name begins.
        expected: Lsn,
        /// Where it says that it begins.
        found: Lsn,
    },
    /// It is of a later timeline than its name says.
    #[error("it was written on timeline {found}, which `{name}` cannot hold")]
    Timeline {
        /// The name it goes by.
        name: SegmentName,
        /// The timeline of its first page.
        found: TimelineId,
    },
    /// It is not as long as the cluster's segments are.
    #[error("it has {found} bytes, but the segments of its cluster have {expected}")]
    Length {
        /// The cluster's segment size in bytes.
        expected: u64,
        /// Its length in bytes.
        found: u64,
    },
}

/// Whether the content of WAL files is checked when they are archived or delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentCheck {
    /// Page headers, histories and backup histories are read and must fit the name.
    #[default]
    On,
    /// Only the name is checked.
    Off,
}

/// Which PostgreSQL wrote a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This major version.
    Major(u32),
    /// A version that is not known here, by its magic number.
    Unknown(u16),
}

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which PostgreSQL wrote it.
    pub origin: Origin,
    /// The timeline of its first page: the segment's own, or an ancestor's where a switch fell inside it.
    pub timeline: TimelineId,
    /// The position of its first byte.
    pub address: Lsn,
    /// The cluster.
    pub system_id: SystemId,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
    /// The cluster's WAL page size in bytes.
    pub page_bytes: u32,
}

impl SegmentHeader {
    /// Reads the first bytes of a segment; more than [`HEADER_BYTES`] do no harm.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Error::Short(bytes.len()))?;
        let little = u16::from_le_bytes([header[0], header[1]]);
        let big = u16::from_be_bytes([header[0], header[1]]);
        let is_magic = |magic: u16| magic >> 8 == 0xD1 && magic >= MAGICS[0].0;
        let (magic, order) = match (is_magic(little), is_magic(big)) {
            (true, _) => (little, Order::Little),
            (false, true) => (big, Order::Big),
            (false, false) => return Err(Error::Magic),
        };
        if order.u16(header, 2) & LONG_HEADER == 0 {
            return Err(Error::NotFirst);
        }
        let known = MAGICS.iter().find(|(known, _)| *known == magic);
        Ok(Self {
            origin: known.map_or(Origin::Unknown(magic), |(_, major)| Origin::Major(*major)),
            timeline: TimelineId::new(order.u32(header, 4)).ok_or(Error::Damaged("timeline 0"))?,
            address: Lsn(order.u64(header, 8)),
            system_id: SystemId(order.u64(header, 24)),
            segment_size: SegmentSize::new(u64::from(order.u32(header, 32)))
                .map_err(|_| Error::Damaged("segment size"))?,
            page_bytes: Some(order.u32(header, 36))
                .filter(|bytes| bytes.is_power_of_two() && (1 << 10..=1 << 16).contains(bytes))
                .ok_or(Error::Damaged("page size"))?,
        })
    }

    /// Checks that the segment may go by this name and has this length in bytes.
    ///
    /// The first page may be of an earlier timeline than the name: PostgreSQL begins a timeline with a copy of the segment in
    /// which the switch happened.
    pub fn check(&self, name: SegmentName, length: u64) -> Result<(), Error> {
        let expected = name.number(self.segment_size).start(self.segment_size);
        let fits = u64::from(name.segment) < self.segment_size.segments_per_log();
        if !fits || self.address != expected {
            return Err(Error::Address {
                name,
                expected,
                found: self.address,
            });
        }
        if self.timeline > name.timeline {
            return Err(Error::Timeline {
                name,
                found: self.timeline,
            });
        }
        if length != self.segment_size.bytes() {
            return Err(Error::Length {
                expected: self.segment_size.bytes(),
                found: length,
            });
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
        let field = field(bytes, at);
        match self {
            Self::Little => u16::from_le_bytes(field),
            Self::Big => u16::from_be_bytes(field),
        }
    }

    fn u32(self, bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
        let field = field(bytes, at);
        match self {
            Self::Little => u32::from_le_bytes(field),
            Self::Big => u32::from_be_bytes(field),
        }
    }

    fn u64(self, bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
        let field = field(bytes, at);
        match self {
            Self::Little => u64::from_le_bytes(field),
            Self::Big => u64::from_be_bytes(field),
        }
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("every field lies within the header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first bytes of the first segment that `initdb` of each major left.
    const REAL: [(u32, &str); 6] = [
        (
            13,
            "06d10200010000000000000100000000000000000000000017e6835230ec006b0000000100200000",
        ),
        (
            14,
            "0dd1020001000000000000010000000000000000000000002e96a4a730ec006b0000000100200000",
        ),
        (
            15,
            "10d10200010000000000000100000000000000000000000045a6a41b31ec006b0000000100200000",
        ),
        (
            16,
            "13d1020001000000000000010000000000000000000000005c860b7331ec006b0000000100200000",
        ),
        (
            17,
            "16d10200010000000000000100000000000000000000000073c6b8d331ec006b0000000100200000",
        ),
        (
            18,
            "18d1020001000000000000010000000000000000000000008ae66f3b32ec006b0000000100200000",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn real() -> Vec<u8> {
        bytes(REAL[4].1)
    }

    fn name(text: &str) -> SegmentName {
        text.parse().expect("a segment's name")
    }

    #[test]
    fn the_first_page_of_every_major_is_understood() {
        for (major, hex) in REAL {
            let header = SegmentHeader::parse(&bytes(hex)).expect("a header");
            assert_eq!(header.origin, Origin::Major(major));
            assert_eq!(header.segment_size, SegmentSize::DEFAULT);
            assert_eq!(header.page_bytes, 8192);
            assert_eq!(
                header.check(name("000000010000000000000001"), 16 << 20),
                Ok(())
            );
        }
        let header = SegmentHeader::parse(&real()).expect("a header");
        assert_eq!(header.system_id, SystemId(7_710_422_260_807_943_795));
    }

    #[test]
    fn the_other_byte_order_reads_alike() {
        let mut swapped = real();
        for field in [0..2, 2..4, 4..8, 8..16, 24..32, 32..36, 36..40] {
            swapped[field].reverse();
        }
        assert_eq!(
            SegmentHeader::parse(&swapped),
            SegmentHeader::parse(&real())
        );
    }

    #[test]
    fn a_magic_number_of_the_future_is_accepted_and_one_of_the_past_is_not() {
        let with = |magic: [u8; 2]| {
            let mut bytes = real();
            bytes[..2].copy_from_slice(&magic);
            SegmentHeader::parse(&bytes).map(|header| header.origin)
        };
        assert_eq!(with([0x1b, 0xd1]), Ok(Origin::Unknown(0xD11B)));
        assert_eq!(with([0x01, 0xd1]), Err(Error::Magic));
        assert_eq!(with([0, 0]), Err(Error::Magic));
    }

    #[test]
    fn what_is_no_first_page_is_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = real();
            bytes[at] = value;
            SegmentHeader::parse(&bytes)
        };
        assert_eq!(SegmentHeader::parse(&real()[..39]), Err(Error::Short(39)));
        assert_eq!(with(2, 0), Err(Error::NotFirst));
        assert_eq!(with(4, 0), Err(Error::Damaged("timeline 0")));
        assert_eq!(with(32, 1), Err(Error::Damaged("segment size")));
        assert_eq!(with(36, 1), Err(Error::Damaged("page size")));
    }

    #[test]
    fn a_segment_goes_by_its_own_name_only() {
        let header = SegmentHeader::parse(&real()).expect("a header");
        let refusal = |text: &str, length: u64| {
            let error = header.check(name(text), length);
            error.map_or_else(|error| error.to_string(), |()| "accepted".to_owned())
        };
        let full = 16 << 20;
        assert_eq!(refusal("000000030000000000000001", full), "accepted");
        assert_eq!(
            refusal("000000010000000000000002", full),
            "it begins at 0/1000000, but `000000010000000000000002` begins at 0/2000000"
        );
        assert_eq!(
            refusal("000000010000000000000001", full - 1),
            "it has 16777215 bytes, but the segments of its cluster have 16777216"
        );
        let mut later = real();
        later[4] = 2;
        let later = SegmentHeader::parse(&later).expect("a header");
        assert!(matches!(
            later.check(name("000000010000000000000001"), full),
            Err(Error::Timeline { .. })
        ));
    }

    #[test]
    fn a_name_of_another_segment_size_is_refused() {
        // With segments of 16 MiB no name ends in more than FF, though the arithmetic would find a position.
        let mut bytes = real();
        bytes[8..16].copy_from_slice(&(0x100_u64 * (16 << 20)).to_le_bytes());
        let header = SegmentHeader::parse(&bytes).expect("a header");
        assert!(
            header
                .check(name("000000010000000000000100"), 16 << 20)
                .is_err()
        );
        assert!(
            header
                .check(name("000000010000000100000000"), 16 << 20)
                .is_ok()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), log: u32) {
            if let Ok(header) = SegmentHeader::parse(&bytes) {
                let name = SegmentName { timeline: TimelineId::FIRST, log, segment: log };
                let _verdict = header.check(name, 16 << 20);
            }
        }
    }
}
