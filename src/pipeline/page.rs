//! Verifying the checksums of PostgreSQL's data pages while a backup reads them.
//!
//! A page is damaged when its checksum is wrong, or when it claims to be new and is not empty. Two
//! kinds of page are passed over: pages of nothing but zeros, which a relation has when it was
//! extended, and pages that were changed after the backup began, which may be read half old and
//! half new and which the replay of WAL restores anyway.
//!
//! The format is that of PostgreSQL's `storage/bufpage.h` (page header) and
//! `storage/checksum_impl.h` (checksum), for pages of 8 KiB on a little-endian machine: the page
//! is taken as 64 rows of 32 words; each column is hashed on its own, multiplied by the prime of
//! FNV-1a; two rows of zeros follow; the columns are joined by exclusive or, the block number is
//! mixed in, and the result is reduced to 1 to 65535.
//!
//! Whether a damaged page is read again, and what it means for a backup, is for the caller to
//! decide. Memory: one page, and the numbers of at most [`DAMAGED_MAX`] damaged ones.

use std::{
    ffi::OsStr,
    io::{self, Read},
    path::Path,
};

use crate::model::wal::Lsn;

/// The size of a page in bytes: the only one that packaged PostgreSQL is built with.
pub const PAGE: usize = 8192;

/// How many pages one file of a relation holds before the next begins: 1 GiB.
pub const PAGES_PER_FILE: u32 = 131_072;

/// How many damaged pages of one file are named.
pub const DAMAGED_MAX: usize = 1000;

const COLUMNS: usize = 32;

const PRIME: u32 = 16_777_619;

/// What the columns start with, given by the format.
const START: [u32; COLUMNS] = [
    0x5b1f_36e9,
    0xb852_5960,
    0x02ab_50aa,
    0x1de6_6d2a,
    0x79ff_467a,
    0x9bb9_f8a3,
    0x217e_7cd2,
    0x83e1_3d2c,
    0xf8d4_474f,
    0xe39e_b970,
    0x42c6_ae16,
    0x9932_16fa,
    0x7b09_3b5d,
    0x98da_ff3c,
    0xf718_902a,
    0x0b1c_9cdb,
    0xe58f_764b,
    0x1876_36bc,
    0x5d7b_3bb1,
    0xe73d_e7de,
    0x92be_c979,
    0xcca6_c0b2,
    0x304a_0979,
    0x85aa_43d4,
    0x7831_25bb,
    0x6ca8_eaa2,
    0xe407_eac6,
    0x4b5c_fc3e,
    0x9fbf_8c76,
    0x15ca_20be,
    0xf2ca_9fd3,
    0x959b_d756,
];

/// What the header of a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// The end of the WAL record that changed the page last.
    pub lsn: Lsn,
    /// Its checksum.
    pub checksum: u16,
    /// Where its free space ends: 0 for a page that was never initialised.
    pub upper: u16,
}

impl PageHeader {
    /// Reads the header of a page.
    pub fn parse(page: &[u8; PAGE]) -> Self {
        let word = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let half = |at: usize| u64::from(word(at + 2)) << 16 | u64::from(word(at));
        Self {
            lsn: Lsn(half(0) << 32 | half(4)),
            checksum: word(8),
            upper: word(14),
        }
    }
}

/// The judgement on one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageVerdict {
    /// The checksum is right.
    Valid,
    /// There is nothing on it.
    Empty,
    /// It was changed after the backup began and was not checked.
    Newer,
    /// The checksum is wrong, or the page is not empty but claims to be.
    Damaged,
}

/// Judges one page by its block number in the relation and the backup's start.
pub fn judge(page: &[u8; PAGE], block: u32, start: Lsn) -> PageVerdict {
    let header = PageHeader::parse(page);
    if header.upper == 0 && is_zero(page) {
        return PageVerdict::Empty;
    }
    if header.upper != 0 && header.lsn >= start {
        return PageVerdict::Newer;
    }
    if header.upper != 0 && checksum(page, block) == header.checksum {
        PageVerdict::Valid
    } else {
        PageVerdict::Damaged
    }
}

/// Computes the checksum that a page should have at this place of its relation.
pub fn checksum(page: &[u8; PAGE], block: u32) -> u16 {
    let mut sums = START;
    let (rows, _) = page.as_chunks::<{ 4 * COLUMNS }>();
    // The checksum counts as zero in the first row: the lower half of the third word.
    let mut first = rows[0];
    first[8..10].fill(0);
    mix(&mut sums, &first);
    for row in &rows[1..] {
        mix(&mut sums, row);
    }
    for _ in 0..2 {
        mix(&mut sums, &[0; 4 * COLUMNS]);
    }
    let joined = sums.into_iter().fold(block, |joined, sum| joined ^ sum);
    u16::try_from(joined % 65_535 + 1).expect("at most 65535")
}

/// Mixes one row in; a loop over columns that do not depend on each other, which the compiler
/// turns into vector instructions.
#[inline]
fn mix(sums: &mut [u32; COLUMNS], row: &[u8; 4 * COLUMNS]) {
    let (words, _) = row.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(PRIME) ^ mixed >> 17;
    }
}

fn is_zero(page: &[u8; PAGE]) -> bool {
    let (words, _) = page.as_chunks::<8>();
    words
        .iter()
        .fold(0, |any, word| any | u64::from_le_bytes(*word))
        == 0
}

/// What was found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageReport {
    /// All whole pages.
    pub pages: u64,
    /// Those whose checksum is right.
    pub valid: u64,
    /// Those that were changed after the backup began.
    pub newer: u64,
    /// Those that are damaged.
    pub damaged: u64,
    /// The block numbers, counted from the beginning of the relation, of the first
    /// [`DAMAGED_MAX`] damaged pages.
    pub blocks: Vec<u32>,
    /// How many bytes follow the last whole page.
    pub trailing: usize,
}

/// Verifies the pages of one file of a relation, in the pieces in which they come.
pub struct PageVerifier {
    start: Lsn,
    next: u32,
    partial: Vec<u8>,
    report: PageReport,
}

impl PageVerifier {
    /// Begins a file: `number` is the number behind the dot in its name, 0 without one
    /// ([`file_number`]); `start` is where the backup begins.
    pub fn new(number: u32, start: Lsn) -> Self {
        Self {
            start,
            next: number.wrapping_mul(PAGES_PER_FILE),
            partial: Vec::new(),
            report: PageReport::default(),
        }
    }

    /// Sees the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if !self.partial.is_empty() {
            let taken = bytes.len().min(PAGE - self.partial.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let Ok(page) = <&[u8; PAGE]>::try_from(&self.partial[..]) {
                let page = *page;
                self.page(&page);
                self.partial.clear();
            }
        }
        let (pages, rest) = bytes.as_chunks::<PAGE>();
        for page in pages {
            self.page(page);
        }
        self.partial.extend_from_slice(rest);
    }

    /// Ends the file.
    pub fn finish(mut self) -> PageReport {
        self.report.trailing = self.partial.len();
        self.report
    }

    fn page(&mut self, page: &[u8; PAGE]) {
        let report = &mut self.report;
        report.pages += 1;
        match judge(page, self.next, self.start) {
            PageVerdict::Valid => report.valid += 1,
            PageVerdict::Empty => {}
            PageVerdict::Newer => report.newer += 1,
            PageVerdict::Damaged => {
                report.damaged += 1;
                if report.blocks.len() < DAMAGED_MAX {
                    report.blocks.push(self.next);
                }
            }
        }
        self.next = self.next.wrapping_add(1);
    }
}

/// A reader that verifies the pages it passes on.
pub struct Verified<R> {
    inner: R,
    verifier: PageVerifier,
}

impl<R: Read> Verified<R> {
    /// Reads one file of a relation; see [`PageVerifier::new`].
    pub fn new(inner: R, number: u32, start: Lsn) -> Self {
        Self {
            inner,
            verifier: PageVerifier::new(number, start),
        }
    }

    /// Ends the file.
    pub fn finish(self) -> PageReport {
        self.verifier.finish()
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.verifier.update(&buffer[..length]);
        Ok(length)
    }
}

/// The number of a relation's file if this is the path of one, relative to the data directory or
/// to a tablespace: `base/5/16384` and `global/1262_fsm` are number 0, `PG_17_202406281/5/16384.2`
/// number 2.
///
/// Files elsewhere have no such pages, whatever their names, and temporary relations
/// (`base/5/t3_16384`) none whose damage would matter.
pub fn file_number(path: &Path) -> Option<u32> {
    let components: Vec<&str> = path.iter().map(OsStr::to_str).collect::<Option<_>>()?;
    let (["global", name] | ["base", _, name]) = components[..] else {
        let [version, _, name] = components[..] else {
            return None;
        };
        return version
            .starts_with("PG_")
            .then(|| number_in(name))
            .flatten();
    };
    number_in(name)
}

/// The number in a file's name: `<node>[_<fork>][.<number>]`.
fn number_in(name: &str) -> Option<u32> {
    let (relation, number) = name.split_once('.').unwrap_or((name, "0"));
    let (node, fork) = relation.split_once('_').unwrap_or((relation, "main"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(node) || !is_number(number) || !matches!(fork, "main" | "fsm" | "vm" | "init") {
        return None;
    }
    // Above this, the block number would not fit its 32 bits.
    let number: u32 = number.parse().ok()?;
    (number < u32::MAX / PAGES_PER_FILE).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Lsn = Lsn(0x2_0000_0028);

    fn page(lsn: u64, block: u32) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[0..4].copy_from_slice(&(lsn >> 32).to_le_bytes()[..4]);
        page[4..8].copy_from_slice(&lsn.to_le_bytes()[..4]);
        page[14..16].copy_from_slice(&8000_u16.to_le_bytes());
        for (at, byte) in page[8000..].iter_mut().enumerate() {
            *byte = at.to_le_bytes()[0];
        }
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn the_header_is_read_as_postgresql_writes_it() {
        let header = PageHeader::parse(&page(0x1_0200_0304, 7));
        assert_eq!(header.lsn, Lsn(0x1_0200_0304));
        assert_eq!(header.upper, 8000);
    }

    #[test]
    fn a_page_is_judged_by_its_content_and_its_place() {
        let good = page(0x1000, 7);
        assert_eq!(judge(&good, 7, START), PageVerdict::Valid);
        assert_eq!(judge(&good, 8, START), PageVerdict::Damaged);
        assert_eq!(judge(&[0; PAGE], 7, START), PageVerdict::Empty);
        for at in [0, 8, 9, 20, 4000, 8191] {
            let mut bad = good;
            bad[at] ^= 0x10;
            // A wrong LSN may also make the page look newer, which is not tested here.
            let start = Lsn(u64::MAX);
            assert_eq!(judge(&bad, 7, start), PageVerdict::Damaged, "byte {at}");
        }
    }

    #[test]
    fn a_page_changed_since_the_start_is_not_checked() {
        for (lsn, verdict) in [
            (START.0 - 1, PageVerdict::Damaged),
            (START.0, PageVerdict::Newer),
            (START.0 + 1, PageVerdict::Newer),
        ] {
            let mut torn = page(lsn, 7);
            torn[8191] ^= 1;
            assert_eq!(judge(&torn, 7, START), verdict, "{lsn:x}");
        }
    }

    #[test]
    fn a_new_page_that_is_not_empty_is_damaged() {
        let mut page = [0; PAGE];
        page[5000] = 1;
        assert_eq!(judge(&page, 0, START), PageVerdict::Damaged);
    }

    #[test]
    fn damage_is_reported_by_block_whatever_the_pieces() {
        let first = 2 * PAGES_PER_FILE;
        let mut file: Vec<u8> = (first..first + 5)
            .flat_map(|block| page(1, block))
            .collect();
        file[PAGE + 6000] ^= 1;
        file[3 * PAGE..4 * PAGE].fill(0);
        file[4 * PAGE..].copy_from_slice(&page(START.0, 0));
        file.extend_from_slice(b"tail");
        for piece in [1000, PAGE, PAGE + 1, 3 * PAGE + 5, file.len()] {
            let mut verifier = PageVerifier::new(2, START);
            for bytes in file.chunks(piece) {
                verifier.update(bytes);
            }
            let expected = PageReport {
                pages: 5,
                valid: 2,
                newer: 1,
                damaged: 1,
                blocks: vec![first + 1],
                trailing: 4,
            };
            assert_eq!(verifier.finish(), expected, "{piece}");
        }
    }

    #[test]
    fn the_files_of_relations_are_known_by_name() {
        for (path, number) in [
            ("base/5/16384", Some(0)),
            ("base/5/16384.1", Some(1)),
            ("global/1262_fsm", Some(0)),
            ("PG_17_202406281/5/16384_vm.12", Some(12)),
            ("base/5/16384_init", Some(0)),
            ("base/5/16384.99999", None),
            ("base/5/16384.", None),
            ("base/5/16384.+1", None),
            ("base/5/t3_16384", None),
            ("base/5/PG_VERSION", None),
            ("base/5/pg_filenode.map", None),
            ("base/5/16384_fsm_x", None),
            ("base/16384", None),
            ("pg_xact/0000", None),
            ("pg_multixact/offsets/0000", None),
            ("pg_wal/000000010000000000000001", None),
            ("PG_VERSION", None),
            ("", None),
        ] {
            assert_eq!(file_number(Path::new(path)), number, "{path}");
        }
    }
}
